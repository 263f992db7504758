"""A frozen tracker computes the flow of a pair once, and its flow in an augmented view is that of the view."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from toys import Shift

from tsal.config import Config
from tsal.data.crops import CropFolder
from tsal.data.pairs import FramePairs
from tsal.data.photometric import to_float
from tsal.geometry import apply_affine, compose_affine, crop_affine, invert_affine, move_flow, sample
from tsal.synthetic.dataset import RenderedClip, render_clip
from tsal.tracker import frozen
from tsal.tracker.frozen import FrozenTracker
from tsal.tracker.network import track_frames
from tsal.tracker.training import initial_tracker

SIDE = 32
STILL = torch.eye(2, 3)


class Counted(Shift):
    """A tracker that sees everything move by (3, 1) px, and how many pairs it was asked for."""

    def __init__(self):
        super().__init__(3.0, 1.0)
        self.pairs = 0

    def forward(self, first, second, both=False):
        self.pairs += len(first)
        return super().forward(first, second, both)


@pytest.fixture
def one_by_one(monkeypatch):
    """No batch is filled up with a pair again: a net is asked for as many as are new."""
    monkeypatch.setattr(frozen, "TOGETHER", 1)


def pairs(*keys: str, to_view: torch.Tensor = STILL) -> FramePairs:
    black = torch.zeros((len(keys), 3, SIDE, SIDE), dtype=torch.uint8)
    return FramePairs(keys, black, black, to_view.expand(len(keys), 2, 3))


def test_a_flow_in_a_view_is_turned_and_scaled_like_the_view():
    # twice as large and turned by 90 degrees: what goes right by 3 and down by 1 goes down by 6 and left by 2
    turn = torch.tensor([[0.0, -2.0, 31.0], [2.0, 0.0, 0.0]])
    forward, backward = FrozenTracker(Shift(3.0, 1.0))(pairs("a", to_view=turn)).in_view(slice(None))
    assert torch.allclose(forward, torch.tensor([-2.0, 6.0]).view(1, 2, 1, 1).expand_as(forward), atol=1e-5)
    assert torch.allclose(backward, -forward, atol=1e-5)


def test_a_flow_is_found_under_the_pixel_that_it_is_of():
    x = torch.arange(SIDE, dtype=torch.float32).expand(SIDE, SIDE)
    flow = torch.stack([x, torch.zeros_like(x)])[None]  # at column x: x to the right
    moved = move_flow(flow, torch.tensor([[[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]]))  # the view shows it 5 px further right
    assert torch.allclose(moved[0, 0, :, 5:], x[:, :-5], atol=1e-4) and (moved[0, 0, :, :5] == 0).all()


def test_teacher_and_student_share_the_flows_of_a_step_without_any_memory(one_by_one):
    net = Counted()
    tracker, batch = FrozenTracker(net), pairs("a", "b")
    assert tracker(batch) is tracker(batch) and net.pairs == 2
    assert tracker(pairs("a", "b")) is not tracker(batch)


def test_a_pair_is_computed_once_while_there_is_memory(one_by_one):
    net = Counted()
    tracker = FrozenTracker(net, memory_mb=1.5 * 2 * 3 * SIDE * SIDE * 2 / 2**20)  # one pair and a half
    first = tracker(pairs("a", "b")).flows
    assert net.pairs == 2
    again = tracker(pairs("a", "b", "c")).flows
    assert net.pairs == 4  # "b" found no space
    assert torch.equal(first, again[:2])


def test_pairs_without_a_key_are_computed_each_time_and_not_kept(tmp_path, one_by_one):
    net = Counted()
    tracker = FrozenTracker(net, memory_mb=10, disk=CropFolder(tmp_path, 10))
    for keys in (("",), ("", "")):
        tracker(pairs(*keys))
    assert net.pairs == 3


def test_flows_on_disk_serve_another_run_with_the_same_weights_alone(tmp_path, one_by_one):
    net, disk = Counted(), CropFolder(tmp_path, 10)
    first = FrozenTracker(net, disk=disk)(pairs("a"))
    second = FrozenTracker(net, disk=CropFolder(tmp_path, 10))(pairs("a"))
    assert net.pairs == 1 and torch.equal(first.flows, second.flows)
    net.register_buffer("weight", torch.ones(1))
    FrozenTracker(net, disk=disk)(pairs("a"))
    assert net.pairs == 2


def test_flows_on_disk_are_of_one_precision(tmp_path, one_by_one, monkeypatch):
    """``auto`` is bfloat16 on some machines alone, which may share a folder."""
    net, disk = Counted(), CropFolder(tmp_path, 10)
    for has, amp, count in ((False, "auto", 1), (False, "none", 1), (True, "auto", 2), (True, "bf16", 2)):
        monkeypatch.setattr("tsal.utils.environment.has_bfloat16", lambda device, has=has: has)
        FrozenTracker(net, disk=disk, amp=amp)(pairs("a"))
        assert net.pairs == count


def test_flows_on_disk_are_of_one_processor(tmp_path, one_by_one, monkeypatch):
    """Another one rounds otherwise, and may share the folder."""
    net, disk = Counted(), CropFolder(tmp_path, 10)
    for has, count in (("AVX2", 1), ("AVX512", 2), ("AVX2", 2)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda has=has: has)
        FrozenTracker(net, disk=disk)(pairs("a"))
        assert net.pairs == count


def test_a_flow_that_is_cut_short_on_disk_is_computed_anew(tmp_path, one_by_one):
    net, disk = Counted(), CropFolder(tmp_path, 10)
    FrozenTracker(net, disk=disk)(pairs("a"))
    (path,) = Path(tmp_path).iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    FrozenTracker(net, disk=disk)(pairs("a"))
    assert net.pairs == 2


def test_a_flow_is_the_same_to_the_bit_whatever_it_is_computed_together_with():
    """Else a resumed run, which asks anew for what it had in memory, would not end as one that was left alone."""
    net = initial_tracker(Config.load("demo")).eval().requires_grad_(False)
    first = torch.randint(0, 256, (9, 3, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = tuple(map(str, range(9)))
    whole = FrozenTracker(net)(FramePairs(names, first, first.roll(2, -1), STILL.expand(9, 2, 3))).flows
    for rows in ([3], [8, 3], [4, 3, 2, 1, 0]):
        batch = FramePairs(names[: len(rows)], first[rows], first[rows].roll(2, -1), STILL.expand(len(rows), 2, 3))
        assert torch.equal(FrozenTracker(net)(batch).flows, whole[rows])


def test_no_pairs_have_no_flow():
    flows = FrozenTracker(nn.Identity())(pairs())
    forward, backward = flows.in_view(slice(None))
    assert forward.shape == backward.shape == (0, 2, SIDE, SIDE)
    assert flows.carry(torch.zeros((0, 4, 2))).points.shape == (0, 4, 2)


def test_a_point_of_a_turned_view_is_carried_along_the_flow_of_the_pair_s_own_crop():
    turn = torch.tensor([[0.0, -2.0, 31.0], [2.0, 0.0, 0.0]])  # twice as large, turned by 90 degrees
    flows = FrozenTracker(Shift(3.0, 1.0))(pairs("a", to_view=turn))
    points = torch.tensor([[[11.0, 20.0], [11.0, 58.0]]])  # (10, 10) and (29, 10) of the crop
    there = flows.carry(points)
    assert torch.allclose(there.points, points + torch.tensor([-2.0, 6.0]), atol=1e-4)
    assert there.inside.tolist() == [[True, False]]  # the second goes to x = 32 of 32 px
    assert there.error.abs().max() < 1e-4 and (there.seen > 0.99).all()
    back = flows.carry(there.points, backward=True)
    assert torch.allclose(back.points, points, atol=1e-4) and back.inside.tolist() == [[True, False]]


def test_the_forward_backward_error_is_in_pixels_of_the_pair_s_own_crop():
    net, twice = Shift(3.0, 1.0), torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    flows = FrozenTracker(net)(pairs("a", to_view=twice))
    flows.flows[:, 1, 1] += 1.5  # the way back misses by 1.5 px of the crop, 3 px of the view
    assert torch.allclose(flows.carry(torch.tensor([[[20.0, 20.0]]])).error, torch.tensor([[1.5]]), atol=1e-3)


def crops(clip: RenderedClip, affine: np.ndarray) -> list[torch.Tensor]:
    """The frames (1, 3, 96, 96) uint8 of a clip, cut by an affine."""
    cut = [cv2.warpAffine(image, affine, (96, 96), borderMode=cv2.BORDER_REPLICATE) for image in clip.images]
    return [torch.from_numpy(image).permute(2, 0, 1)[None] for image in cut]


def test_half_precision_moves_a_track_by_far_less_than_the_tracker_errs():
    net = initial_tracker(Config.load("demo")).eval().requires_grad_(False)
    clip = render_clip([7, 0], 2, 128)
    plain = crop_affine((*clip.points[0].min(0), *clip.points[0].max(0)), 96, 1.35)
    points = torch.tensor(apply_affine(plain, clip.points), dtype=torch.float32)
    batch = FramePairs(("a",), *crops(clip, plain), STILL[None])
    full, half = (FrozenTracker(net, amp=amp)(batch).carry(points[:1]).points[0] for amp in ("none", "bf16"))
    error = (full - points[1]).norm(dim=1).mean()
    assert 0 < (half - full).norm(dim=1).mean() < 0.2 * error


def test_the_tracker_that_comes_with_the_project_follows_rendered_faces():
    """It errs by less than a tenth of what the landmarks move."""
    tracker = FrozenTracker(initial_tracker(Config()).eval().requires_grad_(False))
    errors, moves = [], []
    for seed in range(2):
        clip = render_clip([7, seed], 2, 128)
        plain = crop_affine((*clip.points[0].min(0), *clip.points[0].max(0)), 96, 1.35)
        before, after = torch.tensor(apply_affine(plain, clip.points), dtype=torch.float32)
        points = tracker(FramePairs((str(seed),), *crops(clip, plain), STILL[None])).carry(before[None]).points[0]
        visible = torch.tensor(clip.visible.all(0)) & (before > 0).all(1) & (before < 95).all(1)
        errors.append((points - after).norm(dim=1)[visible])
        moves.append((before - after).norm(dim=1)[visible])
    assert torch.cat(errors).mean() < 0.1 * torch.cat(moves).mean()


@pytest.mark.parametrize("share", [0.3, 1.0], ids=["weak geometry", "strong geometry"])
def test_a_flow_that_is_moved_into_a_view_is_as_right_as_one_computed_there(share):
    rng, net = np.random.default_rng(0), initial_tracker(Config.load("demo")).eval().requires_grad_(False)
    tracker, apart, there, moved = FrozenTracker(net), [], [], []
    for seed in range(8):
        clip = render_clip([7, seed], 2, 128)
        box, drawn = (*clip.points[0].min(0), *clip.points[0].max(0)), share * rng.uniform(-1, 1, 4)
        plain = crop_affine(box, 96, 1.35)
        view = crop_affine(box, 96, 1.35, scale=1 + 0.15 * drawn[0], rotation=30 * drawn[1], shift=0.08 * drawn[2:])
        to_view = torch.tensor(compose_affine(view, invert_affine(plain)), dtype=torch.float32)[None]
        flow = tracker(FramePairs((str(seed),), *crops(clip, plain), to_view)).in_view(slice(None))[0]
        computed = track_frames(net, *map(to_float, crops(clip, view)))[0][:, :2]
        before, after = (torch.tensor(apply_affine(view, points), dtype=torch.float32) for points in clip.points)
        visible = torch.tensor(clip.visible.all(0)) & (before > 0).all(1) & (before < 95).all(1)
        ways = [sample(way, before[None])[0].T for way in (flow, computed)]
        apart.append((ways[0] - ways[1]).norm(dim=1)[visible])
        for errors, way in zip((moved, there), ways):
            errors.append((before + way - after).norm(dim=1)[visible])
    apart, there, moved = (torch.cat(errors).mean().item() for errors in (apart, there, moved))
    assert abs(moved - there) < 0.03 and apart < there  # they differ by less than the tracker errs
