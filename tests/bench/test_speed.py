"""The benchmark measures what it says it does; its times are not asserted."""

from __future__ import annotations

import json
import math
import os

import pytest

from tsal.bench import speed as bench
from tsal.cli.commands import main

RATES = {
    ("rendered", "TSAL", "step", "", 0): 50.0,
    ("rendered", "TSAL", "fed", "cold", 2): 45.0,
    ("rendered", "TSAL", "loader", "cold", 1): 100.0,
    ("rendered", "TSAL", "loader", "memory", 2): 400.0,
    ("rendered", "detector", 1): 20.0,
    ("rendered", "detector", 32): 60.0,
    ("rendered", "tracker"): 30.0,
    ("rendered", "DIS"): 120.0,
}


def test_each_ratio_is_to_what_its_row_says():
    rows = {(row["what"], row["cache"]): row for row in bench.table_rows(RATES)}
    fed, cold, warm = (
        rows["TSAL step, fed", "cold"],
        rows["loader, TSAL batches", "cold"],
        rows["loader, TSAL batches", "memory"],
    )
    assert (fed["ratio"], fed["ratio to"]) == (0.9, "batch ready")
    assert (cold["ratio"], cold["feeds"]) == (1.0, 2.0)  # 100 frames a second for a step that takes 50
    assert (warm["ratio"], warm["ratio to"], warm["feeds"], warm["workers"]) == (4.0, "cold, 1 worker", 8.0, 2)
    assert rows["detector, batch of 32", None]["ratio"] == 3.0
    assert rows["tracker, both directions", None]["ratio"] == 0.25


def test_a_rate_is_the_best_of_its_repeats_and_jobs_take_turns():
    turns = []

    def job(name, counts):
        return lambda: turns.append(name) or counts[turns.count(name) - 1]

    found = bench.measure({("a",): job("a", [1, 10**9, 1]), ("b",): job("b", [1, 1, 1])}, 3, 0.0)
    assert turns == list("ababab")
    assert found["a",] > 10**3 * found["b",]


def names(data: str) -> set[tuple]:
    counts = {1, 2, os.cpu_count()}
    kinds = ("supervised", "TSAL")
    loader = {(data, f"loader, {kind} batches", cache, n) for kind in kinds for cache in bench.CACHES for n in counts}
    ready = {(data, f"{kind} step, batch ready", None, None) for kind in kinds}
    return loader | ready | {(data, f"{kind} step, fed", "cold", 1) for kind in kinds}


ALONE = (
    "detector, batch of 1",
    "detector, batch of 32",
    "tracker, both directions",
    "OpenCV DIS, both directions, 1 thread",
)


def run_quick(tmp_path, capsys, *options: str) -> tuple[dict, str]:
    out = tmp_path / "results" / "bench.json"
    assert main(["bench", "--quick", "--out", str(out), *options]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]  # the crops that it kept are gone
    return json.loads(out.read_text()), capsys.readouterr().out


def test_the_quick_benchmark_has_every_row_with_positive_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TSAL_REALDATA", raising=False)
    result, text = run_quick(tmp_path, capsys)
    rows = result["rows"]
    found = [(row["data"], row["what"], row["cache"], row["workers"]) for row in rows]
    assert len(found) == len(set(found))
    assert set(found) == names("rendered") | {("rendered", what, None, None) for what in ALONE}
    for row in rows:
        assert tuple(row) == bench.COLUMNS
        assert row["per second"] > 0 and math.isfinite(row["per second"])
        assert (row["feeds"] is not None) == row["what"].startswith("loader") and (
            row["feeds"] is None or row["feeds"] > 0
        )
        assert (row["ratio"] is None) == row["what"].endswith("batch ready") and (
            row["ratio"] is None or row["ratio"] > 0
        )
    facts = result["environment"]
    assert facts["cpus"] == os.cpu_count() and facts["threads"] > 0 and facts["packages"]["torch"] and facts["quick"]
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2 and {line.count("|") for line in table} == {len(bench.COLUMNS) + 1}


def test_real_faces_get_rows_of_their_own(tmp_path, capsys, realdata):
    rows = run_quick(tmp_path, capsys, "--realdata", str(realdata))[0]["rows"]
    assert {(row["data"], row["what"], row["cache"], row["workers"]) for row in rows if row["data"] == "real"} == names(
        "real"
    )


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_the_lists_is_told_of_in_a_line(tmp_path, capsys, folder):
    out = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--out", str(out), "--realdata", str(tmp_path / folder)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert lines and "no such" in lines[0] and list(tmp_path.iterdir()) == []
