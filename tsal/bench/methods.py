"""One bench for semi-supervised methods: the same init, faces, views and steps for all; only the targets differ.

A method is a file of ``configs/methods``. Its run is a folder of its own that shares data, tracker and init with the
runs of the same seed; each finished run leaves one small JSON, from which every table is made. What is there already is
not computed again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tsal import stages
from tsal.bench.conditions import Configure, base_folder, check_data, comparable, deciding, made_from
from tsal.bench.launch import LAUNCHERS, Group, threads_of
from tsal.config import Config, labels_alone, load_method
from tsal.data import group_clips
from tsal.evaluation import STEADINESS, metrics_rows, table_errors
from tsal.loop import is_done
from tsal.run import Run, code_fingerprint
from tsal.trainings import (
    init_settings,
    schedule_steps,
    supervised_fingerprint,
    train_inits,
    train_semi,
    train_supervised_only,
)
from tsal.utils import InputError, describe_environment, lock_folder, remove_unfinished, write_text

SHARED = ("init", "init-2", "tracker")  # made once a seed

# --- one run ---


def prepare_base(folder: Path, config: Config, inits: int = 1) -> None:
    """Data, tracker and supervised init(s) of a seed, which its methods share."""
    run = Run.create(base_folder(folder, config.seed), config)
    with lock_folder(run.folder):
        stages.prepare_data(run, checked=run.folder)
        stages.train_tracker(run)
        take_inits(run, folder.parent, inits)
        train_inits(run, inits)


def take_inits(run: Run, beside: Path, count: int) -> None:
    """Copy what another budget's base in ``beside`` has learned from the same labelled faces in the same way."""
    for name, settings in init_settings(run, count).items():
        own, fingerprint = run.folder / name, supervised_fingerprint(run, name, **settings)
        for path in sorted(beside.glob(f"*/{run.folder.name}/{name}/model.pt")):
            if not (own / "model.pt").exists() and is_done(path, fingerprint):
                remove_unfinished(run.folder, name)
                copy = run.folder / f".{name}.{os.getpid()}.tmp"
                shutil.copytree(path.parent, copy)
                shutil.rmtree(own, ignore_errors=True)  # of a training that was begun
                os.replace(copy, own)


def run_method(folder: Path, config: Config, out: Path) -> dict:
    """Train a method from its seed's init, measure its models on the evaluation lists, and keep
    ``<method>-s<seed>.json``.
    """
    run = Run.create(folder / f"{config.method}-s{config.seed}", config)
    with lock_folder(run.folder):
        return _train_and_measure(run, base_folder(folder, config.seed), out)


def _train_and_measure(run: Run, base: Path, out: Path) -> dict:
    config, path, method = run.config, run.folder, load_method(run.config.method)
    code = code_fingerprint("evaluation")  # before files may change: trainings are long
    stages.prepare_data(run, checked=base, progress=False)
    for name in SHARED:
        if (base / name).is_dir() and not (path / name).exists():
            (path / name).symlink_to(Path("..") / base.name / name, target_is_directory=True)
    refuse_other_init(run)
    if labels_alone(config):
        train_supervised_only(run)
        files = {"supervised": (path / "supervised" / "model.pt", None)}
    else:
        train_semi(run, train_inits(run), schedule_steps(run)[1])
        files = {name: (path / "semi" / "model.pt", name) for name in ("teacher", "student")}
    files["init"] = (path / "init" / "model.pt", None)
    table = stages.predict_lists(run, files)
    errors = 100 * table_errors(table)[:, table["sources"].tolist().index("heatmap")]  # (M, N) %
    names = table["models"].tolist()
    rows, lists = [row for row in metrics_rows(table) if row["source"] in ("heatmap", "window")], {}
    for name in run.lists.evaluate:
        scored = (table["list"] == name) & np.isfinite(errors[0])
        lists[name] = {row["model"]: _kept(row) for row in rows if (row["list"], row["source"]) == (name, "heatmap")}
        for row in rows:
            if (row["list"], row["source"]) == (name, "window"):
                lists[name][row["model"]]["window"] = _kept(row)
        # % a face, in the list's order, and which clip it is of: frames of a clip are not drawn apart
        lists[name]["faces"] = [round(float(v), 4) for v in errors[names.index(method.result), scored]]
        clips = [number for number, clip in enumerate(group_clips(run.lists.evaluate[name])) for _ in clip.faces]
        lists[name]["clips"] = np.array(clips)[scored[table["list"] == name]].tolist()
    seconds = {p.parent.name: json.loads(p.read_text())["seconds"] for p in sorted(path.glob("*/time.json"))}
    environment, steps = describe_environment(), schedule_steps(run)
    result = made_from(run) | {
        "method": method.name,
        "result": method.result,
        "seed": config.seed,
        "labelled": len(run.lists.labelled),
        "steps": {"init": steps[0], "semi": steps[1]},
        "seconds": seconds,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "transductive": config.data.transductive,
        "normaliser": config.data.normaliser,
        "commit": environment["commit"],
        "code": code,
        "machine": {name: environment[name] for name in ("platform", "cpu", "gpu", "packages")},
        "settings": deciding(config),
        "lists": lists,
    }
    write_text(out / f"{method.name}-s{config.seed}.json", json.dumps(result) + "\n")
    return result


def refuse_other_init(run: Run) -> None:
    """Raise where an init that a run shares with others is not the one that its settings, data and code make: a
    training through the link would make it another one for all.
    """
    for name, settings in init_settings(run).items():
        model = run.folder / name / "model.pt"
        if model.parent.is_symlink() and not is_done(model, supervised_fingerprint(run, name, **settings)):
            raise InputError(
                f"{model.parent.resolve()}: is not the init that settings, labelled faces and code make now (were they "
                "changed while the bench ran?); the bench's command makes it anew, for all methods of the seed"
            )


def _kept(row: dict) -> dict[str, float]:
    """The numbers of a row of the metrics that methods are compared by."""
    return {name: value for name, value in row.items() if "@" in name or name in ("NME", *STEADINESS)}


# --- all of them ---


def bench_methods(
    arguments: Sequence[str],
    configure: Configure,
    results: Sequence[dict],
    folder: Path,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    jobs: int,
    launcher: str = "local",
) -> None:
    """Run what is missing among ``results`` or was made with other data, a process each and ``jobs`` at a time; a
    seed's base first.

    ``arguments``: the settings, as the command line has them; ``configure``: what they make; ``launcher``: a name of
    :data:`tsal.bench.launch.LAUNCHERS`.
    """
    inits = max(configure(method).tsal.inits for method in methods)

    def command(seed: int, *more: str) -> tuple[str, ...]:
        own = ("--seeds", str(seed), "--out", str(out), "--runs", str(folder), *more)
        return (sys.executable, "-m", "tsal", "bench-methods", *arguments, *own)

    now = check_data(folder, configure(methods[0]))[0] if results else {}
    there = {(result["method"], result["seed"]) for result in comparable(results, configure, now)}
    groups = []
    for seed in seeds:
        if missing := [method for method in methods if (method, seed) not in there]:
            base = command(seed, "--only", "base", "--inits", str(inits))
            groups.append(Group(base, tuple(command(seed, "--only", method) for method in missing)))
    if groups:
        with lock_folder(folder):
            LAUNCHERS[launcher](groups, jobs, threads_of(launcher, jobs), folder)
