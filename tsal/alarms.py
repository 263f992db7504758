"""Self-training fails silently: what a history says before its numbers are believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

RISE = 1.25  # of the error (or, without truth, of the sources' disagreement) over its lowest value before: drift
COLLAPSE = 0.5  # of the first spread of shapes over the faces
ONE_NETWORK = 1e-4  # relative distance of teacher and student
WEIGHTLESS = 0.02  # mean weight of the targets
SMOOTH = 3  # rows of the history that are averaged
LONG = 5  # rows that targets are without weight

History = Sequence[Mapping[str, float]]  # a row for every few steps, see :func:`tsal.loop.fit`


def find_alarms(history: History) -> list[str]:
    """One line for each thing that goes wrong in the history of a training: its kind, a colon, what is seen."""
    return [*_not_finite(history), *_drift(history), *_collapse(history), *_one_network(history), *_silence(history)]


def grave_alarms(history: History) -> list[str]:
    """What a training that still runs does not recover from; nothing before there are a few rows."""
    return [*_collapse(history), *_silence(history)] if len(history) >= LONG else []


def _not_finite(history: History) -> list[str]:
    skipped = sum(row.get("skipped", 0) > 0 for row in history)
    lines = [f"not finite: steps were skipped in {skipped} of {len(history)} rows"] if skipped else []
    broken = [row for row in history if not math.isfinite(row.get("loss", 0))]
    return lines + [f"not finite: the loss is {row['loss']} at step {int(row['step'])}" for row in broken[:1]]


def _drift(history: History) -> list[str]:
    for name, what in (
        ("error_fused", "the error of the student's targets"),
        ("target_disagreement", "the disagreement of the sources"),
    ):
        values = [_smooth(history, name, end) for end in range(1, len(history) + 1)]
        rows = [row for row, value in enumerate(values) if not math.isnan(value)]
        if rows:
            lowest, end = min(rows, key=values.__getitem__), values[rows[-1]]
            step = int(history[lowest]["step"])
            text = f"drift: {what} is {end:.2f} at the end, and was {values[lowest]:.2f} at step {step}"
            return [text] if end > RISE * values[lowest] else []
    return []


def _collapse(history: History) -> list[str]:
    first, last = _smooth(history, "spread", 1), _smooth(history, "spread", len(history))
    text = f"collapse: shapes differ by {last:.2f} % over the faces, at first by {first:.2f} %"
    return [text] if last < COLLAPSE * first else []


def _one_network(history: History) -> list[str]:
    last = _smooth(history, "model_distance", len(history))
    return [f"one network: teacher and student are {last:.1e} apart"] if last < ONE_NETWORK else []


def _silence(history: History) -> list[str]:
    weights = [row.get("target_weight", math.nan) for row in history[-LONG:]]
    if weights and all(weight < WEIGHTLESS for weight in weights):
        return [f"silence: {100 * weights[-1]:.1f} % of the targets pass the gates, for {len(weights)} rows"]
    return []


def _smooth(history: History, name: str, end: int) -> float:
    """Mean of what is known of a column in the last few of the rows up to ``end``; NaN where nothing is."""
    values = [row.get(name, math.nan) for row in history[max(0, end - SMOOTH) : end]]
    finite = [value for value in values if not math.isnan(value)]
    return sum(finite) / len(finite) if finite else math.nan
