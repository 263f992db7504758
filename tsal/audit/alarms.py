"""Self-training fails silently: what a TSAL history says before its numbers are believed."""

from __future__ import annotations

import pandas as pd

RISE = 1.25  # of the error (or, without truth, of the sources' disagreement) over its lowest value before: drift
COLLAPSE = 0.5  # of the first spread of shapes over the faces
ONE_NETWORK = 1e-4  # relative distance of teacher and student
SMOOTH = 3  # rows of the history that are averaged


def find_alarms(history: pd.DataFrame) -> list[str]:
    """One line for each thing that goes wrong in a history of TSAL (a row for every few steps, see
    :func:`tsal.loop.fit`).
    """
    found = []
    smooth = history.set_index("step").rolling(SMOOTH, min_periods=1).mean()
    measured = "error_fused" if "error_fused" in smooth and smooth.error_fused.notna().any() else "target_disagreement"
    what = {
        "error_fused": "the error of the student's targets",
        "target_disagreement": "the disagreement of the sources",
    }[measured]
    if measured in smooth and smooth[measured].notna().any():
        values = smooth[measured].dropna()
        lowest = values.cummin()
        if values.iloc[-1] > RISE * lowest.iloc[-1]:
            found.append(
                f"drift: {what} is {values.iloc[-1]:.2f} at the end, "
                f"and was {lowest.iloc[-1]:.2f} at step {values.idxmin()}"
            )
    if "spread" in smooth and smooth.spread.iloc[-1] < COLLAPSE * smooth.spread.iloc[0]:
        found.append(
            f"collapse: shapes differ by {smooth.spread.iloc[-1]:.2f} % over the faces, "
            f"at first by {smooth.spread.iloc[0]:.2f} %"
        )
    if "model_distance" in smooth and smooth.model_distance.iloc[-1] < ONE_NETWORK:
        found.append(f"one network: teacher and student are {smooth.model_distance.iloc[-1]:.1e} apart")
    if "target_weight" in smooth and smooth.target_weight.iloc[-1] < 0.02:
        found.append(f"silence: {100 * smooth.target_weight.iloc[-1]:.1f} % of the targets pass the gates")
    return found
