"""``python -m tsal bench``, ``bench-gpu`` and ``bench-methods``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tsal.cli.options import add_settings, config_from
from tsal.utils import OUTPUTS, REPOSITORY

if TYPE_CHECKING:  # --help does without torch
    from tsal.config import Config

OWN = ("--methods", "--seeds", "--jobs", "--launcher", "--runs", "--out", "--only", "--inits")  # no settings


def add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--realdata",
        type=Path,
        metavar="DIR",
        default=os.environ.get("TSAL_REALDATA") or None,
        help="measure real faces too: a folder with the lists of configs/budgets/300w-120.yaml ($TSAL_REALDATA)",
    )
    parser.add_argument("--quick", action="store_true", help="seconds, on the profile smoke: its numbers mean nothing")
    out = OUTPUTS / "bench.json"
    parser.add_argument(
        "--out", type=Path, metavar="FILE", default=out, help="JSON; the table goes beside it (outputs/bench.json, .md)"
    )


def run_bench(arguments: argparse.Namespace) -> None:
    from tsal.bench import NOTES, bench, rows_table

    rows = bench(arguments.out, arguments.realdata, arguments.quick)
    print(f"{rows_table(rows)}\n\n{NOTES}\n\nalso in {arguments.out} and {arguments.out.with_suffix('.md')}")


def add_bench_gpu(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--realdata",
        type=Path,
        metavar="DIR",
        help="real faces, with the lists of budget 300w-50: trains on them, last",
    )
    add("--runs", type=Path, metavar="DIR", help="keep that training's runs here (a temporary folder)")
    out = OUTPUTS / "bench-gpu.json"
    add("--out", type=Path, metavar="FILE", default=out, help="where the JSON goes (outputs/bench-gpu.json)")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--train-s", type=float, default=330, metavar="N", help="seconds that the training may take (%(default)s)")
    add("--compile-s", type=float, default=0, metavar="N", help="seconds for compiled detectors (%(default)s: none)")
    add("--quick", action="store_true", help="under a minute on a CPU, without the training: its numbers mean nothing")


def run_bench_gpu(arguments: argparse.Namespace) -> None:
    from tsal.bench import bench_gpu, rows_table

    names = ("device", "quick", "realdata", "runs", "train_s", "compile_s")
    rows = bench_gpu(arguments.out, **{name: getattr(arguments, name) for name in names})
    print(f"{rows_table(rows)}\n\nalso in {arguments.out}")


def add_bench_methods(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, one_method=False)
    own = parser.add_argument_group("the bench")
    methods, seeds = ("supervised", "mean-teacher", "self-training", "sbr", "tsal"), (0, 1, 2)
    own.add_argument(
        "--methods", nargs="+", default=methods, metavar="NAME", help=f"of configs/methods ({' '.join(methods)})"
    )
    own.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=seeds,
        metavar="N",
        help=f"each method is run with each ({' '.join(map(str, seeds))})",
    )
    own.add_argument("--jobs", type=_from_one, default=1, metavar="N", help="runs side by side (%(default)s)")
    own.add_argument(
        "--launcher",
        choices=("local", "slurm", "ray"),
        default="local",
        help="where the runs go: this machine, a Slurm array, or Ray (%(default)s); threads of a run: "
        "$OMP_NUM_THREADS, or this machine's cores divided by --jobs, under Slurm 1",
    )
    own.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder of the runs (outputs/methods/<data>[-<budget>]); inits are taken from the folders beside it",
    )
    own.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the results: a JSON file a run, table and figure (outputs/methods/<data>[-<budget>]/results)",
    )
    own.add_argument("--only", metavar="NAME", help=argparse.SUPPRESS)  # one process' share: "base", or a method
    own.add_argument("--inits", type=int, default=1, help=argparse.SUPPRESS)  # that the base makes
    parser.allow_abbrev = False  # --method would be taken for --methods
    parser.set_defaults(method=None, seed=None)


def _from_one(text: str) -> int:
    """A whole number from 1, else argparse's line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def run_bench_methods(arguments: argparse.Namespace) -> None:
    from tsal.bench import (
        all_labels,
        bench_methods,
        check_data,
        comparable,
        compare,
        draw,
        markdown,
        other_code,
        other_inits,
        other_machines,
        prepare_base,
        read_results,
        refuse_other_settings,
        run_method,
        same_runs,
        write_csv,
    )
    from tsal.config import all_labels_budget, load_method
    from tsal.utils import write_text  # reads numpy, which make's first call must do without

    arguments.methods, arguments.seeds = ([*dict.fromkeys(values)] for values in (arguments.methods, arguments.seeds))
    for method in arguments.methods:
        load_method(method)
    data, budget = arguments.data or "rendered", arguments.budget
    name = "-".join(part for part in (data, budget) if part)
    folder = arguments.runs or OUTPUTS / "methods" / name
    out = arguments.out or OUTPUTS / "methods" / name / "results"
    arguments.seed = arguments.seeds[0]

    def configure(method: str, **names: str):
        return config_from(arguments, method=method, **names)

    if arguments.only == "base":
        prepare_base(folder, configure(arguments.methods[0]), arguments.inits)
        return
    if arguments.only:
        run_method(folder, configure(arguments.only), out)
        return
    named = _named_from_here(configure(arguments.methods[0]))
    arguments.set = arguments.set + named
    refuse_other_settings(configure, folder, out, arguments.methods, arguments.seeds)
    _print_notes(same_runs(arguments.methods, configure))
    settings = settings_alone(arguments.argv) + (["--set", *named] if named else [])
    # the runs' processes are started in another folder
    if arguments.root:
        settings += ["--root", str(Path(arguments.root).expanduser().resolve())]
    if arguments.profile and Path(arguments.profile).is_file():
        settings += ["--profile", str(Path(arguments.profile).resolve())]
    bench_methods(
        settings,
        configure,
        read_results(out),
        folder.resolve(),
        out.resolve(),
        arguments.methods,
        arguments.seeds,
        arguments.jobs,
        arguments.launcher,
    )
    every = read_results(out)
    now, wrong = check_data(folder, configure(arguments.methods[0])) if every else ({}, [])
    results = comparable(every, configure, now)
    _print_notes(wrong)
    reference = all_labels_budget(budget) if budget else ""
    other = f"{data}-{reference}"
    beside = out.parent / other if arguments.out else OUTPUTS / "methods" / other / "results"
    full = all_labels(
        (lambda method: configure(method, budget=reference)) if reference else None,
        read_results(beside) if reference else [],
        results,
    )
    rows = compare(results, full)
    write_text(out / "table.md", f"# {name}\n\n{markdown(rows)}")
    write_csv(out / "table.csv", rows)
    draw(results, out)
    print(f"{markdown(rows)}\nalso in {out / 'table.md'}")
    _print_notes(other_inits(results) + other_code(results) + other_machines(results))
    left = sorted({(r["method"], r["seed"]) for r in every} - {(r["method"], r["seed"]) for r in results})
    if left:
        runs = ", ".join(f"{method} of seed {seed}" for method, seed in left)
        _print_notes(
            [f"not in the table, since method, settings, lists, faces, labels or scheme are others now: {runs}"]
        )
    if reference and not full:
        _print_notes([f"for 'gap closed', run the method supervised with --budget {reference} too: none in {beside}"])


def _named_from_here(config: Config) -> list[str]:
    """A scheme's file relative to the working directory, with its whole path: runs are started in another folder."""
    file = Path(config.data.scheme)
    there = file.is_file() and file.resolve() != (REPOSITORY / file).resolve()
    return [f"data.scheme={file.resolve()}"] if there else []


def _print_notes(lines: Sequence[str]) -> None:
    print("".join(f"note: {line}\n" for line in lines), end="", file=sys.stderr, flush=True)


def settings_alone(argv: Sequence[str]) -> list[str]:
    """The words of a command line that are settings, without the bench's own options."""
    words, skip = [], False
    for word in argv:
        if word.startswith("--"):
            skip = word.partition("=")[0] in OWN
        if not skip:
            words.append(word)
    return words
