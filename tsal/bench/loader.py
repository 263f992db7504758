"""Whether the loader keeps training fed: batches a second by cache and threads, and the steps that they are for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tsal.bench.clock import Task, peak_memory, row
from tsal.data import Batch, BatchMaker, CropFolder, FaceStore, prefetch
from tsal.model import Detector
from tsal.optimiser import make_optimiser
from tsal.run import Run
from tsal.tracker import FrozenTracker, make_tracker
from tsal.trainer import Context, Learner, TeacherStudent, asynchronous_step, supervised_step
from tsal.trainings import images_a_step
from tsal.utils import side_by_side

CACHES = ("cold", "disk", "memory")  # nothing kept; every crop on disk; every crop in memory


def faces_of(batch: Batch) -> int:
    return len(batch.labelled) + len(batch.weak)


class Loader:
    """The tasks of one data set: its loader, and training steps on its batches.

    Args:
        data: what rows call the data set.
        run: its config and lists; nothing is written to it.
        folder: for crops on disk.
    """

    def __init__(self, data: str, run: Run, folder: Path, quick: bool):
        config = run.config
        self.data, self.run, self.batches, self.steps = data, run, 2 if quick else 16, 1 if quick else 4
        self.disk = CropFolder(folder, 1000)
        self.context = Context(config, run.scheme, run.device)
        self.sizes = {
            "supervised": (config.supervised.batch, 0, 0),
            "TSAL": (config.semi.batch, config.semi.clips, images_a_step(run)),
        }
        models = [Detector(run.scheme.points, config.model).to(run.device) for _ in range(2)]
        self.teacher, self.student = (Learner(d, make_optimiser(d, config.train, config.semi.lr)) for d in models)
        tracker = make_tracker(config).to(run.device).eval().requires_grad_(False)
        # as in training: after the first time, kept
        self.frozen = FrozenTracker(tracker, config.data.cache_mb, amp=config.train.amp)

    def maker(self, kind: str, cache: str) -> BatchMaker:
        """Batches as training makes them, its caches filled."""
        run, config = self.run, self.run.config
        disk, limit = (None if cache == "cold" else self.disk), (config.data.cache_mb if cache == "memory" else 0)
        store = FaceStore(run.root, run.scheme, config.model.input, config.augment.box_scale, limit, disk)
        make = BatchMaker(
            store,
            run.lists.labelled,
            run.clips,
            run.single_images,
            config.augment,
            seed=0,
            sizes=self.sizes[kind],
            frames=config.semi.frames,
            window=self.context.labeller.window,
            pairs=kind == "TSAL",
        )
        if cache != "cold":
            steps = tqdm(range(self.batches), desc=f"{kind}: filling {cache}", leave=False, mininterval=1)
            for _ in prefetch(make, steps, 1):
                pass
        return make

    def learn(self, kind: str, batch: Batch) -> int:
        """One training step, waited for -> its faces."""
        batch = batch.to(self.run.device)
        if kind == "supervised":
            terms = supervised_step(self.student, batch, self.context, 0.5)
            terms["loss"].item()
            return len(batch.labelled)
        trackers = dict.fromkeys(("teacher", "student"), self.frozen)
        pair = TeacherStudent(self.teacher, self.student, trackers)
        with side_by_side(self.run.device.type == "cpu") as together:  # as in training
            context = Context(self.run.config, self.run.scheme, self.run.device, together)
            asynchronous_step(pair, batch, context, 0.5)["loss"].item()
        return faces_of(batch)

    def tasks(self) -> Iterator[Task]:
        """Frames a second of steps and loader."""
        workers = self.run.config.data.workers
        for kind in self.sizes:
            makers = {cache: self.maker(kind, cache) for cache in CACHES}
            batch = makers["memory"](0)
            step, load = f"{kind} step", f"loader, {kind} batches"
            ready, cold = (step, f"{self.data}, batch ready"), (load, self._setting("cold", 1))
            yield Task(*ready, "frames", lambda kind=kind, batch=batch: self.learn(kind, batch))
            yield Task(
                step,
                f"{self.data}, cold loader of {_workers(workers)}",
                "frames",
                lambda kind=kind, make=makers["cold"]: sum(
                    self.learn(kind, batch) for batch in prefetch(make, range(self.steps), workers)
                ),
                notes={"{more:.2f} x batch ready": ready},
            )
            for count in sorted({1, 2, os.cpu_count() or 1}):
                for cache, make in makers.items():
                    yield Task(
                        load,
                        self._setting(cache, count),
                        "frames",
                        lambda make=make, count=count: sum(
                            faces_of(batch) for batch in prefetch(make, range(self.batches), count)
                        ),
                        notes={"{more:.2f} x cold with 1 worker": cold, "feeds {more:.2f}": ready},
                    )

    def _setting(self, cache: str, workers: int) -> str:
        return f"{self.data}, {cache}, {_workers(workers)}"

    def memory_rows(self) -> list[dict]:
        """The process' largest memory after a first step of each kind, before anything else is measured."""
        rows = []
        for kind in self.sizes:
            faces = self.learn(kind, self.maker(kind, "cold")(0))
            rows.append(
                row("peak memory", f"{self.data}, {kind} step", None, "", peak=peak_memory(), note=f"{faces} faces")
            )
        return rows


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"
