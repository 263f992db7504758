"""Losses that teach the tracker: pure, masked, and guarded against a count of zero.

Flow is ``(N, 2, H, W)``, x then y, in pixels; masks are ``(N, 1, H, W)`` or ``(N, H, W)``, True (1) where an entry
counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.geometry import pixel_to_cell, sample, warp
from tsal.tracker.network import FlowEstimate

LUMA = (0.299, 0.587, 0.114)
EDGE = 10.0  # lambda of the edge-aware smoothness


@dataclass(frozen=True)
class FlowWeights:
    """Weights of the losses.

    ``synthetic_levels``, ``earlier`` and ``seen`` are of pairs whose flow is known: of each level's flow, finest first
    (further levels have the last weight), of the flows of earlier iterations, and of the cross-entropy of what is seen,
    where hidden points count ``hidden`` times.
    """

    census: float = 1.0
    smoothness: float = 0.5
    consistency: float = 0.0
    synthetic_levels: tuple[float, ...] = (1.0, 0.5, 0.5, 0.25, 0.25, 0.1)
    earlier: float = 0.3
    seen: float = 0.3
    hidden: float = 3.0


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of values where ``mask`` (broadcast to them); 0, with a gradient of 0, where it selects nothing."""
    if mask is None:
        return values.mean()
    mask = mask.to(values.dtype).expand_as(values)
    return torch.where(mask > 0, values, 0.0).mul(mask).sum() / mask.sum().clamp(min=1e-6)


def charbonnier(values: Tensor, epsilon: float = 1e-3) -> Tensor:
    """sqrt(x^2 + epsilon^2), elementwise: a smooth absolute value."""
    return torch.sqrt(values.square() + epsilon**2)


def endpoint_error(flow: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean Euclidean distance in px of two flows (N, 2, H, W), where ``mask`` (N, H, W): a measure, not to
    differentiate.
    """
    return masked_mean((flow - truth).square().sum(1).sqrt(), mask)


def grey(images: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) -> luma (N, 1, H, W); one channel passes through."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def census_distance(first: Tensor, second: Tensor, radius: int = 3) -> Tensor:
    """Soft Hamming distance of two ternary census transforms, as in DDFlow, UFlow and ARFlow.

    It compares the signs of a pixel's differences to the neighbours of its 7x7 patch (radius 3), so that brightness
    does not matter. Of two opposite neighbours it looks at one: the sum over an image sees each pair of pixels once,
    from one end.

    Args:
        first, second: (N, 3 or 1, H, W) in [0, 1].

    Returns:
        (N, 1, H, W) in [0, 1): a mean over neighbours. The outer ``radius`` px look past the border: mask them.
    """
    first_grey, second_grey = grey(first.float()) * 255.0, grey(second.float()) * 255.0
    height, width = first_grey.shape[-2:]
    first_padded, second_padded = F.pad(first_grey, (radius,) * 4), F.pad(second_grey, (radius,) * 4)
    side = 2 * radius + 1
    count = (side * side - 1) // 2
    total = torch.zeros_like(first_grey)
    for index in range(count):  # a neighbour at a time stays in the cache: twice as fast as all at once
        y, x = divmod(index, side)
        first_change = first_padded[..., y : y + height, x : x + width] - first_grey
        second_change = second_padded[..., y : y + height, x : x + width] - second_grey
        first_signs = first_change * torch.rsqrt(first_change.square() + 0.81)
        second_signs = second_change * torch.rsqrt(second_change.square() + 0.81)
        squared = (first_signs - second_signs).square()
        total = total + squared / (squared + 0.1)
    return total / count


def census_loss(first: Tensor, warped: Tensor, mask: Tensor | None = None, radius: int = 3) -> Tensor:
    """Masked robust census distance: mean of (d + 0.01)^0.4, less its value at d = 0 (DDFlow eq. 2's penalty).

    Args:
        first, warped: (N, 3 or 1, H, W) in [0, 1]; ``warped`` is the second image, warped to the first.
        mask: (N, 1, H, W), 1 where a pixel counts. The border of ``radius`` px never counts.
    """
    valid = torch.zeros_like(first[:, :1], dtype=torch.float32)
    valid[..., radius:-radius, radius:-radius] = 1.0
    penalty = (census_distance(first, warped, radius) + 0.01) ** 0.4 - 0.01**0.4
    return masked_mean(penalty, valid if mask is None else valid * mask)


def smoothness(flow: Tensor, image: Tensor) -> Tensor:
    """Edge-aware smoothness (UFlow eq. 4; ARFlow eq. 5): mean of exp(-EDGE |dI|) * charbonnier(d flow).

    Args:
        flow: (N, 2, H, W) px.
        image: (N, C, H, W) in [0, 1]; flow may change where it does.
    """
    total = flow.new_zeros(())
    for axis in (-1, -2):
        change, contrast = flow.diff(dim=axis), image.diff(dim=axis).abs().mean(1, keepdim=True)
        total = total + (torch.exp(-EDGE * contrast) * (charbonnier(change) - 1e-3)).mean() / 2
    return total


def detection_consistency(real: Tensor, warped: Tensor) -> Tensor:
    """Squared difference of heatmaps (N, K, h, w) on warped frames from those on the real frames, which are detached:
    summed over a map's cells, a mean over maps. The gradient runs through the warped frames into the flow.
    """
    return (warped - real.detach()).square().sum((-2, -1)).mean()


def supervised_flow_loss(
    estimate: FlowEstimate, truth: Tensor, valid: Tensor, weights: FlowWeights = FlowWeights()
) -> Tensor:
    """Robust endpoint error, the mean of sqrt(px), of all flows of N pairs whose flow is known (as PWC-Net, eq. 4).

    Args:
        estimate: of the pairs, in one direction; what is seen is not looked at.
        truth: (N, 2, H, W) px.
        valid: (N, H, W), True where the truth holds; a coarse cell counts by its share of such pixels.
    """
    mask = valid[:, None].to(truth.dtype)
    total = truth.new_zeros(())
    for flow, weight in _weighted(estimate, weights):
        size, stride = flow.shape[-2:], _stride(flow, truth)
        beyond = (0, size[1] * stride - truth.shape[-1], 0, size[0] * stride - truth.shape[-2])  # of the last cells
        share = F.interpolate(F.pad(mask, beyond), size, mode="area")
        target = F.interpolate(F.pad(truth * mask, beyond), size, mode="area") / share.clamp(min=1e-6)
        # The square root of the distance: not the few large errors set the gradient, but the many that a pixel's share
        # mends.
        error = ((flow.float() - target).square().sum(1, keepdim=True) + 1e-4) ** 0.25
        total = total + weight * masked_mean(error, share)
    return total


def _weighted(estimate: FlowEstimate, weights: FlowWeights) -> list[tuple[Tensor, float]]:
    """All flows of an estimate with their weights; coarser levels than there are weights have the last one."""
    last = len(weights.synthetic_levels) - 1
    levels = [(flow, weights.synthetic_levels[min(level, last)]) for level, flow in enumerate(estimate.flows)]
    return levels + [(flow, weights.earlier) for flow in estimate.earlier]


def _stride(flow: Tensor, full: Tensor) -> int:
    """Of a level, a power of two; its last cells may reach past the image, of which ``full`` (N, C, H, W) has a value a
    pixel.
    """
    return 2 ** math.ceil(math.log2(max(pixels / cells for pixels, cells in zip(full.shape[-2:], flow.shape[-2:]))))


def point_loss(
    estimate: FlowEstimate,
    points: Tensor,
    moved: Tensor,
    seen_here: Tensor,
    seen_there: Tensor,
    weights: FlowWeights = FlowWeights(),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Robust error of all flows at points of N pairs whose places in both frames are known, and the cross-entropy of
    what is seen.

    Args:
        estimate: flows from the frames that ``points`` are in to those of ``moved``, at full resolution and at strides
            of powers of two.
        points, moved: (N, K, 2) px.
        seen_here, seen_there: (N, K) bool, whether the point is visible in either frame; flow counts where both are.

    Returns:
        the loss, and its detached terms: ``endpoint_error`` px of the finest flow, and ``seen``, unweighted.
    """
    both = seen_here & seen_there
    total = points.new_zeros(())
    for flow, weight in _weighted(estimate, weights):
        stride = _stride(flow, estimate.flows[0])
        error = (points + sample(flow, pixel_to_cell(points, stride)).mT - moved).square().sum(-1)
        # less than the root of the distance: at a silhouette, a point's flow may be that of the other side
        total = total + weight * masked_mean((error + 1e-3) ** 0.3, both)
    logits = sample(estimate.seen, points)[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, seen_there.float(), reduction="none")
    seen_loss = masked_mean(entropy, seen_here * torch.where(seen_there, 1.0, weights.hidden))
    distance = torch.linalg.vector_norm(points + sample(estimate.flows[0].detach(), points).mT - moved, dim=-1)
    return total + weights.seen * seen_loss, {"endpoint_error": masked_mean(distance, both), "seen": seen_loss.detach()}


def unsupervised_flow_loss(
    first: Tensor,
    second: Tensor,
    forward: Tensor,
    backward: Tensor,
    visible_first: Tensor,
    visible_second: Tensor,
    weights: FlowWeights = FlowWeights(),
    detect: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Census, smoothness and detection consistency, in both directions of time.

    Args:
        first, second: frames (N, 3, H, W) in [0, 1].
        forward, backward: flows first -> second and second -> first, (N, 2, H, W) px.
        visible_first, visible_second: (N, H, W), True where a pixel is also seen in the other frame.
        detect: images (N, 3, H, W) -> heatmaps (N, K, h, w) of a frozen detector in eval mode; needed for consistency
            only.

    Returns:
        the loss, and its unweighted detached terms ``census``, ``smoothness`` and ``consistency``.
    """
    images = torch.cat([first, second])
    others = torch.cat([second, first])
    visible = torch.cat([visible_first, visible_second])[:, None].detach().float()
    flow = torch.cat([forward, backward]).float()
    warped, consistency = warp(others, flow), images.new_zeros(())
    census, smooth = census_loss(images, warped, visible), smoothness(flow, images)
    if weights.consistency and detect is not None:
        with torch.no_grad():
            real = detect(images)
        consistency = detection_consistency(real, detect(warped))
    loss = weights.census * census + weights.smoothness * smooth + weights.consistency * consistency
    terms = {"census": census, "smoothness": smooth, "consistency": consistency}
    return loss, {name: term.detach() for name, term in terms.items()}
