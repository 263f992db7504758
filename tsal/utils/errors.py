"""Errors that a user can mend. The command line prints their text alone and exits with status 2."""

from __future__ import annotations

import errno

LONGEST = 1000  # characters of a line; what a damaged file holds may be megabytes


class InputError(ValueError):
    """Something given to the program is wrong; the text says what, where and what to do."""

    def __init__(self, text: str = ""):
        super().__init__(printable(str(text)))


class ConfigError(InputError):
    """A setting that does not exist or has a wrong value."""


class DataError(InputError):
    """Annotation lists or their files are wrong; ``problems`` holds one line for each finding."""

    def __init__(self, problems: list[str] | str):
        self.problems = [printable(line) for line in ([problems] if isinstance(problems, str) else problems)]
        ValueError.__init__(self, "\n".join(self.problems))  # the one kind of several lines


def printable(line: str) -> str:
    """A line as a terminal can show it: control characters written out, and the middle left out where it is long."""
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 300]} ... {line[-200:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class RunError(RuntimeError):
    """Something failed on the way that is no wrong input: a notebook's cell, a training."""


ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "name a folder that can be written to",
    errno.EPERM: "name a folder that can be written to",
    errno.ENOENT: "put it back",
}


def describe_os_error(error: OSError) -> str:
    """One line for what the system refused: which file, why, what to do."""
    what = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    advice = ADVICE.get(error.errno, "see to it")
    return f"{where}{what}; {advice}, and give the same command again"
