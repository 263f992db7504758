"""Makes the lock files again from requirements.txt: `make lock`, with uv, which nothing else needs.

`requirements.lock` has every package that those of requirements.txt need, in the version that was taken and with the
SHA-256 of each of its files, for every operating system and for Python from 3.11 on: markers say where a line counts.
`cuda.lock` has those that only torch's CUDA builds need, `headless.lock` what `make setup` takes where OpenCV finds no
libGL. Versions stay as they are in the files that exist; delete these to take the newest of everything that
requirements.txt leaves open. `cpu.lock` is written by hand: uv does not see torch's CPU-only builds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
CUDA = re.compile(r"(nvidia|cuda)-.*|triton")
SETUPTOOLS = "setuptools>=77"  # builds the project itself, as pyproject.toml says
HEAD = "# Made by `make lock` from requirements.txt (see locks/lock.py); do not edit.\n"


def main() -> None:
    """Writes the three lock files beside this one."""
    if not shutil.which("uv"):
        sys.exit("error: uv is not installed, and only uv can lock for every operating system at once: pipx install uv")
    pinned = (FOLDER.parent / "requirements.txt").read_text()
    files = {name: FOLDER / f"{name}.lock" for name in ("requirements", "cuda", "headless")}
    known = "".join(path.read_text() for path in files.values() if path.exists())
    needed, cuda = split(compiled(f"{pinned}{SETUPTOOLS}\n", known))
    opencv = "opencv-python-headless==" + re.search(r"^opencv-python==(.*)$", pinned, re.M).group(1)
    headless = [entry for entry in compiled(f"{opencv}\n", known) if entry.startswith(opencv)]
    for name, entries in (("requirements", needed), ("cuda", cuda), ("headless", headless)):
        files[name].write_text(HEAD + "".join(entries))
        print(f"{files[name].relative_to(FOLDER.parent)}: {len(entries)} packages")


def compiled(requirements: str, known: str) -> list[str]:
    """Returns the entries (name, version, marker and hashes, several lines each) of all that `requirements` need.

    `known` is a lock file's text: its versions are kept where they fit, its hashes are asked for anew.
    """
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11"]
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock"
        lock.write_text("".join(entry.split("\\")[0].rstrip() + "\n" for entry in entries(known)))
        command += ["--no-annotate", "--no-header", "--output-file", str(lock), "-"]
        done = subprocess.run(command, input=requirements, text=True)
        if done.returncode:
            sys.exit(done.returncode)
        return entries(lock.read_text())


def entries(lock: str) -> list[str]:
    """Splits a lock file's text at the lines that name a package; comments are left out."""
    return re.findall(r"(?m)^[^#\s].*\n(?:\s.*\n)*", lock)


def split(lock: list[str]) -> tuple[list[str], list[str]]:
    """Returns the entries that every build of torch needs, and those that its CUDA builds need besides."""
    cuda = [entry for entry in lock if CUDA.fullmatch(entry.partition("==")[0])]
    return [entry for entry in lock if entry not in cuda], cuda


if __name__ == "__main__":
    main()
