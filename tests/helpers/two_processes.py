"""What each of two processes does in the tests of distributed training; a new process can import it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from toys import PAIRED, config, dot_image, face, save_image

from tsal.data.batches import Batch, BatchMaker
from tsal.data.lists import Clip
from tsal.data.points import write_points
from tsal.data.views import FaceStore
from tsal.model import Detector
from tsal.optimiser import make_optimiser
from tsal.tracker.frozen import FrozenTracker
from tsal.tracker.network import FlowNet
from tsal.trainer import Context, Learner, TeacherStudent, asynchronous_step, supervised_step
from tsal.utils.distributed import SharedBatchNorm

SETTINGS = config("model.input=64", "train.amp=none", "train.warmup=0", "train.device=cpu", "train.optimiser=sgd")
SIZES = (5, 3, 2)  # labelled faces, clips and single images: shares of two processes differ


def in_two_processes(work, *arguments) -> list:
    """What ``work(rank, *arguments)`` returns in each of two processes that know each other."""
    folder = arguments[0]
    multiprocessing.spawn(_meet, (work, arguments), nprocs=2)
    return [torch.load(Path(folder) / f"result-{rank}.pt", weights_only=True) for rank in range(2)]


def _meet(rank: int, work, arguments: tuple) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{Path(arguments[0]) / 'meeting'}"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=2, rank=rank)
    torch.save(work(rank, *arguments), Path(arguments[0]) / f"result-{rank}.pt")
    dist.destroy_process_group()


# --- batch normalisation ---


def normalise(rank: int, folder: str) -> dict[str, torch.Tensor]:
    """Three and two images through a batch normalisation, and back."""
    whole = torch.randn((5, 4, 6, 6), generator=torch.Generator().manual_seed(0)) * 2 + 3
    images = whole[:3] if rank == 0 else whole[3:]
    layer = nn.BatchNorm2d(4)
    layer.__class__ = SharedBatchNorm
    return normalised(layer, images)


def normalised(layer: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    images = images.clone().requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
    output = layer.train()(images)
    (output * torch.linspace(0, 1, 6)).square().sum().backward()
    return {
        "output": output.detach(),
        "images": images.grad,
        "weight": layer.weight.grad,
        "bias": layer.bias.grad,
        "mean": layer.running_mean,
        "variance": layer.running_var,
    }


# --- steps ---


def draw_faces(folder: Path) -> None:
    """Labelled images and clips of a dot that moves."""
    for number in range(12):
        save_image(folder / f"l{number}.png", dot_image(100, 100, 40 + 2 * number, 50, 4))
        points = np.array([[40.0, 40], [60, 40], [50, 55], [50, 70]]) + [number, 0]
        write_points(folder / f"l{number}.pts", points)
    for clip in range(6):
        for frame in range(3):
            save_image(folder / f"c{clip}" / f"{frame}.png", dot_image(100, 100, 45 + 3 * frame, 40 + 3 * clip, 5))


def make_batch(folder: Path, share: tuple[int, int], step: int = 0) -> Batch:
    box = (25.0, 25.0, 75.0, 75.0)
    labelled = [face(f"l{n}.png", box, annotation=f"l{n}.pts") for n in range(12)]
    clips = [Clip(f"c{c}", tuple(face(f"c{c}/{t}.png", box) for t in range(3))) for c in range(6)]
    single = [Clip(f"s{n}", (face(f"l{n}.png", box),)) for n in range(6)]
    store = FaceStore(folder, PAIRED, 64, 1.35, 50)
    make = BatchMaker(
        store, labelled, clips, single, SETTINGS.augment, seed=3, sizes=SIZES, frames=2, pairs=True, share=share
    )
    return make(step)


def learner(seed: int) -> Learner:
    """In double precision: sums in another order differ by 1e-16, not by 1e-7, which depth and ReLUs make 1e-2."""
    torch.manual_seed(seed)
    detector = Detector(4, SETTINGS.model).double()
    detector.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    return Learner(detector, make_optimiser(detector, SETTINGS.train, 1e-3))


def take_steps(rank: int, folder: str, *, share: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
    """Two supervised and two asynchronous steps -> losses, drift, and by how much weights and statistics changed."""
    context, share = Context(SETTINGS, PAIRED, torch.device("cpu")), share or (rank, 2)
    alone, pair = learner(0), TeacherStudent(learner(0), learner(1), _trackers())
    detectors = {"supervised": alone, "teacher": pair.teacher, "student": pair.student}
    before, losses = {name: _flat(learned) for name, learned in detectors.items()}, []
    for step in range(2):
        batch = make_batch(Path(folder), share, step)
        losses.append(supervised_step(alone, batch, context, 0.5)["loss"])
        losses.append(asynchronous_step(pair, batch, context, 0.5)["loss"])
    changes = {name: _flat(learned) - before[name] for name, learned in detectors.items()}
    return changes | {"losses": torch.stack(losses).detach(), "drift": pair.drift.mean}


def _flat(learned: Learner) -> torch.Tensor:
    """Every weight and statistic of a detector."""
    return torch.cat([value.double().flatten() for value in learned.detector.state_dict().values()])


def _trackers() -> dict[str, FrozenTracker]:
    torch.manual_seed(2)
    net = FlowNet((8, 12, 16), width=16).eval().requires_grad_(False)
    return dict.fromkeys(("teacher", "student"), FrozenTracker(net))
