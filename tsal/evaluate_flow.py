"""What a flow is measured against: the truth of rendered clips, and OpenCV's DIS."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from tsal.data.lists import Clip
from tsal.data.rendered import load_oracle


def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """OpenCV's dense inverse search between uint8 pictures (N, 3, H, W) -> (N, 2, H, W) px, cpu."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [[cv2.cvtColor(p.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for p in frames.cpu()] for frames in (first, second)]
    return torch.from_numpy(np.stack([dis.calc(a, b, None) for a, b in zip(*grey)])).permute(0, 3, 1, 2)


def true_flow(root: Path, clip: Clip, affine: np.ndarray, side: int) -> tuple[Tensor, Tensor] | None:
    """True forward flow of a rendered clip in its crop (T-1, 2, S, S) px, and where it counts (T-1, S, S); None for other clips.

    ``affine`` (2, 3) is the crop's, image px -> input px.
    """
    path = root / "oracle" / f"{clip.name.removeprefix('images/')}.npz"
    if not path.exists():
        return None
    oracle = load_oracle(path)
    flow, seen = oracle["flow_forward"], ~oracle["occluded_forward"]
    linear = affine[:, :2]

    def cut(image, order):
        return cv2.warpAffine(image, affine, (side, side), flags=order, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    flows = np.stack([cut(np.ascontiguousarray(f.transpose(1, 2, 0)), cv2.INTER_LINEAR) @ linear.T for f in flow])
    # a pixel counts where all that it was interpolated from does, and where its point stays in the crop
    masks = np.stack([cut(m.astype(np.float32), cv2.INTER_LINEAR) > 0.999 for m in seen])
    y, x = np.mgrid[:side, :side]
    reached = np.stack([x, y], -1) + flows
    masks &= ((reached >= 0) & (reached <= side - 1)).all(-1)
    return torch.from_numpy(flows).permute(0, 3, 1, 2).float(), torch.from_numpy(masks)
