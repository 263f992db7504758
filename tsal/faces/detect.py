"""Faces in an image, without labels and without a download; and overlaps of boxes.

The finder is OpenCV's boosted Haar cascades (Viola and Jones 2001; Lienhart and Maydt 2002), frontal and profile,
because their files ship inside the opencv-python wheel: a neural finder would need a weights file of its own. Its boxes
become those that the detector is trained on: tight around the 68 landmarks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tsal.data import read_image
from tsal.utils import DataError, shared

MIN_FACE = 0.1  # side of the smallest face found over the image's shorter side
FINDER_FACE = 30  # px: images are shrunk until the smallest face is this large; the cascades are trained at 20 and 24
# Shorter sides that the longer one may have: strips beyond it are shrunk further. OpenCV keeps room for as many pixels
# as the widest image times the highest, and once there is none every search fails
LONGEST = 8
NEIGHBOURS = 5  # raw hits that make a face: of 3, 5 and 8: near the recall of 3 with fewer false faces
# From a Haar box to the box of the landmarks: shift of the centre (x, y), width and height, in shares of the Haar box's
# side. Medians over 1536 frontal and 1120 profile hits (mirrored to one side) on 300-W's AFW and HELEN and YouTube
# Faces' training subjects; frontal x is 0 by symmetry (measured -0.01). On other subjects (575 images of YouTube Faces)
# the median IoU with the landmark box rises from 0.60 to 0.76 for frontal, from 0.51 to 0.74 for profile hits.
FRONTAL = (0.0, 0.15, 0.90, 0.86)
PROFILE = (-0.08, 0.15, 0.77, 0.74)  # the cascade's own side; mirrored for the other
SAME = 0.5  # overlap over the smaller box from which two boxes claim one face

_of_thread = threading.local()  # a cascade serves one thread


def _cascades() -> tuple:
    if not hasattr(_of_thread, "cascades"):
        folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
        loaded = []
        for name in ("haarcascade_frontalface_alt2.xml", "haarcascade_profileface.xml"):
            path = os.path.join(folder, name)
            if not (folder and os.path.isfile(path) and hasattr(cv2, "CascadeClassifier")):
                raise DataError(
                    f"this OpenCV ({cv2.__version__}) comes without {name}: install opencv-python 4.x, "
                    "or give boxes of your own"
                )
            loaded.append(cv2.CascadeClassifier(path))
        _of_thread.cascades = tuple(loaded)
    return _of_thread.cascades


def shrunk(image: np.ndarray, min_face: float) -> tuple[np.ndarray, float]:
    """A grey image small enough for the finder, and its size over the given one's."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    side = max(FINDER_FACE / min_face, 2 * FINDER_FACE)
    zoom = min(1.0, side / min(grey.shape), LONGEST * side / max(grey.shape))
    if zoom == 1:
        return grey, 1.0
    size = (max(1, round(grey.shape[1] * zoom)), max(1, round(grey.shape[0] * zoom)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA), zoom


def find_faces(grey: np.ndarray, min_face: float = MIN_FACE, profiles: bool = True) -> np.ndarray:
    """Faces in a grey image, best first -> boxes (n, 4) px as tight as a landmark box.

    Args:
        min_face: side of the smallest Haar box over the image's shorter side.
        profiles: look for profiles even where a frontal face is found.
    """
    frontal, profile = _cascades()
    smallest = max(20, round(min_face * min(grey.shape)))
    hits = _hits(frontal, grey, smallest, FRONTAL)
    if profiles or not hits:
        width = grey.shape[1]
        mirrored = _hits(profile, np.ascontiguousarray(grey[:, ::-1]), smallest, PROFILE)
        mirrored = [
            (box[[2, 1, 0, 3]] * [-1, 1, -1, 1] + [width - 1, 0, width - 1, 0], count) for box, count in mirrored
        ]
        hits += sorted(_hits(profile, grey, smallest, PROFILE) + mirrored, key=lambda hit: -hit[1])
    boxes: list[np.ndarray] = []
    for box, _ in hits:
        if all(shared(box, other) < SAME for other in boxes):
            boxes.append(box)
    return np.array(boxes).reshape(-1, 4)


def find_boxes(image: np.ndarray, min_face: float = MIN_FACE) -> np.ndarray:
    """Faces in an RGB (H, W, 3) or grey (H, W) uint8 image of any size, best first -> boxes (n, 4) px of the image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    small, zoom = shrunk(grey, min_face)
    return (find_faces(small, min_face) + 0.5) / zoom - 0.5


def faces_in(path: Path, min_face: float = MIN_FACE) -> list[tuple[float, ...]]:
    """The boxes of all faces that are seen in an image file, largest first, px; none where it is no readable image."""
    try:
        boxes = find_boxes(read_image(path), min_face)
    except DataError:
        return []
    return [tuple(box) for box in boxes[np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")]]


def largest_face(path: Path, min_face: float = MIN_FACE) -> tuple[float, ...] | None:
    """The first of :func:`faces_in`; None where there is none."""
    return next(iter(faces_in(path, min_face)), None)


def _hits(cascade, grey: np.ndarray, smallest: int, to_face: Sequence[float]) -> list[tuple[np.ndarray, int]]:
    """(landmark box, raw hits) of each face that a cascade finds, most hits first."""
    if min(grey.shape) < smallest:
        return []
    boxes, counts = cascade.detectMultiScale2(
        grey, scaleFactor=1.1, minNeighbors=NEIGHBOURS, minSize=(smallest, smallest)
    )
    hits = []
    for (x, y, side, _), count in zip(boxes, counts):
        centre = np.array([x, y]) + (side - 1) / 2 + np.array(to_face[:2]) * side
        half = np.array(to_face[2:]) * side / 2
        hits.append((np.concatenate([centre - half, centre + half]), int(count)))
    return sorted(hits, key=lambda hit: -hit[1])
