"""The benchmark measures what it says it does; its times are not asserted."""

from __future__ import annotations

import json
import math
import os
from types import SimpleNamespace

import cv2
import pytest
import torch

from tsal.bench.clock import Condition, Task, measure, rows_of
from tsal.bench.cores import matrix_tasks, pass_tasks, precisions, tracker_tasks
from tsal.bench.gpu_step import random_batch
from tsal.bench.loader import CACHES, Loader
from tsal.bench.report import COLUMNS, text
from tsal.cli.commands import main
from tsal.config import Config
from tsal.run import Run
from tsal.stages import prepare_data


def task(name: str, job=lambda: 1, **more) -> Task:
    return Task(name, "", "frames", job, **more)


def test_each_ratio_is_to_what_its_row_says():
    tasks = [
        task("step"),
        task("fed", notes={"{more:.2f} x batch ready": ("step", "")}),
        task("loader", note="cold", notes={"feeds {more:.2f}": ("step", ""), "{less:.2f} x the time": ("fed", "")}),
        task("pass", share_of=("loader", "")),
    ]
    rates = {("step", ""): 50.0, ("fed", ""): 45.0, ("loader", ""): 100.0, ("pass", ""): 25.0}
    rows = {row["what"]: row for row in rows_of(tasks, rates)}
    assert all(tuple(row) == COLUMNS for row in rows.values())
    assert rows["step"]["note"] == "" and (rows["step"]["value"], rows["step"]["unit"]) == (50.0, "frames/s")
    assert rows["fed"]["note"] == "0.90 x batch ready"
    assert rows["loader"]["note"] == "cold; feeds 2.00; 0.45 x the time"
    assert rows["pass"]["share"] == 0.25 and rows["fed"]["share"] is None


def test_a_rate_is_the_best_of_its_rounds_and_tasks_take_turns(monkeypatch):
    turns, now = [], [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def job(name, durations):
        def work() -> int:
            turns.append(name)
            now[0] += durations[turns.count(name) - 1]
            return 6

        return work

    rates = measure([task("a", job("a", [3.0, 1.0, 2.0])), task("b", job("b", [1.5, 4.0, 3.0]))], 3, 0.0)
    assert turns == list("ababab") and rates == {("a", ""): 6.0, ("b", ""): 4.0}


def test_past_the_limit_every_task_was_measured_once():
    turns = []
    tasks = [task(name, lambda name=name: turns.append(name) or 1) for name in "ab"]
    assert all(rate > 0 for rate in measure(tasks, 3, 0.0, limit=0.0).values())
    assert turns == ["a", "b"]


def test_two_tasks_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="one name"):
        measure([task("a"), task("a")], 1, 0.0)


def test_a_condition_holds_for_its_task_alone_and_its_process_ends():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="job"), Condition(before + 1, busy=True).hold() as process:
        assert torch.get_num_threads() == before + 1 and process.poll() is None
        raise RuntimeError("job")
    assert torch.get_num_threads() == before and process.poll() is not None
    assert str(Condition(2, True)) == "beside a busy process, 2 threads" and str(Condition(1)) == "alone, 1 thread"


def test_counted_operations_are_those_of_the_networks():
    product, *_ = matrix_tasks(100)
    assert product.job() == 2 * 100**3 / 1e9
    small, large = (list(pass_tasks(Config().override({"model.input": side}), 1)) for side in (64, 96))
    forward, both = small[0].job(), small[len(precisions())].job()
    assert forward / large[0].job() == pytest.approx((64 / 96) ** 2)
    assert 2.9 * forward < both < 3 * forward  # two more products a layer, but one for the first


def test_the_tracker_is_compared_with_dis_on_one_thread_each():
    frames = SimpleNamespace(weak=torch.zeros((2, 3, 64, 64), dtype=torch.uint8), previous=[0], following=[1])
    run = SimpleNamespace(config=Config.load("smoke"))
    tracker, dis = tracker_tasks(SimpleNamespace(maker=lambda *_: lambda _: frames, run=run))
    assert tracker.condition == dis.condition == Condition(threads=1) and cv2.getNumThreads() == 1
    assert tracker.notes == {"{more:.2f} x DIS": dis.key} and tracker.setting == dis.setting


def test_its_steps_have_the_pairs_of_a_training_s(tmp_path):
    run = Run(tmp_path, Config.load("smoke"))  # two clips of three frames, in a window of three
    prepare_data(run, progress=False)
    for batch in (Loader("", run, tmp_path, quick=True).maker("TSAL", "cold")(0), random_batch(run.config, 5)):
        pairs = list(zip(batch.previous.tolist(), batch.following.tolist()))
        assert pairs == [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
        assert len(set(batch.pairs.keys)) == len(batch.pairs.first) == 6


def names(data: str) -> set[tuple[str, str]]:
    workers = {1: "1 worker"} | {count: f"{count} workers" for count in {2, os.cpu_count()} - {1}}
    keys = {(f"predict, {data}", f"batch {n}, {kind}") for n in (1, 8, 64) for kind in ("cold", "crops in memory")}
    conditions = ("alone, 1 thread", "beside a busy process, 1 thread")
    keys |= {(f"predict, {data}", f"batch 64, cold, {condition}") for condition in conditions}
    for kind in ("supervised", "TSAL"):
        keys |= {(f"{kind} step", f"{data}, {setting}") for setting in ("batch ready", "cold loader of 1 worker")}
        loader = f"loader, {kind} batches"
        keys |= {(loader, f"{data}, {cache}, {count}") for cache in CACHES for count in workers.values()}
    return keys


def others() -> set[tuple[str, str]]:
    keys = {("matrix product", f"{precision}, 1 thread") for precision in precisions()}
    for passes in ("forward", "forward and backward"):
        keys |= {(f"light detector, {passes}", f"{precision}, 1 thread") for precision in precisions()}
    for step in ("supervised step, 4 faces", "TSAL step, 4 + 6 faces"):
        keys |= {(step, condition) for condition in ("alone, 1 thread", "beside a busy process, 1 thread")}
    sizes = [*(f"{count} landmarks" for count in (5, 98, 106)), *(f"{count} frames of a clip" for count in (5, 10))]
    sizes += [
        *(f"{count} labelled faces" for count in (8, 32)),
        *(f"{side} px of an image's side" for side in (64, 128)),
    ]
    base = "68 landmarks, 2 frames of a clip, 16 labelled faces, 96 px of an image's side"
    keys |= {("TSAL step, random images", size) for size in (base, *sizes)}
    keys |= {(name, "both directions, 1 thread") for name in ("tracker", "OpenCV DIS")}
    memory = ("rendered, supervised step", "rendered, TSAL step", "all of it")
    return keys | {("peak memory", setting) for setting in memory}


def run_quick(tmp_path, capsys, *options: str) -> tuple[dict, str, str]:
    out = tmp_path / "results" / "bench.json"
    assert main(["bench", "--quick", "--out", str(out), *options]) == 0
    files = sorted(path.name for path in out.parent.iterdir())
    assert files == ["bench.json", "bench.md"]  # the crops that it kept are gone
    return json.loads(out.read_text()), out.with_suffix(".md").read_text(), capsys.readouterr().out


def test_the_quick_benchmark_has_every_row_with_positive_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TSAL_REALDATA", raising=False)
    result, page, printed = run_quick(tmp_path, capsys)
    rows = result["rows"]
    keys = [(row["what"], row["setting"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert set(keys) == names("rendered") | others()
    for row in rows:
        assert tuple(row) == COLUMNS
        number = row["peak GB"] if row["what"] == "peak memory" else row["value"]
        assert number > 0 and math.isfinite(number), row
        assert (row["share"] is not None) == row["what"].startswith("light detector")
    facts = result["environment"]
    assert facts["cpus"] == os.cpu_count() and facts["threads"] > 0 and facts["packages"]["torch"] and facts["quick"]
    for shown in (page, printed):
        table = [line for line in shown.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
        assert cells[0] == list(COLUMNS) and cells[2:] == [[text(value) for value in row.values()] for row in rows]
    assert f"{os.cpu_count()} cores" in page and f"torch {facts['packages']['torch']}" in page


def test_real_faces_get_rows_of_their_own(tmp_path, capsys, realdata):
    rows = run_quick(tmp_path, capsys, "--realdata", str(realdata))[0]["rows"]
    assert {(row["what"], row["setting"]) for row in rows} == names("rendered") | names("real") | others()


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_the_lists_is_told_of_in_a_line(tmp_path, capsys, folder):
    out = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--out", str(out), "--realdata", str(tmp_path / folder)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert lines and "no such" in lines[0] and list(tmp_path.iterdir()) == []
