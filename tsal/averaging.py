"""The teacher as an exponential moving average (EMA) of the student, the ramps of the unlabelled losses, statistics
of a batch that are not kept, a running mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def ramp(fraction: float, up: float, down: float) -> float:
    """Weight w(t) of the unlabelled losses at a fraction of the run in [0, 1] (arXiv 2012.06711).

    exp(-5 (1 - t/up)^2) up to ``up``, 1 up to ``down``, then exp(-12.5 (1 - (1 - t)/(1 - down))^2).
    """
    if fraction < up:
        return math.exp(-5 * (1 - fraction / up) ** 2)
    if fraction > down:
        return math.exp(-12.5 * (1 - (1 - fraction) / (1 - down)) ** 2)
    return 1.0


@torch.no_grad()
def average_into(target: nn.Module, source: nn.Module, decay: float, *, bn_stats: str = "own") -> None:
    """target <- decay * target + (1 - decay) * source, in place, for every parameter.

    Buffers (the running statistics of batch normalisation) belong to the data that a model saw: ``own`` leaves the
    target's alone; ``average`` treats them like parameters, which a target that never trains itself needs. Counters are
    never averaged.
    """
    own, other = list(target.parameters()), list(source.parameters())
    torch._foreach_lerp_(own, other, 1 - decay)
    if bn_stats == "average":
        for buffer, source_buffer in zip(target.buffers(), source.buffers()):
            if buffer.is_floating_point():
                buffer.lerp_(source_buffer, 1 - decay)


@torch.no_grad()
def average_models(teacher: nn.Module, student: nn.Module, decay: float, direction: str, bn_stats: str = "own") -> None:
    """One step of the moving average.

    ``student_to_teacher``: the teacher alone changes. ``mutual``: then the student moves towards the new teacher as
    well, as in the released code: the two soon are one network. ``none``: the two never meet.
    """
    if direction in ("student_to_teacher", "mutual"):
        average_into(teacher, student, decay, bn_stats=bn_stats)
    if direction == "mutual":
        average_into(student, teacher, decay, bn_stats=bn_stats)


@torch.no_grad()
def distance(first: nn.Module, second: nn.Module) -> float:
    """Relative distance of two networks' parameters: |a - b| / |a|."""
    pairs = list(zip(first.parameters(), second.parameters()))
    difference = sum((a - b).square().sum() for a, b in pairs)
    return float((difference / sum(a.square().sum() for a, _ in pairs).clamp_min(1e-12)).sqrt())


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within, batch normalisation takes the statistics of its batch, as in learning, and keeps none of them."""
    training, layers = model.training, [layer for layer in model.modules() if hasattr(layer, "track_running_stats")]
    tracking = [layer.track_running_stats for layer in layers]
    model.train()
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        model.train(training)
        for layer, tracked in zip(layers, tracking):
            layer.track_running_stats = tracked


class RunningMean(nn.Module):
    """Mean of the vectors (C,) that it was given: of all, until they are ``span``; then older ones fade (by a recursive
    average).
    """

    def __init__(self, size: int, span: int = 100):
        super().__init__()
        self.span = span
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, value: Tensor) -> Tensor:
        """Add one more vector (C,) and return the mean that includes it."""
        self.count += 1
        self.mean += (value - self.mean) / self.count.clamp_max(self.span)
        return self.mean.clone()
