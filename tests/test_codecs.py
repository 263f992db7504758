"""Points -> codes -> points: within 0.1 px by heatmaps, exactly by a centre with offsets."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from tsal.codecs import (
    CentreCodec,
    HeatmapCodec,
    gather_cells,
    nearest_candidate,
    soft_argmax,
    to_distribution,
    with_background,
)
from tsal.config import Config
from tsal.model import Detector
from tsal.pseudo import detection_sources

STRIDE, SIGMA = 8, 6.0


def sub_pixel_grid(side: int, margin: float) -> torch.Tensor:
    """Points (1, K, 2) px at all sub-cell phases, x and y in different steps, ``margin`` px or more from the border."""
    x = torch.arange(margin, side - 1 - margin, 2.37)
    y = torch.arange(margin, side - 1 - margin, 3.11)
    return torch.cartesian_prod(x, y)[None]


def test_a_heatmap_is_indexed_by_row_then_column_and_is_one_at_its_point():
    maps = HeatmapCodec(6, STRIDE, SIGMA).encode(torch.tensor([[[11.5, 27.5]]]))  # column 1, row 3
    assert maps.shape == (1, 1, 6, 6) and maps[0, 0, 3, 1] == 1
    assert maps.flatten().argmax() == 3 * 6 + 1


def test_gaussian_values_by_hand():
    maps = HeatmapCodec(3, STRIDE, SIGMA).encode(torch.tensor([[[3.5, 3.5]]]))[0, 0]
    neighbour = math.exp(-0.5 * (8 / 6) ** 2)  # one cell = 8 px away
    assert torch.allclose(maps[0], torch.tensor([1.0, neighbour, neighbour**4]), atol=1e-6)
    assert torch.allclose(maps[1, 1], torch.tensor(neighbour**2), atol=1e-6)


def test_laplacian_values_by_hand():
    maps = HeatmapCodec(3, STRIDE, SIGMA, "laplacian").encode(torch.tensor([[[3.5, 3.5]]]))[0, 0]
    neighbour = math.exp(-math.sqrt(2) * 8 / 6)
    assert torch.allclose(maps[0], torch.tensor([1.0, neighbour, neighbour**2]), atol=1e-6)
    assert torch.allclose(maps[1, 1], torch.tensor(neighbour**2), atol=1e-6)


@pytest.mark.parametrize("shape", ["gaussian", "laplacian"])
def test_sigma_is_the_standard_deviation_of_either_shape_along_each_axis(shape):
    maps = to_distribution(HeatmapCodec(201, 1, SIGMA, shape).encode(torch.tensor([[[100.0, 100.0]]])))[0, 0]
    where = torch.arange(201.0) - 100
    assert math.sqrt(float((maps.sum(0) * where**2).sum())) == pytest.approx(SIGMA, rel=0.01)
    assert math.sqrt(float((maps.sum(1) * where**2).sum())) == pytest.approx(SIGMA, rel=0.01)


def test_the_background_is_one_less_the_nearest_landmark():
    maps = with_background(torch.tensor([[[[0.2, 0.0]], [[0.7, 0.1]]]]))
    assert torch.allclose(maps[0, 2], torch.tensor([[0.3, 0.9]]))


def test_a_distribution_sums_to_one_and_an_empty_map_stays_finite():
    faint = torch.zeros(2, 4, 4)
    faint[:, 1, 1:3] = torch.tensor([0.01, 0.03])
    maps = to_distribution(torch.stack([faint, torch.zeros(2, 4, 4)]))
    assert torch.allclose(maps[0, :, 1, 1:3], torch.tensor([0.25, 0.75])) and maps[0].sum() == 2
    assert torch.equal(maps[1], torch.zeros(2, 4, 4))


@pytest.mark.parametrize("profile", ["demo", "faces", "smoke", "paper"])
def test_encode_decode_is_within_a_tenth_of_a_pixel_in_every_profile(profile):
    model = Config.load(profile).model
    codec = Detector(1, model).heatmap_codec
    points = sub_pixel_grid(model.input, 3 * model.sigma)
    drawn = codec.encode(points)
    maps = to_distribution(drawn).clamp_min(1e-30).log() if model.heatmap == "distribution" else drawn
    maps = torch.cat([maps, torch.zeros_like(maps[:, :1])], 1)
    decoded, _ = codec.decode(maps)
    assert points.shape[1] > 50 and (decoded - points).abs().max() < 0.1


@pytest.mark.parametrize("kind, radius, side", [("distribution", 0, 96), ("regression", 3, 256)])
def test_encode_decode_is_within_a_tenth_of_a_pixel_at_the_paper_s_sigma(kind, radius, side):
    points = sub_pixel_grid(side, 3 * SIGMA)
    codec = HeatmapCodec(side // STRIDE, STRIDE, SIGMA, kind=kind, radius=radius)
    drawn = codec.encode(points)
    maps = with_background(to_distribution(drawn).clamp_min(1e-30).log() if kind == "distribution" else drawn)
    assert (codec.decode(maps)[0] - points).abs().max() < 0.1


def test_the_centre_of_mass_is_x_then_y_in_pixels():
    weights = torch.zeros(1, 1, 4, 5)
    weights[0, 0, 2, 1], weights[0, 0, 2, 2] = 3, 1  # row 2, column 1.25
    assert soft_argmax(weights, STRIDE).tolist() == [[[1.75 * 8 - 0.5, 2.5 * 8 - 0.5]]]


def test_a_local_window_leaves_far_mass_out():
    weights = torch.zeros(1, 1, 9, 9)
    weights[0, 0, 4, 2], weights[0, 0, 4, 8] = 1.0, 0.9
    assert soft_argmax(weights, 1, radius=2)[0, 0].tolist() == [2.0, 4.0]
    assert soft_argmax(weights, 1)[0, 0, 0] == pytest.approx((2 + 7.2) / 1.9, abs=1e-5)


@pytest.mark.parametrize("radius", [1, 2])
def test_a_local_window_has_the_cells_up_to_its_radius_on_every_side(radius):
    """The peak is at (4, 4); of two equal values on a side the nearer one is in the window, the other is not."""
    for axis in (0, 1):
        for side in (-1, 1):
            weights = torch.zeros(1, 1, 9, 9)
            for distance, weight in ((0, 0.02), (radius, 0.01), (radius + 1, 0.01)):  # faint maps too have a centre
                place = [4, 4]
                place[axis] += side * distance
                weights[0, 0, place[1], place[0]] = weight
            expected = [4.0, 4.0]
            expected[axis] += side * radius / 3
            assert soft_argmax(weights, 1, radius)[0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_point_that_is_learned_through_is_that_of_the_whole_distribution():
    logits = torch.full((1, 2, 1, 9), -100.0)
    logits[0, 0, 0, [0, 8]] = torch.tensor([0.75, 0.25]).log()
    codec = HeatmapCodec(9, 1, SIGMA, radius=2)
    assert codec.expectation(logits)[0, 0].tolist() == pytest.approx([2.0, 0.0], abs=1e-5)
    assert codec.decode(logits)[0][0, 0].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)


def test_an_empty_map_decodes_to_something_finite():
    maps = torch.full((1, 3, 4, 4), -1.0)
    points, score = HeatmapCodec(0, STRIDE, SIGMA, kind="regression", radius=3).decode(maps)
    assert points.isfinite().all() and score.tolist() == [[0.0, 0.0]]


def test_the_score_is_the_peak_and_of_a_distribution_the_mass_around_it():
    values = torch.zeros(1, 2, 5, 5)
    values[0, 0, 2, 2:4] = torch.tensor([0.6, 0.8])
    codec = HeatmapCodec(0, STRIDE, SIGMA, kind="regression", radius=3)
    assert codec.decode(values)[1].item() == pytest.approx(0.8) and codec.decode(2 * values)[1].item() == 1
    even = torch.zeros(1, 2, 5, 5)  # the same probability everywhere
    assert HeatmapCodec(0, STRIDE, SIGMA).decode(even)[1].item() == pytest.approx(9 / 25)


def test_the_background_channel_is_no_landmark():
    maps = torch.zeros(2, 5, 6, 6)
    points, score = HeatmapCodec(0, STRIDE, SIGMA).decode(maps)
    assert points.shape == (2, 4, 2) and score.shape == (2, 4)


def test_the_centre_cell_is_x_then_y_and_clipped_to_the_map():
    centres = torch.tensor([[11.5, 27.5], [8.0, 7.4], [-50.0, 999.0]])
    assert CentreCodec(6, STRIDE, SIGMA).cell(centres).tolist() == [[1, 3], [1, 0], [0, 5]]


def test_a_drawn_centre_is_exactly_one_at_the_one_cell_that_holds_it():
    maps = CentreCodec(6, STRIDE, SIGMA).encode(torch.tensor([[13.1, 25.7], [40.0, 2.0]]))
    assert maps.shape == (2, 1, 6, 6)
    assert (maps == 1).sum((1, 2, 3)).tolist() == [1, 1]
    assert maps[0, 0, 3, 1] == 1 and maps[1, 0, 0, 5] == 1


def test_encode_decode_of_a_centre_with_offsets_is_exact():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(5, 7, 2, generator=generator) * 140 - 20  # also landmarks outside the crop
    centre = torch.rand(5, 2, generator=generator) * 90 + 2
    codec = CentreCodec(12, STRIDE, SIGMA)
    cell = codec.cell(centre)
    offsets = torch.full((5, 14, 12, 12), 99.0)
    offsets[torch.arange(5), :, cell[:, 1], cell[:, 0]] = codec.encode_offsets(points, cell).flatten(1)
    decoded, score = codec.decode(codec.encode(centre).logit(), offsets)
    assert torch.allclose(decoded[:, 0], points, atol=1e-4)
    assert score.tolist() == [[1.0]] * 5


def test_offsets_are_in_cells_from_the_middle_of_the_cell():
    offsets = CentreCodec(6, STRIDE, SIGMA).encode_offsets(
        torch.tensor([[[11.5, 3.5], [3.5, 19.5]]]), torch.tensor([[0, 0]])
    )
    assert offsets.tolist() == [[[1.0, 0.0], [0.0, 2.0]]]


def test_candidates_come_best_first_and_a_neighbour_of_a_better_cell_is_none():
    centre = torch.zeros(1, 1, 6, 6)
    centre[0, 0, 1, 4] = 0.9  # row 1, column 4
    centre[0, 0, 2, 3] = 0.8  # touches it: suppressed
    centre[0, 0, 4, 1] = 0.5
    centre[0, 0, 5, 5] = 0.7
    points, score = CentreCodec(6, STRIDE, SIGMA, 3).decode(centre.logit(), torch.zeros(1, 2, 6, 6))
    assert score.tolist() == [[pytest.approx(0.9), pytest.approx(0.7), pytest.approx(0.5)]]
    assert points[0, :, 0].tolist() == [[35.5, 11.5], [43.5, 43.5], [11.5, 35.5]]


def test_a_suppressed_cell_is_no_candidate_however_many_are_asked_for():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    centre = (0.9 - 0.1 * ((x - 2) ** 2 + (y - 3) ** 2).sqrt())[None, None]  # one hill, its top in column 2, row 3
    points, _ = CentreCodec(6, STRIDE, SIGMA, 5).decode(centre.logit(), torch.zeros(1, 2, 6, 6))
    assert points[0, :, 0].tolist() == [[19.5, 27.5]] * 5


def test_a_sure_centre_in_half_precision_has_one_best_cell():
    """Of 6.5 and of 7 the sigmoid is 1 in bfloat16."""
    centre = torch.full((1, 1, 6, 6), -9.0)
    centre[0, 0, 1, 3], centre[0, 0, 1, 4] = 6.5, 7.0
    points, _ = CentreCodec(6, STRIDE, SIGMA, 2).decode(centre.bfloat16(), torch.zeros(1, 2, 6, 6))
    assert points[0, 0, 0].tolist() == [35.5, 11.5] and points[0, 1, 0].tolist() != [27.5, 11.5]


def test_offset_channels_are_x0_y0_x1_y1():
    centre = torch.zeros(1, 1, 3, 3)
    centre[0, 0, 0, 0] = 1
    offsets = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1).expand(1, 4, 3, 3)
    points, _ = CentreCodec(6, STRIDE, SIGMA, 1).decode(centre.logit(), offsets)
    assert points[0, 0].tolist() == [[11.5, 19.5], [27.5, 35.5]]


def test_gathered_cells_are_counted_along_rows():
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert gather_cells(maps, torch.tensor([[5, 11]])).tolist() == [[[5.0, 17.0], [11.0, 23.0]]]


def test_the_nearest_candidate_is_the_one_with_the_least_mean_distance():
    reference = torch.zeros(2, 2, 2)
    near, far = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[6.0, 0.0], [0.0, 1.0]])  # mean 3 and 3.5
    candidates = torch.stack([torch.stack([far, near]), torch.stack([near, far])])
    assert nearest_candidate(candidates, reference).tolist() == [1, 0]


def test_the_centre_source_has_the_points_and_the_score_of_the_nearest_candidate():
    points = torch.zeros(2, 3, 2)
    candidates = torch.stack(
        [torch.stack([points[0] + far, points[0] + near]) for far, near in ((9.0, 1.0), (2.0, 5.0))]
    )
    scores = torch.tensor([[0.8, 0.3], [0.6, 0.5]])  # best first, whichever is near
    detector = SimpleNamespace(heatmap=lambda _: (points, torch.ones(2, 3)), centre=lambda _: (candidates, scores))
    centre = detection_sources(detector, None)["centre"]
    assert centre.points[:, 0, 0].tolist() == [1, 2]
    assert torch.equal(centre.score, torch.tensor([[0.3] * 3, [0.6] * 3]))


def test_decoding_changes_nothing_that_it_is_given():
    generator = torch.Generator().manual_seed(0)
    maps, logits, offsets = (torch.randn(1, channels, 4, 4, generator=generator) for channels in (3, 1, 4))
    before = [x.clone() for x in (maps, logits, offsets)]
    HeatmapCodec(0, STRIDE, SIGMA, kind="regression", radius=1).decode(maps)
    CentreCodec(6, STRIDE, SIGMA, 2).decode(logits, offsets)
    assert all(torch.equal(a, b) for a, b in zip((maps, logits, offsets), before))
