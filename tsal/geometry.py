"""Pixel convention, affines, sampling and warping.

One convention everywhere: points are ``(..., 2)``, x then y, in pixels, and the centre of pixel (column 0, row 0) is
(0, 0). An affine is ``(..., 2, 3)`` and maps a homogeneous point (x, y, 1). Cell ``i`` of a map with stride ``s`` is
centred at pixel ``(i + 0.5) s - 0.5``. Sampling uses ``align_corners=True``, which is what this convention means: zero
flow is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def cell_to_pixel(cells: Tensor, stride: int) -> Tensor:
    """Positions in cells -> positions in input pixels."""
    return (cells + 0.5) * stride - 0.5


def pixel_to_cell(pixels: Tensor, stride: int) -> Tensor:
    """Positions in input pixels -> (fractional) positions in cells."""
    return (pixels + 0.5) / stride - 0.5


def crop_affine(
    box, side: int, box_scale: float, *, scale=1.0, rotation=0.0, shift=(0.0, 0.0), flip=False
) -> np.ndarray:
    """Affine from image pixels to the pixels of a square crop.

    Args:
        box: x1, y1, x2, y2 in image pixels.
        side: side of the crop in pixels.
        box_scale: side of the cropped square over the longer side of the box.
        scale: of the face in the crop; over 1 is larger.
        rotation: degrees, counter-clockwise as seen.
        shift: of the face in the crop, x and y, in shares of the crop's side.
        flip: mirror left and right, after everything else.

    Returns:
        float64 (2, 3).
    """
    x1, y1, x2, y2 = box
    zoom = scale * (side - 1) / (box_scale * max(x2 - x1, y2 - y1))
    angle = np.deg2rad(rotation)
    linear = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    target = (side - 1) / 2 + np.asarray(shift, float) * side
    affine = np.column_stack([linear, target - linear @ np.array([(x1 + x2) / 2, (y1 + y2) / 2])])
    return np.array([[-1.0, 0.0], [0.0, 1.0]]) @ affine + np.array([[0, 0, side - 1.0], [0, 0, 0]]) if flip else affine


def invert_affine(affine):
    """Inverse of affines ``(..., 2, 3)``, numpy or torch."""
    if isinstance(affine, Tensor):
        linear = torch.linalg.inv(affine[..., :2])
        return torch.cat([linear, -linear @ affine[..., 2:]], dim=-1)
    linear = np.linalg.inv(affine[..., :2])
    return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def compose_affine(second, first):
    """The affine that applies ``first``, then ``second``; both ``(..., 2, 3)``, numpy or torch."""
    linear = second[..., :2] @ first[..., :2]
    offset = second[..., :2] @ first[..., 2:] + second[..., 2:]
    return torch.cat([linear, offset], -1) if isinstance(linear, Tensor) else np.concatenate([linear, offset], -1)


def apply_affine(affine, points):
    """Affines ``(..., 2, 3)`` on points ``(..., K, 2)``, numpy or torch -> ``(..., K, 2)``."""
    return points @ affine[..., :2].swapaxes(-1, -2) + affine[..., 2][..., None, :]


def pixel_grid(height: int, width: int, *, device=None, dtype=torch.float32) -> Tensor:
    """Pixel coordinates (2, H, W), x then y."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=dtype), torch.arange(width, device=device, dtype=dtype), indexing="ij"
    )
    return torch.stack([x, y])


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of maps ``(N, C, H, W)`` at points ``(N, K, 2)`` px -> ``(N, C, K)``; outside, of the border."""
    size = maps.new_tensor([maps.shape[-1] - 1, maps.shape[-2] - 1]).clamp_min(1)  # of one cell, every point is on it
    grid = points / size * 2 - 1
    return F.grid_sample(maps, grid[:, None], mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Backward warp: output(x) = images(x + flow(x)), of the border where that lies outside.

    Args:
        images: (N, C, H, W).
        flow: (N, 2, H, W) px, from the output's frame to the frame of ``images``.
    """
    height, width = images.shape[-2:]
    size = flow.new_tensor([width - 1, height - 1]).clamp_min(1).view(1, 2, 1, 1)
    grid = (pixel_grid(height, width, device=flow.device, dtype=flow.dtype) + flow) / size * 2 - 1
    return F.grid_sample(images, grid.permute(0, 2, 3, 1).to(images.dtype), padding_mode="border", align_corners=True)


def move_flow(flow: Tensor, affine: Tensor) -> Tensor:
    """Flows (N, 2, H, W) px between two images, as they are in a view of both: view px = affine (N, 2, 3) on image px.

    A pixel of the view moves as the image's pixel under it, turned and scaled like the view; outside the image, as the
    nearest pixel.
    """
    height, width = flow.shape[-2:]
    pixels = pixel_grid(height, width, device=flow.device, dtype=flow.dtype).flatten(1).T
    moved = sample(flow, apply_affine(invert_affine(affine), pixels))
    return (affine[..., :2] @ moved).unflatten(-1, (height, width))


def inside(points: Tensor, height: int, width: int) -> Tensor:
    """Whether points ``(..., 2)`` px lie in the image -> bool ``(...)``."""
    x, y = points[..., 0], points[..., 1]
    return (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)


def to_view(points: Tensor, affine: Tensor, flipped: Tensor, flip: Sequence[int]) -> Tensor:
    """Points (U, K, 2) px of one view in another, by affines (U, 2, 3); landmark k of a mirrored view is flip[k]."""
    moved = apply_affine(affine, points)
    return torch.where(flipped[:, None, None], moved[:, list(flip)], moved)


def weights_to_view(weight: Tensor, flipped: Tensor, flip: Sequence[int]) -> Tensor:
    """Weights (U, K) in a view that may be mirrored."""
    return torch.where(flipped[:, None], weight[:, list(flip)], weight)
