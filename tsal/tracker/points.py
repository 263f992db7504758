"""Points and flow: where points are propagated to, the forward-backward error, and what is occluded."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tsal.geometry import inside, pixel_grid, sample, warp


def forward_backward_error(flow_forward: Tensor, flow_backward: Tensor) -> Tensor:
    """|F(x) + B(x + F(x))| of flows (N, 2, H, W) -> (N, H, W) px: how far from itself a pixel comes back."""
    return (flow_forward + warp(flow_backward, flow_forward)).square().sum(1).sqrt()


def leaves_frame(flow: Tensor) -> Tensor:
    """Where a flow (N, 2, H, W) leads out of the frame -> bool (N, H, W)."""
    height, width = flow.shape[-2:]
    reached = pixel_grid(height, width, device=flow.device, dtype=flow.dtype) + flow
    return ~inside(reached.permute(0, 2, 3, 1), height, width)


def occlusion_mask(flow_forward: Tensor, flow_backward: Tensor, alpha1: float = 0.01, alpha2: float = 0.5) -> Tensor:
    """Pixels of the first frame without a counterpart in the second (Sundaram et al., ECCV 2010, eq. 5).

    |F + B'|^2 > alpha1 (|F|^2 + |B'|^2) + alpha2 px^2, with B' = B(x + F(x)); pixels that leave the frame count as
    occluded.

    Returns:
        bool (N, H, W), True where occluded; without a gradient.
    """
    flow_forward, flow_backward = flow_forward.detach(), flow_backward.detach()
    returning = warp(flow_backward, flow_forward)
    error = (flow_forward + returning).square().sum(1)
    length = flow_forward.square().sum(1) + returning.square().sum(1)
    return (error > alpha1 * length + alpha2) | leaves_frame(flow_forward)


class TrackedPoints(NamedTuple):
    """Points carried to another frame."""

    points: Tensor  # (N, K, 2) px
    error: Tensor  # (N, K) px, forward-backward
    inside: Tensor  # (N, K) bool: the point lies in both frames
    seen: Tensor | None = None  # (N, K) chance that it is visible there, where the tracker says so


def track_points(points: Tensor, flow_forward: Tensor, flow_backward: Tensor) -> TrackedPoints:
    """Propagate points (N, K, 2) px of the previous frame by the forward flow at them.

    ``inside`` needs the point to lie in both frames; the flow of a point outside is that of the nearest pixel.
    """
    height, width = flow_forward.shape[-2:]
    step = sample(flow_forward, points).transpose(1, 2)
    moved = points + step
    error = torch.linalg.vector_norm(step + sample(flow_backward, moved).transpose(1, 2), dim=-1)
    return TrackedPoints(moved, error, inside(points, height, width) & inside(moved, height, width))


def reconstruct_next(previous: Tensor, flow_backward: Tensor) -> Tensor:
    """Frame t + 1 (N, 3, H, W) out of frame t and the flow from t + 1 back to t."""
    return warp(previous, flow_backward)
