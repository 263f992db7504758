"""Paths: the repository, its configs, prepared data and outputs."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
REPOSITORY = PACKAGE.parent
CONFIG_FOLDER = REPOSITORY / "configs"
SCHEME_FOLDER = CONFIG_FOLDER / "schemes"
PREPARED = REPOSITORY / "data" / "prepared"
OUTPUTS = REPOSITORY / "outputs"
