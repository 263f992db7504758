"""The demo makes its pictures, video and numbers, and says where."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from toys import save_image
from videos import scene, write_video

from tsal.cli.commands import main
from tsal.inference import demo as module
from tsal.inference import weights as weights_module
from tsal.inference.outputs import check_output
from tsal.utils.drawn import is_drawn


def test_without_input_it_shows_a_photograph_and_a_rendered_clip(weights, tmp_path, capsys):
    assert main(["demo", "--weights", str(weights), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "landmarks: 100%" not in said.err
    assert said.out.splitlines() == [
        f"1 face in 1 image: {tmp_path / 'grace_hopper-drawn'}",
        f"their landmarks: {tmp_path / 'grace_hopper.csv'}",
        f"1 face in 50 frames: {tmp_path / 'clip-drawn.mp4'}",
        f"their landmarks: {tmp_path / 'clip-drawn.csv'}",
    ]
    drawn = cv2.imread(str(tmp_path / "grace_hopper-drawn" / "grace_hopper.jpg"))
    assert drawn.shape == cv2.imread(str(module.photograph())).shape
    with (tmp_path / "clip-drawn.csv").open(newline="") as file:
        assert [int(row["frame"]) for row in csv.DictReader(file)] == list(range(50))


def test_it_replaces_its_own_clip_and_no_other_file_of_its_name(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "CLIP", (3, 2, 64))
    clip = tmp_path / "rendered" / "clip.mp4"
    module.write_rendered_clip(clip)
    check_output(clip, (".mp4",), is_drawn)
    clip.write_bytes(b"somebody's own")
    assert main(["demo", "--weights", str(weights), "--out", str(tmp_path)]) == 2
    assert f"error: {clip}: is there and was not written by this command" in capsys.readouterr().err
    assert clip.read_bytes() == b"somebody's own" and list(tmp_path.iterdir()) == [clip.parent]


def test_an_input_of_one_s_own_is_told_by_what_it_is_and_has_progress_bars(weights, tmp_path, capsys):
    list(module.run_demo(tmp_path / "out", weights, module.photograph()))
    assert (tmp_path / "out/grace_hopper-drawn/grace_hopper.jpg").is_file()
    bars = capsys.readouterr().err
    assert "predict: 100%" in bars and "drawing: 100%" in bars
    (tmp_path / "x.heic").touch()
    with pytest.raises(ValueError, match="x.heic: the image cannot be read or decoded; convert it to JPEG"):
        list(module.run_demo(tmp_path / "out", weights, tmp_path / "x.heic"))
    with pytest.raises(ValueError, match="none.jpg: no such image, video or folder"):
        list(module.run_demo(tmp_path / "out", weights, tmp_path / "none.jpg"))


def test_where_no_face_is_found_it_says_what_to_try(weights, tmp_path):
    for name, side in (("face.png", 96), ("grey.png", 80)):
        save_image(tmp_path / "photos" / name, np.full((side, side, 3), 128, np.uint8))

    def demo(path: Path) -> list[str]:
        boxes = np.array([[20.0, 20, 70, 70]])
        return list(module.run_demo(tmp_path / "out", weights, path, finder=lambda i: boxes[: len(i) == 96]))

    note, summary, _ = demo(tmp_path / "photos")
    advice = (
        f"note: no face is found in 1 image ({tmp_path / 'photos/grey.png'}): try another finder (docs/finders.md), or"
    )
    assert note.startswith(advice)
    assert "'python -m tsal predict' with a smaller --min-face" in note and summary.startswith("1 face in 2 images: ")
    assert len(demo(tmp_path / "photos" / "face.png")) == 2
    write_video(tmp_path / "clip.mp4", scene(0, 6))
    with pytest.raises(
        ValueError, match="try another finder .*, or 'python -m tsal track' with --boxes-file, or, "
    ) as error:
        list(module.run_demo(tmp_path / "out", weights, tmp_path / "clip.mp4", finder=lambda *_: np.empty((0, 4))))
    assert "where faces are small, with a smaller --min-face" in str(
        error.value
    )  # of track too: the demo has no such options


def test_it_takes_the_face_finder_of_the_environment(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TSAL_FACE_MODEL", str(tmp_path / "none.onnx"))
    assert main(["demo", "--weights", str(weights), "--out", str(tmp_path / "out")]) == 2
    assert "none.onnx: no such model file (TSAL_FACE_MODEL)" in capsys.readouterr().err


def test_without_weights_it_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TSAL_WEIGHTS", raising=False)
    monkeypatch.setattr(weights_module, "SHIPPED", tmp_path / "face68.pt")
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "no trained detector comes with this version" in line and not (tmp_path / "out").exists()
