"""Stage train: the trainings of a run, and where their models are kept."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tsal import trainings
from tsal.run import Run
from tsal.trainings import load_tracker, open_tracker
from tsal.utils import InputError


def train_models(run: Run) -> dict[str, dict]:
    """Supervised init(s), supervised-only and the method, for equal steps; steps and seconds of each."""
    return trainings.train(run)


def model_files_of(run: Run) -> dict[str, tuple[Path, str | None]]:
    """Where each model of the run's comparison is kept."""
    tsal = run.folder / "semi" / "model.pt"
    files = {
        "init": (run.folder / "init" / "model.pt", None),
        "supervised": (run.folder / "supervised" / "model.pt", None),
        "teacher": (tsal, "teacher"),
        "student": (tsal, "student"),
    }
    missing = sorted({str(path) for path, _ in files.values() if not path.exists()})
    if missing:
        raise InputError(f"not trained yet: {', '.join(missing)}; run 'python -m tsal train --run {run.folder}'")
    return files


def final_tracker(run: Run) -> nn.Module:
    """The tracker that the teacher was taught with."""
    tuned = run.folder / "semi" / "tracker-teacher" / "model.pt"
    return load_tracker(tuned, run.config, run.device) if tuned.exists() else open_tracker(run)
