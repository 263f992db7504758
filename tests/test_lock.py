"""What `make setup` installs: the lock files hold every package with its hashes, and pip takes nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pins import pins

from tsal.utils.paths import REPOSITORY

LOCKS = REPOSITORY / "locks"
spec = importlib.util.spec_from_file_location("lock", LOCKS / "lock.py")
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)


def locked(name: str) -> list[Requirement]:
    """Returns a lock file's packages: name, version and marker."""
    return [Requirement(re.split(r"\s+\\\n", entry)[0]) for entry in lock.entries((LOCKS / f"{name}.lock").read_text())]


def here(name: str) -> dict[str, str]:
    """Returns the versions that count on this machine, and asserts that no package has two."""
    requirements = [item for item in locked(name) if not item.marker or item.marker.evaluate({"extra": ""})]
    versions = {item.name: str(item.specifier).removeprefix("==") for item in requirements}
    assert len(versions) == len(requirements)
    return versions


@pytest.mark.parametrize("name", ["requirements", "cuda", "headless", "cpu"])
def test_every_entry_is_one_version_with_hashes_and_nothing_else(name):
    text = (LOCKS / f"{name}.lock").read_text()
    entries = lock.entries(text)
    form = r"[\w.-]+==[\w.+!]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert [entry for entry in entries if not re.fullmatch(form, entry)] == []
    comments = [line + "\n" for line in text.splitlines() if line.startswith("#")]
    assert text == "".join([*comments, *entries]) and entries


def test_every_pin_is_locked_for_every_machine():
    assert [pin for pin in pins() if pin not in map(str, locked("requirements"))] == []


def test_the_builds_that_take_another_s_place_are_of_its_version():
    versions = dict(pin.split("==") for pin in pins())
    assert [str(item) for item in locked("cpu")] == [f"torch=={versions['torch']}+cpu"]
    assert [str(item) for item in locked("headless")] == [f"opencv-python-headless=={versions['opencv-python']}"]


def test_cuda_packages_are_for_linux_and_no_other_lock_has_them():
    apart = locked("cuda")
    assert len(apart) > 10 and all("linux" in str(item.marker) for item in apart)
    assert not {item.name for item in apart} & {item.name for item in locked("requirements")}


def test_all_that_the_installed_packages_require_is_locked_in_the_installed_version():
    """From the pins down, by the packages' own metadata under this machine's markers."""
    versions = {**here("cuda"), **here("requirements")}
    open_, visited = [Requirement(pin) for pin in [*pins(), lock.SETUPTOOLS]], set()
    while open_:
        item = open_.pop()
        name = canonicalize_name(item.name)
        if (name, *item.extras) in visited:
            continue
        visited.add((name, *item.extras))
        assert name in versions, f"{name} is required and not locked: make lock"
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            assert name == "opencv-python", f"{name} is locked and not installed: make setup"
            installed = metadata.distribution("opencv-python-headless")
        assert installed.version.partition("+")[0] == versions[name], f"{name}: make setup"
        extras = ["", *item.extras]
        needed = [Requirement(text) for text in installed.requires or []]
        open_ += [r for r in needed if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    assert len(visited) > len(pins())


def test_a_lock_is_split_at_what_only_cuda_needs():
    text = "# a comment\na==1 \\\n    --hash=sha256:00\ncuda-x==2 ; os_name == 'nt' \\\n    --hash=sha256:01 \\\n"
    text += "    --hash=sha256:02\nnvidia-y==3 \\\n    --hash=sha256:03\ntriton==4 \\\n    --hash=sha256:04\n"
    needed, cuda = lock.split(lock.entries(text))
    assert needed == ["a==1 \\\n    --hash=sha256:00\n"]
    assert [entry.partition(" ")[0] for entry in cuda] == ["cuda-x==2", "nvidia-y==3", "triton==4"]
    assert "".join([*needed, *cuda]) == text.removeprefix("# a comment\n")


def test_without_uv_one_line_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, LOCKS / "lock.py"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "uv is not installed" in done.stderr and len(done.stderr.splitlines()) == 1


# --- the real recipe's commands, on a package made here ---


def recipe(*changes: str) -> list[str]:
    """Returns what `make setup` would run."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    command = [
        "make",
        "-n",
        "-C",
        str(REPOSITORY),
        "-W",
        "pyproject.toml",
        "RUN=x",
        f"PYTHON={sys.executable}",
        *changes,
        "setup",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_pip_is_never_asked_without_hashes_but_for_the_project_itself():
    commands = [line for line in recipe() if "pip install" in line]
    assert len(commands) == 5 and sum(line.endswith("--no-deps --no-build-isolation -e .") for line in commands) == 1
    assert all("--require-hashes" in line or line.endswith("-e .") for line in commands)


def install(folder, file, *digests: str):
    """Runs the recipe's line of requirements.lock in `folder` with a lock of one package, found beside it."""
    (folder / "locks").mkdir(exist_ok=True)
    hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests)
    (folder / "locks" / "requirements.lock").write_text(f"planted==1.0{hashes}\n")
    [line] = [line for line in recipe(f"PY={shlex.quote(sys.executable)}") if line.endswith("locks/requirements.lock")]
    own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(file.parent), "PIP_TARGET": str(folder / "taken")}
    own |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PATH": os.environ["PATH"]}
    return subprocess.run(["sh", "-c", line], cwd=folder, env=own, capture_output=True, text=True)


def test_a_package_is_taken_with_its_hash_and_refused_with_another(tmp_path):
    (tmp_path / "found").mkdir()
    wheel = tmp_path / "found" / "planted-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("planted.py", "")
        file.writestr("planted-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
        file.writestr("planted-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("planted-1.0.dist-info/RECORD", "planted.py,,\n")
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for digests, words in (([], "Hashes are required"), ([right[::-1]], "DO NOT MATCH THE HASHES")):
        refused = install(tmp_path, wheel, *digests)
        assert refused.returncode and words in refused.stderr and not (tmp_path / "taken").exists()
    result = install(tmp_path, wheel, right[::-1], right)
    assert result.returncode == 0 and (tmp_path / "taken" / "planted.py").exists(), result.stderr


def test_a_package_that_would_have_to_be_built_is_not_executed(tmp_path):
    """Its setup.py would run at once, and what it builds with would come without a hash."""
    source, packages = tmp_path / "planted-1.0", tmp_path / "found"
    source.mkdir(), packages.mkdir()
    (source / "setup.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    archive = packages / "planted-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(source, "planted-1.0")
    refused = install(tmp_path, archive, hashlib.sha256(archive.read_bytes()).hexdigest())
    assert refused.returncode and "No matching distribution" in refused.stderr
    assert not (tmp_path / "executed").exists() and not (tmp_path / "taken").exists()
