"""Boxes of found faces, made those of the landmarks that were detected in them; and what is no face.

A finder's box overlaps with that of the landmarks by three quarters. Detected again in the box of its own landmarks, a
face has nearly the error that it has in a labelled box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tsal.faces import NO_FACE, Followed, Look, smooth_boxes
from tsal.schemes import TIGHT
from tsal.utils import boxes_beside, iou

if TYPE_CHECKING:  # it imports torch, and Landmarker is to be imported without
    from tsal.inference.crop_detector import CropDetector

# Detections of a found face, each but the first in the box of the landmarks before. NME in % of the faces of
# 300W.val-150 and YTF.val that the cascades find, by a detector of 50 labels: 8.2 and 10.7 after one, 4.9 and 6.2 after
# two, 4.7 and 6.2 after three; 4.7 and 6.1 in labelled boxes.
PASSES = 3
SAME_FACE = 0.3  # IoU of a box with that of its landmarks; under it they are of something else


def tightened(boxes: np.ndarray, points: np.ndarray, place: Sequence[float] = TIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) px made tight around the landmarks (N, K, 2) that were detected in them, and which are (N,).

    A box whose landmarks are elsewhere stays. ``place`` is the scheme's ``box``: of landmarks that span less than a
    face, the tight box would be too small.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    tight = boxes_beside(np.concatenate([points.min(1), points.max(1)], 1).astype(float), place)
    same_face = np.array([iou(box, tight_box) >= SAME_FACE for box, tight_box in zip(boxes, tight)], bool)
    return np.where(same_face[:, None], tight, boxes), same_face


def landmark_look(detector: CropDetector) -> Look:
    """What :func:`tsal.faces.follow_video` follows faces by: the box tight around the landmarks that are detected in
    their last one, as in MediaPipe (Kartynnik et al.: "Real-time Facial Surface Geometry from Monocular Video on Mobile
    GPUs", 2019).
    """

    def look(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, scores = detector([detector.cut_bgr(image, box) for box in boxes])
        tight, same_face = tightened(boxes, points, detector.scheme.box)
        return np.where(same_face[:, None], tight, np.nan), scores.mean(1)

    return look


def tighten_tracks(followed: Followed, points: Sequence[np.ndarray], place: Sequence[float] = TIGHT) -> Followed:
    """The tracks of a video in boxes tight around their landmarks, one (T, K, 2) px a track, smoothed without lag;
    ``place``: see :func:`tightened`.
    """
    interval = float(np.median(np.diff(followed.times))) if len(followed.times) > 1 else 0.0
    tracks = []
    for track, landmarks in zip(followed.tracks, points):
        boxes, same_face = tightened(track.boxes, landmarks, place)
        tracks.append(replace(track, boxes=smooth_boxes(boxes, interval)) if same_face.any() else track)
    return replace(followed, tracks=tracks)


def sure_tracks(followed: Followed, scores: Sequence[np.ndarray], name: str) -> tuple[Followed, list[int]]:
    """The tracks of a video without those whose landmarks say that they are no faces; and the places of those kept.

    Args:
        scores: of each track, (T,).
        name: of the video, for the note on what is left out.
    """
    medians = [float(np.median(track_scores)) for track_scores in scores]
    places = [number for number, score in enumerate(medians) if score >= NO_FACE * max(medians)]
    if lost := len(medians) - len(places):
        note = f"{name}: faces left out: {lost}, whose landmarks have scores under {NO_FACE:.0%} of the surest face's"
        tracks = [followed.tracks[number] for number in places]
        followed = replace(followed, tracks=tracks, dropped=followed.dropped + lost, notes=[*followed.notes, note])
    return followed, places
