"""Several runs: what makes a method, a budget and a seed, and numbers that can be checked by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from drawn_run import named, overhang, words_of

from tsal.cli.commands import main
from tsal.config import Config, result_settings
from tsal.figures.colours import MODELS
from tsal.figures.compare import _colours, _looks, compare_runs, comparison_tables, draw_comparison, method_table
from tsal.figures.comparison import Comparison, read_runs
from tsal.figures.dataset import COLOURS
from tsal.utils.errors import InputError
from tsal.utils.files import write_text
from tsal.utils.paths import REPOSITORY

FILES = [f"compare-{name}.{kind}" for name in ("ablation", "budgets", "methods") for kind in ("pdf", "png")] + [
    "compare.md",
    "compare.tex",
]


def make(
    folder,
    overrides=(),
    *,
    labelled=40,
    init=9.0,
    supervised=8.0,
    teacher=7.0,
    student=6.5,
    digest="x",
    profile="smoke",
    method="tsal",
    shaken=None,
    rival=None,
):
    """The files of an evaluated run, with the given NME; ``shaken``: error jitter of its models over their NME."""
    config = Config.resolve(profile, method=method, overrides=list(overrides))
    config.save(folder / "config.json")
    write_text(
        folder / "manifest.json",
        json.dumps({"labelled": labelled, "lists": {"val.txt": digest, "labelled.txt": str(labelled)}}),
    )
    numbers = {"init": init, "supervised": supervised}
    numbers |= {} if config.result == "supervised" else {"teacher": teacher, "student": student}
    numbers |= {config.semi.rival: rival} if rival else {}
    rows = [
        {"list": "val.txt", "model": m, "source": s, "NME": nme + (s == "centre")}
        for m, nme in numbers.items()
        for s in ("heatmap", "centre")
    ]
    if shaken:
        rows = [row | {"error_jitter": shaken * row["NME"]} for row in rows]
    write_text(folder / "metrics.json", json.dumps({"normaliser": config.data.normaliser, "rows": rows}))
    return folder


@pytest.fixture
def study(tmp_path):
    """Seeds of TSAL (three, then two) and of TSAL without the teacher's learning (two) at two budgets of labels."""
    runs = []
    for labelled in (40, 10):
        for seed in (0, 1, 2) if labelled == 40 else (0, 1):
            base = 7.0 + 0.2 * seed + (labelled == 10)
            options = {"labelled": labelled, "supervised": base + 1, "teacher": base}
            settings = [f"seed={seed}", f"render.labelled={labelled}"]
            runs.append(make(tmp_path / f"full-{labelled}-{seed}", settings, **options))
            if seed < 2:
                options["teacher"] = base + 0.3 + 0.2 * seed
                runs.append(
                    make(
                        tmp_path / f"without-{labelled}-{seed}", settings, method="tsal-no-teacher-learning", **options
                    )
                )
    return runs


def test_nothing_is_cut_off_at_the_edges_of_a_comparison(study):
    assert {figure.name: overhang(figure) < 0.01 for figure in draw_comparison(read_runs(study))} == dict.fromkeys(
        ("compare-methods", "compare-budgets", "compare-ablation"), True
    )


def test_runs_are_told_apart_by_settings_that_decide_a_result(study):
    comparison = read_runs(study)
    assert comparison.full == "TSAL" and set(comparison.scores.method) == {
        "supervised init",
        "supervised only",
        "TSAL",
        "tsal-no-teacher-learning",
    }
    table = method_table(comparison).set_index(["labelled", "method"])
    assert table.seeds[40, "TSAL"] == 3 and table.seeds[10, "tsal-no-teacher-learning"] == 2
    assert table["mean"][40, "TSAL"] == pytest.approx(7.2) and table["std"][40, "TSAL"] == pytest.approx(0.2)
    # what was trained on labels alone is one training a seed and budget, however many runs share it
    assert table.seeds[40, "supervised only"] == 3 and table["mean"][10, "supervised only"] == pytest.approx(9.1)
    assert (
        comparison.scores.query("method == 'supervised only' and labelled == 40 and seed == 0").runs.item()
        == "full-40-0, without-40-0"
    )


def test_a_part_is_measured_against_the_full_method_seed_by_seed(study):
    comparison = read_runs(study)
    table = method_table(comparison).set_index(["labelled", "method"])
    # not its mean less that of three
    assert (
        table.difference[40, "tsal-no-teacher-learning"] == pytest.approx(0.4)
        and table.pairs[40, "tsal-no-teacher-learning"] == 2
    )
    assert np.isnan(table.difference[40, "TSAL"])
    axes = named(draw_comparison(comparison), "compare-ablation").axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    bars = {name: container[0].get_width() for name, container in zip(names, axes.containers)}
    assert bars == pytest.approx({"supervised only": 1.0, "tsal-no-teacher-learning": 0.4})
    assert len(axes.get_lines()[names.index("tsal-no-teacher-learning")].get_xdata()) == 4  # two seeds at two budgets


def test_a_run_of_labels_alone_is_no_second_method_beside_supervised_only(tmp_path):
    runs = [make(tmp_path / "full", supervised=8.0)]
    runs += [
        make(tmp_path / name, method=name, supervised=nme) for name, nme in (("supervised", 8), ("supervised-3x", 7.5))
    ]
    table = method_table(read_runs(runs)).set_index("method")
    assert dict(table["mean"]) == {"supervised init": 9, "supervised only": 8, "supervised-3x": 7.5, "TSAL": 7}
    alone = read_runs(runs[1:])
    assert alone.full == "supervised only" and set(alone.scores.method) == {
        "supervised init",
        alone.full,
        "supervised-3x",
    }


def test_numbers_of_a_run_that_was_of_another_method_are_not_shown_as_this_ones(tmp_path):
    folder = make(tmp_path / "run")  # a teacher and a student; settings that metrics.json does not say
    for name in ("supervised", "supervised-3x"):
        Config.resolve("smoke", method=name).save(folder / "config.json")
        with pytest.raises(InputError, match="metrics.json: was made with a teacher and a student"):
            read_runs([folder])
    report = json.loads((folder / "metrics.json").read_text())
    report["settings"] = result_settings(Config.resolve("smoke", method="supervised"))
    report["rows"] = [row for row in report["rows"] if row["model"] in ("init", "supervised")]
    write_text(folder / "metrics.json", json.dumps(report))
    write_text(folder / "manifest.json", json.dumps({"labelled": 4, "lists": {}}))
    with pytest.raises(InputError, match="was made with steps_times = 1, not 3"):
        read_runs([folder])


def test_a_method_s_longer_training_is_no_second_run_of_the_others(tmp_path):
    plain, longer = make(tmp_path / "plain", rival=7.2), make(tmp_path / "longer", supervised=7.0, rival=6.2)
    config = Config.load(longer / "config.json").override({"steps_times": 2})
    config.save(longer / "config.json")
    means = dict(method_table(read_runs([plain, longer])).set_index("method")["mean"])
    assert means["supervised only"] == 8 and means["supervised only, steps_times=2"] == 7
    rival = "mean-teacher-corrected"
    assert means[rival] == 7.2 and means[f"{rival}, steps_times=2"] == 6.2
    assert means["supervised init"] == 9  # the same for both


def test_the_rival_that_every_run_trained_is_compared_over_seeds(tmp_path):
    numbers = {0: (7.0, 7.5), 1: (8.0, 8.1)}
    runs = [
        make(tmp_path / f"s{seed}", [f"seed={seed}"], teacher=teacher, rival=rival)
        for seed, (teacher, rival) in numbers.items()
    ]
    rival = "mean-teacher-corrected"
    runs.append(make(tmp_path / "itself", method=rival, teacher=7.5))  # the same training as run s0's rival
    comparison = read_runs(runs)
    table = method_table(comparison).set_index("method")
    assert comparison.full == "TSAL" and list(table.index) == ["supervised init", "supervised only", rival, "TSAL"]
    assert (table.seeds[rival], table["mean"][rival]) == (2, pytest.approx(7.8))
    assert (table.pairs[rival], table.difference[rival]) == (2, pytest.approx((0.5 + 0.1) / 2))
    axes = named(draw_comparison(comparison), "compare-ablation").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["supervised only", rival]


def test_a_rival_with_the_settings_of_its_file_is_not_the_method_with_others(tmp_path):
    """Both runs say tsal.bn_stats=own; the first one's rival was trained with what its file says, average."""
    plain = [make(tmp_path / "plain", ["tsal.bn_stats=own"], teacher=7.0, rival=7.5)]
    other = [make(tmp_path / "other", ["tsal.bn_stats=own"], method="mean-teacher-corrected", teacher=6.0)]
    table = method_table(read_runs(plain + other)).set_index("method")
    means = {name: mean for name, mean in table["mean"].items() if name.startswith("mean-teacher")}
    assert means == {"mean-teacher-corrected": 7.5, "mean-teacher-corrected, tsal.bn_stats=own": 6.0}


def test_the_first_run_names_the_full_method(study):
    without_first = sorted(study, key=lambda folder: "full" in folder.name)
    comparison = read_runs(without_first)
    assert comparison.full == "tsal-no-teacher-learning"
    assert method_table(comparison).query("method == 'TSAL' and labelled == 10").difference.item() == pytest.approx(
        -0.4
    )


def test_the_budget_curve_has_a_point_for_each_number_of_labelled_faces(study):
    axes = named(draw_comparison(read_runs(study)), "compare-budgets").axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["TSAL"].get_xdata().tolist() == [10, 40] and lines["TSAL"].get_ydata() == pytest.approx([8.1, 7.2])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "40"]


def test_methods_show_every_seed_and_their_mean(study):
    figure = named(draw_comparison(read_runs(study)), "compare-methods")
    axes = next(axes for axes in figure.axes if "40 labelled" in axes.get_title())
    place = [label.get_text() for label in axes.get_yticklabels()].index("TSAL")
    digits = {
        line.get_marker(): line.get_xdata()[0] for line in axes.get_lines() if [*line.get_ydata()] == [place - 0.3]
    }
    assert digits == pytest.approx({"$0$": 7.0, "$1$": 7.2, "$2$": 7.4})
    assert "whisker: one standard deviation over seeds" in words_of(figure)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert "TSAL" in names and "tsal-no-teacher-learning (seeds 0, 1)" in names and "2 to 3 seeds" in axes.get_title()


def test_settings_without_a_name_are_written_out_and_what_all_share_is_not(tmp_path):
    shared = ["model.stages=1"]
    runs = [
        make(tmp_path / "a", [*shared, "data.workers=1"]),
        make(tmp_path / "b", [*shared, "semi.ema_decay=0.9", "tsal.heatmap_share=0.5", "data.workers=2"]),
        make(tmp_path / "c", [*shared, "semi.steps=50"]),
        make(tmp_path / "d", shared, method="stld", student=5.0),
    ]
    scores = read_runs(runs).scores
    methods = scores.set_index("runs").method
    assert methods["a, b, c, d"] == "supervised init" and methods["a, b, d"] == "supervised only"
    assert (
        set(methods["b"].split(", ")) == {"TSAL", "tsal.heatmap_share=0.5", "semi.ema_decay=0.9"}
        and methods["d"] == "stld"
    )
    assert sorted(methods["c"]) == ["TSAL, semi.steps=50", "supervised only, semi.steps=50"]
    assert scores.set_index("runs").NME["d"] == 5.0  # the student is what that method makes
    assert methods["a"] == "TSAL"


def test_a_method_is_told_apart_where_a_setting_of_its_file_is_set_to_the_full_method_s(tmp_path):
    runs = [
        make(tmp_path / "a"),
        make(tmp_path / "b", method="tsal-no-teacher-learning"),
        make(tmp_path / "c", ["tsal.teacher_lr=0.1"], method="tsal-no-teacher-learning"),
        make(tmp_path / "d", ["tsal.heatmap_share=0.5"]),
    ]
    methods = read_runs(runs).scores.set_index("runs").method
    assert (
        methods["b"] == "tsal-no-teacher-learning" and methods["c"] == "tsal-no-teacher-learning, tsal.teacher_lr=0.1"
    )
    assert methods["a"] == "TSAL" and methods["d"] == "TSAL, tsal.heatmap_share=0.5"


def test_a_run_whose_method_s_file_is_gone_is_compared_by_its_config(tmp_path):
    """The method ``tsal-no-teacher-learning``, called ``gone``: its first run stands for the file."""
    runs = [make(tmp_path / "a")]
    for name, settings in (("b", ["seed=1"]), ("c", []), ("d", ["tsal.heatmap_share=0.3"])):
        runs.append(make(tmp_path / name, settings, method="tsal-no-teacher-learning"))
        config = runs[-1] / "config.json"
        config.write_text(config.read_text().replace('"tsal-no-teacher-learning"', '"gone"'))
    methods = read_runs(runs).scores.set_index("runs").method
    assert methods["a"] == "TSAL" and methods["b"].iloc[-1] == methods["c"] == "gone"
    assert methods["d"] == "gone, tsal.heatmap_share=0.3"


def test_as_many_labels_with_other_unlabelled_faces_are_methods_of_their_own(tmp_path):
    runs = [
        make(tmp_path / "few", ["data.unlabelled=few.txt"], teacher=7.0),
        make(tmp_path / "many", ["data.unlabelled=many.txt"], teacher=6.0),
        make(tmp_path / "ten", ["data.unlabelled=ten.txt"], labelled=10, teacher=9.0),  # another budget
    ]
    scores = read_runs(runs).scores.set_index(["method", "labelled"]).NME
    of_tsal = {key: value for key, value in scores.items() if "TSAL" in key[0]}
    assert sorted(of_tsal.values()) == [6.0, 7.0, 9.0]
    assert {name for name, labelled in of_tsal if labelled == 40} == {
        "TSAL, data.unlabelled=[few.txt]",
        "TSAL, data.unlabelled=[many.txt]",
    }
    assert scores["supervised only", 40] == 8.0  # it sees neither
    apart = read_runs([runs[0], runs[2]]).scores  # where the numbers of labels tell them apart, names stay short
    assert set(apart.method) == {"supervised init", "supervised only", "TSAL"}


def test_one_run_is_shown_and_what_it_cannot_tell_is_said(tmp_path):
    comparison = read_runs([make(tmp_path / "only")])
    words = "\n".join(map(words_of, draw_comparison(comparison)))
    assert "whisker" not in words
    assert "all runs have 40 labelled faces" in words and "all runs have one method, TSAL" in words
    tables = comparison_tables(comparison)
    assert (
        tables["No spread"] == "All runs have one seed."
        and "No ablation" in tables
        and "No label-budget curve" in tables
    )


def test_runs_without_a_seed_in_common_are_not_subtracted(tmp_path):
    comparison = read_runs(
        [make(tmp_path / "a", ["seed=0"]), make(tmp_path / "b", ["seed=1"], method="tsal-no-teacher-learning")]
    )
    assert "no run of another method has a seed, a budget and an init" in comparison_tables(comparison)["No ablation"]
    assert "nothing to show" in words_of(named(draw_comparison(comparison), "compare-ablation"))


def test_runs_that_should_share_an_init_and_do_not_are_not_subtracted(tmp_path):
    """Another CPU type makes another init of the same seed; one that other settings make is another method's own."""
    runs = [make(tmp_path / f"full-{seed}", [f"seed={seed}"], teacher=7.0) for seed in (0, 1)]
    for seed, teacher, init in ((0, 7.5, 9.0), (1, 6.0, 9.1)):
        options = {"method": "tsal-no-teacher-learning", "teacher": teacher, "init": init}
        runs.append(make(tmp_path / f"without-{seed}", [f"seed={seed}"], **options))
    runs.append(make(tmp_path / "wider", ["model.width=2.0"], teacher=6.8, init=8.0))
    comparison = read_runs(runs)
    table = method_table(comparison).set_index("method")
    without, wider = table.loc["tsal-no-teacher-learning"], table.loc["TSAL, model.width=2.0"]
    assert (without.seeds, without.pairs, without.difference) == (2, 1, pytest.approx(0.5))
    assert (wider.pairs, wider.difference) == (1, pytest.approx(-0.2))
    assert table.loc["supervised only"].pairs == 2  # with that of its own init, though seed 1 has another one too
    axes = named(draw_comparison(comparison), "compare-ablation").axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    bars = {name: container[0].get_width() for name, container in zip(names, axes.containers)}
    assert bars["tsal-no-teacher-learning"] == pytest.approx(0.5)


def test_what_is_measured_in_other_ways_is_not_compared(tmp_path):
    first = make(tmp_path / "one")
    with pytest.raises(InputError, match="two: its evaluation list val.txt is not that of .*one"):
        read_runs([first, make(tmp_path / "two", digest="y")])
    with pytest.raises(InputError, match="three: its normaliser is not that of"):
        read_runs([first, make(tmp_path / "three", ["data.normaliser=box"])])


def test_a_run_whose_lists_name_other_labels_is_not_compared(tmp_path):
    runs = [make(tmp_path / name) for name in ("one", "two", "older")]
    for run, labels in zip(runs, ("a", "b")):
        for name in ("manifest.json", "metrics.json"):
            facts = json.loads((run / name).read_text())
            write_text(run / name, json.dumps(facts | {"evaluate_fingerprint": labels}))
    with pytest.raises(InputError, match=r"two: its content \(images, boxes, labels\) of val.txt is not that of .*one"):
        read_runs(runs)
    read_runs(runs[::2])


def test_numbers_of_former_settings_are_not_compared(tmp_path):
    first, second = make(tmp_path / "one"), make(tmp_path / "two", ["semi.steps=11"])
    report = json.loads((second / "metrics.json").read_text())
    report["settings"] = result_settings(Config.load(second / "config.json"))
    write_text(second / "metrics.json", json.dumps(report))
    Config.load(second / "config.json").override(["data.workers=9"]).save(second / "config.json")
    read_runs([first, second])
    Config.load(second / "config.json").override(["semi.steps=12"]).save(second / "config.json")
    with pytest.raises(InputError, match="two/metrics.json: was made with semi.steps = 11, not 12"):
        read_runs([first, second])


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "metrics.json"])
def test_a_run_that_is_not_evaluated_is_named_on_one_line(tmp_path, capsys, name):
    run = make(tmp_path / "run")
    (run / name).unlink()
    assert main(["figures", "--compare", str(run), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(run / name) in error and "python -m tsal evaluate" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_the_same_runs_give_the_same_bytes_in_another_process(study, tmp_path):
    paths = compare_runs(study, tmp_path / "out")
    assert sorted(path.name for path in paths) == FILES == sorted(path.name for path in (tmp_path / "out").iterdir())
    command = [sys.executable, "-m", "tsal", "figures", "--compare", *map(str, study), "--out", str(tmp_path / "again")]
    process = subprocess.run(
        command, check=True, cwd=REPOSITORY, env=os.environ | {"PYTHONHASHSEED": "5"}, capture_output=True, text=True
    )
    assert process.stdout.split() == [str(tmp_path / "again" / path.name) for path in paths]
    assert [path.name for path in paths if path.read_bytes() != (tmp_path / "again" / path.name).read_bytes()] == []
    assert all(
        b"/FontFile2" in path.read_bytes() and b"/Type3" not in path.read_bytes()
        for path in paths
        if path.suffix == ".pdf"
    )


def many(methods: list[str], labelled: tuple[int, ...] = (40,)) -> Comparison:
    """A run of seed 0 of each method at each number of labels."""
    rows = [
        {"list": "val", "method": method, "labelled": count, "seed": 0, "NME": 5.0 + place, "error_jitter": 1.0 + place}
        for count in labelled
        for place, method in enumerate(methods)
    ]
    return Comparison(pd.DataFrame(rows).assign(init=9.0, runs=""), "tsal", "% of d")


def test_what_is_trained_on_labels_alone_has_its_own_colour_by_either_name_and_no_colour_is_kept_from_others():
    colours = [colour for colour in COLOURS if colour not in (MODELS["supervised"], MODELS["teacher"])]
    others = [f"method-{place}" for place in range(len(colours))]
    for name in ("supervised", "supervised only"):
        colour_of = _colours(many([*others, "tsal", name]))
        assert (colour_of[name], colour_of["tsal"]) == (MODELS["supervised"], MODELS["teacher"])
        assert [colour_of[method] for method in others] == colours  # that of the init, too, which is not shown
    alone = Comparison(many(["supervised", "stld"]).scores, "supervised", "% of d")
    assert _colours(alone)["supervised"] == MODELS["supervised"]


def test_methods_without_a_common_seed_and_init_are_drawn_at_the_means_of_their_own():
    scores = many(["tsal", "stld"]).scores
    further = scores.assign(seed=1, NME=9.0)
    other_init = further.assign(init=further.init.where(further.method == "tsal", 9.1))
    for rows, seeds, nme in (
        ([scores, further], "seeds 0, 1", 7.0),
        ([scores, other_init], "seed 0", 5.0),
        ([further[further.method == "tsal"], scores[scores.method == "stld"]], "all seeds of each, which differ", 9.0),
    ):
        comparison = Comparison(pd.concat(rows, ignore_index=True), "tsal", "% of d")
        axes = named(draw_comparison(comparison), "compare-steadiness").axes[0]
        assert f"markers: {seeds}" in axes.get_title()
        assert [line.get_xdata()[0] for line in axes.get_lines() if "$" not in line.get_marker()][0] == nme


def test_the_legend_of_budgets_names_what_one_list_alone_has():
    first, second = many(["tsal"], (10, 40)).scores, many(["tsal", "stld"], (10, 40)).scores.assign(list="other")
    comparison = Comparison(pd.concat([first, second], ignore_index=True), "tsal", "% of d")
    [legend] = named(draw_comparison(comparison), "compare-budgets").legends
    assert [text.get_text() for text in legend.get_texts()] == ["tsal", "stld"]


LONG = [f"mean-teacher-corrected-batch-statistics-{number:02d}" for number in range(20)]


def test_twenty_methods_are_told_apart_by_colour_shape_and_fill():
    looks = _looks(many(["tsal", "supervised", *LONG]))
    assert len({tuple(look.values()) for look in looks.values()}) == 22
    first, again = looks[LONG[0]], looks[LONG[6]]  # six colours are free
    assert first["color"] == again["color"] == first["markerfacecolor"] and again["markerfacecolor"] == "white"


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_twenty_long_names_are_inside_of_their_figures_and_leave_room_to_draw():
    single, several = (draw_comparison(many(["tsal", *LONG], labelled)) for labelled in ((40,), (10, 40)))
    steadiness = [named(drawn, "compare-steadiness") for drawn in (single, several)]
    for figure in (*steadiness, named(several, "compare-budgets"), named(several, "compare-methods")):
        assert overhang(figure) < 0.01
        assert min(axes.get_window_extent().height for axes in figure.axes) > 0.8 * figure.dpi
    assert [[len(legend.get_texts()) for legend in figure.legends] for figure in steadiness] == [[21], [21]]
    few = named(draw_comparison(many(["tsal", "sbr", "stld", "a"])), "compare-steadiness").legends[0]
    assert [figure.legends[0]._ncols for figure in steadiness] == [1, 3] and few._ncols == 4


def test_error_jitter_is_drawn_against_nme_with_a_marker_a_method(tmp_path):
    """Where it is known: the other figures and tables are those of runs without it."""
    options = {"supervised": 8.0, "init": 9.0}
    runs = [make(tmp_path / f"tsal-{s}", [f"seed={s}"], teacher=7.0 + s, shaken=0.1, **options) for s in (0, 1)]
    runs.append(make(tmp_path / "stld-0", method="stld", student=6.0, shaken=0.2, **options))
    comparison = read_runs(runs)
    figure = named(draw_comparison(comparison), "compare-steadiness")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    axes = figure.axes[0]
    means = [line.get_xydata()[0].tolist() for line in axes.get_lines() if "$" not in line.get_marker()]
    assert dict(zip(legend, means)) == {  # of seed 0, the only one of stld
        "TSAL": pytest.approx([7.0, 0.7]),
        "stld": pytest.approx([6.0, 1.2]),
        "supervised only": pytest.approx([8.0, 1.2]),  # the mean of 0.8 and 1.6
        "supervised init": pytest.approx([9.0, 1.35]),
    }
    assert axes.get_title() == "val.txt: 40 labelled faces\nmarkers: seed 0; digits: single seeds"
    digits = [
        (line.get_marker(), line.get_xydata()[0].tolist()) for line in axes.get_lines() if "$" in line.get_marker()
    ]
    assert {marker for marker, _ in digits} == {"$0$", "$1$"} and ("$1$", pytest.approx([8.0, 0.8])) in digits
    assert overhang(figure) < 0.01
    methods = comparison_tables(comparison)[next(iter(comparison_tables(comparison)))].set_index("method")
    assert methods["error jitter %"]["stld"] == "1.200"
    assert "compare-steadiness.png" in {path.name for path in compare_runs(runs, tmp_path / "out")}
