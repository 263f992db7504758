"""Images and folders give tables and drawings; the three forms of a table say the same."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toys import save_image, scenery

from tsal.cli.commands import main
from tsal.data import lists
from tsal.data.points import write_points
from tsal.inference import landmarker as landmarker_module
from tsal.inference import predict as module
from tsal.inference.predict import LeftOut, predict_images, predict_list
from tsal.inference.tables import LandmarkTable, drawing_paths, write_table
from tsal.model import Detector
from tsal.schemes import generic_scheme
from tsal.utils import read_arrays

ONE, TWO = (20.0, 30.0, 70.0, 80.0), (90.0, 30.0, 140.0, 90.0)


@pytest.fixture()
def photos(tmp_path, monkeypatch):
    """A folder with an image of two faces, one of none and, in a folder of it, one of one face; brightness tells."""

    def find(image, _):
        return np.array([ONE, TWO] if image.mean() > 160 else [TWO] if image.mean() > 90 else []).reshape(-1, 4)

    monkeypatch.setattr(landmarker_module, "find_boxes", find)
    for name, light in (("a.png", 1.0), ("b.JPG", 0.1), ("in/a.png", 0.8)):
        image = np.repeat((150 + 100 * (scenery(0) / 255.0))[..., None] * light, 3, 2).astype(np.uint8)
        save_image(tmp_path / "photos" / name, image)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def run(*arguments) -> int:
    return main(["predict", *map(str, arguments)])


def test_a_folder_s_faces_are_in_the_table_in_each_of_its_forms(photos, weights, tmp_path, capsys):
    for suffix in (".csv", ".json", ".npz"):
        assert run(photos, "--weights", weights, "--out", tmp_path / f"out{suffix}") == 0
    said = capsys.readouterr()
    assert "3 faces in 3 images, 68 points each\n" in said.out and str(tmp_path / "out.npz") in said.out
    [note] = {line for line in said.err.splitlines() if line.startswith("note: ")}
    assert note.startswith(
        f"note: no face is found in 1 image ({photos / 'b.JPG'}): try another finder (docs/finders.md)"
    )
    arrays = read_arrays(tmp_path / "out.npz")
    assert arrays["paths"].tolist() == [str(photos / name) for name in ("a.png", "a.png", "in/a.png")]
    assert arrays["faces"].tolist() == [0, 1, 0] and arrays["points"].shape == (3, 68, 2)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["scheme"] == "68" and [image["path"] for image in content["images"]] == [
        str(photos / name) for name in ("a.png", "b.JPG", "in/a.png")
    ]
    assert content["images"][1]["faces"] == []
    faces = [face for image in content["images"] for face in image["faces"]]
    for row, face, path, number, box, points, scores in zip(rows, faces, *(arrays[n] for n in arrays), strict=True):
        assert (row["path"], row["face"]) == (path, str(number))
        assert [float(row[name]) for name in ("left", "top", "right", "bottom")] == pytest.approx(box, abs=0.006)
        own = np.array([[float(row[f"{axis}{k}"]) for axis in "xy"] for k in range(68)])
        assert own == pytest.approx(points, abs=0.006) and np.array(face["points"]) == pytest.approx(own, abs=0.011)
        assert [float(row[f"score{k}"]) for k in range(68)] == pytest.approx(scores, abs=6e-4)
        assert face["scores"] == pytest.approx(scores, abs=6e-4) and face["box"] == pytest.approx(box, abs=0.006)
        assert float(row["score"]) == pytest.approx(scores.mean(), abs=6e-4) == pytest.approx(face["score"], abs=6e-4)


def test_the_rows_of_an_image_need_not_follow_one_another_and_are_looked_for_once(tmp_path):
    """As those of a list need not; to look for each image's rows in the whole table takes minutes where it is long."""

    class Paths(np.ndarray):
        def __eq__(self, name):
            pytest.fail("all paths were compared with one image's")

    paths = np.array(["b", "a", "b", "d"]).view(Paths)
    boxes, points = np.arange(16, dtype=np.float32).reshape(4, 4), np.zeros((4, 1, 2), np.float32)
    table = LandmarkTable(["b", "c", "a", "d"], paths, np.array([0, 0, 1, 0]), boxes, points, np.ones((4, 1)))
    assert table.by_image() == {"b": [0, 2], "c": [], "a": [1], "d": [3]}
    write_table(tmp_path / "t.json", table, generic_scheme(1))
    images = json.loads((tmp_path / "t.json").read_text())["images"]
    lefts = [(image["path"], [face["box"][0] for face in image["faces"]]) for image in images]
    assert lefts == [("b", [0, 8]), ("c", []), ("a", [4]), ("d", [12])]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npz"])
def test_a_table_replaces_a_former_table_and_no_other_file(photos, weights, tmp_path, capsys, suffix):
    out = tmp_path / f"out{suffix}"
    for _ in range(2):
        assert run(photos / "a.png", "--weights", weights, "--out", out) == 0
    np.savez(out, labels=np.arange(3)) if suffix == ".npz" else out.write_text("my,own,labels\n")
    own = out.read_bytes()
    assert run(photos / "a.png", "--weights", weights, "--out", out) == 2
    assert f"{out}: is there and was not written by this command" in capsys.readouterr().err
    assert out.read_bytes() == own


def test_drawings_show_the_points_and_lie_as_the_images_do(photos, weights, tmp_path, monkeypatch):
    spread = torch.rand((68, 2), generator=torch.Generator().manual_seed(0)) * 40 + 10
    monkeypatch.setattr(
        Detector,
        "heatmap",
        lambda self, detection: (spread.expand(len(detection.centre), 68, 2), torch.ones(len(detection.centre), 68)),
    )
    assert run(photos, "--weights", weights, "--draw", tmp_path / "drawn", "--out", tmp_path / "out.npz") == 0
    drawn = sorted(str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*.jpg"))
    assert drawn == ["a.jpg", "b.jpg", "in/a.jpg"]
    plain, shown = (cv2.imread(str(path)).astype(int) for path in (photos / "b.JPG", tmp_path / "drawn" / "b.jpg"))
    assert np.abs(plain - shown).max() < 20  # nothing is drawn where nothing is found
    plain, shown = (cv2.imread(str(path)).astype(int) for path in (photos / "in/a.png", tmp_path / "drawn/in/a.jpg"))
    changed = np.abs(plain - shown).max(-1) > 40
    for x, y in read_arrays(tmp_path / "out.npz")["points"][2].round().astype(int):
        assert changed[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].any()
    assert not changed[:, :60].any()  # the face is on the right


def test_without_a_name_the_method_s_result_is_shown_in_its_own_colour(photos, weights, tmp_path, monkeypatch):
    content = torch.load(weights, weights_only=True)
    content["config"]["result"] = "student"
    torch.save(content, tmp_path / "model.pt")

    def outputs(model: str) -> tuple[list, bytes]:
        named = ["--model", model] if model else []
        drawn = ["--draw", tmp_path / f"drawn{model}", "--out", tmp_path / f"out{model}.npz"]
        assert run(photos / "a.png", "--weights", tmp_path / "model.pt", *named, *drawn) == 0
        points = read_arrays(tmp_path / f"out{model}.npz")["points"].tolist()
        return points, (tmp_path / f"drawn{model}/a.jpg").read_bytes()

    shown = {model: outputs(model) for model in ("", "teacher", "student")}
    assert shown[""] == shown["student"] and shown[""][0] != shown["teacher"][0]
    # where both models say the same, the drawings differ by the colour alone
    spread = torch.rand((68, 2), generator=torch.Generator().manual_seed(0)) * 40 + 10
    scores = torch.ones(1, 1)
    monkeypatch.setattr(
        Detector,
        "heatmap",
        lambda self, detection: (spread.expand(n := len(detection.centre), 68, 2), scores.expand(n, 68)),
    )
    (points, drawing), (same_points, other_drawing) = outputs(""), outputs("teacher")
    assert points == same_points and drawing != other_drawing


def test_drawings_of_one_name_get_numbers_and_never_replace_an_image(tmp_path):
    images = [str(tmp_path / name) for name in ("x/a.png", "y/a.jpg", "y/b.jpg")]
    places = drawing_paths(images, tmp_path / "out")
    assert [place.name for place in places.values()] == ["a.jpg", "a-2.jpg", "b.jpg"]
    with pytest.raises(ValueError, match="a.jpg: is an input too"):
        drawing_paths(images[1:], tmp_path / "y")


def test_images_with_the_longest_names_that_files_have_are_drawn(photos, weights, tmp_path):
    for suffix in ("png", "bmp"):
        (photos / f"{'x' * 251}.{suffix}").hardlink_to(photos / "a.png")
    inputs = sorted(photos.glob("xx*"))
    predict_images(inputs, weights, drawings=tmp_path / "drawn", progress=False)
    numbered, plain = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert plain == "x" * 251 + ".jpg" and len(numbered) < 60


def test_no_drawing_lies_outside_its_folder(tmp_path, monkeypatch):
    (tmp_path / "here/in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    images = ["in/a.png", "../other/b.png", "in/../../c.png", str(tmp_path / "here/in/d.png")]
    places = drawing_paths(images, Path("drawn"), Path("."))
    assert [str(place) for place in places.values()] == [
        "drawn/in/a.jpg",
        "drawn/b.jpg",
        "drawn/c.jpg",
        "drawn/in/d.jpg",
    ]


def test_a_drawing_replaces_a_former_drawing_and_no_other_file(photos, weights, tmp_path, capsys):
    for _ in range(2):
        assert run(photos / "a.png", "--weights", weights, "--draw", tmp_path / "drawn") == 0
    twin = photos / "a.jpg"
    twin.write_bytes(b"the camera's own")
    assert run(photos / "a.png", "--weights", weights, "--draw", photos) == 2
    assert "a.jpg: is there and was not written by this command" in capsys.readouterr().err
    assert twin.read_bytes() == b"the camera's own"


def test_former_drawings_of_a_folder_are_left_out_and_counted(photos, weights, tmp_path, capsys):
    for _ in range(2):
        assert run(photos, "--weights", weights, "--draw", photos / "drawn") == 0
    assert capsys.readouterr().err.count(f"note: {photos}: left out: 3 drawings of this command\n") == 1
    assert len(predict_images([photos], weights, progress=False)[0].images) == 3
    assert run(photos / "drawn/a.jpg", "--weights", weights, "--draw", photos / "drawn") == 2
    assert "a.jpg: is an input too" in capsys.readouterr().err
    with pytest.raises(ValueError, match="drawn: holds no image .*; left out: 3 drawings of this command"):
        predict_images([photos / "drawn"], weights, progress=False)


def test_an_image_too_long_for_a_drawing_is_noted_in_a_folder_and_an_error_where_it_is_named(
    photos, weights, tmp_path, capsys
):
    save_image(photos / "strip.png", np.full((40, 70_000, 3), 20, np.uint8))
    options = ["--weights", weights, "--draw", tmp_path / "drawn", "--out", tmp_path / "out.json"]
    assert run(photos, *options) == 0
    note, no_face = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert note.startswith(f"note: {photos / 'strip.png'}: is not drawn: 70000 x 40 pixels") and "65500" in note
    assert no_face.startswith("note: no face is found in ") and "strip.png" in no_face
    assert "strip.png" in (tmp_path / "out.json").read_text()
    assert len(list((tmp_path / "drawn").rglob("*.jpg"))) == 3
    (tmp_path / "out.json").unlink()
    assert run(photos / "strip.png", photos / "a.png", *options) == 2
    assert f"error: {photos / 'strip.png'}: is not drawn: 70000 x 40 pixels" in capsys.readouterr().err
    assert "strip.png" in (tmp_path / "out.json").read_text()


def test_what_the_detector_saw_is_drawn_whatever_the_file_s_name_and_depth(photos, weights, tmp_path):
    """A name that is not UTF-8, and a picture of 12 bits in 16."""
    plain = cv2.imread(str(photos / "a.png"))
    _, encoded = cv2.imencode(".png", plain.astype(np.uint16) * 16)
    (tmp_path / "odd").mkdir()
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "odd") + b"/caf\xe9.png"))
    odd.write_bytes(encoded.tobytes())
    assert run(tmp_path / "odd", "--weights", weights, "--draw", tmp_path / "drawn", "--out", tmp_path / "o.csv") == 0
    [drawn] = (tmp_path / "drawn").iterdir()
    shown = cv2.imdecode(np.frombuffer(drawn.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert np.median(np.abs(shown.astype(int) - plain)) <= 3
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == ["caf\\udce9.png"] * 2


def test_an_unreadable_image_is_left_out_with_a_note_and_an_error_only_where_it_is_named(
    photos, weights, tmp_path, capsys
):
    (photos / "broken.jpg").write_bytes(b"no image")
    table, notes = predict_images([photos], weights, progress=False)
    assert len(table.images) == 3 and len(notes) == 1
    assert notes[0].endswith("broken.jpg: the image cannot be read or decoded; it is left out")
    (photos / "in/broken too.jpg").touch()
    named = [photos / name for name in ("broken.jpg", "a.png", "in")]
    options = ["--weights", weights, "--out", tmp_path / "out.csv", "--draw", tmp_path / "drawn"]
    assert run(*named, *options) == 2
    said = capsys.readouterr()
    lines = [line.split(": the image")[0] for line in said.err.splitlines() if line.startswith(("note: ", "error: "))]
    assert lines == [f"note: {photos / 'in/broken too.jpg'}", f"error: {photos / 'broken.jpg'}"]
    assert "3 faces in 2 images" in said.out
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [
            str(photos / n) for n in ("a.png", "a.png", "in/a.png")
        ]
    assert len(list((tmp_path / "drawn").rglob("*.jpg"))) == 2


def test_images_are_drawn_with_the_weights_that_ship_or_are_named_from_home(photos, weights, tmp_path, monkeypatch):
    home = Path("~") / weights.name
    monkeypatch.setenv("HOME", str(weights.parent))
    for case, path, variable, shipped in (
        ("ships", None, "", weights),
        ("named", home, "", tmp_path / "none.pt"),
        ("environment", None, str(home), tmp_path / "none.pt"),
    ):
        monkeypatch.setenv("TSAL_WEIGHTS", variable)
        monkeypatch.setattr("tsal.inference.weights.SHIPPED", shipped)
        table, _ = predict_images([photos / "a.png"], path, drawings=tmp_path / case, progress=False)
        assert len(table.points) == 2 and (tmp_path / case / "a.jpg").is_file()


def test_where_no_image_can_be_read_nothing_is_written(photos, weights, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"no image")
    assert run(photos / "broken.jpg", "--weights", weights, "--out", tmp_path / "out.csv") == 2
    assert f"error: {photos / 'broken.jpg'}: the image cannot be read or decoded" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_a_list_of_another_dataset_is_of_that_dataset_s_images(weights, tmp_path, monkeypatch, capsys):
    """Both datasets have an image of that name."""
    monkeypatch.setattr(lists, "PREPARED", tmp_path)
    for seed, dataset in enumerate("AB"):
        save_image(tmp_path / dataset / "0001.png", np.repeat(scenery(seed)[..., None], 3, 2))
        (tmp_path / dataset / "train.txt").write_text("0001.png None 20 30 70 80\n")

    def points(name: str, *root) -> np.ndarray:
        assert run("--list", name, *root, "--weights", weights, "--out", tmp_path / "o.npz") == 0
        assert read_arrays(tmp_path / "o.npz")["paths"].tolist() == ["0001.png"]
        return read_arrays(tmp_path / "o.npz")["points"]

    first, second = (points("train.txt", "--root", tmp_path / dataset) for dataset in "AB")
    assert np.array_equal(points("B:train.txt"), second)
    assert not np.allclose(first, second, atol=1e-3)
    assert run("--list", "B:train.txt", "--root", tmp_path / "A", "--out", tmp_path / "o.npz") == 2
    assert "--root would be ignored: B:train.txt is relative to its own dataset" in capsys.readouterr().err


def test_images_of_a_linked_folder_are_read_and_broken_links_are_told(photos, weights, tmp_path):
    (photos / "in").rename(tmp_path / "elsewhere")
    (photos / "in").symlink_to(tmp_path / "elsewhere")
    (photos / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    table, notes = predict_images([photos], weights, progress=False)
    assert table.images == [str(photos / name) for name in ("a.png", "b.JPG", "in/a.png")]
    assert notes == [f"{photos}: left out: 1 link to files that do not exist"]


def test_a_file_that_is_named_in_two_ways_is_one_image(photos, weights):
    """Its first name stays, and named itself it stays where it cannot be read. A link in a folder has its own row."""
    (photos / "link.png").symlink_to(photos / "in/a.png")
    inputs = [photos / "in/a.png", photos / "in/../in/a.png", photos]
    table, _ = predict_images(inputs, weights, progress=False)
    assert table.images == [str(photos / name) for name in ("in/a.png", "a.png", "b.JPG", "link.png")]
    (photos / "b.JPG").write_bytes(b"no image")
    with pytest.raises(LeftOut, match="b.JPG"):
        predict_images([photos, photos / "in/../b.JPG"], weights, progress=False)


def test_large_images_are_not_held_eight_at_once(photos, weights, monkeypatch):
    """In order, and as many together as :class:`tsal.Landmarker` holds."""
    monkeypatch.setattr(landmarker_module, "HELD", 120 * 160 * 2)
    counts, whole = [], landmarker_module.Landmarker.__call__
    monkeypatch.setattr(
        landmarker_module.Landmarker, "__call__", lambda self, images: counts.append(len(images)) or whole(self, images)
    )
    table, _ = predict_images([photos], weights, progress=False)
    assert counts == [2, 1] and [Path(path).name for path in table.paths] == ["a.png", "a.png", "a.png"]


def test_ctrl_c_keeps_the_landmarks_of_the_images_before_it(photos, weights, tmp_path, monkeypatch, capsys):
    """In a file of another name, as the table is not whole."""
    monkeypatch.setattr(module, "AT_ONCE", 1)
    faces_of = landmarker_module.find_boxes
    images = []

    def find(image, min_face):
        images.append(image)
        if len(images) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return faces_of(image, min_face)

    monkeypatch.setattr(landmarker_module, "find_boxes", find)
    out = tmp_path / "faces.csv"
    assert run(photos, "--out", out, "--weights", weights) == 143
    assert f"faces.partial.csv has the first 2 of 3 images, up to {photos / 'b.JPG'}" in capsys.readouterr().err
    with (tmp_path / "faces.partial.csv").open() as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == ["a.png"] * 2
    assert not out.exists()


def test_heic_images_are_told_to_be_converted(photos, weights, tmp_path, capsys):
    for name in ("x.HEIC", "y.heif"):
        (photos / name).write_bytes(b"\0\0\0\x18ftypheic")
    assert run(photos, "--weights", weights, "--out", tmp_path / "out.csv") == 0
    note = f"note: {photos}: left out: 2 HEIC images (.heic, .heif): convert to JPEG\n"
    assert note in capsys.readouterr().err
    assert run(photos / "x.HEIC", "--weights", weights, "--out", tmp_path / "out.csv") == 2
    assert "x.HEIC: the image cannot be read or decoded; convert it to JPEG" in capsys.readouterr().err


WRONG = {
    "neither": ([], "name images or folders, or a list"),
    "no output": (["photos"], "say what is wanted: --out OUT.csv"),
    "both": (
        ["photos", "--list", "x", "--root", ".", "--out", "o.csv"],
        "--list, --root would be ignored beside images",
    ),
    "list alone": (["--list", "x"], "--list wants --root DIR and --out OUT"),
    "list drawn": (
        ["--list", "x", "--root", ".", "--out", "o.csv", "--draw", "d"],
        "--draw would be ignored beside --list",
    ),
    "source": (["photos", "--out", "o.csv", "--source", "centre"], "--source would be ignored beside images"),
    "suffix": (["photos", "--out", "o.txt"], "o.txt: the output must be named .csv, .json or .npz"),
    "no such": (["none", "--out", "o.csv"], "none: no such image or folder"),
    "empty": (["empty", "--out", "o.csv"], "empty: holds no image"),
    "video": (["v.mp4", "--out", "o.csv"], "v.mp4: is a video; use: python -m tsal track v.mp4"),
    "table in a file": (["photos", "--out", "photos/a.png/o.csv"], "photos/a.png: is no folder; name another output"),
    "unwritable": (["photos", "--out", "/proc/o.csv"], "no file can be written there"),
    "drawings in a file": (["photos", "--draw", "photos/a.png"], "photos/a.png: is no folder; name another output"),
    "size": (["photos", "--out", "o.csv", "--min-face", "7"], "min_face = 7: want a share"),
    "all broken": (["junk", "--out", "o.csv"], "x.jpg: the image cannot be read or decoded"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_and_nothing_is_written(photos, weights, tmp_path, monkeypatch, capsys, case):
    arguments, said = WRONG[case]
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "junk"):
        (tmp_path / folder).mkdir()
    (tmp_path / "junk/x.jpg").touch()
    (tmp_path / "v.mp4").touch()
    assert run(*arguments, "--weights", weights) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and said in lines[0] and not list(tmp_path.glob("o.*"))


@pytest.mark.parametrize("option", ["--out", "--draw"])
def test_an_output_that_cannot_be_written_is_said_before_the_model_is_loaded(
    photos, weights, tmp_path, monkeypatch, capsys, option
):
    monkeypatch.setattr(module, "Landmarker", lambda *_, **__: pytest.fail("the model was loaded"))
    assert run(photos, "--weights", weights, option, photos / "a.png" / "o.csv") == 2
    assert "a.png: is no folder; name another output" in capsys.readouterr().err


def test_a_labelled_list_is_measured_and_what_cannot_be_compared_is_told(weights, tmp_path, capsys, monkeypatch):
    line = torch.linspace(8, 56, 68)[:, None].expand(68, 2)
    monkeypatch.setattr(
        Detector, "heatmap", lambda self, detection: (line.expand(n := len(detection.centre), 68, 2), torch.ones(n, 68))
    )
    rows, names = [], ("a", "b", "c")
    for seed, name in enumerate(names):
        save_image(tmp_path / f"{name}.png", np.repeat(scenery(seed)[..., None], 3, 2))
        rows.append(f"{name}.png {name}.pts 20 30 70 80\n")
    (tmp_path / "some.txt").write_text("".join(rows[:2]) + rows[2].replace("c.pts", "None"))
    options = ["--list", "some.txt", "--root", tmp_path, "--weights", weights, "--out", tmp_path / "o.npz"]
    assert run(*options) == 0
    said = capsys.readouterr()
    assert "NME" not in said.out and f"note: errors are not measured: {tmp_path / 'a.pts'}: cannot read" in said.err
    points = read_arrays(tmp_path / "o.npz")["points"].astype(float)
    away = np.zeros((68, 2))
    for name, own, share in zip(names, points, (0.04, 0.12)):  # of the outer eye-corner distance
        away[:, 0] = share * np.linalg.norm(own[36] - own[45])
        write_points(tmp_path / f"{name}.pts", own + away)
    assert run(*options) == 0
    numbers = (
        "NME 8.000 %, AUC@0.08 0.2500, FR@0.08 0.5000 (2 labelled faces, errors over the outer eye-corner distance)"
    )
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"{tmp_path / 'o.npz'}: 3 faces, 68 points each", numbers]
    assert "note: " not in said.err
    write_points(tmp_path / "b.pts", points[1, 17:])  # 51 of the 68
    (tmp_path / "o.npz").unlink()
    assert run(*options) == 0
    said = capsys.readouterr()
    assert "NME" not in said.out and "b.pts: 51 points, want 68\n" in said.err
    assert len(read_arrays(tmp_path / "o.npz")["points"]) == 3


def test_a_labelled_face_without_a_normaliser_is_counted_apart(weights, tmp_path, capsys):
    save_image(tmp_path / "a.png", np.repeat(scenery(0)[..., None], 3, 2))
    write_points(tmp_path / "a.pts", np.full((68, 2), 40.0))  # no distance between the eyes
    (tmp_path / "val.txt").write_text("a.png a.pts 20 30 70 80\n")
    _, metrics, notes = predict_list(weights, "val.txt", tmp_path, tmp_path / "o.csv")
    assert metrics == {} and len(notes) == 1
    assert notes[0].startswith("1 labelled face not measured") and "eye-corner distance" in notes[0]
