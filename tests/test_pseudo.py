"""Sources, their fusion, and the way of a target from one view to another."""

from __future__ import annotations

import math

import pytest
import torch
from toys import PAIRED, DotDetector, config, perfect_detection

from tsal.config import ModelConfig
from tsal.data.batches import neighbours
from tsal.geometry import to_view, weights_to_view
from tsal.model import Detector
from tsal.pseudo import (
    PseudoLabeller,
    Source,
    check_sources,
    detection_sources,
    fuse,
    propagated_source,
    reconstructed_sources,
    window_mean,
)
from tsal.schemes import generic_scheme, get_scheme
from tsal.synthetic.dataset import render_clip
from tsal.tracker.frozen import PairFlows
from tsal.utils.errors import ConfigError

TRACKED = ("tracked_heatmap", "tracked_centre")


def source(x: float, valid: bool | list[bool] = True, flow_error: float | None = None) -> Source:
    """One frame of two landmarks, both at (x, 0)."""
    valid = torch.tensor([valid if isinstance(valid, list) else [valid, valid]])
    error = None if flow_error is None else torch.full((1, 2), flow_error)
    return Source(torch.tensor([[[x, 0.0], [x, 0.0]]]), torch.ones(1, 2), valid, error)


def all_sources(**changes: Source) -> dict[str, Source]:
    """Every source at a place of its own."""
    plain = {
        "heatmap": source(1.0),
        "centre": source(2.0),
        "tracked_heatmap": source(10.0, flow_error=0.5),
        "tracked_centre": source(20.0, flow_error=1.5),
        "propagated": source(40.0, flow_error=2.5),
    }
    return plain | changes


def fused(names=TRACKED, sources=None, mu=0.5, fallback=True):
    return fuse(sources or all_sources(), tuple(names), mu, fallback=fallback)


def xs(labels) -> list[float]:
    return labels.points[0, :, 0].tolist()


# --- fusion ---


@pytest.mark.parametrize("mu, x", [(0.5, 15.0), (0.8, 12.0), (1.0, 10.0), (0.0, 20.0)])
def test_mu_weighs_the_heatmap_family_against_the_centre_family(mu, x):
    labels = fused(mu=mu)
    assert xs(labels) == pytest.approx([x, x])
    assert labels.weight.tolist() == [[1.0, 1.0]]


def test_the_valid_sources_of_a_family_count_alike():
    names = ("tracked_heatmap", "propagated", "tracked_centre")
    assert xs(fused(names)) == pytest.approx([22.5, 22.5])  # (25 + 20) / 2
    half = all_sources(propagated=source(40.0, [True, False], flow_error=2.5))
    assert xs(fused(names, half)) == pytest.approx([22.5, 15.0])


@pytest.mark.parametrize("rubbish", [math.nan, 1e6])
def test_the_value_of_a_point_that_is_not_valid_is_never_fused(rubbish):
    names = ("tracked_heatmap", "propagated", "tracked_centre")
    clean, spoiled = (fused(names, all_sources(propagated=source(x, False, flow_error=2.5))) for x in (40.0, rubbish))
    assert torch.equal(spoiled.points, clean.points) and torch.equal(spoiled.disagreement, clean.disagreement)


def test_one_family_alone_is_taken_whole():
    for names, x, apart in (
        (("tracked_heatmap",), 10.0, 8.0),
        (("tracked_centre",), 20.0, 19.0),
        (("heatmap",), 1.0, 1.0),
    ):
        labels = fused(names, mu=0.3)
        assert xs(labels) == [x, x] and labels.weight.tolist() == [[1.0, 1.0]]
        assert labels.disagreement.tolist() == [
            [apart, apart]
        ]  # with the other family on the real frame: heatmap at 1, centre at 2


def test_a_family_that_does_not_speak_leaves_the_other_alone():
    silent = all_sources(tracked_centre=source(20.0, [False, True], flow_error=1.5))
    labels = fused(sources=silent, fallback=False, mu=0.25)
    assert xs(labels) == pytest.approx([10.0, 17.5])
    assert labels.weight.tolist() == [[1.0, 1.0]]
    assert labels.disagreement[0].isnan().tolist() == [True, False]


def untracked() -> dict[str, Source]:
    return all_sources(
        tracked_heatmap=source(0.0, False, flow_error=math.nan), tracked_centre=source(0.0, False, flow_error=math.nan)
    )


def test_without_tracking_the_fallback_is_the_detector_on_the_real_frame():
    labels = fused(sources=untracked(), fallback=True)
    assert xs(labels) == pytest.approx([1.5, 1.5]) and labels.weight.tolist() == [[1.0, 1.0]]
    assert labels.tracked.tolist() == [[False, False]] and labels.flow_error.isnan().all()


def test_without_tracking_and_without_fallback_there_is_no_target():
    labels = fused(sources=untracked(), fallback=False)
    assert labels.weight.tolist() == [[0.0, 0.0]] and labels.points.isfinite().all()


def test_the_fallback_is_by_family_and_by_landmark():
    half = all_sources(tracked_heatmap=source(10.0, [True, False], flow_error=0.5))
    assert xs(fused(sources=half, fallback=True)) == pytest.approx([15.0, 10.5])  # heatmap 1 with tracked_centre 20


def test_provenance_says_which_landmarks_were_tracked_and_how_well():
    half = all_sources(
        tracked_heatmap=source(10.0, [True, False], flow_error=0.5),
        tracked_centre=source(20.0, [False, False], flow_error=1.5),
    )
    labels = fused(sources=half)
    assert labels.tracked.tolist() == [[True, False]]
    assert labels.flow_error.tolist() == [[1.0, 1.0]]
    plain = fused(("heatmap", "centre"))
    assert not plain.tracked.any() and plain.flow_error.isnan().all()


def test_agreement_is_the_distance_of_the_families_in_pixels():
    apart = all_sources(
        tracked_centre=Source(
            torch.tensor([[[13.0, 4.0], [10.0, 0.0]]]), torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)
        )
    )
    assert fused(sources=apart).disagreement.tolist() == [[5.0, 0.0]]


def test_fusion_changes_nothing_that_it_is_given():
    sources = all_sources()
    before = {name: s.points.clone() for name, s in sources.items()}
    fused(sources=sources)
    assert all(torch.equal(sources[name].points, points) for name, points in before.items())


@pytest.mark.parametrize("names", [(), ("tracked_heatmaps",), ("heatmap", "flow")])
def test_a_source_that_does_not_exist_is_an_error(names):
    with pytest.raises(ConfigError, match="tsal.sources"):
        check_sources(names)


# --- sources of a detector and of a tracker ---

POINTS = torch.tensor([[[30.2, 40.7], [62.3, 40.1], [46.4, 52.8], [45.9, 66.2]]])


def detector() -> Detector:
    return Detector(4, ModelConfig(input=96))


def constant(dx: float, dy: float, pairs: int = 1) -> torch.Tensor:
    return torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1).expand(pairs, 2, 96, 96).clone()


def track(points_next, *, forward=(3.4, -2.6), backward=(-3.4, 2.6), gate=0.0):
    """Frames 1 and 2 of three (frame 0 is a photograph); frame 2 is frame 1 moved by the flow."""
    detection = perfect_detection(detector(), points_next, PAIRED)
    return reconstructed_sources(
        detector(), detection, 3, constant(*forward), constant(*backward), torch.tensor([2]), gate
    )


def propagate(
    start, *, forward=(3.0, 1.0), backward=(-3.0, -1.0), visibility=1.0, frames=2, window=1, trust=None, vote_error=1.0
):
    """The source ``propagated`` of a clip whose frames all move by the same flow, from the points (T, K, 2)."""
    previous, following = neighbours(range(frames), window)
    gaps = (following - previous).view(-1, 1, 1, 1)
    ways = [gaps * constant(*way, len(previous)) for way in (forward, backward)]
    sure = torch.full((len(previous), 1, 96, 96), visibility)
    flows = PairFlows(
        torch.stack([torch.cat([way, sure], 1) for way in ways], 1), torch.eye(2, 3).expand(len(previous), 2, 3)
    )
    whole = torch.ones(start.shape[:2])
    heatmap = Source(start, whole, whole > 0)
    return propagated_source(heatmap, whole if trust is None else trust, flows, previous, following, vote_error)


def test_real_frames_have_a_heatmap_and_a_centre_source():
    sources = detection_sources(detector(), perfect_detection(detector(), POINTS, PAIRED))
    assert {"heatmap", "centre"} <= set(sources)
    assert (sources["heatmap"].points - POINTS).abs().max() < 0.1
    assert torch.allclose(sources["centre"].points, POINTS, atol=1e-3)
    assert all(s.valid.all() and s.flow_error is None for s in sources.values())


def test_of_several_centres_the_one_nearest_to_the_heatmap_is_taken():
    detection = perfect_detection(detector(), POINTS, PAIRED)
    detection.centre[0, 0, 1, 1] = 25.0  # a surer centre elsewhere,
    detection.offsets[0, :, 1, 1] = 0.0  # whose landmarks lie elsewhere
    assert torch.allclose(detection_sources(detector(), detection)["centre"].points, POINTS, atol=1e-3)


def test_each_source_on_a_rebuilt_frame_follows_a_known_motion_within_the_codec_s_accuracy():
    moved = POINTS + torch.tensor([3.4, -2.6])
    sources = track(moved)
    assert set(sources) == {"tracked_heatmap", "tracked_centre"}
    for name, tolerance in (("tracked_heatmap", 0.1), ("tracked_centre", 1e-3)):
        assert (sources[name].points[2] - moved[0]).abs().max() < tolerance, name
        assert sources[name].valid.tolist() == [[False] * 4, [False] * 4, [True] * 4], name
        assert sources[name].flow_error[2].abs().max() < 1e-3 and sources[name].flow_error[:2].isnan().all(), name


def test_neighbours_on_both_sides_vote_for_a_frame_s_points():
    # frame t's points lie at 40 + 3t, 40 + t but for noise in x: carried to one frame they differ by it alone
    noise = torch.tensor([0.0, 0.6, -0.9, 0.0])
    times = torch.arange(4.0)
    start = torch.stack([40 + 3 * times + noise, 40 + times], -1)[:, None]  # (4, 1, 2)
    near, far = propagate(start, frames=4), propagate(start, frames=4, window=3)
    assert torch.allclose(near.points[1, 0], torch.tensor([43 + (0 - 0.9) / 2, 41.0]), atol=1e-4)
    assert torch.allclose(far.points[1, 0], torch.tensor([43 + (0 - 0.9 + 0) / 3, 41.0]), atol=1e-4)
    assert near.votes[:, 0].tolist() == pytest.approx([1, 2, 2, 1])
    assert far.votes[:, 0].tolist() == pytest.approx([3] * 4)
    ones, all_valid = torch.ones(4, 1), torch.ones(4, 1, dtype=torch.bool)
    own = {name: Source(start, ones, all_valid) for name in ("heatmap", "centre")}
    fused = fuse(own | {"propagated": far}, ("heatmap", "propagated"), 1.0)
    mean = torch.tensor([43 + (0.6 - 0.9) / 4, 41.0])  # the frame's own point counts as one neighbour does
    assert torch.allclose(fused.points[1, 0], mean, atol=1e-4)


@pytest.mark.parametrize(
    "miss, width, vote", [(0.0, 1.0, 1.0), (1.0, 1.0, 0.3679), (1.0, 2.0, 0.7788), (5.0, 0.0, 1.0)]
)
def test_a_vote_falls_with_the_forward_backward_error(miss, width, vote):
    propagated = propagate(POINTS.repeat(2, 1, 1), backward=(-3.0 + miss, -1.0), vote_error=width)
    assert propagated.votes.flatten().tolist() == pytest.approx([vote] * 8, abs=1e-3)
    assert propagated.flow_error.flatten().tolist() == pytest.approx([miss] * 8, abs=1e-3)


def test_what_is_hidden_or_not_trusted_or_leaves_the_crop_has_less_of_a_vote_or_none():
    start = POINTS.repeat(2, 1, 1)
    assert propagate(start, visibility=0.25).votes.flatten().tolist() == pytest.approx([0.25] * 8)
    trust = torch.tensor([[0.5], [1.0]]).expand(2, 4)
    assert propagate(start, trust=trust).votes.tolist() == [[1.0] * 4, [0.5] * 4]  # that of the frame it comes from
    leaves = propagate(start, forward=(40.0, 0.0), backward=(-40.0, 0.0))
    assert leaves.valid[1].tolist() == [True, False, True, True]  # landmark 1 goes to x = 102.3
    assert leaves.flow_error[1].isnan().tolist() == [False, True, False, False]


def test_on_rendered_clips_each_source_is_as_good_as_its_codec():
    detector = Detector(68, ModelConfig(input=128)).eval()
    previous, following = torch.arange(2), torch.arange(1, 3)
    errors: dict[str, list] = {}
    for seed in range(3):
        clip = render_clip([7, seed], 3, 128)
        points = torch.tensor(clip.points)
        perfect = perfect_detection(detector, points, get_scheme("68"), sigma=5.0)
        sources = detection_sources(detector, perfect)
        ways = torch.tensor(clip.flow_forward), torch.tensor(clip.flow_backward)
        sources |= reconstructed_sources(detector, perfect.rows(following), 3, *ways, following, 0.0)
        shown = [torch.cat([way, torch.ones_like(way[:, :1])], 1) for way in ways]
        flows = PairFlows(torch.stack(shown, 1), torch.eye(2, 3).expand(2, 2, 3))
        sources["propagated"] = propagated_source(
            sources["heatmap"], torch.ones(3, 68), flows, previous[:2], following[:2], 1.0
        )
        inner = ((points > 15) & (points < 112)).all(-1)  # three sigma from the border
        visible = torch.tensor(clip.visible[:-1] & clip.visible[1:]) & inner[1:] & inner[:-1]
        for name, source in sources.items():
            errors.setdefault(name, []).append((source.points - points).norm(dim=-1)[1:][visible])
    errors = {name: torch.cat(values) for name, values in errors.items()}
    assert errors["heatmap"].max() < 0.1 and errors["tracked_heatmap"].max() < 0.1
    assert errors["centre"].max() < 1e-3 and errors["tracked_centre"].max() < 1e-3
    # true flow too, but a lid's or a silhouette's four pixels belong to two surfaces
    assert errors["propagated"].median() < 0.1 and (errors["propagated"] < 1).float().mean() > 0.9


def test_a_point_that_comes_from_outside_the_frame_is_not_valid():
    sources = track(POINTS, forward=(40.0, 0.0), backward=(-40.0, 0.0))  # landmark 0 at x = 30.2 comes from x = -9.8
    assert sources["tracked_heatmap"].valid[2].tolist() == [False, True, True, True]
    assert sources["tracked_centre"].valid[2].tolist() == [False, True, True, True]


@pytest.mark.parametrize("gate, valid", [(0.0, True), (4.9, False), (5.1, True)])
def test_the_gate_takes_points_with_a_small_forward_backward_error(gate, valid):
    sources = track(POINTS, forward=(3.0, 4.0), backward=(0.0, 0.0), gate=gate)  # they miss each other by 5 px
    for name in ("tracked_heatmap", "tracked_centre"):
        assert sources[name].valid[2].tolist() == [valid] * 4, name
        assert sources[name].flow_error[2].tolist() == pytest.approx([5.0] * 4, abs=1e-3), name
        assert not sources[name].valid[:2].any(), name


def test_without_pairs_every_tracking_source_is_silent():
    empty = torch.empty(0, dtype=torch.long)
    none = perfect_detection(detector(), POINTS[:0], PAIRED)
    sources = reconstructed_sources(detector(), none, 1, constant(0, 0, 0), constant(0, 0, 0), empty, 0.0)
    sources["propagated"] = propagate(POINTS, frames=1)
    assert all(not s.valid.any() and s.points.isfinite().all() and s.flow_error.isnan().all() for s in sources.values())


# --- a labeller ---


def labeller(*overrides: str) -> PseudoLabeller:
    return PseudoLabeller(config("tsal.sources=heatmap,propagated", *overrides))


def flows_of(frames: int, window: int, flow: tuple[float, float], visibility: tuple[float, float] = (1.0, 1.0)):
    """The flows of a clip that moves by ``flow`` a frame, with the chances to be seen in the later and in the earlier
    frame of a pair -> flows, and the pairs' frames.
    """
    previous, following = neighbours(range(frames), window)
    gaps = (following - previous).view(-1, 1, 1, 1)
    forward = gaps * constant(*flow, len(previous))
    ways = [
        torch.cat([way, torch.full_like(way[:, :1], part)], 1) for way, part in zip((forward, -forward), visibility)
    ]
    return PairFlows(torch.stack(ways, 1), torch.eye(2, 3).expand(len(previous), 2, 3)), previous, following


@pytest.mark.parametrize("apart, trust", [((2.0, 2.0), 1 / 3), ((0.0, 2.0), 1 / 2), ((0.0, 0.0), 1.0)])
def test_trust_falls_with_the_square_of_the_sources_distance(apart, trust):
    centre = POINTS + torch.tensor(apart)
    whole = torch.ones(1, 4)
    sources = {name: Source(points, whole, whole > 0) for name, points in (("heatmap", POINTS), ("centre", centre))}
    assert labeller("tsal.trust=2").trust(sources).flatten().tolist() == pytest.approx([trust] * 4, rel=1e-5)
    assert labeller("tsal.trust=0").trust(sources).tolist() == [[1.0] * 4]


def test_settings_in_px_at_96_grow_with_the_input():
    whole, centre = torch.ones(1, 4), POINTS + torch.tensor([4.0, 0.0])
    sources = {name: Source(points, whole, whole > 0) for name, points in (("heatmap", POINTS), ("centre", centre))}
    large = labeller("model.input=192", "tsal.trust=2", "tsal.vote_error=1", "tsal.max_fb_error=0.5")
    assert large.trust(sources).flatten().tolist() == pytest.approx([0.5] * 4, rel=1e-5)
    assert (large.vote_error, large.max_fb_error) == (2.0, 1.0)


@pytest.mark.parametrize("width, place", [(2.0, 2.25), (0.0, 1.5)])
def test_a_frame_s_own_point_has_its_trust_as_its_vote(width, place, monkeypatch):
    """Frame 1's sources lie sqrt(8) px apart: of trust 1/3, at 0; that of frame 0 comes to 3 with a whole vote."""
    points = torch.tensor([[[43.0, 40.0]], [[40.0, 40.0]]])
    centre = points + torch.tensor([[[0.0, 0.0]], [[2.0, 2.0]]])
    detector = Detector(1, ModelConfig(input=96, width=0.05))  # whole: a source of one's own may ask it for more
    monkeypatch.setattr(detector, "heatmap", lambda _: (points, torch.ones(2, 1)))
    monkeypatch.setattr(detector, "centre", lambda _: (centre[:, None], torch.ones(2, 1)))
    flows, previous, following = flows_of(2, 1, (0.0, 0.0))
    detection = perfect_detection(detector, points, generic_scheme(1))
    labels = labeller(f"tsal.trust={width}")(detector, torch.zeros(2, 3, 96, 96), detection, flows, previous, following)
    assert labels.fused.points[1, 0, 0].item() == pytest.approx(40 + place, abs=1e-4)


def test_points_and_scores_of_neighbours_count_by_their_votes():
    flows, previous, following = flows_of(3, 1, (0.0, 0.0))
    points = torch.tensor([[[40.0, 20.0]], [[41.0, 20.0]], [[43.0, 23.0]]])
    score, trust = torch.tensor([[0.2], [0.9], [0.8]]), torch.tensor([[0.5], [0.7], [1.0]])
    heatmap = Source(points, score, score > 0)
    propagated = propagated_source(heatmap, trust, flows, previous, following, 1.0)
    assert propagated.votes[1].item() == pytest.approx(1.5)
    assert propagated.points[1, 0].tolist() == pytest.approx([(0.5 * 40 + 43) / 1.5, (0.5 * 20 + 23) / 1.5])
    assert propagated.score[1].item() == pytest.approx((0.5 * 0.2 + 0.8) / 1.5)
    mean = window_mean(points, trust, flows, previous, following, 1.0)
    assert mean[1, 0].tolist() == pytest.approx([(0.5 * 40 + 0.7 * 41 + 43) / 2.2, (1.2 * 20 + 23) / 2.2])


def test_a_vote_is_weighed_by_what_is_seen_in_the_frame_that_the_point_goes_to():
    flows, previous, following = flows_of(2, 1, (3.0, 1.0), visibility=(0.25, 0.75))
    start, whole = POINTS.repeat(2, 1, 1), torch.ones(2, 4)
    propagated = propagated_source(Source(start, whole, whole > 0), whole, flows, previous, following, 1.0)
    assert propagated.votes[1].tolist() == pytest.approx([0.25] * 4)  # the later frame
    assert propagated.votes[0].tolist() == pytest.approx([0.75] * 4)


def test_frames_are_rebuilt_from_the_one_before_alone_whatever_the_window():
    images = torch.zeros(3, 3, 96, 96)
    for frame in range(3):
        images[frame, :, 20, 20 + 10 * frame] = 1  # flow says that everything moves by 10 px a frame
    flows, previous, following = flows_of(3, 2, (10.0, 0.0))
    assert len(following) == 3
    rebuilt = labeller().rebuild(DotDetector(), images, flows, previous, following)
    assert rebuilt.rows.tolist() == [1, 2]
    tracked = rebuilt.sources["tracked_heatmap"]
    assert tracked.valid.tolist() == [[False], [True], [True]]
    assert torch.allclose(tracked.points[1:, 0], torch.tensor([[30.0, 20.0], [40.0, 20.0]]), atol=1e-3)


# --- views ---


def test_points_change_view_by_their_own_affine_and_swap_pairs_in_a_mirror():
    points = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]]).repeat(2, 1, 1)
    affine = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]], [[-1.0, 0.0, 9.0], [0.0, 1.0, 0.0]]])
    moved = to_view(points, affine, torch.tensor([False, True]), PAIRED.flip)
    assert moved[0].tolist() == [[3.0, 2.0], [7.0, 4.0], [11.0, 6.0], [15.0, 8.0]]
    assert moved[1].tolist() == [[6.0, 4.0], [8.0, 2.0], [4.0, 6.0], [2.0, 8.0]]


def test_weights_swap_with_their_points():
    weight = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).repeat(2, 1)
    moved = weights_to_view(weight, torch.tensor([False, True]), PAIRED.flip)
    assert moved[0].tolist() == weight[0].tolist()
    assert moved[1].tolist() == weight[0, [1, 0, 2, 3]].tolist()
