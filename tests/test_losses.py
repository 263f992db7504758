"""Losses against values computed by hand; masked entries have no influence: unlabelled rows hold NaN."""

from __future__ import annotations

import math

import pytest
import torch

from tsal.losses import (
    focal_loss,
    heatmap_cross_entropy,
    heatmap_mse,
    offset_loss,
    point_loss,
    structure_invariance,
    weighted_mean,
)

NAN = math.nan


def grad(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


# --- weighted mean ---


def test_a_weighted_mean_is_divided_once_by_its_own_weights():
    assert weighted_mean(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, True, False])).item() == 1.5
    assert weighted_mean(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 0.5, 0.5])).item() == pytest.approx(5 / 2)


def test_with_no_weight_it_is_zero_and_keeps_its_graph():
    values = torch.tensor([3.0, 4.0], requires_grad=True)
    loss = weighted_mean(values, torch.zeros(2))
    assert loss.item() == 0
    assert grad(loss, values)[0].tolist() == [0, 0]


def test_one_hardly_trusted_entry_does_not_count_as_a_whole_one():
    assert weighted_mean(torch.tensor([8.0, 5.0]), torch.tensor([0.25, 0.0])).item() == 2.0


def test_shapes_never_broadcast():
    with pytest.raises(ValueError, match="differ in shape"):
        weighted_mean(torch.ones(3, 1), torch.ones(3))


# --- points, heatmaps, offsets ---


def test_point_loss_by_hand():
    # px; half the square below 1 px, the length less 1/2 above
    points = torch.tensor([[[0.5, 0.0], [-4.0, 3.0], [5.0, 5.0]]])
    loss = point_loss(points, torch.zeros(1, 3, 2), torch.tensor([[1.0, 1.0, 0.0]]))
    assert loss.item() == pytest.approx((0.125 + 3.5 + 2.5) / 2)


def test_offset_loss_by_hand():
    offsets, target = torch.tensor([[[[2.0, -1.0], [-0.5, 2.0]]]]), torch.tensor([[[[1.0, 1.0], [-1.0, 2.0]]]])
    assert offset_loss(offsets, target, torch.ones(1, 1, 2)).item() == pytest.approx((3 + 0.5) / 2)
    assert offset_loss(offsets, target, torch.tensor([[[0.0, 1.0]]])).item() == pytest.approx(0.5)


def test_cross_entropy_by_hand():
    logits = torch.tensor([[[[0.0, math.log(3.0)]]]])  # softmax 1/4, 3/4
    target = torch.tensor([[[[0.5, 0.5]]]])
    assert heatmap_cross_entropy(logits, target, torch.ones(1, 1)).item() == pytest.approx(
        -0.5 * math.log(3 / 16), abs=1e-6
    )


def test_mse_by_hand_sums_a_map_and_averages_maps():
    values, target = torch.tensor([[[[2.0, 3.0]], [[9.0, 9.0]], [[1.0, 2.0]]]]), torch.ones(1, 3, 1, 2)
    assert heatmap_mse(values, target, torch.tensor([[1.0, 0.0, 1.0]])).item() == (5 + 1) / 2


def each_masked_loss():
    """(name, loss as a function of prediction, target and weights, prediction, target): two images, two landmarks."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return [
        pytest.param(point_loss, draw(2, 2, 2), draw(2, 2, 2), id="point_loss"),
        pytest.param(
            lambda p, t, w: offset_loss(p[:, None], t[:, None], w[:, None]),
            draw(2, 2, 2),
            draw(2, 2, 2),
            id="offset_loss",
        ),
        pytest.param(heatmap_mse, draw(2, 2, 3, 3), draw(2, 2, 3, 3), id="heatmap_mse"),
        pytest.param(
            heatmap_cross_entropy,
            draw(2, 2, 3, 3),
            draw(2, 2, 9).softmax(-1).view(2, 2, 3, 3),
            id="heatmap_cross_entropy",
        ),
    ]


@pytest.mark.parametrize("loss, prediction, target", each_masked_loss())
@pytest.mark.parametrize("rubbish", [1e8, NAN, math.inf])
def test_masked_targets_change_neither_loss_nor_gradient(loss, prediction, target, rubbish):
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    spoiled = target.clone()
    spoiled[0, 1], spoiled[1, 0] = rubbish, rubbish
    prediction = prediction.clone().requires_grad_()
    clean, dirty = loss(prediction, target, weights), loss(prediction, spoiled, weights)
    assert torch.equal(clean, dirty)
    before, after = grad(clean, prediction)[0], grad(dirty, prediction)[0]
    assert torch.equal(before, after) and before.abs().sum() > 0
    assert (after[0, 1] == 0).all() and (after[1, 0] == 0).all()


@pytest.mark.parametrize("loss, prediction, target", each_masked_loss())
def test_a_loss_is_divided_by_its_own_number_of_valid_entries(loss, prediction, target):
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    alone = [loss(prediction, target, torch.tensor(w)) for w in ([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])]
    assert loss(prediction, target, weights).item() == pytest.approx(sum(a.item() for a in alone) / 2, rel=1e-5)


@pytest.mark.parametrize("loss, prediction, target", each_masked_loss())
def test_with_nothing_valid_a_loss_is_zero(loss, prediction, target):
    prediction = prediction.clone().requires_grad_()
    value = loss(prediction, target, torch.zeros(2, 2))
    assert value.item() == 0 and (grad(value, prediction)[0] == 0).all()


# --- centres ---


def test_focal_loss_by_hand():
    probability = torch.tensor([[[[0.8, 0.3], [0.1, 0.5]]]])
    target = torch.tensor([[[[1.0, 0.5], [0.0, 0.2]]]])
    hit = -math.log(0.8) * 0.2**2
    misses = -math.log(0.7) * 0.3**2 * 0.5**4 - math.log(0.9) * 0.1**2 - math.log(0.5) * 0.5**2 * 0.8**4
    loss = focal_loss(probability.logit(), target, torch.ones(1))
    assert loss.item() == pytest.approx(hit + misses, rel=1e-5)


def test_focal_loss_is_divided_by_the_number_of_positive_cells():
    score = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(1, 1, 3, 3)
    target[0, 0, 1, 1] = 1
    single = focal_loss(score, target, torch.ones(1))
    assert focal_loss(score.repeat(3, 1, 1, 1), target.repeat(3, 1, 1, 1), torch.ones(3)).item() == pytest.approx(
        single.item(), rel=1e-5
    )


def test_focal_loss_of_a_sure_and_right_map_is_nothing_and_of_a_sure_and_wrong_one_finite():
    target = torch.zeros(1, 1, 3, 3)
    target[0, 0, 0, 2] = 1
    right = torch.where(target == 1, 30.0, -30.0)
    assert focal_loss(right, target, torch.ones(1)).item() < 1e-6
    wrong = focal_loss(-1e4 * right, target, torch.ones(1))
    assert wrong.isfinite() and wrong > 1


@pytest.mark.parametrize("target, weights", [((2, 3, 3), 2), ((2, 1, 3, 2), 2), ((2, 1, 3, 3), 3)])
def test_focal_loss_refuses_shapes_that_would_broadcast(target, weights):
    with pytest.raises(ValueError, match="shapes differ"):
        focal_loss(torch.zeros(2, 1, 3, 3), torch.zeros(target), torch.ones(weights))


@pytest.mark.parametrize("rubbish", [0.0, 1.0, 1e8, NAN])
def test_an_image_without_a_known_centre_adds_neither_positives_nor_negatives(rubbish):
    score = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.zeros(2, 1, 3, 3)
    target[:, 0, 1, 1] = 1
    target[1] = rubbish
    both = focal_loss(score, target, torch.tensor([1.0, 0.0]))
    assert torch.allclose(both, focal_loss(score[:1], target[:1], torch.ones(1)))
    gradient = grad(both, score)[0]
    assert (gradient[1] == 0).all() and gradient[0].abs().sum() > 0
    nothing = focal_loss(score, target, torch.zeros(2))
    assert nothing.item() == 0 and (grad(nothing, score)[0] == 0).all()


# --- structure invariance ---

POINTS = torch.tensor([[[3.0, 4.0], [0.0, 5.0]], [[6.0, 8.0], [0.0, 5.0]]])  # |offset|^2: 25, 25 and 100, 25
CENTRE, ALL = torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool)


def structure(points=POINTS, centre=CENTRE, size=(5.0, 5.0), clip=(0, 0), visible=ALL):
    return structure_invariance(points, centre, torch.tensor(size), torch.tensor(clip), visible)


def test_structure_invariance_of_two_frames_by_hand():
    assert structure().item() == pytest.approx((1.0 - 2.5) ** 2)  # means of (1, 1) and (4, 1)
    assert structure(size=(5.0, 10.0)).item() == pytest.approx((1.0 - 0.625) ** 2)


def test_only_landmarks_visible_in_both_frames_count():
    visible = torch.tensor([[True, True], [False, True]])
    assert structure(visible=visible).item() == 0  # landmark 1 has not moved
    assert structure(visible=torch.tensor([[True, True], [True, False]])).item() == pytest.approx(9.0)  # (1 - 4)^2
    assert structure(visible=torch.tensor([[True, False], [False, True]])).item() == 0  # nothing in common


@pytest.mark.parametrize("rubbish", [1e8, NAN, math.inf])
def test_the_value_of_an_invisible_landmark_changes_neither_sic_nor_its_gradient(rubbish):
    visible = torch.tensor([[True, True], [True, False]])
    spoiled = POINTS.clone()
    spoiled[1, 1] = rubbish
    spoiled.requires_grad_()
    loss = structure(spoiled, visible=visible)
    assert loss.item() == pytest.approx(9.0)
    gradient = grad(loss, spoiled)[0]
    assert (gradient[1, 1] == 0).all() and gradient.isfinite().all()


def test_frames_of_different_clips_are_never_paired():
    assert structure(clip=(0, 1)).item() == 0
    points, centre = torch.cat([POINTS, 7 * POINTS]), torch.zeros(4, 2)
    sizes, visible = (5.0,) * 4, torch.ones(4, 2, dtype=torch.bool)
    loss = structure(points, centre, sizes, (0, 0, 1, 1), visible).item()
    assert loss == pytest.approx((1.5**2 + (49 * 1.5) ** 2) / 2, rel=1e-5)  # the mean over the two pairs


def test_a_pair_of_frames_that_shows_no_landmark_twice_is_no_part_of_the_mean():
    points = torch.cat([POINTS, POINTS[:1]])
    visible = torch.tensor([[True, False], [True, False], [False, True]])
    assert structure(points, torch.zeros(3, 2), (5.0,) * 3, (0, 0, 0), visible).item() == pytest.approx(9.0)


def test_three_frames_make_three_pairs():
    points = torch.cat([POINTS, POINTS[:1]])
    loss = structure(points, torch.zeros(3, 2), (5.0,) * 3, (4, 4, 4), torch.ones(3, 2, dtype=torch.bool)).item()
    assert loss == pytest.approx((1.5**2 + 0 + 1.5**2) / 3, rel=1e-5)


def test_a_face_that_moves_or_grows_as_a_whole_costs_nothing_more():
    shift = torch.tensor([[[10.0, -3.0]], [[-40.0, 8.0]]])
    assert structure(POINTS + shift, CENTRE + shift[:, 0]).item() == pytest.approx(2.25, rel=1e-4)
    assert structure(3 * POINTS, 3 * CENTRE, (15.0, 15.0)).item() == pytest.approx(2.25, rel=1e-5)
    rigid = torch.stack([POINTS[0], 2 * POINTS[0] + 7])
    assert structure(rigid, torch.tensor([[0.0, 0.0], [7.0, 7.0]]), (5.0, 10.0)).item() == pytest.approx(0, abs=1e-9)


def test_a_lone_frame_has_nothing_to_keep():
    assert structure(POINTS[:1], CENTRE[:1], (5.0,), (0,), ALL[:1]).item() == 0
    none = structure(POINTS[:0], CENTRE[:0], (), torch.empty(0, dtype=torch.long).tolist(), ALL[:0])
    assert none.item() == 0
