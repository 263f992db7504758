"""Rates measured in turns: each task under its condition, the best of a few rounds over all tasks."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

Key = tuple[str, str]  # what and setting: a task's name, and its row's


@dataclass(frozen=True)
class Condition:
    """Threads of an operator (None: as they are), and whether a busy process of one thread runs beside."""

    threads: int | None = None
    busy: bool = False

    @contextmanager
    def hold(self) -> Iterator[subprocess.Popen | None]:
        before = torch.get_num_threads()
        process = None
        try:
            if self.busy:
                command = [sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"]
                process = subprocess.Popen(command, stdout=subprocess.PIPE)
                process.stdout.readline()  # it is busy from now on
            if self.threads:
                torch.set_num_threads(self.threads)
            yield process
        finally:
            torch.set_num_threads(before)
            if process:
                process.kill()
                process.wait()
                process.stdout.close()

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else ""
        return ("beside a busy process" if self.busy else "alone") + threads


@dataclass(frozen=True)
class Task:
    """What a row measures.

    ``notes``: texts with {more} (this rate over another's) or {less} (the other's over this one), each with the key of
    that task of the same call.
    """

    what: str
    setting: str
    unit: str  # of what ``job`` returns, a second
    job: Callable[[], float]  # does some work, returns how much
    condition: Condition = Condition()
    note: str = ""
    notes: Mapping[str, Key] = field(default_factory=dict)
    share_of: Key | None = None  # of another rate, of the same unit

    @property
    def key(self) -> Key:
        return self.what, self.setting


def measure(tasks: Sequence[Task], rounds: int, least: float, limit: float = float("inf")) -> dict[Key, float]:
    """Best rate of each task, per second.

    A round takes turns over all tasks and gives each ``least`` seconds or more. After the first, none is begun that
    would end after ``limit`` seconds, and one that goes on for longer is left.
    """
    best, started = dict.fromkeys((task.key for task in tasks), 0.0), time.perf_counter()
    if len(best) < len(tasks):
        raise ValueError("two tasks of one name")
    with tqdm(total=rounds * len(tasks), desc="bench", unit="measurement", mininterval=1) as bar:
        for done in range(rounds):
            spent = time.perf_counter() - started
            if done and spent * (done + 1) / done > limit:
                break
            for task in tasks:
                if done and time.perf_counter() - started > limit:
                    break
                with task.condition.hold():
                    best[task.key] = max(best[task.key], rate(task.job, least))
                bar.update()
    return best


def rate(job: Callable[[], float], least: float) -> float:
    """Of one job, per second, repeated until ``least`` seconds are over."""
    done, seconds, started = 0.0, 0.0, time.perf_counter()
    while not done or seconds < least:
        done += job()
        seconds = time.perf_counter() - started
    return done / seconds


def rows_of(tasks: Sequence[Task], rates: Mapping[Key, float]) -> list[dict]:
    """Rows of :data:`tsal.bench.report.COLUMNS`."""
    rows = []
    for task in tasks:
        value = rates[task.key]
        ratios = {text: (value / rates[other], rates[other] / value) for text, other in task.notes.items()}
        ratios = [text.format(more=more, less=less) for text, (more, less) in ratios.items()]
        note = "; ".join([*filter(None, [task.note]), *ratios])
        share = value / rates[task.share_of] if task.share_of else None
        rows.append(row(task.what, task.setting, value, f"{task.unit}/s", share=share, note=note))
    return rows


def row(what: str, setting: str, value: float | None, unit: str, *, share=None, peak=None, note: str = "") -> dict:
    return {
        "what": what,
        "setting": setting,
        "value": value,
        "unit": unit,
        "share": share,
        "peak GB": peak,
        "note": note,
    }


def peak_memory() -> float:
    """Largest memory of this process so far, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
