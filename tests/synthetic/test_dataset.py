"""Rendered clips: their truth is exact, their landmarks are in iBUG order, and their files do not depend on the
workers.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from functools import lru_cache

import cv2
import numpy as np
import pytest

from tsal.config import RenderConfig
from tsal.synthetic.dataset import load_ground_truth, render_clip, render_dataset
from tsal.synthetic.drawing import FRONT_TRACKS, GROUND_TRACKS, HEAD_TRACKS, is_hidden, rasterise
from tsal.synthetic.heads import express, make_head, rotation
from tsal.synthetic.mesh import canonical_landmarks, landmarks
from tsal.synthetic.scene import Scene, draw_scene
from tsal.utils.paths import REPOSITORY

SIDE = 96


@lru_cache
def clips():
    return [render_clip([5, i], 3, SIDE) for i in range(8)]


def sampled(maps, points):
    """Bilinear samples (n, C) of maps (C, S, S) at points (n, 2), and how far the four pixels of each sample disagree
    (n,).
    """
    low = np.clip(np.floor(points).astype(int), 0, maps.shape[-1] - 2)
    x, y = (points - low).T
    corners = [maps[:, low[:, 1] + j, low[:, 0] + i].T for j, i in ((0, 0), (0, 1), (1, 0), (1, 1))]
    shares = [(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x]
    spread = np.max([np.linalg.norm(a - b, axis=1) for a in corners for b in corners], axis=0)
    return sum(c * s[:, None] for c, s in zip(corners, shares)), spread


def both_ways(clip):
    """(flow, occluded, points here, points there, visible in both) of every step of a clip, both ways in time."""
    for t in range(len(clip.images) - 1):
        both = clip.visible[t] & clip.visible[t + 1]
        yield clip.flow_forward[t], clip.occluded_forward[t], t, t + 1, both
        yield clip.flow_backward[t], clip.occluded_backward[t], t + 1, t, both


def warped(image, flow):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return cv2.remap(image, x + flow[0], y + flow[1], cv2.INTER_LINEAR)


def test_same_seed_same_bytes_and_another_seed_another_clip():
    again, other = render_clip([5, 0], 3, SIDE), render_clip([5, 1], 3, SIDE)
    for name, value in vars(clips()[0]).items():
        assert value.tobytes() == getattr(again, name).tobytes(), name
    assert (clips()[0].images != other.images).mean() > 0.5
    from_sequence = render_clip(np.random.SeedSequence([5, 0]), 3, SIDE)
    assert from_sequence.images.tobytes() == again.images.tobytes()


def test_shapes_and_a_photograph():
    clip = clips()[0]
    assert clip.images.shape == (3, SIDE, SIDE, 3) and clip.images.dtype == np.uint8
    assert clip.points.shape == (3, 68, 2) and clip.points.dtype == np.float32 and clip.visible.shape == (3, 68)
    assert (
        clip.flow_forward.shape == clip.flow_backward.shape == (2, 2, SIDE, SIDE)
        and clip.flow_forward.dtype == np.float32
    )
    assert clip.occluded_forward.shape == clip.occluded_backward.shape == (2, SIDE, SIDE)
    assert clip.tracks.shape == (3, 610, 2) and clip.tracks.dtype == np.float32
    assert clip.tracks_visible.shape == (3, 610) and clip.tracks_visible.dtype == bool
    photograph = render_clip(3, 1, SIDE)
    assert photograph.images.shape[0] == 1 and photograph.flow_forward.shape == (0, 2, SIDE, SIDE)


def test_flow_propagates_landmarks_both_ways():
    errors, spreads = [], []
    for clip in clips():
        for flow, _, here, there, both in both_ways(clip):
            moved, spread = sampled(flow, clip.points[here][both])
            errors.append(np.linalg.norm(clip.points[here][both] + moved - clip.points[there][both], axis=1))
            spreads.append(spread)
    errors, spreads = np.concatenate(errors), np.concatenate(spreads)
    assert np.median(errors) < 0.02
    # A bilinear sample at an edge (a silhouette, the rim of a lid) mixes two surfaces; elsewhere the flow is the
    # landmark's.
    smooth = spreads < 0.25
    assert smooth.mean() > 0.6
    assert np.percentile(errors[smooth], 95) < 0.1 and (errors < 0.3).mean() > 0.85


def test_forward_and_backward_flow_are_inverse_where_not_occluded():
    errors = []
    for clip in clips():
        for t in range(2):
            back = warped(clip.flow_backward[t].transpose(1, 2, 0), clip.flow_forward[t])
            errors.append(
                np.linalg.norm(clip.flow_forward[t] + back.transpose(2, 0, 1), axis=0)[~clip.occluded_forward[t]]
            )
    errors = np.concatenate(errors)
    assert np.median(errors) < 0.005 and (errors < 0.1).mean() > 0.94


def test_warping_by_the_backward_flow_reconstructs_the_next_frame():
    still, moved = [], []
    for clip in clips():
        for t in range(2):
            visible = ~clip.occluded_backward[t]
            here, there = clip.images[t].astype(np.float32), clip.images[t + 1].astype(np.float32)
            still.append(np.abs(here - there)[visible].mean())
            moved.append(np.abs(warped(here, clip.flow_backward[t]) - there)[visible].mean())
    assert np.mean(moved) < 0.55 * np.mean(still)
    assert (np.array(moved) < np.array(still)).all()


def test_occluded_pixels_hold_all_that_leave_the_frame():
    for clip in clips():
        for flow, occluded, *_ in both_ways(clip):
            y, x = np.mgrid[:SIDE, :SIDE]
            left, top = x + flow[0], y + flow[1]
            outside = (left < -0.5) | (top < -0.5) | (left > SIDE - 0.5) | (top > SIDE - 0.5)
            assert occluded[outside].all()
            assert occluded.mean() < 0.4


def test_occlusion_of_the_flow_agrees_with_the_visibility_of_the_landmarks():
    agree, vanished = [], 0
    for clip in clips():
        for _, occluded, here, there, _ in both_ways(clip):
            visible = clip.visible[here]
            column, row = np.clip(np.round(clip.points[here][visible]).astype(int), 0, SIDE - 1).T
            agree.append(occluded[row, column] == ~clip.visible[there][visible])
            vanished += (~clip.visible[there][visible]).sum()
    assert vanished > 10 and np.concatenate(agree).mean() > 0.93


def test_tracks_move_by_the_flow_at_them_and_vanish_where_it_is_occluded():
    errors, spreads, agree, vanished = [], [], [], 0
    for clip in clips():
        for flow, occluded, here, there, _ in both_ways(clip):
            visible, still_visible = clip.tracks_visible[here], clip.tracks_visible[there]
            points, moved = clip.tracks[here], clip.tracks[there]
            step, spread = sampled(flow, points[visible & still_visible])
            errors.append(
                np.linalg.norm(points[visible & still_visible] + step - moved[visible & still_visible], axis=1)
            )
            spreads.append(spread)
            column, row = np.clip(np.round(points[visible]).astype(int), 0, SIDE - 1).T
            agree.append(occluded[row, column] == ~still_visible[visible])
            vanished += (visible & ~still_visible).sum()
    errors, smooth = np.concatenate(errors), np.concatenate(spreads) < 0.25
    assert smooth.mean() > 0.8 and np.percentile(errors[smooth], 99) < 0.1  # elsewhere a sample mixes two surfaces
    assert vanished > 100 and np.concatenate(agree).mean() > 0.95


def test_tracks_are_of_the_head_the_background_and_the_occluder():
    scenes = [draw_scene(np.random.default_rng([5, i]), 3, SIDE) for i in range(8)]
    with_occluder = [clip for clip, scene in zip(clips(), scenes) if scene.occluder]
    assert 0 < len(with_occluder) < len(scenes)
    for clip, scene in zip(clips(), scenes):
        head, ground = np.split(clip.tracks, [HEAD_TRACKS], axis=1)
        assert clip.tracks_visible[:, :HEAD_TRACKS].mean() > 0.5
        vertices = set(map(tuple, scene.projected[0, :, :2].astype(np.float32)))
        assert set(map(tuple, head[0])) <= vertices
        own = np.einsum(
            "tij,tnj->tni",
            np.linalg.inv(scene.background.moves[..., :2]),
            ground - scene.background.moves[:, None, :, 2],
        )
        still = np.abs(own - own[0]).max((0, 2)) < 0.01  # in the background's own pixels
        assert still.sum() == (GROUND_TRACKS if scene.occluder else GROUND_TRACKS + FRONT_TRACKS)


def test_landmarks_are_in_ibug_order():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        points = landmarks(express(make_head(rng), {"jaw": 6.0, "shut": 0.8, "gaze_x": 0.0, "gaze_y": 0.0}))[:, :2]
        x, y = points.T
        assert (np.diff(x[:17]) > 0).all() and y[:17].argmax() in (7, 8, 9)  # the jaw from the left; the chin lowest
        assert (np.diff(x[17:27]) > 0).all() and y[17:27].max() < y[36:48].min()  # brows, over the eyes
        # nose, nostrils
        assert (np.diff(y[27:31]) > 0).all() and (np.diff(x[31:36]) > 0).all() and y[31:36].min() > y[29]
        assert x[36] < x[39] < x[42] < x[45]  # outer corner, inner corner; inner corner, outer corner
        assert y[37] < y[41] and y[38] < y[40] and y[43] < y[47] and y[44] < y[46]  # upper lids before lower ones
        # the mouth under the nose, inner lips within the outer
        assert y[48:].min() > y[33] and x[48] < x[60] < x[64] < x[54]
        assert y[51] < y[62] < y[66] < y[57]


def test_expressions_move_what_they_should():
    head = make_head(np.random.default_rng(0))
    rest = {"jaw": 0.0, "shut": 1.0, "gaze_x": 0.0, "gaze_y": 0.0}
    still = landmarks(express(head, rest))[:, 1]
    opened = landmarks(express(head, {**rest, "jaw": 14.0, "shut": 0.5}))[:, 1]
    blink = landmarks(express(head, {**rest, "blink": 1.0}))[:, 1]
    assert still[66] - still[62] < 1.0 and opened[66] - opened[62] > 12 and opened[8] - still[8] > 8  # mm
    assert abs(opened[30] - still[30]) < 0.5
    assert still[41] - still[37] > 5 and blink[41] - blink[37] < 1.0


def test_the_far_jaw_is_hidden_at_large_yaw():
    head = make_head(np.random.default_rng(1))
    turned = express(head, {"jaw": 0.0, "shut": 1.0, "gaze_x": 0.0, "gaze_y": 0.0}) @ rotation(55, 0, 0).T
    projected = np.concatenate([turned[:, :2] * 0.5 + SIDE / 2 - 10, turned[:, 2:]], 1)
    scene = Scene(head, projected[None], 0.5, None, None, {})
    points = landmarks(projected)
    hidden = is_hidden(points[:, :2], points[:, 2], rasterise(scene, 0, SIDE, 2), SIDE)
    # A face that looks to the image's right hides its side at the image's right.
    assert hidden[13:17].all() and not hidden[0:6].any() and not hidden[[30, 36, 39, 48]].any()


def test_the_canonical_landmarks_are_mirror_symmetric():
    jaw, frontal = canonical_landmarks()
    assert np.allclose(jaw[:, 0], -jaw[::-1, 0]) and np.allclose(jaw[:, 1], jaw[::-1, 1])
    flip = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert np.allclose(frontal[:10] * [-1, 1], frontal[flip])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "data"
    settings = RenderConfig(labelled=2, clips=2, validation=1, frames=2, side=64, seed=3)
    return root, settings, render_dataset(root, settings, workers=1, progress=False)


def rows_of(root, name):
    return [line.split() for line in (root / "lists" / f"{name}.txt").read_text().splitlines()]


def test_lists_name_files_that_exist_and_truth_agrees_with_the_oracle(dataset):
    root, settings, _ = dataset
    counts = {"labelled": 2, "unlabelled": 4, "unlabelled-truth": 4, "val": 2}
    for name, count in counts.items():
        rows = rows_of(root, name)
        assert len(rows) == count and all(len(row) == 6 for row in rows)
        for image_path, annotation, *box in rows:
            image = cv2.imread(str(root / image_path))
            x1, y1, x2, y2 = map(float, box)
            assert image.shape == (64, 64, 3) and x1 < x2 and y1 < y2
            assert (root / image_path).stem.isdigit() == (name != "labelled")
            if name == "unlabelled":
                assert annotation == "None"
                continue
            text = (root / annotation).read_text()
            points = np.array(text[text.index("{") + 1 : text.index("}")].split(), float).reshape(68, 2) - 1
            tight = np.concatenate([points.min(0), points.max(0)])
            assert np.abs(tight - [x1, y1, x2, y2]).max() < (0.01 if name == "labelled" else 0.15 * (x2 - x1))
            if name != "labelled":
                split = "val" if name == "val" else "unlabelled"
                ground_truth = load_ground_truth(
                    root / "ground_truth" / split / f"{(root / image_path).parent.name}.npz"
                )
                assert np.abs(points - ground_truth["points"][int((root / image_path).stem)]).max() < 0.0006
    assert [row[0] for row in rows_of(root, "unlabelled")] == [row[0] for row in rows_of(root, "unlabelled-truth")]
    assert not list(root.parent.glob(".*.tmp*"))  # nothing temporary is left


def test_the_oracle_holds_the_clip_that_its_seed_renders(dataset):
    root, settings, manifest = dataset
    entry = next(clip for clip in manifest["clips"] if clip["split"] == "val")
    clip = render_clip(np.random.SeedSequence(entry["seed"]), 2, 64)
    ground_truth = load_ground_truth(root / "ground_truth" / "val" / f"{entry['name']}.npz")
    assert set(ground_truth) == {"points", "visible", "tracks", "tracks_visible"}
    for name in ("points", "visible", "tracks_visible"):
        assert np.array_equal(ground_truth[name], getattr(clip, name)), name
    assert np.abs(ground_truth["tracks"] - clip.tracks).max() <= 1 / 512
    assert ground_truth["tracks"].dtype == np.float32


def test_files_do_not_depend_on_the_number_of_workers(dataset, tmp_path):
    root, settings, manifest = dataset
    assert render_dataset(tmp_path / "other", settings, workers=2, progress=False) == manifest

    def files(top):
        return {p.relative_to(top): p.read_bytes() for p in top.rglob("*.*") if p.suffix != ".npz"}

    assert files(root) == files(tmp_path / "other")
    for path in root.rglob("*.npz"):
        serial, parallel = load_ground_truth(path), load_ground_truth(tmp_path / "other" / path.relative_to(root))
        assert serial.keys() == parallel.keys()
        assert all(np.array_equal(serial[name], parallel[name]) for name in serial)


def test_a_second_call_does_nothing_and_foreign_files_are_left_alone(dataset, tmp_path):
    root, settings, manifest = dataset
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert render_dataset(root, settings, progress=False) == manifest
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        render_dataset(tmp_path, settings, progress=False)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_rendering_that_is_killed_leaves_the_former_one_whole_or_none(dataset, tmp_path, monkeypatch):
    """While the former one is removed: half of it would be taken for whole, or refused for ever."""
    root, settings = tmp_path / "data", RenderConfig(labelled=1, clips=1, validation=1, frames=2, side=48, seed=3)
    render_dataset(root, settings, workers=1, progress=False)
    new_settings = dataclasses.replace(settings, seed=4)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            render_dataset(root, new_settings, workers=1, progress=False)
    (tmp_path / f".data.{os.getpid()}.tmp").mkdir()  # of a killed process that had this one's number
    (tmp_path / ".data.4194305.tmp").mkdir()
    manifest = render_dataset(root, new_settings, workers=1, progress=False)
    assert manifest["settings"]["seed"] == 4
    assert all((root / row[0]).exists() for name in ("labelled", "unlabelled", "val") for row in rows_of(root, name))
    render_dataset(root, settings, workers=1, progress=False)  # which clears away what was left
    assert not list(tmp_path.glob(".*.tmp*"))


def test_a_second_process_waits_for_the_first_and_takes_its_rendering(tmp_path):
    settings = RenderConfig(labelled=4, clips=1, validation=1, frames=2, side=64, seed=3)
    code = (
        "import sys; from pathlib import Path; from tsal.config import RenderConfig\n"
        "from tsal.synthetic import render_dataset\n"
        f"render_dataset(Path(sys.argv[1]), RenderConfig(**{dataclasses.asdict(settings)}), workers=1)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    both = [subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("rendering" in text for text in errors) == 1
    assert not list(tmp_path.glob(".*.tmp*"))
