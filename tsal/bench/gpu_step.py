"""A step of TSAL on random images with random weights: what the GPU's bench times. It needs no data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tsal.config import Config
from tsal.data import Batch, FramePairs, Part, neighbours
from tsal.model import Detector
from tsal.optimiser import make_optimiser
from tsal.pseudo import PseudoLabeller
from tsal.schemes import get_scheme
from tsal.tracker import FrozenTracker, make_tracker
from tsal.trainer import Context, Learner, TeacherStudent, asynchronous_step

TINY = (
    "model.size=light model.input=64 model.stages=2 semi.batch=2 semi.clips=1 semi.frames=3 "
    "semi.images=1 tracker.channels=8,16,24 tracker.width=16 tracker.search=2 tracker.finest=1"
).split()  # instead of the paper's sizes, for tests


def random_batch(config: Config, landmarks: int) -> Batch:
    """Noise in the shapes of a step's faces: clips of T frames and photographs, all in one view."""
    side, semi, draw = config.model.input, config.semi, torch.Generator().manual_seed(0)
    place = [p for _ in range(semi.clips) for p in range(semi.frames)] + [0] * semi.images
    previous, following = neighbours(place, PseudoLabeller(config).window)
    keys = tuple(f"{first} {second}" for first, second in zip(previous.tolist(), following.tolist()))
    count, labelled = len(place), semi.batch

    def images(number: int) -> Tensor:
        return torch.randint(256, (number, side, side, 3), dtype=torch.uint8, generator=draw).permute(0, 3, 1, 2)

    weak, same = images(count), torch.eye(2, 3).repeat(count, 1, 1)
    return Batch(
        labelled=images(labelled),
        points=side * (0.2 + 0.6 * torch.rand((labelled, landmarks, 2), generator=draw)),
        visible=torch.ones((labelled, landmarks), dtype=torch.bool),
        weak=weak,
        strong=images(count),
        to_strong=same,
        flipped=torch.zeros(count, dtype=torch.bool),
        size=torch.full((count,), 0.7 * side),
        clip=torch.tensor([p == 0 for p in place]).cumsum(0) - 1,
        previous=previous,
        following=following,
        seed=0,
        labelled_part=Part((), labelled),
        unlabelled_part=Part((), count),
        pairs=FramePairs(keys, weak[previous], weak[following], same[following]),
    )


def paper_step(
    config: Config, device: torch.device, layout: str, backend: str, *, kept_mb: float = 0
) -> tuple[Callable[[], object], int]:
    """A step of TSAL -> the job, and its number of faces. Rates are 0: weights stay random, nothing overflows.

    With ``kept_mb`` MiB for them, flows are computed in the first step alone.
    """
    scheme = get_scheme(config.data.scheme)
    batch, context = random_batch(config, scheme.points).to(device), Context(config, scheme, device)
    learners = []
    for _ in range(2):
        detector = Detector(scheme.points, config.model).to(device)
        if layout == "plain":  # images come channels last
            detector.register_forward_pre_hook(lambda _, images: (images[0].contiguous(),))
        else:
            detector.to(memory_format=torch.channels_last)
        if layout == "compiled":
            detector.compile(backend=backend, dynamic=False)
        learners.append(Learner(detector, make_optimiser(detector, config.train, 0.0)))
    nets = [make_tracker(config).to(device).eval().requires_grad_(False) for _ in range(2)]
    trackers = [FrozenTracker(net, kept_mb, amp=config.train.amp) for net in nets]
    named = dict(zip(("teacher", "student"), trackers if config.tsal.trackers == "own" else trackers[:1] * 2))
    pair = TeacherStudent(*learners, named)

    def step() -> object:
        pairs = replace(batch.pairs)  # as of another batch: a tracker knows the flows of its latest pairs
        return asynchronous_step(pair, replace(batch, pairs=pairs), context, 0.5)

    return step, len(batch.labelled) + len(batch.weak)
