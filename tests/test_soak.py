"""A long training takes no more memory, files or handles than a short one."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tsal import trainings
from tsal.run import Run

SECONDS = float(os.environ.get("TSAL_SOAK", "0"))  # make soak
STEPS = 36  # of the short form
WARM_UP = 1 / 3  # of the steps: memory of allocators and caches fills


class Enough(Exception):
    pass


def resources(folder: Path) -> dict[str, float]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory, KiB": pages * os.sysconf("SC_PAGE_SIZE") / 1024,
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "files of the run": sum(1 for path in folder.rglob("*") if path.is_file()),
    }


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_nothing_grows_with_the_steps(smoke_run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(smoke_run, folder, ignore=shutil.ignore_patterns("semi", "executed", "audit", "figures"))
    step, samples, began = trainings.asynchronous_step, [], time.monotonic()

    def sampled(*arguments):
        samples.append(resources(folder))
        if time.monotonic() - began > SECONDS if SECONDS else len(samples) == STEPS:
            raise Enough
        return step(*arguments)

    monkeypatch.setattr(trainings, "asynchronous_step", sampled)
    run = Run.open(folder, ["train.checkpoint_every=10", "train.snapshots=1", "train.device=cpu"])
    with pytest.raises(Enough):
        trainings.train_semi(run, [folder / "init/model.pt"], 10**6)
    steady = samples[int(WARM_UP * len(samples)) :]
    slopes = {
        name: 1000 * np.polyfit(np.arange(len(steady)), [sample[name] for sample in steady], 1)[0]
        for name in samples[0]
    }
    rounded = {name: round(float(slope), 1) for name, slope in slopes.items()}
    print(f"\n{len(samples)} steps; growth over a thousand steps: {rounded}")
    print(f"at the beginning {samples[0]}, after the warm-up {steady[0]}, at the end {steady[-1]}")
    for name in ("open files", "threads", "files of the run"):
        assert abs(slopes[name]) < (1 if SECONDS else 50), name
    # a batch has 200 KiB, a model with its optimiser 8 MiB; a row of the history, which is kept, 4 KiB for ten steps
    assert slopes["memory, KiB"] < (1024 if SECONDS else 1000 * 100)
