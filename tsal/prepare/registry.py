"""Builders of datasets, as the command line and notebook 01 call them: an official release, videos or photographs -> a
prepared folder.
"""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from tsal.utils import PREPARED, ConfigError, nearest

BUILDERS = {  # builder: module and function of tsal.data, the name that a dataset gets by itself, what it reads
    "300w": ("ibug_300w", "prepare_300w", "300W", "300-W as released: afw, helen, ibug, lfpw and Bounding_Boxes"),
    "300vw": ("ibug_300vw", "prepare_300vw", "300VW", "300-VW as released: 300VW_Dataset_2015_12_14"),
    "aflw": ("aflw", "prepare_aflw", "AFLW", "AFLW: AFLWinfo_release.mat and the pictures, 19 points"),
    "youtube": (
        "youtube_faces",
        "prepare_youtube",
        "YTF",
        "YouTube Faces with keypoints: the folder data of P1_Facial_Keypoints",
    ),
    "video": (
        "video",
        "prepare_video",
        "",
        "a video of your own, or a folder of them: faces found and followed, no labels",
    ),
    "photographs": (
        "photographs",
        "prepare_photographs",
        "",
        "photographs of your own: a folder with .pts, a .csv, or COCO keypoints",
    ),
}

SOURCES = {
    "video": "a video, or a folder of videos",
    "photographs": "a folder of pictures with .pts beside them, a .csv, or a .json of COCO keypoints",
}


def build(builder: str, source: str | Path, *, name: str = "", **options: Any) -> tuple[Path, dict]:
    """Prepare a dataset as ``data/prepared/<name>``; returns the folder and its manifest.

    Args:
        builder: a key of ``BUILDERS``. ``options``: of its function.
        name: by default the release's; videos and photographs need one.
    """
    if builder not in BUILDERS:
        raise ConfigError(f"no builder {builder!r}{nearest(builder, BUILDERS)}; builders: {', '.join(BUILDERS)}")
    module, function, usual, _ = BUILDERS[builder]
    if not (name or usual):
        raise ConfigError(f"{builder}: give the dataset a --name")
    name = name or usual
    if Path(name).name != name or any(c.isspace() for c in name) or name.startswith("rendered"):
        raise ConfigError(
            f"--name {name!r}: want one word without / and white space that does not begin with 'rendered'"
        )
    prepare = getattr(import_module(f"tsal.prepare.{module}"), function)
    known = list(inspect.signature(prepare).parameters)[2:]
    for option in options:
        if option not in known:
            raise ConfigError(f"{builder}: no option {option!r}{nearest(option, known)}; it has {', '.join(known)}")
    folder = PREPARED / name
    return folder, prepare(Path(source), folder, **options)


def add_builders(parser: argparse.ArgumentParser) -> None:
    """The builders as commands of ``python -m tsal data``."""
    commands = parser.add_subparsers(
        dest="builder",
        metavar="BUILDER",
        title="builders of datasets",
        description="Each writes lists and a manifest to data/prepared/<name>, and has a --help of its own.",
    )
    made = {}
    for builder, (_, _, usual, text) in BUILDERS.items():
        made[builder] = commands.add_parser(builder, help=text, description=f"Prepare {text}.")
        made[builder].add_argument(
            "source",
            type=Path,
            metavar="SOURCE",
            help=SOURCES.get(builder, "the release's folder; it is never changed"),
        )
        made[builder].add_argument(
            "--name",
            default=usual,
            required=not usual,
            metavar="N",
            help=f"data/prepared/<N>{f' ({usual})' * bool(usual)}",
        )
        made[builder].add_argument("--workers", type=int, default=2, metavar="N", help="threads (%(default)s)")
        made[builder].set_defaults(builder=builder)
    made["300vw"].add_argument("--every", type=int, default=1, metavar="N", help="each n-th frame (%(default)s)")
    made["300vw"].add_argument(
        "--no-labels", dest="labels", action="store_false", help="only the lists of --found-boxes"
    )
    made["300vw"].add_argument(
        "--found-boxes", action="store_true", help="also lists without labels (.DET), their boxes found in the pixels"
    )
    for share in ("val", "test"):
        made["youtube"].add_argument(
            f"--{share}", type=float, default=0.1, metavar="S", help=f"share of the subjects for {share} (%(default)s)"
        )
    made["youtube"].add_argument("--seed", type=int, default=0, metavar="N", help="of the split (%(default)s)")
    _photograph_options(made["photographs"])
    _video_options(made["video"])


def _photograph_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", type=int, default=68, metavar="K", help="landmarks of a face (%(default)s)")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the pictures that a .csv or .json names (its own)"
    )
    parser.add_argument("--one-based", action="store_true", help="pixels of the .csv or .json count from 1")
    parser.add_argument(
        "--val", type=float, default=0.1, metavar="S", help="share of the pictures for val.txt (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the split (%(default)s)")


def _video_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--boxes-file", type=Path, metavar="CSV", help="boxes of another finder: [video,]frame,x1,y1,x2,y2[,track]"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each n-th frame (%(default)s)")
    parser.add_argument(
        "--fps", type=float, metavar="F", help="instead, at most so many frames a second, by the frames' own times"
    )
    parser.add_argument(
        "--min-face",
        type=float,
        default=0.1,
        metavar="S",
        help="smallest face over the picture's shorter side (%(default)s)",
    )


def run_builder(arguments: argparse.Namespace) -> None:
    """What ``python -m tsal data BUILDER`` does."""
    from tsal.prepare.builder import describe

    options = {name: value for name, value in vars(arguments).items() if name in _option_names(arguments.builder)}
    folder, manifest = build(arguments.builder, arguments.source, name=arguments.name, **options)
    print(describe(manifest, folder))
    print(
        f"look at it, and go on: make data DATA={folder.name} BUDGET= LABELLED=... UNLABELLED=... EVALUATE=... "
        f"(lists of {folder / 'lists'})"
    )


def _option_names(builder: str) -> list[str]:
    module, function, *_ = BUILDERS[builder]
    return list(inspect.signature(getattr(import_module(f"tsal.prepare.{module}"), function)).parameters)[2:]
