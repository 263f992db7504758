"""Text that several subpackages write: tables in Markdown, and the name that a mistyped one may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table, without a line's end after the last row; ``|`` in a cell stays a letter of it."""
    first, *others = ([str(cell).replace("|", r"\|") for cell in line] for line in (head, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in (first, ["---"] * len(first), *others))


def counted(count: int, thing: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def first_of(names: Sequence[str], few: int = 12) -> str:
    """The first names, with commas between, and ``...`` where there are more."""
    return f"{', '.join(names[:few])}{' ...' if len(names) > few else ''}"


def means_nothing(field: str) -> bool:
    """Whether a field of a table says that there is nothing, as people and programs write it."""
    return field.strip().lower() in ("", "none", "na", "n/a", "nan", "null", "-")


def is_utf8(name: str) -> bool:
    """Whether a file's name can be written as text: an old archive may unpack names in another coding."""
    return printable(name) == name


def printable(text: str) -> str:
    """The text with ``\\udce9`` and the like for bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` with the name that is most like this one; nothing where none is."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.4)
    return f" (did you mean {close[0]!r}?)" if close else ""
