"""Processes that tests start."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_until(happened: Callable[[], bool], process: subprocess.Popen, seconds: float = 300) -> None:
    """Wait while a process is at work; it must not end before, nor take longer."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
