"""Outputs of a command: whether they can be written, and are nobody else's. Asked before any other work is done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tsal.utils import ConfigError


def check_output(
    out: Path,
    suffixes: Sequence[str],
    is_ours: Callable[[Path], bool],
    inputs: Iterable[Path] = (),
) -> None:
    """Raise where a file cannot be written under this name, is an input, or is there and not ``is_ours``. Its folder
    need not be there yet.
    """
    if out.suffix.lower() not in suffixes:
        *others, last = suffixes
        raise ConfigError(f"{out}: the output must be named {', '.join(others)}{' or ' * bool(others)}{last}")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder")
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise ConfigError(f"{out}: is an input too; name another output")
    if out.exists() and not is_ours(out):
        raise ConfigError(f"{out}: is there and was not written by this command; remove it or name another")
    check_folder(out.parent)


def check_folder(folder: Path) -> None:
    """Raise where no file can be written in a folder, which need not be there yet."""
    place = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not place.is_dir():
        raise ConfigError(f"{place}: is no folder; name another output")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise ConfigError(f"{place}: no file can be written there ({error.strerror}); name another output") from None
