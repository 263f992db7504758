"""From trained members to numbers: predictions in original pixels, one table, metrics from the table alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import config, dot_image, face, save_picture
from torch import nn

from tsal.data.lists import Clip, write_points
from tsal.data.views import FaceStore
from tsal.errors import InputError
from tsal.evaluate import audit, load_member, metrics_rows, predict, predictions_table, read_truth, save_members, table_errors
from tsal.model import Detection, Detector
from tsal.schemes import Scheme, generic_scheme

ONE = generic_scheme(1)


class DotDetector(nn.Module):
    """Sees the one bright dot of a picture, in both of its sources."""

    stride = 8

    def forward(self, images):
        return Detection([images], images[:, :1], images)

    def heatmap(self, detection):
        light = detection.stages[-1].mean(1)
        y, x = torch.meshgrid(*(torch.arange(n, dtype=light.dtype) for n in light.shape[1:]), indexing="ij")
        points = torch.stack([(light * x).sum((1, 2)), (light * y).sum((1, 2))], -1) / light.sum((1, 2)).clamp_min(1e-9)[:, None]
        return points[:, None], torch.full((len(light), 1), 0.9)

    def centre(self, detection):
        return self.heatmap(detection)[0][:, None] + 2, torch.full((len(detection.centre), 1), 0.7)


class Shift(nn.Module):
    """A tracker that says that everything moves by (dx, dy) px of the input."""

    def __init__(self, dx: float, dy: float):
        super().__init__()
        self.flow = torch.tensor([dx, dy]).view(1, 2, 1, 1)

    def forward(self, first, second, both=False):
        flow = self.flow.expand(len(first), 2, *first.shape[-2:])
        return [torch.cat([flow, -flow])]


# --- members -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two members in one file."""
    chosen = config("model.input=64", "model.stages=1", "data.scheme=5")
    members = {}
    for seed, name in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        members[name] = Detector(5, chosen.model)
        members[name].train()(torch.rand(4, 3, 64, 64))  # moves the running statistics
        members[name].eval()
    path = tmp_path_factory.mktemp("kept") / "model.pt"
    save_members(path, members, chosen, {"name": "test"})
    return path, members, chosen


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_loaded_member_gives_identical_outputs(kept, name):
    path, members, chosen = kept
    loaded, its_config = load_member(path, name)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = members[name](images), loaded(images)
    assert torch.equal(found.stages[-1], expected.stages[-1])
    assert torch.equal(found.centre, expected.centre) and torch.equal(found.offsets, expected.offsets)
    assert its_config == chosen and not loaded.training


def test_the_teacher_is_the_result_unless_another_is_named(kept):
    path, members, _ = kept
    assert torch.equal(next(load_member(path)[0].parameters()), next(members["teacher"].parameters()))


def test_a_file_without_teacher_gives_its_first_member(kept, tmp_path):
    _, members, chosen = kept
    save_members(tmp_path / "one.pt", {"supervised": members["student"]}, chosen, {})
    assert torch.equal(next(load_member(tmp_path / "one.pt")[0].parameters()), next(members["student"].parameters()))


def test_a_member_needs_no_file_of_imagenet_weights_any_more(kept, tmp_path):
    _, members, chosen = kept
    save_members(tmp_path / "one.pt", members, chosen.override(["model.vgg16_weights=/nowhere/vgg16.pth"]), {})
    assert load_member(tmp_path / "one.pt")[1].model.vgg16_weights == ""


def test_a_wrong_member_or_file_is_an_error_that_names_it(kept, tmp_path):
    with pytest.raises(InputError, match="has no member 'pupil'; it holds student, teacher"):
        load_member(kept[0], "pupil")
    torch.save({"state": {}}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="last.pt: holds no trained detector"):
        load_member(tmp_path / "last.pt")


# --- predictions ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dots(tmp_path):
    """Pictures of different sizes with one dot each, in boxes of different sizes; labels say where it is."""
    faces, places = [], []
    for i, (width, height, box) in enumerate([(80, 60, (20, 10, 60, 50)), (900, 700, (200, 100, 700, 640)), (120, 120, (40, 30, 70, 75))]):
        place = np.array([0.45 * box[0] + 0.55 * box[2], 0.6 * box[1] + 0.4 * box[3]])
        save_picture(tmp_path / f"{i}.png", dot_image(width, height, *place, max(1.5, (box[2] - box[0]) / 30)))
        write_points(tmp_path / f"{i}.pts", place[None])
        faces.append(face(f"{i}.png", box, f"{i}.pts", row=i + 1, list_name="val"))
        places.append(place)
    return FaceStore(tmp_path, ONE, 64, 1.35, 50), faces, np.array(places)


def test_predictions_are_in_pixels_of_the_original_pictures(dots):
    store, faces, places = dots
    found = predict(DotDetector(), store, faces, torch.device("cpu"))
    pixel = np.array([1.35 * max(f.box[2] - f.box[0], f.box[3] - f.box[1]) / 63 for f in faces])  # a px of the input, in the picture
    assert set(found) == {"heatmap", "centre", "fused"}
    for name, off in (("heatmap", 0.0), ("centre", 2.0), ("fused", 1.0)):
        points, scores = found[name]
        assert points.shape == (3, 1, 2) and scores.shape == (3, 1)
        error = np.abs(points[:, 0] - places - off * pixel[:, None]) / pixel[:, None]
        assert error.max() < 0.1, name
    assert found["heatmap"][1].tolist() == [[pytest.approx(0.9)]] * 3 and found["centre"][1].tolist() == [[pytest.approx(0.7)]] * 3


def test_the_table_of_a_run_holds_every_member_source_and_face(dots):
    store, faces, places = dots
    truth = read_truth(store, faces, "box", ONE)
    table = predictions_table({"teacher": DotDetector(), "student": DotDetector()}, store, truth, faces, torch.device("cpu"))
    assert table["points"].shape == (2, 3, 3, 1, 2) and table["scores"].shape == (2, 3, 3, 1)
    assert table["members"].tolist() == ["teacher", "student"] and table["sources"].tolist() == ["heatmap", "centre", "fused"]
    assert table["path"].tolist() == ["0.png", "1.png", "2.png"] and table["row"].tolist() == [1, 2, 3]
    assert np.allclose(table["truth"][:, 0], places, atol=1e-2)
    assert all(array.dtype != object for array in table.values())
    errors = table_errors(table)
    assert errors.shape == (2, 3, 3) and (errors[:, 0] < 0.005).all() and (errors[:, 1] > 0.02).all()


def test_truth_names_degenerate_faces_and_leaves_unlabelled_ones_out(tmp_path):
    eyes = Scheme("eyes", 2, flip=(1, 0), ocular=(0, 1))
    for name, points in (("good", [[10, 10], [30, 10]]), ("profile", [[10, 10], [10.5, 10]])):
        write_points(tmp_path / f"{name}.pts", np.array(points, float))
    faces = [face("a.png", (0, 0, 40, 40), "good.pts"), face("b.png", (0, 0, 40, 40), "profile.pts"), face("c.png", (0, 0, 40, 40))]
    truth = read_truth(FaceStore(tmp_path, eyes, 64, 1.35, 1), faces, "ocular", eyes)
    assert truth.degenerate.tolist() == [False, True, False]
    assert truth.d[0] == 20 and np.isnan(truth.d[1:]).all()
    assert truth.visible.tolist() == [[True, True], [True, True], [False, False]]


# --- metrics -------------------------------------------------------------------------------------------------------------------


def handmade_table() -> dict[str, np.ndarray]:
    """One member, two sources; list a: errors 0.05 and one degenerate face, list b: 0.2 and one half visible."""
    truth = np.zeros((4, 2, 2))
    points = np.zeros((1, 2, 4, 2, 2))
    points[0, 0, 0] = [[3, 4], [0, 5]]  # 5 px each, of d = 100
    points[0, 0, 1] = 1000
    points[0, 0, 2] = [[20, 0], [0, 20]]
    points[0, 0, 3] = [[10, 0], [999, 999]]  # the second landmark is hidden
    visible = np.array([[True, True], [True, True], [True, True], [True, False]])
    return {
        "list": np.array(["a", "a", "b", "b"]),
        "members": np.array(["teacher"]),
        "sources": np.array(["heatmap", "centre"]),
        "truth": truth,
        "visible": visible,
        "points": points,
        "d": np.array([100.0, np.nan, 100.0, 100.0]),
        "degenerate": np.array([False, True, False, False]),
    }


def test_errors_of_a_handmade_table():
    errors = table_errors(handmade_table())
    assert np.allclose(errors[0], [[0.05, np.nan, 0.2, 0.1], [0.0, np.nan, 0.0, 0.0]], equal_nan=True)


def test_metrics_of_a_handmade_table():
    rows = metrics_rows(handmade_table())
    assert [(r["list"], r["member"], r["source"]) for r in rows] == [
        ("a", "teacher", "heatmap"), ("a", "teacher", "centre"), ("b", "teacher", "heatmap"), ("b", "teacher", "centre")]  # fmt: skip
    first, third = rows[0], rows[2]
    assert (first["faces"], first["degenerate"], third["faces"], third["degenerate"]) == (1, 1, 2, 0)
    assert first["NME"] == pytest.approx(5) and third["NME"] == pytest.approx(15)
    assert first["AUC@0.10"] == pytest.approx(0.5) and first["AUC@0.08"] == pytest.approx(3 / 8)
    assert third["FR@0.08"] == 1 and third["FR@0.10"] == 0.5
    assert all(np.isfinite(v) for r in rows for v in r.values() if isinstance(v, float))


def test_a_list_with_only_degenerate_faces_has_no_numbers_but_counts_them():
    table = handmade_table()
    table["d"][0], table["degenerate"][0] = np.nan, True
    row = metrics_rows(table)[0]
    assert (row["faces"], row["degenerate"]) == (0, 2) and np.isnan(row["NME"])


# --- audit ---------------------------------------------------------------------------------------------------------------------


AUDITED = config(
    "tsal.sources=tracked_heatmap,tracked_centre", "tsal.mu=0.5", "tsal.fallback=true", "tsal.gate_flow=0", "tsal.gate_agreement=0",
    "tracker.polish=0",
)  # fmt: skip


def moving_clip(root, frames: int = 3) -> tuple[Clip, np.ndarray, float]:
    """A dot that moves by two input px a frame to the right, in a box that stays -> clip, places (T, 2) px, input px a px."""
    box, zoom = (20.0, 20.0, 80.0, 80.0), 63 / (1.35 * 60)
    places = np.array([[40.0 + 2 / zoom * t, 52.0] for t in range(frames)])
    for t, place in enumerate(places):
        save_picture(root / "clip" / f"{t}.png", dot_image(100, 100, *place, 3))
    return Clip("clip", tuple(face(f"clip/{t}.png", box, row=t + 1) for t in range(frames))), places, zoom


def test_an_audit_gives_every_source_in_pixels_of_the_original_frames(tmp_path):
    clip, places, zoom = moving_clip(tmp_path)
    photograph = Clip("photo", clip.faces[:1])
    store = FaceStore(tmp_path, ONE, 64, 1.35, 50)
    found = audit(DotDetector(), Shift(2.0, 0.0), store, [clip, photograph], AUDITED, torch.device("cpu"))
    order = found["sources"].tolist()
    assert set(order) == {"heatmap", "centre", "tracked_heatmap", "tracked_centre", "carried", "fused"}
    assert found["clip"].tolist() == ["clip"] * 3 + ["photo"]
    assert found["path"].tolist() == [f"clip/{t}.png" for t in (0, 1, 2, 0)]
    assert np.allclose(found["zoom"], zoom)
    points, valid = dict(zip(order, found["points"])), dict(zip(order, found["valid"]))
    for name, off in (("tracked_heatmap", 0.0), ("carried", 0.0), ("tracked_centre", 2 / zoom)):
        assert valid[name][:, 0].tolist() == [False, True, True, False], name
        assert np.abs(points[name][1:3, 0] - places[1:] - off).max() < 0.1 / zoom, name
    assert np.abs(points["fused"][1:3, 0] - places[1:] - 1 / zoom).max() < 0.1 / zoom
    assert found["flow_error"][1:3].max() < 1e-3 and np.isnan(found["flow_error"][[0, 3]]).all()
    assert np.allclose(found["agreement"], 8**0.5, atol=0.2)  # the centre source lies 2 px off in x and in y


def test_an_audit_of_photographs_alone_has_no_tracking(tmp_path):
    clip, places, zoom = moving_clip(tmp_path)
    store = FaceStore(tmp_path, ONE, 64, 1.35, 50)
    photographs = [Clip(str(t), (f,)) for t, f in enumerate(clip.faces)]
    found = audit(DotDetector(), Shift(0.0, 0.0), store, photographs, AUDITED, torch.device("cpu"))
    valid = dict(zip(found["sources"].tolist(), found["valid"][:, :, 0]))
    assert not valid["carried"].any() and not valid["tracked_heatmap"].any() and valid["fused"].all()
    fused = dict(zip(found["sources"].tolist(), found["points"]))["fused"]
    assert np.abs(fused[:, 0] - places - 1 / zoom).max() < 0.1 / zoom
