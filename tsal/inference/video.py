"""Faces of a video and their landmarks: what the command ``track`` and :meth:`tsal.Landmarker.track` share.

Two readings. In the first, faces are found, and followed by their landmarks (:func:`tsal.faces.follow_video`). In the
second, landmarks are detected in these boxes, which are tight, and smoothed without lag as the file is whole. A third
makes them steady, where asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tsal.faces import (
    MIN_FACE,
    MIN_SEARCHES,
    SEARCHES_A_SECOND,
    SETTLED,
    SURE_SEARCHES,
    Followed,
    follow_video,
    read_frames,
)
from tsal.inference.crop_detector import CropDetector
from tsal.inference.steadying import steady_tracks
from tsal.inference.tighten import PASSES, landmark_look, sure_tracks, tighten_tracks
from tsal.utils import DataError, tqdm


class Detections(NamedTuple):
    """Landmarks of a frame's n faces by M models."""

    number: int  # of the frame
    tracks: list[int]  # of each face, its place in ``Followed.tracks``
    points: np.ndarray  # (M, n, K, 2) float32 px of the video
    scores: np.ndarray  # (M, n, K) float32


def follow_faces(
    path: Path,
    detector: CropDetector,
    *,
    given: Mapping[int, list] | None = None,
    find: Callable[[np.ndarray, float], np.ndarray] | None = None,
    min_face: float = MIN_FACE,
    workers: int = 2,
    by_landmarks: bool = True,
    progress: bool = True,
) -> Followed:
    """The faces of a video, in smooth boxes tight around their landmarks; without those that are far less sure than
    another.

    Args:
        given: boxes to take instead, as they are, see :func:`tsal.faces.read_boxes`.
        find, min_face, workers: see :func:`tsal.faces.follow_video`.
        by_landmarks: in one reading; False: faces are followed by flow alone, and their boxes made tight in further
            readings, which takes longer (docs/finders.md).

    Raises:
        DataError: the video cannot be read, or a given box has no place in it.
    """
    options = {"min_face": min_face, "settled": SETTLED, "workers": workers, "progress": progress}
    if given is not None:
        return follow_video(path, given=given, **options)
    look = landmark_look(detector) if by_landmarks else None
    followed = follow_video(path, find=find, look=look, **options)
    if followed.dropped:
        followed.notes.append(f"{path.name}: {too_seldom(followed.dropped)}")
    if by_landmarks:
        return sure_tracks(followed, [track.scores for track in followed.tracks], path.name)[0]
    landmarks = detect_tracks(path, followed, [detector], progress=progress)
    followed, places = sure_tracks(followed, [values[0, ..., 2].mean(-1) for values in landmarks], path.name)
    followed = tighten_tracks(followed, [landmarks[place][0, ..., :2] for place in places], detector.scheme.box)
    for _ in range(PASSES - 2):
        landmarks = detect_tracks(path, followed, [detector], progress=progress)
        followed = tighten_tracks(followed, [values[0, ..., :2] for values in landmarks], detector.scheme.box)
    return followed


def too_seldom(count: int) -> str:
    """That so many faces do not count, and why: a video of a few frames is too short for any."""
    need = f"want {SURE_SEARCHES}, {SURE_SEARCHES / SEARCHES_A_SECOND:g} s of video, or {MIN_SEARCHES} where its"
    return f"faces left out: {count}, each seen in too few searches ({need} landmarks are not sure)"


def detect_frames(
    path: Path,
    followed: Followed,
    detectors: Sequence[CropDetector],
    *,
    until: int | None = None,
    progress: bool = True,
) -> Iterator[Detections]:
    """Every frame of a video with the landmarks in its tracks' boxes; up to frame ``until``.

    ``detectors``: models of one file, as each face is cut once for all of them.

    Raises:
        DataError: the video ends sooner than it did when its faces were followed.
    """
    waiting: list[tuple[int, list[int]]] = []  # frame, and its tracks
    cuts: list[tuple[np.ndarray, np.ndarray]] = []

    def landmarks() -> Iterator[Detections]:
        points, scores = (np.stack(part) for part in zip(*(detector(cuts) for detector in detectors)))
        done = 0
        for number, tracks in waiting:
            part = slice(done, done := done + len(tracks))
            yield Detections(number, tracks, points[:, part], scores[:, part])

    end = len(followed.times) - 1 if until is None else until
    reached, first = -1, detectors[0]
    bar = tqdm(
        read_frames(path),
        total=end + 1,
        desc=f"{path.name}: landmarks",
        unit="frame",
        disable=not progress,
        mininterval=1,
    )
    with bar:
        for reached, _, image in bar:
            tracks = followed.tracks_at(reached)
            waiting.append((reached, tracks))
            for place in tracks:
                track = followed.tracks[place]
                cuts.append(first.cut_bgr(image, track.boxes[reached - track.first]))
            if len(cuts) >= first.batch or len(waiting) >= 4 * first.batch:
                yield from landmarks()
                waiting, cuts = [], []
            if reached == end:
                break
    yield from landmarks()
    if reached < end:
        raise DataError(
            f"{path}: a further reading ended at frame {reached}, not {end}: has the file changed? try again"
        )


def detect_tracks(
    path: Path, followed: Followed, detectors: Sequence[CropDetector], *, progress: bool = True
) -> list[np.ndarray]:
    """Landmarks of every track: (M, T, K, 3) float32 of x, y px of the video and score; see :func:`detect_frames`.

    In float32: in bfloat16 points move by 0.2 % of the face, which is a fifth of their jitter, to save 0.5 ms.
    """
    count = detectors[0].scheme.points
    landmarks = [np.empty((len(detectors), len(track.boxes), count, 3), np.float32) for track in followed.tracks]
    if not landmarks:
        return landmarks
    until = max(track.last for track in followed.tracks)
    for number, tracks, points, scores in detect_frames(path, followed, detectors, until=until, progress=progress):
        for face, place in enumerate(tracks):
            at = number - followed.tracks[place].first
            landmarks[place][:, at, :, :2], landmarks[place][:, at, :, 2] = points[:, face], scores[:, face]
    return landmarks


def steady_found(
    path: Path,
    followed: Followed,
    landmarks: Sequence[np.ndarray],
    *,
    lag: int | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> list[np.ndarray]:
    """Landmarks of :func:`detect_tracks`, made steady by :func:`steady_tracks` in a further reading of the file."""
    name, total = f"{path.name}: steadying", len(followed.times)
    bar = tqdm(read_frames(path), total=total, desc=name, unit="frame", disable=not progress, mininterval=1)
    return steady_tracks(bar, followed, landmarks, lag=lag, device=device)


def steady_frames(
    path: Path, followed: Followed, detectors: Sequence[CropDetector], *, progress: bool = True
) -> Iterator[Detections]:
    """:func:`detect_frames` with the landmarks that :func:`steady_found` gives, when all of them are known."""
    landmarks = detect_tracks(path, followed, detectors, progress=progress)
    landmarks = steady_found(path, followed, landmarks, device=detectors[0].device, progress=progress)
    none = np.empty((len(detectors), 0, detectors[0].scheme.points, 3), np.float32)
    for number in range(len(followed.times)):
        tracks = followed.tracks_at(number)
        faces = [landmarks[place][:, number - followed.tracks[place].first] for place in tracks]
        faces = np.stack(faces, 1) if faces else none
        yield Detections(number, tracks, faces[..., :2].copy(), faces[..., 2].copy())
