"""Errors that a user can mend. The command line prints their text alone and exits with status 2."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to the program is wrong; the text says what, where and what to do."""


class ConfigError(InputError):
    """A setting that does not exist or has a wrong value."""


class DataError(InputError):
    """Annotation lists or their files are wrong; ``problems`` holds one line for each finding."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RunError(RuntimeError):
    """Something failed on the way that is no wrong input: a notebook's cell, a training."""
