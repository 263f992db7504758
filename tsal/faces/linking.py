"""Faces linked from frame to frame into tracks: by their landmarks where somebody detects them, else by median flow
(:mod:`tsal.faces.median_flow`); a finder starts them and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tsal.faces.detect import SAME
from tsal.faces.median_flow import propagate
from tsal.utils import iou, shared

# Looks at the landmarks of a face that flow follows well. On the first 50 frames of the nine val clips 5 and 10 looks,
# and one a frame, end in the same jitter (1.03 % of the eyes' distance), and take 0.63, 0.68 and 0.87 of the
# processor's time that it takes by flow alone.
LOOKS_A_SECOND = 10.0
LINKED = 0.3  # IoU from which a found box is a followed face
PROPAGATED_SECONDS = 1.0  # longest time that a face is propagated by flow alone
MIN_SEARCHES = 6  # found so often a track is a face, and not a false hit
# The same of a track whose landmarks are sure. On 20 clips of YTF.val, shown to and fro, 6, 3 and 2 leave tracks that
# cover 87, 93 and 93 % of the boxes, and none that is false.
SURE_SEARCHES = 3
MIN_SHARE = 0.3  # of the searches between a track's ends that found it, or found its landmarks sure
LEAST_SIDE = 10.0  # px of the shrunk image, in which the finder's smallest face has 30
# Of the surest face's score: landmarks with less are of no face. By a detector of 50 labels 99 of 100 faces of
# 300W.val-150 and YTF.val have 0.96 or more of the median face's score, and 9 of 10 crops of their necks less than
# 0.93. By the one that ships, frames of the val clips have 0.98 or more of the clip's median.
NO_FACE = 0.93

# (BGR image (H, W, 3), boxes (n, 4) px near faces) -> (boxes (n, 4) tight around the landmarks that are detected there,
# NaN where these are of something else; scores (n,) > 0: how sure)
Look = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class Track:
    """One face in one shot, in frames ``first``, ``first + 1`` ..."""

    first: int
    boxes: list  # x1, y1, x2, y2 px of the video, one a frame
    detected: list  # bool, one a frame: found there (or given), not propagated
    shot: int = 0
    searched: list = field(default_factory=list)  # bool, one a frame: the finder ran
    scores: list = field(default_factory=list)  # of the landmarks when they were last looked at; 0: of no face

    @property
    def last(self) -> int:
        return self.first + len(self.boxes) - 1


@dataclass
class Shown:
    """A frame to link faces in. ``image`` is let go of once it is seen."""

    number: int
    time: float  # ms
    grey: np.ndarray  # shrunk to ``zoom`` times the video's size; boxes are px of it
    found: np.ndarray | None = None  # boxes (n, 4); None where nobody searched
    cut: bool = False  # a shot begins
    image: np.ndarray | None = None  # BGR, for a ``look``
    zoom: float = 1.0


@dataclass
class Live:
    """A track that goes on, and when (ms) its face was last seen: found, or its landmarks sure."""

    track: Track
    seen_at: float
    score: float = 0.0
    sure: bool = False  # its landmarks were, when they were last looked at


class _Looks:
    """What the landmarks in boxes say. ``surest``: the highest score so far, with which others are compared."""

    def __init__(self, look: Look | None):
        self.look, self.surest = look, 0.0

    def __call__(self, frame: Shown, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tight boxes (n, 4), their scores (n,), 0 where no face can be, and where one is sure (n,)."""
        if self.look is None or not len(boxes):
            return boxes, np.zeros(len(boxes)), np.zeros(len(boxes), bool)
        tight, scores = self.look(frame.image, zoomed(boxes, 1 / frame.zoom))
        tight = zoomed(tight, frame.zoom)
        centre, side, (height, width) = (tight[:, :2] + tight[:, 2:]) / 2, tight[:, 2:] - tight[:, :2], frame.grey.shape
        can_be = ((centre >= 0) & (centre <= [width - 1, height - 1])).all(1)  # NaN is not
        can_be &= (side.min(1) >= LEAST_SIDE) & (side.max(1) <= max(width, height))
        scores = np.where(can_be, scores, 0.0)
        self.surest = max(self.surest, float(scores.max()))
        return tight, scores, sure(scores, self.surest)


def sure(scores: Sequence[float], surest: float) -> np.ndarray:
    """Where scores are those of a face (n,), if the surest face has ``surest``."""
    scores = np.asarray(scores, float)
    return (scores > 0) & (scores >= NO_FACE * surest)


def link(
    frames: Iterable[Shown], live: list[Live] | None = None, look: Look | None = None, given: bool = False
) -> Iterator[Track]:
    """Tracks of the faces in frames.

    Args:
        live: an empty list, which then holds the tracks that go on.
        look: detects landmarks, see :data:`Look`; all faces of a frame at once. A box that flow propagates is then made
            that of the landmarks in it, ``LOOKS_A_SECOND`` times and where flow is lost.
        given: what is found is what somebody gave: every box of it comes out as it is, in one track, and faces may
            overlap. A box that is like no track's begins a new one; a track that has no box in that frame, and whose
            place it takes, ends. Without a ``look``.

    A face is lost where its flow is, or where it was neither found nor sure for ``PROPAGATED_SECONDS``. Where two faces
    come to claim one place, both tracks end (``given`` ones do not), as nothing distinguishes them, and what is found
    later begins anew; only a track that is not yet sure to be a face gives way alone.
    """
    live = [] if live is None else live
    looks = _Looks(look)
    previous, shot, next_look = None, 0, -np.inf
    for frame in frames:
        if frame.cut:
            shot += 1
            yield from (each.track for each in live)
            live.clear()
        boxes = np.array([each.track.boxes[-1] for each in live]).reshape(-1, 4)
        propagated = propagate(previous, frame.grey, boxes) if live else boxes
        previous = frame.grey
        due = frame.time >= next_look
        next_look = frame.time + 950 / LOOKS_A_SECOND if due else next_look
        places = np.flatnonzero(due | np.isnan(propagated[:, 0]))
        starts = np.where(np.isnan(propagated), boxes, propagated)[places]
        looked = {place: result for place, *result in zip(places, *looks(frame, starts))}
        for place, (tight, score, is_sure) in looked.items():
            live[place].sure, live[place].score = is_sure, score
            if is_sure:
                propagated[place] = tight
        pairs = {} if frame.found is None else _pairs(propagated, frame.found)
        new = [] if frame.found is None else np.delete(frame.found, list(pairs.values()), axis=0)
        for place, each in enumerate(live):
            detection = frame.found[pairs[place]] if place in pairs else None
            if given and detection is None and not _is_free(propagated[place], new):
                continue
            box = propagated[place] if detection is None or each.sure else detection
            if detection is not None or (place in looked and each.sure):
                each.seen_at = frame.time
            if not np.isnan(box[0]) and frame.time - each.seen_at <= 1000 * PROPAGATED_SECONDS:
                each.track.boxes.append(box)
                each.track.detected.append(detection is not None)
                each.track.searched.append(frame.found is not None)
                each.track.scores.append(each.score)
        if frame.found is not None:
            there = [(place, each) for place, each in enumerate(live) if each.track.last == frame.number]
            faces = [each.track for place, each in there if place in pairs or each.sure or _is_often(each.track, False)]
            face_boxes = [track.boxes[-1] for track in faces]
            new = new[[given or _is_free(box, face_boxes) for box in new]] if len(new) else new
            for box, tight, score, is_sure in zip(new, *looks(frame, new)):
                box = tight if is_sure else box  # landmarks of a false find beside a face may be the face's
                if given or _is_free(box, face_boxes):
                    track = Track(frame.number, [box], [True], shot, [True], [score])
                    live.append(Live(track, frame.time, score, bool(is_sure)))
                    face_boxes.append(box)
        frame.image = None
        ended = {id(each) for each in live if each.track.last < frame.number}
        ended |= set() if given else _colliding(live)
        yield from (each.track for each in live if id(each) in ended)
        live[:] = [each for each in live if id(each) not in ended]
    yield from (each.track for each in live)


def _pairs(propagated: Sequence[np.ndarray], detections: np.ndarray) -> dict[int, int]:
    """{place of a propagated box: place of the detection that overlaps with it most}, each used once."""
    overlaps = [
        (iou(box, detection), i, j)
        for i, box in enumerate(propagated)
        if not np.isnan(box[0])
        for j, detection in enumerate(detections)
    ]
    pairs: dict[int, int] = {}
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= LINKED and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _is_free(box: np.ndarray, boxes: Iterable[np.ndarray]) -> bool:
    """None of the boxes claims its place."""
    return all(shared(box, other) < SAME for other in boxes)


def _colliding(live: Sequence[Live]) -> set[int]:
    """ids of the tracks that end because two claim one place."""
    ended = set()
    for i, later in enumerate(live):
        for earlier in live[:i]:
            if shared(later.track.boxes[-1], earlier.track.boxes[-1]) < SAME:
                continue
            seldom, often = sorted((later, earlier), key=lambda each: sum(each.track.detected))
            ended.add(id(seldom))
            if _is_often(seldom.track, seldom.sure):
                ended.add(id(often))
    return ended


def _is_often(track: Track, is_sure: bool) -> bool:
    return sum(track.detected) >= (SURE_SEARCHES if is_sure else MIN_SEARCHES)


def is_settled(live: Sequence[Live]) -> bool:
    """There are faces, each was found often enough to be one, and is sure now or was found by the last search."""

    def found_last(track: Track) -> bool:
        return track.detected[len(track.searched) - 1 - track.searched[::-1].index(True)]

    return bool(live) and all(
        _is_often(each.track, each.sure) and (each.sure or found_last(each.track)) for each in live
    )


def trimmed(track: Track, surest: float, keep_unsearched: bool = False) -> Track:
    """A track without the frames at its end in which its face was neither found nor sure.

    Without landmarks, those up to the next search, which says that it is gone, may be kept.
    """
    seen = sure(track.scores, surest)
    confirmed = np.flatnonzero(np.array(track.detected, bool) | seen)
    end = int(confirmed[-1]) + 1
    while keep_unsearched and not seen.any() and end < len(track.boxes) and not track.searched[end]:
        end += 1
    lists = (part[:end] for part in (track.boxes, track.detected))
    return Track(track.first, *lists, track.shot, track.searched[:end], track.scores[:end])


def is_face(track: Track, surest: float = 0.0) -> bool:
    """It was found often enough, and few of the searches in it saw no face."""
    detected, searched, seen = np.array(track.detected), np.array(track.searched), sure(track.scores, surest)
    confirmed = (detected | seen if len(seen) else detected) & searched
    is_sure = len(seen) > 0 and bool(seen.mean() > 0.5)
    return _is_often(track, is_sure) and bool(confirmed.sum() >= MIN_SHARE * searched.sum())


def zoomed(boxes: np.ndarray, zoom: float) -> np.ndarray:
    """Boxes in an image that is ``zoom`` times as large (0-based pixel centres)."""
    return (boxes + 0.5) * zoom - 0.5
