"""Paths: the repository, its configs, prepared data and outputs.

Where pip has installed the package outside a repository, the configs lie inside it, and data and outputs go to the
working folder.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
INSTALLED = (PACKAGE / "configs").is_dir()
REPOSITORY = Path.cwd() if INSTALLED else PACKAGE.parent
CONFIG_FOLDER = (PACKAGE if INSTALLED else REPOSITORY) / "configs"
SCHEME_FOLDER = CONFIG_FOLDER / "schemes"
PREPARED = REPOSITORY / "data" / "prepared"
OUTPUTS = REPOSITORY / "outputs"
SHIPPED = PACKAGE / "weights" / "face68.pt"  # the trained detector; also what model.weights=face68 names
_SHIPPED = {"face68": SHIPPED, "tsal/weights/tracker.pt": PACKAGE / "weights" / "tracker.pt"}  # as settings name them


def from_repository(path: str | Path) -> Path:
    """A path as notebooks take it: a relative one starts at the repository, wherever the kernel was started."""
    return REPOSITORY / Path(path).expanduser()


def weights_file(named: str) -> Path | None:
    """The file of weights that a setting names, which may ship with the package; None where it names none."""
    return _SHIPPED.get(named) or from_repository(named) if named else None


def leads_out(root: Path, name: str) -> bool:
    """Whether a path, as it is written, leads out of the root that it is relative to.

    Links are followed wherever they lead: the folder's owner made them (a prepared dataset has one to its release); a
    list may come from anybody.
    """
    base = os.path.abspath(root)
    return os.path.commonpath([base, os.path.normpath(os.path.join(base, name))]) != base
