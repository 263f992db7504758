"""What many tests share: one run of every notebook on the smoke profile."""

from __future__ import annotations

import os

# before torch is imported: on images of 64 px threads cost more than they bring, and far more where cores are shared
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from toys import NOTEBOOKS

from tsal.cli.commands import main
from tsal.utils.paths import REPOSITORY


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Path:
    """The folder of a run of the smoke profile, made as make makes it: every notebook in order by ``python -m tsal
    notebook``.
    """
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    for name in NOTEBOOKS:
        settings = ["--profile", "smoke", "--seed", "0"] if name == "01_data" else []
        status = main(["notebook", str(REPOSITORY / "notebooks" / f"{name}.ipynb"), "--run", str(folder), *settings])
        assert status == 0, f"{name} failed; see {folder / 'executed'}"
    return folder


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real faces."""
    if not os.environ.get("TSAL_REALDATA"):
        pytest.skip("TSAL_REALDATA names no folder of real faces")
    return Path(os.environ["TSAL_REALDATA"])
