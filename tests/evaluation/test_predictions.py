"""From trained models to numbers: predictions in original pixels, one table, metrics from the table alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from toys import DotDetector, config, dot_image, face, save_image

from tsal.config import load_method
from tsal.data.points import write_points
from tsal.data.views import FaceStore
from tsal.evaluation.metrics import face_nme
from tsal.evaluation.predictions import (
    metrics_rows,
    predict,
    predictions_table,
    read_ground_truth,
    table_errors,
    table_of_part,
)
from tsal.model import Detector
from tsal.model_files import load_model, save_models
from tsal.schemes import Scheme, generic_scheme, get_scheme
from tsal.utils.errors import DataError, InputError

ONE = generic_scheme(1)


# --- models
# -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two models in one file."""
    chosen = config("model.input=64", "model.stages=1", "data.scheme=5")
    models = {}
    for seed, name in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        models[name] = Detector(5, chosen.model)
        models[name].train()(torch.rand(4, 3, 64, 64))  # moves the running statistics
        models[name].eval()
    path = tmp_path_factory.mktemp("kept") / "model.pt"
    save_models(path, models, chosen, {"name": "test"})
    return path, models, chosen


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_loaded_member_gives_identical_outputs(kept, name):
    path, models, chosen = kept
    loaded, its_config, scheme = load_model(path, name)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, output = models[name](images), loaded(images)
    assert torch.equal(output.stages[-1], expected.stages[-1])
    assert torch.equal(output.centre, expected.centre) and torch.equal(output.offsets, expected.offsets)
    assert its_config == chosen and not loaded.training
    assert scheme == get_scheme("5")  # the file holds none: the one that the config names


def test_the_teacher_is_the_result_unless_another_is_named(kept):
    path, models, _ = kept
    assert torch.equal(next(load_model(path)[0].parameters()), next(models["teacher"].parameters()))


def test_the_student_is_the_result_where_its_method_says_so_but_not_in_an_older_file(kept, tmp_path):
    """Self-training's teacher is the init, which never learns."""
    _, models, chosen = kept
    chosen = chosen.override(load_method("self-training").settings)
    save_models(tmp_path / "new.pt", models, chosen, {})
    assert torch.equal(next(load_model(tmp_path / "new.pt")[0].parameters()), next(models["student"].parameters()))
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    del content["config"]["result"], content["config"]["steps_times"]
    torch.save(content, tmp_path / "old.pt")
    assert torch.equal(next(load_model(tmp_path / "old.pt")[0].parameters()), next(models["teacher"].parameters()))


def test_a_file_without_teacher_gives_its_first_model(kept, tmp_path):
    _, models, chosen = kept
    save_models(tmp_path / "one.pt", {"supervised": models["student"]}, chosen, {})
    assert torch.equal(next(load_model(tmp_path / "one.pt")[0].parameters()), next(models["student"].parameters()))


def test_a_member_needs_no_file_of_imagenet_weights_any_more(kept, tmp_path):
    _, models, chosen = kept
    save_models(tmp_path / "one.pt", models, chosen.override(["model.vgg16_weights=/nowhere/vgg16.pth"]), {})
    assert load_model(tmp_path / "one.pt")[1].model.vgg16_weights == ""


def test_a_member_brings_the_scheme_that_it_learned_and_needs_no_file_of_it(kept, tmp_path):
    _, models, chosen = kept
    mouth = ("mouth", (3, 4), False)
    own = Scheme("gone.yaml", 5, flip=(1, 0, 2, 4, 3), centre=2, ocular=(0, 1), lines=(mouth,), names=tuple("abcde"))
    chosen = chosen.override(["data.scheme=gone.yaml"])
    save_models(tmp_path / "own.pt", models, chosen, {"scheme": own.to_dict()})
    assert load_model(tmp_path / "own.pt")[2] == own


def test_a_wrong_member_or_file_is_an_error_that_names_it(kept, tmp_path):
    with pytest.raises(InputError, match="has no model 'pupil'; it holds student, teacher"):
        load_model(kept[0], "pupil")
    torch.save({"state": {}}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="last.pt: holds no trained detector"):
        load_model(tmp_path / "last.pt")


# --- predictions ---


@pytest.fixture
def dots(tmp_path):
    """Images of different sizes with one dot each, in boxes of different sizes; labels say where it is."""
    faces, places = [], []
    for i, (width, height, box) in enumerate(
        [(80, 60, (20, 10, 60, 50)), (900, 700, (200, 100, 700, 640)), (120, 120, (40, 30, 70, 75))]
    ):
        place = np.array([0.45 * box[0] + 0.55 * box[2], 0.6 * box[1] + 0.4 * box[3]])
        save_image(tmp_path / f"{i}.png", dot_image(width, height, *place, max(1.5, (box[2] - box[0]) / 30)))
        write_points(tmp_path / f"{i}.pts", place[None])
        faces.append(face(f"{i}.png", box, f"{i}.pts", row=i + 1, list_name="val"))
        places.append(place)
    return FaceStore(tmp_path, ONE, 64, 1.35, 50), faces, np.array(places)


def test_predictions_are_in_pixels_of_the_original_images(dots):
    store, faces, places = dots
    predictions = predict(DotDetector(), store, faces, torch.device("cpu"))
    # a px of the input, in the image
    pixel = np.array([1.35 * max(f.box[2] - f.box[0], f.box[3] - f.box[1]) / 63 for f in faces])
    assert set(predictions) == {"heatmap", "centre", "fused"}
    for name, off in (("heatmap", 0.0), ("centre", 2.0), ("fused", 1.0)):
        points, scores = predictions[name]
        assert points.shape == (3, 1, 2) and scores.shape == (3, 1)
        error = np.abs(points[:, 0] - places - off * pixel[:, None]) / pixel[:, None]
        assert error.max() < 0.1, name
    assert (
        predictions["heatmap"][1].tolist() == [[pytest.approx(0.9)]] * 3
        and predictions["centre"][1].tolist() == [[pytest.approx(0.7)]] * 3
    )


def test_crops_cut_ahead_by_threads_change_no_bit(dots):
    store, faces, _ = dots
    torch.manual_seed(0)
    detector, cpu, many = Detector(3, config("model.input=64").model), torch.device("cpu"), 5 * faces
    alone, ahead = (predict(detector, store, many, cpu, workers=workers, batch=2) for workers in (0, 2))
    assert alone.keys() == ahead.keys()
    for name in alone:
        assert len(alone[name][0]) == 15
        assert all(np.array_equal(a, b) for a, b in zip(alone[name], ahead[name]))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_its_one_error_and_leaves_no_thread(dots, workers):
    store, faces, _ = dots
    (store.root / "bad.png").write_bytes(b"no image")
    many, before = [*faces, face("bad.png"), face("gone.png"), *(9 * faces)], threading.active_count()
    with pytest.raises(DataError, match=r"bad.png: the image cannot be read or decoded"):
        predict(DotDetector(), store, many, torch.device("cpu"), workers=workers, batch=1)
    assert threading.active_count() == before


def test_the_table_of_a_run_holds_every_member_source_and_face(dots):
    store, faces, places = dots
    truth = read_ground_truth(store, faces, "box", ONE)
    table = predictions_table(
        {"teacher": DotDetector(), "student": DotDetector()}, store, truth, faces, torch.device("cpu")
    )
    assert table["points"].shape == (2, 3, 3, 1, 2) and table["scores"].shape == (2, 3, 3, 1)
    assert table["models"].tolist() == ["teacher", "student"] and table["sources"].tolist() == [
        "heatmap",
        "centre",
        "fused",
    ]
    assert table["path"].tolist() == ["0.png", "1.png", "2.png"] and table["row"].tolist() == [1, 2, 3]
    assert np.allclose(table["truth"][:, 0], places, atol=1e-2)
    assert all(array.dtype != object for array in table.values())
    errors = table_errors(table)
    assert errors.shape == (2, 3, 3) and (errors[:, 0] < 0.005).all() and (errors[:, 1] > 0.02).all()


def test_a_model_that_gives_no_numbers_is_named_and_not_scored_on_the_other_faces(dots):
    store, faces, _ = dots
    truth, broken = read_ground_truth(store, faces, "box", ONE), Detector(1, config("model.input=64").model)
    torch.nn.init.constant_(next(broken.parameters()), torch.nan)
    with pytest.raises(InputError, match="student: its landmarks are no numbers in 3 of 3 images, first in 0.png"):
        predictions_table(
            {"teacher": DotDetector(), "student": broken}, store, truth, faces, torch.device("cpu"), workers=0
        )


def test_truth_names_degenerate_faces_and_leaves_unlabelled_ones_out(tmp_path):
    eyes = Scheme("eyes", 2, flip=(1, 0), ocular=(0, 1))
    for name, points in (("good", [[10, 10], [30, 10]]), ("profile", [[10, 10], [10.5, 10]])):
        write_points(tmp_path / f"{name}.pts", np.array(points, float))
    faces = [
        face("a.png", (0, 0, 40, 40), "good.pts"),
        face("b.png", (0, 0, 40, 40), "profile.pts"),
        face("c.png", (0, 0, 40, 40)),
    ]
    truth = read_ground_truth(FaceStore(tmp_path, eyes, 64, 1.35, 1), faces, "ocular", eyes)
    assert truth.degenerate.tolist() == [False, True, False]
    assert truth.norm_px[0] == 20 and np.isnan(truth.norm_px[1:]).all()
    assert truth.visible.tolist() == [[True, True], [True, True], [False, False]]


@pytest.mark.parametrize("rubbish", ["-500 7", "1000001 1000001"])
@pytest.mark.parametrize("kind", ["ocular", "pupil", "box"])
def test_faces_with_hidden_landmarks_are_scored_by_what_is_seen_or_named(tmp_path, kind, rubbish):
    eyes = Scheme("eyes", 3, flip=(1, 0, 2), ocular=(0, 1), pupil=((0,), (1,)))
    rows = {  # 1-based: corners at 10 and 30, and a nose
        "seen": ("11 11 1", "31 11 1", "21 21 1"),
        "nose": ("11 11 1", "31 11 1", f"{rubbish} 0"),
        "corner": ("11 11 1", f"{rubbish} 0", "21 21 1"),
        "none": (f"{rubbish} 0", f"{rubbish} 0", f"{rubbish} 0"),
    }
    for name, points in rows.items():
        (tmp_path / f"{name}.pts").write_text("version: 1\nn_points: 3\n{\n" + "\n".join(points) + "\n}\n")
    faces = [face(f"{name}.png", (0, 0, 40, 40), f"{name}.pts") for name in rows]
    truth = read_ground_truth(FaceStore(tmp_path, eyes, 64, 1.35, 1), faces, kind, eyes)
    needs_eyes = kind != "box"
    assert truth.degenerate.tolist() == [False, False, needs_eyes, True]
    assert np.isfinite(truth.norm_px).tolist() == [True, True, not needs_eyes, False]
    prediction = np.array([[10, 10], [30, 10], [20, 24]], float)[None]  # 4 px off at the nose
    errors = face_nme(np.repeat(prediction, 4, 0), truth.points, truth.visible, truth.norm_px)
    d = 20 if needs_eyes else 40
    expected = [4 / 3 / d, 0, np.nan if needs_eyes else 2 / d, np.nan]
    assert errors == pytest.approx(expected, abs=1e-6, nan_ok=True)


# --- metrics ---


def handmade_table() -> dict[str, np.ndarray]:
    """One model, two sources; list a: errors 0.05 and one degenerate face, list b: 0.2 and one half visible."""
    truth = np.zeros((4, 2, 2))
    points = np.zeros((1, 2, 4, 2, 2))
    points[0, 0, 0] = [[3, 4], [0, 5]]  # 5 px each, of d = 100
    points[0, 0, 1] = 1000
    points[0, 0, 2] = [[20, 0], [0, 20]]
    points[0, 0, 3] = [[10, 0], [999, 999]]  # the second landmark is hidden
    visible = np.array([[True, True], [True, True], [True, True], [True, False]])
    return {
        "list": np.array(["a", "a", "b", "b"]),
        "models": np.array(["teacher"]),
        "sources": np.array(["heatmap", "centre"]),
        "truth": truth,
        "visible": visible,
        "points": points,
        "norm_px": np.array([100.0, np.nan, 100.0, 100.0]),
        "degenerate": np.array([False, True, False, False]),
    }


def test_errors_of_a_handmade_table():
    errors = table_errors(handmade_table())
    assert np.allclose(errors[0], [[0.05, np.nan, 0.2, 0.1], [0.0, np.nan, 0.0, 0.0]], equal_nan=True)


def test_metrics_of_a_handmade_table():
    rows = metrics_rows(handmade_table())
    assert [(r["list"], r["model"], r["source"]) for r in rows] == [
        ("a", "teacher", "heatmap"),
        ("a", "teacher", "centre"),
        ("b", "teacher", "heatmap"),
        ("b", "teacher", "centre"),
    ]
    first, third = rows[0], rows[2]
    assert (first["faces"], first["degenerate"], third["faces"], third["degenerate"]) == (1, 1, 2, 0)
    assert first["NME"] == pytest.approx(5) and third["NME"] == pytest.approx(15)
    assert first["AUC@0.10"] == pytest.approx(0.5) and first["AUC@0.08"] == pytest.approx(3 / 8)
    assert third["FR@0.08"] == 1 and third["FR@0.10"] == 0.5
    assert all(np.isfinite(v) for r in rows for v in r.values() if isinstance(v, float))


def test_a_part_of_the_landmarks_is_measured_by_the_same_length():
    """Landmark 0 of list b: 20 px and 10 px of 100; landmark 1: 20 px, and hidden, which leaves one face to score."""
    table = handmade_table()
    table["scores"] = table["points"][..., 0]
    numbers = [metrics_rows(table_of_part(table, [landmark]))[2] for landmark in (0, 1)]
    assert [row["NME"] for row in numbers] == pytest.approx([15, 20]) and [row["faces"] for row in numbers] == [2, 1]
    assert table_of_part(table, [1, 0])["scores"][0, 0, 0].tolist() == [0, 3] and table["points"].shape[3] == 2


def test_a_list_with_only_degenerate_faces_has_no_numbers_but_counts_them():
    table = handmade_table()
    table["norm_px"][0], table["degenerate"][0] = np.nan, True
    row = metrics_rows(table)[0]
    assert (row["faces"], row["degenerate"]) == (0, 2) and np.isnan(row["NME"])
