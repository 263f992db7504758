"""The optical-flow network.

Flow is ``(N, 2, H, W)``, x then y, in pixels of the full-resolution input: pixel x of one frame is seen at x + flow(x)
in the other. Images are ``(N, 3, H, W)`` in [0, 1], not mean-normalised.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsal.geometry import warp


def float32_only(images: Tensor):
    """Switch autocast off: half precision has too few digits for positions and for sums over channels."""
    return torch.autocast(images.device.type, enabled=False)


def cost_volume(first: Tensor, second: Tensor, search: int) -> Tensor:
    """Correlation of every cell with the cells of the other map around it (PWC-Net eq. 2).

    Args:
        first, second: features (N, C, h, w).
        search: largest displacement in cells.

    Returns:
        float32 (N, (2 search + 1)^2, h, w): mean over channels of first(x) * second(x + d); channel
        (dy + search) (2 search + 1) + dx + search. Cells past the border count as zero.
    """
    batch, channels, height, width = first.shape
    side = 2 * search + 1
    with float32_only(first):
        # A matrix product of whole rows and the band around its diagonal: 8 times faster on a CPU than a product for
        # each of the displacements, 13 times faster than unfolding. (W x C) @ (C x W'), of which entry (x, x + dx) is
        # wanted.
        rows = first.float().permute(0, 2, 3, 1).contiguous() / channels
        others = F.pad(second.float(), (search,) * 4).permute(0, 2, 1, 3).contiguous()
        bands = []
        for shift in range(side):
            products = rows @ others[:, shift : shift + height]
            # Appending one row's width and reading rows one longer slides row x by x, so the band becomes the first
            # columns.
            skewed = F.pad(products.flatten(2), (0, width)).view(batch, height, width, width + 2 * search + 1)
            bands.append(skewed[..., :side])
        return torch.cat(bands, dim=-1).permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, *, dilation: int = 1, halve: bool = False) -> nn.Sequential:
    # A 4x4 kernel halves about cell centres, (i + 0.5) 2 - 0.5, as geometry has them; 3x3 would shift half a pixel a
    # level.
    shape = (
        dict(kernel_size=4, stride=2, padding=1) if halve else dict(kernel_size=3, padding=dilation, dilation=dilation)
    )
    layer = nn.Conv2d(inputs, outputs, **shape)
    nn.init.kaiming_normal_(layer.weight, a=0.1)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.LeakyReLU(0.1))


def _zero_output(inputs: int) -> nn.Conv2d:
    """The last layer of a flow estimator: zero flow until trained."""
    layer = nn.Conv2d(inputs, 2, 3, padding=1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def normalise(features: Tensor) -> Tensor:
    """Features (N, C, h, w), each channel centred over the image, of length sqrt(C) at every cell; float32.

    The cost volume then holds correlation coefficients: without this (as in UFlow, sec. 3.3) training takes long to
    start.
    """
    features = features.float()
    centred = features - features.mean((2, 3), keepdim=True)
    return F.normalize(centred, dim=1, eps=1e-3) * features.shape[1] ** 0.5


def expected_displacement(costs: Tensor, temperature: Tensor | float) -> Tensor:
    """Soft-argmax of a cost volume (N, (2 search + 1)^2, h, w) -> mean displacement (N, 2, h, w) in cells, x then y."""
    search = int(costs.shape[1] ** 0.5) // 2
    steps = torch.arange(-search, search + 1, device=costs.device, dtype=costs.dtype)
    chance = torch.softmax(costs * temperature, dim=1).unflatten(1, (2 * search + 1, 2 * search + 1))
    steps = steps.view(1, -1, 1, 1)
    return torch.stack([(chance.sum(1) * steps).sum(1), (chance.sum(2) * steps).sum(1)], dim=1)


def enlarge(flow: Tensor, logits: Tensor) -> Tensor:
    """Flow (N, 2, h, w) -> (N, 2, s h, s w): each fine pixel is a convex mean of the 3x3 cells around its own.

    Args:
        logits: (N, 9 s^2, h, w), whose softmax over the 9 cells (row by row) gives the weights; channel i s^2 + y s +
            x.
    """
    n, _, height, width = flow.shape
    side = int((logits.shape[1] // 9) ** 0.5)
    weights = logits.float().view(n, 1, 9, side, side, height, width).softmax(2)
    cells = F.unfold(F.pad(flow, (1, 1, 1, 1), mode="replicate"), 3).view(n, 2, 9, 1, 1, height, width)
    return (weights * cells).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(n, 2, height * side, width * side)


class ReducedDense(nn.Module):
    """ARFlow's flow estimator: five layers, each of which sees the two before it -> (features, flow in cells)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        widths = (width, width, width * 3 // 4, width // 2, width // 4)
        input_widths = (inputs, widths[0], *(a + b for a, b in zip(widths, widths[1:])))
        self.layers = nn.ModuleList(_conv(i, o) for i, o in zip(input_widths, widths))
        self.outputs = input_widths[-1]
        self.flow = _zero_output(self.outputs + 2)

    def forward(self, features: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        older, newer = None, self.layers[0](features)
        for layer in self.layers[1:]:
            older, newer = newer, layer(newer if older is None else torch.cat([older, newer], dim=1))
        features = torch.cat([older, newer], dim=1)
        return features, self.flow(torch.cat([features, peak], dim=1))


def _cut(flow: Tensor, height: int, width: int, stride: int) -> Tensor:
    """A flow without the cells past the image that padding has added."""
    return flow[..., : -(-height // stride), : -(-width // stride)]


SURE = 5.0  # logit of a pixel that is seen


class FlowEstimate(NamedTuple):
    """What a flow network says of N pairs of frames, or of 2N: forward, then backward."""

    flows: list[Tensor]  # finest first, in px of the full-resolution input, see :meth:`FlowNet.forward`
    seen: Tensor  # (N, 1, H, W) logit: the pixel is visible in the other frame
    earlier: tuple[Tensor, ...] = ()  # flows of iterations that a later one of the same level replaced: to learn from


class FlowNet(nn.Module):
    """PWC-Lite (ARFlow, arXiv 2003.13045): one feature pyramid and one flow estimator, shared by images and by levels.

    Args:
        channels: of the feature levels at strides 2, 4, 8, ...; with the image itself, the paper's 7 levels are
            (16, 32, 64, 96, 128, 192).
        search: cells that the cost volume looks around, at every level.
        finest: level of the finest estimated flow, at stride 2^finest; full resolution is its learned convex
            enlargement (RAFT, arXiv 2003.12039, sec. 3.3), which keeps the edges of what moves sharp.
        width: of the estimator and the context network; 128 in ARFlow, where features are also aligned to 32 channels.
        iterations: how often the flow of each level is refined, finest first; the last number holds for further levels.

    Beyond ARFlow, a level may be refined more than once, as in RAFT, and a head says which pixels the other frame
    shows: what is hidden there has no flow. The estimator sees the expected displacement of the cost volume, which it
    need not learn to read out, and features are normalised before they are correlated: with both, a few hundred steps
    are enough to be of use.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (12, 24, 32, 48, 64),
        search: int = 3,
        finest: int = 1,
        width: int = 32,
        iterations: tuple[int, ...] = (1,),
    ):
        super().__init__()
        if not 1 <= finest <= len(channels):
            raise ValueError(f"finest = {finest} is not a level of {len(channels)}")
        if not iterations or min(iterations) < 1:
            raise ValueError(f"iterations = {iterations}: want a number of 1 or more for each level, finest first")
        self.search, self.finest = search, finest
        levels = len(channels) - finest + 1
        self.iterations = (*iterations, *(iterations[-1],) * levels)[:levels]
        self.levels = nn.ModuleList(
            nn.Sequential(_conv(i, o, halve=True), _conv(o, o)) for i, o in zip((3, *channels), channels)
        )
        aligned = min(32, width // 2)
        self.align = nn.ModuleList(nn.Conv2d(c, aligned, 1) for c in channels[finest - 1 :])
        self.estimator = ReducedDense((2 * search + 1) ** 2 + aligned + 4, width)
        self.log_temperature = nn.Parameter(torch.tensor(3.0))
        widths = (width, width, width, width * 3 // 4, width // 2, width // 4)
        inputs = (self.estimator.outputs + 2, *widths)
        context = [_conv(i, o, dilation=d) for i, o, d in zip(inputs, widths, (1, 2, 4, 8, 16, 1))]
        self.context = nn.Sequential(*context, _zero_output(widths[-1]))
        self.mix = nn.Sequential(
            _conv(self.estimator.outputs + 2 + aligned, 2 * width), nn.Conv2d(2 * width, 9 * 4**finest, 1)
        )
        costs = (2 * search + 1) ** 2
        self.seen = nn.Sequential(_conv(self.estimator.outputs + 2 + aligned + costs, 32), nn.Conv2d(32, 1, 1))
        nn.init.zeros_(self.seen[1].weight)
        nn.init.constant_(self.seen[1].bias, SURE)  # until it is taught otherwise, every pixel is seen

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) -> features from stride 2^finest on, finest first."""
        pyramid, current = [], images - 0.5
        for level in self.levels:
            current = level(current)
            pyramid.append(current)
        return pyramid[self.finest - 1 :]

    def forward(self, first: Tensor, second: Tensor, both: bool = False) -> FlowEstimate:
        """Flow from the pixels of ``first`` to those of ``second``.

        Args:
            first, second: (N, 3, H, W) in [0, 1]; any H and W.
            both: append the flow of the other direction to the batch; the features are shared.

        Returns:
            float32 flows, finest first, all in px of the full-resolution input: (N or 2N, 2, H, W), then those of level
            finest, finest + 1, ..., each (N or 2N, 2, ceil(H / stride), ceil(W / stride)); and what is seen.
        """
        height, width = first.shape[-2:]
        multiple = 2 ** len(self.levels)
        padding = (0, -width % multiple, 0, -height % multiple)
        pyramid = self.features(F.pad(torch.cat([first, second]), padding, mode="replicate"))
        flows, earlier, flow = [], [], None
        for index in reversed(range(len(pyramid))):
            here, there = pyramid[index].chunk(2)
            if both:
                here, there = pyramid[index], torch.cat([there, here])
            refined, features, costs = self._refine(here, there, flow, index)
            flow, stride = refined[-1], 2 ** (self.finest + index)
            flows.append(flow * stride)
            earlier += [_cut(each * stride, height, width, stride) for each in refined[:-1]]
        flows.append(enlarge(flows[-1], self.mix(features)))
        logits = F.interpolate(
            self.seen(torch.cat([features, costs], 1)).float(),
            flows[-1].shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        strides = [1, *(2 ** (self.finest + index) for index in range(len(pyramid)))]
        cut = [_cut(flow, height, width, stride) for flow, stride in zip(reversed(flows), strides)]
        return FlowEstimate(cut, logits[..., :height, :width], tuple(earlier))

    def _refine(
        self, here: Tensor, there: Tensor, coarser: Tensor | None, index: int
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Flows (N, 2, h, w) in cells of this level, one an iteration, from the features of both frames and the flow of
        the coarser level; and the features and costs that the enlargement and the doubt need.
        """
        if coarser is None:
            flow = here.new_zeros(here.shape[0], 2, *here.shape[-2:], dtype=torch.float32)
        else:
            flow = 2 * F.interpolate(coarser, scale_factor=2, mode="bilinear", align_corners=False)
        aligned, normal, flows = self.align[index](here), normalise(here), []
        for _ in range(self.iterations[index]):
            moved = there
            if coarser is not None or flows:
                with float32_only(here):
                    moved = warp(there.float(), flow)
            costs = cost_volume(normal, normalise(moved), self.search)
            peak = expected_displacement(costs, self.log_temperature.exp())
            features, change = self.estimator(torch.cat([costs, peak, aligned, flow], dim=1), peak)
            flow = flow + change.float()
            flow = flow + self.context(torch.cat([features, flow], dim=1)).float()
            flows.append(flow)
        return flows, torch.cat([features, flow, aligned], dim=1), costs


def both_directions(net: nn.Module, first: Tensor, second: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Flow pyramids (forward: first -> second, backward: second -> first) of frames (N, 3, H, W), in one call."""
    forward_and_backward = [flow.chunk(2) for flow in net(first, second, both=True).flows]
    return [flow[0] for flow in forward_and_backward], [flow[1] for flow in forward_and_backward]


@torch.no_grad()
def track_frames(net: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Flows (forward, backward) between frames (N, 3, H, W), to track with.

    Returns:
        each (N, 3, H, W): x and y in px, and the probability that the pixel is visible in the other frame.
    """
    estimate = net(first, second, both=True)
    return torch.cat([estimate.flows[0], estimate.seen.sigmoid()], 1).chunk(2)
