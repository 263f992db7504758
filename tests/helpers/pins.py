"""What requirements.txt pins."""

from __future__ import annotations

from tsal.utils.paths import REPOSITORY


def pins() -> list[str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
