"""MATLAB files, read by SciPy; nothing in them is executed."""

from __future__ import annotations

from pathlib import Path

from tsal.utils import DataError


def read_mat(path: Path, *names: str) -> dict:
    """The variables ``names`` of a .mat file: structs as dicts, cells and matrices as arrays."""
    from scipy.io import loadmat  # seconds to import, and only builders of releases need it

    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        found = loadmat(path, simplify_cells=True, variable_names=names or None)
    except NotImplementedError:
        raise DataError(f"{path}: is of MATLAB 7.3 (HDF5); save it again with '-v7'") from None
    except Exception as error:  # of a broken file, SciPy raises whatever it stumbles on
        raise DataError(f"{path}: cannot be read as a MATLAB file ({type(error).__name__}); fetch it again") from None
    if missing := [name for name in names if name not in found]:
        have = ", ".join(name for name in found if not name.startswith("__")) or "nothing"
        raise DataError(f"{path}: holds no {', '.join(missing)} (it holds {have})")
    return found
