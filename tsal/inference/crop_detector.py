"""A trained detector on crops around boxes: what images, lists of images and videos have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tsal.data import cut_crop, to_float
from tsal.geometry import apply_affine, crop_affine, invert_affine
from tsal.model_files import load_model
from tsal.run import Run
from tsal.utils import ConfigError


class CropDetector:
    """The detector of a file. It keeps no state between calls, so threads may share it.

    Args:
        weights: a file of :func:`tsal.model_files.save_models`.
        model: of several in the file; by default the method's result, or the only one.
        device: auto (CUDA where there is one), cpu, cuda ...
        batch: crops of a forward pass.
        flip: detect in each crop's mirror image too, and average.

    Raises:
        ConfigError: ``flip`` of a scheme that does not say which landmarks a mirror swaps.
    """

    def __init__(
        self, weights: Path, model: str | None = None, device: str = "auto", batch: int = 32, flip: bool = False
    ):
        detector, config, self.scheme = load_model(weights, model)
        self.config = config
        run = Run(Path(weights).parent, config.override({"train.device": device}), self.scheme)
        self.device = run.device  # all that is taken from it: it has no folder
        self.side, self.box_scale, self.batch = config.model.input, config.augment.box_scale, batch
        if flip and not self.scheme.can_flip:
            raise ConfigError(f"flip: scheme {self.scheme.name!r} does not say which landmarks a mirror swaps")
        self._detector, self._flip = detector.to(self.device, memory_format=torch.channels_last), flip

    def cut(self, image: np.ndarray, box: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The crop (S, S, 3) uint8 of an RGB image around a box, and its affine (2, 3): image px -> crop px."""
        return cut_crop(image, box, self.side, self.box_scale), crop_affine(box, self.side, self.box_scale)

    def cut_bgr(self, image: np.ndarray, box: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The same of a BGR image, as videos are read."""
        crop, affine = self.cut(image, box)
        return crop[..., ::-1], affine

    @torch.inference_mode()
    def __call__(self, cuts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Crops of :meth:`cut` -> points (N, K, 2) px of their images and scores (N, K) in [0, 1], float32."""
        all_points = [np.empty((0, self.scheme.points, 2), np.float32)]
        all_scores = [np.empty((0, self.scheme.points), np.float32)]
        for start in range(0, len(cuts), self.batch):
            crops, affines = (np.stack(part) for part in zip(*cuts[start : start + self.batch]))
            images = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)  # channels last already
            points, scores = self._detect(to_float(images))
            placed = apply_affine(invert_affine(affines), points.double().cpu().numpy())
            all_points.append(placed.astype(np.float32))
            all_scores.append(scores.float().cpu().numpy())
        return np.concatenate(all_points), np.concatenate(all_scores)

    def _detect(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, S, S) in [0, 1] -> points (N, K, 2) px of them and scores (N, K)."""
        points, scores = self._detector.heatmap(self._detector(images))
        if self._flip:
            swapped = torch.tensor(self.scheme.flip, device=points.device)
            mirrored, other_scores = (
                values[:, swapped] for values in self._detector.heatmap(self._detector(images.flip(-1)))
            )
            mirrored = torch.stack([self.side - 1 - mirrored[..., 0], mirrored[..., 1]], -1)
            points, scores = (points + mirrored) / 2, (scores + other_scores) / 2
        return points, scores
