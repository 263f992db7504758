"""The explorer: what it lists and draws of an audit made by hand, driven by its widgets' values."""

from __future__ import annotations

import shutil

import cv2
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from drawn_run import of_tracks
from matplotlib.patches import Rectangle
from toys import face

from tsal.audit.store import AUDITED, AuditWriter, Labels
from tsal.config import Config
from tsal.data.lists import Clip
from tsal.data.views import FaceStore
from tsal.evaluation.predictions import GroundTruth
from tsal.explorer import panels, views
from tsal.explorer.views import EVERY, LARGE, SMALL, TRUTH_NAME
from tsal.explorer.widgets import Explorer
from tsal.figures.style import SOURCES, STYLE
from tsal.run import Run
from tsal.utils.errors import InputError
from tsal.utils.files import write_arrays

SIDE, D = 64, 50.0  # px of the input, px of the normaliser
BOX = (0.0, 0.0, 63 / 1.35, 63 / 1.35)  # makes a px of the image one of the input
CENTRE = 63 / 1.35 / 2  # of the box; of the input it is 31.5
TRACKED = ("tracked_heatmap", "tracked_centre", "propagated")
# by hand: how far right of the truth the fused points of each frame are (px, all landmarks alike), and the disagreement
# there
OFF = [0.0, 1.0, 4.0, 10.0, 5.0, 5.0, 5.0, 5.0]
APART = [1.0, 2.0, 3.0, 0.5, 4.0, 5.0, 6.0, 7.0]
CLIPS = {"walk": 3, "photo": 1, "talk": 4}  # frames


def write_run(folder, scheme="68", clips=CLIPS, labelled=True, hidden=None):
    """A run with an audit: teacher at steps 5 (the first clip alone) and 10, student at 10; frames by OFF and APART.

    ``labelled``: whether all frames have labels, or which; ``hidden`` (N, K): as the audit keeps it.
    """
    run = Run.create(folder, Config.load("smoke", [f"data.scheme={scheme}", "data.root=nowhere"]))
    run.save()
    points, count = run.scheme.points, sum(clips.values())
    groups = [Clip(name, tuple(face(f"{name}/{t}.jpg", BOX) for t in range(length))) for name, length in clips.items()]
    images = np.array([f.image for clip in groups for f in clip.faces])
    # landmarks on a circle around the middle
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    truth = CENTRE + 15 * np.stack([np.cos(angle), np.sin(angle)], -1)[None].repeat(count, 0)
    labelled = np.broadcast_to(labelled, count)
    ground_truth = GroundTruth(
        images,
        images,
        np.arange(count),
        np.tile(BOX, (count, 1)),
        np.where(labelled[:, None, None], truth, np.nan),
        np.repeat(labelled[:, None], points, 1),
        np.where(labelled, D, np.nan),
        np.zeros(count, bool),
    )
    first = np.concatenate([np.arange(length) == 0 for length in clips.values()])
    shape = (len(AUDITED), count, points)
    valid, places = np.ones(shape, bool), np.repeat(truth[None], len(AUDITED), 0)
    for index, name in enumerate(AUDITED):
        valid[index] = (name not in TRACKED) | ~first[:, None]
        places[index, ..., 0] += np.array(OFF[:count])[:, None] + {"fused": 0.0, "centre": 2.0}.get(name, 1.0)
    apart, flow = (
        np.repeat(values[:, None], points, 1) for values in (np.array(APART[:count]), np.where(first, np.nan, 0.25))
    )
    votes = np.repeat(np.where(first, 0.0, 0.5)[:, None], points, 1)
    labels = Labels(places, np.ones(shape), valid, apart, of_tracks(flow), np.full((count, points), 0.5), votes)
    store = FaceStore(folder, run.scheme, SIDE, 1.35, 1)
    writer = AuditWriter(folder / "audit", store, groups, ground_truth, hidden=hidden)
    few = np.arange(len(groups[0].faces))
    writer.add(
        "teacher", 5, Labels(*(v[:, few] if v.ndim > 2 and len(v) == len(AUDITED) else v[few] for v in labels)), few
    )
    for model in ("teacher", "student"):
        writer.add(model, 10, labels, np.arange(count))
    rng, views = np.random.default_rng(0), writer.close().folder / "views"
    views.mkdir()
    for number, clip in enumerate(groups):
        write_arrays(views / f"{number}.npz", **hand_view(rng, len(clip.faces), points))
    return folder


def hand_view(rng, length, points):
    shift = 31.5 - CENTRE
    view = {"images": rng.integers(60, 200, (length, SIDE, SIDE, 3), dtype=np.uint8)}
    view["affine"] = np.array([[1, 0, shift], [0, 1, shift]])
    for name in ("heatmaps_teacher", "heatmaps_student"):
        view[name] = rng.integers(0, 256, (length, points, 8, 8), dtype=np.uint8)
    if length > 1:
        view["flow"] = rng.normal(size=(length - 1, 2, SIDE, SIDE)).astype(np.float16)
        view["occluded"] = rng.random((length - 1, SIDE, SIDE)) < 0.25
        view["forward_backward_error"] = rng.random((length - 1, SIDE, SIDE)).astype(np.float16)
    return view


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("outputs") / "one")


@pytest.fixture
def explorer(folder):
    return Explorer(folder)


def shown(explorer) -> dict[str, np.ndarray]:
    return {
        name: cv2.imdecode(np.frombuffer(image.value, np.uint8), cv2.IMREAD_COLOR)
        for name, image in explorer.images.items()
    }


def differing(explorer, change) -> set[str]:
    """Names of the images that a change changes."""
    before = {name: image.value for name, image in explorer.images.items()}
    change()
    return {name for name, image in explorer.images.items() if image.value != before[name]}


# --- lists ---


def test_it_opens_on_the_teachers_last_step_with_every_image_drawn(explorer, folder):
    state = explorer.state
    assert (explorer.run.value, state.model, state.step, explorer.clip.value, state.frame) == (
        folder,
        "teacher",
        10,
        0,
        1,
    )
    assert state.shown == ("heatmap", "centre", "fused", TRUTH_NAME) and state.group == EVERY
    images = shown(explorer)
    assert len(images) == 7 and all(image.std() > 5 for image in images.values())
    assert images["crop"].shape == (LARGE, LARGE, 3) and images["flow"].shape == (SMALL, SMALL, 3)


def test_frames_are_measured_by_the_mean_over_landmarks(explorer):
    table = explorer.table
    assert np.allclose(table.error, 100 * np.array(OFF) / D, atol=1e-3)
    assert np.allclose(table.disagreement, APART) and np.allclose(table.gate, 0.5)
    assert np.isnan(table.flow_error[[0, 3, 4]]).all() and np.allclose(table.flow_error[[1, 2, 5, 6, 7]], 0.25)
    # x is 0, 1, 4 over the first clip: a second difference of 2; the last one does not move
    assert table.jitter[1] == pytest.approx(2, abs=1e-4) and np.allclose(table.jitter[[5, 6]], 0, atol=1e-4)
    assert np.isnan(table.jitter[[0, 2, 3, 4, 7]]).all()


def test_frames_that_do_not_follow_one_another_have_no_jitter(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "gap")
    frames = pd.read_csv(copy / "audit" / "frames.csv")
    frames["image"] = frames.image.replace("talk/3.jpg", "talk/9.jpg")
    frames.to_csv(copy / "audit" / "frames.csv", index=False)
    table = Explorer(copy).table
    assert np.isfinite(table.jitter[[1, 5]]).all() and np.isnan(table.jitter[6])
    run = Run.open(copy)
    run.config.override(["data.consecutive=false"]).save(copy / "config.json")
    spread = Explorer(copy)
    assert "jitter" not in dict(spread.order.options).values() and spread.clips.jitter.isna().all()


@pytest.mark.parametrize(
    "by, names",
    [
        ("disagreement", ["talk", "walk", "photo"]),
        ("error", ["photo", "talk", "walk"]),
        ("jitter", ["walk", "talk", "photo"]),
        ("", ["walk", "photo", "talk"]),
    ],
)
def test_clips_are_sorted_by_what_is_asked_for_and_the_first_is_shown(explorer, by, names):
    explorer.order.value = "error"
    explorer.order.value = by
    assert explorer.clips["clip"].tolist() == names
    assert [label.split()[0] for label, _ in explorer.clip.options] == names
    assert explorer.audit.frames["clip"].loc[explorer.state.frame] == names[0]


def test_a_region_lists_the_frames_in_it_with_its_edges_worst_first(explorer):
    across, up = explorer.ranges
    assert explorer.listed.index.tolist()[:1] == [3] and len(explorer.listed) == 8  # all, before someone asks
    across.value = (2, 5)
    assert sorted(explorer.listed.index) == [1, 2, 4, 5]
    up.value = (8, 10)
    assert explorer.listed.index.tolist() == [4, 5, 2] and [value for _, value in explorer.frames.options] == [4, 5, 2]
    assert "3 of 8 frames" in explorer.found.value
    across.value = (0, 0.25)
    assert explorer.frames.options == ()


def test_the_region_is_kept_where_the_axis_is_the_same_as_far_as_it_reaches(explorer):
    across, up = explorer.ranges
    across.value = (2, 5)
    explorer.model.value = "student"
    assert (across.value, up.value) == ((2, 5), (0, 20)) and sorted(explorer.listed.index) == [1, 2, 4, 5]
    explorer.group.value = explorer.group.options[3][1]
    assert across.value == (2, 5)
    explorer.group.value, explorer.model.value = EVERY, "teacher"
    explorer.step.value = 5  # the first clip alone: 3 px apart at most, and 8 % off
    assert (across.value, up.value) == ((2, 3), (0, 8))
    explorer.step.value = 10
    assert (across.value, up.value) == ((2, 5), (0, 20))  # where nothing was asked for, nothing is left out


def test_frames_are_spread_by_what_is_chosen_and_known(explorer):
    assert [value for _, value in explorer.x.options] == [
        "error",
        "disagreement",
        "flow_error",
        "gate",
        "place",
        "motion",  # 0: the labels stand still
    ]
    explorer.ranges[1].value = (8, 10)
    assert {"scatter"} == differing(explorer, lambda: setattr(explorer.x, "value", "place"))
    assert explorer.region == {"place": (0, 3), "error": (8, 10)} and explorer.listed.index.tolist() == [4, 5, 6, 7, 2]
    explorer.x.value = "error"
    assert list(explorer.region) == ["error", "disagreement"]
    assert [slider.value for slider in explorer.ranges] == [(8, 10), (0, 7)]  # what was asked for goes with it


def test_hidden_landmarks_are_said_and_found(tmp_path):
    hidden = np.zeros((8, 68), np.int8)
    hidden[[1, 5], 36], hidden[0, :34], hidden[7] = 1, 1, -1
    explorer = Explorer(write_run(tmp_path / "run", hidden=hidden))
    assert explorer.table.hidden[:2].tolist() == [50, pytest.approx(100 / 68)] and np.isnan(explorer.table.hidden[7])
    explorer.group.value = next(value for name, value in explorer.group.options if name == "36  left eye 1")
    assert explorer.landmark.options == (("36  left eye 1", 36),) and "36  left eye 1, hidden" in heatmap_note(explorer)
    explorer.frame.value = 0
    assert "36  left eye 1, shown" in heatmap_note(explorer)
    explorer.x.value = "hidden"
    explorer.ranges[0].value = (100, 100)
    assert sorted(explorer.listed.index) == [1, 5]
    explorer.clip.value, explorer.frame.value = 2, 3
    assert "36  left eye 1<" in heatmap_note(explorer)  # not known


def heatmap_note(explorer) -> str:
    return explorer.notes["heatmap"].value


def test_a_frame_of_the_list_is_shown_when_it_is_clicked(explorer):
    changes = differing(explorer, lambda: setattr(explorer.frames, "value", 6))
    assert explorer.state.frame == 6 and (explorer.clip.value, explorer.frame.value) == (2, 2)
    assert "talk/2.jpg" in explorer.about.value and changes == set(explorer.images)
    explorer.frame.value = 1
    assert explorer.frames.value == 5  # the list follows


# --- changes ---


def test_the_slider_changes_the_frame_in_every_image(explorer):
    assert differing(explorer, lambda: setattr(explorer.frame, "value", 0)) == set(explorer.images)
    assert (
        explorer.state.frame == 0 and "walk/0.jpg" in explorer.about.value and "error (%) 0.00" in explorer.about.value
    )


@pytest.mark.parametrize("name", [*AUDITED, TRUTH_NAME])
def test_a_source_that_is_toggled_comes_and_goes_again(explorer, name):
    toggle = explorer.shown[name]
    there = toggle.value
    before = {name: image.value for name, image in explorer.images.items()}
    changes = differing(explorer, lambda: setattr(toggle, "value", not there))
    assert changes == {"crop", "heatmap"} | ({"series"} if name in AUDITED else set())
    toggle.value = there
    assert all(image.value == before[name] for name, image in explorer.images.items())


def test_a_group_of_landmarks_narrows_what_is_drawn_measured_and_offered(explorer):
    names = [label for label, _ in explorer.group.options]
    assert names[0] == "all" and "left eye" in names
    changes = differing(
        explorer, lambda: setattr(explorer.group, "value", explorer.group.options[names.index("left eye")][1])
    )
    assert {"crop", "heatmap"} <= changes
    assert [value for _, value in explorer.landmark.options] == [
        36,
        37,
        38,
        39,
        40,
        41,
    ] and explorer.landmark.value == 36
    assert "36  left eye 1" in explorer.notes["heatmap"].value
    assert differing(explorer, lambda: setattr(explorer.landmark, "value", 40)) == {"crop", "heatmap"}


def test_an_earlier_step_offers_its_own_frames_and_says_that_it_has_no_heatmaps(explorer):
    explorer.clip.value = 2
    explorer.step.value = 5
    assert [label for label, _ in explorer.clip.options] == ["walk"] and explorer.state.frame in (0, 1, 2)
    assert "last step alone" in explorer.notes["heatmap"].value and len(explorer.listed) == 3
    explorer.frame.value = 2
    explorer.step.value = 10
    assert len(explorer.clip.options) == 3 and explorer.state.frame == 2  # the same frame, as it came to be
    explorer.model.value = "student"
    assert explorer.step.options == (10,) and explorer.state.frame == 2


def test_the_frame_that_is_looked_at_stays_where_the_region_holds_none(explorer):
    explorer.ranges[0].value, explorer.frame.value = (0, 0.25), 2
    assert explorer.frames.options == ()
    explorer.model.value = "student"
    assert explorer.state.frame == 2
    explorer.model.value, explorer.group.value = "teacher", explorer.group.options[3][1]
    assert explorer.state.frame == 2
    explorer.step.value = 5
    assert explorer.frames.options == () and explorer.state.frame == 2


def test_another_run_is_picked_and_a_broken_one_is_told(folder, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "b/audit/frames.csv").write_text("")
    shutil.rmtree(tmp_path / "c/audit")
    explorer = Explorer(tmp_path / "a")
    assert [label for label, _ in explorer.run.options] == ["a", "b"]
    explorer.run.value = tmp_path / "b"
    assert "is no audit, or a broken one" in explorer.status.value and explorer.run.value == tmp_path / "a"
    explorer.frame.value = 0
    assert explorer.status.value == "" and explorer.state.frame == 0
    other = Run.create(tmp_path / "b", Run.open(tmp_path / "a").config.override(["data.scheme=51"]))
    other.save()  # as 'data --set' does
    shutil.copy(tmp_path / "a/audit/frames.csv", tmp_path / "b/audit/frames.csv")
    explorer.run.value = tmp_path / "b"
    assert "another landmark scheme, of 68 points" in explorer.status.value
    assert f"pseudo --run {tmp_path / 'b'}" in explorer.status.value and explorer.run.value == tmp_path / "a"


def test_a_file_that_the_system_refuses_is_told(explorer, monkeypatch):
    def refuses(*_):
        raise PermissionError(13, "Permission denied", "/runs/one")

    monkeypatch.setattr(explorer, "_draw", refuses)
    explorer.frame.value = 0
    assert "/runs/one: Permission denied; name a folder" in explorer.status.value


def test_without_its_images_a_clip_has_words_and_curves_and_no_image_of_another(explorer, monkeypatch):
    view = explorer._view

    def broken_view(number):
        if number == 2:
            raise InputError("talk/0.jpg: is not there")
        return view(number)

    monkeypatch.setattr(explorer, "_view", broken_view)
    changed = differing(explorer, lambda: setattr(explorer.clip, "value", 2))
    assert changed == set(explorer.images) and "talk/0.jpg: is not there" in explorer.status.value
    assert "talk/1.jpg" in explorer.about.value and "no image" in explorer.notes["crop"].value
    assert shown(explorer)["crop"].std() == 0 and shown(explorer)["series"].std() > 5
    explorer.clip.value = 0
    assert explorer.status.value == "" and shown(explorer)["crop"].std() > 5


def test_an_explorer_opens_on_a_run_without_its_images(folder, monkeypatch):
    def broken_view(self, number):
        raise InputError("talk/0.jpg: is not there")

    monkeypatch.setattr("tsal.explorer.widgets.ClipViews.__call__", broken_view)
    explorer = Explorer(folder)
    assert "talk/0.jpg: is not there" in explorer.status.value
    assert shown(explorer)["crop"].std() == 0 and shown(explorer)["scatter"].std() > 5


# --- data of every kind ---


def use_all(explorer):
    """Every value of every widget once."""
    for widget in (
        explorer.model,
        explorer.step,
        explorer.group,
        explorer.x,
        explorer.y,
        explorer.order,
        explorer.clip,
    ):
        for option in widget.options[:12]:  # of 68 single landmarks a few
            widget.value = option[1] if isinstance(option, tuple) else option
    for toggle in explorer.shown.values():
        toggle.value = not toggle.value
    for place in range(explorer.frame.max + 1):
        explorer.frame.value = place
    explorer.landmark.value = explorer.landmark.options[-1][1]
    for slider in explorer.ranges:
        slider.value = (slider.min, slider.max / 2)
    explorer.twins()
    assert explorer.status.value == ""


@pytest.mark.parametrize("scheme", ["68", "1"])
@pytest.mark.parametrize(
    "clips, labelled",
    [
        (CLIPS, True),
        (CLIPS, False),
        (CLIPS, [True] * 4 + [False] * 4),
        ({"a": 1, "b": 1}, True),
        ({"a": 1, "b": 1}, False),
    ],
)
def test_every_widget_works_with_and_without_labels_clips_and_lines(tmp_path, scheme, clips, labelled):
    use_all(Explorer(write_run(tmp_path / "run", scheme, clips, labelled)))


def test_without_labels_frames_lie_by_what_is_known_and_lines_lead_to_the_fused_points(tmp_path):
    explorer, order = Explorer(write_run(tmp_path / "run", labelled=False)), ["", "disagreement", "jitter"]
    assert list(explorer.region) == ["disagreement", "flow_error"] and [by for _, by in explorer.order.options] == order
    assert "lead to the fused points" in explorer.notes["crop"].value and explorer.shown[TRUTH_NAME].disabled
    assert "3 have no disagreement or forward-backward error" in explorer.found.value  # each clip's first frame
    rows = np.array([0, 1, 2])
    distances = views.source_distances(explorer.audit, explorer.state, explorer.scheme, rows, measured=False)
    assert set(distances) == {"heatmap", "centre"}
    assert np.allclose(distances["heatmap"], 1, atol=1e-4) and np.allclose(distances["centre"], 2, atol=1e-4)


def test_photographs_are_shown_without_flow(tmp_path):
    explorer = Explorer(write_run(tmp_path / "run", clips={"a": 1, "b": 1}, labelled=False))
    assert list(explorer.region) == ["disagreement", "gate"] and explorer.frame.disabled
    assert all("a photograph" in explorer.notes[name].value for name in ("flow", "occlusion", "forward-backward"))


def test_the_last_frame_of_a_clip_has_no_flow(explorer):
    explorer.frame.value = 2
    assert "the clip&#x27;s last frame" in explorer.notes["flow"].value


# --- images ---


def test_points_and_lines_are_drawn_where_they_are(tmp_path):
    explorer = Explorer(write_run(tmp_path / "run", scheme="1"))
    explorer.frame.value = 2  # the one landmark is at (46.5, 31.5) of the input; fused 4 px to its right
    view = explorer._view(0)
    view["images"][:] = 128
    for name in explorer.shown:
        explorer.shown[name].value = name == "fused"
    image = panels.panels(explorer.audit, view, explorer.scheme, explorer.state)["crop"].image.astype(int)
    zoom = LARGE / SIDE
    dot, truth = (np.round([(x + 0.5) * zoom - 0.5, 32 * zoom - 0.5]).astype(int) for x in (50.5, 46.5))
    dark = int(SOURCES["fused"][1:3], 16)
    assert (image[dot[1], dot[0]] == dark).all()
    middle = (dot + truth) // 2
    assert (image[middle[1] - 1 : middle[1] + 2, middle[0]].min(0) < 100).all()  # the line between them
    assert (image[: middle[1] - 15] == 128).all() and (image[middle[1] + 15 :] == 128).all()


def test_the_heatmap_is_brightest_where_its_cell_is(explorer):
    view = explorer._view(0)
    view["images"][:] = 100
    view["heatmaps_teacher"][:] = 0
    view["heatmaps_teacher"][1, 0, 2, 5] = 255  # row 2, column 5 of 8
    for toggle in explorer.shown.values():
        toggle.value = False
    light = panels.panels(explorer.audit, view, explorer.scheme, explorer.state)["heatmap"].image.sum(-1)
    cell = SMALL // 8
    bright = np.argwhere(light == light.max())
    assert np.allclose(bright.mean(0), [2.5 * cell - 0.5, 5.5 * cell - 0.5], atol=1)
    assert (light[4 * cell :] == light[-1, -1]).all()


def test_the_neighbours_votes_for_the_landmark_are_said_and_drawn(explorer):
    view, state = explorer._view(0), explorer.state
    view["images"][:] = 100
    place, points = 1, len(explorer.scheme.flip)
    view |= {
        "voters": np.array([0, 1]),
        "voted": np.array([1, 0]),
        "own_teacher": np.full((3, points), 0.5, np.float16),
    }
    view["votes_teacher"] = np.full((2, points), 0.25, np.float16)
    view["carried_teacher"] = np.full((2, points, 2), 60.0, np.float16)
    for name, toggle in explorer.shown.items():
        toggle.value = name == "propagated"
    panel = panels.panels(explorer.audit, view, explorer.scheme, explorer.state)["crop"]
    assert explorer.audit.frames.place.loc[state.frame] == place and panel.note == "votes for it: -1: 0.25, own: 0.50"
    x = y = round(60.5 * LARGE / SIDE - 0.5)
    assert (panel.image[y - 4 : y + 5, x - 4 : x + 5] != 100).any()  # a circle where frame 0 carries it
    explorer.shown["propagated"].value = False
    panel = panels.panels(explorer.audit, view, explorer.scheme, explorer.state)["crop"]
    assert panel.note.startswith("thin lines lead") and (panel.image[y - 4 : y + 5, x - 4 : x + 5] == 100).all()


def test_what_is_hidden_is_counted_and_tinted(explorer):
    view = explorer._view(0)
    view["images"][:] = 0
    view["occluded"][1] = False
    view["occluded"][1, :16] = True
    panel = panels.panels(explorer.audit, view, explorer.scheme, explorer.state)["occlusion"]
    assert panel.note == "orange: 25 % of the crop"
    assert (panel.image[: SMALL // 4 - 1, :, 0] > 100).all() and not panel.image[SMALL // 4 + 1 :].any()


def test_curves_say_each_sources_error_and_mark_the_frame(explorer):
    state = explorer.state
    plot = views.draw_series(explorer.audit, explorer.scheme, state, explorer.table, explorer.unit)
    errors, disagreement = plot.figure.axes
    lines = {line.get_label(): line for axes in (errors, disagreement) for line in axes.get_lines()}
    assert np.allclose(lines["heatmap"].get_ydata(), 100 * (np.array(OFF[:3]) + 1) / D, atol=1e-3)
    assert np.allclose(lines["centre"].get_ydata(), 100 * (np.array(OFF[:3]) + 2) / D, atol=1e-3)
    assert np.allclose(lines["disagreement"].get_ydata(), APART[:3])
    assert [line.get_xdata() for line in plot.moving] == [[1, 1], [1, 1]] and "propagated" not in lines
    views.move_series(plot, 2)
    assert plot.moving[0].get_xdata() == [2, 2]


def test_what_moves_on_the_screen_is_what_a_whole_drawing_shows_with_it_in_front(explorer):
    explorer.ranges[0].value = (2, 5)
    explorer.frames.value = 5
    explorer.frame.value = 2  # of the same clip
    _, series, scatter = explorer.twins()
    moving = {"series": [axes.lines[-1] for axes in series.axes]}
    moving["scatter"] = [*scatter.axes[0].patches, *scatter.axes[0].lines[1:]]
    for (name, artists), whole in zip(moving.items(), (series, scatter)):
        for place, artist in enumerate(artists):
            artist.set_zorder(100 + place)
        with matplotlib.style.context(STYLE, after_reset=True):
            whole.set_dpi(views.SCREEN)
            whole.canvas.draw()
        np.testing.assert_array_equal(np.array(whole.canvas.buffer_rgba())[..., 2::-1], shown(explorer)[name])


def test_every_view_has_a_twin_that_needs_no_kernel(explorer):
    explorer.ranges[1].value = (8, 10)
    panels_figure, series, scatter = explorer.twins()
    titles = [axes.get_title(loc="left") for axes in panels_figure.axes]
    assert len(titles) == 5 and "walk/1.jpg, teacher at step 10" in titles[0]
    region = next(patch for patch in scatter.axes[0].patches if isinstance(patch, Rectangle))
    assert (region.get_y(), region.get_height()) == (8, 2)
    assert all(figure._repr_png_()[:4] == b"\x89PNG" for figure in (panels_figure, series, scatter))
    assert len(series.axes) == 2
