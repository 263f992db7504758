"""The loop around a step: a history, checkpoints, resuming; numbers that go wrong, signals, full disks."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import signal

import pytest
import torch
from torch import nn
from toys import config, vector

from tsal.config import TrainConfig
from tsal.guard import read_alarms
from tsal.loop import fit
from tsal.optimiser import make_optimiser, step_optimiser
from tsal.utils import checkpoints
from tsal.utils.checkpoints import load_checkpoint, save_checkpoint
from tsal.utils.errors import RunError
from tsal.utils.signals import Stopped


class Numbers:
    """Four random points (3,), by the step; all else that a batch has."""

    def __init__(self, step: int):
        self.value = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        self.seed, self.faces = 100 + step, (f"list:{step} {step}.jpg",)

    def to(self, device):
        return self


class Interrupted(Exception):
    pass


def train_line(
    folder, *options, steps=23, fail_at=None, fingerprint=None, break_at=(), loss=None, device="cpu", on=None
):
    """A line that is fitted to nought -> net, history, fractions of the steps taken.

    ``break_at``: steps whose gradient is infinite; ``loss``: instead of its own; ``on``: called with each step.
    """
    torch.manual_seed(0)
    net = nn.Linear(3, 1).to(device)
    optimiser = make_optimiser(net, TrainConfig(optimiser="adamw"), 0.05)
    fractions = []

    def step(batch, fraction):
        if len(fractions) == fail_at:
            raise Interrupted
        fractions.append(fraction)
        if on:
            on(batch.seed - 99)
        value = loss(batch.seed - 99) if loss else net(batch.value.to(device)).square().mean()
        if not loss:
            scale = math.inf if batch.seed - 99 in break_at else 1.0
            value.register_hook(lambda gradient: gradient * scale)
            step_optimiser(optimiser, net, value, 1.0, 0.0)
        return {"loss": value.detach(), "gap": torch.tensor(math.nan), "half": torch.tensor(0.5)}

    history, _ = fit(
        folder,
        label="line",
        steps=steps,
        make_batch=Numbers,
        step_function=step,
        state={"net": net, "optimiser": optimiser},
        fingerprint=fingerprint or {"name": "line"},
        config=config("train.checkpoint_every=10", "data.workers=1", *options),
        device=torch.device(device),
    )
    return net, history, fractions


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_training_on_a_gpu_takes_terms_that_are_on_the_cpu(tmp_path):
    _, history, _ = train_line(tmp_path, steps=10, device="cuda")
    assert math.isfinite(history[0]["loss"]) and history[0]["half"] == 0.5


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(tmp_path):
    whole, history, _ = train_line(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train_line(tmp_path / "cut", fail_at=17)
    assert len((tmp_path / "cut" / "history.csv").read_text().splitlines()) == 2  # what there was is there to look at
    resumed, history_resumed, fractions = train_line(tmp_path / "cut")
    assert fractions[0] == 10 / 23 and len(fractions) == 13  # from the checkpoint after step 10
    assert torch.equal(vector(whole), vector(resumed))
    assert (tmp_path / "whole/history.csv").read_bytes() == (tmp_path / "cut/history.csv").read_bytes()


def test_a_training_without_steps_leaves_no_history_of_another_one(tmp_path):
    (tmp_path / "history.csv").write_text("step,loss\n10,1.0\n")
    train_line(tmp_path, steps=0)
    assert not (tmp_path / "history.csv").exists()


def test_a_checkpoint_of_another_fingerprint_is_discarded_and_a_line_says_what_differs(tmp_path, capsys):
    former, now = ({"name": name, "tsal.window": 3, "code": code} for name, code in (("other", "a"), ("line", "b")))
    with pytest.raises(Interrupted):
        train_line(tmp_path, fail_at=17, fingerprint=former)
    assert capsys.readouterr().out == ""  # nothing was there
    _, _, fractions = train_line(tmp_path, fingerprint=now)
    assert fractions[0] == 0 and len(fractions) == 23
    expected = "line: trained anew, since name, code differ; 10 steps of the former are discarded\n"
    assert capsys.readouterr().out == expected
    train_line(tmp_path, fingerprint=now)
    assert capsys.readouterr().out == ""  # it goes on


def test_a_result_of_another_fingerprint_is_replaced_and_a_line_says_what_differs(tmp_path, capsys):
    save_checkpoint(tmp_path / "model.pt", {"fingerprint": {"name": "line", "code": "a"}})
    train_line(tmp_path, fingerprint={"name": "line", "code": "b"})
    assert capsys.readouterr().out == "line: trained anew, since code differs; the former is replaced\n"


def test_the_history_has_means_over_ten_steps_and_a_short_last_row(tmp_path):
    _, history, fractions = train_line(tmp_path)
    assert [row["step"] for row in history] == [10, 20, 23]
    assert all(math.isnan(row["gap"]) for row in history)  # never known
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx([row["loss"] for row in history], rel=1e-4)
    assert fractions[-1] == 22 / 23


# --- numbers that go wrong ---


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path, value):
    with pytest.raises(RunError, match=rf"line: the loss is {value} at step 17; .*train.on_nonfinite=skip") as caught:
        train_line(tmp_path, loss=lambda step: torch.tensor(value if step == 17 else 1.0))
    assert "\n" not in str(caught.value) and load_checkpoint(tmp_path / "last.pt")["step"] == 10
    [alarm] = read_alarms(tmp_path)
    assert alarm == {
        "alarm": f"not finite: the loss is {value}",
        "step": 17,
        "seed": 116,
        "rows": ["list:16 16.jpg"],
    }


def test_a_gradient_that_is_not_finite_ends_the_run_before_it_is_kept(tmp_path):
    """At step 10 a checkpoint is due: the loss is still a number, the weights are none."""
    with pytest.raises(RunError, match="line: a weight is not finite at step 10"):
        train_line(tmp_path, break_at=(10,))
    assert not (tmp_path / "last.pt").exists()


def test_a_step_that_is_skipped_changes_nothing(tmp_path):
    """Without steps 7 and 12: the same weights as where these steps were never learned."""
    net, history, _ = train_line(tmp_path, "train.on_nonfinite=skip", break_at=(7, 12))
    torch.manual_seed(0)
    expected = nn.Linear(3, 1)
    optimiser = make_optimiser(expected, TrainConfig(optimiser="adamw"), 0.05)
    for step in set(range(23)) - {6, 11}:
        step_optimiser(optimiser, expected, expected(Numbers(step).value).square().mean(), 1.0, 0.0)
    assert torch.equal(vector(net), vector(expected))
    assert [row["skipped"] for row in history] == pytest.approx([0.1, 0.1, 0.0])
    assert [alarm["step"] for alarm in read_alarms(tmp_path)] == [7, 12]


def test_skipped_steps_are_kept_once_by_a_run_that_was_killed(tmp_path):
    skip = "train.on_nonfinite=skip"
    with pytest.raises(Interrupted):
        train_line(tmp_path / "cut", skip, break_at=(7, 12), fail_at=17)
    cut, _, _ = train_line(tmp_path / "cut", skip, break_at=(7, 12))
    whole, _, _ = train_line(tmp_path / "whole", skip, break_at=(7, 12))
    assert torch.equal(vector(cut), vector(whole))
    for name in ("alarms.json", "history.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    train_line(tmp_path / "cut", fingerprint={"name": "another training"})
    assert not (tmp_path / "cut" / "alarms.json").exists()


def test_alarms_of_steps_that_are_taken_again_are_dropped(tmp_path):
    """Stopped at step 17, with a checkpoint at 10: of the steps skipped, only the one before it was."""
    skip = "train.on_nonfinite=skip"
    with pytest.raises(Interrupted):
        train_line(tmp_path, skip, break_at=(7, 12), fail_at=17)
    assert [alarm["step"] for alarm in read_alarms(tmp_path)] == [7, 12]
    train_line(tmp_path, skip)  # this time step 12 is finite
    assert [alarm["step"] for alarm in read_alarms(tmp_path)] == [7]


def test_a_run_of_which_every_step_is_skipped_ends(tmp_path):
    with pytest.raises(RunError, match="line: 10 steps after one another are not finite"):
        train_line(tmp_path, "train.on_nonfinite=skip", break_at=range(3, 24))
    assert [alarm["step"] for alarm in read_alarms(tmp_path)] == list(range(3, 13))


@pytest.mark.parametrize("term, kind", [("spread", "collapse"), ("target_weight", "silence")])
def test_a_self_training_that_fails_is_told_and_kept_once_or_ends(tmp_path, capsys, term, kind):
    def terms(batch, fraction):
        value = 1.0 if fraction < 0.3 else 0.001
        return {"loss": torch.tensor(1.0), term: torch.tensor(value)}

    def train(folder, *options):
        net = nn.Linear(1, 1)
        shared = {"label": "semi", "steps": 100, "make_batch": Numbers, "state": {"net": net}, "fingerprint": {}}
        chosen, device = config("train.checkpoint_every=10", *options), torch.device("cpu")
        return fit(folder, step_function=terms, config=chosen, device=device, **shared)[0]

    history = train(tmp_path / "told")
    [alarm] = read_alarms(tmp_path / "told")
    assert alarm["alarm"].startswith(f"{kind}: ") and alarm["rows"] == [
        f"list:{alarm['step'] - 1} {alarm['step'] - 1}.jpg"
    ]
    assert [row["alarms"] for row in history] == [int(row["step"] >= alarm["step"]) for row in history]
    assert capsys.readouterr().out.count(f"alarm: semi, step {alarm['step']}: {kind}") == 1
    with pytest.raises(RunError, match=rf"semi: stopped at step {alarm['step']} \(train.on_alarm=stop\): {kind}"):
        train(tmp_path / "ended", "train.on_alarm=stop")
    assert (tmp_path / "ended/history.csv").exists()
    assert load_checkpoint(tmp_path / "ended/last.pt")["step"] == alarm["step"] - 10


# --- what comes from outside ---


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_its_step_which_is_kept(tmp_path, number, status):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped, match="line: 13 of 23 steps are kept; the same command goes on from there") as caught:
        train_line(tmp_path / "cut", on=lambda step: step == 13 and os.kill(os.getpid(), number))
    assert caught.value.status == status and load_checkpoint(tmp_path / "cut/last.pt")["step"] == 13
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed, _, fractions = train_line(tmp_path / "cut")
    assert len(fractions) == 10
    assert torch.equal(vector(resumed), vector(train_line(tmp_path / "whole")[0]))


def test_a_signal_at_the_last_step_loses_nothing(tmp_path):
    with pytest.raises(Stopped, match="line: 23 of 23 steps are kept"):
        train_line(tmp_path / "cut", on=lambda step: step == 23 and os.kill(os.getpid(), signal.SIGTERM))
    resumed, history, fractions = train_line(tmp_path / "cut")
    assert fractions == [] and len(history) == 3
    assert torch.equal(vector(resumed), vector(train_line(tmp_path / "whole")[0]))


def test_a_second_signal_ends_the_run_at_once_and_the_former_checkpoint_stays(tmp_path):
    def twice(step):
        if step == 13:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train_line(tmp_path, on=twice)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 10


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    def full(content, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)

    with pytest.raises(OSError, match="No space left on device"):
        train_line(tmp_path, on=lambda step: step == 15 and monkeypatch.setattr(checkpoints.torch, "save", full))
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "last.pt"]
    monkeypatch.undo()
    assert len(train_line(tmp_path)[2]) == 13


def test_a_gpu_without_memory_is_one_line_that_names_the_settings(tmp_path):
    def full(step):
        if step == 15:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(RunError, match="line: the GPU's memory is full at step 15; set supervised.batch, ") as caught:
        train_line(tmp_path, on=full)
    assert "\n" not in str(caught.value) and load_checkpoint(tmp_path / "last.pt")["step"] == 10


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".last.pt.4194305.tmp.pt"  # no process has such a number
    left.write_bytes(b"half a checkpoint")
    train_line(tmp_path)
    assert not left.exists()


def test_a_damaged_list_of_alarms_is_named(tmp_path):
    (tmp_path / "alarms.json").write_text(json.dumps([{"alarm": "x"}])[:-3])
    with pytest.raises(ValueError, match="alarms.json: is damaged; delete it"):
        read_alarms(tmp_path)
