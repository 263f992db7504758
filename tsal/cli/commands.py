"""The command line: ``python -m tsal <command>``, the stages of the notebooks without a notebook.

Parameters travel one way: options -> a run's config.json, made by ``data`` -> every later stage, which reads that file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tsal.cli.bench import add_bench, add_bench_gpu, add_bench_methods, run_bench, run_bench_gpu, run_bench_methods
from tsal.cli.builders import add_builders, run_builder
from tsal.cli.inference import add_inference
from tsal.cli.options import (
    add_run,
    add_settings,
    add_which,
    refuse_beside_run,
    run_folder,
)
from tsal.cli.runs import DATA_CHANGES, add_anew, add_notebook, create_run, open_run, run_notebook
from tsal.cli.settings import add_config, run_config
from tsal.stages import STAGES
from tsal.utils import OUTPUTS, ConfigError, InputError, RunError, StopSignals, describe_os_error, use_free_cores

if TYPE_CHECKING:  # torch takes seconds to import: --help does without
    from tsal.run import Run

# threads wait by spinning for a tenth of a millisecond: right where cores are free, bearable where they are shared
os.environ.setdefault("GOMP_SPINCOUNT", "100000")
COMPUTING = ("predict", "track", "demo", "bench", "bench-gpu")  # the stages see to their threads themselves
RESUMED = (*(stage.name for stage in STAGES.values() if stage.needs), "notebook", "bench-methods")  # from checkpoints
SETTINGS_ARE_FIXED = (
    "Only 'data' changes the settings of a run: an option given here that differs from the run's config.json is an "
    "error. Stages that this one needs are done first where they are missing or older than what they were made from; "
    "where there is no run yet, 'data' makes it with the options given here (--run alone names a run that is there). A "
    "training that is done with these settings is skipped, and a killed one goes on from its last checkpoint."
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tsal", description="Semi-supervised facial-landmark detection in video."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, action: Callable[[argparse.Namespace], None], epilog: str = ""
    ) -> argparse.ArgumentParser:
        description = text[0].upper() + text[1:] + "."
        subparser = commands.add_parser(name, help=text, description=description, epilog=epilog)
        subparser.set_defaults(action=action)
        return subparser

    for stage in STAGES.values():
        stage_parser = command(stage.name, stage.text, run_stage, SETTINGS_ARE_FIXED if stage.needs else DATA_CHANGES)
        add_run(stage_parser)
        add_settings(stage_parser)
        if stage.name == "data":
            add_anew(stage_parser)
            add_builders(stage_parser)
        if stage.name == "figures":
            _add_compare(stage_parser)
    report_parser = command("report", "print the table of an evaluated run, and the paths of its figures", run_report)
    sources = ("heatmap", "centre", "fused", "window")
    report_parser.add_argument("--source", default="heatmap", choices=sources, help="detection source (%(default)s)")
    report_parser.add_argument(
        "--scheme", default="", metavar="S", help="measure on this scheme's part of the run's landmarks: 51, 49"
    )
    add_which(report_parser)
    add_config(command("config", "print resolved settings, each with where it came from", run_config))
    add_inference(command)
    text = "compare semi-supervised methods: equal init, faces, views and steps"
    add_bench_methods(command("bench-methods", text, run_bench_methods))
    text = "measure loader, training steps, predict and tracker, alone and beside a busy process: four minutes"
    add_bench(command("bench", text, run_bench))
    text = "measure one GPU: the paper's step, matrix rate, precision, predict, and a real training; eight minutes"
    add_bench_gpu(command("bench-gpu", text, run_bench_gpu))
    note = "Settings are for 01_data, which makes the run or changes it; the others read the run's config.json. "
    note += DATA_CHANGES
    notebook_parser = command("notebook", "run one notebook by papermill into <run>/executed", run_notebook, note)
    add_notebook(notebook_parser)
    add_run(notebook_parser)
    add_anew(notebook_parser)
    add_settings(notebook_parser)
    gallery_parser = command("gallery", "write a run's executed notebooks as HTML to outputs/gallery", run_gallery)
    gallery_parser.add_argument(
        "--publish", type=Path, metavar="DIR", help="write up to six of the run's figures to DIR too"
    )
    add_which(gallery_parser)
    add_which(command("run-folder", "print the folder that a run of these options has", print_run_folder))
    return parser


def _add_compare(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several runs")
    group.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="instead: compare these evaluated runs, distinguished by their settings, over seeds, budgets and parts; "
        "the first run's method is the full one",
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison (outputs/compare)")


# --- stages ---


def run_stage(arguments: argparse.Namespace) -> None:
    """One stage, after those that it needs."""
    if getattr(arguments, "builder", None):
        run_builder(arguments)
        return
    if getattr(arguments, "compare", None):
        compare(arguments)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:  # one of torchrun's processes
        train_together(arguments)
        return
    run = create_run(arguments) if arguments.command == "data" else open_run(arguments)
    if arguments.command != "data":
        perform(run, arguments.command, again=True)
    print(f"run: {run.folder}")


def train_together(arguments: argparse.Namespace) -> None:
    """Stage train on the processes of torchrun; what comes before it, the first of them does alone. It also locks the
    folder, for all of them.
    """
    from contextlib import nullcontext

    from tsal.run import Run
    from tsal.trainings import train as train_models
    from tsal.utils import join_processes, leave_processes, lock_folder, rank, wait_for_all

    if arguments.command != "train":
        raise ConfigError(f"torchrun is for 'train' alone; run 'python -m tsal {arguments.command}' without it")
    join_processes()
    try:
        run = open_run(arguments) if rank() == 0 else None
        with lock_folder(run.folder) if run else nullcontext():
            if run:
                perform(run, "tracker")
            wait_for_all()
            run = Run.open(run_folder(arguments))
            times = train_models(run)
        if rank() == 0:
            describe_times(times)
            print(f"run: {run.folder}")
    except RuntimeError as error:
        if not any(name in str(error) for name in ("gloo", "NCCL")):
            raise
        text = "another process of this training ended; the same command goes on from the last checkpoint"
        raise RunError(text) from error
    finally:
        leave_processes()


def perform(run: Run, name: str, again: bool = False) -> None:
    """A stage after those that it needs. Trainings know what is done; ``again``: do another stage anew."""
    for needed in STAGES[name].needs:
        if needed != "data":
            perform(run, needed)
    if name == "train" or again or not STAGES[name].is_done(run.folder):
        {"tracker": tracker, "train": train, "pseudo": pseudo, "evaluate": evaluate, "figures": figures}[name](run)


def tracker(run: Run) -> None:
    from tsal import stages
    from tsal.figures import tracker_table

    stages.train_tracker(run)
    print(tracker_table(stages.measure_tracker(run)))


def train(run: Run) -> None:
    from tsal import stages

    describe_times(stages.train_models(run))


def describe_times(times: dict[str, dict]) -> None:
    for name, time in times.items():
        print(f"{name}: {time['steps']} steps, {time['seconds']:.1f} s")


def pseudo(run: Run) -> None:
    from tsal import stages

    audit = stages.audit_pseudo_labels(run)
    print(audit.describe() if audit else f"nothing to audit: {run.no_pseudo_labels}")


def evaluate(run: Run) -> None:
    from tsal import stages
    from tsal.figures import comparison_tables

    stages.evaluate_models(run)
    print("\n\n".join(comparison_tables(run)))


def figures(run: Run) -> None:
    from tsal import stages

    print("\n".join(str(path) for path in stages.draw_figures(run)))


def compare(arguments: argparse.Namespace) -> None:
    from tsal.figures import compare_runs

    print("\n".join(str(path) for path in compare_runs(arguments.compare, arguments.out or OUTPUTS / "compare")))


# --- other commands ---


def run_report(arguments: argparse.Namespace) -> None:
    from tsal.figures import run_report as report
    from tsal.run import Run

    refuse_beside_run(arguments)
    print(report(Run.open(run_folder(arguments)), arguments.source, arguments.scheme))


def run_gallery(arguments: argparse.Namespace) -> None:
    from tsal.figures import former_notebooks, write_gallery
    from tsal.run import Run

    refuse_beside_run(arguments)
    run, figures = Run.open(run_folder(arguments)), arguments.publish and arguments.publish.absolute()
    print("\n".join(str(path) for path in write_gallery(run, figures=figures)))
    if former := former_notebooks(run):
        print(f"note: {former}", file=sys.stderr)


def print_run_folder(arguments: argparse.Namespace) -> None:
    refuse_beside_run(arguments)
    print(run_folder(arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 2 for what the user can mend, 1 for what failed on the way, 130 and 143 when a signal stopped it."""
    argv = list(sys.argv[1:] if argv is None else argv)
    getattr(sys.stdout, "reconfigure", dict)(errors="backslashreplace")  # names of files may be no text
    arguments = make_parser().parse_args(argv)
    arguments.argv = argv[1:]
    try:
        with StopSignals(at_once=True):
            if arguments.command in COMPUTING:
                use_free_cores()
            arguments.action(arguments)
    except InputError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "tsal").startswith("tsal"):
            raise
        print(f"error: this needs {error.name}: pip install 'tsal[notebooks]' brings all there is", file=sys.stderr)
        return 2
    except (RunError, OSError) as error:
        print(f"failed: {describe_os_error(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        whole, resumed = "files that were finished are kept", "the same command goes on from the last checkpoint"
        print(f"\nstopped: {str(stop) or (resumed if arguments.command in RESUMED else whole)}", file=sys.stderr)
        return getattr(stop, "status", 130)
    return 0
