"""What the name of a list or a prepared dataset that is not there may have meant."""

from __future__ import annotations

import re
from pathlib import Path

from tsal.utils import PREPARED, first_of, nearest


def prepared() -> list[str]:
    """Names of the prepared datasets; not those of rendered faces, which every run makes for itself."""
    names = (path.parent.name for path in PREPARED.glob("*/lists"))
    return sorted(name for name in names if not name.startswith("rendered-"))


def near_dataset(name: str) -> str:
    """The prepared dataset that is most like ``name``, which may be written as its folder; all of them, if none is."""
    names = prepared()
    listed = f" (prepared: {first_of(names)})" if names else ""
    return nearest(_in_prepared(name), names) or listed


def near_list(root: Path, name: str) -> str:
    """The lists of prepared datasets that ``name`` may have meant, and those of ``root``."""
    dataset, _, rest = re.sub("[:/]", "\n", _in_prepared(name), count=1).partition("\n")
    names = prepared()
    if dataset in names:
        guesses = [
            f"{dataset}:{list_name}"
            for list_name in _lists(PREPARED / dataset)
            if rest.removeprefix("lists/") in ("", list_name)
        ]
    else:
        guesses = [f"{other}:{name}" for other in names if name in _lists(PREPARED / other)]
    did = f"; did you mean {' or '.join(guesses[:3])}?" if guesses else ""
    lists = _lists(root)
    return did + (f"; lists there: {first_of(lists)}" if lists else "")


def _in_prepared(name: str) -> str:
    """The name without the path of the folder of prepared datasets, with which a shell completes it."""
    return re.sub(rf"^(\./)?({re.escape(str(PREPARED))}|data/prepared)/", "", name).rstrip("/")


def _lists(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "lists")) for path in (folder / "lists").rglob("*") if path.is_file())
