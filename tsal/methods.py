"""One bench for semi-supervised methods: the same start, faces, views and further steps for all; only the targets differ.

A method is a file of ``configs/methods``: settings over the profile's. Its run is a folder of its own that shares data, tracker and
start with the runs of the same seed; each finished run leaves one small JSON, from which every table is made. What is there already
is not computed again.

    python -m tsal.methods --data realdata --root DIR --budget 300w-120 --methods supervised tsal --seeds 0 1 2 --out docs/results
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Sequence

import numpy as np

from tsal.__main__ import REPOSITORY, asked_settings, config_from, make_settings_parser
from tsal.config import UNLABELLED_VIEWS, Config, load_budget, load_method, load_reference, method_names
from tsal.errors import DataError, InputError
from tsal.files import write_text

SHARED = ("start", "start-2", "tracker")  # made once a seed
REFERENCE, OURS = "supervised", "tsal"


# --- one run ---------------------------------------------------------------------------------------------------------------


def base_folder(folder: Path, seed: int) -> Path:
    return folder / f"base-s{seed}"


def deciding(config: Config, method: str) -> dict:
    """The settings that decide a method's numbers, by name: results of others are not put beside them.

    Unlabelled faces, their views and what is made of them decide nothing where labels are learned alone; labels that are measured with
    (``data.truth``) never do.
    """
    from tsal.runs import INCIDENTAL, flatten

    overrides, result, times = load_method(method)
    values = flatten("", config.override(overrides).to_dict()) | {"result": result, "further_times": times}
    unlabelled = ["data.unlabelled", *(name for name in values if name.startswith("tsal.")), *(f"augment.{name}" for name in UNLABELLED_VIEWS)]
    ignored = {"data.root", "data.truth", *INCIDENTAL, *(unlabelled if result == "supervised" else ())}
    return {name: value for name, value in values.items() if name not in ignored}


def prepare_base(folder: Path, config: Config) -> None:
    """Data, tracker and supervised start(s) of a seed, which its methods share."""
    from tsal import stages
    from tsal.runs import Run
    from tsal.training import train_starts

    run = Run.create(base_folder(folder, config.seed), config)
    stages.prepare(run)
    stages.train_tracker(run)
    train_starts(run)


def run_method(folder: Path, config: Config, method: str, out: Path) -> dict:
    """Train a method from its seed's start, measure its members on the evaluation lists, and keep ``<method>-s<seed>.json``."""
    from tsal import stages
    from tsal.evaluate import load_member, predictions_table, read_truth, table_errors
    from tsal.metrics import summary
    from tsal.runs import Run, describe_environment
    from tsal.training import schedule_steps, train_supervised_only, train_tsal

    overrides, result, times = load_method(method)
    base, path = base_folder(folder, config.seed), folder / f"{method}-s{config.seed}"
    run = Run.create(path, config.override([*overrides, f"train.further={times * config.train.further}"]))
    for name in SHARED:
        if (base / name).is_dir() and not (path / name).exists():
            (path / name).symlink_to(Path("..") / base.name / name, target_is_directory=True)
    stages.prepare(run, progress=False)
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
        lists[name]["faces"] = [round(float(v), 4) for v in errors[names.index(result), scored]]  # % a face, in the list's order
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


# --- all of them -----------------------------------------------------------------------------------------------------------


def bench_methods(
    arguments: Sequence[str], config: Config, folder: Path, out: Path, methods: Sequence[str], seeds: Sequence[int], jobs: int
) -> None:
    """Run what is missing or was made with other settings, a process each and ``jobs`` at a time; a seed's base first.

    ``arguments``: the settings, as the command line has them; ``config``: what they make.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}

    def call(seed: int, *more: str) -> None:
        command = [sys.executable, "-m", "tsal.methods", *arguments, "--seeds", str(seed), "--out", str(out), "--runs", str(folder), *more]
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


# --- the table -------------------------------------------------------------------------------------------------------------


def read_results(out: Path) -> list[dict]:
    """The JSON of each finished run in a folder."""
    found = []
    for path in sorted(Path(out).glob("*-s*.json")):
        try:
            found.append(json.loads(path.read_text()))
            found[-1]["lists"], found[-1]["method"], found[-1]["seed"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: is no result of a method's run; remove it, and run again") from None
    return found


def comparable(results: Sequence[dict], config: Config) -> list[dict]:
    """Those that were made with these settings, the seed apart, and with their method's as it is now.

    A result that was made before there was a setting was made with its default, which leaves things as they were.
    """
    from tsal.runs import flatten

    defaults = flatten("", Config().to_dict())

    def same(result: dict) -> bool:
        wanted, made = deciding(config.override({"seed": result["seed"]}), result["method"]), result.get("settings")
        return isinstance(made, dict) and all(made.get(name, defaults.get(name)) == value for name, value in wanted.items())

    return [result for result in results if result["method"] in method_names() and same(result)]


def compare(results: Sequence[dict], full: dict[str, float] | None = None, draws: int = 2000) -> list[dict]:
    """A row for each evaluation list and method: NME over seeds, and its difference from supervised-only, paired over seeds.

    ``low`` and ``high`` bound 95 % of the bootstrap of that difference (in NME points), faces and seeds drawn anew. ``full``: NME by
    list of supervised-only on all labels of the domain, for ``gap``, the share (%) of the way there that a method goes. ``ahead``,
    ``ahead low`` and ``ahead high`` say by how much TSAL is below the method, in the same way.
    """
    rows = []
    for name in dict.fromkeys(name for result in results for name in result["lists"]):
        by = {(r["method"], r["seed"]): r for r in results if name in r["lists"]}
        for method in dict.fromkeys(method for method, _ in by):
            mine = {seed: r for (m, seed), r in by.items() if m == method}
            scores = np.array([r["lists"][name][r["result"]]["NME"] for r in mine.values()])
            row = {"list": name, "method": method, "seeds": len(mine), "NME": scores.mean(), "std": scores.std(ddof=1) if len(mine) > 1 else np.nan}
            for key in ("AUC@0.08", "FR@0.08"):
                row[key] = np.mean([r["lists"][name][r["result"]][key] for r in mine.values()])
            row["difference"], row["low"], row["high"] = _paired(by, name, method, REFERENCE, draws)
            labels_alone = [by[REFERENCE, s]["lists"][name][REFERENCE]["NME"] for s in _shared_seeds(by, method, REFERENCE)]
            reference = np.mean(labels_alone) if labels_alone else np.nan
            row["relative"] = 100 * row["difference"] / reference
            row["gap"] = 100 * -row["difference"] / (reference - full[name]) if full and name in full else np.nan
            row["ahead"], row["ahead low"], row["ahead high"] = _paired(by, name, OURS, method, draws)
            row["further seconds"] = np.mean([r["seconds"].get("tsal", r["seconds"].get("supervised", np.nan)) for r in mine.values()])
            row["steps"] = next(iter(mine.values()))["steps"]["further"]
            rows.append(row)
    return rows


def _paired(by: dict[tuple[str, int], dict], name: str, method: str, other: str, draws: int) -> tuple[float, float, float]:
    """Mean over the seeds that the two share, and over faces, of a method's error less another's, and its 95 % bootstrap interval."""
    seeds = _shared_seeds(by, method, other)
    if method == other or not seeds:
        return np.nan, np.nan, np.nan
    gains = np.array([np.subtract(by[method, s]["lists"][name]["faces"], by[other, s]["lists"][name]["faces"]) for s in seeds])
    rng = np.random.default_rng(0)
    drawn_seeds = rng.integers(len(seeds), size=(draws, len(seeds)))
    drawn_faces = rng.integers(gains.shape[1], size=(draws, gains.shape[1]))
    drawn = [gains[s][:, f].mean() for s, f in zip(drawn_seeds, drawn_faces)]
    return gains.mean(), np.quantile(drawn, 0.025), np.quantile(drawn, 0.975)


def _shared_seeds(by: dict[tuple[str, int], dict], method: str, other: str) -> list[int]:
    """The seeds with which two methods went on from one start. Another machine may make another start of the same seed."""
    return [seed for m, seed in by if m == method and (other, seed) in by and _same_start(by[method, seed], by[other, seed])]


def _same_start(first: dict, second: dict) -> bool:
    """Whether two runs went on from one start, as its NME (%) on their lists tells."""
    names = first["lists"].keys() & second["lists"].keys()
    return all(abs(first["lists"][name]["start"]["NME"] - second["lists"][name]["start"]["NME"]) < 1e-3 for name in names)


def other_starts(results: Sequence[dict]) -> list[str]:
    """A line for each run whose start is not that of supervised-only of its seed: it is not paired with it."""
    reference = {r["seed"]: r for r in results if r["method"] == REFERENCE}
    return [
        f"{r['method']} of seed {r['seed']} has another start than {REFERENCE} (made on another machine?), and is not paired with it: run one of them again"
        for r in results
        if r["seed"] in reference and not _same_start(r, reference[r["seed"]])
    ]


def same_settings(methods: Sequence[str], config: Config) -> list[str]:
    """A line for each method that is, in this profile, one named before it: what a profile does without cannot be left out of it."""
    settings = {method: deciding(config, method) for method in methods}
    twins = {method: next(name for name in settings if settings[name] == settings[method]) for method in settings}
    return [f"{method} has the settings of {twin} in profile {config.profile}: it is the same run again" for method, twin in twins.items() if twin != method]


def overruled(methods: Sequence[str], config: Config, asked: Sequence[str]) -> list[str]:
    """A line for each setting of ``asked`` ("section.name=value", already in ``config``) that a method's file sets otherwise."""
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
    found = [r for r in comparable(read_results(results / f"{data}-{name}"), config.override(load_budget(name))) if r["method"] == REFERENCE]
    lists = dict.fromkeys(key for r in found for key in r["lists"])
    return {key: float(np.mean([r["lists"][key][REFERENCE]["NME"] for r in found if key in r["lists"]])) for key in lists}


def markdown(rows: Sequence[dict]) -> str:
    """The comparison as a table for each list."""
    lines = []
    for name in dict.fromkeys(row["list"] for row in rows):
        lines += [f"### {name}", "",
                  "| method | seeds | NME % | AUC@0.08 | FR@0.08 | against supervised only | 95 % interval | gap closed | tsal against it | further steps | seconds |",
                  "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        for row in sorted((row for row in rows if row["list"] == name), key=lambda row: row["NME"]):
            spread = "" if np.isnan(row["std"]) else f" ± {row['std']:.3f}"
            apart = "" if np.isnan(row["difference"]) else f"{row['difference']:+.3f} ({row['relative']:+.1f} %)"
            interval = "" if np.isnan(row["low"]) else f"{row['low']:+.3f} ... {row['high']:+.3f}"
            gap = "" if np.isnan(row["gap"]) else f"{row['gap']:.0f} %"
            ahead = "" if np.isnan(row["ahead"]) else f"{row['ahead']:+.3f} ({row['ahead low']:+.3f} ... {row['ahead high']:+.3f})"
            lines.append(f"| {row['method']} | {row['seeds']} | {row['NME']:.3f}{spread} | {row['AUC@0.08']:.3f} | {row['FR@0.08']:.3f} | {apart} | "
                         f"{interval} | {gap} | {ahead} | {row['steps']} | {row['further seconds']:.0f} |")  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = make_settings_parser("python -m tsal.methods", "Compare semi-supervised methods: equal start, faces, views and steps.")
    own = parser.add_argument_group("the bench")
    own.add_argument("--methods", nargs="+", default=["supervised", "mean-teacher", "self-training", "tsal"], metavar="NAME", help="files of configs/methods (%(default)s)")
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
        folder, out = options.runs or REPOSITORY / "outputs" / "methods" / name, options.out or REPOSITORY / "docs" / "results" / name
        config = config_from(options).override({"seed": options.seeds[0]})
        if options.only == "base":
            prepare_base(folder, config)
        elif options.only:
            run_method(folder, config, options.only, out)
        else:
            passed = _settings(argv)
            _print_notes(same_settings(options.methods, config) + overruled(options.methods, config, asked_settings(options)))
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


def draw(results: Sequence[dict], out: Path) -> None:
    """The methods with a dot a seed, as ``compare-*.png`` and ``.pdf`` beside the table."""
    import pandas as pd

    from tsal.figures_compare import Comparison, draw_comparison
    from tsal.style import NORMALISERS, save

    rows = [
        {"list": name, "method": r["method"], "labelled": r["labelled"], "seed": r["seed"], "NME": scores[r["result"]]["NME"], "runs": ""}
        for r in results
        for name, scores in r["lists"].items()
    ]
    methods = [r["method"] for r in results]
    full = "tsal" if "tsal" in methods else methods[0]
    for figure in draw_comparison(Comparison(pd.DataFrame(rows), full, f"% of {NORMALISERS[results[0]['normaliser']]}")):
        save(figure, out)


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    import pandas as pd

    write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


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
