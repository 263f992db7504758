"""How many threads: what affinity, quota and other processes leave, from faked texts of the system."""

from __future__ import annotations

import threading

import pytest
import torch

from tsal.utils import parallel, threads

STAT = """cpu  1 2 3 4 5 6 7 8 0 0
cpu0 100 10 20 5000 70 3 4 5 900 0
cpu1 1000 0 0 5000 0 0 0 0 0 0
cpu10 7 0 0 0 0 0 0 0 0 0
intr 12345 0 0
ctxt 99
"""


def test_busy_time_is_that_of_the_named_cores_without_idle_waiting_and_guests():
    assert threads.busy_ticks(STAT, {0}) == 100 + 10 + 20 + 3 + 4 + 5
    assert threads.busy_ticks(STAT, {0, 1}) == 142 + 1000
    assert threads.busy_ticks(STAT, {10, 11}) == 7  # not core 1; core 11 is not there
    assert threads.busy_ticks("cpu0 1 2 3 4\n\n", {0}) == 6  # an old kernel has fewer columns
    assert threads.busy_ticks("", {0}) == 0


@pytest.mark.parametrize(
    "text, cores",
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2.0),
        ("50000 100000", 0.5),
        ("150000 100000", 1.5),
        ("", None),
        ("a b", None),
    ],
)
def test_a_quota_is_time_over_its_period(text, cores):
    assert threads.quota_of(text) == cores


def test_the_group_is_that_of_version_2():
    assert threads.group_name("3:cpuset:/x\n0::/user.slice/job 1\n") == "user.slice/job 1"
    assert threads.group_name("0::/\n") == "" and threads.group_name("3:cpuset:/x\n") == ""


@pytest.mark.parametrize(
    "cores, limit, others, count, reason",
    [
        (2, None, 0.0, 2, "0.0 of 2"),
        (2, None, 0.3, 2, "0.3 of 2"),
        (2, None, 0.5, 1, "0.5 of 2"),  # half a core
        (2, None, 1.0, 1, "other processes use 1.0 of 2"),
        (2, None, 2.0, 1, "2.0 of 2"),  # never none
        (16, None, 6.7, 9, "6.7 of 16"),
        (16, 4.0, 0.0, 4, "a quota of 4 of 16"),
        (16, 2.5, 1.0, 2, "a quota of 2.5 of 16"),
        (16, 8.0, 14.0, 2, "14.0 of 16"),  # fewer are free than the quota has
        (4, 0.5, 0.0, 1, "a quota of 0.5 of 4"),
        (2, 64.0, 0.0, 2, "of 2"),
        (3, 2.5, 0.0, 2, "a quota of 2.5 of 3"),  # the rest of a core makes every thread wait
    ],
)
def test_threads_are_what_quota_and_others_leave(cores, limit, others, count, reason):
    number, why = threads.choose(cores, limit, others)
    assert number == count and reason in why


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of four cores whose /proc and control groups are folders; returns who sets its load."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/jobs/mine\n")
    (groups / "jobs" / "mine").mkdir(parents=True)
    monkeypatch.setattr(threads, "PROC", proc)
    monkeypatch.setattr(threads, "CGROUP", groups)
    monkeypatch.setattr(threads, "allowed_cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(threads.os, "sysconf", lambda name: 100)
    clock = iter(range(100))  # a second between any two looks
    monkeypatch.setattr(threads.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(threads.time, "process_time", lambda: 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def load(*ticks: int) -> None:
        (proc / "stat").write_text("".join(f"cpu{i} 500 0 0 0 0 0 0 0\n" for i in range(5)))
        later = "".join(f"cpu{i} {500 + busy} 0 0 0 0 0 0 0\n" for i, busy in enumerate((*ticks, 100)))
        monkeypatch.setattr(threads.time, "sleep", lambda seconds: (proc / "stat").write_text(later) and None)

    load(0, 0, 0, 0)
    return tmp_path, load, monkeypatch


def test_free_cores_are_those_that_others_leave(machine):
    _, load, _ = machine
    assert threads.free_cores()[0] == 4
    load(100, 0, 0, 60)  # 1.6 cores of a second at 100 ticks; the fifth core is not ours
    assert threads.free_cores()[0] == 2


def test_a_quota_holds_for_the_groups_below_it(machine):
    root, _, _ = machine
    (root / "cgroup" / "jobs" / "mine" / "cpu.max").write_text("max 100000\n")
    (root / "cgroup" / "jobs" / "cpu.max").write_text("300000 100000\n")
    assert threads.free_cores()[0] == 3


def test_without_proc_the_affinity_alone_counts(machine):
    root, _, monkeypatch = machine
    monkeypatch.setattr(threads, "PROC", root / "nowhere")
    assert threads.free_cores()[0] == 4


def test_torch_is_told_once_and_the_reason_is_one_line(machine, capsys):
    _, load, monkeypatch = machine
    counts = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    assert threads.use_free_cores() == 4 and counts == [] and capsys.readouterr().err == ""
    load(100, 100, 100, 0)
    assert threads.use_free_cores() == 1 and counts == [1]
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "threads: 1 instead of 4: other processes use 3.0 of 4 cores" in line


def test_a_number_of_the_user_s_own_stays(machine, capsys):
    _, load, monkeypatch = machine
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail("changed"))
    load(100, 100, 100, 100)
    assert threads.use_free_cores() == 4 and capsys.readouterr().err == ""


@pytest.fixture()
def watched(machine):
    """torch's threads, 4 at first, which may be set; and a function that says what the cores have worked in ticks."""
    root, _, monkeypatch = machine
    threads_now = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads_now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads_now.__setitem__(0, count))

    def used(ticks: int) -> None:
        (root / "proc" / "stat").write_text(f"cpu0 {ticks} 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n")

    return threads_now, used


def test_a_training_gives_a_core_up_when_another_process_comes_and_takes_it_back(watched, monkeypatch):
    threads_now, used = watched
    used(0)
    watch = threads.ThreadWatch()
    used(200)  # two cores' worth in the second that each look takes
    assert watch.adjust() == 2
    used(200)
    assert watch.adjust() == 4
    threads_now[0] = 1
    assert threads.ThreadWatch().adjust() == 1  # it started with one
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    threads_now[0] = 4
    fixed = threads.ThreadWatch()
    used(600)
    assert fixed.adjust() == 4


def test_two_halves_of_a_step_together_use_no_more_threads_than_are_free(watched):
    threads_now, used = watched

    def half() -> tuple[int, int]:
        return torch.get_num_threads(), threading.get_ident()

    used(total := 0)
    with parallel.side_by_side(watch=(watch := threads.ThreadWatch())) as together:
        for others, each, at_once in ((0, 2, True), (1, 1, True), (2, 1, True), (3, 1, False), (0, 2, True)):
            used(total := total + 100 * others)  # so many cores' worth, in the second that each look takes
            assert watch.adjust() == each
            (first, first_id), (second, second_id) = together(half, half)
            assert (first, second, first_id != second_id) == (each, each, at_once)
            assert first + second * at_once <= 4 - others
    assert threads_now == [4]
