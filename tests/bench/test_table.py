"""Tables of methods; what the parts of TSAL add: differences by hand, intervals by their definition, their figure."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from drawn_run import overhang, words_of
from matplotlib.colors import to_hex

from tsal.bench.table import compare, draw, markdown, parts, read_results
from tsal.figures.colours import MODELS
from tsal.figures.parts import draw_parts
from tsal.utils import DataError


def result(method: str, seed: int, faces: list[float], jitter: float | None = None, init: float = 8.0) -> dict:
    """A run's result on one list: errors of its faces (%), its error jitter where it is known, its init's NME."""
    model = "supervised" if method == "supervised" else "teacher"
    numbers = {"NME": float(np.mean(faces)), "AUC@0.08": 0.5, "FR@0.08": 0.1}
    if jitter is not None:
        numbers |= {"error_jitter": jitter, "flow_jitter": 2 * jitter}
    return {
        "method": method,
        "seed": seed,
        "result": model,
        "labelled": 40,
        "normaliser": "ocular",
        "steps": {"semi": 600},
        "seconds": {"semi": 100.0},
        "lists": {"val": {model: numbers, "init": {"NME": init}, "faces": faces, "clips": list(range(len(faces)))}},
    }


def three_seeds() -> list[dict]:
    whole = [result("tsal", seed, [5.0, 7.0], 1.0) for seed in range(3)]
    shaken = zip(range(3), (1.1, 1.2, 1.3))
    return whole + [result("tsal-no-window", seed, [5.5 + seed, 7.5 + seed], jitter) for seed, jitter in shaken]


def test_a_part_is_what_the_method_loses_without_it_seed_by_seed():
    rows = {(row["part"], row["measure"]): row for row in parts(three_seeds())}
    nme = rows["window", "NME"]
    assert nme["seeds"] == [0.5, 1.5, 2.5] and nme["mean"] == 1.5
    assert (nme["low"], nme["high"]) == (0.5, 2.5)  # all faces differ alike: what is drawn is means of three seeds
    jitter = rows["window", "error_jitter"]
    assert jitter["seeds"] == pytest.approx([0.1, 0.2, 0.3]) and jitter["mean"] == pytest.approx(0.2)
    half = 4.302653 * 0.1 / math.sqrt(3)  # Student's t of 2 degrees of freedom; the deviation of the seeds is 0.1
    assert (jitter["low"], jitter["high"]) == pytest.approx((0.2 - half, 0.2 + half))
    assert rows["window", "flow_jitter"]["mean"] == pytest.approx(0.4)


def test_the_window_has_columns_where_frames_are_consecutive_alone():
    run = result("tsal", 0, [5.0, 7.0], 1.0)
    run["lists"]["val"]["teacher"]["window"] = {"NME": 5.5, "error_jitter": 0.5, "lag": 0.0}
    photographs = {"NME": 4.0, "AUC@0.08": 0.5, "FR@0.08": 0.0, "window": {"NME": 4.0}}
    run["lists"]["photographs"] = {"teacher": photographs, "init": {"NME": 8.0}, "faces": [4.0], "clips": [0]}
    video, still = markdown(compare([run])).split("### photographs")
    assert "| NME %, window | error jitter %, window |" in video and "| 5.500 | 0.500 |" in video
    assert "window" not in still and "| 4.000 |" in still


def test_frames_of_a_clip_are_drawn_together():
    """Three frames that gain 1, and another clip whose only frame loses 1: the mean is certain of neither sign."""
    found = [result("supervised", 0, [6.0, 6.0, 6.0, 6.0]), result("tsal", 0, [5.0, 5.0, 5.0, 7.0])]
    for one in found:
        one["lists"]["val"]["clips"] = [4, 4, 4, 7]
    row = {row["method"]: row for row in compare(found)}["tsal"]
    assert (row["difference"], row["low"], row["high"]) == (-0.5, -1, 1)


def test_a_result_that_does_not_say_which_clips_its_frames_are_of_is_named(tmp_path):
    old = result("tsal", 0, [5.0])
    del old["lists"]["val"]["clips"]
    (tmp_path / "tsal-s0.json").write_text(json.dumps(old))
    with pytest.raises(DataError, match="tsal-s0.json: .* an earlier version; remove it, and run again"):
        read_results(tmp_path)


def test_jitter_of_two_seeds_has_no_interval_and_other_methods_are_no_parts():
    found = [one for one in three_seeds() if one["seed"] < 2]
    rows = parts([*found, result("mean-teacher", 0, [6.0, 6.0], 1.0), result("supervised", 0, [9.0, 9.0], 1.0)])
    assert {row["part"] for row in rows} == {"window"}
    known = {row["measure"]: math.isfinite(row["low"]) for row in rows}
    assert known == {"NME": True, "error_jitter": False, "flow_jitter": False}


def test_a_part_needs_an_init_shared_with_the_method_and_a_measure_that_both_have():
    assert parts([result("tsal-no-sic", 0, [6.0])]) == []
    assert parts([result("tsal", 0, [5.0]), result("tsal-no-sic", 0, [6.0], init=8.1)]) == []
    rows = parts([result("tsal", 0, [5.0]), result("tsal-no-drift-correction", 0, [6.0], 0.5)])
    assert [(row["part"], row["measure"], row["mean"]) for row in rows] == [("drift correction", "NME", 1.0)]


def test_parts_are_drawn_beside_the_table_only_where_there_are_some(tmp_path):
    draw([result("tsal", 0, [5.0, 7.0], 1.0), result("supervised", 0, [6.0, 8.0], 1.0)], tmp_path)
    assert (tmp_path / "compare-methods.png").exists() and not list(tmp_path.glob("compare-parts*"))
    draw(three_seeds(), tmp_path)
    assert {path.suffix for path in tmp_path.glob("compare-parts.*")} == {".png", ".pdf"}


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_a_marker_is_filled_where_the_interval_leaves_zero_out():
    rows = [
        {"list": "val", "part": "window", "measure": "NME", "seeds": [0.1, 0.3], "mean": 0.2, "low": 0.1, "high": 0.3},
        {"list": "val", "part": "trust", "measure": "NME", "seeds": [0.1], "mean": 0.1, "low": -0.1, "high": 0.3},
    ]
    jitter = {"measure": "flow_jitter", "seeds": [0.1], "mean": 0.1, "low": np.nan, "high": np.nan}
    rows += [{"list": name, "part": "window"} | jitter for name in ("val", "video")]
    figure = draw_parts(pd.DataFrame(rows), "% of d")
    nme, flow, unlabelled, _ = figure.axes
    markers = {int(line.get_ydata()[0]): line for line in nme.get_lines() if line.get_marker() == "D"}
    assert [label.get_text() for label in nme.get_yticklabels()] == ["no window", "no trust"]
    fills = {place: to_hex(line.get_markerfacecolor()) for place, line in markers.items()}
    assert fills == {0: MODELS["teacher"], 1: "#ffffff"}
    assert [line.get_xdata()[0] for line in markers.values()] == [0.2, 0.1]
    dots = [line for line in nme.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [[0.1, 0.3]]  # a single seed is its mean
    assert len(flow.get_lines()) == 2  # the zero and a marker, without a whisker
    words = words_of(figure)
    assert "not measured" in unlabelled.texts[0].get_text() and "too few seeds" in words and overhang(figure) < 0.01
