"""Pairs of frames whose flow is known, made by warping single frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.geometry import pixel_grid, warp
from tsal.tracker.points import leaves_frame


class Motion(NamedTuple):
    """Ranges of the motion that synthetic pairs show; rotation and scale are drawn evenly, small shifts more often."""

    shift: float = 0.15  # of the image's longer side
    rotation: float = 6.0  # degrees
    scale: float = 0.06  # relative
    elastic: float = 0.015  # of the longer side; standard deviation, low-frequency


def _uniform(shape: tuple[int, ...], generator: torch.Generator, device) -> Tensor:
    """Uniform draws from [-1, 1); made on the generator's device, so a seed means the same on every device."""
    return (2 * torch.rand(shape, generator=generator, device=generator.device) - 1).to(device)


def _turn(linear: Tensor, grid: Tensor) -> Tensor:
    """Matrices (n, 2, 2) on fields (2, H, W) or (n, 2, H, W); written out, as autocast would round a matrix product."""
    x, y = grid.unbind(-3)
    return torch.stack([row[:, 0, None, None] * x + row[:, 1, None, None] * y for row in linear.unbind(1)], dim=1)


def random_flow(
    n: int, height: int, width: int, generator: torch.Generator, device=None, motion: Motion = Motion()
) -> Tensor:
    """Smooth random flow (n, 2, height, width) px: shift, rotation and scale about the middle, and a low-frequency
    warp.
    """
    side = max(height, width)
    grid = pixel_grid(height, width, device=device)
    centred = grid - grid.mean((1, 2), keepdim=True)
    angle = torch.deg2rad(motion.rotation * _uniform((n,), generator, device))
    zoom = 1 + motion.scale * _uniform((n,), generator, device)
    cos, sin = zoom * torch.cos(angle) - 1, zoom * torch.sin(angle)
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    shift = motion.shift * side * _uniform((n, 2, 1, 1), generator, device)
    # A product of two draws: as in video, small shifts are the frequent ones.
    shift = shift * _uniform((n, 1, 1, 1), generator, device).abs()
    knots = torch.randn((n, 2, 5, 5), generator=generator, device=generator.device).to(device)
    elastic = F.interpolate(knots, (height, width), mode="bicubic", align_corners=True) * motion.elastic * side
    strength = _uniform((n, 1, 1, 1), generator, device).abs()
    return _turn(linear, centred) + shift + strength * elastic


def _blob(n: int, height: int, width: int, generator: torch.Generator, device) -> Tensor:
    """Filled ellipses of random place, size and tilt -> (n, 1, height, width) of 0 and 1."""
    grid = pixel_grid(height, width, device=device)
    side = max(height, width)
    centre = (grid.mean((1, 2)) + 0.3 * side * _uniform((n, 2), generator, device)).view(n, 2, 1, 1)
    radii = (side * (0.22 + 0.14 * _uniform((n, 2), generator, device))).view(n, 2, 1, 1)
    angle = torch.pi * _uniform((n,), generator, device)
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return ((_turn(turn, grid - centre) / radii).square().sum(1, keepdim=True) < 1).float()


def photometric_change(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, 3, H, W) under random brightness, contrast, gamma and noise, each image its own; stays in [0, 1]."""

    def draw(scale: float) -> Tensor:
        return scale * _uniform((len(images), 1, 1, 1), generator, images.device)

    changed = images.clamp(1e-3, 1) ** torch.exp(draw(0.25))
    changed = (changed - 0.5) * torch.exp(draw(0.25)) + 0.5 + draw(0.08)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images.device)
    return (changed + draw(0.03).abs() * noise).clamp(0, 1)


def synthetic_pair(
    images: Tensor,
    generator: torch.Generator,
    motion: Motion = Motion(),
    *,
    layers: bool = True,
    photometric: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs of frames whose flow is known, out of single frames (N, 3, H, W).

    The second frame is the image, the first is the image warped, so that the warp's field is the flow first -> second.
    A patch of another image of the batch lies over both, and moves on its own: it occludes, as a hand or a turned head
    does.

    Returns:
        first, second (N, 3, H, W), flow_forward (N, 2, H, W) px, and valid (N, H, W) bool: False where the counterpart
        of a pixel of the first frame is covered in the second, or lies outside it.
    """
    n, _, height, width = images.shape
    flow = random_flow(n, height, width, generator, images.device, motion)
    first, second = warp(images, flow), images
    valid = ~leaves_frame(flow)
    if layers:
        patch = images.roll(1, 0).flip(-1)
        cover = _blob(n, height, width, generator, images.device)
        patch_flow = random_flow(n, height, width, generator, images.device, motion)
        patch_reach = warp(cover, patch_flow)
        covered = patch_reach > 0.5
        # A pixel whose bilinear footprint in the second frame mixes patch and background has no one counterpart.
        clear = torch.where(covered, patch_reach > 0.999, warp(cover, flow) < 0.001)[:, 0]
        second = torch.where(cover > 0, patch, images)
        first = torch.where(covered, warp(patch, patch_flow), first)
        flow = torch.where(covered, patch_flow, flow)
        valid = clear & ~leaves_frame(flow)
    if photometric:
        first, second = photometric_change(first, generator), photometric_change(second, generator)
    return first, second, flow, valid
