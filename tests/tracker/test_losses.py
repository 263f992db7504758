"""The tracker's loss on exact flow, where the last cells of a level reach past the image."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tsal.geometry import pixel_grid
from tsal.tracker.losses import FlowWeights, supervised_flow_loss
from tsal.tracker.network import FlowEstimate

SEEN = torch.zeros(1, 1, 1, 1)  # not looked at
EXACT = 1e-4**0.25  # the loss of a flow that is right


def loss_of(flow: torch.Tensor, truth: torch.Tensor, earlier: tuple[torch.Tensor, ...] = ()) -> float:
    valid = torch.ones(1, *truth.shape[-2:], dtype=torch.bool)
    weights = FlowWeights(synthetic_levels=(1.0,), earlier=1.0)
    return supervised_flow_loss(FlowEstimate([flow], SEEN, earlier), truth, valid, weights).item()


def test_a_cell_s_target_is_the_mean_flow_of_its_own_pixels():
    """224 px at stride 64: cells of pixels 0 to 63, 64 to 127, 128 to 191, and 192 to 223 with 32 beyond the image."""
    x, _ = pixel_grid(224, 224)
    truth = torch.stack([x / 8, torch.zeros_like(x)])[None]
    along = torch.tensor([31.5, 95.5, 159.5, 207.5]) / 8  # the mean columns
    assert along.tolist() == pytest.approx([3.94, 11.94, 19.94, 25.94], abs=0.01)
    cells = torch.stack([along.expand(4, 4), torch.zeros(4, 4)])[None]
    assert loss_of(truth, truth, (cells,)) == pytest.approx(2 * EXACT, rel=1e-4)
    tiled = torch.stack([(torch.tensor([27.5, 83.5, 139.5, 195.5]) / 8).expand(4, 4), torch.zeros(4, 4)])[None]
    assert loss_of(truth, truth, (tiled,)) > 0.5


def test_a_cell_that_is_half_beyond_the_image_counts_half():
    truth = torch.zeros(1, 2, 64, 96)  # at stride 64: a whole cell and a half one, which is 5 px off
    cells = torch.tensor([[[0.0, 3.0]], [[0.0, 4.0]]])[None]
    assert loss_of(truth, truth, (cells,)) == pytest.approx(EXACT + (2 * EXACT + (25 + 1e-4) ** 0.25) / 3, rel=1e-4)


@pytest.mark.parametrize("side", [96, 128, 256])
def test_where_cells_tile_the_image_nothing_is_filled_up(side):
    generator = torch.Generator().manual_seed(side)
    truth, valid = (
        torch.randn(1, 2, side, side, generator=generator),
        torch.rand(1, side, side, generator=generator) > 0.3,
    )
    flow, mask = torch.randn(1, 2, side // 32, side // 32, generator=generator), valid[:, None].float()
    share = F.interpolate(mask, flow.shape[-2:], mode="area")
    error = (flow - F.interpolate(truth * mask, flow.shape[-2:], mode="area") / share).square().sum(1, keepdim=True)
    expected = ((error + 1e-4) ** 0.25 * share).sum() / share.sum()
    weights = FlowWeights(synthetic_levels=(0.0,), earlier=1.0)
    loss = supervised_flow_loss(FlowEstimate([truth], SEEN, (flow,)), truth, valid, weights)
    assert loss.item() == expected.item()
