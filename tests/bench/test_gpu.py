"""The GPU's bench runs anywhere: every row is there, the file says what the table says, and a failure costs one row."""

from __future__ import annotations

import json
import math
import time

import pytest
import torch

from tsal.bench import gpu
from tsal.bench.gpu_training import METHODS, measure_training, training_rows
from tsal.bench.report import COLUMNS, Report, deadline, text
from tsal.cli import main

PASSES = ("forward", "forward and backward")
EXPECTED = [
    *(("matrix product", name) for name in ("bf16", "fp32", "TF32")),
    *((f"light detector, {passes}", precision) for precision in gpu.PRECISIONS for passes in PASSES),
    *(
        (f"{name}, points", setting)
        for name in ("light detector", "tracker")
        for setting in ("fp32, no TF32", "fp32", "bf16")
    ),
    *(("light detector, predict", f"batch {count}") for count in (1, 8, 64, 256)),
    *(("TSAL step, light 64 px", f"{p}, {layout}") for layout in gpu.LAYOUTS[:3] for p in gpu.PRECISIONS),
    *((f"light detector, {passes}, compiled", "bf16") for passes in PASSES),
    ("TSAL step, light 64 px", "bf16, compiled, flows kept"),
]


def test_the_quick_bench_has_every_row_with_positive_numbers_and_the_file_is_the_table(tmp_path, capsys):
    out = tmp_path / "results" / "gpu.json"
    assert main(["bench-gpu", "--compile-s", "300", "--quick", "--device", "cpu", "--out", str(out)]) == 0
    result, printed = json.loads(out.read_text()), capsys.readouterr().out
    rows = result["rows"]
    assert [(row["what"], row["setting"]) for row in rows] == EXPECTED
    for row in rows:
        assert tuple(row) == COLUMNS
        assert row["value"] > 0 and math.isfinite(row["value"]) and row["unit"], row
        assert (row["share"] is not None) == ("forward" in row["what"]) and (row["share"] is None or row["share"] > 0)
        if row["setting"].startswith("fp32") and row["what"].endswith("points"):
            assert row["value"] < 1e-3  # px: float32 on the CPU is float64 but for rounding
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    assert table[0] == list(COLUMNS)
    assert table[2:] == [[text(row[name]) for name in COLUMNS] for row in rows]
    facts = result["environment"]
    assert facts["device"] == "cpu" and facts["quick"] and facts["packages"]["torch"] and facts["seconds"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_cuda_is_refused_in_a_line(tmp_path, capsys):
    assert main(["bench-gpu", "--device", "cuda", "--out", str(tmp_path / "gpu.json")]) == 2
    assert capsys.readouterr().err.startswith("error: --device") and not list(tmp_path.iterdir())


def test_a_failure_and_a_row_that_takes_too_long_are_rows_that_say_why(tmp_path):
    report = Report(tmp_path / "gpu.json", {})
    report.attempt("a", "fails", lambda: {"value": 1 / 0})
    started = time.perf_counter()
    report.attempt("a", "hangs", lambda: time.sleep(30) or {}, limit=0.1)
    report.attempt("a", "works", lambda: {"value": 2.0, "unit": "s"})
    assert time.perf_counter() - started < 10
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["note"].partition(":")[0] for row in rows] == ["failed", "failed", ""]
    assert "ZeroDivisionError" in rows[0]["note"] and "TimeoutError" in rows[1]["note"] and rows[2]["value"] == 2.0


def test_a_limit_leaves_nothing_behind_that_fires_later():
    with deadline(0.05):
        pass
    time.sleep(0.1)


def test_compiled_steps_that_would_not_fit_are_named_as_such(tmp_path):
    report = Report(tmp_path / "gpu.json", {})
    gpu.measure_step(
        report,
        gpu.Device("cpu", True),
        gpu.Config.resolve("paper", method="tsal-paper", overrides=gpu.TINY),
        ["compiled"],
        0.0,
        "eager",
    )
    assert [row["note"] for row in report.rows] == ["failed: no time left for it"]


def test_a_training_that_was_stopped_tells_what_it_has(tmp_path):
    base, path = tmp_path / "base-s0", tmp_path / "supervised-s0" / "supervised"
    for folder in (base / "init", path, tmp_path / "results"):
        folder.mkdir(parents=True)
    (base / "init" / "time.json").write_text(json.dumps({"steps": 7200, "seconds": 123.4}))
    torch.save({"step": 300, "seconds": 9.5, "history": [{"loss": 1.25}]}, path / "last.pt")
    numbers = {"supervised": {"NME": 5.5}, "init": {"NME": 6.0}, "faces": [5.0, 6.0], "clips": [0, 1]}
    (tmp_path / "results" / "supervised-s0.json").write_text(json.dumps({"lists": {"val": numbers}}))
    rows = {row["what"].partition(", ")[2]: row for row in training_rows(tmp_path)}
    assert set(rows) == {"tracker", "init", *METHODS, "supervised: supervised", "supervised: init"}
    assert (rows["init"]["setting"], rows["init"]["value"]) == ("7200 steps", 123.4)
    assert (rows["supervised"]["setting"], rows["supervised"]["note"]) == ("300 steps", "not finished; loss 1.25")
    assert rows["tsal"]["note"] == "no checkpoint of it" and "value" not in rows["tsal"]
    assert (rows["supervised: supervised"]["value"], rows["supervised: supervised"]["unit"]) == (5.5, "% NME")


def test_a_training_without_its_faces_is_a_row_that_says_so(tmp_path):
    report = Report(tmp_path / "gpu.json", {})
    measure_training(report, tmp_path / "nowhere", tmp_path / "runs", "cpu", 120.0)
    assert report.rows[0]["note"].startswith("failed: ") and len(report.rows) == 3 + len(METHODS)
