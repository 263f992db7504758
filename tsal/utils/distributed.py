"""One training on several processes (torchrun): each has a part of every batch, and all end a step with equal models.

Losses stay those of the whole batch: a sum of weights that a loss is divided by is taken over all processes, and so are
the statistics of batch normalisation. Without torchrun every function here is the identity.
"""

from __future__ import annotations

import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST_WAIT = timedelta(hours=6)  # of other processes, while the first one prepares data or trains the tracker


def rank() -> int:
    """Number of this process; 0 is the one that writes files."""
    return dist.get_rank() if _running() else 0


def processes() -> int:
    return dist.get_world_size() if _running() else 1


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()


def join_processes() -> None:
    """Meet the other processes that torchrun started: by gloo between CPUs, by NCCL between GPUs."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, number, count = next(dist.rendezvous("env://", timeout=LONGEST_WAIT))
    # after a restart torchrun's store still has the addresses of the processes that are gone
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT, store=store, rank=number, world_size=count)


def leave_processes() -> None:
    if _running():
        dist.destroy_process_group()


def wait_for_all() -> None:
    if _running():
        dist.barrier()


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor of equal shape in every process; carries no gradient."""
    if processes() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor of equal shape in every process; carries no gradient."""
    return sum_over_processes(value) / processes() if processes() > 1 else value


def gather_from_processes(value: Tensor) -> Tensor:
    """A tensor of equal shape in every process -> all of them (P, ...), by their numbers."""
    if processes() == 1:
        return value[None]
    every = [torch.empty_like(value) for _ in range(processes())]
    dist.all_gather(every, value)
    return torch.stack(every)


def share_gradients(module: nn.Module) -> nn.Module:
    """A module whose backward pass leaves the mean of all processes' gradients; called like ``module`` itself."""
    if processes() == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    # 1x1 kernels in channels-last order: a copy of a few kilobytes
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(module, forward_sync_buffers=False)


def share_statistics(module: nn.Module) -> nn.Module:
    """Every batch normalisation of a module, in place, over the batches of all processes."""
    if processes() > 1:
        if next(module.parameters()).is_cuda:
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)
        for part in module.modules():
            if type(part) is nn.BatchNorm2d:
                part.__class__ = SharedBatchNorm
    return module


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on a CPU, where torch has none."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        output, mean, variance, count = _SharedNormalisation.apply(images, self.weight, self.bias, self.eps)
        if not self.track_running_stats:
            return output
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), self.momentum)
        return output


class _SharedNormalisation(torch.autograd.Function):
    """(N, C, H, W) -> the same, normalised and scaled; mean, variance (C,) and count () of the whole batch."""

    @staticmethod
    def forward(ctx, images: Tensor, weight: Tensor, bias: Tensor, eps: float):
        count = images.numel() // images.shape[1]
        variance, mean = (
            torch.var_mean(images.to(weight.dtype), (0, 2, 3), correction=0) if count else (bias * 0, bias * 0)
        )
        mean, variance = mean.double(), variance.double()
        sums = torch.cat([count * mean, count * (variance + mean.square()), mean.new_tensor([count])])
        dist.all_reduce(sums)
        first, second, total = sums[: len(mean)], sums[len(mean) : -1], sums[-1]
        mean = first / total
        variance = (second / total - mean.square()).clamp_min(0)
        scale = (variance + eps).rsqrt()
        mean, variance, scale = mean.to(weight.dtype), variance.to(weight.dtype), scale.to(weight.dtype)
        ctx.save_for_backward(images, weight, mean, scale, total)
        ctx.mark_non_differentiable(mean, variance, total)
        # running statistics that are those of the batch: the fast path of evaluation
        return F.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps), mean, variance, total

    @staticmethod
    def backward(ctx, gradient: Tensor, *_):
        images, weight, mean, scale, total = ctx.saved_tensors
        gradient = gradient.to(weight.dtype)
        normal = (images.to(weight.dtype) - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1)
        of_bias, of_weight = gradient.sum((0, 2, 3)), (gradient * normal).sum((0, 2, 3))
        sums = torch.cat([of_bias, of_weight])
        dist.all_reduce(sums)
        by_bias, by_weight = (part.view(-1, 1, 1) / total.to(part.dtype) for part in sums.chunk(2))
        inputs = (gradient - by_bias - normal * by_weight) * (weight * scale).view(-1, 1, 1)
        return inputs.to(images.dtype), of_weight, of_bias, None
