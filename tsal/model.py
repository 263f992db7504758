"""The detector: a backbone, stages of landmark heatmaps, and a centre-and-offset branch (two supervision sources)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsal.codecs import CentreCodec, HeatmapCodec
from tsal.config import ModelConfig
from tsal.utils import ConfigError, InputError, load_checkpoint, weights_file

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Detection:
    """Raw outputs for N images, on a map of h x w cells."""

    stages: list[Tensor]  # of (N, K + 1, h, w): K landmarks and the background; logits or values
    centre: Tensor  # (N, 1, h, w) logits
    offsets: Tensor  # (N, 2K, h, w) cells

    def rows(self, index) -> Detection:
        """The detection of some of the images (a slice, or indices)."""
        return Detection([stage[index] for stage in self.stages], self.centre[index], self.offsets[index])

    def detach(self) -> Detection:
        return Detection([stage.detach() for stage in self.stages], self.centre.detach(), self.offsets.detach())


class Detector(nn.Module):
    """Images (N, 3, S, S) in [0, 1] -> :class:`Detection`, on cells of ``stride`` px."""

    stride = 8

    def __init__(self, landmarks: int, config: ModelConfig):
        super().__init__()
        if config.input % 32:
            raise ConfigError(f"model.input: {config.input} is not a multiple of 32")
        self.landmarks, self.config = landmarks, config
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)
        if config.size == "light":
            self.backbone = LightBackbone(config.width)
            features = self.backbone.outputs
            self.stages = nn.ModuleList(
                LightStage(features, (landmarks + 1) * (i > 0), landmarks + 1) for i in range(config.stages)
            )
            self.centre_head = LightHead(features, 1)
            self.offset_head = LightHead(features, 2 * landmarks)
        else:
            self.backbone = Vgg16Backbone()
            self.stages = nn.ModuleList(cpm_stage(128, landmarks + 1, i > 0) for i in range(config.stages))
            self.centre_head = centre_branch(128, 1)
            self.offset_head = centre_branch(128, 2 * landmarks)
            if config.vgg16_weights:
                load_vgg16(self.backbone, weights_file(config.vgg16_weights))
        nn.init.constant_(self.centre_head[-1].bias, -2.19)  # a prior of 0.1 a cell, as in CenterNet

    @property
    def map_size(self) -> int:
        """Cells along a side of the output."""
        return self.config.input // self.stride

    @property
    def heatmap_codec(self) -> HeatmapCodec:
        config = self.config
        size = (self.map_size, self.stride, config.sigma)
        return HeatmapCodec(*size, config.heatmap_shape, config.heatmap, config.decode_radius)

    @property
    def centre_codec(self) -> CentreCodec:
        return CentreCodec(self.map_size, self.stride, self.config.sigma, self.config.centre_candidates)

    def forward(self, images: Tensor) -> Detection:
        features = self.backbone((images - self.image_mean) / self.image_std)
        outputs: list[Tensor] = []
        for stage in self.stages:
            outputs.append(stage(torch.cat([features, *outputs[-1:]], 1)))
        return Detection(outputs, self.centre_head(features), self.offset_head(features))

    def heatmap(self, detection: Detection) -> tuple[Tensor, Tensor]:
        """Source ``heatmap`` -> points (N, K, 2) px, scores (N, K)."""
        return self.heatmap_codec.decode(detection.stages[-1])

    def maps(self, detection: Detection) -> Tensor:
        """Heatmaps (N, K, h, w) of the last stage: distributions over the map, or values as they were drawn."""
        return self.heatmap_codec.maps(detection.stages[-1])

    def centre(self, detection: Detection) -> tuple[Tensor, Tensor]:
        """Source ``centre``: top-N candidates -> points (N, M, K, 2) px, scores (N, M)."""
        return self.centre_codec.decode(detection.centre, detection.offsets)


def _block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel - 1) // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first may halve the size."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.first = _block(inputs, outputs, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class LightBackbone(nn.Module):
    """Residual blocks down to stride 32 and a feature pyramid back to stride 8: (N, outputs, S/8, S/8).

    Args:
        width: all numbers of channels over those of the default, rounded to multiples of 8.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        widths = [max(8, 8 * round(channels * width / 8)) for channels in (16, 32, 64, 96, 128)]
        self.outputs = widths[2]
        self.stem = _block(3, widths[0], 3, 2)
        self.levels = nn.ModuleList(
            nn.Sequential(Residual(a, b, 2), Residual(b, b)) for a, b in zip(widths, widths[1:])
        )
        self.lateral = nn.ModuleList(nn.Conv2d(channels, self.outputs, 1) for channels in widths[2:])
        self.smooth = _block(self.outputs, self.outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        pyramid = []
        for level in self.levels:
            x = level(x)
            pyramid.append(x)
        merged = None
        for lateral, features in zip(reversed(self.lateral), reversed(pyramid[1:])):
            own = lateral(features)
            merged = own if merged is None else own + F.interpolate(merged, scale_factor=2, mode="nearest")
        return self.smooth(merged)


class LightStage(nn.Sequential):
    """Features, and what the stage before found (``more`` channels), -> heatmaps."""

    def __init__(self, features: int, more: int, outputs: int):
        super().__init__(
            _block(features + more, features), Residual(features, features), nn.Conv2d(features, outputs, 1)
        )


class LightHead(nn.Sequential):
    def __init__(self, features: int, outputs: int):
        super().__init__(_block(features, features), nn.Conv2d(features, outputs, 1))


class Vgg16Backbone(nn.Module):
    """VGG-16 up to conv4_3 (torchvision's indices), then the CPM's two convolutions: (N, 128, S/8, S/8)."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for item in (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512):
            if item == "pool":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(width, item, 3, padding=1), nn.ReLU(inplace=True)]
                width = item
        self.features = nn.Sequential(*layers)
        self.reduce = nn.Sequential(
            nn.Conv2d(512, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 128, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.reduce(self.features(images))


def cpm_stage(features: int, outputs: int, refining: bool) -> nn.Sequential:
    """A stage of convolutional pose machines (CVPR 2016); stages after the first see the heatmaps before them."""
    inputs = features + outputs * refining
    kernels = (7, 7, 7, 7, 7, 1, 1) if refining else (3, 3, 3, 1, 1)
    widths = [128] * (len(kernels) - 2) + [128 if refining else 512, outputs]
    layers: list[nn.Module] = []
    for kernel, width in zip(kernels, widths):
        layers += [nn.Conv2d(inputs, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        inputs = width
    stage = nn.Sequential(*layers[:-1])
    for module in stage:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    nn.init.normal_(stage[-1].weight, std=0.01)
    return stage


def centre_branch(features: int, outputs: int) -> nn.Sequential:
    """A head of the paper's centre-and-offset branch (CenterNet's form)."""
    return nn.Sequential(nn.Conv2d(features, 256, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(256, outputs, 1))


def load_vgg16(backbone: Vgg16Backbone, path: Path) -> None:
    """ImageNet weights from a local file with torchvision's names (``features.0.weight`` ...), strict by name and
    shape.

    The rest of VGG-16 (conv5 and the classifier) may be there and is left out; any other name, and a missing one, is an
    error.
    """
    weights = load_checkpoint(path, what="file of VGG-16 weights (model.vgg16_weights)")
    own = {f"features.{name}": value for name, value in backbone.features.state_dict().items()}
    unused = {f"features.{i}.{kind}" for i in (24, 26, 28) for kind in ("weight", "bias")}
    unused |= {f"classifier.{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias")}
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys() - unused)
    if missing or unknown:
        raise InputError(f"{path}: not torchvision's VGG-16 weights: missing {missing[:3]}, unknown {unknown[:3]}")
    wrong = [name for name in own if own[name].shape != weights[name].shape]
    if wrong:
        raise InputError(
            f"{path}: weight {wrong[0]} has shape {tuple(weights[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}"
        )
    backbone.features.load_state_dict({name.removeprefix("features."): weights[name] for name in own})
