"""Stage train: the trainings of a run."""

from __future__ import annotations

from tsal import trainings
from tsal.run import Run
from tsal.stages.alone import alone
from tsal.stages.tracker import train_tracker
from tsal.utils import use_free_cores


@alone
def train_models(run: Run) -> dict[str, dict]:
    """Supervised init(s), supervised-only, rival and method, for equal steps; steps and seconds of each. First the
    tracker, where it is not that of the run's settings.
    """
    use_free_cores()
    train_tracker(run)
    return trainings.train(run)
