"""Builders of datasets, as the command line and notebook 01 call them: an official release, videos or photographs -> a
prepared folder.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from tsal.utils import PREPARED, ConfigError, lock_folder, nearest

BUILDERS = {  # builder: module and function of tsal.prepare, the name that a dataset gets by itself, what it reads
    "300w": ("ibug_300w", "prepare_300w", "300W", "300-W as released: afw, helen, ibug, lfpw and Bounding_Boxes"),
    "300vw": ("ibug_300vw", "prepare_300vw", "300VW", "300-VW as released: 300VW_Dataset_2015_12_14"),
    "aflw": ("aflw", "prepare_aflw", "AFLW", "AFLW: AFLWinfo_release.mat and the images, 19 points"),
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
    "photographs": "a folder of images with .pts beside them, a .csv, a .json of COCO keypoints or COCO-WholeBody, "
    "or a list of WFLW (.txt)",
}


def build(
    builder: str, source: str | Path, *, name: str = "", base: Path = Path(), **options: Any
) -> tuple[Path, dict]:
    """Prepare a dataset as ``data/prepared/<name>``; returns the folder and its manifest.

    Args:
        builder: a key of ``BUILDERS``. ``options``: of its function.
        name: by default the release's; videos and photographs need one.
        base: folder that the paths, of ``source`` and of options, are relative to; by default the working folder.

    Raises:
        InputError: another process prepares it.
        ConfigError: no such builder or option, a name that is no folder's, or fewer than one worker.
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
    parameters = _parameters(builder)
    for option in options:
        if option not in parameters:
            raise ConfigError(
                f"{builder}: no option {option!r}{nearest(option, parameters)}; it has {', '.join(parameters)}"
            )
    if "workers" in options and options["workers"] < 1:
        raise ConfigError(f"--workers {options['workers']}: want 1 or more")
    for option in options.keys() & {name for name, kind in parameters.items() if "Path" in kind}:
        options[option] = options[option] and base / Path(options[option]).expanduser()
    folder = PREPARED / name
    with lock_folder(folder):
        return folder, prepare(base / Path(source).expanduser(), folder, **options)


def option_names(builder: str) -> list[str]:
    """The options of a builder's function."""
    return list(_parameters(builder))


def _parameters(builder: str) -> dict[str, str]:
    """Option of a builder's function -> its annotation."""
    module, function, *_ = BUILDERS[builder]
    parameters = inspect.signature(getattr(import_module(f"tsal.prepare.{module}"), function)).parameters
    return {name: str(parameter.annotation) for name, parameter in list(parameters.items())[2:]}
