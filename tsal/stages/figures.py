"""Stage figures: every figure and table of a run, drawn from what the other stages kept."""

from __future__ import annotations

from pathlib import Path

from tsal.figures import draw_all
from tsal.run import Run
from tsal.stages.alone import alone


@alone
def draw_figures(run: Run) -> list[Path]:
    """Figures as .png and .pdf, tables as ``tables.md`` and ``tables.tex``, in ``<run>/figures``; their paths."""
    return draw_all(run)
