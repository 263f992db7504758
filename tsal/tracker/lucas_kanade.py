"""Flow without a network: Lucas and Kanade (1981)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsal.geometry import warp
from tsal.tracker.losses import grey
from tsal.tracker.network import SURE, FlowEstimate


class LucasKanade(nn.Module):
    """Flow without a network: coarse to fine, each level sharpened by :func:`refine_lk`, as SBR's registration is (CVPR
    2018, sec. 3.2).

    Called like :class:`FlowNet`; gives the flow of full resolution alone.
    """

    def __init__(self, levels: int = 3, steps: int = 5):
        super().__init__()
        self.levels, self.steps = levels, steps

    def forward(self, first: Tensor, second: Tensor, both: bool = False) -> FlowEstimate:
        if both:
            first, second = torch.cat([first, second]), torch.cat([second, first])
        flow = None
        for level in reversed(range(self.levels)):
            size = [-(-length // 2**level) for length in first.shape[-2:]]
            here, there = (F.interpolate(frames, size, mode="area") for frames in (first, second))
            if flow is None:
                flow = first.new_zeros((len(first), 2, *size))
            else:
                growth = here.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(1, 2, 1, 1)
                flow = F.interpolate(flow, size, mode="bilinear", align_corners=False) * growth
            flow = refine_lk(here, there, flow, self.steps)
        return FlowEstimate([flow], torch.full_like(flow[:, :1], SURE))


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean over a square window, the border repeated; by running sums, four times faster on a CPU than pooling."""
    side = 2 * radius + 1
    for axis, padding in ((-1, (radius + 1, radius, 0, 0)), (-2, (0, 0, radius + 1, radius))):
        sums = F.pad(maps, padding, mode="replicate").cumsum(axis)
        size = maps.shape[axis]
        maps = (sums.narrow(axis, side, size) - sums.narrow(axis, 0, size)) / side
    return maps


def _gradient(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y of maps (N, 1, H, W)."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def refine_lk(
    first: Tensor, second: Tensor, flow: Tensor, steps: int = 3, radius: int = 4, damping: float = 0.01
) -> Tensor:
    """Sharpen a flow to a fraction of a pixel: steps of Lucas and Kanade (1981) on locally normalised luma.

    Args:
        first, second: (N, 3, H, W) in [0, 1].
        flow: first -> second (N, 2, H, W) px, right to about 2 px.
        radius: of the window, applied twice.
        damping: in squared gradients of the normalised luma; keeps the flow where there is no texture to correct it by.
    """

    def flatten(images: Tensor) -> Tensor:
        luma = grey(images.float())
        luma = luma - box_mean(luma, 4)
        return luma / (box_mean(luma.square(), 4) + 1e-3).sqrt()

    first_flat, second_flat = flatten(first), flatten(second)
    first_x, first_y = _gradient(first_flat)
    for _ in range(steps):
        there = warp(second_flat, flow)
        there_x, there_y = _gradient(there)
        x, y, change = (first_x + there_x) / 2, (first_y + there_y) / 2, there - first_flat
        products = torch.cat([x * x, x * y, y * y, x * change, y * change], dim=1)
        xx, xy, yy, xt, yt = box_mean(box_mean(products, radius), radius).split(1, dim=1)
        xx, yy = xx + damping, yy + damping
        update = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy * xy)
        flow = flow + update.clamp(-1, 1)
    return flow
