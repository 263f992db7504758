"""Two processes train as one does: equal batches, losses, statistics and models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import wait_until
from torch import nn
from two_processes import draw_faces, in_two_processes, make_batch, normalise, normalised, take_steps

from tsal.cli.commands import main
from tsal.utils.checkpoints import load_checkpoint
from tsal.utils.paths import REPOSITORY


def test_batch_normalisation_is_over_the_images_of_both_processes(tmp_path):
    whole = torch.randn((5, 4, 6, 6), generator=torch.Generator().manual_seed(0)) * 2 + 3
    expected = normalised(nn.BatchNorm2d(4), whole)
    first, second = in_two_processes(normalise, str(tmp_path))
    for name in ("output", "images"):
        assert torch.allclose(torch.cat([first[name], second[name]]), expected[name], atol=2e-5), name
    for name in ("weight", "bias"):  # what averaging the gradients of processes makes of them is theirs to scale
        assert torch.allclose(first[name] + second[name], expected[name], rtol=1e-4), name
    for name in ("mean", "variance"):
        assert torch.allclose(first[name], expected[name], rtol=1e-5) and torch.equal(first[name], second[name]), name


def test_the_parts_of_two_processes_are_one_batch_without_overlap(tmp_path):
    draw_faces(tmp_path)
    whole, parts = make_batch(tmp_path, (0, 1)), [make_batch(tmp_path, (rank, 2)) for rank in range(2)]
    for part, tensors in (("labelled_part", ("labelled", "points")), ("unlabelled_part", ("weak", "strong", "clip"))):
        rows = [torch.tensor(getattr(batch, part).rows) for batch in parts]
        assert sorted(torch.cat(rows).tolist()) == list(range(getattr(whole, part).whole))
        for name in tensors:
            for batch, of in zip(parts, rows):
                assert torch.equal(getattr(batch, name), getattr(whole, name)[of]), name
    assert sorted(parts[0].pairs.keys + parts[1].pairs.keys) == sorted(whole.pairs.keys)
    assert parts[0].seed == parts[1].seed == whole.seed


def test_steps_of_two_processes_are_those_of_one(tmp_path):
    draw_faces(tmp_path)
    expected = take_steps(0, str(tmp_path), share=(0, 1))
    first, second = in_two_processes(take_steps, str(tmp_path))
    assert torch.allclose((first["losses"] + second["losses"]) / 2, expected["losses"], rtol=1e-5)
    for name, value in expected.items():
        if name != "losses":
            assert torch.equal(first[name], second[name]), f"{name} differs between the processes"
            assert (first[name] - value).norm() < 1e-5 * value.norm(), name


# --- the command ---

TOGETHER = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tsal", "--")


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def workers(process: subprocess.Popen) -> list[int]:
    """The processes that torchrun has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the processes of torchrun")
def test_a_training_whose_process_was_killed_is_restarted_and_ends_as_if_undisturbed(tmp_path):
    options = ["train.checkpoint_every=5", "supervised.steps=40", "train.amp=none"]
    for name in ("whole", "killed"):
        assert main(["tracker", "--profile", "smoke", "--run", str(tmp_path / name), "--set", *options]) == 0
    command = [*TOGETHER[:3], "--max-restarts", "1", *TOGETHER[3:], "train", "--run"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment(), cwd=REPOSITORY)
    with subprocess.Popen([*command, str(tmp_path / "killed")], env=environment(), cwd=REPOSITORY) as process:
        wait_until((tmp_path / "killed/init/last.pt").exists, process)
        os.kill(workers(process)[-1], signal.SIGKILL)
        assert process.wait(timeout=300) == 0
    for place in ("init/model.pt", "supervised/model.pt", "semi/model.pt"):
        whole, killed = (load_checkpoint(tmp_path / name / place)["models"] for name in ("whole", "killed"))
        for model, weights in whole.items():
            assert all(torch.equal(value, killed[model][key]) for key, value in weights.items()), (place, model)
    rows = [(tmp_path / name / "init/history.csv").read_text() for name in ("whole", "killed")]
    assert rows[0] == rows[1]


def test_only_the_training_runs_on_several_processes(tmp_path):
    command = [*TOGETHER, "evaluate", "--profile", "smoke", "--run", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment(), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode != 0 and "error: torchrun is for 'train' alone" in done.stderr


def test_a_run_that_several_processes_train_is_locked_meanwhile(tmp_path, monkeypatch):
    few = ["tracker.synthetic_steps=0", "tracker.video_steps=0"]
    run = ["--profile", "smoke", "--run", str(tmp_path / "run"), "--set", *few]
    assert main(["data", *run]) == 0
    said, plain = [], dict(os.environ)

    def train(opened):
        other = subprocess.run(
            [sys.executable, "-m", "tsal", "data", *run], cwd=REPOSITORY, capture_output=True, text=True, env=plain
        )
        said.append(other.stderr)
        return {}

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setattr("tsal.utils.join_processes", lambda: None)
    monkeypatch.setattr("tsal.trainings.train", train)
    assert main(["train", *run]) == 0
    assert f"error: {tmp_path / 'run'}: process {os.getpid()} works in this folder" in said[0]
