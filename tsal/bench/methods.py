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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsal import stages
from tsal.bench.launch import LAUNCHERS, Group
from tsal.bench.table import REFERENCE, read_results
from tsal.config import Config, labels_alone, load_method, names_of, result_settings, settings_of
from tsal.data import group_clips
from tsal.evaluation import STEADINESS, metrics_rows, predictions_table, read_ground_truth, table_errors
from tsal.loop import is_done
from tsal.model_files import load_model
from tsal.pseudo import PseudoLabeller
from tsal.run import Run, code_fingerprint, list_hashes
from tsal.trainings import (
    init_settings,
    measuring_tracker,
    schedule_steps,
    supervised_fingerprint,
    train_inits,
    train_semi,
    train_supervised_only,
)
from tsal.utils import (
    ConfigError,
    DataError,
    InputError,
    allowed_cores,
    describe_environment,
    lock_folder,
    remove_unfinished,
    write_text,
)

SHARED = ("init", "init-2", "tracker")  # made once a seed
STEPS = ("supervised.steps", "semi.steps", "train.epochs")
TRACKED = {  # settings without effect where nothing is tracked
    f"tsal.{name}"
    for name in ("max_fb_error", "window", "vote_error", "trust", "agreement_weight", "teacher_consistency")
}
# they do not make the tracker that a window is measured with
UNTUNED = {"tracker.flow", "tracker.tune_steps", "tracker.consistency_weight"}
BEFORE = {  # results that do not name these settings are of before there were any
    "tsal.window": 1,
    "tsal.vote_error": 0,
    "tsal.trust": 0,
    "tsal.agreement_weight": 0,
    "tracker.iterations": [1],
    "model.width": 1.0,
}
REMOVED = 5  # paths in a line
Configure = Callable[[str], Config]  # a method's name -> its config, of the bench's first seed


def seeded(configure: Configure, method: str, seed: int) -> Config:
    return configure(method).override({"seed": seed})


def deciding(config: Config) -> dict:
    """The settings that decide a run's numbers, by name: results of others are not put beside them.

    Unlabelled faces, their views and what is made of them decide nothing where labels are learned alone; labels to
    measure pseudo-labels by (``data.audit_labels``) never do.
    """
    method, kept = load_method(config.method), result_settings(config)
    if labels_alone(config):
        ignored = settings_of("unlabelled")
        kept = {name: value for name, value in kept.items() if name not in ignored and not name.startswith("tsal.")}
    return kept | {"result": method.result, "steps_times": method.steps_times}


def learned_and_measured(config: Config) -> list[str]:
    """The lists that decide a run's numbers, as :func:`deciding` has them."""
    kept = deciding(config)
    return [name for part in ("labelled", "unlabelled", "evaluate") for name in kept.get(f"data.{part}", ())]


# --- one run ---


def base_folder(folder: Path, seed: int) -> Path:
    return folder / f"base-s{seed}"


def prepare_base(folder: Path, config: Config, inits: int = 1) -> None:
    """Data, tracker and supervised init(s) of a seed, which its methods share."""
    run = Run.create(base_folder(folder, config.seed), config)
    stages.prepare_data(run, checked=run.folder)
    stages.train_tracker(run)
    take_inits(run, folder.parent, inits)
    train_inits(run, inits)


def take_inits(run: Run, beside: Path, count: int) -> None:
    """Copy what another budget's base in ``beside`` has learned from the same labelled faces in the same way."""
    for name, settings in init_settings(run, count).items():
        own, wanted = run.folder / name, supervised_fingerprint(run, name, **settings)
        for path in sorted(beside.glob(f"*/{run.folder.name}/{name}/model.pt")):
            if not (own / "model.pt").exists() and is_done(path, wanted):
                remove_unfinished(run.folder, name)
                copy = run.folder / f".{name}.{os.getpid()}.tmp"
                shutil.copytree(path.parent, copy)
                shutil.rmtree(own, ignore_errors=True)  # of a training that was begun
                os.replace(copy, own)


def run_method(folder: Path, config: Config, out: Path) -> dict:
    """Train a method from its seed's init, measure its models on the evaluation lists, and keep
    ``<method>-s<seed>.json``.
    """
    method = load_method(config.method)
    code = code_fingerprint("evaluation")  # before files may change: trainings are long
    base, path = base_folder(folder, config.seed), folder / f"{method.name}-s{config.seed}"
    run = Run.create(path, config)
    stages.prepare_data(run, checked=base, progress=False)
    for name in SHARED:
        if (base / name).is_dir() and not (path / name).exists():
            (path / name).symlink_to(Path("..") / base.name / name, target_is_directory=True)
    if labels_alone(config):
        train_supervised_only(run)
        files = {"supervised": (path / "supervised" / "model.pt", None)}
    else:
        train_semi(run, train_inits(run), schedule_steps(run)[1])
        files = {name: (path / "semi" / "model.pt", name) for name in ("teacher", "student")}
    files["init"] = (path / "init" / "model.pt", None)
    faces = [face for faces in run.lists.evaluate.values() for face in faces]
    truth = read_ground_truth(run.store, faces, run.config.data.normaliser, run.scheme)
    models = {name: load_model(*place, device=run.device)[0] for name, place in files.items()}
    how = {"consecutive": run.config.data.consecutive, "sparse": run.config.data.sparse}
    table = predictions_table(models, run.store, truth, faces, run.device, tracker=measuring_tracker(run), **how)
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
    found = {
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
        "list_hashes": list_hashes(run, learned_and_measured(config)),
        "lists": lists,
    }
    write_text(out / f"{method.name}-s{config.seed}.json", json.dumps(found) + "\n")
    return found


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
    """Run what is missing among ``results`` or was made with other lists, a process each and ``jobs`` at a time; a
    seed's base first.

    ``arguments``: the settings, as the command line has them; ``configure``: what they make; ``launcher``: a name of
    :data:`tsal.bench.launch.LAUNCHERS`.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, len(allowed_cores()) // jobs))
    inits = max(configure(method).tsal.inits for method in methods)

    def command(seed: int, *more: str) -> tuple[str, ...]:
        own = ("--seeds", str(seed), "--out", str(out), "--runs", str(folder), *more)
        return (sys.executable, "-m", "tsal", "bench-methods", *arguments, *own)

    there = {(result["method"], result["seed"]) for result in comparable(results, configure)}
    groups = []
    for seed in seeds:
        if missing := [method for method in methods if (method, seed) not in there]:
            base = command(seed, "--only", "base", "--inits", str(inits))
            groups.append(Group(base, tuple(command(seed, "--only", method) for method in missing)))
    if groups:
        with lock_folder(folder):
            LAUNCHERS[launcher](groups, jobs, threads, folder)


def comparable(results: Sequence[dict], configure: Configure) -> list[dict]:
    """Those that were made with these settings, the seed apart, with their method's as it is now, and with the lists as
    they are now.

    A result that was made before there was a setting was made with its default, or with what ``BEFORE`` says; one that
    does not say what its lists held counts as made with these.
    """
    known = names_of("methods")

    def same_lists(result: dict) -> bool:
        run = Run(Path(), seeded(configure, result["method"], result["seed"]))
        return all(_hash_now(run, name) in (None, made) for name, made in result.get("list_hashes", {}).items())

    return [r for r in results if r["method"] in known and not other_settings(r, configure) and same_lists(r)]


def other_settings(result: dict, configure: Configure) -> dict[str, tuple[Any, Any]]:
    """The settings, by name, that a result was made with otherwise than it would be now: made with, and now."""
    defaults, config = Config().flat() | BEFORE, seeded(configure, result["method"], result["seed"])
    wanted, made = deciding(config), result.get("settings")
    if not isinstance(made, dict):
        return {"settings": ("not kept", "kept")}
    if not PseudoLabeller(config).needs_flow:  # what is asked of tracks, and what makes them, decides nothing
        ignored = TRACKED | {name for name in wanted if name.startswith("tracker.")}
        if config.data.consecutive:  # the tracker makes the numbers of a window, and with these a method needs it
            ignored = UNTUNED | TRACKED - {"tsal.agreement_weight", "tsal.teacher_consistency"}
        wanted = {n: v for n, v in wanted.items() if n not in ignored}
    found = {name: (made.get(name, defaults.get(name)), value) for name, value in wanted.items()}
    return {name: (before, now) for name, (before, now) in found.items() if before != now}


def refuse_other_settings(
    configure: Configure, folder: Path, out: Path, methods: Sequence[str], seeds: Sequence[int]
) -> None:
    """Raise where runs or results of other settings would be overwritten, or would lie beside those to come; one that
    this version cannot read counts as such. Of a method that is not asked for, its own settings (``tsal.*``) may be
    others, and its run may be of another version.
    """
    there = {out / f"{found['method']}-s{found['seed']}.json": found for found in read_results(out)}
    wrong: dict[Path, str] = {}
    for path in sorted(folder.glob("*-s*/config.json")):
        name = path.parent.name.rpartition("-s")[0]
        if name == "base":
            continue
        try:
            config = Config.load(path)
            there[path.parent] = {"method": config.method, "seed": config.seed, "settings": deciding(config)}
        except ConfigError as error:
            if name in methods:
                wrong[path.parent] = f"cannot be read by this version ({error})"
    for path, found in there.items():
        if found["method"] not in names_of("methods"):
            continue
        apart, asked = other_settings(found, configure), (found["method"] in methods and found["seed"] in seeds)
        # an earlier version wrote the steps of a longer training to its run's config.json
        longer = STEPS if path.is_dir() and load_method(found["method"]).steps_times > 1 else ()
        apart = {n: v for n, v in apart.items() if n not in longer and (asked or not n.startswith("tsal."))}
        if apart:
            few = ", ".join(f"{name} = {made!r}, not {now!r}" for name, (made, now) in list(apart.items())[:3])
            said = f"was made with {few}{', ...' if len(apart) > 3 else ''}"
            wrong[path] = "does not say its settings" if "settings" in apart else said
    if wrong:
        (first, what), more = next(iter(wrong.items())), len(wrong) - REMOVED
        text = ", ".join(map(str, list(wrong)[:REMOVED])) + (f" and {more} more" if more > 0 else "")
        raise InputError(
            f"{first}: {what}, and would be overwritten or compared with other runs"
            f"{f', and so would {len(wrong) - 1} more' if len(wrong) > 1 else ''}; name other folders by "
            f"--runs and --out (make: RUNS= and OUT=), or remove {text}"
        )


def _hash_now(run: Run, name: str) -> str | None:
    """A list's content hash, or None where it is not here (yet): a run says so itself."""
    try:
        return list_hashes(run, [name])[name]
    except (ConfigError, DataError):
        return None


def same_runs(methods: Sequence[str], configure: Configure) -> list[str]:
    """A line for each method that is, on these data, one named before it: where no frame follows another, there is
    nothing to track.
    """

    def effective(method: str) -> dict:
        config = configure(method)
        labeller, found = PseudoLabeller(config), deciding(config)
        found |= {"tsal.sources": labeller.names, "tsal.tracking": labeller.needs_flow}
        return found | {name: None for name in TRACKED if not labeller.needs_flow}

    settings = {method: effective(method) for method in methods}
    twins = {method: next(name for name in settings if settings[name] == settings[method]) for method in settings}
    return [
        f"{method} is {twin} on these data (data.consecutive=false: nothing is tracked): it is the same run again"
        for method, twin in twins.items()
        if twin != method
    ]


def all_labels(configure: Configure | None, results: Sequence[dict]) -> dict[str, float]:
    """NME by list of supervised-only where every label of the budget's domain is given; ``configure`` and ``results``
    are that budget's.
    """
    found = [r for r in comparable(results, configure) if r["method"] == REFERENCE] if configure else []
    lists = dict.fromkeys(key for r in found for key in r["lists"])
    return {
        key: float(np.mean([r["lists"][key][REFERENCE]["NME"] for r in found if key in r["lists"]])) for key in lists
    }
