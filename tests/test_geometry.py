"""One pixel convention: centres at integers; affines, sampling and warping agree on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsal.geometry import (
    apply_affine,
    cell_to_pixel,
    compose_affine,
    crop_affine,
    inside,
    invert_affine,
    pixel_grid,
    pixel_to_cell,
    sample,
    warp,
)


def test_a_cell_lies_in_the_middle_of_its_pixels():
    assert cell_to_pixel(torch.tensor([0.0, 1.0]), 8).tolist() == [3.5, 11.5]  # pixels 0..7 and 8..15
    assert pixel_to_cell(torch.tensor([-0.5, 3.5, 7.5]), 8).tolist() == [-0.5, 0.0, 0.5]


def test_pixel_to_cell_inverts_cell_to_pixel():
    cells = torch.linspace(-2, 30, 40, dtype=torch.float64)
    assert torch.allclose(pixel_to_cell(cell_to_pixel(cells, 8), 8), cells, atol=1e-12)


def test_the_box_centre_goes_to_the_crop_centre_whatever_the_scale_and_rotation():
    for scale, rotation in ((1.0, 0.0), (1.3, 25.0), (0.7, -100.0)):
        affine = crop_affine((10, 20, 50, 40), 65, 1.5, scale=scale, rotation=rotation)
        assert np.allclose(apply_affine(affine, np.array([[30.0, 30.0]])), 32.0, atol=1e-9)


def test_the_crop_is_a_square_box_scale_times_the_longer_side_of_the_box():
    for box in ((100, 200, 140, 220), (110, 190, 130, 230)):
        affine = crop_affine(box, 101, 1.5)  # a square of 60 px around (120, 210)
        corners = apply_affine(invert_affine(affine), np.array([[0.0, 0.0], [100.0, 100.0]]))
        assert np.allclose(corners, [[90, 180], [150, 240]], atol=1e-9)


def test_a_scale_over_one_makes_the_face_larger():
    affine = crop_affine((0, 0, 20, 20), 41, 2.0, scale=2.0)  # 41 px show 20 px, not 40
    assert np.allclose(affine[:, :2], 2 * np.eye(2))


def test_a_positive_rotation_turns_the_face_counter_clockwise_as_seen():
    affine = crop_affine((0, 0, 100, 100), 101, 1.0, rotation=90)
    right_of_centre = np.array([[80.0, 50.0]])
    assert np.allclose(apply_affine(affine, right_of_centre), [[50, 20]], atol=1e-9)  # goes up: smaller y


def test_a_shift_moves_the_face_by_a_share_of_the_crop():
    plain, moved = crop_affine((0, 0, 10, 10), 50, 1.0), crop_affine((0, 0, 10, 10), 50, 1.0, shift=(0.1, -0.2))
    assert np.allclose(moved - plain, [[0, 0, 5], [0, 0, -10]], atol=1e-9)


def test_a_flip_mirrors_the_finished_crop_left_to_right():
    arguments = dict(scale=1.2, rotation=20, shift=(0.1, 0.05))
    points = np.array([[3.0, 4.0], [8.0, 1.0]])
    plain = apply_affine(crop_affine((0, 0, 10, 12), 32, 1.3, **arguments), points)
    mirrored = apply_affine(crop_affine((0, 0, 10, 12), 32, 1.3, flip=True, **arguments), points)
    assert np.allclose(mirrored, np.stack([31 - plain[:, 0], plain[:, 1]], 1), atol=1e-9)


@pytest.mark.parametrize("as_torch", [False, True])
def test_an_inverse_undoes_an_affine_and_compose_applies_the_first_first(as_torch):
    first = np.stack(
        [
            crop_affine((1, 2, 30, 40), 64, 1.2, rotation=r, shift=(0.1, 0.0), flip=f)
            for r, f in ((10, False), (-70, True))
        ]
    )
    second = np.stack([np.array([[0.5, 0.1, 3.0], [-0.2, 2.0, 1.0]])] * 2)
    points = np.arange(20, dtype=float).reshape(2, 5, 2)
    if as_torch:
        first, second, points = map(torch.from_numpy, (first, second, points))
    one_by_one = apply_affine(second, apply_affine(first, points))
    assert np.allclose(apply_affine(compose_affine(second, first), points), one_by_one, atol=1e-9)
    assert np.allclose(apply_affine(invert_affine(first), apply_affine(first, points)), points, atol=1e-9)


def test_an_affine_acts_on_x_and_y_in_that_order():
    affine = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, -1.0]])
    assert apply_affine(affine, np.array([[10.0, 100.0]])).tolist() == [[21.0, 299.0]]


def test_samples_at_pixel_centres_are_the_pixels_and_between_them_the_bilinear_mean():
    maps = torch.arange(12.0).view(1, 1, 3, 4)  # value = 4 y + x
    points = torch.tensor([[[0.0, 0.0], [3.0, 2.0], [1.0, 2.0], [0.5, 0.0], [2.25, 1.5]]])
    assert torch.allclose(sample(maps, points)[0, 0], torch.tensor([0.0, 11.0, 9.0, 0.5, 8.25]), atol=1e-5)


def test_of_two_cells_a_point_between_them_has_their_mean():
    maps, middle = torch.tensor([[[[2.0, 4.0]]]]), torch.tensor([[[0.5, 0.0]]])
    assert sample(maps, middle).item() == 3
    assert warp(maps, torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)).flatten().tolist() == [3, 4]


def test_samples_outside_take_the_border():
    maps = torch.ones(1, 1, 4, 4)
    outside = torch.tensor([[[-5.0, 1.0], [9.0, 9.0]]])
    assert sample(maps, outside).tolist() == [[[1.0, 1.0]]]


def test_a_map_of_one_cell_has_that_cell_everywhere_and_gives_points_and_flow_no_gradient():
    points = torch.tensor([[[0.0, 0.0], [3.0, -2.0]]], requires_grad=True)
    samples = sample(torch.full((1, 2, 1, 1), 5.0), points)
    flow = torch.full((1, 2, 1, 1), 7.0, requires_grad=True)
    warped = warp(torch.full((1, 1, 1, 1), 5.0), flow)
    (samples.sum() + warped.sum()).backward()
    assert samples.tolist() == [[[5.0, 5.0], [5.0, 5.0]]] and warped.item() == 5
    assert not points.grad.any() and not flow.grad.any()


@pytest.mark.parametrize("size", [(8, 8), (13, 31), (64, 48)])
def test_zero_flow_is_the_identity(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(warp(images, torch.zeros(2, 2, *size)), images, atol=1e-5)


@pytest.mark.parametrize("dx, dy", [(1, 0), (0, 1), (3, -2)])
def test_warping_by_whole_pixels_shifts_exactly(dx, dy):
    images = torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    flow = torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1).expand(1, 2, 12, 17)
    warped = warp(images, flow)
    x, y = slice(max(0, -dx), 17 - max(0, dx)), slice(max(0, -dy), 12 - max(0, dy))  # where the source lies inside
    source_x, source_y = slice(x.start + dx, x.stop + dx), slice(y.start + dy, y.stop + dy)
    assert torch.allclose(warped[..., y, x], images[..., source_y, source_x], atol=1e-5)


def test_warp_and_sample_agree():
    generator = torch.Generator().manual_seed(1)
    images, flow = torch.rand(2, 3, 9, 11, generator=generator), 3 * torch.randn(2, 2, 9, 11, generator=generator)
    points = (pixel_grid(9, 11) + flow).flatten(2).transpose(1, 2)
    assert torch.allclose(warp(images, flow).flatten(2), sample(images, points), atol=1e-5)


def test_the_pixel_grid_is_x_then_y():
    grid = pixel_grid(2, 3)
    assert grid[0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert grid[1].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_inside_counts_the_border_pixels():
    points = torch.tensor([[0.0, 0.0], [9.0, 4.0], [9.1, 4.0], [9.0, 4.1], [-0.1, 2.0]])
    assert inside(points, 5, 10).tolist() == [True, True, False, False, False]
