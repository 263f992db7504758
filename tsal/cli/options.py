"""Options of several commands: what makes a config, names a run's folder or finds faces; and their defaults."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsal.utils import OUTPUTS, InputError

if TYPE_CHECKING:  # --help does without torch
    from tsal.config import Config
    from tsal.faces import YuNet

DATA, METHOD, SEED = "rendered", "tsal", 0
LISTS = ("labelled", "unlabelled", "evaluate")


def default_profile(data: str | None) -> str:
    """The profile that was chosen on faces of this kind."""
    return "demo" if data in (None, DATA) else "faces"


def add_run(parser: argparse._ActionsContainer) -> None:
    shape = "outputs/<data>[-<budget>]-<profile>[-<method>]-s<seed>"
    parser.add_argument("--run", type=Path, metavar="FOLDER", help=f"the run's folder ({shape})")


def add_which(parser: argparse.ArgumentParser) -> None:
    """Options that name a run that there is, and change nothing in it."""
    group = parser.add_argument_group("which run", "by its folder, or by the options that it was made with")
    add_run(group)
    add_names(group)


def add_names(group: argparse._ArgumentGroup, one_method: bool = True) -> None:
    """Options that name a run's folder."""
    profiles = "demo, faces, finetune, face68, smoke or paper, or the path of a YAML file (demo; faces for your own)"
    group.add_argument("--profile", metavar="NAME", help=f"scale: model, steps, batch, rendering: {profiles}")
    group.add_argument("--budget", metavar="NAME", help="data: lists of configs/budgets, such as 300w-120")
    if one_method:
        group.add_argument("--method", metavar="NAME", help=f"targets: a method of configs/methods ({METHOD})")
        group.add_argument("--seed", type=int, metavar="N", help=f"random seed of initial weights and batches ({SEED})")
    group.add_argument("--data", metavar="NAME", help=f"rendered, or a name for faces of your own ({DATA})")


def add_settings(parser: argparse.ArgumentParser, one_method: bool = True) -> None:
    """Options that make a config; without ``one_method`` all but its method and seed."""
    group = parser.add_argument_group("settings: profile < budget < lists given here < method < --set, the later wins")
    add_names(group, one_method)
    group.add_argument(
        "--root", metavar="DIR", help="folder of your own faces; lists are relative to it or to DIR/lists"
    )
    group.add_argument("--labelled", nargs="+", metavar="LIST", help="training lists with labels (labelled.txt)")
    group.add_argument("--unlabelled", nargs="+", metavar="LIST", help="training lists without (unlabelled.txt)")
    group.add_argument("--evaluate", nargs="+", metavar="LIST", help="lists to measure on (val.txt)")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="A.B=C",
        help="any setting (see: config show); several may be in one word, split on white space; the last one wins",
    )


def add_finder(parser: argparse.ArgumentParser) -> None:
    """Options of how faces are found in videos."""
    parser.add_argument(
        "--boxes-file",
        type=Path,
        metavar="CSV",
        help="boxes of another finder, used as they are: [video,]frame,x1,y1,x2,y2[,track]",
    )
    parser.add_argument(
        "--min-face",
        type=float,
        default=0.1,
        metavar="S",
        help="smallest face over the image's shorter side (%(default)s)",
    )


def add_face_model(parser: argparse.ArgumentParser) -> None:
    """Options of another face finder than the one that needs nothing."""
    parser.add_argument(
        "--finder",
        choices=("haar", "yunet"),
        help="haar: OpenCV's cascades; yunet: finds more faces, and needs its model file "
        "(yunet if its model file is named, else haar)",
    )
    parser.add_argument(
        "--finder-model",
        type=Path,
        metavar="FILE",
        help="YuNet's model file, face_detection_yunet_2023mar.onnx of OpenCV's model zoo ($TSAL_FACE_MODEL)",
    )


def make_finder(arguments: argparse.Namespace) -> YuNet | str | None:
    """The finder that :func:`add_face_model` asks for, as :class:`tsal.Landmarker` takes it: None, where nothing is
    asked for, is left to the environment.
    """
    if getattr(arguments, "boxes_file", None):
        if arguments.finder or arguments.finder_model:
            raise InputError("--finder, --finder-model would be ignored beside --boxes-file: leave it out")
        return None
    if arguments.finder == "haar" and arguments.finder_model:
        raise InputError("--finder-model is of --finder yunet")
    if not arguments.finder_model:
        return arguments.finder
    from tsal.faces import YuNet

    return YuNet(arguments.finder_model)


def given_settings(arguments: argparse.Namespace) -> list[str]:
    """The options given that name or set a setting."""
    names = ("profile", "budget", "method", "seed", "data", "root", *LISTS, "set")
    return [f"--{name}" for name in names if getattr(arguments, name, None) not in (None, [])]


def refuse_beside_run(arguments: argparse.Namespace) -> None:
    """Raise where an option stands beside --run, and would be ignored."""
    options = given_settings(arguments)
    if arguments.run is not None and options:
        raise InputError(f"--run names the run, whose settings are in its config.json: leave out {', '.join(options)}")


def asked_lists(arguments: argparse.Namespace) -> dict[str, Any]:
    """Which faces, as the options name them."""
    values: dict[str, Any] = {}
    if arguments.data is not None:
        values["data.name"] = arguments.data
    if arguments.root is not None:
        values["data.root"] = str(Path(arguments.root).expanduser().resolve())
    for name in LISTS:
        if getattr(arguments, name) is not None:
            values[f"data.{name}"] = getattr(arguments, name)
    return values


def asked_settings(arguments: argparse.Namespace, seed: bool = True) -> list[str]:
    """What --set asks for, one override a word, and --seed."""
    first = [f"seed={arguments.seed}"] if seed and arguments.seed is not None else []
    return first + [part for text in arguments.set for part in text.split()]


def config_from(arguments: argparse.Namespace, **names: str) -> Config:
    """The config that the options ask for; ``names``: another profile, budget or method."""
    return resolved(arguments, **names)[0]


def resolved(arguments: argparse.Namespace, **names: str) -> tuple[Config, dict[str, str]]:
    """That config, and where each setting came from."""
    from tsal.config import resolve

    profile = arguments.profile or default_profile(arguments.data)
    named = {"profile": profile, "budget": arguments.budget or "", "method": arguments.method or METHOD} | names
    return resolve(**named, lists=asked_lists(arguments), overrides=asked_settings(arguments))


def difference(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """The settings (``section.name``) that two configs have otherwise, names of files apart."""
    from tsal.config import LABELS

    former, latter = first.flat(), second.flat()
    apart = (name for name in former if former[name] != latter[name] and name not in LABELS)
    return {name: (former[name], latter[name]) for name in apart}


def run_folder(arguments: argparse.Namespace) -> Path:
    """The folder that --run names, or the one that follows from the other options."""
    if arguments.run is not None:
        return arguments.run.absolute()  # of the folder that the command is given in
    method = arguments.method if arguments.method != METHOD else None
    profile = Path(arguments.profile or default_profile(arguments.data)).stem
    parts = [arguments.data or DATA, arguments.budget, profile, method, f"s{arguments.seed or SEED}"]
    return OUTPUTS / "-".join(part for part in parts if part)
