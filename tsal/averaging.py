"""How the teacher takes in the student, the ramps of the unlabelled losses, and a mean that runs along."""

from __future__ import annotations

import math

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
def average_into(target: nn.Module, source: nn.Module, alpha: float, *, buffers: str = "own") -> None:
    """target <- alpha * target + (1 - alpha) * source, in place, for every parameter.

    Buffers (the running statistics of batch normalisation) belong to the data that a member saw: ``own`` leaves the
    target's alone; ``average`` treats them like parameters, which a target that never trains itself needs. Counters are
    never averaged.
    """
    own, other = list(target.parameters()), list(source.parameters())
    torch._foreach_lerp_(own, other, 1 - alpha)
    if buffers == "average":
        for mine, theirs in zip(target.buffers(), source.buffers()):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - alpha)


@torch.no_grad()
def average_members(
    teacher: nn.Module, student: nn.Module, alpha: float, direction: str, *, buffers: str = "own"
) -> None:
    """One recursive average, after each step.

    ``student_to_teacher``: the teacher alone changes. ``mutual``: then the student takes in the (new) teacher as well,
    as the
    released code does: the two soon are one network. ``none``: the two never meet.
    """
    if direction in ("student_to_teacher", "mutual"):
        average_into(teacher, student, alpha, buffers=buffers)
    if direction == "mutual":
        average_into(student, teacher, alpha, buffers=buffers)


@torch.no_grad()
def distance(first: nn.Module, second: nn.Module) -> float:
    """Relative distance of two networks' parameters: |a - b| / |a|."""
    pairs = list(zip(first.parameters(), second.parameters()))
    difference = sum((a - b).square().sum() for a, b in pairs)
    return float((difference / sum(a.square().sum() for a, _ in pairs).clamp_min(1e-12)).sqrt())


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
        """Take in one more -> the mean with it."""
        self.count += 1
        self.mean += (value - self.mean) / self.count.clamp_max(self.span)
        return self.mean.clone()
