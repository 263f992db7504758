"""Small things that several tests build: images with one bright dot, faces on disk, perfect network outputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from torch import nn

from tsal.codecs import CentreCodec, HeatmapCodec, to_distribution, with_background
from tsal.config import Config
from tsal.data.batches import Batch, Part, neighbours
from tsal.data.lists import Clip, Face
from tsal.data.pairs import FramePairs
from tsal.geometry import pixel_grid
from tsal.model import Detection, Detector
from tsal.model_files import save_models
from tsal.schemes import Scheme, centre_point, generic_scheme
from tsal.tracker.network import FlowEstimate

PAIRED = Scheme("paired", 4, flip=(1, 0, 2, 3), centre=2)  # landmarks 0 and 1 are left and right

NOTEBOOKS = ("01_data", "02_tracker", "03_train", "04_pseudo_labels", "05_evaluate", "06_figures")
ASIDE = ("00_one_step",)  # notebooks that are no stage: they show a run that is there


def dot_image(width: int, height: int, x: float, y: float, sigma: float) -> np.ndarray:
    """A black RGB image (height, width, 3) uint8 with one Gaussian dot at (x, y) px."""
    column = np.exp(-0.5 * ((np.arange(width) - x) / sigma) ** 2)
    row = np.exp(-0.5 * ((np.arange(height) - y) / sigma) ** 2)
    return np.repeat(np.round(255 * row[:, None] * column)[..., None], 3, 2).astype(np.uint8)


def dot_place(image) -> np.ndarray:
    """Centre of mass (x, y) px of the light of an image (3, H, W) or (H, W, 3)."""
    light = np.asarray(image, float)
    light = light.mean(0 if light.shape[0] == 3 else 2)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def save_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def face(
    image: str,
    box=(0.0, 0.0, 9.0, 9.0),
    annotation: str | None = None,
    row: int = 1,
    list_name: str = "list",
    size=None,
) -> Face:
    return Face(image, annotation, tuple(map(float, box)), size, list_name, row)


def config(*overrides: str) -> Config:
    return Config().override(overrides)


def a_detector(settings: Config, landmarks: int = 4, seed: int = 0) -> Detector:
    """An untrained detector, the same for each seed."""
    torch.manual_seed(seed)
    return Detector(landmarks, settings.model)


def vector(net: nn.Module) -> torch.Tensor:
    """All parameters of a network, one after another."""
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have equal parameters and statistics."""
    weights = second.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in first.state_dict().items())


def error_lines(text: str) -> list[str]:
    """The lines that tell of an error, of all that a command writes."""
    return [line for line in text.splitlines() if line.startswith("error: ")]


def far_logits(probability: torch.Tensor) -> torch.Tensor:
    """Logits of a map of zeros and ones."""
    return torch.where(probability > 0.5, 20.0, -20.0)


def perfect_detection(detector: Detector, points: torch.Tensor, scheme: Scheme, sigma: float = 6.0) -> Detection:
    """The outputs that say exactly where points (N, K, 2) px are."""
    size, stride = detector.map_size, detector.stride
    drawn = HeatmapCodec(size, stride, sigma).encode(points)
    if detector.config.heatmap == "distribution":
        drawn = to_distribution(drawn).clamp_min(1e-30).log()
        maps = torch.cat([drawn, torch.zeros_like(drawn[:, :1])], 1)
    else:
        maps = with_background(drawn)
    cell = CentreCodec(size, stride, sigma).cell(centre_point(points, scheme))
    hit = torch.zeros(len(points), 1, size, size)
    hit[torch.arange(len(points)), 0, cell[:, 1], cell[:, 0]] = 1
    every = pixel_grid(size, size).flatten(1).T.expand(len(points), -1, 2)  # (N, h w, 2): right from each cell
    offsets = (
        CentreCodec(size, stride, sigma)
        .encode_offsets(points[:, None], every)
        .flatten(2)
        .transpose(1, 2)
        .unflatten(-1, (size, size))
    )
    return Detection([maps.clone() for _ in range(detector.config.stages)], far_logits(hit), offsets)


def random_batch(
    labelled: int, clips: list[int], landmarks: int, side: int = 64, seed: int = 0, window: int = 1
) -> Batch:
    """A batch of noise; ``clips`` holds the number of frames of each clip (1: a photograph)."""
    generator = torch.Generator().manual_seed(seed)
    frames = sum(clips)

    def random_images(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)

    place = [p for length in clips for p in range(length)]
    previous, following = neighbours(place, window)
    still = torch.eye(2, 3).repeat(len(following), 1, 1)
    return Batch(
        labelled=random_images(labelled),
        points=torch.rand(labelled, landmarks, 2, generator=generator) * (side - 20) + 10,
        visible=torch.ones(labelled, landmarks, dtype=torch.bool),
        weak=(weak := random_images(frames)),
        strong=random_images(frames),
        to_strong=torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]).expand(frames, 2, 3).clone(),
        flipped=torch.zeros(frames, dtype=torch.bool),
        size=torch.full((frames,), 40.0),
        clip=torch.tensor([i for i, length in enumerate(clips) for _ in range(length)], dtype=torch.long),
        previous=previous,
        following=following,
        seed=5,
        labelled_part=Part(tuple(range(labelled)), labelled),
        unlabelled_part=Part(tuple(range(frames)), frames),
        pairs=FramePairs(
            tuple(f"{i} {j}" for i, j in zip(previous.tolist(), following.tolist())),
            weak[previous],
            weak[following],
            still,
        ),
    )


def small_model(folder: Path) -> Path:
    """The file of an untrained detector of five landmarks: a teacher alone."""
    torch.manual_seed(0)
    small = config("model.input=32", "model.width=0.05", "model.stages=1", "data.scheme=5")
    models, fingerprint = {"teacher": Detector(5, small.model)}, {"scheme": generic_scheme(5).to_dict()}
    save_models(folder / "model.pt", models, small, fingerprint)
    return folder / "model.pt"


class DotDetector(nn.Module):
    """Sees the one bright dot of an image, in both of its sources."""

    stride = 8

    def forward(self, images):
        return Detection([images], images[:, :1], images)

    def maps(self, detection):
        return detection.stages[-1].mean(1, keepdim=True)[..., ::8, ::8]

    @property
    def heatmap_codec(self):
        return SimpleNamespace(decode=self._decode)

    def heatmap(self, detection):
        return self._decode(detection.stages[-1])

    def _decode(self, images):
        light = images.mean(1)
        y, x = torch.meshgrid(*(torch.arange(n, dtype=light.dtype) for n in light.shape[1:]), indexing="ij")
        points = (
            torch.stack([(light * x).sum((1, 2)), (light * y).sum((1, 2))], -1)
            / light.sum((1, 2)).clamp_min(1e-9)[:, None]
        )
        return points[:, None], torch.full((len(light), 1), 0.9)

    def centre(self, detection):
        return self.heatmap(detection)[0][:, None] + 2, torch.full((len(detection.centre), 1), 0.7)


class Shift(nn.Module):
    """A tracker that says that everything moves by (dx, dy) px of the input."""

    def __init__(self, dx: float, dy: float):
        super().__init__()
        self.flow = torch.tensor([dx, dy]).view(1, 2, 1, 1)

    def forward(self, first, second, both=False):
        flow = self.flow.expand(len(first), 2, *first.shape[-2:])
        flow = torch.cat([flow, -flow])
        return FlowEstimate([flow], torch.full_like(flow[:, :1], 20.0))


def scenery(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A smooth random grey image, rich enough for flow."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def moving_clip(root, frames: int = 3) -> tuple[Clip, np.ndarray, float]:
    """A dot that moves by two input px a frame to the right, in a box that stays -> clip, places (T, 2) px, input px a
    px.
    """
    box, zoom = (20.0, 20.0, 80.0, 80.0), 63 / (1.35 * 60)
    places = np.array([[40.0 + 2 / zoom * t, 52.0] for t in range(frames)])
    for t, place in enumerate(places):
        save_image(root / "clip" / f"{t}.png", dot_image(100, 100, *place, 3))
    return Clip("clip", tuple(face(f"clip/{t}.png", box, row=t + 1) for t in range(frames))), places, zoom
