"""Read a MATLAB file in a process of its own, run by :mod:`tsal.prepare.matlab`: at some broken files SciPy's reader
ends the process, and at others it takes the memory that they declare.

It imports nothing of the package, so that it runs as a file. Arguments: the .mat file, and names of variables. Output:
a pickle of (variables, "") or (None, kind of error).
"""

import pickle
import sys
from contextlib import suppress

from scipy.io import loadmat

MEMORY = 2**30  # bytes that a file may take


def limit_memory() -> None:
    with suppress(ImportError, OSError, ValueError):  # Linux alone has all of it
        import resource

        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))


def answer(path: str, names: list[str]) -> bytes:
    """What the process writes."""
    limit_memory()
    try:
        result = loadmat(path, simplify_cells=True, variable_names=names or None), ""
    except Exception as error:  # of a broken file, SciPy raises whatever it stumbles on
        result = None, type(error).__name__
    return pickle.dumps(result)


if __name__ == "__main__":
    sys.stdout.buffer.write(answer(sys.argv[1], sys.argv[2:]))
