"""What a prepared dataset records about its images: subject, clip and frame, and its manifest."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from tsal.utils import DataError


@dataclass(frozen=True)
class Origin:
    """Where an image comes from: none of this can be derived from its pixels. ``None``: not known."""

    subject: str | None = None
    clip: str | None = None  # one shot
    frame: int | None = None


def read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); remove it, and build again") from None
    return values if isinstance(values, dict) else {}


def read_origins(root: Path) -> dict[str, Origin]:
    """What a prepared folder's images.csv records about each image; empty for a folder that no builder made.

    A clip of one's own videos is called by the file's name, which another folder's video may have too: so it is named
    with its source.
    """
    path = Path(root) / "images.csv"
    if not path.exists():
        return {}
    manifest = read_prepared(root) or {}
    source = f"{manifest.get('source')}: " if manifest.get("builder") == "video" else ""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            row["image"]: Origin(
                row["subject"] or None,
                source + row["clip"] if row["clip"] else None,
                int(row["frame"]) if row["frame"] else None,
            )
            for row in rows
        }
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: is not the images.csv of a prepared dataset ({error!r}); build the dataset again"
        ) from None


def read_prepared(root: Path) -> dict | None:
    """The manifest of a prepared folder; None for a folder that no builder made."""
    path = Path(root) / "manifest.json"
    manifest = read_json(path) if path.exists() else {}
    return manifest if "builder" in manifest else None
