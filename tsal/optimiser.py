"""The optimiser of a network: groups with rates of their own, a schedule, one step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tsal.config import TrainConfig


def make_optimiser(module: nn.Module, train: TrainConfig, lr: float) -> torch.optim.Optimizer:
    """SGD (Nesterov) or AdamW; biases and heatmap stages may have rates of their own. Each parameter is in one."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        rate = (train.bias_lr if name.endswith("bias") else 1.0) * (
            train.stage_lr if name.startswith("stages.") else 1.0
        )
        decay = train.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    rows = [
        {"params": items, "lr": lr * rate, "base_lr": lr * rate, "weight_decay": decay}
        for (rate, decay), items in groups.items()
    ]
    placed = [id(p) for row in rows for p in row["params"]]
    if sorted(placed) != sorted(id(p) for p in module.parameters()):
        raise AssertionError("a parameter is in no optimiser group, or in two")
    if train.optimiser == "sgd":
        return torch.optim.SGD(rows, momentum=train.momentum, nesterov=train.momentum > 0)
    return torch.optim.AdamW(rows)


def rate_at(fraction: float, train: TrainConfig) -> float:
    """Learning rate relative to its largest, at a fraction of the run.

    ``steps`` halves it at 90, 110 and 130 of 150 (the paper's epochs); ``cosine`` ends at 0.
    """
    if fraction < train.warmup:
        return fraction / train.warmup
    if train.schedule == "steps":
        return 0.5 ** sum(fraction >= epoch / 150 for epoch in (90, 110, 130))
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (fraction - train.warmup) / (1 - train.warmup)))
    return 1.0


def step_optimiser(
    optimiser: torch.optim.Optimizer, module: nn.Module, loss: Tensor, scale: float, clip_norm: float
) -> None:
    """One optimiser step at ``scale`` times the groups' base rates."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * scale
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
    optimiser.step()
