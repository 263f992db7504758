"""A run's numbers as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from tsal.config import labels_alone
from tsal.figures.style import METHOD_TITLES
from tsal.figures.tables import TAU, table, tracker_errors
from tsal.run import Run
from tsal.utils import InputError

INIT = "supervised init"
LOST = (
    20  # % of points lost by flow, at 96 px: up to 3 where frames are consecutive (docs/results), 45 on YouTube Faces
)


def run_report(run: Run, source: str = "heatmap", scheme: str = "") -> str:
    """The run's models beside each other on every evaluation list, and where the figures are.

    ``scheme``: measured on its landmarks alone, see :func:`table`.
    """
    figures = sorted((run.folder / "figures").glob("*.png"))
    drawn = "\n".join(["figures:", *(f"  {path}" for path in figures)]) if figures else "figures: none drawn yet"
    return "\n\n".join([*comparison_tables(run, source, scheme), drawn])


def comparison_tables(run: Run, source: str = "heatmap", scheme: str = "") -> list[str]:
    """One aligned table an evaluation list, of one detection source. AUC and FR are shares; steps and seconds: init +
    what followed. Error jitter is shown where frames are consecutive, jitter where they have no labels. Then a warning
    where frames seem not to be.
    """
    numbers = table(run, scheme)
    numbers = numbers[numbers.source == source]
    if numbers.empty:
        raise InputError(f"--source {source}: the run has no numbers of it (a window needs consecutive frames)")
    tables, method = [], METHOD_TITLES.get(run.config.method, run.config.method)
    names = METHOD_TITLES | {"init": INIT} | {model: f"{method} {model}" for model in ("teacher", "student")}
    names |= {"supervised": method} if labels_alone(run.config) else {}
    for name, rows in numbers.groupby("list", sort=False):
        first = rows.iloc[0]
        if rows.NME.isna().all() and rows.jitter.notna().any():
            tables.append(_steadiness_table(name, rows, names, source))
            continue
        note = f"{name}: {first.faces} faces, normaliser {run.config.data.normaliser}, source {source}"
        note += f", landmarks of scheme {scheme}" if scheme else ""
        note += f"; {first.degenerate} more not scored (degenerate normaliser)" if first.degenerate else ""
        note += (
            "; TRANSDUCTIVE: images of this list may have been trained on without their labels"
            if first.transductive
            else ""
        )
        columns = {"NME": "NME %"} | {key: key for key in (f"AUC@{TAU:.2f}", f"FR@{TAU:.2f}")}
        columns |= {"error_jitter": "error jitter %"} if rows.error_jitter.notna().any() else {}
        head = ["", *columns.values(), "steps", "seconds"]
        tables.append(f"{note}\n{align(head, [_cells(row, names, columns) for _, row in rows.iterrows()])}")
    return tables + _not_consecutive(run, numbers)


def _not_consecutive(run: Run, numbers: pd.DataFrame) -> list[str]:
    lost = numbers.groupby("list", sort=False).flow_left_out.min()
    lost = lost[lost > LOST]
    if lost.empty:
        return []
    shown = ", ".join(f"{share:.0f} % of the landmarks of {name}" for name, share in lost.items())
    sparse = ",".join([*run.config.data.sparse, *lost.index])
    return [
        f"warning: between neighbouring frames optical flow loses {shown}. If these frames do not follow one another "
        f"at video rate, their jitter, lag and window mean nothing: set data.sparse={sparse}, or "
        "data.consecutive=false if that holds for all clips"
    ]


def _steadiness_table(name: str, rows: pd.DataFrame, names: Mapping[str, str], source: str) -> str:
    """Of a list without labels."""
    frames = rows.inner_frames.iloc[0]
    note = f"{name}: no labels; steadiness at {frames:.0f} frames between two others, in % of the box, source {source}"
    columns = {"jitter": "jitter %", "flow_jitter": "flow jitter %", "flow_left_out": "left out %"}
    lines = [[names.get(row.model, row.model), *(f"{row[key]:.3f}" for key in columns)] for _, row in rows.iterrows()]
    return f"{note}\n{align(['', *columns.values()], lines)}"


def _cells(row: pd.Series, names: Mapping[str, str], columns: Iterable[str]) -> list[str]:
    scores = [f"{row[key]:.3f}" for key in columns]
    costs = [f"{row[f'init_{what}']:.0f} + {row[f'semi_{what}']:.0f}" for what in ("steps", "seconds")]
    return [names.get(row.model, row.model), *scores, *costs]


def tracker_table(metrics: Mapping) -> str:
    """Errors of the tracker beside zero motion and DIS by frames apart, mean (median), and the tracker's doubt."""
    errors = tracker_errors(metrics)
    return align([errors.index.name, *errors.columns], errors.reset_index().values.tolist())


def align(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the rest to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])
