"""MATLAB files, read by SciPy; nothing in them is executed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from tsal.utils import DataError

READER = Path(__file__).with_name("matlab_process.py")
SECONDS = 60


def read_mat(path: Path, *names: str) -> dict:
    """The variables ``names`` of a .mat file: structs as dicts, cells and matrices as arrays.

    Raises:
        DataError: the file is not there, broken, or holds no such variables.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    variables, wrong = read_apart(path, names)
    if wrong == "NotImplementedError":
        raise DataError(f"{path}: is of MATLAB 7.3 (HDF5); save it again with '-v7'")
    if wrong:
        raise DataError(f"{path}: cannot be read as a MATLAB file ({wrong}); fetch it again")
    if missing := [name for name in names if name not in variables]:
        have = ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
        raise DataError(f"{path}: holds no {', '.join(missing)} (it holds {have})")
    return variables


def read_apart(path: Path, names: tuple[str, ...]) -> tuple[dict | None, str]:
    """Read in a process of its own, which a broken file can end -> variables, or what is wrong."""
    command = [sys.executable, "-P", str(READER), str(Path(path).resolve()), *names]
    try:
        process = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"not read in {SECONDS} s"
    return pickle.loads(process.stdout) if not process.returncode else (None, f"reader ended: {process.returncode}")
