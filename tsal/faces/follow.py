"""Faces of a video, found and followed: no labels, no download, and memory that does not grow with the video but by its
boxes.

Faces are found by :mod:`tsal.faces.detect`, or given as a file (:mod:`tsal.faces.boxes_file`), and linked from frame to
frame (:mod:`tsal.faces.linking`), within the shots of :mod:`tsal.faces.shots`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tsal.faces.boxes_file import GivenBox, check_boxes
from tsal.faces.checked import checked_boxes
from tsal.faces.detect import MIN_FACE, find_faces, shrunk
from tsal.faces.linking import (
    PROPAGATED_SECONDS,
    Live,
    Look,
    Shown,
    Track,
    is_face,
    is_settled,
    link,
    trimmed,
    zoomed,
)
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
from tsal.utils import counted, tqdm

SEARCHES_A_SECOND = 15.0  # more only repeats what propagation by flow finds as well
SETTLED = 3.0  # enough for faces that are followed well, to track them: 15 take four fifths of the whole time
# searches: profiles cost three times the frontal one, so they run where that finds nothing, and now and then
PROFILES_EVERY = 5


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

    def tracks_at(self, frame: int) -> list[int]:
        """Places in ``tracks`` of those that have a frame."""
        return [place for place, track in enumerate(self.tracks) if track.first <= frame <= track.last]


def follow_video(
    path: Path,
    *,
    min_face: float = MIN_FACE,
    given: Mapping[int, list] | None = None,
    find: Callable[[np.ndarray, float], np.ndarray] | None = None,
    look: Look | None = None,
    settled: float = SEARCHES_A_SECOND,
    workers: int = 2,
    progress: bool = True,
) -> Followed:
    """Find the shots of a video and every face in them, in one reading.

    Args:
        min_face: smallest face over the image's shorter side. The landmark box of such a face is a little smaller
            (0.88).
        given: boxes of another finder, see :func:`tsal.faces.read_boxes`; used as they are, all of them, neither
            smoothed nor checked by landmarks. Frames between them get propagated or interpolated boxes.
        find: another finder, such as :class:`tsal.faces.YuNet`: (RGB image, min_face) -> boxes (n, 4) px as tight as a
            landmark box; called by ``workers`` threads at once.
        look: detects landmarks, see :data:`tsal.faces.Look`; then a face is followed by them, and by flow only where
            they are not sure. Not with ``given``.
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
    notes: list[str] = []
    zoom, guessed = [1.0], [0]
    live: list[Live] = []
    linked = bool(given) and any(row.track is not None for rows in given.values() for row in rows)

    def searched(pool: ThreadPoolExecutor) -> Iterator[tuple[tuple[Shown, Future | None], np.ndarray]]:
        """The frames with the finder at work on them, and their thumbnails."""
        due, count, latest, former, small = -math.inf, 0, -math.inf, None, None
        name = f"{Path(path).name}: finding faces"
        reading = read_frames(path, notes=notes)
        bar = tqdm(reading, total=total or None, desc=name, unit="frame", disable=not progress, mininterval=1)
        for number, time, image in bar:
            size[:] = image.shape[1], image.shape[0]
            if not math.isfinite(time) or (times and time <= times[-1]):  # no time, or none that rises
                time, guessed[0] = (times[-1] + 1000 / (rate or 25.0) if times else 0.0), guessed[0] + 1
            times.append(time)
            last, small = small, small_grey(image)
            steps.append(0.0 if last is None else float(cv2.absdiff(last, small).mean()))
            grey, zoom = shrunk(image, min_face)
            shown, search = Shown(number, time, grey, image=None if look is None else image, zoom=zoom), None
            if given is not None:
                rows = given.get(number, []) if not linked else []
                # centres of the shrunk image's pixels lie between those of the video's
                shown.found = zoomed(np.array([row.box for row in rows]).reshape(-1, 4), zoom) if rows else None
            thumb = thumbnail(image)
            # what is known of faces is a few frames old: after a jump they may be of another shot
            jumps = given is None and former is not None and unlikeness(former, thumb) > CUT_FLOOR
            if given is None and (time >= due or jumps):
                if settled >= SEARCHES_A_SECOND or jumps or time >= latest + 1000 / settled or not is_settled(live):
                    profiles = count % PROFILES_EVERY == 0
                    search = pool.submit(_search, find, image, (grey, zoom), min_face, profiles)
                    due, count, latest = (
                        max(due + 1000 / SEARCHES_A_SECOND, time + 500 / SEARCHES_A_SECOND),
                        count + 1,
                        time,
                    )
            former = thumb
            yield (shown, search), thumb

    def frames(pool: ThreadPoolExecutor) -> Iterator[Shown]:
        for (shown, search), cut in mark_cuts(searched(pool)):
            if search is not None:
                shown.found = search.result()
            zoom[:], shown.cut = [shown.zoom], cut
            if cut:
                cuts.append(shown.number)
            yield shown

    with ThreadPoolExecutor(max(1, workers)) as pool:
        tracks = list(link(frames(pool), live, look, given is not None))
    surest = max((score for track in tracks for score in track.scores), default=0.0)
    tracks = [trimmed(track, surest, given is None) for track in tracks]  # a shot keeps its last frames
    for track in tracks:
        track.boxes = list(zoomed(np.array(track.boxes), 1 / zoom[0]))
    if given is not None:
        check_boxes(given, size, len(times), notes)
    if linked:
        tracks, gaps = _given_tracks(given, times, cuts)
        if gaps:
            between = f"{counted(gaps, 'gap')} of over {PROPAGATED_SECONDS:g} s between boxes of a track in a shot"
            ends = "nothing is interpolated there, and another face begins; where it is in sight, give boxes in between"
            notes.append(f"{Path(path).name}: {between}: {ends}")
    faces = [track for track in tracks if given is not None or is_face(track, surest)]
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for track in faces if given is None else ():
        track.boxes = smooth_boxes(np.array(track.boxes), interval)
    if guessed[0]:
        assumed = f"{rate or 25.0:g} frames a second are assumed there"
        notes.append(f"{Path(path).name}: {guessed[0]} frames have no time of their own; {assumed}")
    dropped = len(tracks) - len(faces)
    faces = sorted(faces, key=lambda t: (t.first, t.boxes[0][0]))
    return Followed(size[0], size[1], times, cuts, faces, dropped, notes, repeated_frames(steps))


def _search(find: Callable | None, image: np.ndarray, small: tuple, min_face: float, profiles: bool) -> np.ndarray:
    """Boxes (n, 4) px of the small grey image; ``small``: that, and its size over the image's."""
    if find is None:
        return find_faces(small[0], min_face, profiles)
    rgb = np.ascontiguousarray(image[..., ::-1])
    return zoomed(checked_boxes(find(rgb, min_face), image, "the finder"), small[1])


def _given_tracks(
    boxes: Mapping[int, list[GivenBox]], times: Sequence[float], cuts: Sequence[int]
) -> tuple[list[Track], int]:
    """Tracks that the boxes file links itself: boxes between two rows are interpolated; cut in parts at cuts and at
    long gaps, in which the face may be out of sight. And the number of these gaps.
    """
    rows: dict[str, list[tuple[int, np.ndarray]]] = {}
    for number in sorted(boxes):
        for row in boxes[number]:
            rows.setdefault(row.track, []).append((number, np.array(row.box)))
    tracks, gaps = [], 0
    for places in rows.values():
        track: Track | None = None
        for number, box in places:
            shot = int(np.searchsorted(cuts, number, side="right"))
            same_shot = track is not None and shot == track.shot
            is_away = same_shot and times[number] - times[track.last] > 1000 * PROPAGATED_SECONDS
            if not same_shot or is_away:
                gaps += is_away
                track = Track(number, [box], [True], shot)
                tracks.append(track)
                continue
            start, last = track.boxes[-1], track.last
            shares = [(times[i] - times[last]) / (times[number] - times[last]) for i in range(last + 1, number + 1)]
            track.boxes += [start + share * (box - start) for share in shares]
            track.detected += [False] * (number - last - 1) + [True]
    return tracks, gaps
