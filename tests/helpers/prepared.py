"""Another folder for prepared datasets than the repository's."""

from __future__ import annotations

from pathlib import Path

from tsal import run
from tsal.data import lists, near
from tsal.prepare import registry


def prepare_in(folder: Path, monkeypatch) -> Path:
    """Datasets are prepared in ``folder``, and looked for there."""
    for module in (registry, run, lists, near):
        monkeypatch.setattr(module, "PREPARED", folder)
    return folder
