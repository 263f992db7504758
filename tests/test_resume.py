"""A run that is killed at any moment and started again ends as one that was left alone, to the bit; seconds apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tsal.utils.files import read_arrays
from tsal.utils.paths import REPOSITORY

KILLED = REPOSITORY / "tests" / "helpers" / "killed.py"
MOMENTS = int(os.environ.get("TSAL_KILLS", "0"))  # make faults: so many runs, each killed once
SETTINGS = (
    "tracker.tune_steps=4",  # trackers tuned for teacher and student are trainings too
    "tsal.trackers=own",
    "supervised.steps=13",
    "semi.steps=12",
    "train.checkpoint_every=3",  # rows of the history are of ten steps: sums must go on
)


def run(folder: Path, moment: str = "never", *options: str, check: bool = True) -> list[str]:
    """Data, trainings and evaluation of a run in ``folder/run``, up to a moment (see helpers/killed.py) -> events."""
    done = start([], folder, moment, "evaluate", *options)
    if check:
        assert done.returncode == (0 if moment == "never" else -signal.SIGKILL), done.stderr[-3000:]
    return (folder / "events").read_text().splitlines()


def start(launcher: list[str], folder: Path, moment: str, stage: str, *options: str) -> subprocess.CompletedProcess:
    command = [stage, "--profile", "smoke", "--run", str(folder / "run"), "--set", *SETTINGS, *options]
    killed = [str(KILLED), str(folder / "prepared"), str(folder / "events"), moment, *command]
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(REPOSITORY)}
    whole = [sys.executable, *launcher, *killed]
    return subprocess.run(whole, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)


def differences(first: Path, second: Path) -> list[str]:
    """Where two runs differ: in a weight's bit, a row of a history, a prediction, a number; and what was left lying."""
    names = {path.relative_to(folder) for folder in (first, second) for path in folder.rglob("*") if path.is_file()}
    apart = [f"left: {name}" for name in names if ".tmp" in name.name or name.name == "last.pt"]
    for name in sorted(names - {Path(".lock"), Path(".checked"), Path("environment.json")}):  # .checked: files' times
        if not ((first / name).exists() and (second / name).exists()):
            apart.append(f"in one alone: {name}")
        elif content(first / name) != content(second / name):
            apart.append(f"differs: {name}")
    return apart


def content(path: Path):
    """What a file says, as something that compares by bits; times apart."""
    if path.suffix == ".pt":
        return plain(torch.load(path, weights_only=True))
    if path.suffix == ".npz":
        return plain(read_arrays(path))
    if path.suffix == ".json":
        return plain(json.loads(path.read_text()))
    return path.read_bytes()


def plain(value):
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items() if name not in ("seconds", "times")}
    return value if not isinstance(value, list) else [plain(part) for part in value]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return folder


def test_a_run_killed_in_every_stage_ends_as_one_that_was_left_alone(undisturbed, tmp_path):
    """While faces are rendered, half through a checkpoint, between a model and its time, amid a teacher's steps."""
    events = (undisturbed / "events").read_text().splitlines()
    for moment in ("clip", "half of init/last.pt", "named supervised/model.pt", "half of semi/last.pt"):
        assert any(moment in event for event in events)
        run(tmp_path, moment)
    run(tmp_path)
    assert differences(undisturbed / "run", tmp_path / "run") == []
    assert [path.name for path in (tmp_path / "prepared").glob(".*")] == [".lock"]


@pytest.mark.skipif(not MOMENTS, reason="the long form: make faults")
@pytest.mark.parametrize("number", range(MOMENTS))
def test_a_run_killed_at_a_seeded_moment_ends_as_one_that_was_left_alone(
    undisturbed, tmp_path, number, record_property
):
    events = (undisturbed / "events").read_text().splitlines()
    kinds = ("clip", "step", "half of", "written", "named")
    places = [place for place, event in enumerate(events) if event.startswith(kinds[number % len(kinds)])]
    moment = int(np.random.default_rng([23, number]).choice(places))
    print(f"killed at event {moment} of {len(events)}: {events[moment]}")
    run(tmp_path, str(moment))
    run(tmp_path)
    assert differences(undisturbed / "run", tmp_path / "run") == []


# --- two processes ---


def train_together(folder: Path, moment: str = "never", restarts: int = 0) -> int:
    """The trainings of a run that has its tracker, by two processes of torchrun -> exit status."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(restarts), "--"]
    done = start(torchrun, folder, moment, "train")
    print(done.stderr[-3000:])
    return done.returncode


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[Path, Path]:
    """A run up to its tracker, and one that two processes then trained undisturbed."""
    tracked, trained = (tmp_path_factory.mktemp(name) for name in ("tracked", "trained"))
    assert start([], tracked, "never", "tracker").returncode == 0
    shutil.copytree(tracked, trained, dirs_exist_ok=True)
    assert train_together(trained) == 0
    assert set((trained / "events-1").read_text().split()) == {"step"}  # the second process writes nothing
    return tracked, trained


@pytest.mark.skipif(not MOMENTS, reason="the long form: make faults")
@pytest.mark.parametrize("number", range(MOMENTS))
def test_one_of_two_processes_is_killed_at_a_seeded_moment(together, tmp_path, number):
    """torchrun starts both again (even numbers), or ends and is started again."""
    tracked, trained = together
    chance = np.random.default_rng([24, number])
    rank, restarts = int(chance.integers(2)), 1 - number % 2
    events = (trained / f"events-{rank}").read_text().splitlines()
    kind = ("step", "half of", "written", "named")[number % 4 if rank == 0 else 0]
    moment = int(chance.choice([place for place, event in enumerate(events) if event.startswith(kind)]))
    print(f"process {rank} killed at event {moment} of {len(events)}: {events[moment]}")
    shutil.copytree(tracked, tmp_path, dirs_exist_ok=True)
    status = train_together(tmp_path, f"{rank}:{moment}", restarts)
    assert (status == 0) == bool(restarts)
    assert restarts or train_together(tmp_path) == 0
    assert differences(trained / "run", tmp_path / "run") == []
