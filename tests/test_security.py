"""Nothing that is loaded executes anything: a payload in each kind of file is refused, and never goes off."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from releases import write_image
from toys import Shift

from tsal.cli.commands import main
from tsal.config import Config
from tsal.data.crops import CropFolder
from tsal.data.pairs import FramePairs
from tsal.loop import is_done
from tsal.prepare.matlab import read_mat
from tsal.run import Run
from tsal.schemes import get_scheme
from tsal.tracker.frozen import FrozenTracker
from tsal.tracker.training import initial_tracker
from tsal.utils.errors import ConfigError, DataError, InputError
from tsal.utils.files import read_arrays
from tsal.utils.paths import REPOSITORY


class Payload:
    """Makes a folder when a pickle of it is loaded."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def trap(tmp_path):
    """A folder that must not be there at the end; loading a payload makes it, as the first line shows."""
    folder = tmp_path / "went-off"
    pickle.loads(pickle.dumps(Payload(folder)))
    folder.rmdir()
    yield folder
    assert not folder.exists()


def refused(error: Exception, path) -> bool:
    """One line that names the file."""
    return str(path) in str(error) and "\n" not in str(error)


def plant(path, trap, how: str):
    if how == "checkpoint":
        torch.save({"models": Payload(trap), "config": {}, "fingerprint": {}, "tracker": Payload(trap)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(trap)))
    return path


@pytest.mark.parametrize("how", ["checkpoint", "bare pickle"])
def test_a_checkpoint(tmp_path, trap, capsys, how):
    path = plant(tmp_path / "model.pt", trap, how)
    write_image(tmp_path / "0.png", 0)
    (tmp_path / "list.txt").write_text("0.png None 5 5 40 40\n")
    options = ["--list", str(tmp_path / "list.txt"), "--root", str(tmp_path), "--out", str(tmp_path / "p.npz")]
    assert main(["predict", "--weights", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: not a readable checkpoint") and error.count("\n") == 1
    for load in (lambda: is_done(path, {}), lambda: initial_tracker(Config().override({"tracker.init": str(path)}))):
        with pytest.raises(InputError) as caught:
            load()
        assert refused(caught.value, path)


def test_arrays(tmp_path, trap):
    np.savez(tmp_path / "objects.npz", x=np.array([Payload(trap)], dtype=object))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Payload(trap)))
    np.save(tmp_path / "objects.npy", np.array([Payload(trap)], dtype=object))
    for name in ("objects.npz", "pickle.npz", "objects.npy"):
        with pytest.raises(InputError, match="not readable arrays") as caught:
            read_arrays(tmp_path / name)
        assert refused(caught.value, tmp_path / name)


def test_a_matlab_file(tmp_path, trap):
    path = plant(tmp_path / "boxes.mat", trap, "bare pickle")
    with pytest.raises(DataError) as caught:
        read_mat(path, "bounding_boxes")
    assert refused(caught.value, path)


def test_yaml(tmp_path, trap, capsys):
    path = tmp_path / "planted.yaml"
    path.write_text(f"semi: !!python/object/apply:os.mkdir ['{trap}']\n")
    assert main(["config", "show", "--profile", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: not valid YAML")
    with pytest.raises(ConfigError) as caught:
        get_scheme(str(path))
    assert refused(caught.value, path)
    notebook = str(REPOSITORY / "notebooks/05_evaluate.ipynb")
    payload = f"!!python/object/apply:os.mkdir ['{trap}']"
    assert main(["notebook", notebook, "--run", str(tmp_path / "run"), "-p", "x", payload]) == 2
    assert "-p: a value is not valid YAML" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        Config().override([f"semi.steps={payload}"])


def test_a_run_s_json_is_data(tmp_path, trap):
    (tmp_path / "config.json").write_text(f"!!python/object/apply:os.mkdir ['{trap}']")
    with pytest.raises(ConfigError, match="config.json: not valid YAML"):
        Run.open(tmp_path)


def test_crops_and_flows_on_disk(tmp_path, trap):
    """An entry is the bytes of an array; another file under its name is removed, and flows are computed anew."""
    folder = CropFolder(tmp_path / "crops", 10)
    folder.write("key", np.zeros((4, 4, 3), np.uint8))
    [entry] = (tmp_path / "crops").iterdir()
    plant(entry, trap, "bare pickle")
    assert folder.read("key", (4, 4, 3)) is None and not entry.exists()
    black = torch.zeros((1, 3, 32, 32), dtype=torch.uint8)
    pairs, disk = FramePairs(("a",), black, black, torch.eye(2, 3)[None]), CropFolder(tmp_path / "flows", 10)
    flows = FrozenTracker(Shift(3.0, 1.0), disk=disk)(pairs).flows
    [entry] = (tmp_path / "flows").iterdir()
    whole = entry.read_bytes()
    plant(entry, trap, "bare pickle")
    assert torch.equal(FrozenTracker(Shift(3.0, 1.0), disk=disk)(pairs).flows, flows) and entry.read_bytes() == whole


def test_a_payload_of_the_right_length_and_checksum_is_read_as_pixels(tmp_path, trap):
    folder, payload = CropFolder(tmp_path / "cache", 10), pickle.dumps(Payload(trap)).ljust(20 * 20 * 3, b"\0")
    folder.write("key", np.frombuffer(payload, np.uint8))
    assert folder.read("key", (20, 20, 3)).tobytes() == payload


def test_jupyter_listens_on_this_machine_alone_and_asks_for_its_token():
    """Its defaults, which nothing here changes."""
    [line] = [line for line in (REPOSITORY / "Makefile").read_text().splitlines() if "-m jupyter lab" in line]
    assert not any(word in line for word in ("ip=", "token", "password", "allow_origin"))
    folder = REPOSITORY / "tsal" / "explorer" / "jupyter"
    assert [path.name for path in folder.rglob("*.*")] == ["default_setting_overrides.json"]
