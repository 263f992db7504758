"""Speed on this machine: whether the loader keeps training fed, and what detector and tracker do beside it.

``python -m tsal bench`` (or ``make bench``) prints one Markdown table and keeps it in outputs/bench.json with the
machine's facts. Every number is the best of a few interleaved repeats; ratios hold between numbers of one call alone.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from tsal.config import Config, load_budget
from tsal.data import Batch, BatchMaker, CropFolder, FaceStore, prefetch, to_float
from tsal.model import Detector
from tsal.optimiser import make_optimiser
from tsal.pseudo import detection_sources
from tsal.run import Run
from tsal.synthetic import render_dataset
from tsal.tracker import FrozenTracker, dis_flow, make_tracker, track_frames
from tsal.trainer import Context, Learner, TeacherStudent, asynchronous_step, supervised_step
from tsal.trainings import images_a_step
from tsal.utils import describe_environment, markdown_table, write_text

CACHES = ("cold", "disk", "memory")  # nothing kept; every crop on disk; every crop in memory
COLUMNS = ("data", "what", "cache", "workers", "per second", "unit", "ratio", "ratio to", "feeds")
NOTES = (
    "\nA frame is one face of a batch: one view of a labelled face, two (weak and strong) of an unlabelled frame. "
    "Cache: nothing kept\n"
    "(cold), every crop on disk, or in memory; crops no smaller than their image, as of rendered frames, "
    "are never kept on disk.\n"
    "feeds: frames that the loader gives over those that the training step takes; under 1, training waits for it. "
    "On a CPU both share\n"
    'the cores: "fed" steps run with a cold loader and are compared with steps on a batch that lies ready.'
)
Job = Callable[[], int]  # does some work, returns how many frames or pairs


def faces_of(batch: Batch) -> int:
    return len(batch.labelled) + len(batch.weak)


def measure(jobs: dict[tuple, Job], repeats: int, least: float) -> dict[tuple, float]:
    """Best rate of each job, per second; each repeat takes turns over all jobs and gives each ``least`` seconds or
    more.
    """
    best = dict.fromkeys(jobs, 0.0)
    with tqdm(total=repeats * len(jobs), desc="bench", unit="measurement", mininterval=1) as bar:
        for _ in range(repeats):
            for name, job in jobs.items():
                done, seconds, started = 0, 0.0, time.perf_counter()
                while not done or seconds < least:
                    done += job()
                    seconds = time.perf_counter() - started
                best[name] = max(best[name], done / seconds)
                bar.update()
    return best


class Bench:
    """The jobs of one data set: its loader, and training steps on its batches."""

    def __init__(self, run: Run, kept: Path, quick: bool):
        config = run.config
        self.run, self.batches, self.steps = run, 2 if quick else 16, 1 if quick else 4
        self.disk = CropFolder(kept, 1000)
        self.context = Context(config, run.scheme, run.device)
        photographs = images_a_step(run)
        self.sizes = {
            "supervised": (config.supervised.batch, 0, 0),
            "TSAL": (config.semi.batch, config.semi.clips, photographs),
        }
        models = [
            Detector(run.scheme.points, config.model).to(run.device, memory_format=torch.channels_last)
            for _ in range(2)
        ]
        self.teacher, self.student = (Learner(d, make_optimiser(d, config.train, config.semi.lr)) for d in models)
        self.tracker = make_tracker(config).to(run.device).eval().requires_grad_(False)
        self.frozen = FrozenTracker(self.tracker, config.data.cache_mb)  # as in training: after the first time, kept

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
            pairs=kind == "TSAL",
        )
        if cache != "cold":
            for _ in prefetch(
                make, tqdm(range(self.batches), desc=f"{kind}: filling {cache}", leave=False, mininterval=1), 1
            ):
                pass
        return make

    def learn(self, kind: str, batch: Batch) -> int:
        """One training step, waited for."""
        batch = batch.to(self.run.device)
        if kind == "supervised":
            terms = supervised_step(self.student, batch, self.context, 0.5)
        else:
            trackers = dict.fromkeys(("teacher", "student"), self.frozen)
            terms = asynchronous_step(TeacherStudent(self.teacher, self.student, trackers), batch, self.context, 0.5)
        terms["loss"].item()
        return faces_of(batch)

    def jobs(self) -> Iterator[tuple[tuple, Job]]:
        """(kind, what, cache, workers) and job, frames a second each."""
        workers = self.run.config.data.workers
        for kind in self.sizes:
            makers = {cache: self.maker(kind, cache) for cache in CACHES}
            ready = makers["memory"](0)
            yield (kind, "step", "", 0), lambda kind=kind, ready=ready: self.learn(kind, ready)
            yield (
                (kind, "fed", "cold", workers),
                lambda kind=kind, make=makers["cold"]: sum(
                    self.learn(kind, batch) for batch in prefetch(make, range(self.steps), workers)
                ),
            )
            for count in sorted({1, 2, os.cpu_count() or 1}):
                for cache, make in makers.items():
                    yield (
                        (kind, "loader", cache, count),
                        lambda make=make, count=count: sum(
                            faces_of(batch) for batch in prefetch(make, range(self.batches), count)
                        ),
                    )

    def network_jobs(self) -> dict[tuple, Job]:
        """Inference alone: images of one batch, whatever is on them."""
        batch = self.maker("TSAL", "cold")(0)
        crops = torch.cat([batch.labelled, batch.weak])
        first, second = batch.weak[batch.previous], batch.weak[batch.following]

        @torch.no_grad()
        def detect(count: int) -> int:
            images = to_float(crops[torch.arange(count) % len(crops)].to(self.run.device))
            detector = self.student.detector.eval()
            detection_sources(detector, detector(images))["heatmap"].points.cpu()
            return count

        def track() -> int:
            frames = [to_float(views.to(self.run.device)) for views in (first, second)]
            forward, backward = track_frames(self.tracker, *frames)
            return len(torch.cat([forward, backward]).cpu()) // 2

        def dense_search() -> int:
            return len(torch.cat([dis_flow(first, second), dis_flow(second, first)])) // 2

        detectors = {("detector", count): lambda count=count: detect(count) for count in (1, 32)}
        return detectors | {("tracker",): track, ("DIS",): dense_search}


def table_rows(rates: dict[tuple, float]) -> list[dict]:
    """The measured rates, keyed by data set and job, with their ratios; None where a column says nothing."""
    rows = []

    def add(*values) -> None:
        rows.append(dict(zip(COLUMNS, values, strict=True)))

    for (data, *name), rate in rates.items():
        match name:
            case kind, "step", _, _:
                add(data, f"{kind} step, batch ready", None, None, rate, "frames", None, None, None)
            case kind, "fed", cache, workers:
                ready = rates[data, kind, "step", "", 0]
                add(data, f"{kind} step, fed", cache, workers, rate, "frames", rate / ready, "batch ready", None)
            case kind, "loader", cache, workers:
                cold, taken = rates[data, kind, "loader", "cold", 1], rates[data, kind, "step", "", 0]
                add(
                    data,
                    f"loader, {kind} batches",
                    cache,
                    workers,
                    rate,
                    "frames",
                    rate / cold,
                    "cold, 1 worker",
                    rate / taken,
                )
            case "detector", count:
                one = rates[data, "detector", 1]
                add(data, f"detector, batch of {count}", None, None, rate, "frames", rate / one, "batch of 1", None)
            case ["tracker"]:
                add(data, "tracker, both directions", None, None, rate, "pairs", rate / rates[data, "DIS"], "DIS", None)
            case ["DIS"]:
                add(data, "OpenCV DIS, both directions, 1 thread", None, None, rate, "pairs", 1.0, "DIS", None)
    return rows


def speed_table(rows: Sequence[dict]) -> str:
    def text(value) -> str:
        if value is None:
            return ""
        return (f"{value:.0f}" if value >= 100 else f"{value:.2f}") if isinstance(value, float) else str(value)

    return markdown_table(COLUMNS, ([text(row[name]) for name in COLUMNS] for row in rows))


def bench(out: Path, realdata: Path | None, quick: bool) -> list[dict]:
    """Measure everything, write ``out`` and return the table's rows; raises InputError where ``realdata`` lacks lists
    or faces.
    """
    few = [] if quick else ["render.labelled=40", "render.clips=24", "render.validation=2"]
    configs = {"rendered": Config.load("smoke" if quick else "demo", few)}
    if realdata:
        root = str(realdata.expanduser().resolve())
        overrides = load_budget("300w-120") | {"data.name": "real", "data.root": root}
        configs["real"] = configs["rendered"].override(overrides)
    facts = describe_environment() | {"cpus": os.cpu_count(), "load when started": os.getloadavg()[0], "quick": quick}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=out.parent) as kept:
        jobs: dict[tuple, Job] = {}
        for data, config in configs.items():
            run = Run(out.parent, config)  # nothing of it is written
            if data == "rendered":
                render_dataset(run.root, config.render)
            made = Bench(run, Path(kept) / data, quick)
            jobs |= {(data, *name): job for name, job in made.jobs()}
            if data == "rendered":
                jobs |= {(data, *name): job for name, job in made.network_jobs().items()}
        rates = measure(jobs, *((1, 0.0) if quick else (3, 0.3)))
    rows = table_rows(rates)
    write_text(out, json.dumps({"environment": facts, "rows": rows}, indent=1) + "\n")
    return rows
