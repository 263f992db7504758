"""What pip installs: one wheel with configs and weights inside, which works anywhere with four packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions

import cv2
import numpy as np
import pytest
import torch
from toys import config, save_image, scenery

from tsal.model import Detector
from tsal.model_files import save_models
from tsal.utils.paths import REPOSITORY

FOUR = ["numpy", "opencv-python", "pyyaml", "torch"]
PINNED = {line.partition("==")[0] for line in (REPOSITORY / "requirements.txt").read_text().splitlines()}
# every other package that is pinned, by the names that it is imported by; and IPython, which comes with ipykernel
BLOCKED = ["IPython"] + [
    name
    for name, packages in packages_distributions().items()
    if {package.lower() for package in packages} & PINNED.difference(FOUR)
]
WITHOUT = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("tsal", "configs"):
        shutil.copytree(REPOSITORY / name, folder / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", folder, folder / "source"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Where the wheel is unpacked, as pip does it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_code_configs_and_weights_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (REPOSITORY / "tsal").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {str(path.relative_to(REPOSITORY)) for path in files}
    expected |= {f"tsal/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert names == expected
    assert {"tsal/weights/tracker.pt", "tsal/configs/schemes/68.yaml", "tsal/py.typed"} <= names


def test_it_needs_four_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        needed = message_from_bytes(archive.read(name)).get_all("Requires-Dist")
    plain = [item for item in needed if "extra ==" not in item]
    assert sorted(item.rstrip("<>=.,0123456789").lower() for item in plain) == FOUR


def run(code: str, folder, installed) -> str:
    """Python code in a folder with the unpacked wheel, without the blocked packages -> what it prints."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_elsewhere_with_four_packages_it_predicts_tracks_and_knows_its_configs(installed, tmp_path):
    torch.manual_seed(0)
    settings = config("model.input=64")
    save_models(tmp_path / "model.pt", {"teacher": Detector(68, settings.model)}, settings, {})
    image = np.repeat(scenery(0)[..., None], 3, 2)
    save_image(tmp_path / "image.png", image)
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 20, (160, 120))
    for _ in range(4):
        writer.write(image)
    writer.release()
    (tmp_path / "boxes.csv").write_text("frame,x1,y1,x2,y2,track\n" + "".join(f"{n},20,20,80,80,a\n" for n in range(4)))
    code = """
import tsal
from pathlib import Path
from tsal import Landmarker
assert "torch" not in sys.modules
[face] = Landmarker("model.pt")("image.png", boxes=[20, 20, 80, 80])
assert face.points.shape == (68, 2)
from tsal.cli import main
assert main(["predict", "image.png", "--weights", "model.pt", "--out", "p.csv", "--draw", "drawn"]) == 0
assert main(["track", "v.mp4", "--weights", "model.pt", "--out", "out.mp4", "--boxes-file", "boxes.csv"]) == 0
assert main(["demo", "v.mp4", "--weights", "model.pt"]) == 2  # no face in it
assert main(["config", "show", "--budget", "300w-50", "--profile", "smoke", "--method", "stld"]) == 0
from tsal.config import Config, names_of
from tsal.schemes import scheme_names
from tsal.tracker import initial_tracker
initial_tracker(Config())
print(Path(tsal.__file__).parent, *names_of("profiles"), *scheme_names())
"""
    said = run(code, tmp_path, installed).splitlines()[-1].split()
    assert said[0] == str(installed / "tsal") and {"demo", "faces", "68", "98"} < set(said[1:])
    assert (tmp_path / "p.csv").is_file() and (tmp_path / "out.mp4").is_file()
    assert (tmp_path / "drawn/image.jpg").is_file()


def test_a_package_that_is_missing_is_one_line(installed, tmp_path):
    code = """
import contextlib, io
from tsal.cli import main
with contextlib.redirect_stderr(io.StringIO()) as said:
    assert main(["figures", "--compare", "a", "b"]) == 2
print(said.getvalue(), end="")
"""
    said = run(code, tmp_path, installed)
    assert said.count("\n") == 1 and "pip install 'tsal[notebooks]'" in said
