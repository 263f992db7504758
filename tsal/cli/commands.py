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

from tsal.prepare import add_builders, run_builder
from tsal.utils import REPOSITORY, ConfigError, InputError

if TYPE_CHECKING:  # torch takes seconds to import: --help does without
    from tsal.config import Config
    from tsal.run import Run

os.environ.setdefault(
    "GOMP_SPINCOUNT", "100000"
)  # threads wait by spinning for a tenth of a millisecond: right where cores are free, bearable where shared
STAGES = {
    "data": "make or refresh a run: resolve its settings, make the rendered faces, check every list, image and annotation; "
    "or, with a BUILDER, prepare a dataset",
    "tracker": "train the optical-flow tracker and measure it beside zero motion and OpenCV's DIS",
    "train": "supervised start, supervised-only and TSAL for the same further steps",
    "pseudo": "audit every source of pseudo-labels on unlabelled clips",
    "evaluate": "predict the evaluation lists with every member and compute the metrics",
    "figures": "draw the figures of a run",
}
SETTINGS_ARE_FIXED = (
    "Settings are fixed when 'data' makes the run and are read from its config.json afterwards; options given here must agree with it. "
    "Where there is no run yet, or an earlier stage is missing or was done with other settings, it is done first. "
    "What is done already is skipped, and a killed training goes on from its last checkpoint."
)


# --- options
# ---------------------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tsal", description="Semi-supervised facial-landmark detection in video."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, action: Callable[[argparse.Namespace], None], epilog: str = ""
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog)
        made.set_defaults(action=action)
        return made

    for name, text in STAGES.items():
        made = command(name, text, run_stage, SETTINGS_ARE_FIXED if name != "data" else "")
        _add_run(made)
        _add_settings(made)
        if name == "data":
            add_builders(made)
        if name == "figures":
            group = made.add_argument_group("several runs")
            group.add_argument(
                "--compare",
                nargs="+",
                type=Path,
                metavar="RUN",
                help="instead: compare these evaluated runs, told apart by their "
                "settings, over seeds, label budgets and parts; the first run's method is the full one",
            )
            group.add_argument(
                "--out",
                type=Path,
                metavar="DIR",
                help="folder of the comparison's figures and tables (outputs/compare)",
            )
    made = command("report", "print the table of an evaluated run, and the paths of its figures", run_report)
    _add_run(made)
    made.add_argument(
        "--source", default="heatmap", choices=("heatmap", "centre", "fused"), help="detection source (%(default)s)"
    )
    _add_settings(made, only_names=True)

    made = command("predict", "write the landmarks of every row of a list, labelled or not", run_predict)
    made.add_argument(
        "--weights", required=True, type=Path, metavar="W", help="a training's model.pt, such as <run>/tsal/model.pt"
    )
    made.add_argument(
        "--list",
        required=True,
        metavar="LIST",
        help="path_of_img path_of_annotation x1 y1 x2 y2 [face_size] a row; "
        "a path, or a name in DIR or DIR/lists; annotations are not opened",
    )
    made.add_argument(
        "--root", required=True, type=Path, metavar="DIR", help="folder that the list's paths are relative to"
    )
    made.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="P.npz",
        help="gets paths (N,), points (N,K,2) in px of the original images, scores (N,K), in the order of the list",
    )
    made.add_argument("--member", metavar="NAME", help="teacher or student of a TSAL training (teacher)")
    made.add_argument(
        "--source", default="heatmap", choices=("heatmap", "centre", "fused"), help="detection source (%(default)s)"
    )
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")

    made = command(
        "track",
        "draw the landmarks of every face on a video, and write their numbers",
        run_track,
        "Faces are found and followed, so nothing but the video is needed. OUT.mp4 has the upright video's size "
        "(both: two side by side; an odd one gains a column or row), its mean frame rate and no sound. It is "
        "MPEG-4 part 2, which OpenCV writes everywhere; browsers want H.264: ffmpeg -i OUT.mp4 -c:v libx264 "
        "-pix_fmt yuv420p WEB.mp4. What is drawn is read back from the CSV: "
        "frame,time_ms,face,member,left,top,right,bottom,score,x0,y0,...,score0,... in px of the upright video; a "
        "face that was lost, or comes after a cut, gets a new number. A dot is hollow where its score is low: "
        "under three quarters of the member's median in the video. An existing OUT.mp4 is replaced only where its CSV "
        "shows that this command wrote it.",
    )
    made.add_argument("video", type=Path, metavar="VIDEO")
    made.add_argument(
        "--weights", required=True, type=Path, metavar="W", help="a training's model.pt, such as <run>/tsal/model.pt"
    )
    made.add_argument(
        "--out", required=True, type=Path, metavar="OUT.mp4", help="gets the video with faces, lines and dots"
    )
    made.add_argument("--csv", type=Path, metavar="OUT.csv", help="gets the numbers (beside OUT.mp4)")
    made.add_argument(
        "--member", metavar="NAME", help="teacher or student of a TSAL training, or both side by side (teacher)"
    )
    made.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="sigma of a Gaussian over time; it looks as far ahead as back, so it has no lag (0: points as detected)",
    )
    made.add_argument(
        "--boxes-file", type=Path, metavar="CSV", help="boxes of another finder: [video,]frame,x1,y1,x2,y2[,track]"
    )
    made.add_argument(
        "--min-face",
        type=float,
        default=0.1,
        metavar="S",
        help="smallest face over the picture's shorter side (%(default)s)",
    )
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")

    made = command(
        "notebook",
        "run one notebook by papermill into <run>/executed",
        run_notebook,
        "The options of settings go to a notebook that has them as parameters (01_data); later notebooks read the run's config.",
    )
    made.add_argument("notebook", type=Path, help="such as notebooks/01_data.ipynb")
    made.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a name of the notebook's parameters cell and its value, read as YAML; may be repeated",
    )
    _add_run(made)
    _add_settings(made)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="the run's folder (outputs/<data>[-<budget>]-<profile>-s<seed>)"
    )


def _add_settings(parser: argparse.ArgumentParser, only_names: bool = False) -> None:
    """Options that make a config; ``only_names``: those alone that name a run's folder."""
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--profile",
        metavar="NAME",
        help="cpu, real, smoke or paper, or the path of a YAML file (cpu; real for faces of your own)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="of initial weights and batches (0)")
    group.add_argument(
        "--data", metavar="NAME", help="'rendered', the embedded faces, or a name for faces of your own (rendered)"
    )
    group.add_argument("--budget", metavar="NAME", help="lists of a label budget in configs/budgets, such as 300w-120")
    if only_names:
        return
    group.add_argument(
        "--root", metavar="DIR", help="folder of your own faces; lists are relative to it or to its folder lists"
    )
    group.add_argument("--labelled", nargs="+", metavar="LIST", help="training lists with labels (labelled.txt)")
    group.add_argument(
        "--unlabelled", nargs="+", metavar="LIST", help="training lists whose labels are not used (unlabelled.txt)"
    )
    group.add_argument("--evaluate", nargs="+", metavar="LIST", help="lists to measure on (val.txt)")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="A.B=C",
        help="any setting of tsal/config.py; several may stand in one word, split on white space; the last one wins",
    )


def make_settings_parser(program: str, text: str) -> argparse.ArgumentParser:
    """A parser of the options that make a config, for programs beside this one."""
    parser = argparse.ArgumentParser(prog=program, description=text)
    _add_settings(parser)
    return parser


def overrides_from(arguments: argparse.Namespace) -> list[str]:
    """The overrides that the options stand for, but the seed: a budget first, --set last."""
    overrides = []
    if arguments.data is not None:
        overrides.append(f"data.name={arguments.data}")
    if arguments.root is not None:
        overrides.append(f"data.root={Path(arguments.root).expanduser().resolve()}")
    if arguments.budget is not None:
        from tsal.config import load_budget

        overrides += load_budget(arguments.budget)
    for name in ("labelled", "unlabelled", "evaluate"):
        if getattr(arguments, name) is not None:
            overrides.append(f"data.{name}={','.join(getattr(arguments, name))}")
    return overrides + asked_settings(arguments)


def asked_settings(arguments: argparse.Namespace) -> list[str]:
    """What --set asks for, one override a word."""
    return [part for text in arguments.set for part in text.split()]


def config_from(arguments: argparse.Namespace) -> Config:
    """The config that the options ask for, on the profile's ground."""
    from tsal.config import Config

    seed = [] if arguments.seed is None else [f"seed={arguments.seed}"]
    return Config.load(_profile(arguments), [*seed, *overrides_from(arguments)])


def _profile(arguments: argparse.Namespace) -> str:
    """The profile that is named, or the one that was chosen on faces of this kind."""
    return arguments.profile or ("cpu" if arguments.data in (None, "rendered") else "real")


def run_folder(arguments: argparse.Namespace) -> Path:
    """The folder that --run names, or the one that follows from the other options."""
    if arguments.run is not None:
        return arguments.run.absolute()  # of the folder that the command is given in
    parts = [arguments.data or "rendered", arguments.budget, Path(_profile(arguments)).stem, f"s{arguments.seed or 0}"]
    return REPOSITORY / "outputs" / "-".join(part for part in parts if part)


# --- stages
# ----------------------------------------------------------------------------------------------------------------


def create_run(arguments: argparse.Namespace) -> Run:
    from tsal import stages
    from tsal.run import Run

    run = Run.create(run_folder(arguments), config_from(arguments))
    print(describe_manifest(stages.prepare_data(run)))
    return run


def open_run(arguments: argparse.Namespace) -> Run:
    """The run of a later stage: the one there is, if the options agree with it; else a new one."""
    from tsal import stages
    from tsal.run import Run

    folder = run_folder(arguments)
    if not (folder / "config.json").exists():
        return create_run(arguments)
    run = Run.open(folder)
    if arguments.profile is not None:
        wanted = config_from(arguments)
    else:
        seed = [] if arguments.seed is None else [f"seed={arguments.seed}"]
        wanted = run.config.override([*seed, *overrides_from(arguments)])
    if difference := _difference(run.config, wanted):
        raise ConfigError(
            f"{folder}: the run was made with {difference}; give these options to 'python -m tsal data', which fixes "
            "the settings of a run, or name another --run"
        )
    if not (folder / "manifest.json").exists():
        print(describe_manifest(stages.prepare_data(run)))
    return run


def _difference(made: Config, wanted: Config) -> str:
    import dataclasses

    def flat(values: dict, prefix: str = "") -> dict:
        return {
            k: v
            for n, item in values.items()
            for k, v in (flat(item, f"{prefix}{n}.") if isinstance(item, dict) else {prefix + n: item}).items()
        }

    former, latter = (flat(dataclasses.asdict(config)) for config in (made, wanted))
    return ", ".join(
        f"{name} = {former[name]!r}, not {latter[name]!r}" for name in former if former[name] != latter[name]
    )


def run_stage(arguments: argparse.Namespace) -> None:
    """One stage, after those that it needs."""
    name = arguments.command
    if getattr(arguments, "builder", None):
        run_builder(arguments)
        return
    if getattr(arguments, "compare", None):
        compare(arguments)
        return
    run = create_run(arguments) if name == "data" else open_run(arguments)
    if name in ("pseudo", "evaluate", "figures"):
        train(run)  # skips what is done
    if name != "data":
        {"tracker": tracker, "train": train, "pseudo": pseudo, "evaluate": evaluate, "figures": figures}[name](run)
    print(f"run: {run.folder}")


def tracker(run: Run) -> None:
    from tsal import stages
    from tsal.figures import tracker_table

    stages.train_tracker(run)
    print(tracker_table(stages.measure_tracker(run)))


def train(run: Run) -> None:
    from tsal import stages

    stages.train_tracker(run)
    for name, time in stages.train_models(run).items():
        print(f"{name}: {time['steps']} steps, {time['seconds']:.1f} s")


def pseudo(run: Run) -> None:
    from tsal import stages

    found = stages.audit_pseudo_labels(run)
    print(
        f"{len(found.frames)} frames, members {', '.join(found.names)}, sources {', '.join(found.sources)}: {found.folder}"
    )


def evaluate(run: Run) -> None:
    from tsal import stages
    from tsal.figures import comparison_tables

    stages.evaluate_models(run)
    print("\n\n".join(comparison_tables(run)))


def figures(run: Run) -> None:
    from tsal.figures import draw_all

    for name, stage in {
        "tracker/metrics.json": tracker,
        "audit/labels.parquet": pseudo,
        "metrics.json": evaluate,
    }.items():
        if not _is_newer(run.folder / name, run.folder / "tracker/model.pt", run.folder / "tsal/model.pt"):
            stage(run)
    print("\n".join(str(path) for path in draw_all(run)))


def compare(arguments: argparse.Namespace) -> None:
    from tsal.figures import compare_runs

    print(
        "\n".join(
            str(path) for path in compare_runs(arguments.compare, arguments.out or REPOSITORY / "outputs" / "compare")
        )
    )


def _is_newer(path: Path, *others: Path) -> bool:
    return path.exists() and all(path.stat().st_mtime >= other.stat().st_mtime for other in others)


def describe_manifest(manifest: dict) -> str:
    lists = ", ".join(f"{name} ({found['faces']} faces)" for name, found in manifest["evaluate"].items())
    text = (
        f"{manifest['labelled']} labelled faces; {manifest['unlabelled']} unlabelled: {manifest['clips']} clips and "
        f"{manifest['photographs']} photographs; measured on {lists}"
    )
    return "\n".join([text, *(f"warning: {line}" for line in manifest["warnings"])])


# --- other commands
# --------------------------------------------------------------------------------------------------------


def run_report(arguments: argparse.Namespace) -> None:
    from tsal.figures import run_report as report
    from tsal.run import Run

    print(report(Run.open(run_folder(arguments)), arguments.source))


def run_predict(arguments: argparse.Namespace) -> None:
    from tsal.inference import predict_list

    found = predict_list(
        arguments.weights,
        arguments.list,
        arguments.root,
        arguments.out,
        member=arguments.member,
        source=arguments.source,
        device=arguments.device,
    )
    print(f"{arguments.out}: {len(found['paths'])} faces, {found['points'].shape[1]} points each")


def run_track(arguments: argparse.Namespace) -> None:
    from tsal.inference import track_video

    found = track_video(
        arguments.video,
        arguments.weights,
        arguments.out,
        member=arguments.member,
        smooth=arguments.smooth,
        csv_path=arguments.csv,
        boxes_file=arguments.boxes_file,
        min_face=arguments.min_face,
        device=arguments.device,
    )
    print(
        "".join(f"note: {line}\n" for line in found["notes"])
        + f"{found['out']}: {found['frames']} frames at {found['fps']:.6g} a second, faces: {found['faces']}\n"
        f"{found['csv']}: the numbers that are drawn"
    )
    for name, jitter in found["jitter"].items():
        smoothed = f", smoothed {100 * jitter['smoothed']:.2f} % (lag 0 ms)" if "smoothed" in jitter else ""
        print(f"jitter of the {name}: {100 * jitter['raw']:.2f} % of the face's size{smoothed}")
    print(f"{found['frames_per_second']:.1f} frames/s, all readings together ({found['seconds']:.1f} s)")


def run_notebook(arguments: argparse.Namespace) -> None:
    import yaml

    from tsal.stages import execute

    try:
        read = {name: yaml.safe_load(value) for name, value in arguments.parameter}
    except yaml.YAMLError as error:
        raise InputError(f"-p: a value is not valid YAML: {str(error).splitlines()[0]}") from None
    # plain text stays as it was given: to YAML, the rest of "clip #1.mp4" is a comment
    plain = {
        name: value for name, value in arguments.parameter if isinstance(read[name], str) and value[:1] not in "'\""
    }
    parameters = read | plain
    profile = _profile(arguments) if arguments.profile or arguments.data else None  # else the notebook's own
    settings = {"profile": profile, "seed": arguments.seed, "overrides": overrides_from(arguments) or None}
    parameters |= {name: value for name, value in settings.items() if value is not None}
    print(f"executed: {execute(arguments.notebook, run_folder(arguments).resolve(), parameters)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 2 for what the user can mend, 1 for a failed notebook or training, 130 when interrupted."""
    from tsal.stages import NotebookError

    arguments = make_parser().parse_args(argv)
    try:
        arguments.action(arguments)
    except InputError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except (NotebookError, FloatingPointError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
