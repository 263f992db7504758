"""What watches over a training's steps: numbers that are not finite, and a self-training that fails."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from tsal.alarms import History, grave_alarms
from tsal.config import Config
from tsal.data import Batch, PointPairs
from tsal.utils import InputError, RunError, rank, sum_over_processes, tqdm, write_text

NOT_FINITE = "not finite"
MOST_SKIPPED = 10  # steps after one another: then there is nothing to go on with


class Guard:
    """Looks at each step's loss and at the weights after it; what goes wrong is kept in ``<folder>/alarms.json``, with
    the step's faces and seed.

    A gradient that is not finite makes weights that are not, so that looking at these finds both. On a GPU a look waits
    for the step's end: it is taken before a checkpoint or a row of the history, or, where steps are skipped, each time.

    Args:
        state: modules and optimisers of the training.
        start: step that it goes on from; what is kept of later ones is of a process that was stopped.
    """

    def __init__(self, folder: Path, label: str, state: dict, start: int, config: Config, device: torch.device):
        self.path, self.label, self.state, self.train = folder / "alarms.json", label, state, config.train
        self.device, self.skips = device, config.train.on_nonfinite == "skip"
        self._each = self.skips or device.type == "cpu"
        modules = [item for item in state.values() if isinstance(item, nn.Module)]
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        self._weights = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        self._unseen: list[tuple[dict, Tensor, Tensor]] = []
        entries = read_alarms(folder)
        self._kept = [entry for entry in entries if entry["step"] <= start]
        if len(self._kept) < len(entries) and rank() == 0:
            self._write()

    def step(self, number: int, batch: Batch | PointPairs, take: Callable[[Batch], dict[str, Tensor]]) -> dict:
        """The terms of the step after ``number`` others, which ``take(batch)`` makes; ``skipped`` alone where it was
        undone.

        Raises:
            RunError: something is not finite, and such steps are not skipped, or a number of them was; or the GPU's
                memory is full.
        """
        before = {name: copy.deepcopy(item.state_dict()) for name, item in self.state.items()} if self.skips else {}
        try:
            terms = take(batch.to(self.device))
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"{self.label}: the GPU's memory is full at step {number + 1}; set supervised.batch, semi.batch, "
                "semi.clips, semi.images, tracker.batch or data.cache_mb (flows) lower, or train.device=cpu; the last "
                "checkpoint is kept"
            ) from error
        loss = terms["loss"].detach()
        about = {"step": number + 1, "seed": batch.seed, "rows": list(batch.faces)}
        self._unseen.append((about, loss, get_total_norm(self._weights).isfinite() & loss.isfinite()))
        if not self.skips:
            if self._each:
                self.look()
            return terms
        if not self._first_broken():
            return terms | {"skipped": torch.zeros(())}
        for name, item in self.state.items():
            item.load_state_dict(before[name])
        broken = {entry["step"] for entry in self._kept if entry["alarm"].startswith(NOT_FINITE)}
        if broken >= set(range(number + 2 - MOST_SKIPPED, number + 2)):
            raise RunError(f"{self.label}: {MOST_SKIPPED} steps after one another are not finite; see {self.path}")
        return {"skipped": torch.ones(())}

    def look(self) -> None:
        """Look at the steps since the last look.

        Raises:
            RunError: one is not finite.
        """
        if what := self._first_broken():
            raise RunError(
                f"{self.label}: {what}; lower the learning rate, or leave such steps out (train.on_nonfinite=skip); "
                f"the last checkpoint is kept, and {self.path} names the step's faces"
            )

    def _first_broken(self) -> str:
        """What is not finite in the first of the unseen steps that is not, which is kept; else nothing."""
        unseen, self._unseen = self._unseen, []
        for about, loss, finite in unseen:
            if float(sum_over_processes((~finite).float())):
                what = "a weight is not finite" if loss.isfinite() else f"the loss is {float(loss)}"
                self._keep(f"{NOT_FINITE}: {what}", about)
                return f"{what} at step {about['step']}"
        return ""

    def watch(self, history: History, batch: Batch | PointPairs) -> int:
        """Look for alarms that a training does not recover from -> their number; the first of a kind is told and kept.

        Raises:
            RunError: there is one, and ``train.on_alarm`` is stop.
        """
        alarms, step = grave_alarms(history), int(history[-1]["step"])
        for line in alarms:
            if not any(_kind(entry["alarm"]) == _kind(line) for entry in self._kept):
                self._keep(line, {"step": step, "seed": batch.seed, "rows": list(batch.faces)})
                if rank() == 0:
                    tqdm.write(f"alarm: {self.label}, step {step}: {line}")
        if alarms and self.train.on_alarm == "stop":
            raise RunError(
                f"{self.label}: stopped at step {step} (train.on_alarm=stop): {alarms[0]}; the last checkpoint is kept"
            )
        return len(alarms)

    def _keep(self, alarm: str, about: dict) -> None:
        self._kept.append({"alarm": alarm} | about)
        if rank() == 0:
            self._write()

    def _write(self) -> None:
        if self._kept:
            write_text(self.path, json.dumps(self._kept, indent=1) + "\n")
        else:
            self.path.unlink(missing_ok=True)


def read_alarms(folder: Path) -> list[dict]:
    """What is kept of a training's alarms: ``alarm``, ``step``, and its batch's ``seed`` and ``rows`` of the lists."""
    path = folder / "alarms.json"
    try:
        entries = json.loads(path.read_text()) if path.exists() else []
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(e, dict) and e.keys() >= {"alarm", "step"} for e in entries):
        raise InputError(f"{path}: is damaged; delete it")
    return entries


def _kind(alarm: str) -> str:
    return alarm.partition(":")[0]
