"""Which trained detector: one that is named, that of the environment, or the one that ships."""

from __future__ import annotations

import os
from pathlib import Path

from tsal.utils import SHIPPED, InputError

VARIABLE = "TSAL_WEIGHTS"


def find_weights(weights: str | Path | None = None) -> Path:
    """The file that ``weights``, else the environment's ``TSAL_WEIGHTS`` names; else the detector that ships.

    Raises:
        InputError: nothing is named and none ships, or the file is not there.
    """
    named = weights or os.environ.get(VARIABLE)
    if not named:
        if SHIPPED.is_file():
            return SHIPPED
        raise InputError(
            f"no trained detector comes with this version (weights/{SHIPPED.name} is missing): name one by --weights "
            f"(Landmarker: weights=) or {VARIABLE}, such as a run's semi/model.pt"
        )
    path = Path(named).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint ({'weights' if weights else VARIABLE})")
    return path
