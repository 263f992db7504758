"""What a training's folder says against its result."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tsal import alarms
from tsal.guard import read_alarms


def find_alarms(history: pd.DataFrame) -> list[str]:
    """:func:`tsal.alarms.find_alarms` of a table (a row for every few steps, ``step`` among its columns)."""
    return alarms.find_alarms(history.astype(float).to_dict("records"))


def training_alarms(folder: Path) -> list[str]:
    """The alarms of a training's folder: of its ``history.csv``, and those that were kept while it ran."""
    recorded_alarms = [
        f"step {entry['step']}: {entry['alarm']} ({Path(folder) / 'alarms.json'})" for entry in read_alarms(folder)
    ]
    return find_alarms(pd.read_csv(Path(folder) / "history.csv")) + recorded_alarms
