"""How many threads a command computes with: as many as cores are free.

Threads of one operator wait for one another, so beside one busy process a second thread makes a step several times
slower instead of faster.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
SAMPLE = 0.25  # seconds
BUSY = (0, 1, 2, 5, 6, 7)  # columns of /proc/stat: user, nice, system, irq, softirq, steal


def free_cores() -> tuple[int, str]:
    """Cores that are free for this process, at least 1, and why not more; looks for a quarter of a second."""
    cores = allowed_cores()
    return choose(len(cores), quota(), used_by_others(cores))


def use_free_cores() -> int:
    """Let torch compute with the free cores -> threads used; says so on stderr where it is fewer than without.

    Nothing changes where OMP_NUM_THREADS is set.
    """
    import torch

    usual = torch.get_num_threads()
    if os.environ.get("OMP_NUM_THREADS"):
        return usual
    free, reason = free_cores()
    if free >= usual:
        return usual
    torch.set_num_threads(free)
    print(f"threads: {free} instead of {usual}: {reason} (OMP_NUM_THREADS sets another number)", file=sys.stderr)
    return free


class ThreadWatch:
    """Keeps torch's threads at the cores that are free while others come and go; never above those at its start.

    ``sides`` pieces of work that are done at once share the ``free`` ones. With one thread, or where OMP_NUM_THREADS is
    set, nothing is looked at and nothing changes.
    """

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self.free, self.sides = torch.get_num_threads(), 1
        self.most = 1 if os.environ.get("OMP_NUM_THREADS") else self.free
        self._cores = allowed_cores()
        self._last = self._now() if self.most > 1 else None

    def adjust(self) -> int:
        """Look at what others used since the last look, if that was a second ago or more -> threads of a side from now
        on.
        """
        if self._last is not None:
            now = self._now()
            if now is None:
                self._last = None
            elif now[0] - self._last[0] >= 1:
                others = max(0.0, (now[1] - self._last[1]) - (now[2] - self._last[2])) / (now[0] - self._last[0])
                self.free = min(self.most, choose(len(self._cores), quota(), others)[0])
                self._torch.set_num_threads(max(1, self.free // self.sides))
                self._last = now
        return self._torch.get_num_threads()

    def _now(self) -> tuple[float, float, float] | None:
        """Clock, seconds that the cores were busy, seconds that this process was."""
        try:
            busy = busy_ticks((PROC / "stat").read_text(), self._cores) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return None
        return time.perf_counter(), busy, time.process_time()


def choose(cores: int, limit: float | None, others: float) -> tuple[int, str]:
    """Threads, and why not more.

    Args:
        cores: that the process may run on.
        limit: cores' worth of time that its group may take, a whole thread for each full one; None: no limit.
        others: cores' worth of time that other processes take; half a core leaves that core to them.
    """
    beside = max(1, math.ceil(cores - others - 0.5))
    if limit is not None and int(limit) < beside:
        return max(1, int(limit)), f"a quota of {limit:g} of {cores} cores"
    return beside, f"other processes use {others:.1f} of {cores} cores"


# --- what the machine says ---


def allowed_cores() -> set[int]:
    """Numbers of the cores that the process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def quota() -> float | None:
    """Cores' worth of time that the process' control group, or one above it, may take; None where there is no limit."""
    try:
        name = group_name((PROC / "self" / "cgroup").read_text())
    except OSError:
        return None
    limits = []
    for folder in (CGROUP / name, *(CGROUP / name).parents):
        if not folder.is_relative_to(CGROUP):
            break
        try:
            limits.append(quota_of((folder / "cpu.max").read_text()))
        except OSError:  # the topmost group has none
            continue
    return min((limit for limit in limits if limit is not None), default=None)


def used_by_others(cores: set[int], seconds: float = SAMPLE) -> float:
    """Cores' worth of time that all but this process take of ``cores``, over a sample; 0 where it cannot be told."""
    try:
        before, own = busy_ticks((PROC / "stat").read_text(), cores), time.process_time()
        started = time.perf_counter()
        time.sleep(seconds)
        after, own = busy_ticks((PROC / "stat").read_text(), cores), time.process_time() - own
    except OSError:
        return 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    return max(0.0, ((after - before) / ticks - own) / (time.perf_counter() - started))


# --- its texts ---


def busy_ticks(stat: str, cores: set[int]) -> int:
    """Ticks that ``cores`` were not idle since the start, of the text of /proc/stat; a core that it lacks counts 0."""
    total = 0
    for line in stat.splitlines():
        name, *numbers = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            total += sum(int(numbers[column]) for column in BUSY if column < len(numbers))
    return total


def group_name(cgroup: str) -> str:
    """The process' group, relative to the topmost one, of the text of /proc/self/cgroup (version 2)."""
    names = [line[3:] for line in cgroup.splitlines() if line.startswith("0::")]
    return names[0].strip("/") if names else ""


def quota_of(cpu_max: str) -> float | None:
    """Cores of the text of cpu.max ("<microseconds> <of>"); None where it is "max" or no such text."""
    try:
        time_us, period_us = cpu_max.split()
        return None if time_us == "max" else int(time_us) / int(period_us)
    except ValueError:
        return None
