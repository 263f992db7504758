"""Whether a run's numbers are still of its settings, scheme, faces and models, which may have changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsal.audit import Audit
from tsal.config import labels_alone, result_settings
from tsal.run import Run
from tsal.utils import InputError, file_hash

SHOWN = 3  # settings in a line


def refuse_former(run: Run, report: Mapping) -> None:
    """Raise where metrics.json (``report``) was made with other settings, another scheme, other faces or other models
    than the run has now. One of an earlier version, which does not say with which, is taken.
    """
    apart = _other_settings(report.get("settings", {}), result_settings(run.config))
    shown = {row["model"] for row in report["rows"]} & {"teacher", "student"}
    if labels_alone(run.config) and shown and not apart:  # of before a run kept that it learns from labels alone
        apart = ["a teacher and a student, which this method has not"]
    if report.get("scheme") not in (None, _plain(run.scheme.to_dict())):
        apart.append("another landmark scheme")
    manifest, kinds = run.manifest(), {"fingerprint": "training faces", "evaluate_fingerprint": "evaluation faces"}
    apart += [f"other {kind}" for key, kind in kinds.items() if report.get(key) not in (None, manifest.get(key))]
    for name, digest in report.get("models", {}).items():
        path = run.folder / name
        if path.exists() and file_hash(path) != digest:
            apart.append(f"another {name}")
    _refuse(apart, run.folder / "metrics.json", run.folder, "evaluate")


def read_audit(run: Run) -> Audit:
    """The run's audit.

    Raises:
        InputError: there is none, it is broken, the run has no pseudo-labels, or it was made with other settings,
            another scheme or other faces than the run has now. One of an earlier version, which does not say with
            which, is taken where its landmarks are as many.
    """
    if labels_alone(run.config):
        raise InputError(f"{run.folder}: no pseudo-labels to look at: {run.config.method} learns from labels alone")
    audit = Audit.open(run.folder / "audit")
    facts, count = audit.of, audit.truth.shape[1]
    apart = _other_settings(facts.get("settings", {}), run.config.flat())
    if not apart and (count != run.scheme.points or facts.get("scheme") not in (None, _plain(run.scheme.to_dict()))):
        apart.append(f"another landmark scheme, of {count} points")
    if facts and facts.get("fingerprint") != run.manifest().get("fingerprint"):
        apart.append("other training faces")
    _refuse(apart, audit.folder, run.folder, "pseudo")
    return audit


def _other_settings(former: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} = {former[name]!r}, not {now[name]!r}" for name in now if name in former and former[name] != now[name]
    ]


def _plain(value: Mapping) -> dict:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def _refuse(apart: list[str], what: Path, folder: Path, stage: str) -> None:
    if apart:
        more = f" (and {len(apart) - SHOWN} more)" if len(apart) > SHOWN else ""
        raise InputError(
            f"{what}: was made with {', '.join(apart[:SHOWN])}{more}, before the run was changed; "
            f"run 'python -m tsal {stage} --run {folder}'"
        )
