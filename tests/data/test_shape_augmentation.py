"""Labelled faces made from others: one wears another's shape, and its label goes exactly along; another shows through
one.
"""

from __future__ import annotations

import pytest
import torch
from toys import dot_image, dot_place

from tsal.data.shape_augmentation import align_shapes, aligned_mixup, folds, follow, spline_flow, transfer_shapes
from tsal.geometry import warp

SIDE = 96
FACE = torch.tensor([[30.0, 36.0], [62.0, 36.0], [46.0, 50.0], [36.0, 66.0], [56.0, 66.0]])
WIDER = torch.tensor([[26.0, 34.0], [66.0, 34.0], [46.0, 54.0], [40.0, 68.0], [52.0, 68.0]])


def all_visible(count: int, landmarks: int = 5) -> torch.Tensor:
    return torch.ones(count, landmarks, dtype=torch.bool)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dots(points: torch.Tensor) -> torch.Tensor:
    """An image (1, 3, S, S) in [0, 1] for each point (K, 2) px: one bright dot there."""
    images = [torch.from_numpy(dot_image(SIDE, SIDE, x, y, 1.5)).permute(2, 0, 1) / 255 for x, y in points.tolist()]
    return torch.stack(images)[:, None].float()


def test_a_turned_grown_and_moved_copy_is_laid_exactly_on_the_face():
    turn = 1.7 * torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    copy = FACE @ turn.T + torch.tensor([100.0, -7.0])
    assert torch.allclose(align_shapes(copy[None], FACE[None], all_visible(1)), FACE[None], atol=1e-4)


def test_a_mirror_image_is_never_mirrored_back():
    bent = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]]])
    assert (align_shapes(bent * torch.tensor([-1.0, 1.0]), bent, all_visible(1, 3)) - bent).abs().max() > 0.5


def test_landmarks_that_are_not_known_have_no_say_in_the_alignment():
    copy, visible = 2 * FACE, all_visible(1)
    visible[0, 1] = False
    copy[1] += 50  # wrong by far
    to = FACE[None].clone()
    to[0, 1] = torch.nan
    shape = align_shapes(copy[None], to, visible)
    assert torch.allclose(shape[0, [0, 2, 3, 4]], FACE[[0, 2, 3, 4]], atol=1e-4)


def test_nothing_moves_where_no_landmark_does():
    assert spline_flow(FACE[None], FACE[None], all_visible(1), SIDE).abs().max() < 1e-6


def test_the_spline_brings_landmarks_near_their_places_and_holds_corners_and_middles_of_the_border():
    flow = spline_flow(FACE[None], WIDER[None], all_visible(1), SIDE)
    after, missed = follow(FACE[None], WIDER[None], flow)
    residual, shift = (after - WIDER).norm(dim=-1), (FACE - WIDER).norm(dim=-1)
    assert missed.max() < 1e-3 and residual.max() < 0.2 * shift.max() and residual.mean() < 0.15 * shift.mean()
    places = [0, SIDE // 2, SIDE - 1]
    held = torch.stack([flow[0, :, y, x] for y in places for x in places if (y, x) != (SIDE // 2, SIDE // 2)])
    assert held.norm(dim=1).max() < 0.1


def test_a_landmark_that_is_not_known_pulls_nothing():
    visible = all_visible(1)
    visible[0, 2] = False
    before, after = FACE[None].clone(), WIDER[None].clone()
    before[0, 2] = after[0, 2] = torch.nan
    rest = [0, 1, 3, 4]
    assert torch.allclose(
        spline_flow(before, after, visible, SIDE),
        spline_flow(FACE[None, rest], WIDER[None, rest], all_visible(1, 4), SIDE),
        atol=1e-4,
    )


def test_the_label_is_where_the_image_went_to():
    """One dot a landmark: each is found, by its centre of mass, where the changed label says."""
    flow = spline_flow(FACE[None], WIDER[None], all_visible(1), SIDE)
    after, _ = follow(FACE[None], WIDER[None], flow)
    for image, place, origin in zip(dots(FACE), after[0], FACE):
        dot = torch.from_numpy(dot_place(warp(image, flow)[0]))
        assert (place - origin).norm() > 1 and (dot - place).norm() < 0.3


def test_following_says_how_far_it_is_from_the_truth():
    flow = torch.zeros(1, 2, SIDE, SIDE)
    flow[:, 0] = 3
    after, missed = follow(FACE[None], FACE[None], flow)
    assert torch.allclose(after, FACE - torch.tensor([3.0, 0.0])) and missed.max() < 1e-5
    torn = torch.where(torch.arange(SIDE) > 40, 30.0, -30.0).expand(1, 2, SIDE, SIDE)
    assert follow(torch.tensor([[[41.0, 41.0]]]), torch.tensor([[[41.0, 41.0]]]), torn)[1].item() > 1


def test_an_image_that_would_lie_on_itself_is_known():
    still = torch.zeros(1, 2, SIDE, SIDE)
    back = still.clone()
    back[0, 0, :, 40:60] = torch.linspace(0, -40, 20)  # two px to the left a px to the right
    assert folds(still).tolist() == [False] and folds(back).tolist() == [True]


def test_a_share_of_the_faces_changes_and_the_same_seed_changes_the_same():
    count = 200
    images, points = torch.rand(1, 3, SIDE, SIDE).expand(count, -1, -1, -1), FACE.expand(count, -1, -1)
    changed, moved = transfer_shapes(images, points, all_visible(count), WIDER[None], 0.3, drawn())
    other = (moved != points).flatten(1).any(1)
    assert 40 <= other.sum() <= 80  # 60 +- 3 standard deviations
    assert torch.equal((changed != images).flatten(1).any(1), other)
    assert (moved[other] - FACE).norm(dim=-1).mean(1).unique().numel() == other.sum()  # each its own way along
    again = transfer_shapes(images, points, all_visible(count), WIDER[None], 0.3, drawn())
    assert torch.equal(again[0], changed) and torch.equal(again[1], moved)


@pytest.mark.parametrize(
    "shapes, share, rounded", [(WIDER[None], 0.0, 0), (WIDER[:0], 1.0, 0), (3 * FACE[None] + 20, 1.0, 1e-4)]
)
def test_without_a_share_without_others_and_among_like_faces_nothing_changes(shapes, share, rounded):
    images, points = torch.rand(4, 3, SIDE, SIDE, generator=drawn()), FACE.expand(4, -1, -1)
    changed, moved = transfer_shapes(images, points, all_visible(4), shapes, share, drawn())
    assert (changed - images).abs().max() <= rounded and (moved - points).abs().max() <= rounded


def test_no_faces_at_all_are_no_error():
    images, points = transfer_shapes(
        torch.empty(0, 3, SIDE, SIDE), torch.empty(0, 5, 2), all_visible(0), WIDER[None], 1.0, drawn()
    )
    assert images.shape == (0, 3, SIDE, SIDE) and points.shape == (0, 5, 2)


def test_hidden_landmarks_and_those_outside_stay_what_they_are():
    points, visible = FACE.expand(8, -1, -1).clone(), all_visible(8)
    visible[:, 1] = False
    points[:, 1] = torch.nan
    points[:, 3] = torch.tensor([-20.0, 70.0])
    changed, moved = transfer_shapes(torch.rand(8, 3, SIDE, SIDE), points, visible, WIDER[None], 1.0, drawn())
    assert changed.isfinite().all() and moved[:, 1].isnan().all() and torch.equal(moved[:, 3], points[:, 3])
    assert (moved[:, [0, 2, 4]] != points[:, [0, 2, 4]]).any()


def test_a_face_that_would_fold_stays_as_it_is():
    crossed = FACE[[1, 0, 2, 3, 4]]  # eyes that change places pass through each other
    images, points = torch.rand(1, 3, SIDE, SIDE), FACE[None]
    whole = align_shapes(crossed[None], points, all_visible(1))
    assert folds(spline_flow(points, whole, all_visible(1), SIDE)).item()
    unchanged = 0
    for seed in range(20):
        changed, moved = transfer_shapes(images, points, all_visible(1), crossed[None], 1.0, drawn(seed))
        assert torch.equal(changed, images) == torch.equal(moved, points)
        assert moved[0, 0, 0] < moved[0, 1, 0]
        unchanged += torch.equal(moved, points)
    assert 3 < unchanged < 20  # a little of the way is possible


# --- one face through another ---


def test_the_other_face_lies_landmark_on_landmark_wherever_it_was():
    """Dots at the landmarks of a turned, smaller face elsewhere: of the blend with black, each dot lies on the face's
    landmark.
    """
    turn = 0.7 * torch.tensor([[0.9, -0.436], [0.436, 0.9]])
    other = WIDER @ turn.T + torch.tensor([38.0, -8.0])
    black, missed = torch.zeros(1, 3, SIDE, SIDE), []
    for image, place in zip(dots(other), FACE):
        blend = aligned_mixup(black, FACE[None], all_visible(1), image, other[None], 1.0, drawn())
        assert blend.max() > 0.1
        missed.append((torch.from_numpy(dot_place(blend[0])) - place).norm())
    # what an alignment alone leaves
    plain = (align_shapes(other[None], FACE[None], all_visible(1))[0] - FACE).norm(dim=-1)
    assert plain.mean() > 3 and torch.stack(missed).mean() < 0.35 * plain.mean()


def test_no_more_than_its_share_of_the_other_face_shows():
    count = 300
    black, white = torch.zeros(count, 3, SIDE, SIDE), torch.ones(2, 3, SIDE, SIDE)
    peaks = aligned_mixup(
        black, FACE.expand(count, -1, -1), all_visible(count), white, torch.stack([FACE, WIDER]), 0.4, drawn()
    ).amax((1, 2, 3))
    assert (
        peaks.max() <= 0.4 and peaks.min() >= 0 and 0.18 < peaks.mean() < 0.22
    )  # uniform: 0.2 +- 3 standard errors of 0.0067
    again = aligned_mixup(
        black, FACE.expand(count, -1, -1), all_visible(count), white, torch.stack([FACE, WIDER]), 0.4, drawn()
    ).amax((1, 2, 3))
    assert torch.equal(peaks, again)


def test_a_face_through_itself_is_itself():
    image = torch.from_numpy(dot_image(SIDE, SIDE, 40, 50, 8)).permute(2, 0, 1)[None] / 255
    assert torch.allclose(
        aligned_mixup(image, FACE[None], all_visible(1), image, FACE[None], 1.0, drawn()), image, atol=1e-3
    )


def test_without_others_or_faces_a_blend_is_what_it_was():
    images, none = torch.rand(2, 3, SIDE, SIDE), torch.empty(0, 3, SIDE, SIDE)
    assert torch.equal(
        aligned_mixup(images, FACE.expand(2, -1, -1), all_visible(2), none, FACE[None][:0], 0.5, drawn()), images
    )
    assert (
        aligned_mixup(none, FACE[None][:0], all_visible(0), images, FACE.expand(2, -1, -1), 0.5, drawn()).shape
        == none.shape
    )


def test_a_hidden_landmark_of_the_face_is_not_asked_for():
    points, visible = FACE[None].clone(), all_visible(1)
    points[0, 3], visible[0, 3] = torch.nan, False
    assert (
        aligned_mixup(
            torch.rand(1, 3, SIDE, SIDE), points, visible, torch.rand(1, 3, SIDE, SIDE), WIDER[None], 0.5, drawn()
        )
        .isfinite()
        .all()
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_face_of_which_next_to_nothing_is_seen_stops_nothing(count):
    """AFLW labels what is seen of a face: it may be one landmark."""
    visible = torch.arange(5)[None] < count
    points = torch.where(visible[..., None], FACE[None], torch.nan)
    images, others = torch.rand(1, 3, SIDE, SIDE), dots(FACE - 5)[0]
    worn, moved = transfer_shapes(images, points, visible, WIDER[None], 1.0, drawn())
    assert worn.isfinite().all() and torch.equal(moved.isnan().any(-1), ~visible)
    blend = aligned_mixup(torch.zeros_like(images), points, visible, others, FACE[None] - 5, 1.0, drawn())
    assert blend.isfinite().all()
    if count:  # the landmark that is seen lies on the other's
        assert (torch.from_numpy(dot_place(blend[0])) - FACE[0]).norm() < 0.5
