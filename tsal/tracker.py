"""The tracker: a small flow network, what tells a good track from a bad one, and the steps that train it without labels.

Flow is ``(N, 2, H, W)``, x then y, in pixels of the full-resolution input: pixel x of one frame is seen at x + flow(x) in the
other. Images are ``(N, 3, H, W)`` in [0, 1], not mean-normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsal.geometry import inside, pixel_grid, sample, warp
from tsal.losses_flow import FlowWeights, endpoint_error, grey, supervised_flow_loss, unsupervised_flow_loss


def _float32(images: Tensor):
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
    with _float32(first):
        # A matrix product of whole rows and the band around its diagonal: 8 times faster on a CPU than a product for each of
        # the displacements, 13 times faster than unfolding. (W x C) @ (C x W'), of which entry (x, x + dx) is wanted.
        rows = first.float().permute(0, 2, 3, 1).contiguous() / channels
        others = F.pad(second.float(), (search,) * 4).permute(0, 2, 1, 3).contiguous()
        bands = []
        for shift in range(side):
            products = rows @ others[:, shift : shift + height]
            # Appending one row's width and reading rows one longer slides row x by x, so the band becomes the first columns.
            skewed = F.pad(products.flatten(2), (0, width)).view(batch, height, width, width + 2 * search + 1)
            bands.append(skewed[..., :side])
        return torch.cat(bands, dim=-1).permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, *, dilation: int = 1, halve: bool = False) -> nn.Sequential:
    # A 4x4 kernel halves about cell centres, (i + 0.5) 2 - 0.5, as geometry has them; 3x3 would shift half a pixel a level.
    shape = dict(kernel_size=4, stride=2, padding=1) if halve else dict(kernel_size=3, padding=dilation, dilation=dilation)
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
    """Features (N, C, h, w), each channel centred over the picture, of length sqrt(C) at every cell; float32.

    The cost volume then holds correlation coefficients: without this (as in UFlow, sec. 3.3) training takes long to start.
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


class ReducedDense(nn.Module):
    """ARFlow's flow estimator: five layers, each of which sees the two before it -> (features, flow in cells)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        widths = (width, width, width * 3 // 4, width // 2, width // 4)
        seen = (inputs, widths[0], *(a + b for a, b in zip(widths, widths[1:])))
        self.layers = nn.ModuleList(_conv(i, o) for i, o in zip(seen, widths))
        self.outputs = seen[-1]
        self.flow = _zero_output(self.outputs + 2)

    def forward(self, features: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        older, newer = None, self.layers[0](features)
        for layer in self.layers[1:]:
            older, newer = newer, layer(newer if older is None else torch.cat([older, newer], dim=1))
        features = torch.cat([older, newer], dim=1)
        return features, self.flow(torch.cat([features, peak], dim=1))


class FlowNet(nn.Module):
    """PWC-Lite (ARFlow, arXiv 2003.13045): one feature pyramid and one flow estimator, shared by images and by levels.

    Args:
        channels: of the feature levels at strides 2, 4, 8, ...; with the image itself, the paper's 7 levels are
            (16, 32, 64, 96, 128, 192).
        search: cells that the cost volume looks around, at every level.
        finest: level of the finest estimated flow, at stride 2^finest; full resolution is its bilinear enlargement.
        width: of the estimator and the context network; 128 in ARFlow, where features are also aligned to 32 channels.

    Beyond ARFlow, the estimator sees the expected displacement of the cost volume, which it need not learn to read out, and
    features are normalised before they are correlated: with both, a few hundred steps are enough to be of use.
    """

    def __init__(self, channels: tuple[int, ...] = (12, 24, 32, 48, 64), search: int = 4, finest: int = 2, width: int = 32):
        super().__init__()
        if not 1 <= finest <= len(channels):
            raise ValueError(f"finest = {finest} is not a level of {len(channels)}")
        self.search, self.finest = search, finest
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

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) -> features from stride 2^finest on, finest first."""
        found, current = [], images - 0.5
        for level in self.levels:
            current = level(current)
            found.append(current)
        return found[self.finest - 1 :]

    def forward(self, first: Tensor, second: Tensor, both: bool = False) -> list[Tensor]:
        """Flow from the pixels of ``first`` to those of ``second``.

        Args:
            first, second: (N, 3, H, W) in [0, 1]; any H and W.
            both: append the flow of the other direction to the batch; the features are shared.

        Returns:
            float32 flows, finest first, all in px of the full-resolution input: (N or 2N, 2, H, W), then those of level
            finest + 1, finest + 2, ..., each (N or 2N, 2, ceil(H / stride), ceil(W / stride)).
        """
        height, width = first.shape[-2:]
        multiple = 2 ** len(self.levels)
        padding = (0, -width % multiple, 0, -height % multiple)
        pyramid = self.features(F.pad(torch.cat([first, second]), padding, mode="replicate"))
        flows, flow = [], None
        for index in reversed(range(len(pyramid))):
            here, there = pyramid[index].chunk(2)
            if both:
                here, there = pyramid[index], torch.cat([there, here])
            flow = self._refine(here, there, flow, self.align[index])
            flows.append(flow * 2 ** (self.finest + index))
        flows[-1] = F.interpolate(flows[-1], scale_factor=2**self.finest, mode="bilinear", align_corners=False)
        strides = [2 ** (self.finest + index) for index in range(len(pyramid))]
        strides[0] = 1
        return [f[..., : -(-height // s), : -(-width // s)] for f, s in zip(reversed(flows), strides)]

    def _refine(self, here: Tensor, there: Tensor, coarser: Tensor | None, align: nn.Module) -> Tensor:
        """Flow (N, 2, h, w) in cells of this level from the features of both frames and the flow of the coarser level."""
        if coarser is None:
            flow = here.new_zeros(here.shape[0], 2, *here.shape[-2:], dtype=torch.float32)
        else:
            flow = 2 * F.interpolate(coarser, scale_factor=2, mode="bilinear", align_corners=False)
            with _float32(here):
                there = warp(there.float(), flow)
        costs = cost_volume(normalise(here), normalise(there), self.search)
        peak = expected_displacement(costs, self.log_temperature.exp())
        features, change = self.estimator(torch.cat([costs, peak, align(here), flow], dim=1), peak)
        flow = flow + change.float()
        return flow + self.context(torch.cat([features, flow], dim=1)).float()


def both_directions(net: nn.Module, first: Tensor, second: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Flow pyramids (forward: first -> second, backward: second -> first) of frames (N, 3, H, W), in one network call."""
    forward_and_backward = [flow.chunk(2) for flow in net(first, second, both=True)]
    return [flow[0] for flow in forward_and_backward], [flow[1] for flow in forward_and_backward]


@torch.no_grad()
def track_frames(net: nn.Module, first: Tensor, second: Tensor, polish_steps: int = 3) -> tuple[Tensor, Tensor]:
    """Flows (forward, backward), each (N, 2, H, W) px, between frames (N, 3, H, W): to track with, not to learn from."""
    forward, backward = (pyramid[0] for pyramid in both_directions(net, first, second))
    if polish_steps:
        forward, backward = polish(first, second, forward, polish_steps), polish(second, first, backward, polish_steps)
    return forward, backward


def forward_backward_error(flow_forward: Tensor, flow_backward: Tensor) -> Tensor:
    """|F(x) + B(x + F(x))| of flows (N, 2, H, W) -> (N, H, W) px: how far from itself a pixel comes back."""
    return (flow_forward + warp(flow_backward, flow_forward)).square().sum(1).sqrt()


def _box(maps: Tensor, radius: int) -> Tensor:
    """Mean over a square window, the border repeated; by running sums, four times faster on a CPU than pooling."""
    side = 2 * radius + 1
    for axis, padding in ((-1, (radius + 1, radius, 0, 0)), (-2, (0, 0, radius + 1, radius))):
        sums = F.pad(maps, padding, mode="replicate").cumsum(axis)
        size = maps.shape[axis]
        maps = (sums.narrow(axis, side, size) - sums.narrow(axis, 0, size)) / side
    return maps


def _gradient(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y of maps (N, 1, H, W)."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def polish(first: Tensor, second: Tensor, flow: Tensor, steps: int = 3, radius: int = 4, damping: float = 0.01) -> Tensor:
    """Sharpen a flow to a fraction of a pixel: steps of Lucas and Kanade (1981) on locally normalised luma.

    A network trained for minutes at stride 4 errs by a pixel, however still the frames; this takes a third of that away.

    Args:
        first, second: (N, 3, H, W) in [0, 1].
        flow: first -> second (N, 2, H, W) px, right to about 2 px.
        radius: of the window, applied twice.
        damping: in squared gradients of the normalised luma; keeps the flow where there is no texture to correct it by.
    """

    def flatten(images: Tensor) -> Tensor:
        luma = grey(images.float())
        luma = luma - _box(luma, 4)
        return luma / (_box(luma.square(), 4) + 1e-3).sqrt()

    one, two = flatten(first), flatten(second)
    one_x, one_y = _gradient(one)
    for _ in range(steps):
        there = warp(two, flow)
        there_x, there_y = _gradient(there)
        x, y, change = (one_x + there_x) / 2, (one_y + there_y) / 2, there - one
        products = torch.cat([x * x, x * y, y * y, x * change, y * change], dim=1)
        xx, xy, yy, xt, yt = _box(_box(products, radius), radius).split(1, dim=1)
        xx, yy = xx + damping, yy + damping
        update = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy * xy)
        flow = flow + update.clamp(-1, 1)
    return flow


def _leaves(flow: Tensor) -> Tensor:
    """Where a flow (N, 2, H, W) leads out of the frame -> bool (N, H, W)."""
    height, width = flow.shape[-2:]
    reached = pixel_grid(height, width, device=flow.device, dtype=flow.dtype) + flow
    return ~inside(reached.permute(0, 2, 3, 1), height, width)


def occlusion_mask(flow_forward: Tensor, flow_backward: Tensor, alpha1: float = 0.01, alpha2: float = 0.5) -> Tensor:
    """Pixels of the first frame without a counterpart in the second (Sundaram et al., ECCV 2010, eq. 5).

    |F + B'|^2 > alpha1 (|F|^2 + |B'|^2) + alpha2 px^2, with B' = B(x + F(x)); pixels that leave the frame count as occluded.

    Returns:
        bool (N, H, W), True where occluded; it carries no gradient.
    """
    flow_forward, flow_backward = flow_forward.detach(), flow_backward.detach()
    returning = warp(flow_backward, flow_forward)
    error = (flow_forward + returning).square().sum(1)
    length = flow_forward.square().sum(1) + returning.square().sum(1)
    return (error > alpha1 * length + alpha2) | _leaves(flow_forward)


class TrackedPoints(NamedTuple):
    """Points carried to the next frame (N, K, 2) px, forward-backward error (N, K) px, and whether they stay in it (N, K)."""

    points: Tensor
    error: Tensor
    inside: Tensor


def track_points(points: Tensor, flow_forward: Tensor, flow_backward: Tensor) -> TrackedPoints:
    """Carry points (N, K, 2) px of the previous frame by the forward flow at them.

    ``inside`` needs the point to lie in both frames; the flow of a point outside is that of the nearest pixel.
    """
    height, width = flow_forward.shape[-2:]
    step = sample(flow_forward, points).transpose(1, 2)
    moved = points + step
    error = torch.linalg.vector_norm(step + sample(flow_backward, moved).transpose(1, 2), dim=-1)
    return TrackedPoints(moved, error, inside(points, height, width) & inside(moved, height, width))


def reconstruct_next(previous: Tensor, flow_backward: Tensor) -> Tensor:
    """Frame t + 1 (N, 3, H, W) out of frame t and the flow from t + 1 back to t."""
    return warp(previous, flow_backward)


class Motion(NamedTuple):
    """Ranges of the motion that synthetic pairs show; rotation and scale are drawn evenly, small shifts more often."""

    shift: float = 0.15  # of the picture's longer side
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
    """Smooth random flow (n, 2, height, width) px: shift, rotation and scale about the middle, and a low-frequency warp."""
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
    """Images (N, 3, H, W) under random brightness, contrast, gamma and noise, each picture its own; stays in [0, 1]."""

    def draw(scale: float) -> Tensor:
        return scale * _uniform((len(images), 1, 1, 1), generator, images.device)

    changed = images.clamp(1e-3, 1) ** torch.exp(draw(0.25))
    changed = (changed - 0.5) * torch.exp(draw(0.25)) + 0.5 + draw(0.08)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images.device)
    return (changed + draw(0.03).abs() * noise).clamp(0, 1)


def synthetic_pair(
    images: Tensor, generator: torch.Generator, motion: Motion = Motion(), *, layers: bool = True, photometric: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs of frames whose flow is known, out of single frames (N, 3, H, W).

    The second frame is the image, the first is the image warped, so that the warp's field is the flow first -> second. A patch
    of another image of the batch lies over both, and moves on its own: it occludes, as a hand or a turned head does.

    Returns:
        first, second (N, 3, H, W), flow_forward (N, 2, H, W) px, and valid (N, H, W) bool: False where the counterpart of a
        pixel of the first frame is covered in the second, or lies outside it.
    """
    n, _, height, width = images.shape
    flow = random_flow(n, height, width, generator, images.device, motion)
    first, second = warp(images, flow), images
    valid = ~_leaves(flow)
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
        valid = clear & ~_leaves(flow)
    if photometric:
        first, second = photometric_change(first, generator), photometric_change(second, generator)
    return first, second, flow, valid


def tracker_loss(
    net: nn.Module,
    first: Tensor,
    second: Tensor,
    *,
    phase: str,
    generator: torch.Generator | None = None,
    weights: FlowWeights = FlowWeights(),
    motion: Motion = Motion(),
    use_occlusion: bool = True,
    detect: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one training step of the tracker; no phase needs labels.

    Args:
        first, second: frames (N, 3, H, W) in [0, 1], neighbours in time.
        phase: "synthetic" learns from warps of ``first`` alone, whose flow is known; "video" from the pair itself.
        generator: draws the synthetic pairs.
        use_occlusion: leave occluded pixels out of the photometric term; off during a warm-up, while the flow is unfit to
            tell them. Pixels that leave the frame are always left out.
        detect: frozen detector in eval mode, images -> heatmaps (N, K, h, w), for the detection consistency.

    Returns:
        the loss, and its detached parts.
    """
    if phase == "synthetic":
        with torch.no_grad():
            first, second, truth, valid = synthetic_pair(first, generator, motion)
        pyramid = net(first, second)
        loss = supervised_flow_loss(pyramid, truth, valid, weights.synthetic_levels)
        return loss, {"endpoint_error": endpoint_error(pyramid[0].detach(), truth, valid)}
    if phase != "video":
        raise ValueError(f'phase is "synthetic" or "video", not {phase!r}')
    forward, backward = both_directions(net, first, second)
    if use_occlusion:
        hidden_first, hidden_second = occlusion_mask(forward[0], backward[0]), occlusion_mask(backward[0], forward[0])
    else:
        hidden_first, hidden_second = _leaves(forward[0].detach()), _leaves(backward[0].detach())
    loss, terms = unsupervised_flow_loss(first, second, forward, backward, ~hidden_first, ~hidden_second, weights, detect)
    return loss, terms | {"occluded": hidden_first.float().mean()}
