"""One bench for semi-supervised methods: the same init, faces, views and steps for all; only the targets differ."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tsal.bench.table import REFERENCE, compare, draw, markdown, other_starts, read_results, write_csv
from tsal.cli import asked_settings, config_from, make_settings_parser
from tsal.config import UNLABELLED_VIEWS, Config, load_budget, load_method, load_reference, method_names
from tsal.utils import REPOSITORY, InputError, write_text

SHARED = ("start", "start-2", "tracker")  # made once a seed


def base_folder(folder: Path, seed: int) -> Path:
    return folder / f"base-s{seed}"


def deciding(config: Config, method: str) -> dict:
    """The settings that decide a method's numbers, by name: results of others are not put beside them.

    Unlabelled faces, their views and what is made of them decide nothing where labels are learned alone; labels that
    are measured with (``data.truth``) never do.
    """
    from tsal.run import INCIDENTAL, flatten

    overrides, result, times = load_method(method)
    values = flatten("", config.override(overrides).to_dict()) | {"result": result, "further_times": times}
    unlabelled = [
        "data.unlabelled",
        *(name for name in values if name.startswith("tsal.")),
        *(f"augment.{name}" for name in UNLABELLED_VIEWS),
    ]
    ignored = {"data.root", "data.truth", *INCIDENTAL, *(unlabelled if result == "supervised" else ())}
    return {name: value for name, value in values.items() if name not in ignored}


def prepare_base(folder: Path, config: Config) -> None:
    """Data, tracker and supervised start(s) of a seed, which its methods share."""
    from tsal import stages
    from tsal.run import Run
    from tsal.trainings import train_starts

    run = Run.create(base_folder(folder, config.seed), config)
    stages.prepare_data(run)
    stages.train_tracker(run)
    train_starts(run)


def run_method(folder: Path, config: Config, method: str, out: Path) -> dict:
    """Train a method from its seed's start, measure its members on the evaluation lists, and keep
    ``<method>-s<seed>.json``.
    """
    from tsal import stages
    from tsal.evaluation import predictions_table, read_truth, summary, table_errors
    from tsal.model_files import load_member
    from tsal.run import Run
    from tsal.trainings import schedule_steps, train_supervised_only, train_tsal
    from tsal.utils import describe_environment

    overrides, result, times = load_method(method)
    base, path = base_folder(folder, config.seed), folder / f"{method}-s{config.seed}"
    run = Run.create(path, config.override([*overrides, f"train.further={times * config.train.further}"]))
    for name in SHARED:
        if (base / name).is_dir() and not (path / name).exists():
            (path / name).symlink_to(Path("..") / base.name / name, target_is_directory=True)
    stages.prepare_data(run, progress=False)
    further = schedule_steps(run)[1]
    if result == "supervised":
        train_supervised_only(run)
        files = {"supervised": (path / "supervised" / "model.pt", None)}
    else:
        starts = [path / name / "model.pt" for name in SHARED[:2] if (path / name).is_dir()]
        train_tsal(run, [starts[0], starts[-1]], further)
        files = {name: (path / "tsal" / "model.pt", name) for name in ("teacher", "student")}
    files["start"] = (path / "start" / "model.pt", None)
    faces = [face for faces in run.lists.evaluate.values() for face in faces]
    truth = read_truth(run.store, faces, run.config.data.normaliser, run.scheme)
    members = {name: load_member(*place, device=run.device)[0] for name, place in files.items()}
    table = predictions_table(members, run.store, truth, faces, run.device)
    errors = 100 * table_errors(table)[:, table["sources"].tolist().index("heatmap")]  # (M, N) %
    names = table["members"].tolist()
    lists = {}
    for name in run.lists.evaluate:
        scored = (table["list"] == name) & np.isfinite(errors[0])
        lists[name] = {member: summary(errors[m, scored] / 100) for m, member in enumerate(names)}
        lists[name]["faces"] = [
            round(float(v), 4) for v in errors[names.index(result), scored]
        ]  # % a face, in the list's order
    seconds = {p.parent.name: json.loads(p.read_text())["seconds"] for p in sorted(path.glob("*/time.json"))}
    environment = describe_environment()
    found = {
        "method": method,
        "result": result,
        "seed": config.seed,
        "labelled": len(run.lists.labelled),
        "steps": {"start": schedule_steps(run)[0], "further": further},
        "seconds": seconds,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "transductive": config.data.transductive,
        "normaliser": config.data.normaliser,
        "commit": environment["commit"],
        "machine": {name: environment[name] for name in ("platform", "cpu", "gpu", "packages")},
        "settings": deciding(config, method),
        "lists": lists,
    }
    write_text(out / f"{method}-s{config.seed}.json", json.dumps(found) + "\n")
    return found


def bench_methods(
    arguments: Sequence[str],
    config: Config,
    folder: Path,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    jobs: int,
) -> None:
    """Run what is missing or was made with other settings, a process each and ``jobs`` at a time; a seed's base first.

    ``arguments``: the settings, as the command line has them; ``config``: what they make.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}

    def call(seed: int, *more: str) -> None:
        command = [
            sys.executable,
            "-m",
            "tsal.methods",
            *arguments,
            "--seeds",
            str(seed),
            "--out",
            str(out),
            "--runs",
            str(folder),
            *more,
        ]
        done = subprocess.run(command, env=environment, cwd=REPOSITORY, check=False)
        if done.returncode:
            raise InputError(f"seed {seed}, {' '.join(more)}: failed, see above; the same command goes on from there")

    there = {(result["method"], result["seed"]) for result in comparable(read_results(out), config)}
    missing = {seed: [method for method in methods if (method, seed) not in there] for seed in seeds}
    with ThreadPoolExecutor(jobs) as pool:
        bases = {seed: pool.submit(call, seed, "--only", "base") for seed, wanted in missing.items() if wanted}
        runs = []
        for seed, base in bases.items():
            base.result()
            runs += [pool.submit(call, seed, "--only", method) for method in missing[seed]]
        for done in runs:
            done.result()


def comparable(results: Sequence[dict], config: Config) -> list[dict]:
    """Those that were made with these settings, the seed apart, and with their method's as it is now.

    A result that was made before there was a setting was made with its default, which leaves things as they were.
    """
    from tsal.run import flatten

    defaults = flatten("", Config().to_dict())

    def same(result: dict) -> bool:
        wanted, made = deciding(config.override({"seed": result["seed"]}), result["method"]), result.get("settings")
        return isinstance(made, dict) and all(
            made.get(name, defaults.get(name)) == value for name, value in wanted.items()
        )

    return [result for result in results if result["method"] in method_names() and same(result)]


def same_settings(methods: Sequence[str], config: Config) -> list[str]:
    """A line for each method that is, in this profile, one named before it: what a profile does without cannot be left
    out of it.
    """
    settings = {method: deciding(config, method) for method in methods}
    twins = {method: next(name for name in settings if settings[name] == settings[method]) for method in settings}
    return [
        f"{method} has the settings of {twin} in profile {config.profile}: it is the same run again"
        for method, twin in twins.items()
        if twin != method
    ]


def overruled(methods: Sequence[str], config: Config, asked: Sequence[str]) -> list[str]:
    """A line for each setting of ``asked`` ("section.name=value", already in ``config``) that a method's file sets
    otherwise.
    """
    names = {text.partition("=")[0].strip() for text in asked}
    return [
        f"{method} sets {own} itself: --set {own.partition('=')[0]} does nothing there"
        for method in dict.fromkeys(methods)
        for own in load_method(method)[0]
        if own.partition("=")[0] in names and config.override([own]) != config
    ]


def all_labels(config: Config, data: str, budget: str, results: Path) -> dict[str, float]:
    """NME by list of supervised-only where every label of the budget's domain is given, from its own folder of results."""
    name = load_reference(budget) if budget else ""
    if not name:
        return {}
    found = [
        r
        for r in comparable(read_results(results / f"{data}-{name}"), config.override(load_budget(name)))
        if r["method"] == REFERENCE
    ]
    lists = dict.fromkeys(key for r in found for key in r["lists"])
    return {
        key: float(np.mean([r["lists"][key][REFERENCE]["NME"] for r in found if key in r["lists"]])) for key in lists
    }


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = make_settings_parser(
        "python -m tsal.methods", "Compare semi-supervised methods: equal start, faces, views and steps."
    )
    own = parser.add_argument_group("the bench")
    own.add_argument(
        "--methods",
        nargs="+",
        default=["supervised", "mean-teacher", "self-training", "tsal"],
        metavar="NAME",
        help="files of configs/methods (%(default)s)",
    )
    own.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="(0)")
    own.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (%(default)s)")
    own.add_argument("--runs", type=Path, metavar="DIR", help="folder of the runs (outputs/methods/<data>[-<budget>])")
    own.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (docs/results/<data>[-<budget>])")
    own.add_argument("--only", metavar="NAME", help=argparse.SUPPRESS)  # one process' share: "base", or a method
    options = parser.parse_args(argv)
    try:
        for method in options.methods:
            load_method(method)
        name = "-".join(part for part in (options.data or "rendered", options.budget) if part)
        folder, out = (
            options.runs or REPOSITORY / "outputs" / "methods" / name,
            options.out or REPOSITORY / "docs" / "results" / name,
        )
        config = config_from(options).override({"seed": options.seeds[0]})
        if options.only == "base":
            prepare_base(folder, config)
        elif options.only:
            run_method(folder, config, options.only, out)
        else:
            passed = _settings(argv)
            _print_notes(
                same_settings(options.methods, config) + overruled(options.methods, config, asked_settings(options))
            )
            bench_methods(passed, config, folder.resolve(), out.resolve(), options.methods, options.seeds, options.jobs)
            results = comparable(read_results(out), config)
            rows = compare(results, all_labels(config, options.data or "rendered", options.budget, out.parent))
            write_text(out / "table.md", f"# {name}\n\n{markdown(rows)}")
            write_csv(out / "table.csv", rows)
            draw(results, out)
            print(f"{markdown(rows)}\nalso in {out / 'table.md'}")
            _print_notes(other_starts(results))
    except InputError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    return 0


def _print_notes(lines: Sequence[str]) -> None:
    print("".join(f"note: {line}\n" for line in lines), end="", file=sys.stderr, flush=True)


def _settings(argv: Sequence[str]) -> list[str]:
    """The arguments that are settings, without the bench's own."""
    kept, skip = [], False
    for word in argv:
        if word.startswith("--"):
            skip = word.partition("=")[0] in ("--methods", "--seeds", "--jobs", "--runs", "--out", "--only")
        if not skip:
            kept.append(word)
    return kept


if __name__ == "__main__":
    sys.exit(main())
