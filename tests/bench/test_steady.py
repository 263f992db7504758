"""The table of filters in time: numbers beside those of the first row, and how its lag is read."""

from __future__ import annotations

import numpy as np

from tsal.bench.steady import steadiness_table


def row(source: str, jitter: float, **labelled: float) -> dict:
    return {"source": source, "flow_jitter": jitter, "frames/s": 10.0} | labelled


def test_lag_is_shown_with_how_it_is_read_where_labels_make_it_known():
    labelled = {"error_jitter": 4.0, "NME": 5.0}
    rows = [row("frame by frame", 2.0, lag=-0.11, **labelled), row("steady", 1.0, lag=0.05, **labelled)]
    _, _, first, second, _, note = steadiness_table(rows).splitlines()
    assert first == "| frame by frame | 2.000 (+0 %) | 4.000 (+0 %) | 5.000 | -0.11 |  |"
    assert second == "| steady | 1.000 (-50 %) | 4.000 (+0 %) | 5.000 | +0.05 | 10 |"
    assert note.startswith("Lag is read relative to the first row.")
    unlabelled = steadiness_table([row("frame by frame", 2.0, lag=np.nan), row("steady", 1.0)])
    assert "lag" not in unlabelled.lower() and unlabelled.count("\n") == 3
