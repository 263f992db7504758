"""One process at a time in a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tsal.utils.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
_held: set[Path] = set()  # by this process: a stage may call another


@contextmanager
def lock_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of ``folder`` by a lock on the file ``.lock`` in it.

    The lock ends with the process, however that ends, and binds only those that ask for it. On a file system without
    locks nobody is kept out. A folder that is made for the lock, and holds nothing else in the end, is removed.

    Raises:
        InputError: another process, which is named, has it; with ``wait``, its end is waited for instead.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        yield
        return
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        _lock(file, folder, wait)
        _held.add(folder)
        try:
            _write(file, f"process {os.getpid()}")
            yield
        finally:
            _write(file, "")
            _held.discard(folder)
            with suppress(OSError):
                if new and os.listdir(folder) == [LOCK]:
                    (folder / LOCK).unlink()
                    folder.rmdir()


def _lock(file: TextIO, folder: Path, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        if not wait:
            raise InputError(
                f"{folder}: {holder} works in this folder; wait until it has ended, or name another folder (--run, "
                "of a dataset --name)"
            ) from None
        print(f"waiting for {holder}, which works in {folder}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        pass


def _write(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()
