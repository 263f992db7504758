"""Boxes that a caller or a finder gives: whether they can be of faces in the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsal.data import box_fault
from tsal.utils import DataError


def checked_boxes(boxes: np.ndarray | Sequence, image: np.ndarray, name: str) -> np.ndarray:
    """Boxes (N, 4) px, or one (4,), of an image (H, W, 3) -> (N, 4) float64; elsewhere landmarks would be invented.

    Args:
        name: whose boxes they are, for the error.

    Raises:
        DataError: the first that is no box, or can be of no face in the image.
    """
    try:
        values = np.asarray(boxes, float)
    except (TypeError, ValueError):
        raise DataError(f"{name}: its boxes are no numbers; want x1, y1, x2, y2 px, (N, 4)") from None
    if values.size == 0:
        return np.empty((0, 4))
    if values.shape != (4,) and (values.ndim != 2 or values.shape[1] != 4):
        raise DataError(f"{name}: boxes of shape {values.shape}; want x1, y1, x2, y2 px, (N, 4)")
    values = values.reshape(-1, 4)
    height, width = image.shape[:2]
    for number, box in enumerate(values):
        shown = " ".join(f"{value:g}" for value in box)
        if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
            raise DataError(f"{name}: box {number} is empty, inverted or not finite ({shown}); want x1 < x2, y1 < y2")
        if fault := box_fault(box, width, height):
            raise DataError(f"{name}: box {number} {fault}: {shown}; want px of this image, 0-based")
    return values
