"""Faces of a video, found and followed: no labels, no download, and memory that does not grow with the video but by its boxes.

The finder is OpenCV's boosted Haar cascades (Viola and Jones 2001; Lienhart and Maydt 2002), frontal and profile, because their
files ship inside the opencv-python wheel: a neural finder would need a weights file of its own. Boxes are carried from frame to
frame by median flow (Kalal, Mikolajczyk, Matas: "Forward-Backward Error", ICPR 2010) and become those that the detector is trained
on: tight around the 68 landmarks. A better finder's boxes can take its place: see :func:`read_boxes`.
"""

from __future__ import annotations

import csv
import math
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from scipy.ndimage import correlate1d, median_filter
from tqdm import tqdm

from tsal.errors import DataError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what a broken video means is told by errors and notes

MIN_FACE = 0.1  # side of the smallest face found over the picture's shorter side
FINDER_FACE = 30  # px: pictures are shrunk until the smallest face is this large; the cascades are trained at 20 and 24
NEIGHBOURS = 5  # raw hits that make a face: of 3, 5 and 8: near the recall of 3 with fewer false faces
# From a Haar box to the box of the landmarks: shift of the centre (x, y), width and height, in shares of the Haar box's side.
# Medians over 1536 frontal and 1120 profile hits (mirrored to one side) on 300-W's AFW and HELEN and YouTube Faces' training
# subjects; frontal x is 0 by symmetry (measured -0.01). On other subjects (575 pictures of YouTube Faces) the median IoU with the
# landmark box rises from 0.60 to 0.76 for frontal, from 0.51 to 0.74 for profile hits.
FRONTAL = (0.0, 0.15, 0.90, 0.86)
PROFILE = (-0.08, 0.15, 0.77, 0.74)  # the cascade's own side; mirrored for the other
PROFILES_EVERY = 5  # searches: profiles cost three times the frontal one, so they run where that finds nothing, and now and then

SEARCHES_A_SECOND = 15.0  # more only repeats what flow carries as well
LINKED = 0.3  # IoU from which a found box is a followed face
SAME = 0.5  # overlap over the smaller box from which two boxes claim one face
CARRIED_SECONDS = 1.0  # a face lives on flow alone for so long
MIN_SEARCHES = 6  # found so often a track is a face, and not a false hit
MIN_SHARE = 0.3  # of the searches between a track's ends that found it
SMOOTH_SECONDS = 0.12  # sigma of the boxes' Gaussian in time

THUMB = (32, 18)  # cells, for cuts
CUT_FLOOR, CUT_RATIO = 12.0, 4.0  # grey levels, and over the local level
CUT_NEAR, CUT_AROUND = 4, 8  # frames


@dataclass
class Track:
    """One face in one shot, in frames ``first``, ``first + 1`` ..."""

    first: int
    boxes: list  # x1, y1, x2, y2 px of the video, one a frame
    detected: list  # bool, one a frame: found there (or given), not carried by flow
    shot: int = 0
    searched: list = field(default_factory=list)  # bool, one a frame: the finder ran

    @property
    def last(self) -> int:
        return self.first + len(self.boxes) - 1


@dataclass
class Followed:
    """What :func:`follow_video` knows of a video. ``times``: ms, one a frame. ``cuts``: the frames with which a new shot begins."""

    width: int
    height: int
    times: list
    cuts: list
    tracks: list
    dropped: int  # tracks that were found too seldom to be a face
    notes: list


# --- the video -------------------------------------------------------------------------------------------------------------


def read_frames(path: Path) -> Iterator[tuple[int, float, np.ndarray]]:
    """Frames of a video in order: number from 0, time in ms as the file says, upright BGR (H, W, 3) uint8.

    Ends before a frame of another size, and where nothing more can be decoded.

    Raises:
        DataError: it is no video, or its first frame cannot be decoded.
    """
    reader = cv2.VideoCapture(str(Path(path).resolve()), cv2.CAP_FFMPEG)
    try:
        if not reader.isOpened():
            raise DataError(f"{path}: cannot be read as a video; it is broken or no video")
        reader.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # a phone's rotation tag
        number, size = 0, None
        while True:
            there, picture = reader.read()
            if not there or (size and picture.shape[:2] != size):
                break
            size = picture.shape[:2]
            upright = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
            yield number, reader.get(cv2.CAP_PROP_POS_MSEC), upright
            number += 1
        if not number:
            raise DataError(f"{path}: holds no frame that can be decoded")
    finally:
        reader.release()


def _header(path: Path) -> tuple[int, float]:
    """Number of frames and frames a second as the file's header says; both may be wrong, or 0."""
    reader = cv2.VideoCapture(str(Path(path).resolve()), cv2.CAP_FFMPEG)
    try:
        count, rate = reader.get(cv2.CAP_PROP_FRAME_COUNT), reader.get(cv2.CAP_PROP_FPS)
    finally:
        reader.release()
    return (int(count) if 0 < count < 1e9 else 0), (rate if 0 < rate < 1e4 else 0.0)


# --- cuts ------------------------------------------------------------------------------------------------------------------


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A small float32 BGR picture to compare frames by."""
    return cv2.resize(picture, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)


def unlikeness(one: np.ndarray, other: np.ndarray, reach: int = 2) -> float:
    """Mean absolute difference of two thumbnails in grey levels, the least over shifts up to ``reach`` cells: cameras move."""
    height, width = one.shape[:2]
    core = one[reach : height - reach, reach : width - reach]
    steps = range(2 * reach + 1)
    return min(float(np.abs(core - other[y : y + core.shape[0], x : x + core.shape[1]]).mean()) for y in steps for x in steps)


def mark_cuts(items: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple[Any, bool]]:
    """(item, thumbnail) of each frame -> (item, whether a shot begins with it), a few frames later.

    A shot begins where a frame is unlike the one before it by more than ``CUT_FLOOR`` grey levels and ``CUT_RATIO`` times the
    median of the 8 steps before and after (fast motion raises that level), and no frame of the 4 before is like one of the 4 from
    it on (after a flash the scene comes back). A dissolve is no cut: faces are lost in it by flow.
    """
    window: deque = deque()  # (item, thumbnail, step)
    previous, place = None, 0  # place: of the next frame to give out, in the window

    def is_cut(at: int) -> bool:
        step = window[at][2]
        if step <= CUT_FLOOR:
            return False
        around = [window[i][2] for i in range(max(0, at - CUT_AROUND), min(len(window), at + CUT_AROUND + 1)) if i != at]
        around = [other for other in around if other is not None]
        if around and step <= CUT_RATIO * np.median(around):
            return False
        before = [window[i][1] for i in range(max(0, at - CUT_NEAR), at)]
        after = [window[i][1] for i in range(at, min(len(window), at + CUT_NEAR))]
        return min(unlikeness(one, other) for one in before for other in after) > max(CUT_FLOOR, step / 2)

    for item, thumb in items:
        window.append((item, thumb, None if previous is None else unlikeness(previous, thumb)))
        previous = thumb
        if len(window) - place > CUT_AROUND:
            yield window[place][0], window[place][2] is not None and is_cut(place)
            place += 1
            if place > CUT_AROUND:
                window.popleft()
                place -= 1
    for at in range(place, len(window)):
        yield window[at][0], window[at][2] is not None and is_cut(at)


# --- the finder ------------------------------------------------------------------------------------------------------------


_of_thread = threading.local()  # a cascade serves one thread


def _cascades() -> tuple:
    if not hasattr(_of_thread, "cascades"):
        folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
        loaded = []
        for name in ("haarcascade_frontalface_alt2.xml", "haarcascade_profileface.xml"):
            path = os.path.join(folder, name)
            if not (folder and os.path.isfile(path) and hasattr(cv2, "CascadeClassifier")):
                raise DataError(
                    f"this OpenCV ({cv2.__version__}) comes without {name}: install opencv-python 4.x, or give boxes of your own"
                )
            loaded.append(cv2.CascadeClassifier(path))
        _of_thread.cascades = tuple(loaded)
    return _of_thread.cascades


def shrunk(picture: np.ndarray, min_face: float) -> tuple[np.ndarray, float]:
    """A grey picture small enough for the finder, and its size over the given one's."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
    shorter = min(grey.shape)
    zoom = min(1.0, max(FINDER_FACE / min_face, 2 * FINDER_FACE) / shorter)
    if zoom == 1:
        return grey, 1.0
    size = (max(1, round(grey.shape[1] * zoom)), max(1, round(grey.shape[0] * zoom)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA), zoom


def find_faces(grey: np.ndarray, min_face: float = MIN_FACE, profiles: bool = True) -> np.ndarray:
    """Faces in a grey picture, best first -> boxes (n, 4) px as tight as a landmark box.

    Args:
        min_face: side of the smallest Haar box over the picture's shorter side.
        profiles: look for profiles even where a frontal face is found.
    """
    frontal, profile = _cascades()
    smallest = max(20, round(min_face * min(grey.shape)))
    found = _hits(frontal, grey, smallest, FRONTAL)
    if profiles or not found:
        width = grey.shape[1]
        mirrored = _hits(profile, np.ascontiguousarray(grey[:, ::-1]), smallest, PROFILE)
        mirrored = [(box[[2, 1, 0, 3]] * [-1, 1, -1, 1] + [width - 1, 0, width - 1, 0], count) for box, count in mirrored]
        found += sorted(_hits(profile, grey, smallest, PROFILE) + mirrored, key=lambda hit: -hit[1])
    kept: list[np.ndarray] = []
    for box, _ in found:
        if all(shared(box, other) < SAME for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def _hits(cascade, grey: np.ndarray, smallest: int, to_face: Sequence[float]) -> list[tuple[np.ndarray, int]]:
    """(landmark box, raw hits) of each face that a cascade finds, most hits first."""
    if min(grey.shape) < smallest:
        return []
    boxes, counts = cascade.detectMultiScale2(grey, scaleFactor=1.1, minNeighbors=NEIGHBOURS, minSize=(smallest, smallest))
    hits = []
    for (x, y, side, _), count in zip(boxes, counts):
        centre = np.array([x, y]) + (side - 1) / 2 + np.array(to_face[:2]) * side
        half = np.array(to_face[2:]) * side / 2
        hits.append((np.concatenate([centre - half, centre + half]), int(count)))
    return sorted(hits, key=lambda hit: -hit[1])


def _areas(one, other) -> tuple[float, float, float]:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(0.0, width) * max(0.0, height), *areas


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    both, first, second = _areas(one, other)
    return both / (first + second - both)


def shared(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection of two boxes over the smaller one."""
    both, first, second = _areas(one, other)
    return both / min(first, second)


# --- following -------------------------------------------------------------------------------------------------------------


def carry(previous: np.ndarray, grey: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) of one grey picture in the next one, by median flow; a row of NaN where the flow is lost.

    Lucas-Kanade on a 10 x 10 grid in each box, there and back; the better half by forward-backward error gives the median shift and
    the median change of distances.
    """
    carried = np.full((len(boxes), 4), np.nan)
    if not len(boxes) or previous.shape != grey.shape:
        return carried
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
        carried[number] = np.concatenate([centre - half, centre + half])
    return carried


@dataclass
class _Live:
    track: Track
    found_at: float  # ms


def _follow(
    frames: Iterable[tuple[int, float, np.ndarray, np.ndarray | None, bool]], live: list[_Live] | None = None
) -> Iterator[Track]:
    """Tracks of (number, ms, grey picture, boxes found or None where nobody searched, whether a shot begins).

    ``live``: an empty list, which then holds the tracks that go on.

    Where two faces come to claim one place, neither can be told from flow: both tracks end, and what is found later begins
    anew; only a track that is not yet sure to be a face gives way alone.
    """
    live = [] if live is None else live
    previous, shot = None, 0
    for number, time, grey, found, cut in frames:
        if cut:
            shot += 1
            yield from (each.track for each in live)
            live.clear()
        carried = carry(previous, grey, np.array([each.track.boxes[-1] for each in live])) if live else ()
        previous = grey
        pairs = [] if found is None else _pairs(carried, found)
        for index, (each, box) in enumerate(zip(live, carried)):
            detection = next((found[other] for own, other in pairs if own == index), None)
            if detection is not None:
                box, each.found_at = detection, time
            if not np.isnan(box[0]) and time - each.found_at <= 1000 * CARRIED_SECONDS:
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


def _pairs(carried: Sequence[np.ndarray], found: np.ndarray) -> list[tuple[int, int]]:
    """(carried, found) boxes that overlap most, each used once."""
    overlaps = [(iou(one, other), i, j) for i, one in enumerate(carried) if not np.isnan(one[0]) for j, other in enumerate(found)]
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
    """A track without the carried frames at its ends; those up to the next search, which says that it is gone, may be kept."""
    found = np.flatnonzero(track.detected)
    end = int(found[-1]) + 1
    while keep_unsearched and end < len(track.boxes) and not track.searched[end]:
        end += 1
    part = slice(found[0], end)
    return Track(track.first + int(found[0]), track.boxes[part], track.detected[part], track.shot, track.searched[part])


def smooth_boxes(boxes: np.ndarray, interval: float) -> np.ndarray:
    """Boxes (n, 4) of consecutive frames, ``interval`` ms apart, smoothed without lag.

    A median, then a Gaussian, on centre and log size.
    """
    boxes = np.asarray(boxes, float)
    sigma = 1000 * SMOOTH_SECONDS / interval if interval > 0 else 0.0
    if len(boxes) < 3 or sigma < 0.3:
        return boxes
    values = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.log(boxes[:, 2:] - boxes[:, :2])], 1)
    side = min(round(sigma), len(boxes) - 1)
    padded = np.pad(values, ((side, side), (0, 0)), mode="reflect", reflect_type="odd")
    values = median_filter(padded, (2 * side + 1, 1))[side : side + len(boxes)]
    values = gaussian_lines(values, sigma)
    half = np.exp(values[:, 2:]) / 2
    return np.concatenate([values[:, :2] - half, values[:, :2] + half], 1)


def gaussian_lines(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values (n, m), n >= 2, smoothed along the first axis without lag by a Gaussian of ``sigma`` >= 0.1 places.

    The Gaussian weighs a line through the neighbours, so that steady motion stays what it is at the ends too.
    """
    step = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (step / sigma) ** 2)
    s0, s1, s2 = (correlate1d(np.ones((len(values), 1)), weights * step**power, axis=0, mode="constant") for power in range(3))
    t0, t1 = (correlate1d(values, weights * step**power, axis=0, mode="constant") for power in range(2))
    return (s2 * t0 - s1 * t1) / (s0 * s2 - s1**2)


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
        min_face: smallest face over the picture's shorter side. The landmark box of such a face is a little smaller (0.88).
        given: boxes of another finder, see :func:`read_boxes`; used as they are.
        settled: searches a second while every face is sure and was found last time; fewer take less time, and a face that comes to
            others may be found that much later.
        workers: threads of the finder.

    Raises:
        DataError: the video cannot be read, or a given box has no place in it.
    """
    total, rate = _header(path)
    size: list[int] = []
    times: list[float] = []
    cuts: list[int] = []
    zoom, guessed = [1.0], [0]
    live: list[_Live] = []
    linked = bool(given) and any(row.track is not None for rows in given.values() for row in rows)

    def searched(pool: ThreadPoolExecutor) -> Iterator[tuple[tuple, np.ndarray]]:
        """The frames, shrunk, with the finder at work on them."""
        due, count, latest, former = -math.inf, 0, -math.inf, None
        name = f"{Path(path).name}: finding faces"
        bar = tqdm(read_frames(path), total=total or None, desc=name, unit="frame", disable=not progress, mininterval=1)
        for number, time, picture in bar:
            size[:] = picture.shape[1], picture.shape[0]
            if not math.isfinite(time) or (times and time <= times[-1]):  # no time, or none that rises
                time, guessed[0] = (times[-1] + 1000 / (rate or 25.0) if times else 0.0), guessed[0] + 1
            times.append(time)
            grey, zoom = shrunk(picture, min_face)
            found: Future | np.ndarray | None = None
            if given is not None:
                rows = given.get(number, []) if not linked else []
                # centres of the shrunk picture's pixels lie between those of the video's
                found = _zoomed(np.array([row.box for row in rows]).reshape(-1, 4), zoom) if rows else None
            thumb = thumbnail(picture)
            if given is None and time >= due:
                # what is known of faces is a few frames old: they may be of another shot
                jumps = former is not None and unlikeness(former, thumb) > CUT_FLOOR
                if settled >= SEARCHES_A_SECOND or jumps or time >= latest + 1000 / settled or not _is_settled(live):
                    found = pool.submit(find_faces, grey, min_face, count % PROFILES_EVERY == 0)
                    due, count, latest = max(due + 1000 / SEARCHES_A_SECOND, time + 500 / SEARCHES_A_SECOND), count + 1, time
            former = thumb
            yield (number, time, grey, found, zoom), thumb

    def frames(pool: ThreadPoolExecutor) -> Iterator[tuple]:
        for (number, time, grey, found, scale), cut in mark_cuts(searched(pool)):
            zoom[:] = [scale]
            if cut:
                cuts.append(number)
            yield number, time, grey, found.result() if isinstance(found, Future) else found, cut

    with ThreadPoolExecutor(max(1, workers)) as pool:
        tracks = [_trimmed(track, settled < SEARCHES_A_SECOND) for track in _follow(frames(pool), live)]
    for track in tracks:
        track.boxes = list(_zoomed(np.array(track.boxes), 1 / zoom[0]))
    if given is not None:
        _check_given(given, size, len(times))
    if linked:
        tracks = _given_tracks(given, times, cuts)
    kept = [track for track in tracks if given is not None or _is_face(track)]
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for track in kept:
        track.boxes = smooth_boxes(np.array(track.boxes), interval)
    notes = []
    if total and total != len(times):
        lost = "; it may be cut off" if total > len(times) + 2 else ""
        notes.append(f"{Path(path).name}: its header says {total} frames, {len(times)} can be decoded and are used{lost}")
    if guessed[0]:
        assumed = f"{rate or 25.0:g} frames a second are assumed there"
        notes.append(f"{Path(path).name}: {guessed[0]} frames have no time of their own; {assumed}")
    dropped = len(tracks) - len(kept)
    return Followed(size[0], size[1], times, cuts, sorted(kept, key=lambda t: (t.first, t.boxes[0][0])), dropped, notes)


def _zoomed(boxes: np.ndarray, zoom: float) -> np.ndarray:
    """Boxes in a picture that is ``zoom`` times as large (0-based pixel centres)."""
    return (boxes + 0.5) * zoom - 0.5


def _is_face(track: Track) -> bool:
    found = sum(track.detected)
    return found >= MIN_SEARCHES and found >= MIN_SHARE * sum(track.searched)


# --- boxes of another finder -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenBox:
    """A row of a boxes file."""

    box: tuple[float, float, float, float]
    track: str | None
    where: str


def read_boxes(path: Path) -> dict[str, dict[int, list[GivenBox]]]:
    """A CSV ``[video,]frame,x1,y1,x2,y2[,track]`` -> {video ("" without that column): {frame: boxes}}.

    Frames count from 0; boxes are px of the video.

    Raises:
        DataError: a line for each wrong row.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read the boxes: {getattr(error, 'strerror', None) or error}") from None
    columns = [name.strip() for name in rows[0]] if rows else []
    plain = ["frame", "x1", "y1", "x2", "y2"]
    if columns not in [first + plain + last for first in ([], ["video"]) for last in ([], ["track"])]:
        raise DataError(f"{path}: its first line is {','.join(columns)!r}, want [video,]frame,x1,y1,x2,y2[,track]")
    boxes: dict[str, dict[int, list[GivenBox]]] = {}
    problems, seen = [], set()
    for number, values in enumerate(rows[1:], 2):
        where = f"{path}:{number}"
        if not values:
            continue
        if len(values) != len(columns):
            problems.append(f"{where}: {len(values)} columns, want {len(columns)}: {','.join(columns)}")
            continue
        row = {name: value.strip() for name, value in zip(columns, values)}
        try:
            box = tuple(float(row[name]) for name in plain[1:])
        except ValueError:
            box = (math.nan,) * 4
        if not all(map(math.isfinite, box)):
            problems.append(f"{where}: a box is four numbers, got {' '.join(row[name] for name in plain[1:])}")
        elif box[2] <= box[0] or box[3] <= box[1]:
            shown = " ".join(row[name] for name in plain[1:])
            problems.append(f"{where}: box is empty or inverted ({shown}); want x1 < x2, y1 < y2")
        elif not (row["frame"].isascii() and row["frame"].isdigit()):
            problems.append(f"{where}: frame {row['frame']!r} is no whole number from 0")
        elif row.get("track") == "":
            problems.append(f"{where}: track is empty; leave the column out where the boxes are not linked")
        elif row.get("video") == "":
            problems.append(f"{where}: video is empty")
        else:
            key = (row.get("video"), int(row["frame"]), row.get("track"))
            if "track" in row and key in seen:
                problems.append(f"{where}: frame {key[1]} has a box of track {key[2]} already")
            seen.add(key)
            frames = boxes.setdefault(row.get("video", ""), {})
            frames.setdefault(int(row["frame"]), []).append(GivenBox(box, row.get("track"), where))
    if not boxes and not problems:
        problems.append(f"{path}: holds no boxes")
    if problems:
        raise DataError(problems)
    return boxes


def _check_given(given: Mapping[int, list[GivenBox]], size: Sequence[int], count: int) -> None:
    problems = []
    for number, rows in given.items():
        for row in rows:
            x1, y1, x2, y2 = row.box
            if number >= count:
                problems.append(f"{row.where}: frame {number}, but the video's last is {count - 1} (counted from 0)")
            elif x2 < 0 or y2 < 0 or x1 > size[0] - 1 or y1 > size[1] - 1:
                problems.append(f"{row.where}: the box lies wholly outside the video's picture ({size[0]} x {size[1]})")
    if problems:
        raise DataError(problems)


def _given_tracks(given: Mapping[int, list[GivenBox]], times: Sequence[float], cuts: Sequence[int]) -> list[Track]:
    """Tracks that the boxes file links itself: boxes between two rows are interpolated; cut in parts at cuts and at long gaps."""
    rows: dict[str, list[tuple[int, np.ndarray]]] = {}
    for number in sorted(given):
        for row in given[number]:
            rows.setdefault(row.track, []).append((number, np.array(row.box)))
    tracks = []
    for places in rows.values():
        track: Track | None = None
        for number, box in places:
            shot = int(np.searchsorted(cuts, number, side="right"))
            if track is None or shot != track.shot or times[number] - times[track.last] > 1000 * CARRIED_SECONDS:
                track = Track(number, [box], [True], shot)
                tracks.append(track)
                continue
            start, last = track.boxes[-1], track.last
            shares = [(times[i] - times[last]) / (times[number] - times[last]) for i in range(last + 1, number + 1)]
            track.boxes += [start + share * (box - start) for share in shares]
            track.detected += [False] * (number - last - 1) + [True]
    return tracks
