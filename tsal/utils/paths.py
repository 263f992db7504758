"""Paths: the repository, its configs, prepared data and outputs.

Where pip has installed the package outside a repository, the configs lie inside it, and data and outputs go to the
working folder.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
INSTALLED = (PACKAGE / "configs").is_dir()
REPOSITORY = Path.cwd() if INSTALLED else PACKAGE.parent
CONFIG_FOLDER = (PACKAGE if INSTALLED else REPOSITORY) / "configs"
SCHEME_FOLDER = CONFIG_FOLDER / "schemes"
PREPARED = REPOSITORY / "data" / "prepared"
OUTPUTS = REPOSITORY / "outputs"
