"""Writing files whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tsal.utils.errors import InputError

LARGEST = 2**30  # bytes of a file that is read as a whole
# A zip holds 1000 times its size where it is a bomb; arrays of numbers hold 10 times theirs
BOMB_RATIO, BOMB_FLOOR = 100, 2**28
LONGEST_NAME = 255  # bytes of a file's name
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX")  # thumbnails of a Synology NAS, and what macOS adds to a zip


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """A file's name; where it is over so many bytes long, its beginning with a hash of it and its suffix."""
    content = os.fsencode(name)
    if len(content) <= longest:
        return name
    stem, suffix = os.path.splitext(name)
    return f"{stem[:40]}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path`` when the block ends without an error, and vanishes otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{short_name(path.name, 200)}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:  # a full disk does not say which file did not fit
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or was made by a system beside a person's files."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def files_below(folder: Path, but: Path | None = None) -> list[Path]:
    """Every file in a folder and below it, and links that lead nowhere, sorted by path; not what is hidden below it.

    Links to folders are followed: data sets are put together by them. A folder that is reached in several ways, as by a
    link to one above it, is read once, by a way without links where there is one. ``but``: a folder that is left out.
    """
    seen = {os.path.realpath(but)} if but else set()
    files: list[Path] = []
    starts = [Path(folder)]
    while starts:
        links = []
        for start in starts:
            for place, folders, names in os.walk(start):
                if (real := os.path.realpath(place)) in seen:
                    folders.clear()
                    continue
                seen.add(real)
                folders[:] = [name for name in folders if not is_hidden(name)]
                files += [Path(place, name) for name in names if not is_hidden(name)]
                links += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
        starts = sorted(links)
    return sorted(files)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left of ``name`` (a pattern) in ``folder``: temporary files and folders.

    For a process that writes nothing of that name yet: what has its number is of a former one.
    """
    for path in Path(folder).glob(f".{name}.*.tmp*"):
        match = re.search(r"\.(\d+)\.tmp", path.name)
        if match and (int(match.group(1)) == os.getpid() or not _runs(int(match.group(1)))):
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
    refuse_bomb(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # of a broken file, NumPy raises whatever it stumbles on
        raise InputError(f"{path}: not readable arrays ({first_line(error)}); make it again") from None
    if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise InputError(f"{path}: not readable arrays ({other[0]} is none); make it again")
    return arrays


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def first_line(error: Exception) -> str:
    """What an error of a library says, in a line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        OSError: as of any read; also where the path is no file (a device or a pipe may never end), or is over 1 GiB.
    """
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode) or state.st_size > LARGEST:
        number = errno.EISDIR if stat.S_ISDIR(state.st_mode) else errno.EINVAL
        number = errno.EFBIG if stat.S_ISREG(state.st_mode) else number
        text = "is no file but a device or a pipe" if number == errno.EINVAL else os.strerror(number)
        raise OSError(number, text, str(path))
    return Path(path).read_bytes()


def read_text(path: Path) -> str:
    """A text file in UTF-8; or in UTF-16, as Windows programs save it: a mark at its beginning says so.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, or is no such text.
    """
    content = read_bytes(path)
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def refuse_bomb(path: Path) -> None:
    """Raise where a zip would unpack to far more than arrays do."""
    try:
        size = os.stat(path).st_size
        with zipfile.ZipFile(path) as archive:
            whole = sum(member.file_size for member in archive.infolist())
    except Exception:  # no zip, or a broken one: its reader says so
        return
    if whole > max(BOMB_FLOOR, BOMB_RATIO * size):
        raise InputError(f"{path}: {size} bytes that unpack to {whole}: no file of this program; make it again")
