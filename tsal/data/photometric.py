"""Photometric augmentation, drawn and applied on the device, a whole batch at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.config import AugmentConfig
from tsal.data.batches import Part
from tsal.geometry import pixel_grid


def to_float(images: Tensor) -> Tensor:
    """uint8 images -> float32 in [0, 1], channels last in memory."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def photometric_augmentation(
    images: Tensor,
    augment: AugmentConfig,
    generator: torch.Generator,
    part: Part | None = None,
    *,
    occlude: bool = False,
) -> Tensor:
    """Colour, grey, blur, noise and (if asked for) an occluder on images (N, 3, S, S) in [0, 1]; each image draws
    its own, whichever process has it: all is drawn for the whole batch, of which the images are a ``part`` (all of it
    by default).
    """
    device, part = images.device, part or Part((), len(images))
    rows = slice(None) if part.whole == len(images) else list(part.rows)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(part.whole, *shape, generator=generator, device=device)[rows] * (high - low) + low

    def chance(probability: float) -> Tensor:
        return (uniform(1, 1, 1) < probability).to(images.dtype)

    strength = augment.colour
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (1 + uniform(1, 1, 1, low=-strength, high=strength)) + mean
    images = images * (1 + uniform(3, 1, 1, low=-strength / 3, high=strength / 3)) + uniform(
        1, 1, 1, low=-strength / 2, high=strength / 2
    )
    images = torch.lerp(images, images.mean(1, keepdim=True).expand_as(images), chance(augment.grey))
    images = torch.lerp(images, _blur(images), chance(augment.blur) * uniform(1, 1, 1))
    noise = torch.randn((part.whole, *images.shape[1:]), generator=generator, device=device)[rows]
    images = images + noise * uniform(1, 1, 1, high=augment.noise)
    if occlude:
        cover = _occluder(images.shape[-1], uniform) * chance(augment.occlude)
        images = torch.lerp(images, uniform(3, 1, 1) + 0.2 * noise, cover)
    return images.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def _blur(images: Tensor) -> Tensor:
    """A fixed 5x5 binomial blur, twice; mixed with the sharp image it gives every weaker blur."""
    row = images.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = images.shape[1]
    for _ in range(2):
        images = F.pad(images, (2, 2, 2, 2), mode="replicate")
        images = F.conv2d(images, row.view(1, 1, 1, 5).expand(channels, -1, -1, -1), groups=channels)
        images = F.conv2d(images, row.view(1, 1, 5, 1).expand(channels, -1, -1, -1), groups=channels)
    return images


def _occluder(side: int, uniform) -> Tensor:
    """A rotated rectangle for each image, its sides 15 to 50 % of the image's -> mask (N, 1, S, S)."""
    centre, half = uniform(2, 1, 1) * side, uniform(2, 1, 1, low=0.075, high=0.25) * side
    angle = uniform(1, 1, 1, high=torch.pi)
    x, y = (pixel_grid(side, side, device=centre.device)[None] - centre).unbind(1)
    cos, sin = angle[:, 0].cos(), angle[:, 0].sin()
    along, across = x * cos + y * sin, -x * sin + y * cos
    return ((along.abs() < half[:, 0]) & (across.abs() < half[:, 1]))[:, None].to(torch.float32)
