"""An exported detector gives the detector's points, for any number of crops, in the programs that read it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from toys import config

from tsal.cli.commands import main
from tsal.inference import export
from tsal.inference.export import export_model
from tsal.model import Detector
from tsal.model_files import save_models
from tsal.utils import REPOSITORY

SIDE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained teacher and student of 68 landmarks."""
    torch.manual_seed(0)
    settings = config(f"model.input={SIDE}", "data.root=/somewhere", "model.weights=/somewhere/model.pt")
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_models(path, {name: Detector(68, settings.model) for name in ("teacher", "student")}, settings, {})
    return path


@pytest.fixture(scope="module")
def onnx_file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "student.onnx"
    export_model(weights, path, "student")
    return path


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).random((3, 3, SIDE, SIDE), dtype=np.float32)


@pytest.fixture(scope="module")
def expected(weights, crops):
    """Points and scores of the student, in PyTorch."""
    detector = export.load_model(weights, "student")[0]
    with torch.no_grad():
        return [values.numpy() for values in detector.heatmap(detector(torch.from_numpy(crops)))]


@pytest.mark.parametrize("count", [1, 3])
def test_onnxruntime_gives_the_detector_s_points(onnx_file, crops, expected, count):
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    points, scores = session.run(None, {"crops": crops[:count]})
    np.testing.assert_allclose(points, expected[0][:count], atol=1e-3)
    np.testing.assert_allclose(scores, expected[1][:count], atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_opencv_gives_the_detector_s_points(onnx_file, crops, expected, count):
    net = cv2.dnn.readNetFromONNX(str(onnx_file))
    net.setInput(crops[:count], "crops")
    points, scores = net.forward(["points", "scores"])
    np.testing.assert_allclose(points, expected[0][:count], atol=1e-3)
    np.testing.assert_allclose(scores, expected[1][:count], atol=1e-5)


def test_a_file_says_how_crops_are_cut_and_may_be_written_again(onnx_file):
    assert export.is_export(onnx_file)
    facts = onnxruntime.InferenceSession(onnx_file).get_modelmeta().custom_metadata_map
    assert facts == {
        "input": str(SIDE),
        "box_scale": "1.35",
        "box": "[0.0, 0.0, 1.0, 1.0]",
        "scheme": "68",
        "landmarks": "68",
    }


def test_a_program_gives_the_detector_s_points_and_says_how_crops_are_cut(weights, crops, expected, tmp_path):
    export_model(weights, tmp_path / "student.pt2", "student")
    facts = {"tsal.json": ""}
    program = torch.export.load(tmp_path / "student.pt2", extra_files=facts).module()
    for count in (1, 3):
        with torch.no_grad():
            points, _ = program(torch.from_numpy(crops[:count]))
        np.testing.assert_allclose(points.numpy(), expected[0][:count], atol=1e-4)
    assert json.loads(facts["tsal.json"])["box_scale"] == 1.35
    assert export.is_export(tmp_path / "student.pt2")  # the same command may write it again


def test_a_file_of_weights_holds_one_model_in_half_the_size_and_gives_its_points(weights, crops, expected, tmp_path):
    export_model(weights, tmp_path / "student.pt", "student")
    content = torch.load(tmp_path / "student.pt", weights_only=True)
    assert list(content["models"]) == ["student"]
    assert content["config"]["data"]["root"] == content["config"]["model"]["weights"] == ""
    for _ in range(2):
        export_model(weights, tmp_path / "again.pt", "student")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "student.pt").read_bytes()
    assert (tmp_path / "student.pt").stat().st_size < 0.27 * weights.stat().st_size  # of two models
    detector = export.load_model(tmp_path / "student.pt")[0]
    assert {value.dtype for value in detector.parameters()} == {torch.float32}
    with torch.no_grad():
        points, _ = detector.heatmap(detector(torch.from_numpy(crops)))
    np.testing.assert_allclose(points.numpy(), expected[0], atol=0.05)


def test_without_a_name_the_method_s_result_is_written(weights, tmp_path):
    models = {name: export.load_model(weights, name)[0] for name in ("teacher", "student")}
    save_models(tmp_path / "run.pt", models, config(f"model.input={SIDE}", "result=student"), {})
    export_model(tmp_path / "run.pt", tmp_path / "out.pt")
    export_model(weights, tmp_path / "student.pt", "student")
    unnamed, named = (torch.load(tmp_path / f"{name}.pt", weights_only=True)["models"] for name in ("out", "student"))
    assert list(unnamed) == ["student"]
    assert all(torch.equal(value, named["student"][name]) for name, value in unnamed["student"].items())


def test_of_several_files_the_mean_of_their_weights_is_written(weights, tmp_path, capsys):
    detectors = [export.load_model(weights, name)[0] for name in ("teacher", "student")]
    settings = config(f"model.input={SIDE}")
    files = [tmp_path / "first.pt", tmp_path / "second.pt"]
    for path, detector in zip(files, detectors):
        save_models(path, {"teacher": detector}, settings, {"file": path.name})
    command = ["export", "--weights", *map(str, files), "--out", str(tmp_path / "mean.pt")]
    assert main(command) == 0
    fingerprint = torch.load(tmp_path / "mean.pt", weights_only=True)["fingerprint"]
    assert fingerprint == {"file": "first.pt", "mean with": [{"file": "second.pt"}]}
    mean = export.load_model(tmp_path / "mean.pt")[0].state_dict()
    for name, first in detectors[0].state_dict().items():
        between = (first + detectors[1].state_dict()[name]) / 2 if first.is_floating_point() else first
        torch.testing.assert_close(mean[name], between, atol=2e-3, rtol=0)  # half precision

    save_models(files[1], {"teacher": Detector(68, config("model.input=96").model)}, config("model.input=96"), {})
    capsys.readouterr()
    assert main(command) == 2
    assert "second.pt: has another network" in capsys.readouterr().err


def test_other_outputs_and_missing_packages_are_one_line(weights, tmp_path, capsys, monkeypatch):
    def stopped(out) -> str:
        assert main(["export", "--weights", str(weights), "--out", str(out)]) == 2
        return capsys.readouterr().err

    assert "must be named .onnx, .pt2 or .pt" in stopped(tmp_path / "model.pb")
    content = weights.read_bytes()
    assert "is an input too" in stopped(weights) and weights.read_bytes() == content
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    assert "ONNX needs onnxscript: pip install" in stopped(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["training.pt", "notes.pt", "other.onnx", "other.pt2"])
def test_a_file_that_is_no_export_is_kept(weights, tmp_path, name):
    shutil.copy(weights, tmp_path / name) if name == "training.pt" else (tmp_path / name).write_bytes(b"my own")
    own = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError, match=f"{name}: is there and was not written by this command"):
        export_model(weights, tmp_path / name)
    assert (tmp_path / name).read_bytes() == own


def test_the_example_says_how_it_is_used_and_what_it_cannot_open(onnx_file):
    script = [sys.executable, str(REPOSITORY / "examples" / "onnx_webcam.py")]
    for arguments, said in (([], "usage: python onnx_webcam.py"), ([onnx_file, "none.mp4"], "none.mp4: cannot be")):
        process = subprocess.run([*script, *map(str, arguments)], capture_output=True, text=True)
        assert process.returncode == 1 and said in process.stderr and "Traceback" not in process.stderr
