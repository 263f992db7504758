"""A stage has its run's folder to itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from tsal.run import Run
from tsal.utils import lock_folder, remove_unfinished

More, Result = ParamSpec("More"), TypeVar("Result")


def alone(stage: Callable[Concatenate[Run, More], Result]) -> Callable[Concatenate[Run, More], Result]:
    """A stage that refuses to run (InputError) while another process runs one in the same folder."""

    @wraps(stage)
    def locked(run: Run, *more: More.args, **options: More.kwargs) -> Result:
        with lock_folder(run.folder):
            remove_unfinished(run.folder)
            return stage(run, *more, **options)

    return locked
