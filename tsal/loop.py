"""The loop around a step: batches ahead, a history, checkpoints, resuming; what is done, and how long it took."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tsal.config import Config, flatten
from tsal.data import Batch, prefetch
from tsal.guard import Guard
from tsal.utils import (
    InputError,
    Stopped,
    StopSignals,
    ThreadWatch,
    first_of,
    gather_from_processes,
    load_checkpoint,
    processes,
    rank,
    remove_unfinished,
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
    threads: ThreadWatch | None = None,
) -> tuple[list[dict[str, float]], float]:
    """Run ``steps`` steps from the last checkpoint of ``folder``, if it is of the same run.

    Returns the history (also written) and the seconds that training took, those before a resume included. Of several
    processes, each steps on its part of the batches; the first one writes. A resumed training ends as one that was
    never stopped, to the bit: batches and noise depend on seed and step alone, and all else is in the checkpoint.

    Args:
        step_function: (batch, fraction of the run in [0, 1]) -> terms to record.
        state: all that a checkpoint must hold; loaded in place.
        fingerprint: what decides the result. A checkpoint of another one, or a former result, is replaced by this
            training; a line says so, and what differs.
        models: more numbers for each row of the history.
        keep: called with the number of steps done, after those of ``keep_at``.
        threads: where two halves of a step share them; else of the whole step.

    Raises:
        RunError: numbers that are not finite, or another end that :class:`~tsal.guard.Guard` sees.
        Stopped: a signal asked for it; a checkpoint is kept.
    """
    path, train = folder / "last.pt", config.train
    done = _resume(folder, label, state, fingerprint, device)
    start, history, sums, counts = done["step"], done["history"], done["sums"], done["counts"]
    started = time.perf_counter() - done["seconds"]
    first, threads = rank() == 0, threads or ThreadWatch()
    if first:
        remove_unfinished(folder)
    guard = Guard(folder, label, state, start, config, device)

    def save(step: int) -> None:
        guard.look()
        progress = {"step": step, "history": history, "terms": list(sums), "sums": _of_all_processes(sums, counts)}
        if first:
            parts = {name: item.state_dict() for name, item in state.items()}
            progress["seconds"] = time.perf_counter() - started
            save_checkpoint(path, progress | {"state": parts, "fingerprint": fingerprint})

    with StopSignals() as signals, _progress_bar(label, steps, start) as bar, _kept(folder, history):
        batches = prefetch(make_batch, range(start, steps), config.data.workers)
        for step, batch in zip(range(start, steps), batches):
            for name, value in guard.step(step, batch, partial(step_function, fraction=step / steps)).items():
                value = value.detach().to(device, torch.float32)
                known = ~value.isnan()  # a term may be undefined
                sums[name] = sums.get(name, 0.0) + torch.where(known, value, 0.0)
                counts[name] = counts.get(name, 0.0) + known.float()
            bar.update()
            end_of_row = (step + 1) % LOG_EVERY == 0 or step + 1 == steps
            if end_of_row:
                guard.look()
                row = _means(sums, counts)
                history.append({"step": step + 1} | row | (models() if models else {}) | {"threads": threads.adjust()})
                sums, counts = {}, {}
                bar.set_postfix(loss=f"{row.get('loss', math.nan):.3f}", refresh=False)
                history[-1]["alarms"] = guard.watch(history, batch)
            if keep and first and step + 1 in keep_at:
                keep(step + 1)
            request = _asked(signals, end_of_row)
            if request or (step + 1) % train.checkpoint_every == 0 and step + 1 < steps:
                save(step + 1)
            if request:
                raise Stopped(
                    f"{label}: {step + 1} of {steps} steps are kept; the same command goes on from there", request
                )
    return history, time.perf_counter() - started


@contextmanager
def _kept(folder: Path, history: list[dict[str, float]]) -> Iterator[None]:
    """However the training ends, its rows are there to look at."""
    try:
        yield
    finally:
        if rank() == 0 and history:
            write_history(folder / "history.csv", history)
        elif rank() == 0:
            (folder / "history.csv").unlink(missing_ok=True)  # of a training of other settings


def _asked(signals: StopSignals, end_of_row: bool) -> int:
    """The signal that asks to stop after this step, or 0; all processes stop after the same one, at a row's end."""
    if processes() == 1:
        return signals.asked
    return int(gather_from_processes(torch.tensor(signals.asked)).max()) if end_of_row else 0


def _progress_bar(label: str, steps: int, start: int) -> tqdm:
    return tqdm(
        total=steps, initial=start, desc=label, unit="step", mininterval=1, dynamic_ncols=True, disable=rank() > 0
    )


def _of_all_processes(sums: dict[str, Tensor], counts: dict[str, Tensor]) -> Tensor:
    """Sum and count of each term in each process (P, terms, 2)."""
    if not sums:
        return torch.zeros((processes(), 0, 2))
    return gather_from_processes(torch.stack([torch.stack([sums[name], counts[name]]) for name in sums])).cpu()


def _means(sums: dict[str, Tensor], counts: dict[str, Tensor]) -> dict[str, float]:
    """Mean of each term over the steps, and over all processes; NaN where it was never known."""
    totals = _of_all_processes(sums, counts).double().sum(0)
    return {name: float(total / count) for name, (total, count) in zip(sums, totals)}


def _resume(folder: Path, label: str, state: dict, fingerprint: dict, device: torch.device) -> dict:
    """Load the checkpoint of the same training, if there is one -> its progress, or that of one not begun."""
    # by way of the CPU: on a GPU, AdamW's counts of steps would stay there, and each step wait for every one of them
    path, result = folder / "last.pt", folder / "model.pt"
    content = load_checkpoint(path) if path.exists() else {}
    if not content or content.get("fingerprint") != fingerprint:
        if (content or result.exists()) and rank() == 0:
            former = (content or load_checkpoint(result)).get("fingerprint", {})
            lost = f"{content['step']} steps of the former are discarded" if content else "the former is replaced"
            tqdm.write(f"{label}: trained anew, since {_apart(former, fingerprint)}; {lost}")
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


def _apart(former: dict, now: dict) -> str:
    """The first parts of two fingerprints that differ, and that they do."""
    missing = object()  # None is a value
    names = [name for name in now | former if former.get(name, missing) != now.get(name, missing)]
    return f"{first_of(names, 3)} differ{'s' * (len(names) == 1)}"


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
    """Whether a training's result is there, and was made from the same settings, data and code; what resuming needed,
    which a process that was killed at the very end left, is then removed.
    """
    done = path.exists() and load_checkpoint(path).get("fingerprint") == fingerprint
    if done and rank() == 0:
        path.with_name("last.pt").unlink(missing_ok=True)
    return done


def refuse_former(path: Path, fingerprint: dict, again: str) -> None:
    """Raise where a training's result is missing, or made from other settings, scheme or faces; the code may be
    another. ``again``: what makes it anew.
    """
    if not path.exists():
        raise InputError(f"{path}: not trained yet; {again}")
    former, now = flatten("", load_checkpoint(path).get("fingerprint", {})), flatten("", fingerprint)
    apart = [name for name in now if name in former and name != "code" and former[name] != now[name]]
    if apart:  # names that one version alone has tell nothing
        was, has = (", ".join(f"{name}={str(values[name]):.40}" for name in apart[:3]) for values in (former, now))
        raise InputError(f"{path} was trained with {was}; the run has {has}; {again}")


def record_time(folder: Path, steps: int, seconds: float) -> None:
    write_text(folder / "time.json", json.dumps({"steps": steps, "seconds": round(seconds, 1)}) + "\n")
