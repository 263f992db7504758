"""A stage has its run's folder to itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from tsal.run import Run
from tsal.utils import lock_folder, remove_unfinished

More, Result = ParamSpec("More"), TypeVar("Result")


def alone(stage: Callable[Concatenate[Run, More], Result]) -> Callable[Concatenate[Run, More], Result]:
    """A stage that refuses to run (InputError) while another process runs one in the same folder. A folder that it
    began, and left without a file, goes again.
    """

    @wraps(stage)
    def locked(run: Run, *more: More.args, **options: More.kwargs) -> Result:
        new = not run.folder.exists()
        try:
            with lock_folder(run.folder):
                remove_unfinished(run.folder)
                return stage(run, *more, **options)
        finally:
            if new:
                _remove_empty(run.folder)

    return locked


def _remove_empty(folder: Path) -> None:
    """Remove a folder that holds the file of its lock alone."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == [".lock"]:
        with suppress(OSError):
            (folder / ".lock").unlink()
            folder.rmdir()
