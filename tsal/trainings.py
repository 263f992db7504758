"""The trainings of a run, each kept in a folder of its own and skipped where it is done: tracker, supervised, TSAL."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tsal.config import UNLABELLED_VIEWS, Config
from tsal.data import Batch, BatchMaker, FaceStore, find_list, group_clips, read_list, to_float
from tsal.loop import fit
from tsal.model import Detector
from tsal.model_files import load_member, save_members
from tsal.run import Run
from tsal.synthetic import VERSION as RENDERER
from tsal.synthetic import KnownFlow, KnownFlowMaker
from tsal.tracker import (
    FlowNet,
    FlowWeights,
    LucasKanade,
    known_flow_loss,
    photometric_change,
    synthetic_pair,
    video_loss,
)
from tsal.trainer import (
    Context,
    Member,
    asynchronous_step,
    make_optimiser,
    member_distance,
    rate_at,
    step_optimiser,
    supervised_step,
)
from tsal.utils import REPOSITORY, ConfigError, load_checkpoint, save_checkpoint, write_text

SECOND_SEED = 1_000_003  # between the seeds of two supervised starts


def seed_everything(seed: int) -> None:
    """For the initial weights; batches and noise have seeds of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def batch_maker(run: Run, seed: int, *, labelled: int, clips: int, photographs: int, frames: int) -> BatchMaker:
    return BatchMaker(
        run.store,
        run.lists.labelled,
        run.clips,
        run.photographs,
        run.config.augment,
        seed=seed,
        sizes=(labelled, clips, photographs),
        frames=frames,
        truth=run.lists.truth,
    )


def photographs_a_step(run: Run) -> int:
    """``tsal.photographs``, but at most a tenth of those that there are: a few seen again and again would crowd out the
    clips.
    """
    return min(run.config.tsal.photographs, math.ceil(len(run.photographs) / 10))


# --- tracker
# ---------------------------------------------------------------------------------------------------------------


def make_tracker(config: Config) -> FlowNet:
    return FlowNet(config.tracker.channels, config.tracker.search, config.tracker.finest, config.tracker.width)


def start_tracker(config: Config) -> FlowNet:
    """The tracker that training goes on from: ``tracker.start``, or an untrained one."""
    tracker, path = make_tracker(config), tracker_start(config)
    if path:
        content = load_checkpoint(path, what="tracker (tracker.start)")
        try:
            tracker.load_state_dict(content["tracker"])
        except (KeyError, RuntimeError):
            raise ConfigError(
                f'tracker.start={path}: holds no tracker of these channels, search, finest and width; set tracker.start="" '
                "to train one from scratch"
            ) from None
    return tracker


def tracker_start(config: Config) -> Path | None:
    return REPOSITORY / config.tracker.start if config.tracker.start else None


def load_tracker(path: Path, config: Config, device: torch.device) -> FlowNet:
    tracker = make_tracker(config)
    tracker.load_state_dict(load_checkpoint(path, device)["tracker"])
    return tracker.to(device).eval().requires_grad_(False)


def open_tracker(run: Run) -> nn.Module:
    """What the tracking sources' flow comes from."""
    if run.config.tracker.flow == "lucas-kanade":
        return LucasKanade()
    return load_tracker(run.folder / "tracker" / "model.pt", run.config, run.device)


def known_flow_maker(run: Run) -> KnownFlowMaker:
    """Pairs of the embedded clips that are not measured on."""
    config, root = run.config, run.rendered
    store = FaceStore(root, run.scheme, config.model.input, config.augment.expand, config.data.cache_mb)
    clips = [clip for clip in group_clips(read_list(find_list(root, "unlabelled.txt"))) if len(clip.faces) > 1]
    return KnownFlowMaker(store, clips, config.augment, seed=config.seed + 18, pairs=config.tracker.batch)


def _is_done(path: Path, identity: dict) -> bool:
    return path.exists() and load_checkpoint(path).get("identity") == identity


def _finish(folder: Path, **content) -> None:
    """Keep the result; what resuming needed is no longer needed."""
    save_checkpoint(folder / "model.pt", content)
    (folder / "last.pt").unlink(missing_ok=True)


def train_tracker(run: Run) -> FlowNet:
    """The tracker's own stage: pairs with known flow, rendered ones and warps, then pairs of real frames; no labels at
    all.
    """
    config, folder = run.config, run.folder / "tracker"
    identity = run.identity("model.input", "augment", "tracker")
    if path := tracker_start(config):
        identity["tracker start"] = load_checkpoint(path, what="tracker (tracker.start)")["identity"]
    if config.tracker.rendered > 0:
        identity["rendered"] = dataclasses.asdict(config.render) | {"renderer": RENDERER}
    if not _is_done(folder / "model.pt", identity):
        seed_everything(config.seed)
        tracker = start_tracker(config).to(run.device)
        steps = config.tracker.synthetic_steps + config.tracker.video_steps
        _, seconds = _fit_tracker(
            run, tracker, folder, "tracker", steps, config.tracker.synthetic_steps, None, identity
        )
        _record_time(folder, steps, seconds)
        _finish(folder, tracker=tracker.state_dict(), identity=identity, config=config.to_dict())
    return load_tracker(folder / "model.pt", config, run.device)


def tune_tracker(run: Run, tracker: FlowNet, detector: Detector, folder: Path, identity: dict) -> FlowNet:
    """Go on with real pairs and a frozen detector, whose heatmaps must agree on warped and real frames."""
    config = run.config
    tracker.requires_grad_(True)
    detector = detector.eval().requires_grad_(False)

    detect = lambda images: detector.maps(detector(images))  # noqa: E731
    _fit_tracker(run, tracker, folder, "tune tracker", config.tracker.tune_steps, 0, detect, identity)
    detector.requires_grad_(True)
    _finish(folder, tracker=tracker.state_dict(), identity=identity, config=config.to_dict())
    return tracker.eval().requires_grad_(False)


def _fit_tracker(
    run: Run, tracker, folder: Path, label: str, steps: int, synthetic: int, detect, identity: dict
) -> tuple[list, float]:
    config, settings = run.config, run.config.tracker
    context = Context(config, run.scheme, run.device)
    maker = batch_maker(run, config.seed + 17, labelled=0, clips=settings.batch, photographs=0, frames=2)
    rendered = known_flow_maker(run) if synthetic and settings.rendered > 0 else None
    optimiser = torch.optim.AdamW(tracker.parameters(), lr=settings.lr, weight_decay=1e-4)
    weights = FlowWeights(
        census=settings.census_weight, smoothness=settings.smooth_weight, consistency=settings.consistency_weight
    )
    schedule = dataclasses.replace(config.train, schedule="cosine")

    def make_batch(step: int) -> Batch | KnownFlow:
        # spread evenly: a step is rendered where its share of the steps so far grows by one
        turn = int((step + 1) * settings.rendered) > int(step * settings.rendered)
        return rendered(step) if rendered and turn and step < synthetic else maker(step)

    def step(batch: Batch | KnownFlow, fraction: float) -> dict:
        at = round(fraction * steps)
        generator = torch.Generator(run.device).manual_seed(batch.seed)
        if at < synthetic:  # each phase has a cosine of its own
            phase, base = at / synthetic, settings.lr
            if isinstance(batch, KnownFlow):
                frames = (photometric_change(to_float(frames), generator) for frames in (batch.first, batch.second))
                pair = (*frames, batch.flow, batch.valid)
            else:
                pair = synthetic_pair(to_float(batch.weak[batch.previous]), generator)
            with context.precision():
                loss, terms = known_flow_loss(tracker, *pair, weights)
        else:
            phase, base = (at - synthetic) / (steps - synthetic), settings.video_lr
            pair = (to_float(batch.weak[of]) for of in (batch.previous, batch.following))
            masked = phase >= settings.occlusion_from
            loss, terms = video_loss(tracker, *pair, weights, use_occlusion=masked, detect=detect)
        for group in optimiser.param_groups:
            group["base_lr"] = base
        step_optimiser(optimiser, tracker, loss, rate_at(phase, schedule), 1.0)
        return {"loss": loss.detach(), **terms}

    tracker.train()
    return fit(
        folder,
        label=label,
        steps=steps,
        make_batch=make_batch,
        step_function=step,
        state={"tracker": tracker, "optimiser": optimiser},
        identity=identity,
        context=context,
    )


# --- detectors
# -------------------------------------------------------------------------------------------------------------


def schedule_steps(run: Run) -> tuple[int, int]:
    """Steps of the start and of what follows it."""
    train = run.config.train
    if train.epochs:
        epoch = max(1, -(-len(run.lists.labelled) // train.batch))
        return train.epochs * epoch, train.epochs * epoch
    return train.steps, train.further


def train_supervised(
    run: Run, name: str, *, seed: int, steps: int, batch: int, lr: float, origin: Path | None = None
) -> Detector:
    """Labelled rows alone, from scratch or from another training's weights (``origin``); kept in
    ``<run>/<name>/model.pt``.
    """
    config, folder = run.config, run.folder / name
    views = [field.name for field in dataclasses.fields(config.augment) if field.name not in UNLABELLED_VIEWS]
    parts = ("model", *(f"augment.{name}" for name in views), *(f"train.{name}" for name in _shared_settings(config)))
    identity = run.identity(*parts) | {"name": name, "training seed": seed, "steps": steps, "batch": batch, "lr": lr}
    if origin:
        identity["origin"] = load_checkpoint(origin)["identity"]
    if not _is_done(folder / "model.pt", identity):
        seed_everything(seed)
        detector = load_member(origin)[0] if origin else Detector(run.scheme.points, config.model)
        detector = detector.to(run.device, memory_format=torch.channels_last)
        member = Member(detector, make_optimiser(detector, config.train, lr))
        context = Context(config, run.scheme, run.device)
        _, seconds = fit(
            folder,
            label=name,
            steps=steps,
            make_batch=batch_maker(run, seed + 31, labelled=batch, clips=0, photographs=0, frames=1),
            step_function=lambda batch, fraction: supervised_step(member, batch, context, fraction),
            state={"detector": detector, "optimiser": member.optimiser},
            identity=identity,
            context=context,
        )
        save_members(folder / "model.pt", {name: detector}, config, identity)
        _record_time(folder, steps, seconds)
        (folder / "last.pt").unlink(missing_ok=True)
    return load_member(folder / "model.pt", device=run.device)[0]


def _shared_settings(config: Config) -> list[str]:
    """Names of the training settings that are not given to each training by itself."""
    own = ("steps", "further", "epochs", "batch", "further_batch", "lr", "further_lr")
    return [field.name for field in dataclasses.fields(config.train) if field.name not in own]


def _record_time(folder: Path, steps: int, seconds: float) -> None:
    write_text(folder / "time.json", json.dumps({"steps": steps, "seconds": round(seconds, 1)}) + "\n")


def snapshot_steps(steps: int, count: int) -> list[int]:
    """After which steps the members are kept beside the final ones: even stages of the run, without its end."""
    return sorted({round(steps * stage / count) for stage in range(1, count)} - {0, steps})


def snapshot_name(step: int | str) -> str:
    return f"step-{step:06d}.pt" if isinstance(step, int) else f"step-{step}.pt"


def train_tsal(run: Run, starts: list[Path], steps: int) -> None:
    """Teacher and student from their starts, with their trackers; kept in ``<run>/tsal/model.pt``."""
    config, folder = run.config, run.folder / "tsal"
    own = config.tracker.tune_steps > 0 and config.tsal.trackers == "own"
    identity = run.identity("model", "augment", "train", "tracker", "tsal")
    identity |= {"start": [load_checkpoint(path)["identity"] for path in starts], "steps": steps}
    if _is_done(folder / "model.pt", identity):
        return
    detectors = [load_member(path)[0] for path in starts]
    if config.tsal.student_start == "fresh":
        seed_everything(config.seed + SECOND_SEED)
        detectors[1] = Detector(run.scheme.points, config.model)
    detectors = [detector.to(run.device, memory_format=torch.channels_last) for detector in detectors]
    names = ("teacher", "student")
    trackers: dict[str, nn.Module] = {}
    for name, detector in zip(names, detectors) if own else [("teacher", detectors[0])]:
        trackers[name] = open_tracker(run)
        tuned = folder / f"tracker-{name}"
        if config.tracker.tune_steps and _is_done(tuned / "model.pt", identity):
            trackers[name] = load_tracker(tuned / "model.pt", config, run.device)
        elif config.tracker.tune_steps:
            trackers[name] = tune_tracker(run, trackers[name], detector, tuned, identity)
    trackers.setdefault("student", trackers["teacher"])
    seed_everything(config.seed)
    lr = config.train.further_lr
    rates = (lr * config.tsal.teacher_lr, lr)
    teacher, student = (Member(d, make_optimiser(d, config.train, rate)) for d, rate in zip(detectors, rates))
    context = Context(config, run.scheme, run.device)
    maker = batch_maker(
        run,
        config.seed + 31,  # the labelled rows that supervised-only sees in the same steps
        labelled=config.train.further_batch,
        clips=config.tsal.clips,
        photographs=photographs_a_step(run),
        frames=config.tsal.frames,
    )

    def keep(step: int) -> None:
        save_members(
            folder / snapshot_name(step),
            {name: m.detector for name, m in zip(names, (teacher, student))},
            config,
            identity,
        )

    _, seconds = fit(
        folder,
        label="tsal",
        steps=steps,
        make_batch=maker,
        step_function=lambda batch, fraction: asynchronous_step(teacher, student, trackers, batch, context, fraction),
        state={
            "teacher": teacher.detector,
            "student": student.detector,
            "teacher optimiser": teacher.optimiser,
            "student optimiser": student.optimiser,
            "drift": student.drift,
        },
        identity=identity,
        context=context,
        members=lambda: member_distance(teacher.detector, student.detector),
        keep=keep,
        keep_at=snapshot_steps(steps, config.train.snapshots),
    )
    for path in folder.glob(snapshot_name("*")):  # of a former training
        if path.name not in [snapshot_name(step) for step in snapshot_steps(steps, config.train.snapshots)]:
            path.unlink()
    save_members(folder / "model.pt", {"teacher": teacher.detector, "student": student.detector}, config, identity)
    _record_time(folder, steps, seconds)
    (folder / "last.pt").unlink(missing_ok=True)


def train_starts(run: Run) -> list[Path]:
    """The supervised start, or two of them with different seeds -> their files."""
    config = run.config
    steps, _ = schedule_steps(run)
    seeds = {"start": config.seed} | ({"start-2": config.seed + SECOND_SEED} if config.tsal.starts == 2 else {})
    for name, seed in seeds.items():
        train_supervised(run, name, seed=seed, steps=steps, batch=config.train.batch, lr=config.train.lr)
    return [run.folder / name / "model.pt" for name in seeds]


def train_supervised_only(run: Run) -> None:
    """What TSAL is compared with: labels alone, from the same start for the same further steps."""
    config = run.config
    goes_on = {"steps": schedule_steps(run)[1], "batch": config.train.further_batch, "lr": config.train.further_lr}
    train_supervised(run, "supervised", seed=config.seed, **goes_on, origin=run.folder / "start" / "model.pt")


def train(run: Run) -> dict[str, dict]:
    """Supervised start(s), supervised-only for the further steps, and TSAL for the same steps; returns steps and
    seconds of each.
    """
    starts = train_starts(run)
    train_supervised_only(run)
    train_tsal(run, [starts[0], starts[-1]], schedule_steps(run)[1])
    names = [path.parent.name for path in starts]
    return {name: json.loads((run.folder / name / "time.json").read_text()) for name in (*names, "supervised", "tsal")}
