"""Markdown and LaTeX hold the same numbers, and both can be read back."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from drawn_run import unmeasured, words_of

from tsal.evaluation.predictions import metrics_rows
from tsal.figures import run as figures
from tsal.figures import tables
from tsal.figures.report import comparison_tables
from tsal.utils.files import read_arrays, write_arrays, write_text

UNDO = {escaped: sign for sign, escaped in tables.ESCAPES.items()}


def unescape(text: str) -> str:
    return re.sub("|".join(map(re.escape, sorted(UNDO, key=len, reverse=True))), lambda match: UNDO[match[0]], text)


def cells_of_markdown(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.replace(r"\|", "|") for cell in re.split(r" (?<!\\)\| ", line[2:-2])] for line in lines]


def cells_of_latex(text: str) -> list[list[str]]:
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
    return [[unescape(cell) for cell in line.split(" & ")] for line in lines]


def test_both_forms_of_a_run_s_tables_hold_the_same_cells(run):
    contents = tables.run_tables(run)
    plain, typeset = cells_of_markdown(tables.markdown(contents)), cells_of_latex(tables.latex(contents))
    assert plain == typeset and len(plain) == sum(1 + len(content) for content in contents.values())
    numbers = tables.table(run)
    assert [line[3] for line in plain[1 : 1 + len(numbers)]] == [f"{nme:.2f}" for nme in numbers.NME]
    for title in contents:
        assert title in tables.markdown(contents) and tables.escape(title) in tables.latex(contents)


def test_what_latex_and_markdown_would_take_for_a_sign_of_theirs_comes_out_as_it_is():
    odd = r"a_b & 5 % of #1, $x^2$ {~} \n <|>"
    contents = {odd: pd.DataFrame({odd: [odd, "2"], "n": ["-", "1.5"]})}
    assert cells_of_markdown(tables.markdown(contents)) == [[odd, "n"], [odd, "-"], ["2", "1.5"]]
    lines = [line for line in tables.latex(contents).splitlines() if "1, " in line]
    assert len(lines) == 3 and all(unescape(line).count(odd) for line in lines)
    assert r"\begin{tabular}{lr}" in tables.latex(contents)  # text to the left, numbers to the right
    assert tables.escape("5 % & a_b") == r"5 \% \& a\_b"


def test_a_table_of_latex_is_a_whole_environment(run):
    text = tables.latex(tables.run_tables(run))
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 3
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\midrule")
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(\w+)\}", block)[1])
        rows = [line for line in block.split(r"\end{tabular}")[0].splitlines() if line.endswith(r" \\")]
        assert all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows)


def test_without_labels_both_forms_say_so(copied):
    unmeasured(copied)
    contents = tables.run_tables(copied)
    for text in (tables.markdown(contents), tables.latex(contents)):
        assert (
            "data.audit_labels names no labels" in text.replace(r"\_", "_")
            and "agree less" in text
            and "got worse" not in text
        )


def test_jitter_by_hand(copied):
    """Steady motion has none; a landmark that steps to and fro by 1 px in a clip of three has a second difference of 2
    px.
    """
    predictions = read_arrays(copied.folder / "predictions.npz")
    clip = predictions["path"][:3]
    assert len({path.rpartition("/")[0] for path in clip}) == 1
    steady = np.arange(3.0)[:, None, None] * np.array([3.0, -1.0]) + np.zeros((3, 68, 2))
    shaken = steady + np.array([0.0, 1.0, 0.0])[:, None, None] * np.array([1.0, 0.0])
    predictions["visible"][:3, 10:] = False
    predictions["truth"][:3] = steady
    predictions["truth"][1, 20:] = np.nan  # hidden
    predictions["points"][0, 0, :3], predictions["points"][1, 0, :3] = steady, shaken
    write_arrays(copied.folder / "predictions.npz", **predictions)
    table = tables.clip_table(copied)
    first = table[table["clip"] == table["clip"].iloc[0]].set_index("model")
    assert first.jitter["init"] == pytest.approx(0, abs=1e-5) and first.jitter["labels"] == pytest.approx(0, abs=1e-5)
    assert first.jitter["supervised"] == pytest.approx(100 * 2 / 40) and first.NME["supervised"] == pytest.approx(
        100 * (1 / 3) / 40
    )
    assert table["clip"].nunique() == 4 and len(table) == 4 * 6  # of five models, and of the labels


def measured(copied, **changes) -> None:
    """The run with other predictions, measured anew."""
    predictions = read_arrays(copied.folder / "predictions.npz") | changes
    write_arrays(copied.folder / "predictions.npz", **predictions)
    report = json.loads((copied.folder / "metrics.json").read_text())
    write_text(copied.folder / "metrics.json", json.dumps(report | {"rows": metrics_rows(predictions)}))


def cells_of_text(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_the_run_s_table_has_a_column_of_error_jitter_where_frames_are_consecutive(run, copied):
    _, head, _, *lines = cells_of_text(comparison_tables(run)[0])
    numbers = tables.table(run).query("source == 'heatmap'")
    assert head == ["NME %", "AUC@0.08", "FR@0.08", "error jitter %", "steps", "seconds"]
    assert [line[4] for line in lines] == [f"{value:.3f}" for value in numbers.error_jitter]
    predictions = read_arrays(copied.folder / "predictions.npz")
    (copied.folder / "predictions.npz").unlink()
    del predictions["flow_difference"]  # as where frames are not consecutive
    write_arrays(copied.folder / "predictions.npz", **predictions)
    measured(copied)
    assert "jitter" not in comparison_tables(copied)[0] and "error jitter" not in tables.markdown(
        tables.run_tables(copied)
    )


def test_a_list_whose_frames_seem_not_to_follow_one_another_is_told(run, copied):
    """Flow loses most of what it carries where a second lies between two frames."""
    assert not [text for text in comparison_tables(run) if text.startswith("warning: ")]
    difference = read_arrays(copied.folder / "predictions.npz")["flow_difference"]
    difference[..., ::3] = np.nan
    measured(copied, flow_difference=difference)
    [warning] = [text for text in comparison_tables(copied) if text.startswith("warning: ")]
    [name] = run.lists.evaluate
    assert f"% of the landmarks of {name}. If" in warning and f"data.sparse={name}" in warning
    assert "data.consecutive=false" in warning and "\n" not in warning


def test_a_list_without_labels_has_a_table_of_its_jitter_alone(copied):
    predictions = read_arrays(copied.folder / "predictions.npz")
    unknown = {name: np.full_like(predictions[name], np.nan) for name in ("norm_px", "truth")}
    measured(copied, **unknown, visible=np.zeros_like(predictions["visible"]))
    note, head, _, *lines = cells_of_text(comparison_tables(copied)[0])
    numbers = tables.table(copied).query("source == 'heatmap'")
    assert head == ["jitter %", "flow jitter %", "left out %"] and "no labels" in note[0] and "% of the box" in note[0]
    columns = numbers[["jitter", "flow_jitter", "flow_left_out"]]
    assert [line[1:] for line in lines] == [[f"{value:.3f}" for value in row] for row in columns.to_numpy()]
    contents = tables.run_tables(copied)
    steady = contents["Steadiness of consecutive frames (heatmap source)"]
    assert set(steady["% of"]) == {"box"} and set(steady["error jitter %"]) == {"-"}
    assert set(next(iter(contents.values()))["NME %"]) == {"-"}


def test_the_tracker_s_table_has_a_row_a_method_and_a_column_a_distance(run):
    contents = tables.run_tables(run)
    table = next(content for content in contents.values() if "tracker" in list(content.iloc[:, 0]))
    assert list(table.columns) == ["error, mean (median), % of outer eye-corner distance", "1 apart", "2 apart"]
    assert table.values.tolist() == [
        ["zero motion", "1.00 (1.00)", "1.50 (1.50)"],
        ["DIS", "2.00 (2.00)", "2.50 (2.50)"],
        ["tracker", "3.00 (3.00)", "3.50 (3.50)"],
        ["tracker's doubts that are right, %", "50", "75"],
        ["hidden landmarks that it doubts, %", "-", "25"],
    ]


def test_a_run_without_labelled_clips_has_no_errors_of_its_tracker(copied):
    metrics = {"normaliser": "ocular", "pairs": {}, "methods": {}}
    (copied.folder / "tracker/metrics.json").write_text(json.dumps(metrics))
    assert "no evaluation list has a labelled clip of two frames" in tables.markdown(tables.run_tables(copied))
    assert "a labelled clip of two frames" in words_of(figures.draw_tracker(copied)[1])
