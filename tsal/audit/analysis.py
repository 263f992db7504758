"""Numbers of a run's audit: how right its pseudo-labels are, what separates right from wrong, what training
changed.

Errors are % of the normaliser, as in the audit; what is not known is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from tsal.audit.store import Audit
from tsal.evaluation import follows, known_mean
from tsal.schemes import Scheme

BINS = 10  # of equally many landmarks each


def is_measured(audit: Audit) -> bool:
    """Whether there is a labelled, visible landmark of a face with a normaliser."""
    return bool((audit.visible & np.isfinite(audit.frames.norm_px.to_numpy())[:, None]).any())


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def known_median(values: np.ndarray) -> float:
    """Median of all that is known; NaN where nothing is."""
    return float(np.median(finite(values))) if np.isfinite(values).any() else np.nan


# --- sources ---


def source_table(audit: Audit) -> pd.DataFrame:
    """A row a model (at its last step) and source: median, mean, 90th percentile of its errors, share of landmarks
    ``known``.
    """
    rows = []
    for model in audit.names:
        valid = audit.labels(model)[0].valid
        for index, source in enumerate(audit.sources):
            errors = finite(audit.errors(model, source))
            numbers = (np.median(errors), errors.mean(), np.quantile(errors, 0.9)) if len(errors) else (np.nan,) * 3
            rows.append((model, source, *map(float, numbers), float(valid[index].mean())))
    return pd.DataFrame(rows, columns=["model", "source", "median", "mean", "90 %", "known"])


def step_table(audit: Audit) -> pd.DataFrame:
    """A row a model and step, all on the same frames: ``frames``, median ``disagreement`` and ``flow_error`` (px of the
    input), ``gate`` (mean weight in the student's target), and each source's median error under its name.
    """
    labels_by_model = {(model, step): audit.labels(model, step) for model, step in audit.models}
    shared = set.intersection(*(set(rows.tolist()) for _, rows in labels_by_model.values()))
    table = []
    for (model, step), (labels, rows) in labels_by_model.items():
        is_shared = np.isin(rows, list(shared))
        row = {"model": model, "step": step, "frames": int(is_shared.sum())}
        row |= {
            "disagreement": known_median(labels.disagreement[is_shared]),
            "flow_error": known_median(labels.flow_error[-1, is_shared]),
        }
        row["gate"] = float(labels.weight[is_shared].mean())
        table.append(
            row | {source: known_median(audit.errors(model, source, step)[is_shared]) for source in audit.sources}
        )
    return pd.DataFrame(table)


# --- under which conditions ---


def motions(audit: Audit, consecutive: bool = True) -> np.ndarray:
    """(N, K) of all frames: how far a landmark's label moves to the next frame, in % of the normaliser; NaN where
    either is not labelled, at the end of a clip, and where frames are not ``consecutive`` (``data.consecutive``).
    """
    frames, moved = audit.frames, np.full(audit.visible.shape, np.nan)
    if consecutive:
        after = follows({"path": frames.image.to_numpy(), "list": frames["view"].to_numpy()})
        points, (next_one,) = np.where(audit.visible[..., None], audit.truth, np.nan), np.nonzero(after)
        way = np.linalg.norm(points[next_one] - points[next_one - 1], axis=-1)
        moved[next_one - 1] = 100 * way / frames.norm_px.to_numpy()[next_one - 1, None]
    return moved


def conditions(audit: Audit, consecutive: bool = True) -> dict[str, np.ndarray]:
    """What landmarks (N, K) of all frames are, where it is known and some differ: ``shown``, ``hidden``, and ``slow``,
    ``middle``, ``fast``: thirds of the labelled landmarks by :func:`motions`, named with their limits.
    """
    masks = {"shown": audit.hidden == 0, "hidden": audit.hidden == 1} if (audit.hidden == 1).any() else {}
    moved = motions(audit, consecutive)
    if len(distances := finite(moved)):
        low, high = np.quantile(distances, (1 / 3, 2 / 3))
        masks[f"slow: up to {low:.2g} % a frame"] = moved <= low
        masks[f"middle: up to {high:.2g} %"] = (moved > low) & (moved <= high)
        masks["fast: more"] = moved > high
    return {name: mask for name, mask in masks.items() if mask.any()}


def condition_table(audit: Audit, consecutive: bool = True) -> pd.DataFrame:
    """A row a model (at its last step) and condition of its measured landmarks: ``condition``, ``share`` of them, and
    each source's mean error under its name. Empty where no condition is known.
    """
    rows, measured = [], audit.visible & np.isfinite(audit.frames.norm_px.to_numpy())[:, None]
    masks = conditions(audit, consecutive)
    for model in audit.names if masks else ():
        at = audit.labels(model)[1]
        errors = {source: audit.errors(model, source) for source in audit.sources}
        for name, mask in masks.items():
            use = mask[at] & measured[at]
            row = {"model": model, "condition": name, "share": float(use.sum() / max(1, measured[at].sum()))}
            rows.append(row | {source: float(known_mean(values[use])) for source, values in errors.items()})
    return pd.DataFrame(rows, columns=["model", "condition", "share", *audit.sources])


# --- what predicts the error ---


def monotone(score: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Isotonic regression of errors (N,) on scores (N,): the scores, sorted and each once, and the best fit that never
    falls.
    """
    knots, place, weights = np.unique(score, return_inverse=True, return_counts=True)
    return knots, isotonic_regression(np.bincount(place, error) / weights, weights=weights).x


class Calibration(NamedTuple):
    """A map from score to error, learned on one half of the clips, and how it does on the other."""

    knots: np.ndarray  # (S,) scores
    fit: np.ndarray  # (S,) their expected errors
    predicted: np.ndarray  # (B,) mean of each bin of equally many landmarks, by score
    observed: np.ndarray  # (B,)
    off: float  # expected calibration error: mean over the bins of |predicted - observed|, weighted by their landmarks
    mean: float  # error of the checked landmarks, for comparison
    rank: float  # Spearman's correlation of score and error over the checked landmarks
    landmarks: int  # checked


def calibrate(score: np.ndarray, error: np.ndarray, clip: np.ndarray) -> Calibration | None:
    """Predict errors (N, K) from scores (N, K): clips (N,), by number, in turn teach and check.

    None where either half knows nothing.
    """
    half = np.unique(clip, return_inverse=True)[1] % 2
    known = np.isfinite(score) & np.isfinite(error)
    teach, check = known & (half == 0)[:, None], known & (half == 1)[:, None]
    if not teach.any() or not check.any():
        return None
    knots, fit = monotone(score[teach].astype(float), error[teach].astype(float))
    score, error = score[check].astype(float), error[check].astype(float)
    order = np.argsort(score, kind="stable")
    predicted = np.interp(score, knots, fit)
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    means = np.array([(predicted[part].mean(), error[part].mean(), len(part)) for part in parts]).T
    off = float(np.average(np.abs(means[0] - means[1]), weights=means[2]))
    ranks = pd.DataFrame({"score": score, "error": error}).rank()
    rank = float(ranks.corr().iloc[0, 1]) if ranks.nunique().min() > 1 else np.nan
    return Calibration(knots, fit, means[0], means[1], off, float(error.mean()), rank, len(error))


def calibrations(audit: Audit, source: str = "fused") -> dict[tuple[str, str], Calibration | None]:
    """(model, score) -> how the score predicts the error of a source, where it is known at all: ``landmark``, the
    landmark's disagreement of heatmap and centre sources; ``frame``, its mean over the frame; ``flow``, the
    forward-backward error.
    """
    by_score = {}
    for model in audit.names:
        labels, rows = audit.labels(model)
        frame = np.broadcast_to(known_mean(labels.disagreement)[:, None], labels.disagreement.shape)
        scores = {"landmark": labels.disagreement, "frame": frame, "flow": labels.flow_error[-1]}
        # by name: the parts of a clip with gaps, which are audited apart, show one person
        error, clip = audit.errors(model, source), pd.factorize(audit.frames["clip"])[0][rows]
        by_score |= {(model, name): calibrate(score, error, clip) for name, score in scores.items()}
    return {key: calibration for key, calibration in by_score.items() if calibration}


# --- where the error is ---


def landmark_means(audit: Audit, model: str, source: str = "fused") -> np.ndarray:
    """(K,) mean error of each landmark; the mean disagreement in px of the input where nothing is measured."""
    values = audit.errors(model, source) if is_measured(audit) else audit.labels(model)[0].disagreement
    return known_mean(values, 0)


def groups(scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """The scheme's lines and what is in none; of a scheme without lines: its landmarks, by name or number."""
    lines = {name: indices for name, indices, _ in scheme.lines}
    if not lines:
        return {name: (index,) for index, name in enumerate(scheme.names or map(str, range(scheme.points)))}
    rest = tuple(index for index in range(scheme.points) if not any(index in indices for indices in lines.values()))
    return lines | ({"other landmarks": rest} if rest else {})


def mean_face(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(K, 2): mean of points (N, K, 2), NaN where unknown, each face in units of its box (N, 4), from its middle."""
    middle, size = (box[:, :2] + box[:, 2:]) / 2, np.sqrt(np.prod(box[:, 2:] - box[:, :2], axis=1))
    return known_mean((points - middle[:, None]) / size[:, None, None], 0)


def poses(points: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, np.ndarray]:
    """Of points (N, K, 2), NaN where unknown: roll (N,) in degrees, from the outer eye corners, and yaw (N,) as the
    centre landmark's offset from their middle along their line, over their distance (0: frontal). NaN where these are
    not known.
    """
    unknown = np.full(len(points), np.nan)
    if not scheme.ocular:
        return unknown, unknown
    left, right = points[:, scheme.ocular[0]], points[:, scheme.ocular[1]]
    line = right - left
    squared = (line**2).sum(1)
    squared[squared == 0] = np.nan
    roll = np.where(np.isfinite(squared), np.degrees(np.arctan2(line[:, 1], line[:, 0])), np.nan)
    if scheme.centre < 0:
        return roll, unknown
    return roll, ((points[:, scheme.centre] - (left + right) / 2) * line).sum(1) / squared


def known_points(audit: Audit) -> np.ndarray:
    """(N, K, 2) px: the labels; where nothing is measured, what the last model (the student, or what there is) sees."""
    if is_measured(audit):
        return np.where(audit.visible[..., None], audit.truth, np.nan)
    labels, rows = audit.labels(audit.names[-1])
    points = np.full(audit.truth.shape, np.nan)
    points[rows] = np.where(labels.valid[0][..., None], labels.points[0], np.nan)
    return points


def frame_means(audit: Audit, model: str, source: str = "fused") -> np.ndarray:
    """(N,) of all frames: mean error; where nothing is measured, the mean disagreement in px of the input."""
    labels, rows = audit.labels(model)
    values = np.full(len(audit.frames), np.nan)
    values[rows] = known_mean(audit.errors(model, source) if is_measured(audit) else labels.disagreement)
    return values


def changes(audit: Audit, after: str, source: str = "fused") -> pd.DataFrame:
    """A row a measured frame (its index: ``frame``): clip, image, mean errors of the ``init`` and of a model
    ``after`` training, under its name, and their ``change``; worst first.
    """
    table = audit.frames[["clip", "image"]].copy()
    for model in ("init", after):
        table[model] = frame_means(audit, model, source)
    table["change"] = table[after] - table.init
    return table.dropna(subset="change").sort_values("change", ascending=False, kind="stable")


def one_a_clip(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first rows of ``count`` clips."""
    return table.drop_duplicates("clip").head(count)
