"""The lists of packages agree, and make runs what has to be run and nothing else."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from pins import pins

from tsal import run as run_module
from tsal.config import Config
from tsal.run import STARTS
from tsal.stages import STAGES
from tsal.utils.paths import PACKAGE, REPOSITORY

PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9.]*")


def test_every_package_is_pinned_once():
    names = [pin.partition("==")[0] for pin in pins()]
    assert all(PIN.fullmatch(pin) for pin in pins()) and len(set(names)) == len(names)


def test_conda_gets_the_same_packages_as_pip():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert environment["name"] == "tsal" and "python=3.11" in environment["dependencies"]
    [by_pip] = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert by_pip == pins()


def test_the_package_says_the_same():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    folders = {path.parent.relative_to(REPOSITORY) for path in (REPOSITORY / "tsal").rglob("__init__.py")}
    names = [str(folder).replace("/", ".") for folder in folders]
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted([*names, "tsal.configs"])


def test_what_is_pinned_is_what_the_package_or_one_of_its_extras_needs():
    """Each package once: needed by a trained detector, by notebooks or by tests; and the pin is within the bounds."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["notebooks"], *extras["export"], *extras["test"]]
    names = [re.match(r"[\w-]+", item).group() for item in needed]
    assert sorted(names) == [pin.partition("==")[0] for pin in pins()]
    assert names[: len(project["dependencies"])] == ["numpy", "opencv-python", "pyyaml", "torch"]
    pinned = dict(pin.split("==") for pin in pins())
    for item in project["dependencies"]:
        name, bounds = re.match(r"([\w-]+)(.*)", item).groups()
        assert all(within(pinned[name], bound) for bound in bounds.split(",")), item


def within(version: str, bound: str) -> bool:
    sign, limit = re.match(r"(>=|<)(.*)", bound).groups()
    own, other = (tuple(map(int, text.split("."))) for text in (version, limit))
    return own >= other if sign == ">=" else own < other


def test_every_import_is_a_pinned_package():
    provided = {
        "cv2": "opencv-python",
        "yaml": "pyyaml",
        "IPython": "ipykernel",
        "jupyter_client": "nbclient",
        "packaging": "pytest",
    }
    provided["dlib"] = "dlib-bin"
    pinned = {pin.partition("==")[0] for pin in pins()}
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned |= {re.match(r"[\w-]+", pin).group() for pins_of in extras.values() for pin in pins_of}
    # a test module is none of them: what two share is in a module of its own
    own = {"tsal", *(path.stem for path in (REPOSITORY / "tests" / "helpers").glob("*.py"))}
    for path in [*(REPOSITORY / "tsal").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - own:
                assert provided.get(name, name) in pinned, f"{path.name} imports {name}"


def test_the_citation_names_the_paper():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]
    assert "2012.06711" in paper["url"] and paper["title"].startswith("Teacher-Student Asynchronous Learning")
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text() and citation["license"] == "Apache-2.0"


# --- make: the real Makefile with a python that only writes down what it was asked for ---


@pytest.fixture
def make(tmp_path):
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nprintf "%s|" "$@" >> "{log}"; echo >> "{log}"\n[ ! -e "{tmp_path}/fail" ] || exit 1\n'
        f'[ ! -e "{tmp_path}/then" ] || sh "{tmp_path}/then"\n'
    )
    python.chmod(0o755)

    def call(*arguments: str, status: int = 0, run: bool = True) -> tuple[list[str], str]:
        log.write_text("")
        command = [
            "make",
            "-C",
            str(REPOSITORY),
            "-o",
            ".venv/.done",
            f"PY={python}",
            *([f"RUN={tmp_path / 'run'}"] if run else []),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        call.stderr = done.stderr
        calls = [line.split("|") for line in log.read_text().splitlines()]
        return (
            [words[3].split("/")[-1] if words[2] == "notebook" else words[2] for words in calls],
            log.read_text(),
            done.stdout,
        )

    call.folder = tmp_path
    return call


ALL = [
    "01_data.ipynb",
    "02_tracker.ipynb",
    "03_train.ipynb",
    "04_pseudo_labels.ipynb",
    "05_evaluate.ipynb",
    "06_figures.ipynb",
]


def test_reproduce_runs_every_notebook_once_and_a_second_time_none(make):
    assert make("reproduce")[0] == [*ALL, "report"]
    assert make("reproduce")[0] == []
    assert make("-j4", "reproduce")[0] == []


def test_a_changed_plotting_module_redraws_and_trains_nothing(make):
    make("reproduce")
    assert make("-W", "tsal/figures/style.py", "reproduce")[0] == ["06_figures.ipynb", "report"]
    assert make("-W", "tsal/evaluation/metrics.py", "reproduce")[0] == [
        *ALL[1:],
        "report",
    ]  # the tracker is measured too


def test_changed_settings_begin_again_with_the_data(make):
    make("reproduce")
    assert make("evaluate", "SET=supervised.steps=5")[0] == ALL[:3] + ALL[4:5]
    assert make("evaluate", "SET=supervised.steps=5")[0] == []
    assert make("data", "SET=supervised.steps=5", "SEED=1")[0] == ALL[:1]


def test_settings_that_a_run_was_given_without_make_since_begin_again_with_the_data(make):
    make("reproduce")
    (make.folder / "run" / "config.json").write_text("{}")  # as notebook 01 does
    assert make("reproduce")[0] == [*ALL, "report"] and make("reproduce")[0] == []


def test_make_data_looks_at_the_files_again_and_what_follows_waits_for_a_change(make):
    manifest = make.folder / "run" / "manifest.json"
    config = manifest.with_name("config.json")
    lines = [f'cp "{make.folder / "found"}" "{manifest}"', f'[ -e "{config}" ] || touch "{config}"']
    (make.folder / "then").write_text("\n".join(lines) + "\n")
    (make.folder / "found").write_text("images and labels")
    make("reproduce")
    assert make("data")[0] == ALL[:1] and make("reproduce")[0] == []
    (make.folder / "found").write_text("a label is another")
    assert make("data")[0] == ALL[:1] and make("reproduce")[0] == [*ALL[1:], "report"]
    (make.folder / "found").write_text("another again")
    shutil.copy(make.folder / "found", manifest)  # as a stage by 'python -m tsal' does, which checks them too
    assert make("data")[0] == ALL[:1] and make("reproduce")[0] == [*ALL[1:], "report"]
    (make.folder / "fail").touch()
    make("data", status=2)
    (make.folder / "fail").unlink()
    assert make("reproduce")[0] == [*ALL, "report"]  # not complete: the data were not found right
    assert make("reproduce")[0] == []


def test_a_stage_whose_result_is_gone_is_run_again_and_what_is_made_from_it(make):
    """Deleted, or left out when the run was copied. Here every stage writes the results of all that are not there."""
    run = make.folder / "run"
    files = [
        "tracker/model.pt",
        "init/model.pt",
        "supervised/model.pt",
        "semi/model.pt",
        "semi/tracker-teacher/model.pt",
    ]
    files += [stage.result for stage in STAGES.values() if "*" not in stage.result] + ["predictions.npz"]
    lines = [
        f'[ -e "{run / name}" ] || {{ mkdir -p "{(run / name).parent}"; touch "{run / name}"; }}' for name in files
    ]
    (make.folder / "then").write_text("\n".join(lines) + "\n")
    make("reproduce")
    assert make("reproduce")[0] == []
    after = {
        "manifest.json": ALL,
        "tracker/metrics.json": ALL[1:],
        "semi": ALL[2:],
        "supervised/model.pt": ALL[2:],
        "semi/tracker-teacher": ALL[2:],
        "audit": [ALL[3], ALL[5]],
        "metrics.json": ALL[4:],
        "predictions.npz": ALL[4:],
        "figures": ALL[5:],
    }
    for name, notebooks in after.items():
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
        assert make("reproduce")[0] == [*notebooks, "report"], name
        assert make("reproduce")[0] == [], name


def make_config(folder) -> None:
    """Each stage that succeeds makes the run's config.json, where there is none."""
    config = folder / "run" / "config.json"
    (folder / "then").write_text(f'[ -e "{config}" ] || touch "{config}"\n')


def test_a_first_try_that_failed_is_taken_up_by_the_run_s_name(make):
    (make.folder / "fail").touch()
    log = make("data", "DATA=mine", "ROOT=/a b/it's", "LABELLED=x", "SET=a.b=1", status=2)[1]
    (make.folder / "fail").unlink()
    assert make("data")[1] == log  # not the default run


def test_a_run_that_is_named_alone_is_what_its_config_says(make):
    """Settings that 'tsal data' has given it since are not taken back."""
    make_config(make.folder)
    options = ("DATA=mine", "SET=a.b=1")
    log = make("reproduce", *options)[1]
    assert "|--set|a.b=1|" in log and make("reproduce")[0] == []
    (make.folder / "run" / "config.json").write_text("a.b: 2")
    assert make("data")[1].endswith("/run|\n") and make("reproduce")[0] == [*ALL[1:], "report"]
    assert make("data", *options)[1] == log.splitlines(keepends=True)[0]  # and where they are asked for, they are
    assert make("data", *options)[0] == ALL[:1] and make("tracker", *options)[0] == ALL[1:2]


def test_a_run_that_is_named_is_asked_for_nothing_that_is_not_given(make):
    (make.folder / "run").mkdir()
    (make.folder / "run" / "config.json").touch()  # made without make
    assert make("data")[1].endswith("/run|\n")
    assert make("data", "SET=a.b=1")[1].endswith("/run|--set|a.b=1|\n")
    assert make("data", "SEED=1", "METHOD=stld")[1].endswith("/run|--method|stld|--seed|1|\n")


def test_settings_that_were_not_found_right_are_not_those_of_a_run_that_is_named_alone(make):
    make_config(make.folder)
    make("evaluate", "LABELLED=x")
    (make.folder / "fail").touch()
    assert make("evaluate", "LABELLED=y", status=2)[0] == ALL[:1]
    (make.folder / "fail").unlink()
    assert make("evaluate")[0] == [] and make("evaluate", "LABELLED=x")[0] == []
    assert make("evaluate", "LABELLED=y")[0] == ALL[:3] + ALL[4:5]


def test_the_options_that_name_no_run_are_all_that_it_is(make):
    log = " ".join(make("data", "-n", "SEED=77", "SET=a.b=1", f"PYTHON={sys.executable}", run=False)[2].split())
    assert "/outputs/rendered-demo-s77" in log and "--seed 77 --data 'rendered' --anew --set 'a.b=1'" in log


def test_a_list_that_the_run_s_config_names_is_watched_too(make, tmp_path):
    (tmp_path / "faces" / "lists").mkdir(parents=True)
    (tmp_path / "faces" / "lists" / "few.txt").touch()
    config = Config().override({"data.root": str(tmp_path / "faces"), "data.labelled": ["few.txt", "more.txt"]})
    config.save(make.folder / "run" / "config.json")
    make("data")
    assert make("tracker")[0] == ALL[1:2]
    os.utime(tmp_path / "faces" / "lists" / "few.txt", (2e9, 2e9))
    assert make("tracker")[0] == ALL[:2]


@pytest.mark.parametrize("name", STARTS)
def test_the_weights_that_a_run_starts_from_are_watched(make, tmp_path, name):
    (tmp_path / "model.pt").touch()
    Config().override({name: str(tmp_path / "model.pt")}).save(make.folder / "run" / "config.json")
    make("data")
    assert make("tracker")[0] == ALL[1:2]
    os.utime(tmp_path / "model.pt", (2e9, 2e9))
    assert make("tracker")[0] == ALL[:2]


def test_the_weights_that_ship_are_watched_where_a_run_starts_from_them(make):
    """'make pretrain' writes the tracker anew. What a clone wrote just before its first run begins nothing again."""
    Config().override({"model.weights": "face68"}).save(make.folder / "made.json")
    config = make.folder / "run" / "config.json"  # the first stage makes it
    (make.folder / "then").write_text(f'[ -e "{config}" ] || cp "{make.folder}/made.json" "{config}"\n')
    assert make("reproduce")[0] == [*ALL, "report"] and make("reproduce")[0] == []
    for weights in ("tracker", "face68"):
        assert make("-W", f"tsal/weights/{weights}.pt", "reproduce")[0] == [*ALL, "report"]
    assert make("reproduce")[0] == []


def test_a_changed_list_has_the_data_checked_anew(make, tmp_path):
    for name in ("train.txt", "lists/val.txt"):
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).touch()
    options = ("DATA=mine", f"ROOT={tmp_path / 'faces'}", "LABELLED=train.txt", "EVALUATE=val.txt")
    make("tracker", *options)
    assert make("tracker", *options)[0] == []
    for name in ("train.txt", "lists/val.txt"):
        os.utime(tmp_path / "faces" / name, (2e9, 2e9))
        assert make("data", *options)[0] == ALL[:1]
        os.utime(tmp_path / "faces" / name, (1e9, 1e9))


def test_only_a_run_is_deleted_and_never_one_that_the_environment_names(make, monkeypatch):
    (make.folder / "run").mkdir()
    (make.folder / "run" / "mine.txt").touch()
    make("clean-run", status=2)
    assert "is no run" in make.stderr and (make.folder / "run" / "mine.txt").exists()
    (make.folder / "run" / "config.json").touch()
    make("clean-run")
    assert not (make.folder / "run").exists()
    monkeypatch.setenv("RUN", str(tmp := make.folder / "other"))
    command = ["make", "-n", "-C", str(REPOSITORY), f"PYTHON={sys.executable}", "clean-run"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "outputs/rendered-demo-s0" in said and str(tmp) not in said


def test_make_says_what_keeps_a_run_from_having_a_folder(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no such module' >&2; exit 1\n")
    python.chmod(0o755)
    command = ["make", "-n", "-C", str(REPOSITORY), f"PYTHON={python}", "help"]
    assert "ModuleNotFoundError: no such module" in subprocess.run(command, capture_output=True, text=True).stderr


def test_a_run_that_is_given_empty_is_told(make):
    assert make("help", "RUN=", status=2, run=False)[0] == []
    assert "RUN is empty: give it the run's folder" in make.stderr and len(make.stderr.splitlines()) == 1


def test_settings_reach_the_first_notebook_word_by_word(make):
    log = make("data", "DATA=mine", "ROOT=/a b/it's", "LABELLED=x y", "EVALUATE=z", "PROFILE=smoke", "SET=a.b=1 c.d=2")[
        1
    ]
    assert "|--profile|smoke|--data|mine|--root|/a b/it's|--labelled|x|y|--evaluate|z|--set|a.b=1 c.d=2|" in log
    assert "--budget" not in log and "--method" not in log
    other_log = make("data", "DATA=mine", "ROOT=/a", "PROFILE=smoke", "BUDGET=300w-120", "METHOD=mean-teacher")[1]
    assert "|--profile|smoke|--budget|300w-120|--method|mean-teacher|--data|mine|--root|/a|" in other_log
    assert "--budget" not in make("data", "DATA=mine", "ROOT=/b")[1]


@pytest.mark.parametrize("goal", ["demo", "report", "one-step", "gallery", "explore", "clean-run", "bench", "test"])
def test_set_is_refused_where_it_would_be_ignored(make, goal):
    assert make(goal, "SET=semi.lr=1e-3", status=2)[0] == []
    assert f"'make {goal}' does not use SET" in make.stderr and len(make.stderr.splitlines()) == 1


def test_set_is_taken_where_another_target_of_the_same_call_uses_it(make):
    assert make("data", "report", "SET=semi.lr=1e-3")[0] == ["01_data.ipynb", "report"]


@pytest.mark.parametrize("goal", ["train", "evaluate", "figures", "report", "one-step"])
def test_a_mistyped_run_that_is_named_alone_starts_no_new_one(make, goal):
    (make.folder / "there").mkdir()
    (make.folder / "there" / "config.json").touch()
    assert make(goal, status=2)[0] == []
    assert f"RUN={make.folder / 'run'}: no run there; runs: " in make.stderr and len(make.stderr.splitlines()) == 1
    assert f" {make.folder / 'there'}" in make.stderr and f"'make reproduce RUN={make.folder / 'run'}'" in make.stderr
    assert make("train", "SEED=1")[0] == ALL[:3] and make("evaluate")[0] == ALL[4:5]  # made with an option


def test_explore_opens_the_run_that_run_or_the_options_name(make):
    assert make("explore", status=2)[0] == [] and f"error: {make.folder / 'run'}: no run there yet" in make.stderr
    (make.folder / "then").write_text(f'echo "$TSAL_RUN" > "{make.folder}/opened"\n')
    (make.folder / "run").mkdir()
    (make.folder / "run" / "config.json").touch()
    assert make("explore")[0] == ["lab"]
    assert (make.folder / "opened").read_text() == f"{make.folder / 'run'}\n"
    for options, name in (
        (("METHOD=stld",), "rendered-demo-stld-s0"),
        (("PROFILE=smoke", "SEED=3"), "rendered-smoke-s3"),
    ):
        assert f"TSAL_RUN='{REPOSITORY / 'outputs' / name}' " in make("-n", "explore", *options, run=False)[2]


def test_the_bench_of_methods_gets_what_was_given_and_refuses_one_method_or_seed(make):
    assert make("bench-methods")[1] == "-m|tsal|bench-methods|--data|rendered|\n"
    options = ("BUDGET=300w-50", "METHODS=supervised tsal", "SEEDS=0 1", "JOBS=2", "OUT=a b", "SET=semi.lr=1e-3")
    expected = "|--budget|300w-50|--data|rendered|--set|semi.lr=1e-3|--methods|supervised|tsal|--seeds|0|1|--jobs|2|"
    assert make("bench-methods", *options)[1].endswith(f"{expected}--out|a b|\n")
    for word in ("METHOD=tsal", "SEED=0"):
        assert make("bench-methods", word, status=2)[0] == [] and "give METHODS and SEEDS" in make.stderr


def test_the_demo_gets_its_input_and_weights(make, monkeypatch):
    monkeypatch.setenv("INPUT", "another program's")
    assert make("demo")[1] == "-m|tsal|demo|\n"
    assert make("demo", "INPUT=my photo.jpg", "WEIGHTS=a b.pt", "OUT=c d")[1].endswith(
        "|demo|my photo.jpg|--weights|a b.pt|--out|c d|\n"
    )


def test_figures_are_published_where_a_folder_is_named_and_nowhere_else(make):
    assert "--publish" not in make("gallery")[1]
    assert make("gallery", "PUBLISH=docs/gallery")[1].endswith("|--publish|docs/gallery|\n")


def test_a_failed_stage_leaves_no_stamp_and_is_run_again(make):
    (make.folder / "fail").touch()
    assert make("reproduce", status=2)[0] == ALL[:1]
    (make.folder / "fail").unlink()
    assert make("data")[0] == ALL[:1]


CORE = sorted(
    path
    for pattern in ("*.py", "data/*.py", "tracker/*.py", "utils/distributed.py", "utils/environment.py")
    for path in PACKAGE.glob(pattern)
)


def test_every_file_of_the_core_makes_other_trainings(tmp_path, monkeypatch):
    """A comment in a file that decides what a training makes changes the code's fingerprint; one elsewhere does not."""
    copy = tmp_path / "tsal"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    monkeypatch.setattr(run_module, "PACKAGE", copy)
    fingerprints = [run_module.code_fingerprint()]
    for path in CORE:
        with (copy / path.relative_to(PACKAGE)).open("a") as file:
            file.write("# a comment\n")
        fingerprints.append(run_module.code_fingerprint())
    assert len(set(fingerprints)) == len(CORE) + 1
    with (copy / "figures" / "style.py").open("a") as file:
        file.write("# a comment\n")
    assert run_module.code_fingerprint() == fingerprints[-1]


def test_every_file_of_the_core_makes_make_train(make):
    make("reproduce")
    for path in CORE:
        assert "03_train.ipynb" in make("-W", str(path.relative_to(REPOSITORY)), "train")[0], path
    assert make("-W", "tsal/figures/style.py", "train")[0] == []


def test_a_stage_s_own_packages_are_watched(make):
    make("reproduce")
    for path, notebook in {
        "tsal/prepare/video.py": "01_data",
        "tsal/synthetic/mesh.py": "01_data",
        "tsal/synthetic/point_pairs.py": "01_data",
        "tsal/audit/store.py": "04_pseudo_labels",
        "tsal/evaluation/metrics.py": "02_tracker",
        "tsal/figures/tables.py": "06_figures",
    }.items():
        assert make("-W", path, "reproduce")[0][0] == f"{notebook}.ipynb", path
