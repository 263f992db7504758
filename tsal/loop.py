"""The loop around a step: batches ahead, a history, checkpoints, resuming; what is done, and how long it took."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tsal.config import Config
from tsal.data import Batch, prefetch
from tsal.utils import (
    ThreadWatch,
    gather_from_processes,
    load_checkpoint,
    processes,
    rank,
    save_checkpoint,
    tqdm,
    write_text,
)

LOG_EVERY = 10  # steps per row of the history


def fit(
    folder: Path,
    *,
    label: str,
    steps: int,
    make_batch: Callable[[int], Batch],
    step_function: Callable[[Batch, float], dict[str, Tensor]],
    state: dict[str, nn.Module | torch.optim.Optimizer],
    fingerprint: dict,
    config: Config,
    device: torch.device,
    models: Callable[[], dict[str, float]] | None = None,
    keep: Callable[[int], None] | None = None,
    keep_at: Collection[int] = (),
) -> tuple[list[dict[str, float]], float]:
    """Run ``steps`` steps from the last checkpoint of ``folder``, if it is of the same run.

    Returns the history (also written) and the seconds that training took, those before a resume included. Of several
    processes, each steps on its part of the batches; the first one writes.

    Args:
        step_function: (batch, fraction of the run in [0, 1]) -> terms to record.
        state: all that a checkpoint must hold; loaded in place.
        fingerprint: the settings that decide the result; a checkpoint with others is left aside.
        models: more numbers for each row of the history.
        keep: called with the number of steps done, after those of ``keep_at``.
    """
    path, train = folder / "last.pt", config.train
    done = _resume(path, state, fingerprint, device)
    start, history, sums, counts = done["step"], done["history"], done["sums"], done["counts"]
    started = time.perf_counter() - done["seconds"]
    first, threads = rank() == 0, ThreadWatch()
    bar = tqdm(
        total=steps, initial=start, desc=label, unit="step", mininterval=1, dynamic_ncols=True, disable=not first
    )
    batches = prefetch(make_batch, range(start, steps), config.data.workers)
    for step, batch in zip(range(start, steps), batches):
        for name, value in step_function(batch.to(device), step / steps).items():
            value = value.detach().to(device, torch.float32)
            known = ~value.isnan() | (name == "loss")  # a term may be undefined (NaN), the loss may not
            sums[name] = sums.get(name, 0.0) + torch.where(known, value, 0.0)
            counts[name] = counts.get(name, 0.0) + known.float()
        bar.update()
        if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
            row = _means(sums, counts)
            history.append({"step": step + 1} | row | (models() if models else {}) | {"threads": threads.adjust()})
            sums, counts = {}, {}
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            if not math.isfinite(row["loss"]):
                raise FloatingPointError(
                    f"{label}: the loss is {row['loss']} at step {step + 1}; lower supervised.lr, or see {path}"
                )
        if keep and first and step + 1 in keep_at:
            keep(step + 1)
        if (step + 1) % train.checkpoint_every == 0 and step + 1 < steps:
            progress = {
                "step": step + 1,
                "history": history,
                "terms": list(sums),
                "sums": _of_all_processes(sums, counts),
                "seconds": time.perf_counter() - started,
            }
            if first:
                parts = {name: item.state_dict() for name, item in state.items()}
                save_checkpoint(path, progress | {"state": parts, "fingerprint": fingerprint})
    bar.close()
    if first:
        write_history(folder / "history.csv", history)
    return history, time.perf_counter() - started


def _of_all_processes(sums: dict[str, Tensor], counts: dict[str, Tensor]) -> Tensor:
    """Sum and count of each term in each process (P, terms, 2)."""
    if not sums:
        return torch.zeros((processes(), 0, 2))
    return gather_from_processes(torch.stack([torch.stack([sums[name], counts[name]]) for name in sums])).cpu()


def _means(sums: dict[str, Tensor], counts: dict[str, Tensor]) -> dict[str, float]:
    """Mean of each term over the steps, and over all processes; NaN where it was never known."""
    totals = _of_all_processes(sums, counts).double().sum(0)
    return {name: float(total / count) for name, (total, count) in zip(sums, totals)}


def _resume(path: Path, state: dict, fingerprint: dict, device: torch.device) -> dict:
    """Load the checkpoint of the same run, if there is one -> its progress, or that of a run not begun."""
    # by way of the CPU: on a GPU, AdamW's counts of steps would stay there, and each step wait for every one of them
    content = load_checkpoint(path) if path.exists() else {}
    if not content or content.get("fingerprint") != fingerprint:
        return {"step": 0, "history": [], "sums": {}, "counts": {}, "seconds": 0.0}
    for name, item in state.items():
        item.load_state_dict(content["state"][name])
    every = content["sums"]
    if len(every) == processes():
        own = every[rank()]
    else:  # another number of processes goes on: the first has all that was summed so far
        own = every.sum(0) * (rank() == 0)
    sums, counts = (dict(zip(content["terms"], part.to(device).unbind())) for part in own.unbind(-1))
    return content | {"sums": sums, "counts": counts}


def write_history(path: Path, history: Iterable[dict[str, float]]) -> None:
    """A CSV with one row for every few steps."""
    rows = list(history)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def seed_everything(seed: int) -> None:
    """For the initial weights; batches and noise have seeds of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def is_done(path: Path, fingerprint: dict) -> bool:
    """Whether a training's result is there, and was made from the same settings, data and code."""
    return path.exists() and load_checkpoint(path).get("fingerprint") == fingerprint


def record_time(folder: Path, steps: int, seconds: float) -> None:
    write_text(folder / "time.json", json.dumps({"steps": steps, "seconds": round(seconds, 1)}) + "\n")
