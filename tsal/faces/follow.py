"""Faces of a video, found and followed: no labels, no download, and memory that does not grow with the video but by its
boxes.

Faces are found by :mod:`tsal.faces.detect`, or given as a file (:mod:`tsal.faces.boxes_file`), and propagated from
frame to frame by median flow (Kalal, Mikolajczyk, Matas: "Forward-Backward Error", ICPR 2010), within the shots of
:mod:`tsal.faces.shots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tsal.faces.boxes_file import GivenBox, check_boxes
from tsal.faces.detect import MIN_FACE, SAME, find_faces, iou, shared, shrunk
from tsal.faces.shots import (
    CUT_FLOOR,
    mark_cuts,
    read_frames,
    read_header,
    repeated_frames,
    small_grey,
    thumbnail,
    unlikeness,
)
from tsal.faces.smooth import smooth_boxes
from tsal.utils import tqdm

SEARCHES_A_SECOND = 15.0  # more only repeats what propagation by flow finds as well
SETTLED = 3.0  # enough for faces that are followed well, to track them: 15 take four fifths of the whole time
LINKED = 0.3  # IoU from which a found box is a followed face
PROPAGATED_SECONDS = 1.0  # longest time that a face is propagated by flow alone
MIN_SEARCHES = 6  # found so often a track is a face, and not a false hit
MIN_SHARE = 0.3  # of the searches between a track's ends that found it
# searches: profiles cost three times the frontal one, so they run where that finds nothing, and now and then
PROFILES_EVERY = 5


@dataclass
class Track:
    """One face in one shot, in frames ``first``, ``first + 1`` ..."""

    first: int
    boxes: list  # x1, y1, x2, y2 px of the video, one a frame
    detected: list  # bool, one a frame: found there (or given), not propagated by flow
    shot: int = 0
    searched: list = field(default_factory=list)  # bool, one a frame: the finder ran

    @property
    def last(self) -> int:
        return self.first + len(self.boxes) - 1


@dataclass
class Followed:
    """What :func:`follow_video` found in a video. ``times``: ms, one a frame. ``cuts``: the frames with which a new
    shot begins. ``repeats``: the frames that show what the one before them shows.
    """

    width: int
    height: int
    times: list
    cuts: list
    tracks: list
    dropped: int  # tracks that were found too seldom to be a face
    notes: list
    repeats: list = field(default_factory=list)


# --- following ---


def propagate(previous: np.ndarray, grey: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) of one grey image in the next one, by median flow; a row of NaN where the flow is lost.

    Lucas-Kanade on a 10 x 10 grid in each box, there and back; the better half by forward-backward error gives the
    median shift and the median change of distances.
    """
    propagated = np.full((len(boxes), 4), np.nan)
    if not len(boxes) or previous.shape != grey.shape:
        return propagated
    steps = np.linspace(0.1, 0.9, 10)
    unit = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    starts = np.stack([box[:2] + unit * (box[2:] - box[:2]) for box in boxes]).astype(np.float32)
    options = {"winSize": (11, 11), "maxLevel": 3}
    ends, there, _ = cv2.calcOpticalFlowPyrLK(previous, grey, starts.reshape(-1, 1, 2), None, **options)
    back, again, _ = cv2.calcOpticalFlowPyrLK(grey, previous, ends, None, **options)
    ends, back = ends.reshape(starts.shape), back.reshape(starts.shape)
    inside = ((starts >= 0) & (starts <= [grey.shape[1] - 1, grey.shape[0] - 1])).all(-1)
    usable = (there.ravel() & again.ravel()).reshape(inside.shape).astype(bool) & inside
    errors = np.linalg.norm(back - starts, axis=-1)
    for number, box in enumerate(boxes):
        good, size = usable[number], math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        if good.sum() < 20:
            continue
        middle = np.median(errors[number][good])
        good &= errors[number] <= middle
        one, other = starts[number][good].astype(float), ends[number][good].astype(float)
        moves = other - one
        shift = np.median(moves, axis=0)
        spread = np.median(np.linalg.norm(moves - shift, axis=1))
        first, second = np.triu_indices(len(one), 1)
        before = np.linalg.norm(one[first] - one[second], axis=1)
        scale = np.median(np.linalg.norm(other[first] - other[second], axis=1) / before)
        centre = (box[:2] + box[2:]) / 2 + shift
        gone = not ((centre >= 0) & (centre <= [grey.shape[1] - 1, grey.shape[0] - 1])).all()
        if middle > max(1.0, 0.05 * size) or spread > 0.15 * size or not 0.8 < scale < 1.25 or gone:
            continue
        half = (box[2:] - box[:2]) / 2 * scale
        propagated[number] = np.concatenate([centre - half, centre + half])
    return propagated


@dataclass
class _Live:
    track: Track
    found_at: float  # ms


def _follow(
    frames: Iterable[tuple[int, float, np.ndarray, np.ndarray | None, bool]], live: list[_Live] | None = None
) -> Iterator[Track]:
    """Tracks of (number, ms, grey image, boxes found or None where nobody searched, whether a shot begins).

    ``live``: an empty list, which then holds the tracks that go on.

    Where two faces come to claim one place, flow cannot distinguish them: both tracks end, and what is found later
    begins anew; only a track that is not yet sure to be a face gives way alone.
    """
    live = [] if live is None else live
    previous, shot = None, 0
    for number, time, grey, found, cut in frames:
        if cut:
            shot += 1
            yield from (each.track for each in live)
            live.clear()
        propagated = propagate(previous, grey, np.array([each.track.boxes[-1] for each in live])) if live else ()
        previous = grey
        pairs = [] if found is None else _pairs(propagated, found)
        for index, (each, box) in enumerate(zip(live, propagated)):
            detection = next((found[other] for own, other in pairs if own == index), None)
            if detection is not None:
                box, each.found_at = detection, time
            if not np.isnan(box[0]) and time - each.found_at <= 1000 * PROPAGATED_SECONDS:
                each.track.boxes.append(box)
                each.track.detected.append(detection is not None)
                each.track.searched.append(found is not None)
        if found is not None:
            taken = {other for _, other in pairs}
            there = [(i, each.track) for i, each in enumerate(live) if each.track.last == number]
            sure = [track.boxes[-1] for i, track in there if sum(track.detected) >= MIN_SEARCHES or i in dict(pairs)]
            for other, box in enumerate(found):
                if other not in taken and all(shared(box, one) < SAME for one in sure):
                    live.append(_Live(Track(number, [box], [True], shot, [True]), time))
        ended = {id(each) for each in live if each.track.last < number} | _colliding(live)
        yield from (each.track for each in live if id(each) in ended)
        live[:] = [each for each in live if id(each) not in ended]
    yield from (each.track for each in live)


def _pairs(propagated: Sequence[np.ndarray], found: np.ndarray) -> list[tuple[int, int]]:
    """(propagated, found) boxes that overlap most, each used once."""
    overlaps = [
        (iou(one, other), i, j)
        for i, one in enumerate(propagated)
        if not np.isnan(one[0])
        for j, other in enumerate(found)
    ]
    pairs: dict[int, int] = {}
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= LINKED and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def _colliding(live: Sequence[_Live]) -> set[int]:
    """ids of the tracks that end because two claim one place."""
    ended = set()
    for i, one in enumerate(live):
        for other in live[:i]:
            if shared(one.track.boxes[-1], other.track.boxes[-1]) < SAME:
                continue
            seldom, often = sorted((one, other), key=lambda each: sum(each.track.detected))
            ended.add(id(seldom))
            if sum(seldom.track.detected) >= MIN_SEARCHES:
                ended.add(id(often))
    return ended


def _is_settled(live: Sequence[_Live]) -> bool:
    """There are faces, each is sure to be one, and the last search found them all."""

    def found_last(track: Track) -> bool:
        return track.detected[len(track.searched) - 1 - track.searched[::-1].index(True)]

    return bool(live) and all(found_last(each.track) and sum(each.track.detected) >= MIN_SEARCHES for each in live)


def _trimmed(track: Track, keep_unsearched: bool = False) -> Track:
    """A track without the propagated frames at its ends; those up to the next search, which says that it is gone, may
    be kept.
    """
    found = np.flatnonzero(track.detected)
    end = int(found[-1]) + 1
    while keep_unsearched and end < len(track.boxes) and not track.searched[end]:
        end += 1
    part = slice(found[0], end)
    return Track(track.first + int(found[0]), track.boxes[part], track.detected[part], track.shot, track.searched[part])


def follow_video(
    path: Path,
    *,
    min_face: float = MIN_FACE,
    given: Mapping[int, list] | None = None,
    settled: float = SEARCHES_A_SECOND,
    workers: int = 2,
    progress: bool = True,
) -> Followed:
    """Find the shots of a video and every face in them, in one reading.

    Args:
        min_face: smallest face over the image's shorter side. The landmark box of such a face is a little smaller
            (0.88).
        given: boxes of another finder, see :func:`tsal.faces.read_boxes`; used as they are.
        settled: searches a second while every face is sure and was found last time; fewer take less time, and a face
            that comes to others may be found that much later.
        workers: threads of the finder.

    Raises:
        DataError: the video cannot be read, or a given box has no place in it.
    """
    total, rate = read_header(path)
    size: list[int] = []
    times: list[float] = []
    cuts: list[int] = []
    steps: list[float] = []
    zoom, guessed = [1.0], [0]
    live: list[_Live] = []
    linked = bool(given) and any(row.track is not None for rows in given.values() for row in rows)

    def searched(pool: ThreadPoolExecutor) -> Iterator[tuple[tuple, np.ndarray]]:
        """The frames, shrunk, with the finder at work on them."""
        due, count, latest, former, seen = -math.inf, 0, -math.inf, None, None
        name = f"{Path(path).name}: finding faces"
        bar = tqdm(read_frames(path), total=total or None, desc=name, unit="frame", disable=not progress, mininterval=1)
        for number, time, image in bar:
            size[:] = image.shape[1], image.shape[0]
            if not math.isfinite(time) or (times and time <= times[-1]):  # no time, or none that rises
                time, guessed[0] = (times[-1] + 1000 / (rate or 25.0) if times else 0.0), guessed[0] + 1
            times.append(time)
            last, seen = seen, small_grey(image)
            steps.append(0.0 if last is None else float(cv2.absdiff(last, seen).mean()))
            grey, zoom = shrunk(image, min_face)
            found: Future | np.ndarray | None = None
            if given is not None:
                rows = given.get(number, []) if not linked else []
                # centres of the shrunk image's pixels lie between those of the video's
                found = _zoomed(np.array([row.box for row in rows]).reshape(-1, 4), zoom) if rows else None
            thumb = thumbnail(image)
            if given is None and time >= due:
                # what is known of faces is a few frames old: they may be of another shot
                jumps = former is not None and unlikeness(former, thumb) > CUT_FLOOR
                if settled >= SEARCHES_A_SECOND or jumps or time >= latest + 1000 / settled or not _is_settled(live):
                    found = pool.submit(find_faces, grey, min_face, count % PROFILES_EVERY == 0)
                    due, count, latest = (
                        max(due + 1000 / SEARCHES_A_SECOND, time + 500 / SEARCHES_A_SECOND),
                        count + 1,
                        time,
                    )
            former = thumb
            yield (number, time, grey, found, zoom), thumb

    def frames(pool: ThreadPoolExecutor) -> Iterator[tuple]:
        for (number, time, grey, found, scale), cut in mark_cuts(searched(pool)):
            zoom[:] = [scale]
            if cut:
                cuts.append(number)
            yield number, time, grey, found.result() if isinstance(found, Future) else found, cut

    with ThreadPoolExecutor(max(1, workers)) as pool:
        # a shot keeps its last frames
        tracks = [_trimmed(track, given is None) for track in _follow(frames(pool), live)]
    for track in tracks:
        track.boxes = list(_zoomed(np.array(track.boxes), 1 / zoom[0]))
    if given is not None:
        check_boxes(given, size, len(times))
    if linked:
        tracks = _given_tracks(given, times, cuts)
    kept = [track for track in tracks if given is not None or _is_face(track)]
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for track in kept:
        track.boxes = smooth_boxes(np.array(track.boxes), interval)
    notes = []
    if total and total != len(times):
        lost = "; it may be cut off" if total > len(times) + 2 else ""
        notes.append(
            f"{Path(path).name}: its header says {total} frames, {len(times)} can be decoded and are used{lost}"
        )
    if guessed[0]:
        assumed = f"{rate or 25.0:g} frames a second are assumed there"
        notes.append(f"{Path(path).name}: {guessed[0]} frames have no time of their own; {assumed}")
    dropped = len(tracks) - len(kept)
    kept = sorted(kept, key=lambda t: (t.first, t.boxes[0][0]))
    return Followed(size[0], size[1], times, cuts, kept, dropped, notes, repeated_frames(steps))


def _zoomed(boxes: np.ndarray, zoom: float) -> np.ndarray:
    """Boxes in an image that is ``zoom`` times as large (0-based pixel centres)."""
    return (boxes + 0.5) * zoom - 0.5


def _is_face(track: Track) -> bool:
    found = sum(track.detected)
    return found >= MIN_SEARCHES and found >= MIN_SHARE * sum(track.searched)


def _given_tracks(given: Mapping[int, list[GivenBox]], times: Sequence[float], cuts: Sequence[int]) -> list[Track]:
    """Tracks that the boxes file links itself: boxes between two rows are interpolated; cut in parts at cuts and at
    long gaps.
    """
    rows: dict[str, list[tuple[int, np.ndarray]]] = {}
    for number in sorted(given):
        for row in given[number]:
            rows.setdefault(row.track, []).append((number, np.array(row.box)))
    tracks = []
    for places in rows.values():
        track: Track | None = None
        for number, box in places:
            shot = int(np.searchsorted(cuts, number, side="right"))
            if track is None or shot != track.shot or times[number] - times[track.last] > 1000 * PROPAGATED_SECONDS:
                track = Track(number, [box], [True], shot)
                tracks.append(track)
                continue
            start, last = track.boxes[-1], track.last
            shares = [(times[i] - times[last]) / (times[number] - times[last]) for i in range(last + 1, number + 1)]
            track.boxes += [start + share * (box - start) for share in shares]
            track.detected += [False] * (number - last - 1) + [True]
    return tracks
