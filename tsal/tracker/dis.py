"""A rival of the tracker: OpenCV's DIS."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """OpenCV's dense inverse search between uint8 images (N, 3, H, W) -> (N, 2, H, W) px, cpu."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [
        [cv2.cvtColor(p.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for p in frames.cpu()]
        for frames in (first, second)
    ]
    return torch.from_numpy(np.stack([dis.calc(a, b, None) for a, b in zip(*grey)])).permute(0, 3, 1, 2)
