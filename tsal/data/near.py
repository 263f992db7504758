"""What the name of a list or a prepared dataset that is not there may have meant."""

from __future__ import annotations

import re
from pathlib import Path

from tsal.utils import PREPARED, first_of, nearest


def prepared() -> list[str]:
    """Names of the prepared datasets; not those of rendered faces, which every run makes for itself."""
    found = (path.parent.name for path in PREPARED.glob("*/lists"))
    return sorted(name for name in found if not name.startswith("rendered-"))


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
        meant = [f"{dataset}:{one}" for one in _lists(PREPARED / dataset) if rest.removeprefix("lists/") in ("", one)]
    else:
        meant = [f"{other}:{name}" for other in names if name in _lists(PREPARED / other)]
    did = f"; did you mean {' or '.join(meant[:3])}?" if meant else ""
    found = _lists(root)
    return did + (f"; lists there: {first_of(found)}" if found else "")


def _in_prepared(name: str) -> str:
    """The name without the path of the folder of prepared datasets, with which a shell completes it."""
    return re.sub(rf"^(\./)?({re.escape(str(PREPARED))}|data/prepared)/", "", name).rstrip("/")


def _lists(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "lists")) for path in (folder / "lists").rglob("*") if path.is_file())
