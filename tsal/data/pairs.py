"""Pairs of neighbouring frames as a frozen tracker sees them: the same crops wherever a pair is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from tsal.data.lists import Face
from tsal.data.views import FaceStore, cut_view, plain_affine, stack_images, stack_numbers
from tsal.geometry import compose_affine, invert_affine


@dataclass(frozen=True)
class FramePairs:
    """P pairs, each cut by the mean box of its two frames, without augmentation."""

    # P hashes of both crops: equal crops have the same flow, whatever list they are of; "": flow is not kept
    keys: tuple[str, ...]
    first: Tensor  # (P, 3, S, S) uint8
    second: Tensor  # (P, 3, S, S) uint8
    to_view: Tensor  # (P, 2, 3): px of these crops -> px of the view that both frames are wanted in

    def to(self, device: torch.device, non_blocking: bool = False) -> FramePairs:
        moved = (part.to(device, non_blocking=non_blocking) for part in (self.first, self.second, self.to_view))
        return FramePairs(self.keys, *moved)


def frame_pairs(store: FaceStore, pairs: Iterable[tuple[Face, Face, np.ndarray]]) -> FramePairs:
    """The crops of pairs: each two frames, and the affine (2, 3) from their image's px to the view's."""
    keys, crops, affines = [], ([], []), []
    for first, second, affine in pairs:
        plain = plain_affine((first, second), store.side, store.box_scale)
        pair = [cut_view(store.crop(face), plain, store.side) for face in (first, second)]
        for part, crop in zip(crops, pair):
            part.append(crop)
        keys.append(blake2b(b"".join(crop.tobytes() for crop in pair), digest_size=20).hexdigest())
        affines.append(compose_affine(affine, invert_affine(plain)))
    return FramePairs(tuple(keys), *(stack_images(part, store.side) for part in crops), stack_numbers(affines, (2, 3)))
