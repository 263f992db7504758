"""Boxes propagated from one frame to the next by median flow (Kalal, Mikolajczyk, Matas: "Forward-Backward Error", ICPR
2010).
"""

from __future__ import annotations

import math

import cv2
import numpy as np


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
        start, end = starts[number][good].astype(float), ends[number][good].astype(float)
        moves = end - start
        shift = np.median(moves, axis=0)
        spread = np.median(np.linalg.norm(moves - shift, axis=1))
        first, second = np.triu_indices(len(start), 1)
        before = np.linalg.norm(start[first] - start[second], axis=1)
        scale = np.median(np.linalg.norm(end[first] - end[second], axis=1) / before)
        centre = (box[:2] + box[2:]) / 2 + shift
        outside = not ((centre >= 0) & (centre <= [grey.shape[1] - 1, grey.shape[0] - 1])).all()
        if middle > max(1.0, 0.05 * size) or spread > 0.15 * size or not 0.8 < scale < 1.25 or outside:
            continue
        half = (box[2:] - box[:2]) / 2 * scale
        propagated[number] = np.concatenate([centre - half, centre + half])
    return propagated
