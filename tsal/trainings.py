"""The trainings of a run's detectors, each in a folder of its own and skipped where it is done: init, supervised only,
semi-supervised.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from contextlib import suppress
from pathlib import Path

import torch

from tsal.config import Config, Method, labels_alone, load_method, settings_of
from tsal.data import BatchMaker
from tsal.initial import initial_detector
from tsal.loop import fit, is_done, record_time, refuse_former, seed_everything
from tsal.model import Detector
from tsal.model_files import load_model, save_models, snapshot_name, snapshot_steps
from tsal.optimiser import make_optimiser
from tsal.pseudo import TRACKING, PseudoLabeller
from tsal.run import Run
from tsal.tracker import FrozenTracker, freeze_tracker, load_tracker, open_tracker, tune_tracker
from tsal.trainer import Context, Learner, TeacherStudent, asynchronous_step, supervised_step
from tsal.utils import ConfigError, ThreadWatch, load_checkpoint, processes, rank, side_by_side, wait_for_all

SECOND_SEED = 1_000_003  # between the seeds of two inits
BATCHES = 31  # added to the seed of weights: the same labelled rows in the same steps for every method
AFTER_INIT = 500_009  # added to it after an init of as many labelled faces a step


def batch_maker(
    run: Run,
    seed: int,
    *,
    labelled: int,
    clips: int = 0,
    images: int = 0,
    frames: int = 1,
    window: int = 1,
    pairs: bool = False,
) -> BatchMaker:
    """Batches of so many labelled faces, clips of ``frames`` frames, and single images.

    ``pairs``: with the pairs of frames that a frozen tracker sees, at most ``window`` frames apart.
    """
    return BatchMaker(
        run.store,
        run.lists.labelled,
        run.clips,
        run.single_images,
        run.config.augment,
        seed=seed,
        sizes=(labelled, clips, images),
        frames=frames,
        window=window,
        pairs=pairs,
        share=(rank(), processes()),
        truth=run.lists.truth,
    )


def images_a_step(run: Run) -> int:
    """``semi.images``, at most a tenth of those that there are: a few seen again and again would crowd out clips."""
    return min(run.config.semi.images, math.ceil(len(run.single_images) / 10))


def schedule_steps(run: Run) -> tuple[int, int]:
    """Steps of the init, and of every training that goes on from it (``semi.steps`` x the method's ``steps_times``)."""
    config, times = run.config, run.config.steps_times
    if epochs := config.train.epochs:
        batches = [max(1, math.ceil(len(run.lists.labelled) / part.batch)) for part in (config.supervised, config.semi)]
        return epochs * batches[0], times * epochs * batches[1]
    return config.supervised.steps, times * config.semi.steps


def batches_after_init(config: Config) -> int:
    """What is added to the seed of weights, as ``BATCHES`` for the init, by every training that goes on from it."""
    # of the init's size, its batches would come again, view for view; of another, all but the first hold other faces
    return BATCHES + (AFTER_INIT if config.semi.batch == config.supervised.batch else 0)


# --- labels alone ---


def train_supervised(
    run: Run, name: str, *, seed: int, steps: int, batch: int, lr: float, init: Path | None = None
) -> Detector:
    """Labelled rows alone, from what ``model.weights`` says or another training (``init``); kept in
    ``<run>/<name>/model.pt``.
    """
    config, folder = run.config, run.folder / name
    fingerprint = supervised_fingerprint(run, name, seed=seed, steps=steps, batch=batch, lr=lr)
    if init:
        fingerprint["init"] = load_checkpoint(init)["fingerprint"]
    if not is_done(folder / "model.pt", fingerprint):
        seed_everything(seed)
        detector = load_model(init)[0] if init else initial_detector(run)
        detector = detector.to(run.device, memory_format=torch.channels_last)
        learner = Learner(detector, make_optimiser(detector, config.train, lr))
        context = Context(config, run.scheme, run.device)
        _, seconds = fit(
            folder,
            label=name,
            steps=steps,
            make_batch=batch_maker(run, seed + (batches_after_init(config) if init else BATCHES), labelled=batch),
            step_function=lambda batch, fraction: supervised_step(learner, batch, context, fraction),
            state={"detector": detector, "optimiser": learner.optimiser},
            fingerprint=fingerprint,
            config=config,
            device=run.device,
        )
        _finish(folder, {name: detector}, config, fingerprint, steps, seconds)
    return load_model(folder / "model.pt", device=run.device)[0]


def supervised_fingerprint(run: Run, name: str, **settings: float) -> dict:
    """What decides a training on labels (:meth:`Run.fingerprint`), and its settings: unlabelled faces do not, so other
    ones leave it as it is.
    """
    ignored = {*settings_of("unlabelled"), "train.epochs"}
    shared = run.fingerprint("model", "augment", "train", without=ignored, rows="labelled_fingerprint")
    return shared | {"name": name, "training seed": settings.pop("seed")} | settings


def init_settings(run: Run, count: int | None = None) -> dict[str, dict]:
    """{name: what :func:`train_supervised` takes} of the init(s) that the method asks for, or of ``count``."""
    config, steps = run.config, schedule_steps(run)[0]
    seeds = {"init": config.seed, "init-2": config.seed + SECOND_SEED}
    shared = {"steps": steps, "batch": config.supervised.batch, "lr": config.supervised.lr}
    return {name: {"seed": seeds[name]} | shared for name in list(seeds)[: count or config.tsal.inits]}


def train_inits(run: Run, count: int | None = None) -> list[Path]:
    """The supervised init(s) that the method asks for (or ``count``), with different seeds -> their files."""
    inits = init_settings(run, count)
    for name, settings in inits.items():
        train_supervised(run, name, **settings)
    return [run.folder / name / "model.pt" for name in inits]


def train_supervised_only(run: Run) -> None:
    """Labels alone, from the same init for the same steps as semi-supervised methods, which are compared with it."""
    train_supervised(run, "supervised", **further_settings(run), init=run.folder / "init" / "model.pt")


def further_settings(run: Run) -> dict:
    """What :func:`train_supervised` takes of supervised only."""
    semi = run.config.semi
    return {"seed": run.config.seed, "steps": schedule_steps(run)[1], "batch": semi.batch, "lr": semi.lr}


# --- teacher and student ---


def train_semi(run: Run, inits: list[Path], steps: int, name: str = "semi") -> None:
    """Teacher and student from their inits, by the run's method; kept in ``<run>/<name>/model.pt``."""
    config, folder = run.config, run.folder / name
    fingerprint = semi_fingerprint(run, steps) | {"init": [load_checkpoint(path)["fingerprint"] for path in inits]}
    tracker = run.folder / "tracker" / "model.pt"
    if PseudoLabeller(config).needs_flow and tracker.exists():  # it may be another one of the same settings
        fingerprint["trained tracker"] = load_checkpoint(tracker)["fingerprint"]
    if is_done(folder / "model.pt", fingerprint):
        return
    detectors = _first_detectors(run, inits)
    trackers = _tuned_trackers(run, detectors, folder, fingerprint)
    seed_everything(config.seed)
    rates = (config.semi.lr * config.tsal.teacher_lr, config.semi.lr)
    learners = [Learner(d, make_optimiser(d, config.train, rate)) for d, rate in zip(detectors, rates)]
    pair = TeacherStudent(*learners, trackers)
    models = {"teacher": pair.teacher.detector, "student": pair.student.detector}
    semi, snapshots = config.semi, snapshot_steps(steps, config.train.snapshots)
    alone = run.device.type == "cpu" and processes() == 1  # collective operations need one order
    two = alone and config.tsal.teacher_lr > 0  # else one half of a step has little to do
    with side_by_side(two, watch := ThreadWatch()) as together:
        context = Context(config, run.scheme, run.device, together)
        _, seconds = fit(
            folder,
            label=name,
            steps=steps,
            make_batch=batch_maker(
                run,
                config.seed + batches_after_init(config),
                labelled=semi.batch,
                clips=semi.clips,
                images=images_a_step(run),
                frames=semi.frames,
                window=context.labeller.window,
                pairs=context.labeller.needs_flow,
            ),
            step_function=lambda batch, fraction: asynchronous_step(pair, batch, context, fraction),
            state={
                **models,
                "teacher optimiser": pair.teacher.optimiser,
                "student optimiser": pair.student.optimiser,
                "drift": pair.drift,
            },
            fingerprint=fingerprint,
            config=config,
            device=run.device,
            models=pair.distance,
            keep=lambda step: save_models(folder / snapshot_name(step), models, config, fingerprint),
            keep_at=snapshots,
            threads=watch,
        )
    if rank() == 0:
        for path in folder.glob(snapshot_name("*")):  # of a former training
            if path.name not in map(snapshot_name, snapshots):
                path.unlink()
    tuning = sum(json.loads(path.read_text())["seconds"] for path in folder.glob("tracker-*/time.json"))
    _finish(folder, models, config, fingerprint, steps, seconds + tuning)


def semi_fingerprint(run: Run, steps: int) -> dict:
    """What decides a training of teacher and student, its inits and its trained tracker apart."""
    parts = "model", "augment", "semi", "train", "tracker", "tsal", "data.consecutive"
    return run.fingerprint(*parts) | {"steps": steps}


def find_rival(config: Config) -> Method | None:
    """The method of ``semi.rival``; None where there is none, where it is the run's own, or of labels alone.

    Raises:
        ConfigError: no such method, or one that learns from labels alone.
    """
    name = config.semi.rival
    if not name or name == config.method or labels_alone(config):
        return None
    method = load_method(name)
    if method.result == "supervised":
        raise ConfigError(f"semi.rival={name}: it learns from labels alone; name a semi-supervised method, or none")
    return method


def rival_config(config: Config) -> Config | None:
    """The settings of the method that :func:`find_rival` finds, on the same data; None where it finds none."""
    rival, own = find_rival(config), {}
    with suppress(ConfigError):  # its file may be gone; the run has its settings
        own = load_method(config.method).settings
    # a method may bring a flow beside tsal.*: the run's own method's is not its rival's
    flow = {"tracker.flow": Config().tracker.flow} if own.get("tracker.flow") == config.tracker.flow else {}
    return config.override(flow | rival.settings | {"steps_times": config.steps_times}) if rival else None


def parts_that_track(config: Config) -> list[str]:
    """The settings, with their values, by which a run's method or its rival learns from faces that are followed from
    frame to frame. ``tsal.agreement_weight`` is none of them: of a frame without neighbours it asks nothing.

    Raises:
        ConfigError: see :func:`find_rival` and :class:`~tsal.pseudo.PseudoLabeller`.
    """
    rival, parts = rival_config(config), []
    if not labels_alone(config):
        labeller = PseudoLabeller(config)
        parts += [f"tsal.sources={','.join(config.tsal.sources)}"] if set(labeller.names) & set(TRACKING) else []
        parts += ["tsal.teacher_consistency=true"] if labeller.consistency else []
    if rival and parts_that_track(rival):
        parts.append(f"semi.rival={rival.method}")
    return parts


def _finish(folder: Path, models: dict[str, Detector], config: Config, fingerprint: dict, steps: int, seconds: float):
    """Keep a training's result; what resuming needed is no longer needed. Of several processes, the first writes."""
    if rank() == 0:
        record_time(folder, steps, seconds)
        save_models(folder / "model.pt", models, config, fingerprint)  # last: with it the training is done
        (folder / "last.pt").unlink(missing_ok=True)
    wait_for_all()


def _first_detectors(run: Run, inits: list[Path]) -> list[Detector]:
    """Teacher and student before their first step."""
    detectors = [load_model(inits[0])[0], load_model(inits[-1])[0]]
    if run.config.tsal.student_init == "random":
        seed_everything(run.config.seed + SECOND_SEED)
        detectors[1] = Detector(run.scheme.points, run.config.model)
    return [detector.to(run.device, memory_format=torch.channels_last) for detector in detectors]


def _tuned_trackers(run: Run, detectors: list[Detector], folder: Path, fingerprint: dict) -> dict[str, FrozenTracker]:
    """The tracker of each learner: the run's, tuned with its detector where ``tracker.tune_steps`` says so."""
    config = run.config
    learns = config.tracker.flow == "learned" and PseudoLabeller(config).needs_flow
    tunes = config.tracker.tune_steps > 0 and learns and len(run.clips) > 0  # without clips nothing is tracked
    own = tunes and config.tsal.trackers == "own"
    names, trackers = ("teacher", "student") if own else ("teacher",), {}
    for name in {"teacher", "student"} - set(names if tunes else ()):  # of other settings: the audit must not take it
        if rank() == 0:
            shutil.rmtree(folder / f"tracker-{name}", ignore_errors=True)
    for name, detector in zip(names, detectors):
        tuned = folder / f"tracker-{name}"
        done = tunes and is_done(tuned / "model.pt", fingerprint)
        wait_for_all()  # else the first of several processes may be through before another one looks
        if done:
            net = load_tracker(tuned / "model.pt", config, run.device)
        elif tunes:
            net = tune_tracker(run, open_tracker(run), detector, tuned, fingerprint)
        else:
            net = open_tracker(run)
        trackers[name] = freeze_tracker(run, net)
    return {"student": trackers["teacher"]} | trackers


# --- a run ---


def train(run: Run) -> dict[str, dict]:
    """Init(s), supervised only, the rival and the method for the same steps, as far as the method wants them; returns
    steps and seconds of each.
    """
    rival, alone = rival_config(run.config), labels_alone(run.config)
    own = 1 if alone else run.config.tsal.inits
    inits, steps = train_inits(run, max(own, rival.tsal.inits if rival else 1)), schedule_steps(run)[1]
    train_supervised_only(run)
    if rival:
        train_semi(dataclasses.replace(run, config=rival), inits[: rival.tsal.inits], steps, "rival")
    if not alone:
        train_semi(run, inits[:own], steps)
    names = [*(path.parent.name for path in inits), "supervised", *["rival"] * bool(rival), *["semi"] * (not alone)]
    return {name: json.loads((run.folder / name / "time.json").read_text()) for name in names}


def model_files_of(run: Run) -> dict[str, tuple[Path, str | None]]:
    """Where each model of the run's comparison is kept: file, and name in it. The rival has its method's name.

    Raises:
        InputError: one is not trained yet, or was trained with other settings, scheme or faces than the run has now.
    """
    rival, steps = rival_config(run.config), schedule_steps(run)[1]
    fingerprints = {
        "init": supervised_fingerprint(run, "init", **init_settings(run)["init"]),
        "supervised": supervised_fingerprint(run, "supervised", **further_settings(run)),
    }
    files: dict[str, tuple[Path, str | None]] = {name: (run.folder / name / "model.pt", None) for name in fingerprints}
    if rival:
        fingerprints["rival"] = semi_fingerprint(dataclasses.replace(run, config=rival), steps)
        files[rival.method] = (run.folder / "rival" / "model.pt", rival.result)
    if not labels_alone(run.config):
        fingerprints["semi"] = semi_fingerprint(run, steps)
        files |= {name: (run.folder / "semi" / "model.pt", name) for name in ("teacher", "student")}
    for name, fingerprint in fingerprints.items():
        refuse_former(run.folder / name / "model.pt", fingerprint, f"run 'python -m tsal train --run {run.folder}'")
    return files
