"""A device's clock, and the rows of a benchmark: kept in a file from the first one on; a failure is a row, too."""

from __future__ import annotations

import gc
import json
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from tsal.utils import markdown_table, write_text

COLUMNS = ("what", "setting", "value", "unit", "share", "peak GB", "note")
ROW_LIMIT = 60.0  # seconds of a row that compiles nothing


class Report:
    """The rows so far, in a file from the first one on; no attempt goes on past second ``until``."""

    def __init__(self, out: Path, facts: dict, until: float = math.inf):
        self.out, self.facts, self.until, self.rows, self.started = out, facts, until, [], time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def add(self, what: str, setting: str, value: float | None = None, unit: str = "", **more) -> None:
        row = dict(zip(COLUMNS, (what, setting, value, unit, None, None, ""))) | more
        self.rows.append(row)
        facts = self.facts | {"seconds": round(self.elapsed, 1)}
        write_text(self.out, json.dumps({"environment": facts, "rows": self.rows}, indent=1) + "\n")
        print(f"{self.elapsed:4.0f} s  {' '.join(map(text, row.values()))}", file=sys.stderr, flush=True)

    def attempt(self, what: str, setting: str, job: Callable[[], dict], limit: float = ROW_LIMIT) -> dict:
        """Add what ``job`` finds, or why it failed; interrupted after ``limit`` seconds."""
        left = min(limit, self.until - self.elapsed)
        try:
            if left < 1 and left < limit:
                raise TimeoutError("no time left for it")
            with deadline(left):
                cells = job()
        except Exception as error:  # one row's failure must not cost the others
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            cells = {"note": f"failed: {type(error).__name__}: {reason}".replace("|", "/")}
        gc.collect()  # learners and their optimisers hold each other
        self.add(what, setting, **cells)
        return cells


def text(value) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_table(rows: Sequence[dict]) -> str:
    return markdown_table(COLUMNS, ([text(row[name]) for name in COLUMNS] for row in rows))


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """TimeoutError in what takes longer; in the main thread alone."""

    def stop(*_) -> None:
        raise TimeoutError(f"took over {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Device:
    """Clock and memory of a device."""

    def __init__(self, name: str, quick: bool):
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        self.cuda, self.warm, self.repeats = self.device.type == "cuda", 1 if quick else 3, 2 if quick else 7

    def seconds(self, job: Callable[[], object]) -> float:
        """Median time of a job, waited for."""
        for _ in range(self.warm):
            job()
        times = []
        for _ in range(self.repeats):
            self.wait()
            started = time.perf_counter()
            job()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def fresh(self) -> None:
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 2**30 if self.cuda else None

    def precision(self, name: str):
        return torch.autocast(self.device.type, torch.bfloat16) if name == "bf16" else nullcontext()
