"""What one detector learns from: points for both its sources, structure, and the teacher's own heatmaps on
reconstructions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsal.codecs import gather_cells, to_distribution, with_background
from tsal.config import TrainConfig
from tsal.geometry import inside
from tsal.losses import (
    focal_loss,
    heatmap_cross_entropy,
    heatmap_mse,
    offset_loss,
    point_loss,
    structure_invariance,
)
from tsal.model import Detection, Detector
from tsal.schemes import Scheme, centre_point


def detector_loss(
    detector: Detector, detection: Detection, points: Tensor, weights: Tensor, train: TrainConfig, scheme: Scheme
) -> tuple[Tensor, dict[str, Tensor]]:
    """Every source's supervision by points (N, K, 2) px with weights (N, K) in [0, 1]: labels, or pseudo-labels."""
    side = detector.config.input
    weights = (weights * inside(points, side, side)).to(torch.float32)  # labels come as bool
    points = torch.where(weights[..., None] > 0, points, torch.zeros_like(points))  # NaN times 0 would stay NaN
    loss, terms = _heatmap_loss(detector, detection, points, weights, train)
    terms |= _centre_losses(detector, detection, points, weights, train.offset_radius, scheme)
    return loss + train.centre_weight * terms["centre"] + train.offset_weight * terms["offset"], terms


def _heatmap_loss(
    detector: Detector, detection: Detection, points: Tensor, weights: Tensor, train: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Every stage's heatmaps, and the points of their distributions."""
    codec, terms = detector.heatmap_codec, {}
    drawn, loss = codec.encode(points), points.new_zeros(())
    for stage in detection.stages:
        if codec.kind == "distribution":
            terms["points"] = point_loss(codec.expectation(stage), points, weights)
            terms["heatmap"] = heatmap_cross_entropy(stage[:, :-1].float(), to_distribution(drawn), weights)
            loss = loss + train.point_weight * terms["points"] + train.heatmap_weight * terms["heatmap"]
        else:
            # the background is known only where every landmark is
            map_weights = torch.cat([weights, weights.amin(1, keepdim=True)], 1)
            terms["heatmap"] = heatmap_mse(stage.float(), with_background(drawn), map_weights)
            loss = loss + train.heatmap_weight * terms["heatmap"]
    return loss, terms


def _centre_losses(
    detector: Detector, detection: Detection, points: Tensor, weights: Tensor, radius: int, scheme: Scheme
) -> dict[str, Tensor]:
    """The centre's heatmap, and the offsets of the cells around it."""
    codec = detector.centre_codec
    centre = centre_point(points, scheme, weights > 0)
    sure = weights[:, scheme.centre] if scheme.centre >= 0 else weights.mean(1)
    terms = {"centre": focal_loss(detection.centre.float(), codec.encode(centre), sure)}
    cells = _cells_around(codec.cell(centre), radius, codec.size)  # (N, M, 2)
    offsets = gather_cells(detection.offsets.float(), cells[..., 1] * codec.size + cells[..., 0]).unflatten(-1, (-1, 2))
    trusted = (weights * (sure > 0)[:, None])[:, None].expand(-1, cells.shape[1], -1)
    terms["offset"] = offset_loss(offsets, codec.encode_offsets(points[:, None], cells), trusted)
    return terms


def _cells_around(cell: Tensor, radius: int, size: int) -> Tensor:
    """The cells (N, M, 2) within ``radius`` of cells (N, 2), clipped to the map."""
    steps = torch.arange(-radius, radius + 1, device=cell.device)
    around = torch.cartesian_prod(steps, steps) if radius else cell.new_zeros((1, 2))
    return (cell[:, None] + around).clamp(0, size - 1)


def structure_loss(detector: Detector, detection: Detection, size: Tensor, clip: Tensor, scheme: Scheme) -> Tensor:
    """SIC on the centre source's points of unlabelled frames; ``size`` (U,) px, ``clip`` (U,)."""
    points = detector.centre(detection)[0][:, 0]
    everywhere = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    return structure_invariance(points, centre_point(points, scheme), size, clip, everywhere)


def consistency_loss(
    detector: Detector, real: Detection, reconstruction: Detection, trust: Tensor, train: TrainConfig
) -> Tensor:
    """The teacher's one source: its heatmaps on frame t + 1 against its own, detached, on the reconstruction of t + 1.

    Weighed as heatmaps are in the supervised loss. ``trust`` (P, K) in [0, 1]: 0 where the track is not trusted.
    """
    codec, target = detector.heatmap_codec, reconstruction.stages[-1].detach()
    if codec.kind == "distribution":
        maps, points = codec.maps(target), codec.expectation(target)
        total = real.stages[-1].new_zeros((), dtype=torch.float32)
        for stage in real.stages:
            total = total + train.point_weight * point_loss(codec.expectation(stage), points, trust)
            total = total + train.heatmap_weight * heatmap_cross_entropy(stage[:, :-1].float(), maps, trust)
        return total
    map_weights = torch.cat([trust, trust.amin(1, keepdim=True)], 1)
    return train.heatmap_weight * sum(heatmap_mse(stage.float(), target.float(), map_weights) for stage in real.stages)
