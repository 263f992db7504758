"""The tracker: flow in pixels, what gates a track, the losses that teach it, and pairs whose flow is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import Shift

from tsal.data.batches import PointPairs
from tsal.geometry import pixel_grid, warp
from tsal.tracker import training
from tsal.tracker.losses import (
    FlowWeights,
    census_distance,
    census_loss,
    detection_consistency,
    endpoint_error,
    grey,
    masked_mean,
    point_loss,
    smoothness,
    supervised_flow_loss,
    unsupervised_flow_loss,
)
from tsal.tracker.lucas_kanade import LucasKanade, refine_lk
from tsal.tracker.network import (
    FlowEstimate,
    FlowNet,
    both_directions,
    cost_volume,
    enlarge,
    expected_displacement,
    track_frames,
)
from tsal.tracker.points import forward_backward_error, occlusion_mask, reconstruct_next, track_points
from tsal.tracker.training import point_pairs_loss, synthetic_flow_loss, video_loss
from tsal.tracker.warped_pairs import Motion, random_flow, synthetic_pair

STILL = Motion(shift=0.0, rotation=0.0, scale=0.0, elastic=0.0)


def tiny_net(seed: int = 0, iterations: tuple[int, ...] = (1,)) -> FlowNet:
    torch.manual_seed(seed)
    return FlowNet((8, 16, 16), search=3, finest=2, width=16, iterations=iterations)


@pytest.fixture(autouse=True)
def one_thread():
    """Maps this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def textured(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images (n, 3, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    knots = torch.rand(n, 3, height // 4, width // 4, generator=generator)
    return F.interpolate(knots, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)


def constant(x: float, y: float, n: int = 1, height: int = 12, width: int = 16) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(n, 2, height, width).clone()


def perturbed(net: FlowNet) -> FlowNet:
    """Any net but the untrained one, whose flow is zero."""
    torch.manual_seed(1)
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return net.eval()


# --- the network ---


@pytest.mark.parametrize("height, width", [(32, 48), (33, 45), (8, 5)])
def test_untrained_network_gives_zero_flow_of_the_input_s_size(height, width):
    estimate = tiny_net()(torch.rand(2, 3, height, width), torch.rand(2, 3, height, width))
    pyramid = estimate.flows
    assert [flow.shape for flow in pyramid] == [
        (2, 2, height, width),
        *((2, 2, -(-height // s), -(-width // s)) for s in (4, 8)),
    ]
    assert all((flow == 0).all() for flow in pyramid)
    assert estimate.seen.shape == (2, 1, height, width)


def test_every_level_of_the_pyramid_is_in_pixels_of_the_input():
    net = tiny_net()
    net.estimator.flow.bias.data = torch.tensor([1.0, 0.0])  # one cell to the right at each level
    full, fine, coarse = net(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)).flows
    # The context network's last layer is zero: one cell of stride 8, then one of stride 4 more.
    assert torch.allclose(coarse, constant(8.0, 0.0, 1, 4, 4), atol=1e-5)
    assert torch.allclose(fine, constant(12.0, 0.0, 1, 8, 8), atol=1e-5)
    assert torch.allclose(full, constant(12.0, 0.0, 1, 32, 32), atol=1e-5)


def test_enlarging_mixes_the_cells_around_by_their_weights():
    flow = torch.arange(18.0).view(1, 2, 3, 3)
    logits = torch.zeros(1, 9, 2, 2, 3, 3)  # cell, y and x within it
    logits[0, 5, 0, 1] = 100.0  # the upper right pixel of each cell takes its right neighbour
    logits[0, 4, 1, 0] = 100.0  # the lower left one its own cell
    large = enlarge(flow, logits.flatten(1, 3))
    assert torch.allclose(large[0, :, 2, 3], flow[0, :, 1, 2])
    assert torch.allclose(large[0, :, 3, 2], flow[0, :, 1, 1])
    assert torch.allclose(large[0, :, 2, 2], flow[0].mean((1, 2)))  # equal weights: the mean of the nine
    assert torch.allclose(enlarge(torch.ones(1, 2, 3, 3), torch.randn(1, 36, 3, 3)), torch.ones(1, 2, 6, 6))


def test_a_level_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="finest"):
        FlowNet((8, 16), finest=3)


def test_cost_volume_is_the_mean_product_at_every_displacement():
    first, second, search = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 6, 7), 2
    costs = cost_volume(first, second, search)
    assert costs.shape == (2, 25, 6, 7)
    for y, x, dy, dx in [(3, 3, -2, 1), (2, 4, 2, 2), (5, 0, -1, 0), (3, 2, 0, -2)]:
        expected = (first[:, :, y, x] * second[:, :, y + dy, x + dx]).mean(1)
        assert torch.allclose(costs[:, (dy + search) * 5 + dx + search, y, x], expected, atol=1e-6)
    assert (costs[:, 0, 0] == 0).all()  # two rows up from the first row lies outside


def test_cost_volume_peaks_at_the_shift_of_the_image():
    features = F.normalize(torch.randn(1, 16, 14, 14), dim=1)
    moved = features.roll((1, -2), dims=(2, 3))  # one down, two to the left
    costs = cost_volume(features, moved, 3)[:, :, 4:10, 4:10]
    assert (costs.argmax(1) == (1 + 3) * 7 + (-2 + 3)).all()
    displacement = expected_displacement(costs * 16, 100.0)
    assert torch.allclose(displacement, constant(-2.0, 1.0, 1, 6, 6), atol=1e-2)


@pytest.mark.parametrize("height, width", [(32, 32), (30, 41)])
def test_both_directions_in_one_call_are_two_single_calls(height, width):
    net = perturbed(tiny_net())
    first, second = torch.rand(2, 3, height, width), torch.rand(2, 3, height, width)
    with torch.no_grad():
        forward, backward = both_directions(net, first, second)
        for batched, single in zip(forward + backward, net(first, second).flows + net(second, first).flows):
            assert (batched - single).abs().max() <= 1e-5 * single.abs().max() and single.abs().max() > 1


def test_autocast_and_channels_last_change_the_flow_by_rounding_only():
    net = perturbed(tiny_net())
    first, second = textured(1, 32, 32), textured(1, 32, 32, seed=1)
    with torch.no_grad():
        expected = net(first, second).flows[0]
        last = net(*(x.contiguous(memory_format=torch.channels_last) for x in (first, second))).flows[0]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(first, second).flows[0]
    assert (last - expected).abs().max() <= 1e-5 * expected.abs().max() and expected.abs().max() > 1
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - expected).norm() < 2**-6 * expected.norm()  # four times bfloat16's last bit


# --- tracks and their gates ---


def test_reconstruct_next_by_a_whole_shift_is_exact():
    previous = torch.rand(1, 3, 12, 16)
    following = previous.roll((2, 3), dims=(2, 3))  # everything moves 3 right and 2 down
    rebuilt = reconstruct_next(previous, constant(-3.0, -2.0))
    assert torch.allclose(rebuilt[..., 2:, 3:], following[..., 2:, 3:], atol=1e-5)


def test_forward_backward_error_is_zero_for_inverse_flows_and_the_distance_for_others():
    forward = constant(2.0, -1.0)
    assert torch.allclose(forward_backward_error(forward, -forward), torch.zeros(1, 12, 16), atol=1e-6)
    assert torch.allclose(
        forward_backward_error(forward, constant(1.0, 3.0) - forward), torch.full((1, 12, 16), 10**0.5)
    )


def test_occlusion_mask_marks_leaving_pixels_and_disagreement():
    forward = constant(3.0, 0.0)
    leaving = torch.zeros(1, 12, 16, dtype=torch.bool)
    leaving[..., 13:] = True
    assert torch.equal(occlusion_mask(forward, -forward), leaving)
    # 1 px of disagreement against 0.01 (9 + 4) + 0.5: occluded everywhere; 0.5 px is below that.
    assert occlusion_mask(forward, constant(-2.0, 0.0)).all()
    assert torch.equal(occlusion_mask(forward, constant(-2.5, 0.0)), leaving)


def test_track_points_moves_by_the_flow_and_gates_points_that_leave():
    points = torch.tensor([[[2.0, 3.0], [4.25, 5.5], [14.0, 1.0], [-1.0, 2.0]]])
    tracked = track_points(points, constant(3.0, -0.5), constant(-3.0, 1.5))
    assert torch.allclose(tracked.points, points + torch.tensor([3.0, -0.5]), atol=1e-5)
    assert torch.allclose(tracked.error, torch.ones(1, 4), atol=1e-5)
    assert tracked.inside.tolist() == [[True, True, False, False]]


# --- losses ---


def test_grey_is_the_luma_of_a_colour():
    colours = torch.eye(3)[:, :, None, None]
    assert grey(colours).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert torch.equal(grey(colours[:, :1]), colours[:, :1])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_census_distance_of_a_pixel_by_hand(channels):
    """Of the four neighbours of radius 1 that are looked at, one is 3 grey levels brighter in the second image."""
    first = torch.full((1, channels, 5, 5), 0.5)
    second = first.clone()
    second[..., 1, 1] += 3 / 255
    sign = 9 / (9 + 0.81)  # squared
    assert census_distance(first, second, 1)[0, 0, 2, 2].item() == pytest.approx(sign / (sign + 0.1) / 4, rel=1e-4)


def test_what_a_flow_is_tuned_by_is_the_weighted_sum_of_its_terms():
    first, second, flow = textured(1, 16, 20), textured(2, 16, 20)[1:], constant(1.5, 0.5, 1, 16, 20)
    flow[..., 10:] = 3
    seen, weights = torch.ones(1, 16, 20, dtype=torch.bool), FlowWeights(census=2.0, smoothness=3.0, consistency=0.5)
    frames = first, second, flow, -flow, seen, seen
    loss, terms = unsupervised_flow_loss(*frames, weights, lambda images: images[:, :1])
    assert min(terms.values()) > 0
    assert loss.item() == pytest.approx(2 * terms["census"] + 3 * terms["smoothness"] + 0.5 * terms["consistency"])
    alone, terms = unsupervised_flow_loss(*frames, weights)
    assert terms["consistency"] == 0 and alone.item() == pytest.approx(2 * terms["census"] + 3 * terms["smoothness"])


def test_census_loss_is_zero_for_equal_images_and_blind_to_brightness():
    image = textured(1, 20, 24) * 0.8
    assert census_loss(image, image).item() == pytest.approx(0, abs=1e-6)
    assert census_distance(image, image + 0.1)[..., 3:-3, 3:-3].max() < 1e-6
    assert census_loss(image, warp(image, constant(2.0, 0.0, 1, 20, 24))) > 0.1


def test_census_loss_counts_no_masked_pixel_and_survives_an_empty_mask():
    image, other = textured(1, 20, 24), textured(1, 20, 24)
    other[..., 15:, 18:] = 0.3
    mask = torch.ones(1, 1, 20, 24)
    mask[..., 12:, 15:] = 0  # three more pixels: patches that reach the change
    assert census_loss(image, other, mask).item() == pytest.approx(0, abs=1e-6)
    other = other.requires_grad_()
    empty = census_loss(image, other, torch.zeros(1, 1, 20, 24))
    empty.backward()
    assert empty.item() == 0 and (other.grad == 0).all()


def test_smoothness_is_zero_for_constant_flow_and_lower_across_an_edge():
    image = torch.zeros(1, 3, 12, 16)
    assert smoothness(constant(3.0, -2.0), image).item() == pytest.approx(0, abs=1e-6)
    step = constant(0.0, 0.0)
    step[:, 0, :, 8:] = 1.0
    # One of the 15 differences along x is 1, in one of two channels, and the two axes are averaged.
    assert smoothness(step, image).item() == pytest.approx(1 / 15 / 2 / 2, rel=0.01)
    image[..., 8:] = 1.0
    assert smoothness(step, image).item() < 1e-4


def test_endpoint_error_by_hand():
    truth = constant(0.0, 0.0)
    flow = constant(3.0, 4.0)
    flow[..., 8:] = 0.0
    assert endpoint_error(flow, truth).item() == pytest.approx(2.5)
    mask = torch.zeros(1, 12, 16, dtype=torch.bool)
    assert endpoint_error(flow, truth, mask).item() == 0
    mask[..., :8] = True
    assert endpoint_error(flow, truth, mask).item() == pytest.approx(5.0)


def test_masked_values_may_be_anything():
    values, mask = torch.tensor([1.0, float("nan"), 3.0]), torch.tensor([True, False, True])
    assert masked_mean(values, mask).item() == 2.0


def test_supervised_loss_looks_at_valid_pixels_at_every_level():
    truth, valid = constant(2.0, 1.0), torch.ones(1, 12, 16, dtype=torch.bool)
    truth[..., 8:], valid[..., 8:] = 99.0, False
    right = [constant(2.0, 1.0), constant(2.0, 1.0, 1, 3, 4)]
    weights = FlowWeights(synthetic_levels=(1.0, 1.0), earlier=0.5)
    seen = torch.zeros(1, 1, 12, 16)
    loss = supervised_flow_loss(FlowEstimate(right, seen), truth, valid, weights)
    assert loss.item() == pytest.approx(0.2)  # 2 sqrt(0.01)
    earlier = (constant(2.0, 10.0, 1, 3, 4),)
    assert supervised_flow_loss(FlowEstimate(right, seen, earlier), truth, valid, weights).item() == pytest.approx(1.7)
    deeper = FlowEstimate([*right, constant(2.0, 10.0, 1, 3, 4)], seen)  # of three levels, the third off by 9 px
    weights = FlowWeights(synthetic_levels=(1.0, 0.5))
    loss = supervised_flow_loss(deeper, truth, valid, weights)
    assert loss.item() == pytest.approx(0.1 + 0.05 + 0.5 * 3, rel=1e-3)  # a level without a weight of its own: the last


def test_the_points_loss_reads_every_level_at_the_point_and_counts_points_that_both_frames_show():
    x, y = pixel_grid(16, 16)
    levels = [F.avg_pool2d(torch.stack([x / 4, -y / 8])[None], side) for side in (1, 4)]  # exact at cell centres
    points = torch.tensor([[[5.0, 7.0], [9.25, 4.5], [2.0, 3.0], [6.0, 6.0]]])
    moved = points + torch.stack([points[..., 0] / 4, -points[..., 1] / 8], -1)
    moved[0, 2:] += 5.0
    here, there = torch.tensor([[True, True, True, False]]), torch.tensor([[True, True, False, True]])
    seen = torch.full((1, 1, 16, 16), 2.0)
    weights = FlowWeights(synthetic_levels=(1.0, 0.5), earlier=0.25, seen=2.0, hidden=3.0)
    loss, terms = point_loss(FlowEstimate(levels, seen, (levels[1] + 10,)), points, moved, here, there, weights)
    right, wrong = 0.001**0.3, 200.001**0.3  # 10 px in x and in y
    entropy = (2 * math.log1p(math.exp(-2)) + 3 * math.log1p(math.exp(2))) / 5  # two seen ones, a hidden one
    assert loss.item() == pytest.approx(1.5 * right + 0.25 * wrong + 2 * entropy, rel=1e-4)
    assert terms["endpoint_error"] < 1e-4 and terms["seen"].item() == pytest.approx(entropy, rel=1e-4)
    nothing = torch.zeros_like(here)
    assert point_loss(FlowEstimate(levels, seen), points, moved, nothing, there, weights)[0] == 0


def test_earlier_flows_have_the_size_of_their_level_in_an_image_of_any_size():
    estimate = tiny_net(iterations=(2,))(torch.rand(1, 3, 21, 18), torch.rand(1, 3, 21, 18))
    assert [flow.shape[-2:] for flow in estimate.earlier] == [(3, 3), (6, 5)]  # strides 8 and 4


def test_detection_consistency_by_hand_and_its_gradient_reaches_the_warped_side_only():
    real, warped = torch.zeros(2, 1, 2, 2, requires_grad=True), torch.ones(2, 1, 2, 2, requires_grad=True)
    loss = detection_consistency(real, warped * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    loss.backward()
    # 1 and 9, of as many maps of 4 cells: a sum, since a mean over nearly empty maps is too small to teach anything
    assert loss.item() == 20 and real.grad is None and warped.grad.abs().min() > 0


@pytest.mark.parametrize("hidden, costs", [((), True), (("first",), False), (("second",), True)])
def test_occluded_pixels_of_a_frame_are_left_out_of_what_the_other_explains_of_it(hidden, costs):
    """Two equal frames; the flow from the first errs in a block, of which a pixel's patch sees 3 px more."""
    image, flow = textured(1, 24, 28), torch.zeros(1, 2, 24, 28)
    wrong = flow.clone()
    wrong[..., 10:14, 12:16] = 4
    seen = {name: torch.ones(1, 24, 28, dtype=torch.bool) for name in ("first", "second")}
    for name in hidden:
        seen[name][:, 7:17, 9:19] = False
    weights = FlowWeights(smoothness=0.0)
    loss, terms = unsupervised_flow_loss(image, image, wrong, flow, seen["first"], seen["second"], weights)
    assert (loss > 1e-3) == costs and (terms["census"] > 1e-3) == costs
    assert costs or loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("use_occlusion", [True, False])
def test_each_frame_s_own_pixels_that_leave_it_are_left_out(use_occlusion, monkeypatch):
    masks = []
    zero = torch.zeros(())
    monkeypatch.setattr(
        training, "unsupervised_flow_loss", lambda *arguments: (masks.append(arguments[4:6]), (zero, {}))[1]
    )
    video_loss(Shift(3.0, 0.0), *torch.rand(2, 1, 3, 12, 16), use_occlusion=use_occlusion)
    first, second = torch.ones(2, 1, 12, 16, dtype=torch.bool)
    first[..., 13:] = False  # to the right by 3 px
    second[..., :3] = False  # and back
    assert torch.equal(masks[0][0], first) and torch.equal(masks[0][1], second)


# --- pairs whose flow is known ---


def drawn_flow(motion: Motion, n: int = 200, seed: int = 0) -> torch.Tensor:
    return random_flow(n, 24, 32, torch.Generator().manual_seed(seed), motion=motion)


def from_middle() -> torch.Tensor:
    return pixel_grid(24, 32) - torch.tensor([15.5, 11.5]).view(2, 1, 1)


def test_random_flow_follows_the_seed_and_without_motion_is_still():
    flow = drawn_flow(Motion(), 3)
    assert torch.equal(flow, drawn_flow(Motion(), 3)) and not torch.equal(flow, drawn_flow(Motion(), 3, seed=1))
    assert drawn_flow(STILL).abs().max() < 1e-5


def test_a_random_shift_is_of_the_whole_image_and_within_its_share_of_the_longer_side():
    flow = drawn_flow(STILL._replace(shift=0.1))
    assert torch.allclose(flow, flow[..., :1, :1].expand_as(flow), atol=1e-5)
    sizes = flow[..., 0, 0].abs()
    assert 0.8 * 3.2 < sizes.max() <= 3.2 and flow.min() < -2 and flow.max() > 2
    assert sizes.median() < 0.25 * 3.2  # small ones are the frequent ones: the median of an even draw is a half


def test_a_random_rotation_is_about_the_middle_and_within_its_degrees():
    places = from_middle()
    turned = places + drawn_flow(STILL._replace(rotation=8.0))
    assert torch.allclose(turned.norm(dim=1), places.norm(dim=0).expand(200, 24, 32), atol=1e-4)
    (x, y), (turned_x, turned_y) = places, turned.unbind(1)
    angles = torch.rad2deg(torch.atan2(x * turned_y - y * turned_x, x * turned_x + y * turned_y))
    assert torch.allclose(angles, angles[:, :1, :1].expand_as(angles), atol=1e-3)
    assert -8.001 < angles.min() < -7.5 and 7.5 < angles.max() < 8.001


def test_a_random_scale_is_about_the_middle_and_within_its_share():
    flow, places = drawn_flow(STILL._replace(scale=0.2)), from_middle()
    growth = flow[:, 0, 0, 0] / places[0, 0, 0]
    assert torch.allclose(flow, growth.view(-1, 1, 1, 1) * places, atol=1e-4)
    assert -0.2 <= growth.min() < -0.19 and 0.19 < growth.max() <= 0.2


def test_a_random_elastic_flow_has_its_deviation_and_is_smooth():
    flow = drawn_flow(STILL._replace(elastic=0.05), 2000)
    corner = flow[..., 0, 0]  # a knot: a normal draw times an even one from 0 to 1
    assert corner.std().item() == pytest.approx(0.05 * 32 / 3**0.5, rel=0.1) and corner.mean().abs() < 0.1
    assert max(flow.diff(dim=-1).std(), flow.diff(dim=-2).std()) < 0.3 * flow.std()


def test_synthetic_pair_warps_back_exactly_where_valid():
    images = textured(4, 48, 56)
    first, second, flow, valid = synthetic_pair(images, torch.Generator().manual_seed(3), photometric=False)
    difference = (warp(second, flow) - first).abs().amax(1)
    # The patch's edge may take 0.1 % of the other layer.
    assert 0.5 < valid.float().mean() < 1 and difference[valid].max() < 2e-3
    assert difference[~valid].max() > 0.1


def test_synthetic_pair_changes_light_of_either_frame_and_follows_the_seed():
    images = textured(2, 32, 32)
    pair = synthetic_pair(images, torch.Generator().manual_seed(5), STILL, layers=False)
    again = synthetic_pair(images, torch.Generator().manual_seed(5), STILL, layers=False)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = synthetic_pair(images, torch.Generator().manual_seed(5), STILL, layers=False)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(pair, again, autocast))
    first, second, flow, valid = pair
    assert valid.all() and flow.abs().max() < 1e-5
    assert (first - second).abs().mean() > 0.01 and (first - images).abs().mean() > 0.01
    assert 0 <= min(first.min(), second.min()) and max(first.max(), second.max()) <= 1


# --- learning ---


def shifted_pair(shift: tuple[float, float], n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    second = textured(n, 32, 32)
    flow = constant(*shift, n, 32, 32)
    return warp(second, flow), second, flow


def test_lucas_kanade_takes_half_a_pixel_of_error_away():
    first, second, truth = shifted_pair((1.3, -0.6))
    start = truth + torch.tensor([0.4, -0.3]).view(1, 2, 1, 1)
    inner = torch.zeros(4, 32, 32, dtype=torch.bool)
    inner[:, 6:-6, 6:-6] = True
    assert endpoint_error(start, truth, inner).item() == pytest.approx(0.5)
    assert endpoint_error(refine_lk(first, second, start), truth, inner) < 0.1


def test_track_frames_gives_the_flow_there_and_back_in_the_input_s_pixels():
    first, second, truth = shifted_pair((1.3, -0.6))
    forward, backward = track_frames(LucasKanade(levels=1), first, second)
    still = torch.zeros_like(truth)
    assert torch.equal(forward[:, :2], refine_lk(first, second, still, 5))
    assert torch.equal(backward[:, :2], refine_lk(second, first, still, 5))
    assert (forward[:, 2] > 0.99).all() and (backward[:, 2] > 0.99).all()  # it knows of nothing hidden


# from random weights the photometric loss has more minima than one: an initialisation, rate and shift whose
# descent rounding does not change
@pytest.mark.parametrize(
    "phase, steps, remains, seed, rate, shift",
    [("known flow", 80, 0.6, 0, 5e-3, (2.5, -1.5)), ("video", 30, 0.2, 1, 2e-3, (1.2, -0.8))],
)
def test_a_few_steps_learn_a_translation(phase, steps, remains, seed, rate, shift):
    net, generator = tiny_net(seed), torch.Generator().manual_seed(0)
    first, second, truth = shifted_pair(shift)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    weights, motion = FlowWeights(smoothness=1.0), STILL._replace(shift=0.15)
    for _ in range(steps):
        if phase == "known flow":
            loss, terms = synthetic_flow_loss(net, *synthetic_pair(first, generator, motion), weights)
        else:
            loss, terms = video_loss(net, first, second, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        after = endpoint_error(net(first, second).flows[0], truth)
    assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
    assert after < remains * endpoint_error(torch.zeros_like(truth), truth)


def test_points_teach_the_flow_both_ways_and_what_the_other_frame_hides():
    net, (first, second, truth) = tiny_net(), shifted_pair((2.5, -1.5))
    second[..., 18:] = 0.0  # something black comes before the right of the second frame
    points = torch.rand((4, 200, 2), generator=torch.Generator().manual_seed(0)) * 25 + 3
    moved = points + truth[:, :, 0, 0][:, None]
    seen = moved[..., 0] < 17
    pairs = PointPairs(first, second, points, moved, torch.ones_like(seen), seen, seed=0)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(80):
        loss, _ = point_pairs_loss(net, first, second, pairs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        forward, backward = track_frames(net, first, second)
    still = endpoint_error(torch.zeros_like(truth), truth)
    left = torch.zeros(4, 32, 32, dtype=torch.bool)
    left[:, 4:28, 4:12] = True  # seen in both frames
    assert endpoint_error(forward[:, :2], truth, left) < 0.3 * still
    assert endpoint_error(backward[:, :2], -truth, left) < 0.3 * still
    assert forward[:, 2][left].min() > 0.5 and forward[:, 2, 4:28, 20:].max() < 0.5


def test_detection_consistency_teaches_the_flow_through_a_frozen_detector():
    net, (first, second, truth) = tiny_net(), shifted_pair((2.0, 0.0))
    detector = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3, padding=1), torch.nn.BatchNorm2d(2))
    detector.eval().requires_grad_(False)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    weights = FlowWeights(census=0.0, smoothness=0.0, consistency=1.0)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss, terms = video_loss(net, first, second, weights, use_occlusion=False, detect=detector)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(terms["consistency"].item())
    with torch.no_grad():
        after = endpoint_error(net(first, second).flows[0], truth)
    assert losses[-1] < 0.3 * losses[0] and after < 0.5 * endpoint_error(torch.zeros_like(truth), truth)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_lucas_kanade_follows_a_shift_in_both_directions():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((1, 3, 20, 20), generator=generator)
    large = F.interpolate(noise, (80, 80), mode="bicubic", align_corners=False).clamp(0, 1)
    first, second = large[..., 8:72, 8:72], large[..., 8:72, 5:69]  # what is at x moves to x + 3
    forward, backward = both_directions(LucasKanade(), first, second)
    inner = (slice(None), slice(None), slice(12, 52), slice(12, 52))
    assert (forward[0][inner] - torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)).abs().mean() < 0.1
    assert (backward[0][inner] - torch.tensor([-3.0, 0.0]).view(1, 2, 1, 1)).abs().mean() < 0.1
