"""Points <-> the detector's two codes: landmark heatmaps, and a centre heatmap with offsets.

Points are ``(..., K, 2)`` px of the network's input outside this file; cells live only in here and in the losses. A
codec owns the map's size and stride and the drawn sigma; ``encode`` makes a network's targets, ``decode`` reads its
outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.geometry import cell_to_pixel, pixel_grid, pixel_to_cell


@dataclass(frozen=True)
class HeatmapCodec:
    """Source ``heatmap``: a map for each landmark, and one for the background."""

    size: int  # cells along a side of a map
    stride: int  # px a cell
    sigma: float  # px, of a drawn landmark
    shape: str = "gaussian"  # or "laplacian"
    kind: str = "distribution"  # softmax over the map; "regression": values as drawn
    radius: int = 0  # window of the local soft-argmax, cells; 0: the whole map

    def encode(self, points: Tensor) -> Tensor:
        """Heatmaps (N, K, h, w) with values in (0, 1] of points (N, K, 2) px.

        A Laplacian has the same standard deviation along each axis as a Gaussian of that sigma: exp(-sqrt(2) |d|_1 /
        sigma).
        """
        cells = pixel_to_cell(points, self.stride)
        axis = torch.arange(self.size, device=points.device, dtype=points.dtype)
        distance = axis - cells[..., None]  # (N, K, 2, size)
        if self.shape == "gaussian":
            profile = torch.exp(-0.5 * (distance * self.stride / self.sigma) ** 2)
        else:
            profile = torch.exp(-(2**0.5) * distance.abs() * self.stride / self.sigma)
        return profile[:, :, 1, :, None] * profile[:, :, 0, None, :]

    def maps(self, output: Tensor) -> Tensor:
        """A stage's output (N, K + 1, h, w) without its background -> float32 maps (N, K, h, w): distributions, or
        values as drawn.
        """
        maps = output[:, :-1].float()
        return maps.flatten(-2).softmax(-1).view_as(maps) if self.kind == "distribution" else maps

    def decode(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """A stage's output (N, K + 1, h, w) -> points (N, K, 2) px and scores (N, K) in [0, 1].

        The score is the peak's value; of a distribution, the mass within one cell of the peak.
        """
        maps = self.maps(output).clamp_min(0)
        points = soft_argmax(maps, self.stride, self.radius)
        mass = F.avg_pool2d(maps, 3, 1, 1) * 9 if self.kind == "distribution" else maps
        return points, mass.flatten(-2).amax(-1).clamp(0, 1)

    def expectation(self, output: Tensor) -> Tensor:
        """Points (N, K, 2) px of the whole distributions of a stage's output: what the point loss learns through."""
        return soft_argmax(self.maps(output), self.stride, 0)


@dataclass(frozen=True)
class CentreCodec:
    """Source ``centre``: a heatmap of the face's centre, and an offset from the centre's cell to each landmark."""

    size: int  # cells along a side of a map
    stride: int  # px a cell
    sigma: float  # px, of a drawn centre
    candidates: int = 1  # top-N centres

    def cell(self, centre: Tensor) -> Tensor:
        """The cell (..., 2), long, x then y, that holds centres (..., 2) px; clipped to the map."""
        return pixel_to_cell(centre, self.stride).round().long().clamp(0, self.size - 1)

    def encode(self, centre: Tensor) -> Tensor:
        """Centre heatmaps (N, 1, h, w) of centres (N, 2) px: a Gaussian that is exactly 1 at the centre's cell."""
        cell = cell_to_pixel(self.cell(centre).to(centre.dtype), self.stride)
        return HeatmapCodec(self.size, self.stride, self.sigma).encode(cell[:, None])

    def encode_offsets(self, points: Tensor, cells: Tensor) -> Tensor:
        """Offsets in cells from cells to points: points (..., K, 2) px, cells (..., 2) -> (..., K, 2).

        Subtracted in pixels and divided by the stride once, from the cell's own position, so that decoding has no
        rounding.
        """
        return (points - cell_to_pixel(cells.to(points.dtype), self.stride)[..., None, :]) / self.stride

    def decode(self, centre: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """The best centres, each plus its offsets.

        Args:
            centre: (N, 1, h, w) logits; a maximum of its 3x3 neighbourhood is a candidate (CenterNet, arXiv
                1904.07850).
            offsets: (N, 2K, h, w) in cells, channels x0 y0 x1 y1 ...

        Returns:
            points (N, candidates, K, 2) px, best first, and the centres' scores (N, candidates).
        """
        centre = centre.float().sigmoid()  # in bfloat16 neighbours of a sure centre would all be 1
        width = centre.shape[-1]
        peaks = centre * (F.max_pool2d(centre, 3, 1, 1) == centre)
        score, index = peaks.flatten(1).topk(self.candidates, dim=1)  # (N, candidates)
        index = torch.where(score > 0, index, index[:, :1])  # fewer peaks than asked for: the best again
        cells = torch.stack([index % width, index // width], -1)  # (N, candidates, 2)
        gathered = gather_cells(offsets.float(), index)  # (N, candidates, 2K)
        points = gathered.unflatten(-1, (-1, 2)) * self.stride
        return points + cell_to_pixel(cells.to(centre.dtype), self.stride)[:, :, None], score


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
    flat = weights.flatten(-2)
    cells = flat @ grid.flatten(1).T / flat.sum(-1, keepdim=True).clamp_min(1e-12)  # (N, K, 2)
    return cell_to_pixel(cells, stride)


def gather_cells(maps: Tensor, index: Tensor) -> Tensor:
    """Values of maps (N, C, h, w) at flat cell indices (N, M) -> (N, M, C)."""
    flat = maps.flatten(2)
    return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)


def nearest_candidate(candidates: Tensor, reference: Tensor) -> Tensor:
    """Index (N,) of the one of candidates (N, M, K, 2) whose points lie nearest to the reference (N, K, 2), by mean
    distance.
    """
    return (candidates - reference[:, None]).norm(dim=-1).mean(-1).argmin(1)
