"""What one detector is taught by: points for both its sources, structure, and the calm teacher's own heatmaps."""

from __future__ import annotations

import torch
from torch import Tensor

from tsal.codecs import (
    centre_cell,
    draw_centres,
    draw_heatmaps,
    encode_offsets,
    gather_cells,
    heatmap_points,
    to_distribution,
    with_background,
)
from tsal.config import Config, TrainConfig
from tsal.geometry import inside
from tsal.losses import focal_loss, heatmap_cross_entropy, heatmap_mse, offset_loss, point_loss, structure_invariance
from tsal.model import Detection, Detector
from tsal.schemes import Scheme, centre_point


def detector_loss(
    detector: Detector, detection: Detection, points: Tensor, weights: Tensor, config: Config, scheme: Scheme
) -> tuple[Tensor, dict[str, Tensor]]:
    """Every source's supervision by points (N, K, 2) px with weights (N, K) in [0, 1]: labels, or pseudo-labels."""
    train, stride, size = config.train, detector.stride, detector.map_size
    side = config.model.input
    weights = (weights * inside(points, side, side)).to(torch.float32)  # labels come as bool
    points = torch.where(weights[..., None] > 0, points, torch.zeros_like(points))  # NaN times 0 would stay NaN
    drawn = draw_heatmaps(points, size, stride, config.augment.sigma, config.augment.shape)
    terms: dict[str, Tensor] = {}
    heatmap = points.new_zeros(())
    for stage in detection.stages:
        if config.model.heatmap == "distribution":
            found, _ = heatmap_points(stage, stride, "distribution", 0)
            terms["points"] = point_loss(found, points, weights)
            terms["heatmap"] = heatmap_cross_entropy(stage[:, :-1].float(), to_distribution(drawn), weights)
            heatmap = heatmap + train.point_weight * terms["points"] + train.heatmap_weight * terms["heatmap"]
        else:
            # the background is known only where every landmark is
            known = torch.cat([weights, weights.amin(1, keepdim=True)], 1)
            terms["heatmap"] = heatmap_mse(stage.float(), with_background(drawn), known)
            heatmap = heatmap + train.heatmap_weight * terms["heatmap"]
    centre = centre_point(points, scheme, weights > 0)
    sure = weights[:, scheme.centre] if scheme.centre >= 0 else weights.mean(1)
    target = draw_centres(centre, size, stride, config.augment.sigma)
    terms["centre"] = focal_loss(detection.centre.float(), target, sure)
    cells = _cells_around(centre_cell(centre, size, stride), train.offset_radius, size)  # (N, M, 2)
    offsets = gather_cells(detection.offsets.float(), cells[..., 1] * size + cells[..., 0]).unflatten(-1, (-1, 2))
    wanted = encode_offsets(points[:, None], cells, stride)
    believed = (weights * (sure > 0)[:, None])[:, None].expand(-1, cells.shape[1], -1)
    terms["offset"] = offset_loss(offsets, wanted, believed)
    loss = heatmap + train.centre_weight * terms["centre"] + train.offset_weight * terms["offset"]
    return loss, terms


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


def calm_loss(
    detector: Detector, real: Detection, reconstruction: Detection, trust: Tensor, train: TrainConfig
) -> Tensor:
    """The teacher's one source: its heatmaps on frame t + 1 against its own, detached, on the reconstruction of t + 1.

    Weighed as heatmaps are in the supervised loss. ``trust`` (P, K) in [0, 1]: 0 where the tracker is gated out.
    """
    if detector.config.heatmap == "distribution":
        target = reconstruction.stages[-1].detach()[:, :-1].float()
        target = target.flatten(-2).softmax(-1).view_as(target)
        wanted = heatmap_points(reconstruction.stages[-1].detach(), detector.stride, "distribution", 0)[0]
        total = real.stages[-1].new_zeros((), dtype=torch.float32)
        for stage in real.stages:
            found = heatmap_points(stage, detector.stride, "distribution", 0)[0]
            total = total + train.point_weight * point_loss(found, wanted, trust)
            total = total + train.heatmap_weight * heatmap_cross_entropy(stage[:, :-1].float(), target, trust)
        return total
    target = reconstruction.stages[-1].detach().float()
    known = torch.cat([trust, trust.amin(1, keepdim=True)], 1)
    return train.heatmap_weight * sum(heatmap_mse(stage.float(), target, known) for stage in real.stages)
