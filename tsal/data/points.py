"""Annotation files (.pts, iBUG): their points count from 1, and from 0 everywhere else in here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsal.schemes import AlsoRead
from tsal.utils import DataError, read_text, write_text


def read_points(path: Path, count: int, also_read: AlsoRead = ()) -> tuple[np.ndarray, np.ndarray]:
    """A .pts file -> points (K, 2) float32, 0-based px, and visibility (K,) bool; K = ``count``.

    A third column, where there is one, is the visibility (0 or 1). Else every point counts as visible, but one with
    neither coordinate over 0: datasets write a missing point as ``0 0`` or ``-1 -1``, or with both signs turned.

    Args:
        also_read: other numbers of points that a file may have, and which K of them are kept: 51 of iBUG's 68.

    Raises:
        DataError: one line that names the file.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the annotation: {getattr(error, 'strerror', None) or error}") from error
    opening, closing = text.find("{"), text.rfind("}")
    if opening < 0 or closing < opening:
        raise DataError(f"{path}: not a .pts file: no {{ ... }} around the points")
    rows = [line.split() for line in text[opening + 1 : closing].splitlines() if line.strip()]
    selections = {**dict(also_read), count: range(count)}
    if len(rows) not in selections:
        others = "".join(f" or {other}" for other, _ in also_read)
        raise DataError(f"{path}: {len(rows)} points, want {count}{others}")
    points, visible = np.zeros((len(rows), 2), np.float32), np.ones(len(rows), bool)
    for index, columns in enumerate(rows):
        try:
            values = [float(v) for v in columns]
        except ValueError:
            raise DataError(f"{path}: point {index + 1} is not a number: {' '.join(columns)}") from None
        if len(values) not in (2, 3) or not all(abs(value) < 1e9 for value in values):  # false for nan and inf too
            raise DataError(f"{path}: point {index + 1} wants 'x y' (or 'x y visible'), got: {' '.join(columns)[:80]}")
        if len(values) == 3 and abs(values[2]) > 2:  # some datasets have -1, or 2 as COCO has
            raise DataError(f"{path}: point {index + 1} has visibility {values[2]:g}, want 0 or 1; a depth is not read")
        points[index] = values[:2]
        visible[index] = values[2] != 0 if len(values) == 3 else max(values) > 0
    chosen = list(selections[len(rows)])
    return points[chosen] - 1, visible[chosen]


def write_points(path: Path, points: np.ndarray, visible: np.ndarray | None = None) -> None:
    """Write 0-based px points (K, 2) as a 1-based .pts file; with ``visible`` (K,), that as a third column."""
    ends = [""] * len(points) if visible is None else [f" {int(flag)}" for flag in visible]
    body = "\n".join(f"{x:.3f} {y:.3f}{end}" for (x, y), end in zip(np.asarray(points, float) + 1, ends))
    write_text(path, f"version: 1\nn_points: {len(points)}\n{{\n{body}\n}}\n")
