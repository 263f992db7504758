"""Image files as people have them: which of a folder are taken, and why one cannot be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tsal.data import IMAGE_SUFFIXES, over_the_bound, read_image
from tsal.faces import VIDEO_SUFFIXES
from tsal.utils import DataError, counted, files_below, is_drawn, read_bytes

HEIC_SUFFIXES = (".heic", ".heif")  # OpenCV has no decoder for them
MOVING = (".gif", ".webp", ".avif")  # images that FFmpeg reads as videos where they hold several


def is_still(path: Path) -> bool:
    """Whether a file is an image and no video, by its name."""
    return path.suffix.lower() in {*IMAGE_SUFFIXES, *HEIC_SUFFIXES}.difference(MOVING)


def read_photograph(path: Path) -> np.ndarray:
    """:func:`tsal.data.read_image`, with the reason where it is one that can be mended."""
    try:
        return read_image(path)
    except DataError as error:
        raise DataError(f"{error}{_reason(path)}") from None


def _reason(path: Path) -> str:
    try:
        content = read_bytes(path)
    except OSError:  # the error says so
        return ""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return "; it is a video: use track"
    return "; convert it to JPEG" if path.suffix.lower() in HEIC_SUFFIXES else over_the_bound(content)


def find_images(inputs: Sequence[Path]) -> tuple[dict[Path, bool], list[str]]:
    """Image files in the order of the inputs, each once, by its first name, and whether it was named itself; a folder's
    are sorted. And a line for each kind of image that is left out of a folder: former drawings, broken links, and what
    cannot be read by its kind.
    """
    images: dict[Path, bool] = {}
    first_names: dict[Path, Path] = {}  # of files
    notes = []

    def add(path: Path, is_named: bool) -> None:
        name = first_names.setdefault(Path(os.path.abspath(path)), path)
        images[name] = is_named or images.get(name, False)

    for path in inputs:
        if path.is_dir():
            paths, left_out = _of_folder(path)
            if not paths:
                but = "".join(f"; left out: {each}" for each in left_out)
                raise DataError(f"{path}: holds no image ({', '.join(IMAGE_SUFFIXES)}){but}")
            for each in paths:
                add(each, False)
            notes += [f"{path}: left out: {each}" for each in left_out]
        elif not path.exists():
            raise DataError(f"{path}: no such image or folder")
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            raise DataError(f"{path}: is a video; use: python -m tsal track {path} --out OUT.mp4")
        else:
            add(path, True)
    return images, notes


def _of_folder(folder: Path) -> tuple[list[Path], list[str]]:
    below = files_below(folder)
    files = [path for path in below if path.is_file()]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    originals = [path for path in images if not is_drawn(path)]
    left_out = []
    if drawn := len(images) - len(originals):
        left_out.append(f"{counted(drawn, 'drawing')} of this command")
    if heic := sum(path.suffix.lower() in HEIC_SUFFIXES for path in files):
        left_out.append(f"{counted(heic, 'HEIC image')} ({', '.join(HEIC_SUFFIXES)}): convert to JPEG")
    if broken := sum(not path.exists() for path in below):
        left_out.append(f"{counted(broken, 'link')} to files that do not exist")
    return originals, left_out
