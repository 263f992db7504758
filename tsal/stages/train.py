"""Stage train: the trainings of a run."""

from __future__ import annotations

from tsal import trainings
from tsal.run import Run


def train_models(run: Run) -> dict[str, dict]:
    """Supervised init(s), supervised-only and the method, for equal steps; steps and seconds of each."""
    return trainings.train(run)
