"""Whether a run's numbers are still of its settings and faces, which 'python -m tsal data' may have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tsal.config import Config, result_settings
from tsal.utils import InputError

SHOWN = 3  # settings in a line


def refuse_former(folder: Path, config: Config, manifest: Mapping, report: Mapping) -> None:
    """Raise where metrics.json (``report``) was made with other settings or faces than config.json and manifest.json
    say. One of an earlier version, which does not say with which, is taken.
    """
    made, now = report.get("settings", {}), result_settings(config)
    apart = [f"{name} = {made[name]!r}, not {now[name]!r}" for name in now if name in made and made[name] != now[name]]
    kinds = {"fingerprint": "training faces", "evaluate_fingerprint": "evaluation faces"}
    apart += [f"other {kind}" for key, kind in kinds.items() if report.get(key) not in (None, manifest.get(key))]
    if apart:
        more = f" (and {len(apart) - SHOWN} more)" if len(apart) > SHOWN else ""
        raise InputError(
            f"{folder / 'metrics.json'}: was made with {', '.join(apart[:SHOWN])}{more}, before the run was changed; "
            f"run 'python -m tsal evaluate --run {folder}'"
        )
