"""What plain cores do: their matrix rate, the light detector's share of it, steps and predict beside a busy process."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tsal.bench.clock import Condition, Key, Task
from tsal.bench.gpu_step import paper_step
from tsal.bench.loader import Loader
from tsal.config import Config
from tsal.data import Face, FaceStore, to_float
from tsal.evaluation import predict
from tsal.model import Detector
from tsal.run import Run
from tsal.schemes import get_scheme
from tsal.tracker import dis_flow, make_tracker, track_frames
from tsal.utils import half_precision, has_bfloat16

CPU = torch.device("cpu")
ONE = Condition(threads=1)
BASE = {"data.scheme": "68", "semi.frames": 2, "semi.batch": 16, "model.input": 96}  # what sizes are compared with
GROWTH = {
    "data.scheme": ("landmarks", ("5", "98", "106")),
    "semi.frames": ("frames of a clip", (5, 10)),
    "semi.batch": ("labelled faces", (8, 32)),
    "model.input": ("px of an image's side", (64, 128)),
}


def conditions(quick: bool) -> list[Condition]:
    """One and two threads (one alone where ``quick``), alone and beside a busy process."""
    return [Condition(threads, busy) for busy in (False, True) for threads in ((1,) if quick else (1, 2))]


# --- rates ---


def precisions() -> tuple[str, ...]:
    return ("fp32", "bf16") if has_bfloat16(CPU) else ("fp32",)


def matrix_key(precision: str) -> Key:
    return "matrix product", f"{precision}, 1 thread"


def matrix_tasks(side: int) -> Iterator[Task]:
    """Products of two square matrices, GFLOP/s of one thread."""
    for precision in precisions():
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        first, second = (torch.randn((side, side), dtype=kind) for _ in range(2))

        def job(first: Tensor = first, second: Tensor = second) -> float:
            torch.mm(first, second)
            return 2 * side**3 / 1e9

        yield Task(*matrix_key(precision), "GFLOP", job, ONE)


def pass_tasks(config: Config, count: int) -> Iterator[Task]:
    """The detector's passes over ``count`` images, one thread: GFLOP/s, and their share of the matrix rate."""
    detector = Detector(get_scheme(config.data.scheme).points, config.model)
    images = to_float(torch.randint(256, (count, 3, config.model.input, config.model.input), dtype=torch.uint8))

    def run(precision: str, backward: bool) -> None:
        detector.train(backward)
        with torch.set_grad_enabled(backward), half_precision("bf16" if precision == "bf16" else "none", CPU):
            detection = detector(images)
        if backward:
            detector.zero_grad(set_to_none=True)
            sum(maps.float().mean() for maps in (*detection.stages, detection.centre, detection.offsets)).backward()

    for backward in (False, True):
        with FlopCounterMode(display=False) as counter:
            run("fp32", backward)
        flops = counter.get_total_flops() / 1e9
        what = f"{config.model.size} detector, {'forward and backward' if backward else 'forward'}"
        for precision in precisions():

            def job(precision: str = precision, backward: bool = backward, flops: float = flops) -> float:
                run(precision, backward)
                return flops

            note = f"{count} images of {1e3 * flops / count:.0f} MFLOP"
            yield Task(what, f"{precision}, 1 thread", "GFLOP", job, ONE, note, share_of=matrix_key(precision))


# --- steps ---


def step_tasks(loader: Loader, quick: bool) -> Iterator[Task]:
    """A TSAL step, and a supervised one of the same labelled faces, under every condition."""
    batch = loader.maker("TSAL", "cold")(0)

    def job(kind: str) -> int:
        loader.learn(kind, batch)
        return 1

    for condition in conditions(quick):
        base = f"supervised step, {len(batch.labelled)} faces"
        what = f"TSAL step, {len(batch.labelled)} + {len(batch.weak)} faces"
        alone = str(Condition(condition.threads))
        for name, kind in ((base, "supervised"), (what, "TSAL")):
            notes = {"{less:.1f} x the time of the supervised step": (base, str(condition))} if kind == "TSAL" else {}
            if condition.busy:
                notes |= {"{less:.2f} x the time alone": (name, alone)}
            yield Task(name, str(condition), "steps", lambda kind=kind: job(kind), condition, notes=notes)


def growth_tasks(config: Config, quick: bool) -> Iterator[Task]:
    """A TSAL step on random images of ``BASE`` sizes, and with one of them changed.

    Flows are kept, as in training, from a first step, which is left out unless ``quick``.
    """
    key = ("TSAL step, random images", ", ".join(f"{BASE[name]} {text}" for name, (text, _) in GROWTH.items()))
    yield _random_step(*key, config.override(BASE), {}, quick)
    for name, (text, values) in GROWTH.items():
        for value in values:
            notes = {"{less:.2f} x the time": key}
            yield _random_step(key[0], f"{value} {text}", config.override(BASE | {name: value}), notes, quick)


def _random_step(what: str, setting: str, config: Config, notes: dict[str, Key], quick: bool) -> Task:
    step, faces = paper_step(config, CPU, "channels-last", "", kept_mb=1000)
    if not quick:
        step()

    def job() -> int:
        step()
        return 1

    return Task(what, setting, "steps", job, note=f"{faces} faces", notes=notes)


# --- inference ---


def predict_tasks(data: str, run: Run, quick: bool) -> Iterator[Task]:
    """``predict`` by batch, cold and with crops in memory, then cold under every condition."""
    lists = run.lists
    pool = [face for faces in (*lists.evaluate.values(), lists.labelled, lists.unlabelled) for face in faces]
    faces = [pool[i % len(pool)] for i in range(64 if quick else 192)]
    detector, config = Detector(run.scheme.points, run.config.model).eval(), run.config

    def store(cache_mb: int) -> FaceStore:
        return FaceStore(run.root, run.scheme, config.model.input, config.augment.box_scale, cache_mb)

    def job(some: list[Face], batch: int, crops: FaceStore | None = None) -> int:
        predict(detector, crops or store(0), some, CPU, batch=batch)
        return len(some)

    warm_store = store(1000)
    job(faces, 64, warm_store)
    what = f"predict, {data}"
    for batch in (1, 8, 64):
        some = faces[: max(16, 3 * batch)]
        yield Task(what, f"batch {batch}, cold", "faces", lambda some=some, batch=batch: job(some, batch))
        warm = f"batch {batch}, crops in memory"
        notes = {"{more:.2f} x cold": (what, f"batch {batch}, cold")}
        yield Task(what, warm, "faces", lambda some=some, batch=batch: job(some, batch, warm_store), notes=notes)
    for condition in conditions(quick):
        notes = {"{more:.2f} x alone": (what, f"batch 64, cold, {Condition(condition.threads)}")}
        setting = f"batch 64, cold, {condition}"
        yield Task(what, setting, "faces", lambda: job(faces, 64), condition, notes=notes if condition.busy else {})


def tracker_tasks(loader: Loader) -> Iterator[Task]:
    """Flow in both directions of a step's pairs, by the tracker and by OpenCV's DIS, on one thread each: OpenCV has no
    more (:mod:`tsal.data.views`).
    """
    batch, tracker = loader.maker("TSAL", "cold")(0), make_tracker(loader.run.config).eval()
    first, second = batch.weak[batch.previous], batch.weak[batch.following]

    @torch.no_grad()
    def track() -> int:
        with half_precision(loader.run.config.train.amp, CPU):  # as a frozen one
            track_frames(tracker, to_float(first), to_float(second))
        return len(first)

    def search() -> int:
        dis_flow(first, second), dis_flow(second, first)
        return len(first)

    setting = "both directions, 1 thread"
    dense = ("OpenCV DIS", setting)
    yield Task("tracker", setting, "pairs", track, ONE, notes={"{more:.2f} x DIS": dense})
    yield Task(*dense, "pairs", search, ONE)
