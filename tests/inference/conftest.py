"""What the tests of inference share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drawn_run import run  # noqa: F401
from toys import config

from tsal.model import Detector
from tsal.model_files import save_models


@pytest.fixture(autouse=True)
def cascades(monkeypatch):
    """Faces are found by what needs no model file, whatever the environment of whoever runs the tests names."""
    monkeypatch.delenv("TSAL_FACE_MODEL", raising=False)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """An untrained teacher and student of 68 landmarks."""
    torch.manual_seed(0)
    settings = config("model.input=64")
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_models(path, {name: Detector(68, settings.model) for name in ("teacher", "student")}, settings, {})
    return path
