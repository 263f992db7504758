"""Writing files whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tsal.utils.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path`` when the block ends without an error, and vanishes otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:  # a full disk does not say which file did not fit
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left of ``name`` (a pattern) in ``folder``: temporary files and folders.

    For a process that writes nothing of that name yet: what has its number is of a former one.
    """
    for path in Path(folder).glob(f".{name}.*.tmp*"):
        found = re.search(r"\.(\d+)\.tmp", path.name)
        if found and (int(found.group(1)) == os.getpid() or not _runs(int(found.group(1)))):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_arrays(path: Path, /, **arrays: np.ndarray) -> None:
    """A compressed .npz; arrays of plain types only, so that it loads without executing anything."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name; never executes what the file holds.

    Raises:
        InputError: the file is damaged, or holds other things than arrays of plain types.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, AttributeError, EOFError, zlib.error, BadZipFile) as error:
        raise InputError(f"{path}: not readable arrays ({str(error).splitlines()[0]}); make it again") from None
