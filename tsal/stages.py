"""The stages of a run, each called by a notebook and by the command line: prepare, track, train, audit, evaluate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from tsal.config import Config
from tsal.data.lists import check_files, group_clips
from tsal.data.photometric import photometric, to_float
from tsal.data.rendered import load_oracle, render_dataset
from tsal.data.views import BatchMaker, Batch, plain_views
from tsal.errors import DataError, InputError
from tsal.evaluate import audit, load_member, metrics_rows, predictions_table, read_truth, save_members
from tsal.files import load_checkpoint, save_checkpoint, write_arrays, write_text
from tsal.losses_flow import FlowWeights
from tsal.metrics import is_degenerate, normaliser
from tsal.model import Detector
from tsal.pseudo import check_sources
from tsal.runs import Run, list_hashes
from tsal.tracker import FlowNet, track_frames, track_points, tracker_loss
from tsal.trainer import (
    Context,
    Member,
    asynchronous_step,
    fit,
    make_optimiser,
    member_distance,
    rate_at,
    step_optimiser,
    supervised_step,
)

SECOND_SEED = 1_000_003  # between the seeds of two supervised starts


def seed_everything(seed: int) -> None:
    """For the initial weights; batches and noise have seeds of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


# --- data ------------------------------------------------------------------------------------------------------------------


def prepare(run: Run, *, progress: bool = True) -> dict:
    """Make the embedded data if it is asked for, check every list and file, write and return the manifest."""
    config = run.config
    check_sources(config.tsal.sources)
    if config.data.name == "rendered" and not config.data.root:
        render_dataset(run.root, config.render, progress=progress)
    facts = check_files(run.lists, run.scheme.points, workers=config.data.workers, progress=progress)
    if config.train.steps and not run.clips:
        raise DataError("data.unlabelled: no clip of two frames or more (frames are files 0.jpg, 1.jpg ... of one folder); "
                        "the tracker needs some")
    hashes = list_hashes(run)
    evaluate = {name: {"faces": len(faces), "clips": len(group_clips(faces))} for name, faces in run.lists.evaluate.items()}
    manifest = {
        "data": config.data.name,
        "lists": hashes,
        "labelled": len(run.lists.labelled),
        "unlabelled": len(run.lists.unlabelled),
        "clips": len(run.clips),
        "clip_lengths": dict(sorted(Counter(len(clip.faces) for clip in run.clips).items())),
        "photographs": len(run.photographs),
        "evaluate": evaluate,
        "fingerprint": training_fingerprint(run, facts),
        "images": {image: fact for image, fact in sorted(facts.items())},
    }
    write_text(run.folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return manifest


def training_fingerprint(run: Run, facts: dict[str, dict]) -> str:
    """Hash of all that training sees: pictures, boxes and labels of the training rows, in their order."""
    digest = hashlib.sha256()
    for face in run.lists.labelled + run.lists.unlabelled:
        digest.update(json.dumps([facts[face.image]["sha256"], face.image, face.box]).encode())
        points, visible = run.store.points(face)
        digest.update(points.tobytes() + visible.tobytes())
    return digest.hexdigest()


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
    )


# --- tracker ---------------------------------------------------------------------------------------------------------------


def make_tracker(config: Config) -> FlowNet:
    return FlowNet(config.tracker.channels, config.tracker.search, config.tracker.finest, config.tracker.width)


def load_tracker(path: Path, config: Config, device: torch.device) -> FlowNet:
    tracker = make_tracker(config)
    tracker.load_state_dict(load_checkpoint(path, device)["tracker"])
    return tracker.to(device).eval().requires_grad_(False)


def _is_done(path: Path, identity: dict) -> bool:
    return path.exists() and load_checkpoint(path).get("identity") == identity


def _finish(folder: Path, **content) -> None:
    """Keep the result; what resuming needed is no longer needed."""
    save_checkpoint(folder / "model.pt", content)
    (folder / "last.pt").unlink(missing_ok=True)


def train_tracker(run: Run) -> FlowNet:
    """The tracker's own stage: synthetic warps with known flow, then pairs of real frames; no labels at all."""
    config, folder = run.config, run.folder / "tracker"
    identity = run.identity("model.input", "augment", "tracker")
    if not _is_done(folder / "model.pt", identity):
        seed_everything(config.seed)
        tracker = make_tracker(config).to(run.device)
        steps = config.tracker.synthetic_steps + config.tracker.video_steps
        _, seconds = _fit_tracker(run, tracker, folder, "tracker", steps, config.tracker.synthetic_steps, None, identity)
        _record_time(folder, steps, seconds)
        _finish(folder, tracker=tracker.state_dict(), identity=identity, config=config.to_dict())
    return load_tracker(folder / "model.pt", config, run.device)


def tune_tracker(run: Run, tracker: FlowNet, detector: Detector, folder: Path, identity: dict) -> FlowNet:
    """Go on with real pairs and a frozen detector, whose heatmaps must agree on warped and real frames."""
    config = run.config
    tracker.requires_grad_(True)
    detector = detector.eval().requires_grad_(False)

    def detect(images):
        maps = detector(images).stages[-1][:, :-1].float()
        return maps.flatten(-2).softmax(-1).view_as(maps) if config.model.heatmap == "distribution" else maps

    _fit_tracker(run, tracker, folder, "tune tracker", config.tracker.tune_steps, 0, detect, identity)
    detector.requires_grad_(True)
    _finish(folder, tracker=tracker.state_dict(), identity=identity, config=config.to_dict())
    return tracker.eval().requires_grad_(False)


def _fit_tracker(run: Run, tracker, folder: Path, label: str, steps: int, synthetic: int, detect, identity: dict) -> tuple[list, float]:
    config, settings = run.config, run.config.tracker
    context = Context(config, run.scheme, run.device)
    pairs = settings.batch
    maker = batch_maker(run, config.seed + 17, labelled=0, clips=pairs, photographs=0, frames=2)
    optimiser = torch.optim.AdamW(tracker.parameters(), lr=settings.lr, weight_decay=1e-4)
    weights = FlowWeights(census=settings.census_weight, smoothness=settings.smooth_weight, consistency=settings.consistency_weight)
    schedule = dataclasses.replace(config.train, schedule="cosine")

    def step(batch: Batch, fraction: float) -> dict:
        at = round(fraction * steps)
        frames = to_float(batch.weak)
        first, second = frames[batch.previous], frames[batch.following]
        if at < synthetic:  # each phase has a cosine of its own
            phase, base = at / synthetic, settings.lr
            generator = torch.Generator(run.device).manual_seed(batch.seed)
            loss, terms = tracker_loss(tracker, first, second, phase="synthetic", generator=generator)
        else:
            phase, base = (at - synthetic) / (steps - synthetic), settings.video_lr
            masked = phase >= settings.occlusion_from
            loss, terms = tracker_loss(tracker, first, second, phase="video", weights=weights, use_occlusion=masked, detect=detect)
        for group in optimiser.param_groups:
            group["base_lr"] = base
        step_optimiser(optimiser, tracker, loss, rate_at(phase, schedule), 1.0)
        return {"loss": loss.detach(), **terms}

    tracker.train()
    return fit(
        folder,
        label=label,
        steps=steps,
        make_batch=maker,
        step_function=step,
        state={"tracker": tracker, "optimiser": optimiser},
        identity=identity,
        context=context,
    )


# --- detectors -------------------------------------------------------------------------------------------------------------


def schedule_steps(run: Run) -> tuple[int, int]:
    """Steps of the start and of what follows it."""
    train = run.config.train
    if train.epochs:
        epoch = max(1, -(-len(run.lists.labelled) // train.batch))
        return train.epochs * epoch, train.epochs * epoch
    return train.steps, train.further


def train_supervised(run: Run, name: str, *, seed: int, steps: int, batch: int, lr: float, origin: Path | None = None) -> Detector:
    """Labelled rows alone, from scratch or from another training's weights (``origin``); kept in ``<run>/<name>/model.pt``."""
    config, folder = run.config, run.folder / name
    parts = ("model", "augment", *(f"train.{setting}" for setting in _shared_settings(config)))
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


def train_tsal(run: Run, starts: list[Path], steps: int) -> None:
    """Teacher and student from their starts, with their trackers; kept in ``<run>/tsal/model.pt``."""
    config, folder = run.config, run.folder / "tsal"
    own = config.tracker.tune_steps > 0 and config.tsal.trackers == "own"
    identity = run.identity("model", "augment", "train", "tracker", "tsal")
    identity |= {"start": [load_checkpoint(path)["identity"] for path in starts], "steps": steps}
    if _is_done(folder / "model.pt", identity):
        return
    detectors = [load_member(path)[0].to(run.device, memory_format=torch.channels_last) for path in starts]
    names = ("teacher", "student")
    trackers: dict[str, nn.Module] = {}
    for name, detector in zip(names, detectors) if own else [("teacher", detectors[0])]:
        path = run.folder / ("tracker" if not config.tracker.tune_steps else f"tsal/tracker-{name}") / "model.pt"
        trackers[name] = load_tracker(run.folder / "tracker" / "model.pt", config, run.device)
        if config.tracker.tune_steps:
            trackers[name] = tune_tracker(run, trackers[name], detector, path.parent, identity)
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
        photographs=config.tsal.photographs if run.photographs else 0,
        frames=config.tsal.frames,
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
        },
        identity=identity,
        context=context,
        members=lambda: member_distance(teacher.detector, student.detector),
    )
    save_members(folder / "model.pt", {"teacher": teacher.detector, "student": student.detector}, config, identity)
    _record_time(folder, steps, seconds)
    (folder / "last.pt").unlink(missing_ok=True)


def train(run: Run) -> dict[str, dict]:
    """Supervised start(s), supervised-only for the further steps, and TSAL for the same steps; returns steps and seconds of each."""
    config = run.config
    steps, further = schedule_steps(run)
    seeds = {"start": config.seed} | ({"start-2": config.seed + SECOND_SEED} if config.tsal.starts == 2 else {})
    for name, seed in seeds.items():
        train_supervised(run, name, seed=seed, steps=steps, batch=config.train.batch, lr=config.train.lr)
    starts = [run.folder / name / "model.pt" for name in seeds]
    goes_on = {"steps": further, "batch": config.train.further_batch, "lr": config.train.further_lr}
    train_supervised(run, "supervised", seed=config.seed, **goes_on, origin=starts[0])
    train_tsal(run, [starts[0], starts[-1]], further)
    return {name: json.loads((run.folder / name / "time.json").read_text()) for name in (*seeds, "supervised", "tsal")}


# --- audit and evaluation --------------------------------------------------------------------------------------------------


def member_files(run: Run) -> dict[str, tuple[Path, str | None]]:
    """Where each member of the run's comparison is kept."""
    tsal = run.folder / "tsal" / "model.pt"
    files = {
        "start": (run.folder / "start" / "model.pt", None),
        "supervised": (run.folder / "supervised" / "model.pt", None),
        "teacher": (tsal, "teacher"),
        "student": (tsal, "student"),
    }
    missing = sorted({str(path) for path, _ in files.values() if not path.exists()})
    if missing:
        raise InputError(f"not trained yet: {', '.join(missing)}; run 'python -m tsal train --run {run.folder}'")
    return files


def final_tracker(run: Run) -> FlowNet:
    """The tracker that the teacher was taught with."""
    tuned = run.folder / "tsal" / "tracker-teacher" / "model.pt"
    path = tuned if tuned.exists() else run.folder / "tracker" / "model.pt"
    return load_tracker(path, run.config, run.device)


def audit_pseudo_labels(run: Run, *, clips: int = 200) -> dict[str, np.ndarray]:
    """Every source of the teacher (and of the start, for comparison) on unlabelled clips; kept in ``audit.npz``.

    At most ``clips`` clips and as many photographs, evenly spread. Where ``data.truth`` has labels, they are added for measuring.
    """
    config = run.config
    tracker = final_tracker(run)
    chosen = _spread(run.clips, clips) + _spread(run.photographs, clips)
    files = member_files(run)
    arrays: dict[str, np.ndarray] = {}
    for member in ("start", "teacher", "student"):
        detector = load_member(*files[member], device=run.device)[0]
        found = audit(detector, tracker, run.store, chosen, config, run.device, progress=f"audit {member}")
        shared = ("sources", "clip", "path", "zoom")
        arrays |= {name: found.pop(name) for name in shared}
        arrays |= {f"{member}_{name}": value for name, value in found.items()}
    faces = [face for clip in chosen for face in clip.faces]
    known = [dataclasses.replace(face, annotation=run.lists.truth.get(face.image)) for face in faces]
    points, visible = map(np.array, zip(*(run.store.points(face) for face in known)))
    box = np.array([face.box for face in faces])
    size = np.array([np.nan if face.face_size is None else face.face_size for face in faces])
    has_truth = np.array([face.annotation is not None for face in known])
    d = np.full(len(faces), np.nan)
    if has_truth.any():
        d = normaliser(config.data.normaliser, points, box, size, run.scheme)
        d = np.where(has_truth & ~is_degenerate(d, box), d, np.nan)
    arrays |= {"truth": points.astype(np.float32), "visible": visible, "d": d.astype(np.float32), "box": box.astype(np.float32)}
    arrays["members"] = np.array(["start", "teacher", "student"])
    write_arrays(run.folder / "audit.npz", **arrays)
    return arrays


def _spread(items: list, count: int) -> list:
    """At most ``count`` of the items, evenly spread."""
    return items if len(items) <= count else [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def evaluate(run: Run) -> list[dict]:
    """Predict every evaluation list with every member; keeps ``predictions.npz`` and ``metrics.json``."""
    files = member_files(run)
    faces = [face for faces in run.lists.evaluate.values() for face in faces]
    truth = read_truth(run.store, faces, run.config.data.normaliser, run.scheme)
    members = {name: load_member(*place, device=run.device)[0] for name, place in files.items()}
    table = predictions_table(members, run.store, truth, faces, run.device)
    write_arrays(run.folder / "predictions.npz", **table)
    rows = metrics_rows(table)
    unscored = [f"{truth.list_name[i]}:{truth.row[i]} {truth.path[i]}" for i in np.flatnonzero(truth.degenerate)]
    times = {path.parent.name: json.loads(path.read_text()) for path in sorted(run.folder.glob("*/time.json"))}
    report = {"normaliser": run.config.data.normaliser, "rows": rows, "degenerate": unscored, "times": times}
    write_text(run.folder / "metrics.json", json.dumps(report, indent=1) + "\n")
    return rows


def evaluate_tracker(run: Run, *, clips: int = 200) -> dict[str, dict[str, float]]:
    """The tracker beside zero motion and OpenCV's DIS, on the evaluation lists; kept in ``tracker/metrics.json``.

    ``transfer``: labelled points carried to the next frame against its labels, mean distance in px of the input and in % of d.
    ``endpoint_error``: on rendered clips, mean over pixels seen in both frames, px of the input.
    """
    tracker = load_tracker(run.folder / "tracker" / "model.pt", run.config, run.device)
    groups = [c for faces in run.lists.evaluate.values() for c in group_clips(faces) if len(c.faces) > 1]
    groups = _spread(groups, clips)
    results: dict[str, dict[str, list]] = {}
    for clip in groups:
        images, affines = plain_views(run.store, [clip.faces])
        pictures = to_float(images.to(run.device))
        forward, _ = track_frames(tracker, pictures[:-1], pictures[1:], run.config.tracker.polish)
        zero = torch.zeros_like(forward).cpu()
        methods = {"zero motion": zero, "DIS": dis_flow(images[:-1], images[1:]), "tracker": forward.cpu()}
        truth = _oracle_flow(run, clip, affines[0])
        points, visible = map(np.array, zip(*(run.store.points(face) for face in clip.faces)))
        points_input = torch.as_tensor(points @ affines[0][:, :2].T + affines[0][:, 2]).float()
        both = torch.as_tensor(visible[:-1] & visible[1:])
        for name, flow in methods.items():
            row = results.setdefault(name, {"transfer": [], "endpoint_error": []})
            if both.any():
                carried = track_points(torch.nan_to_num(points_input[:-1]), flow, torch.zeros_like(flow)).points
                row["transfer"].append((carried - points_input[1:]).norm(dim=-1)[both])
            if truth is not None:
                row["endpoint_error"].append((flow - truth[0]).norm(dim=1)[truth[1]])
    report = {
        name: {key: float(torch.cat(values).mean()) for key, values in row.items() if values} for name, row in results.items()
    }
    write_text(run.folder / "tracker" / "metrics.json", json.dumps(report, indent=1) + "\n")
    return report


def dis_flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """OpenCV's dense inverse search between uint8 pictures (N, 3, H, W) -> (N, 2, H, W) px, cpu."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [[cv2.cvtColor(p.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for p in frames.cpu()] for frames in (first, second)]
    return torch.from_numpy(np.stack([dis.calc(a, b, None) for a, b in zip(*grey)])).permute(0, 3, 1, 2)


def _oracle_flow(run: Run, clip, affine: np.ndarray) -> tuple[torch.Tensor, torch.Tensor] | None:
    """True forward flow of a rendered clip in its crop (T-1, 2, S, S) px, and where it counts (T-1, S, S)."""
    path = run.root / "oracle" / f"{clip.name.removeprefix('images/')}.npz"
    if not path.exists():
        return None
    oracle = load_oracle(path)
    flow, seen = oracle["flow_forward"], ~oracle["occluded_forward"]
    side = run.config.model.input
    linear = affine[:, :2]

    def cut(image, order):
        return cv2.warpAffine(image, affine, (side, side), flags=order, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    flows = np.stack([cut(np.ascontiguousarray(f.transpose(1, 2, 0)), cv2.INTER_LINEAR) @ linear.T for f in flow])
    # a pixel counts where all that it was interpolated from does, and where its point stays in the crop
    masks = np.stack([cut(m.astype(np.float32), cv2.INTER_LINEAR) > 0.999 for m in seen])
    y, x = np.mgrid[:side, :side]
    reached = np.stack([x, y], -1) + flows
    masks &= ((reached >= 0) & (reached <= side - 1)).all(-1)
    return torch.from_numpy(flows).permute(0, 3, 1, 2).float(), torch.from_numpy(masks)
