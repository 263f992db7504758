"""Targets from a window: exact where tracks are, and by hand where they are not; numbers by their definitions."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from drawn_run import overhang, words_of
from toys import DotDetector, Shift, config, moving_clip

from tsal.bench.windows import (
    ALONE,
    CARRIED,
    GAUSSIAN,
    PERFECT,
    PERFECT_TRUSTED,
    PLAIN,
    REBUILT,
    TRUSTED,
    PerfectTracks,
    changes,
    clip_targets,
    frame_errors,
    main,
    named_file,
    spread_of,
)
from tsal.data.batches import neighbours
from tsal.data.views import FaceStore
from tsal.figures.windows import draw_windows
from tsal.model import Detector
from tsal.model_files import save_models
from tsal.pseudo import window_mean
from tsal.schemes import generic_scheme, get_scheme
from tsal.tracker.frozen import FrozenTracker

KINDS = (PLAIN, TRUSTED, GAUSSIAN, PERFECT, PERFECT_TRUSTED)
CENTRE = 0.1 * 2  # px of the input: a tenth of the centre source, which DotDetector has 2 px off in x and in y


def off(tmp_path, dx: float, reach: int = 1) -> dict:
    """Targets of a dot that moves by 2 px a frame, by a tracker that says ``dx``: px of the input right of the dot."""
    clip, places, zoom = moving_clip(tmp_path, frames=4)
    store = FaceStore(tmp_path, generic_scheme(1), 64, 1.35, 50)
    tracker, device = FrozenTracker(Shift(dx, 0.0)), torch.device("cpu")
    targets = clip_targets(DotDetector(), store, clip, places[:, None], tracker, reach, device)
    assert all(np.abs(zoom * (points[:, 0, 1] - places[:, 1]) - CENTRE).max() < 0.1 for points in targets.values())
    return {key: zoom * (points[:, 0, 0] - places[:, 0]) - CENTRE for key, points in targets.items()}


def test_exact_tracks_leave_exact_points_where_they_are(tmp_path):
    offsets = off(tmp_path, 2.0)
    assert set(offsets) == {(ALONE, 0), (CARRIED, 1), (REBUILT, 1), *((kind, 1) for kind in KINDS)}
    assert {key: np.abs(offset).max() < 0.1 for key, offset in offsets.items()} == dict.fromkeys(offsets, True)


def test_tracks_that_stand_still_pull_targets_and_perfect_ones_do_not(tmp_path):
    """A neighbour's point lies 2 px off. Within the clip the two of a window cancel; at its ends there is one."""
    offsets = off(tmp_path, 0.0)
    share = 0.9  # of heatmap sources
    for kind in (PLAIN, TRUSTED):
        assert offsets[kind, 1] == pytest.approx([share * 1, 0, 0, share * -1], abs=0.1), kind
    assert offsets[CARRIED, 1] == pytest.approx([0, *[share * -2] * 3], abs=0.1)  # nothing comes before the first frame
    for kind in (ALONE, PERFECT, PERFECT_TRUSTED, GAUSSIAN):  # a line in time is a line
        assert np.abs(offsets[kind, int(kind != ALONE)]).max() < 0.1, kind


def test_perfect_tracks_average_the_errors_of_the_window():
    truth = torch.tensor([0.0, 10, 30, 60])[:, None, None].expand(4, 1, 2)
    errors = torch.tensor([3.0, 0, 6, -3])[:, None, None]
    previous, following = neighbours(range(4), 1)
    tracks = PerfectTracks(truth, previous, following)
    mean = window_mean(truth + errors, torch.ones(4, 1), tracks, previous, following, 1.0) - truth
    assert mean[:, 0, 0].tolist() == pytest.approx([1.5, 3, 1, 1.5])


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_gaussian_is_as_wide_as_the_window(window):
    assert spread_of(window) == pytest.approx(np.std(np.arange(-window, window + 1)))


def test_errors_of_frames_by_hand():
    """Two clips of three frames and two landmarks, the second of which is hidden in the first clip; d is 10 px."""
    truth = np.zeros((6, 2, 2))
    points = truth.copy()
    points[:, 0, 0] = [1, 2, 5, 3, 3, 3]
    points[:, 1, 1] = 4
    visible = np.ones((6, 2), bool)
    visible[:3, 1] = False
    d = np.array([10.0, 10, 10, 10, np.nan, 10])
    errors = frame_errors(points, truth, visible, d, [3, 3])
    nan = np.nan
    expected = {
        "NME": [0.25, 0.3, 0.45, 0.35, nan, 0.35],
        "visible": [0.1, 0.2, 0.5, 0.35, nan, 0.35],
        "hidden": [0.4, 0.4, 0.4, nan, nan, nan],
        "error_jitter": [nan, 0.1, nan, nan, nan, nan],  # |1 - 2 * 2 + 5| = 2 px, and 0 of the hidden one
    }
    for name, values in expected.items():
        np.testing.assert_allclose(errors[name], values, err_msg=name)


def test_a_change_is_drawn_over_clips():
    row = changes(np.array([-1.0, -3, 1, np.nan]), [2, 2])
    assert row["change"] == -1 and row["better"] == 1
    assert (row["low"], row["high"]) == (-2, 1)  # both drawn twice, in a quarter of the draws each


def test_a_detector_is_named_by_its_folder_or_by_hand(tmp_path):
    assert named_file("runs/tsal-s0/semi/model.pt")[0] == "semi"
    assert named_file("my own=a/b.pt")[0] == "my own"


@pytest.mark.filterwarnings("error::UserWarning")  # a layout that does not fit
def test_the_command_keeps_table_and_figure_of_every_kind(tmp_path, capsys):
    settings = config("model.input=64", "model.stages=1", "model.width=0.05")
    torch.manual_seed(0)
    scheme = get_scheme("68")
    save_models(tmp_path / "model.pt", {"init": Detector(68, settings.model)}, settings, {"scheme": scheme.to_dict()})
    weights, out = f"an init={tmp_path / 'model.pt'}", tmp_path / "out"
    sizes = ["--clips", "1", "--frames", "4", "--reach", "2"]
    assert main(["--weights", weights, *sizes, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {f"windows.{kind}" for kind in ("md", "csv", "json", "png", "pdf")}
    rows = json.loads((out / "windows.json").read_text())["rows"]
    assert [(row["targets"], row["window"]) for row in rows] == [
        (ALONE, 0),
        (CARRIED, 1),
        (REBUILT, 1),
        *((kind, window) for kind in KINDS for window in (1, 2)),
    ]
    text = (out / "windows.md").read_text()
    alone = rows[0]
    cell = f"{alone['NME']:.2f} / {alone['visible']:.2f} / {alone['hidden']:.2f}, {alone['error_jitter']:.2f}"
    assert f"| {ALONE} | 0 | {cell} |" in text and capsys.readouterr().out.strip() in text
    last = rows[-3]  # in the second table: the window nearest to tsal's
    [nme], [before] = last["clips"], alone["clips"]
    assert (nme, before) == pytest.approx((last["NME"], alone["NME"]), abs=1e-3)
    change = last["NME"] - alone["NME"]
    cell = f"{change:+.2f} ({change:+.2f} ... {change:+.2f}); {100 * (nme / before - 1):+.1f} %, {int(change < 0)}"
    assert f"| {PERFECT} | 2 | {cell} |" in text
    figure = draw_windows(pd.DataFrame(rows))
    legend = {line.get_text() for line in figure.legends[0].get_texts()}
    assert legend == {ALONE, CARRIED, REBUILT, *KINDS} and "an init" in words_of(figure) and overhang(figure) < 0.01
    line = next(line for line in figure.axes[0].get_lines() if line.get_label() == PERFECT)
    assert line.get_xdata().tolist() == [0, 1, 2] and line.get_ydata()[0] == alone["NME"]
