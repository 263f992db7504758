"""Options of the builders of datasets: ``python -m tsal data BUILDER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tsal.cli.options import add_finder
from tsal.prepare import BUILDERS, SOURCES, build, option_names


def add_builders(parser: argparse.ArgumentParser) -> None:
    """The builders as commands of ``python -m tsal data``."""
    commands = parser.add_subparsers(
        dest="builder",
        metavar="BUILDER",
        title="builders of datasets",
        description="Each writes lists and a manifest to data/prepared/<name>, and has a --help of its own.",
    )
    parsers = {}
    for builder, (_, _, usual, text) in BUILDERS.items():
        parsers[builder] = commands.add_parser(builder, help=text, description=f"Prepare {text}.")
        parsers[builder].add_argument(
            "source",
            type=Path,
            metavar="SOURCE",
            help=SOURCES.get(builder, "the release's folder; it is never changed"),
        )
        parsers[builder].add_argument(
            "--name",
            default=usual,
            required=not usual,
            metavar="N",
            help=f"data/prepared/<N>{f' ({usual})' * bool(usual)}",
        )
        parsers[builder].add_argument("--workers", type=int, default=2, metavar="N", help="threads (%(default)s)")
        parsers[builder].set_defaults(builder=builder)
    parsers["300vw"].add_argument("--every", type=int, default=1, metavar="N", help="each n-th frame (%(default)s)")
    parsers["300vw"].add_argument(
        "--no-labels", dest="labels", action="store_false", help="only the lists of --found-boxes"
    )
    parsers["300vw"].add_argument(
        "--found-boxes", action="store_true", help="also lists without labels (.DET), their boxes found in the pixels"
    )
    for share in ("val", "test"):
        parsers["youtube"].add_argument(
            f"--{share}", type=float, default=0.1, metavar="S", help=f"share of the subjects for {share} (%(default)s)"
        )
    parsers["youtube"].add_argument("--seed", type=int, default=0, metavar="N", help="of the split (%(default)s)")
    _photograph_options(parsers["photographs"])
    _video_options(parsers["video"])


def _photograph_options(parser: argparse.ArgumentParser) -> None:
    parser.description += (
        " The columns of a .csv are image, x0, y0, x1, y1 ... in 0-based pixels, and, where there are any, v0, v1 ... "
        "(0: missing) and box_x1, box_y1, box_x2, box_y2; a point that is empty, 0 0 or -1 -1 is missing. A .csv that "
        "predict wrote is read too."
    )
    parser.add_argument("--points", type=int, default=68, metavar="K", help="landmarks of a face (%(default)s)")
    parser.add_argument(
        "--scheme", default="", metavar="NAME", help="instead, their landmark scheme: a name, or the path of its file"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images that a .csv or .json names (its own)"
    )
    parser.add_argument("--one-based", action="store_true", help="pixels of the .csv or .json count from 1")
    parser.add_argument(
        "--val", type=float, default=0.1, metavar="S", help="share of the images for val.txt (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the split (%(default)s)")
    parser.add_argument(
        "--all-faces",
        action="store_true",
        help="of images without labels every face that is seen, not the largest only",
    )


def _video_options(parser: argparse.ArgumentParser) -> None:
    add_finder(parser)
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="each n-th of the frames that are no repeats (%(default)s)"
    )
    parser.add_argument(
        "--fps", type=float, metavar="F", help="instead, at most so many frames a second, by the frames' own times"
    )
    parser.add_argument("--longest", type=int, metavar="N", help="a clip of more than N frames becomes several")
    parser.add_argument("--largest", action="store_true", help="of faces seen at once only the largest")


def run_builder(arguments: argparse.Namespace) -> None:
    """What ``python -m tsal data BUILDER`` does."""
    from tsal.prepare import describe

    options = {name: value for name, value in vars(arguments).items() if name in option_names(arguments.builder)}
    folder, manifest = build(arguments.builder, arguments.source, name=arguments.name, **options)
    print(describe(manifest, folder))
    lists = manifest["lists"]
    if lists and not any(facts["labelled"] for facts in lists.values()):
        first = f"{folder.name}:{next(iter(lists))}"
        print(f"go on, as unlabelled faces of another dataset: UNLABELLED={first} (lists of {folder / 'lists'})")
        return
    scheme = manifest["options"].get("scheme", str(manifest["points"] or 68))
    landmarks = "" if scheme == "68" else f"SET=data.scheme={scheme} "
    print(
        f"look at it, and go on: make data DATA={folder.name} {landmarks}LABELLED=... UNLABELLED=... EVALUATE=... "
        f"(lists of {folder / 'lists'})"
    )
