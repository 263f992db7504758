"""Pure functions of predictions: each number's name says its definition. Points are px of the original image."""

from __future__ import annotations

import numpy as np

from tsal.schemes import Scheme
from tsal.utils import InputError

NORMALISERS = {
    "ocular": "outer eye-corner distance",
    "pupil": "distance between the pupils",
    "box": "square root of the box's area",
    "face_size": "face size of the list",
}
DEGENERATE_SHARE = 0.05  # of the box; a shorter normaliser (eye corners of a profile face) says nothing
SAME_INIT = 1e-3  # % of NME, below which two inits of one seed are the same: other CPUs make others


def normaliser(
    kind: str, truth: np.ndarray, visible: np.ndarray, box: np.ndarray, face_size: np.ndarray, scheme: Scheme
) -> np.ndarray:
    """The distance d (N,) px by which errors are divided; NaN where a landmark that it needs is not visible.

    Args:
        kind: ``ocular`` (outer eye corners), ``pupil`` (means of the eye points), ``box`` (sqrt(w h)), ``face_size``.
        truth: (N, K, 2).  visible: (N, K) bool.  box: (N, 4) x1 y1 x2 y2.  face_size: (N,), NaN where the list has
            none.
    """
    if kind == "box":
        return np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    if kind == "face_size":
        if np.isnan(face_size).any():
            raise InputError(f"data.normaliser=face_size: a list has no seventh column; use {_offered(scheme)}")
        return face_size
    groups = {"ocular": scheme.ocular and [(corner,) for corner in scheme.ocular], "pupil": scheme.pupil}.get(kind)
    if groups:
        truth = np.where(visible[..., None], truth, np.nan)  # a mean of NaN is NaN: all of a group must be seen
        first, second = (truth[:, list(group)].mean(1) for group in groups)
        return np.linalg.norm(first - second, axis=-1)
    raise InputError(f"data.normaliser={kind}: scheme {scheme.name!r} has no such normaliser; use {_offered(scheme)}")


def _offered(scheme: Scheme) -> str:
    """The normalisers that any list has with the scheme."""
    return " or ".join([*(kind for kind in ("ocular", "pupil") if getattr(scheme, kind)), "box"])


def is_degenerate(d: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Faces (N,) whose normaliser is zero, not finite (hidden), or under 5 % of the box: counted and named, never
    scored.
    """
    side = np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    return ~(np.isfinite(d) & (d > 0) & (d >= DEGENERATE_SHARE * side))


def face_nme(points: np.ndarray, truth: np.ndarray, visible: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Per face: mean over visible points of distance / d -> (..., N); NaN for a face without a visible point or with d
    <= 0.

    ``points`` may have more axes in front: (..., N, K, 2).
    """
    error = np.linalg.norm(points - np.where(visible[..., None], truth, 0), axis=-1)
    count = visible.sum(-1)
    mean = np.where(visible, error, 0).sum(-1) / np.maximum(count, 1)
    return np.where((count > 0) & (d > 0), mean / np.where(d > 0, d, 1), np.nan)


def auc(errors: np.ndarray, tau: float) -> float:
    """Area under the cumulative error distribution up to ``tau``, over ``tau``: the mean of max(0, 1 - e / tau),
    exactly.
    """
    return float(np.clip(1 - np.asarray(errors) / tau, 0, None).mean()) if len(errors) else float("nan")


def failure_rate(errors: np.ndarray, tau: float) -> float:
    """Share of faces with an error over ``tau``."""
    return float((np.asarray(errors) > tau).mean()) if len(errors) else float("nan")


def known_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over an axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    return np.where(count > 0, np.where(known, values, 0).sum(axis) / np.maximum(count, 1), np.nan)


def summary(errors: np.ndarray) -> dict[str, float]:
    """Protocol numbers of per-face errors (N,) (shares, not %), NME in %."""
    row = {"NME": 100 * float(np.mean(errors)) if len(errors) else float("nan")}
    row |= {f"AUC@{tau:.2f}": auc(errors, tau) for tau in (0.07, 0.08, 0.10)}
    return row | {f"FR@{tau:.2f}": failure_rate(errors, tau) for tau in (0.08, 0.10)}


def jitter(points: np.ndarray, d: float | np.ndarray) -> np.ndarray:
    """Per frame between its neighbours: mean over landmarks of the second difference's length, over d -> (T - 2,), or
    () for T < 3.

    The mean over frames is a track's jitter; steady motion has none.

    Args:
        points: (T, K, 2), one face in consecutive frames.  d: px, one number, or (T - 2,).
    """
    return np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1).mean(-1) / d
