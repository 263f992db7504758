"""Points <-> the detector's two codes: landmark heatmaps, and a centre heatmap with offsets.

Points are ``(..., K, 2)`` px of the network's input outside this file; cells live only in here and in the losses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.geometry import cell_to_pixel, pixel_grid, pixel_to_cell


def draw_heatmaps(points: Tensor, size: int, stride: int, sigma: float, shape: str = "gaussian") -> Tensor:
    """Heatmaps (N, K, h, w) with values in (0, 1] of points (N, K, 2) px; ``size`` = h = w in cells, ``sigma`` in px.

    A Laplacian has the same standard deviation along each axis as a Gaussian of that sigma: exp(-sqrt(2) |d|_1 /
    sigma).
    """
    cells = pixel_to_cell(points, stride)
    axis = torch.arange(size, device=points.device, dtype=points.dtype)
    distance = axis - cells[..., None]  # (N, K, 2, size)
    if shape == "gaussian":
        profile = torch.exp(-0.5 * (distance * stride / sigma) ** 2)
    else:
        profile = torch.exp(-(2**0.5) * distance.abs() * stride / sigma)
    return profile[:, :, 1, :, None] * profile[:, :, 0, None, :]


def with_background(heatmaps: Tensor) -> Tensor:
    """Append the background channel 1 - max over landmarks: (N, K, h, w) -> (N, K + 1, h, w)."""
    return torch.cat([heatmaps, 1 - heatmaps.amax(1, keepdim=True)], 1)


def to_distribution(heatmaps: Tensor) -> Tensor:
    """Heatmaps (N, K, h, w) of values >= 0, each divided by its sum."""
    return heatmaps / heatmaps.sum((-2, -1), keepdim=True).clamp_min(1e-12)


def soft_argmax(weights: Tensor, stride: int, radius: int = 0) -> Tensor:
    """Centre of mass of non-negative maps (N, K, h, w) -> points (N, K, 2) px.

    With ``radius`` > 0 only the window of that many cells around the largest value counts (local soft-argmax; SBR, CVPR
    2018).
    """
    height, width = weights.shape[-2:]
    grid = pixel_grid(height, width, device=weights.device, dtype=weights.dtype)  # (2, h, w) cells
    if radius > 0:
        peak = weights.flatten(-2).argmax(-1)
        x, y = (peak % width)[..., None, None], (peak // width)[..., None, None]
        near = ((grid[0] - x).abs() <= radius) & ((grid[1] - y).abs() <= radius)
        weights = weights * near
    total = weights.sum((-2, -1)).clamp_min(1e-12)
    cells = torch.einsum("nkhw,chw->nkc", weights, grid) / total[..., None]
    return cell_to_pixel(cells, stride)


def heatmap_weights(maps: Tensor, kind: str) -> Tensor:
    """A stage's output without its background channel as non-negative weights (N, K, h, w), float32.

    ``distribution``: softmax over the map; ``gaussian``: regressed values, clipped at 0.
    """
    maps = maps[:, :-1].float()
    return maps.flatten(-2).softmax(-1).view_as(maps) if kind == "distribution" else maps.clamp_min(0)


def heatmap_points(maps: Tensor, stride: int, kind: str, radius: int) -> tuple[Tensor, Tensor]:
    """Source ``heatmap``: a stage's output (N, K + 1, h, w) -> points (N, K, 2) px and scores (N, K) in [0, 1].

    The score is the peak's value; of a distribution, the mass within one cell of the peak.
    """
    weights = heatmap_weights(maps, kind)
    points = soft_argmax(weights, stride, radius)
    mass = F.avg_pool2d(weights, 3, 1, 1) * 9 if kind == "distribution" else weights
    return points, mass.flatten(-2).amax(-1).clamp(0, 1)


def centre_cell(centre: Tensor, size: int, stride: int) -> Tensor:
    """The cell (..., 2), long, x then y, that holds centres (..., 2) px; clipped to the map."""
    return pixel_to_cell(centre, stride).round().long().clamp(0, size - 1)


def draw_centres(centre: Tensor, size: int, stride: int, sigma: float) -> Tensor:
    """Centre heatmaps (N, 1, h, w): a Gaussian that is exactly 1 at the centre's cell. ``centre`` (N, 2) px, ``sigma``
    px.
    """
    cell = centre_cell(centre, size, stride)
    return draw_heatmaps(cell_to_pixel(cell.to(centre.dtype), stride)[:, None], size, stride, sigma)


def encode_offsets(points: Tensor, cells: Tensor, stride: int) -> Tensor:
    """Offsets in cells from cells to points: points (..., K, 2) px, cells (..., 2) -> (..., K, 2).

    Subtracted in pixels and divided by the stride once, from the cell's own position, so that decoding has no rounding.
    """
    return (points - cell_to_pixel(cells.to(points.dtype), stride)[..., None, :]) / stride


def decode_centres(centre: Tensor, offsets: Tensor, stride: int, count: int) -> tuple[Tensor, Tensor]:
    """Source ``centre``: the ``count`` best centres, each plus its offsets.

    Args:
        centre: (N, 1, h, w) in [0, 1]; a maximum of its 3x3 neighbourhood is a candidate (CenterNet, arXiv 1904.07850).
        offsets: (N, 2K, h, w) in cells, channels x0 y0 x1 y1 ...

    Returns:
        points (N, count, K, 2) px, best first, and the centres' scores (N, count).
    """
    batch, _, height, width = centre.shape
    centre = centre.float()
    peaks = centre * (F.max_pool2d(centre, 3, 1, 1) == centre)
    score, index = peaks.flatten(1).topk(count, dim=1)  # (N, count)
    index = torch.where(
        score > 0, index, index[:, :1]
    )  # fewer peaks than asked for: the best again, never a suppressed cell
    cells = torch.stack([index % width, index // width], -1)  # (N, count, 2)
    gathered = gather_cells(offsets.float(), index)  # (N, count, 2K)
    points = gathered.unflatten(-1, (-1, 2)) * stride + cell_to_pixel(cells.to(centre.dtype), stride)[:, :, None]
    return points, score


def gather_cells(maps: Tensor, index: Tensor) -> Tensor:
    """Values of maps (N, C, h, w) at flat cell indices (N, M) -> (N, M, C)."""
    flat = maps.flatten(2)
    return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)


def nearest_candidate(candidates: Tensor, reference: Tensor) -> Tensor:
    """Of candidates (N, M, K, 2), the one whose points lie nearest to the reference (N, K, 2), by mean distance -> (N,
    K, 2).
    """
    distance = (candidates - reference[:, None]).norm(dim=-1).mean(-1)  # (N, M)
    best = distance.argmin(1)
    return candidates[torch.arange(len(candidates), device=candidates.device), best]
