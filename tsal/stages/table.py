"""What a run is made of, in which order, and when each stage is done: make, the command line and the notebooks ask
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One file of this package, one notebook, one make target, one command."""

    name: str
    notebook: str
    text: str  # for --help
    result: str  # file of the run's folder that is written last, or a pattern of several
    needs: tuple[str, ...] = ()  # stages whose results it reads
    packages: tuple[str, ...] = ()  # besides the core (tsal/*.py, data, tracker): what its result depends on
    core: bool = True

    def is_done(self, folder: Path) -> bool:
        """Whether the result is there and no older than the results that it was made from."""
        results, *needed = (
            [path.stat().st_mtime for path in folder.glob(stage.result)]
            for stage in (self, *(STAGES[name] for name in self.needs))
        )
        return bool(results) and all(times and min(results) >= max(times) for times in needed)


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "data",
            "01_data",
            "make or refresh a run: resolve its settings, make rendered faces, check every list, image and annotation; "
            "or, with a BUILDER, prepare a dataset",
            "manifest.json",
            packages=("prepare", "synthetic"),
        ),
        Stage(
            "tracker",
            "02_tracker",
            "train the optical-flow tracker and measure it beside zero motion and OpenCV's DIS",
            "tracker/metrics.json",
            ("data",),
            ("evaluation", "synthetic"),
        ),
        Stage(
            "train",
            "03_train",
            "supervised init, then supervised only and the semi-supervised method for equal steps",
            "*/model.pt",  # which there are is the method's
            ("tracker",),
        ),
        Stage(
            "pseudo",
            "04_pseudo_labels",
            "audit every source of pseudo-labels on unlabelled clips",
            "audit/labels.parquet",
            ("data", "train"),
            ("audit", "evaluation"),
        ),
        Stage(
            "evaluate",
            "05_evaluate",
            "predict the evaluation lists with every model and compute the metrics",
            "metrics.json",
            ("data", "train"),
            ("evaluation",),
        ),
        Stage(
            "figures",
            "06_figures",
            "draw the figures of a run",
            "figures/tables.md",
            ("tracker", "pseudo", "evaluate"),
            ("figures", "audit"),
            core=False,
        ),
    )
}
