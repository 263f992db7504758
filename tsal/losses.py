"""Pure, masked losses of the detector. Weights are ``(N, K)``: a visibility mask for labels, a trust for pseudo-labels.

Each loss is divided once, by its own sum of valid weights; with nothing valid it is zero (and keeps its gradient
graph).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.utils import processes, sum_over_processes


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum(values * weights) / sum(weights), 0 where no weight is; the shapes must be equal.

    Weights between 0 and 1 count as that much of an entry, but the sum is never taken below 1: one hardly trusted point
    alone does not count as a whole one.
    """
    if values.shape != weights.shape:
        raise ValueError(f"values {tuple(values.shape)} and weights {tuple(weights.shape)} differ in shape")
    weights = weights.to(values.dtype)
    return (values * weights).sum() / _whole(weights.sum())


def _whole(weight: Tensor) -> Tensor:
    """What a loss is divided by: the sum of valid weights, at least 1.

    Of several processes, that of all of them over their number: then the mean of their losses, and of their gradients,
    is the loss of the whole batch.
    """
    return sum_over_processes(weight).clamp_min(1.0) / processes()


def point_loss(points: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Smooth-L1 of points (N, K, 2) px against a target, quadratic below 1 px, summed over x and y; weights (N, K)."""
    target = torch.where(weights[..., None] > 0, target, points.detach())  # what is masked may be NaN
    values = F.smooth_l1_loss(points, target, reduction="none").sum(-1)
    return weighted_mean(values, weights)


def heatmap_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of softmax(logits) (N, K, h, w) against target distributions, a landmark's map the unit; weights
    (N, K).
    """
    target = torch.where(weights[..., None, None] > 0, target, 0.0)
    values = -(target * logits.flatten(-2).log_softmax(-1).view_as(logits)).sum((-2, -1))
    return weighted_mean(values, weights)


def heatmap_mse(values: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared error of heatmaps (N, C, h, w), summed over a map's cells, a map the unit; weights (N, C)."""
    target = torch.where(weights[..., None, None] > 0, target, values.detach())
    return weighted_mean((values - target).square().sum((-2, -1)), weights)


def focal_loss(score: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Penalty-reduced focal loss of centre heatmaps (CornerNet eq. 1, CenterNet eq. 1; alpha 2, beta 4).

    Args:
        score: (N, 1, h, w), logits.
        target: the same shape, exactly 1 at each positive cell.
        weights: (N,): 0 for an image without a known centre, which then adds neither positives nor negatives; its
            target may be NaN.
    """
    if score.shape != target.shape or weights.shape != score.shape[:1]:
        raise ValueError(
            f"shapes differ: score {tuple(score.shape)}, target {tuple(target.shape)}, {tuple(weights.shape)}"
        )
    target = torch.where(weights[:, None, None, None] > 0, target, 0.0)
    positive = (target == 1).to(score.dtype)
    probability = score.sigmoid()
    hit = -F.logsigmoid(score) * (1 - probability) ** 2 * positive
    miss = -F.logsigmoid(-score) * probability**2 * (1 - target) ** 4  # 0 at a positive
    weights = weights.to(score.dtype)
    count = (positive.sum((1, 2, 3)) * weights).sum()
    return ((hit + miss).sum((1, 2, 3)) * weights).sum() / _whole(count)


def offset_loss(offsets: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """L1 of offsets (N, M, K, 2), in cells, summed over x and y, at M cells of each image; weights (N, M, K)."""
    target = torch.where(weights[..., None] > 0, target, offsets.detach())
    return weighted_mean((offsets - target).abs().sum(-1), weights)


def structure_invariance(points: Tensor, centre: Tensor, size: Tensor, clip: Tensor, visible: Tensor) -> Tensor:
    """Facial structure invariance (SIC): mean over frame pairs of one clip of (m_t - m_u)^2.

    m_t is the mean over landmarks visible in both frames of |offset from the centre / face size|^2.

    Args:
        points: (N, K, 2) px.
        centre: (N, 2) px, of each frame.
        size: (N,) px.
        clip: (N,) long: frames with one number belong to one clip.
        visible: (N, K) bool.
    """
    points = torch.where(visible[..., None], points, centre[:, None].detach())
    squared = ((points - centre[:, None]) / size[:, None, None]).square().sum(-1)  # (N, K)
    both = (visible[:, None] & visible[None]).to(squared.dtype)  # (N, N, K)
    count = both.sum(-1)
    mean = (squared[:, None] * both).sum(-1) / count.clamp_min(1.0)  # (N, N): of frame t, over what t and u both see
    pairs = torch.triu(clip[:, None] == clip[None], diagonal=1) & (count > 0)
    return weighted_mean((mean - mean.T).square(), pairs)
