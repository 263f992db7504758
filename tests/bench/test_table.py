"""Tables of methods, and what the parts of TSAL add: means, differences and intervals by hand, and the figure."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from drawn_run import overhang, words_of
from matplotlib.colors import to_hex
from results import result

from tsal.bench.table import compare, draw, markdown, other_code, other_inits, other_machines, parts, read_results
from tsal.figures.colours import MODELS
from tsal.figures.compare import method_table
from tsal.figures.parts import draw_parts
from tsal.figures.style import DPI
from tsal.utils import DataError


def test_the_table_is_the_mean_over_seeds_and_the_paired_difference():
    results = [
        result("supervised", 0, [6.0, 8.0]),
        result("supervised", 1, [5.0, 9.0]),
        result("tsal", 0, [5.0, 7.0]),
        result("tsal", 1, [4.0, 7.0]),
        result("other", 0, [9.0, 9.0]),
    ]
    rows = {row["method"]: row for row in compare(results)}
    assert rows["supervised"]["NME"] == 7 and rows["tsal"]["NME"] == pytest.approx(5.75)
    assert rows["tsal"]["std"] == pytest.approx(np.std([6, 5.5], ddof=1)) and np.isnan(rows["other"]["std"])
    assert rows["tsal"]["difference"] == pytest.approx(-1.25) and rows["tsal"]["relative"] == pytest.approx(-125 / 7)
    # gains are -1, -1, -1 and -2
    assert rows["tsal"]["low"] == pytest.approx(-2) and rows["tsal"]["high"] == pytest.approx(-1)
    assert rows["other"]["difference"] == pytest.approx(2)  # against the seed that both have
    assert rows["other"]["ahead"] == pytest.approx(-3) and np.isnan(rows["tsal"]["ahead"])
    assert rows["supervised"]["ahead"] == pytest.approx(-1.25) and rows["supervised"]["ahead low"] == pytest.approx(-2)
    assert all(np.isnan(row["gap"]) for row in rows.values())
    lines = markdown(list(rows.values())).splitlines()
    assert lines[4].startswith("| tsal | 2 | 5.750 ± 0.354 |") and "-1.250 (-17.9 %)" in lines[4]


def test_the_table_is_headed_by_the_method_that_all_are_compared_with_and_has_no_empty_column():
    def head(*results: dict) -> str:
        return markdown(compare(results)).splitlines()[2]

    alone, corrected = result("supervised", 0, [6.0]), result("mean-teacher-corrected", 0, [5.0])
    assert "| mean-teacher-corrected against it | mean-teacher-corrected better in |" in head(alone, corrected)
    assert "| tsal against it |" in head(alone, corrected, result("tsal", 0, [4.0]))
    assert head(alone) == "| method | seeds | NME % | AUC@0.08 | FR@0.08 | further steps | seconds |"


def test_methods_are_compared_by_steadiness_where_it_is_known_and_on_lists_without_labels():
    """A list without labels has no NME, no face with an error, and does not hide that two runs share an init."""

    def steady(method, seed, faces, model, jitter):
        record = result(method, seed, faces, model=model)
        record["lists"]["val"][model] |= {"error_jitter": jitter, "flow_jitter": 2 * jitter, "jitter": 3 * jitter}
        nothing = {"NME": np.nan, "AUC@0.08": np.nan, "FR@0.08": np.nan}
        numbers = nothing | {"flow_jitter": 4 * jitter, "jitter": 5 * jitter}
        record["lists"]["video"] = {model: numbers, "init": nothing, "faces": [], "clips": []}
        return record

    results = [
        steady("supervised", 0, [6.0, 8.0], "supervised", 0.4),
        steady("tsal", 0, [5.0, 7.0], "teacher", 0.1),
        steady("tsal", 1, [5.0, 7.0], "teacher", 0.3),
        steady("stld", 0, [9.0, 9.0], "student", 0.3),
    ]
    rows = {(row["list"], row["method"]): row for row in compare(results)}
    assert rows["val", "tsal"]["error_jitter"] == pytest.approx(0.2) and rows["val", "tsal"]["difference"] == -1
    assert "error_jitter" not in rows["video", "tsal"] and np.isnan(rows["video", "tsal"]["difference"])
    assert other_inits(results) == []
    labelled, video = (part.splitlines() for part in markdown(list(rows.values())).split("### video"))
    assert "| FR@0.08 | error jitter % | jitter % | flow jitter % |" in labelled[2]
    assert [line.split(" | ")[0] for line in labelled[4:] if line] == ["| tsal", "| supervised", "| stld"]
    assert video[2] == "| method | seeds | jitter % | flow jitter % | further steps | seconds |"
    assert [line.split(" | ")[:4] for line in video[4:] if line] == [
        ["| tsal", "2", "1.000", "0.800"],
        ["| stld", "1", "1.500", "1.200"],
        ["| supervised", "1", "2.000", "1.600"],
    ]


def test_runs_from_different_inits_of_one_seed_are_not_paired():
    results = [
        result("supervised", 0, [6.0, 8.0]),
        result("supervised", 1, [5.0, 9.0], init=8.1),
        result("tsal", 0, [5.0, 7.0]),
        result("tsal", 1, [1.0, 2.0]),
    ]
    rows = {row["method"]: row for row in compare(results, {"val": 4.5})}
    row = rows["tsal"]
    assert (
        row["NME"] == pytest.approx(3.75) and row["difference"] == pytest.approx(-1) and row["gap"] == pytest.approx(40)
    )  # of seed 0 alone, and so it is told
    assert row["paired"] == rows["supervised"]["ahead paired"] == 1
    lines = markdown(list(rows.values())).splitlines()
    assert "| -1.000 (-14.3 %), 1 seed |" in lines[4] and "| -1.000 (-1.000 ... -1.000), 1 seed |" in lines[5]
    assert [line.partition(" has ")[0] for line in other_inits(results)] == ["tsal of seed 1"] and other_inits(
        results[:3]
    ) == []


def test_the_figure_pairs_the_runs_that_the_table_pairs(tmp_path, monkeypatch):
    results = [
        result("mean-teacher", 0, [6.0, 8.0]),
        result("mean-teacher", 1, [5.0, 9.0], init=8.1),
        result("tsal", 0, [5.0, 7.0]),
        result("tsal", 1, [1.0, 2.0]),
    ]
    drawn = []
    monkeypatch.setattr("tsal.figures.draw_comparison", lambda comparison: drawn.append(comparison) or [])
    draw(results, tmp_path)
    row = {row["method"]: row for row in compare(results)}["mean-teacher"]
    figure = method_table(drawn[0]).set_index("method").loc["mean-teacher"]
    assert figure.difference == -row["ahead"] == 1 and figure.pairs == row["ahead paired"] == 1


def test_runs_of_different_code_are_named_and_older_results_that_say_nothing_of_it_are_not():
    old = result("mean-teacher", 0, [5.0])
    results = [result("supervised", seed, [6.0]) | {"code": "1" * 64} for seed in (0, 1)]
    assert other_code([old, *results]) == []
    (line,) = other_code([old, *results, result("tsal", 0, [5.0]) | {"code": "2" * 64}])
    assert "supervised of seed 0, supervised of seed 1 (11111111); tsal of seed 0 (22222222)" in line
    assert "mean-teacher" not in line


def on(cpu: str | None, threads: str, *, gpu: str | None = None) -> dict:
    return {"machine": {"cpu": cpu, "gpu": gpu}, "threads": threads}


def test_seconds_of_other_threads_have_no_mean_and_are_told():
    results = [result("supervised", seed, [6.0]) | on("AVX2", threads) for seed, threads in ((0, "4"), (1, "1"))]
    assert math.isnan(compare(results)[0]["semi seconds"]) and compare(results[:1])[0]["semi seconds"] == 100
    (line,) = other_machines([*results, result("stld", 0, [5.0])])  # which does not say what it ran on
    assert "supervised of seed 0 (AVX2, threads: 4); supervised of seed 1 (AVX2, threads: 1); their seconds" in line
    assert other_machines(results[:1] * 2) == []


def test_pairs_that_ran_on_other_machines_are_told():
    results = [result("supervised", seed, [6.0]) | on("AVX2", "1") for seed in (0, 1)]
    results += [result("stld", 0, [5.0]) | on("AVX2", "1"), result("stld", 1, [5.0]) | on("AVX2", "1", gpu="H200")]
    seconds, pairs = other_machines(results)
    assert "stld of seed 1 (AVX2, H200, threads: 1)" in seconds
    assert pairs.endswith("may be another precision: stld of seed 1")
    apart = result("stld", 1, [5.0], init=9.0) | on("AVX512", "1")  # not paired: told by other_inits
    assert len(other_machines([*results[:3], apart])) == 1


def test_a_table_says_where_results_are_transductive_or_have_another_normaliser():
    def title(**more) -> str:
        return markdown(compare([result("supervised", 0, [6.0]) | more])).splitlines()[0]

    assert title() == title(transductive=False) == "### val"
    assert title(transductive=True) == "### val (errors in % of outer eye-corner distance, transductive)"
    assert title(normaliser="pupil") == "### val (errors in % of distance between the pupils)"


def test_the_share_of_the_gap_to_all_labels_that_is_closed():
    results = [result("supervised", 0, [6.0, 8.0]), result("tsal", 0, [5.0, 7.0])]
    rows = {row["method"]: row for row in compare(results, {"val": 4.5})}
    # 1 of the 2.5 from 7 to 4.5
    assert rows["tsal"]["gap"] == pytest.approx(40) and np.isnan(rows["supervised"]["gap"])
    assert "| 40 % |" in markdown(list(rows.values()))


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


def order(results: list[dict]) -> list[str]:
    return [row["method"] for row in compare(results)]


def test_methods_are_listed_by_what_their_own_seeds_say():
    """Seed 1 is easy: what has it alone is below the mean of tsal's seeds, and worse than tsal of that seed."""
    results = [
        result("supervised", 1, [5.0]),
        result("tsal", 0, [8.0]),
        result("tsal", 1, [4.0]),
        result("tsal-no-fusion", 1, [4.5]),
        result("tsal-no-sic", 1, [3.9]),
    ]
    assert order(results) == ["tsal-no-sic", "tsal", "tsal-no-fusion", "supervised"]
    note = "Rows are in the order of NME less that of tsal, seed by seed."
    assert markdown(compare(results)).splitlines()[-1] == note
    # where means have the same order, nothing is to be explained
    assert note not in markdown(compare([record for record in results if record["seed"] == 1]))


def test_a_method_without_a_shared_seed_is_listed_by_its_mean():
    results = [result("supervised", 0, [6.0]), result("tsal", 0, [4.0]), result("tsal", 1, [5.0])]
    others = [result("sbr", 1, [5.5], init=8.1), result("stld", 2, [4.2])]  # 1.0 above tsal's mean, 0.3 below it
    assert order([*results, *others]) == ["stld", "tsal", "sbr", "supervised"]


def test_without_tsal_methods_are_listed_by_their_difference_from_supervised_only():
    results = [result("supervised", 0, [6.0]), result("supervised", 1, [9.0])]
    assert order([*results, result("stld", 0, [6.5]), result("sbr", 1, [8.0])]) == ["sbr", "supervised", "stld"]
    assert order([result("stld", 0, [6.5]), result("sbr", 1, [6.0])]) == ["sbr", "stld"]  # and without that by NME


def test_runs_of_one_row_on_different_machines_have_no_mean_time():
    cpu, other, gpu = {"cpu": "AVX512", "gpu": None}, {"cpu": "AVX2", "gpu": None}, {"cpu": "AVX512", "gpu": "H200"}
    machines = {"supervised": (cpu, cpu), "tsal": (cpu, gpu), "stld": (cpu, other), "sbr": (None, None)}
    results = [
        result(method, seed, [5.0]) | {"machine": machine, "seconds": {"semi": 100.0 + 50 * seed}}
        for method, pair in machines.items()
        for seed, machine in enumerate(pair)
    ]
    shown = {line.split(" | ")[0]: line.split(" | ")[-1] for line in markdown(compare(results)).splitlines()[4:]}
    assert shown == {"| supervised": "125 |", "| tsal": " |", "| stld": " |", "| sbr": "125 |"}


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
    results = [result("supervised", 0, [6.0, 6.0, 6.0, 6.0]), result("tsal", 0, [5.0, 5.0, 5.0, 7.0])]
    for record in results:
        record["lists"]["val"]["clips"] = [4, 4, 4, 7]
    row = {row["method"]: row for row in compare(results)}["tsal"]
    assert (row["difference"], row["low"], row["high"]) == (-0.5, -1, 1)


def test_the_share_of_photographs_and_clips_that_gain_tells_a_few_large_gains_from_many():
    results = [
        result("supervised", 0, [6.0, 6.0, 8.0, 5.0, 9.0]),
        result("supervised", 1, [6.0, 6.0, 8.0, 5.0, 9.0]),
        result("tsal", 0, [5.0, 7.5, 8.1, 5.0, 3.0]),  # the clip and a photograph lose, one ties: 1.5 / 4
        result("tsal", 1, [5.0, 6.5, 8.1, 4.0, 3.0]),  # a photograph loses: 3 / 4
        result("tsal", 2, [9.0, 9.0, 9.0, 9.0, 9.0]),  # supervised has no such seed
        result("stld", 0, [9.0, 9.0, 9.0, 9.0, 9.0], init=8.1),  # of another init
    ]
    for record in results:
        record["lists"]["val"]["clips"] = [3, 3, 5, 6, 8]
    rows = {row["method"]: row for row in compare(results)}
    assert rows["supervised"]["better"] == 100 * (1.5 + 3) / 8
    assert np.isnan(rows["tsal"]["better"]) and np.isnan(rows["stld"]["better"])
    head, _, *lines = (line.split(" | ") for line in markdown(list(rows.values())).splitlines()[2:] if line)
    column = head.index("tsal better in")
    assert head[column - 1] == "tsal against it"
    assert {line[0]: line[column] for line in lines} == {"| supervised": "56 %", "| tsal": "", "| stld": ""}


def test_frames_of_a_clip_that_make_up_for_each_other_are_a_tie():
    results = [result("supervised", 0, [5.1, 5.3]), result("tsal", 0, [5.3, 5.1])]
    for record in results:
        record["lists"]["val"]["clips"] = [0, 0]
    assert {row["method"]: row for row in compare(results)}["supervised"]["better"] == 50


def test_one_clip_of_one_seed_has_no_interval():
    results = [result("supervised", 0, [6.0]), result("tsal", 0, [5.0])]
    rows = {row["method"]: row for row in compare(results)}
    assert rows["tsal"]["difference"] == -1 and np.isnan(rows["tsal"]["low"]) and np.isnan(rows["tsal"]["high"])
    text = markdown(list(rows.values()))
    assert "95 % interval" not in text and "| -1.000 (-16.7 %) |" in text and "| -1.000 |" in text and "nan" not in text
    two = compare([*results, result("supervised", 1, [6.0]), result("tsal", 1, [3.0])])
    row = next(row for row in two if row["method"] == "tsal")
    assert (row["low"], row["high"]) == (-3, -1)


def test_a_result_that_does_not_say_which_clips_its_frames_are_of_is_named(tmp_path):
    old = result("tsal", 0, [5.0])
    del old["lists"]["val"]["clips"]
    (tmp_path / "tsal-s0.json").write_text(json.dumps(old))
    with pytest.raises(DataError, match="tsal-s0.json: .* an earlier version; remove it, and run again"):
        read_results(tmp_path)


def test_jitter_of_two_seeds_has_no_interval_and_other_methods_are_no_parts():
    results = [record for record in three_seeds() if record["seed"] < 2]
    rows = parts([*results, result("mean-teacher", 0, [6.0, 6.0], 1.0), result("supervised", 0, [9.0, 9.0], 1.0)])
    assert {row["part"] for row in rows} == {"window"}
    has_interval = {row["measure"]: math.isfinite(row["low"]) for row in rows}
    assert has_interval == {"NME": True, "error_jitter": False, "flow_jitter": False}


def test_a_part_needs_an_init_shared_with_the_method_and_a_measure_that_both_have():
    assert parts([result("tsal-no-sic", 0, [6.0])]) == []
    assert parts([result("tsal", 0, [5.0]), result("tsal-no-sic", 0, [6.0], init=8.1)]) == []
    rows = parts([result("tsal", 0, [5.0]), result("tsal-no-drift-correction", 0, [6.0], 0.5)])
    assert [(row["part"], row["measure"], row["mean"]) for row in rows] == [("drift correction", "NME", 1.0)]


def test_parts_are_drawn_beside_the_table_only_where_there_are_some(tmp_path):
    draw([result("tsal", 0, [5.0, 7.0], 1.0), result("supervised", 0, [6.0, 8.0], 1.0)], tmp_path)
    assert shows_tsal(tmp_path / "compare-methods") and not list(tmp_path.glob("compare-parts*"))
    draw(three_seeds(), tmp_path)
    assert shows_tsal(tmp_path / "compare-parts")


def shows_tsal(figure: Path) -> bool:
    """Whether a picture and a page of one size are there, and TSAL's colour is in the picture."""
    picture, page = cv2.imread(f"{figure}.png"), Path(f"{figure}.pdf").read_bytes()
    size = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", page).groups()
    assert picture.shape[1::-1] == pytest.approx(np.array(size, float) / 72 * DPI, abs=1)
    return bool((picture[..., ::-1] == [*bytes.fromhex(MODELS["teacher"][1:])]).all(-1).sum() > 50)


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_a_marker_is_filled_where_the_interval_of_three_seeds_leaves_zero_out():
    three = [0.1, 0.2, 0.3]
    rows = [
        {"list": "val", "part": "window", "measure": "NME", "seeds": three, "mean": 0.2, "low": 0.1, "high": 0.3},
        {"list": "val", "part": "trust", "measure": "NME", "seeds": [0.1], "mean": 0.1, "low": -0.1, "high": 0.3},
        {"list": "val", "part": "sic", "measure": "NME", "seeds": [0.04, 0.06], "mean": 0.05, "low": 0.01, "high": 0.1},
    ]
    jitter = {"measure": "flow_jitter", "seeds": [0.1], "mean": 0.1, "low": np.nan, "high": np.nan}
    rows += [{"list": name, "part": "window"} | jitter for name in ("val", "video")]
    figure = draw_parts(pd.DataFrame(rows), "% of d")
    nme, flow, unlabelled, _ = figure.axes
    markers = {int(line.get_ydata()[0]): line for line in nme.get_lines() if line.get_marker() == "D"}
    assert [label.get_text() for label in nme.get_yticklabels()] == ["no window", "no trust", "no sic"]
    fills = {place: to_hex(line.get_markerfacecolor()) for place, line in markers.items()}
    assert fills == {0: MODELS["teacher"], 1: "#ffffff", 2: "#ffffff"}
    assert [line.get_xdata()[0] for line in markers.values()] == [0.2, 0.1, 0.05]
    dots = [line for line in nme.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [three, [0.04, 0.06]]  # a single seed is its mean
    assert len(flow.get_lines()) == 2  # the zero and a marker, without a whisker
    words = words_of(figure)
    assert "one seed: over clips alone" in words
    assert "arrow" not in words  # the largest effect is not far from the others
    assert "not measured" in unlabelled.texts[0].get_text() and "too few seeds" in words and overhang(figure) < 0.01


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_one_huge_effect_is_cut_off_and_its_numbers_are_written():
    rows = [
        {"part": "ema", "seeds": [2.0], "mean": 2.0, "low": 0.8, "high": 3.5},
        {"part": "tracking", "seeds": [0.3], "mean": 0.3, "low": 0.1, "high": 0.7},
        {"part": "window", "seeds": [-0.1], "mean": -0.1, "low": -0.2, "high": 0.1},
    ]
    table = pd.DataFrame(rows).assign(list="val", measure="NME")
    figure = draw_parts(table, "% of d")
    (axes,) = figure.axes
    assert max(axes.get_xlim()) < 1.6  # twice the 0.7 of tracking, and a margin
    lines = [(line.get_marker(), line.get_xdata().tolist(), line.get_ydata()[0]) for line in axes.get_lines()[1:]]
    of_ema = [(marker, xs) for marker, xs, place in lines if place == 0]
    assert of_ema == [("None", pytest.approx([0.8, 1.4])), (">", pytest.approx([1.4]))]
    assert [(xs, place) for marker, xs, place in lines if marker == "D"] == [([0.3], 1), ([-0.1], 2)]
    assert [text.get_text() for text in axes.texts] == ["2.00 (0.80 to 3.50)"]
    assert "arrow: the axis ends before these numbers" in " ".join(words_of(figure).split()) and overhang(figure) < 0.01
    seeds = [[-seed for seed in seeds] for seeds in table.seeds]
    mirrored = table.assign(mean=-table["mean"], low=-table.high, high=-table.low, seeds=seeds)
    (axes,) = draw_parts(mirrored, "% of d").axes
    assert [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "<"] == pytest.approx([-1.4])
    assert not [line for line in axes.get_lines() if line.get_marker() == ">"]
    (axes,) = draw_parts(table[:1], "% of d").axes  # nothing to be hidden
    assert [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"] == [2.0] and not axes.texts
