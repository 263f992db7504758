"""The stages of a run, each called by a notebook and by the command line: prepare, train, audit, evaluate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tsal.audit import Audit, AuditWriter, audit_member, clip_view
from tsal.checkpoints import load_checkpoint
from tsal.data.building import Origin, read_origins, read_preparation
from tsal.data.known_flow import true_flow
from tsal.data.leaks import check_files
from tsal.data.lists import Clip, from_root, group_clips
from tsal.data.photometric import to_float
from tsal.data.rendered import render_dataset
from tsal.data.views import plain_views
from tsal.errors import ConfigError, DataError, InputError
from tsal.evaluate import load_member, metrics_rows, predictions_table, read_truth
from tsal.evaluate_flow import dis_flow
from tsal.files import write_arrays, write_text
from tsal.pseudo import check_sources
from tsal.runs import REPOSITORY, Run, data_folders, list_hashes
from tsal.tracker import track_frames, track_points
from tsal.training import load_tracker, open_tracker, schedule_steps, snapshot_name, train, train_tracker

__all__ = ["prepare", "train_tracker", "evaluate_tracker", "train", "audit_pseudo_labels", "evaluate"]

# modules that an audit's numbers depend on; how the weights came to be does not matter
AUDIT_CODE = ("audit", "codecs", "evaluate", "geometry", "model", "pseudo", "schemes", "tracker", "data/pictures", "data/views")


# --- data ------------------------------------------------------------------------------------------------------------------


def prepare(run: Run, *, progress: bool = True) -> dict:
    """Make the embedded data if it is asked for, check every list and file, write and return the manifest."""
    config = run.config
    check_sources(config.tsal.sources)
    own = config.data.name == "rendered" and config.data.root  # a rendering of one's own is taken as it is
    if not own and (config.data.name == "rendered" or config.tracker.rendered > 0):
        render_dataset(run.rendered, config.render, progress=progress)
    prepared, origins = {}, {}
    for folder in data_folders(run):
        if found := read_preparation(folder):
            prepared[folder.name] = found
            if found["points"] not in (0, run.scheme.points):
                raise ConfigError(f"data.scheme={config.data.scheme}: has {run.scheme.points} landmarks, and {folder} has "
                                  f"{found['points']}; set data.scheme={found['points']}")
        origins |= {from_root(run.root, folder, image): origin for image, origin in read_origins(folder).items()}
    lists = run.lists
    facts, warnings = check_files(
        lists, run.scheme.points, origins=origins, transductive=config.data.transductive, workers=config.data.workers, progress=progress
    )
    if not run.clips:
        raise DataError("data.unlabelled: no clip of two frames or more (frames are files 0.jpg, 1.jpg ... of one folder); "
                        "the tracker needs some")
    hashes = list_hashes(run)
    every = [lists.labelled, lists.unlabelled, *lists.evaluate.values()]
    grouped = {
        face.image: Origin(clip=clip.name, frame=int(Path(face.image).stem))
        for faces in every for clip in group_clips(faces) if len(clip.faces) > 1 for face in clip.faces
    }  # fmt: skip
    origins = grouped | origins  # a builder knows better than the files' names
    evaluate = {name: {"faces": len(faces), "clips": len(group_clips(faces))} for name, faces in run.lists.evaluate.items()}
    manifest = {
        "data": config.data.name,
        "prepared": prepared,
        "transductive": config.data.transductive,
        "warnings": warnings,
        "lists": hashes,
        "labelled": len(run.lists.labelled),
        "unlabelled": len(run.lists.unlabelled),
        "clips": len(run.clips),
        "clip_lengths": dict(sorted(Counter(len(clip.faces) for clip in run.clips).items())),
        "photographs": len(run.photographs),
        "evaluate": evaluate,
        "fingerprint": training_fingerprint(run, facts),
        "images": {image: fact | vars(origins.get(image, Origin())) for image, fact in sorted(facts.items())},
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


def final_tracker(run: Run) -> nn.Module:
    """The tracker that the teacher was taught with."""
    tuned = run.folder / "tsal" / "tracker-teacher" / "model.pt"
    return load_tracker(tuned, run.config, run.device) if tuned.exists() else open_tracker(run)


def audited_files(run: Run) -> list[tuple[str, int, Path, str | None]]:
    """(member, step, file, name in it) of all that is audited: the start, TSAL's snapshots, and its members at the end."""
    files = member_files(run)
    final, steps = files["teacher"][0], schedule_steps(run)[1]
    identity = load_checkpoint(final)["identity"]
    stages: list[tuple[int, Path]] = []
    for path in sorted(final.parent.glob(snapshot_name("*"))):
        if load_checkpoint(path)["identity"] == identity:
            stages.append((int(path.stem.rpartition("-")[2]), path))
    found = [("start", 0, files["start"][0], None)]
    return found + [(name, step, path, name) for step, path in [*stages, (steps, final)] for name in ("teacher", "student")]


def audit_pseudo_labels(run: Run, *, clips: int = 64, frames: int = 24, early_frames: int = 200) -> Audit:
    """Every source of each member of :func:`audited_files` on unlabelled frames; kept in ``audit/``, see :mod:`tsal.audit`.

    Where ``data.truth`` has labels, they are added for measuring. An audit that was made from the same is read instead.

    Args:
        clips: at most so many clips, and as many photographs, evenly spread; ``frames``: of a clip, from its middle.
        early_frames: frames at most, evenly spread clips, of the members before the end.
    """
    config = run.config
    made_from = _audit_hash(run, clips, frames, early_frames)
    if kept := Audit.kept(run.folder / "audit", made_from):
        return kept
    tracker = final_tracker(run)
    chosen = [_middle(clip, frames) for clip in _spread(run.clips, clips)] + _spread(run.photographs, clips)
    faces = [face for clip in chosen for face in clip.faces]
    known = [dataclasses.replace(face, annotation=run.lists.truth.get(face.image)) for face in faces]
    truth = read_truth(run.store, known, config.data.normaliser, run.scheme)
    writer = AuditWriter(run.folder / "audit", run.store, chosen, truth, made_from)
    longest = max(len(clip.faces) for clip in chosen)
    few = _spread(range(len(chosen)), max(1, early_frames // longest))
    last = max(step for _, step, _, _ in audited_files(run))
    numbers = writer.frames.view.to_numpy()
    try:
        ends = {}
        for name, step, path, key in audited_files(run):
            detector = load_member(path, key, run.device)[0]
            whole = step in (0, last)
            of = list(range(len(chosen))) if whole else list(few)
            found = audit_member(detector, tracker, run.store, [chosen[i] for i in of], config, run.device, progress=f"audit {name} {step}")
            writer.add(name, step, found, np.flatnonzero(np.isin(numbers, of)))
            if whole:
                ends[name] = detector
        for number, clip in enumerate(tqdm(chosen, desc="audit: what can be looked at", unit="clip", mininterval=1)):
            writer.add_view(number, clip_view(ends, tracker, run.store, clip, config, run.device))
        return writer.close()
    finally:
        writer.discard()


def _audit_hash(run: Run, *sizes: int) -> str:
    """Of all that an audit depends on: weights, lists and labels' files, settings, code."""
    tuned = run.folder / "tsal" / "tracker-teacher" / "model.pt"
    weights = [*dict.fromkeys(path for _, _, path, _ in audited_files(run)), tuned if tuned.exists() else run.folder / "tracker/model.pt"]
    labels = [run.root / name for name in sorted(set(run.lists.truth.values()))]
    settings = run.config.to_dict()
    facts = {
        "weights": [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights if path.exists()],
        "settings": {part: settings[part] for part in ("model", "tracker", "tsal", "augment")} | {"normaliser": run.config.data.normaliser},
        "scheme": run.scheme.to_dict(),
        "manifest": run.manifest(),
        "labels": [(path.stat().st_size, path.stat().st_mtime_ns) for path in labels if path.exists()],
        "members": [(name, step) for name, step, _, _ in audited_files(run)],
        "sizes": sizes,
        "code": [(REPOSITORY / f"tsal/{name}.py").read_text() for name in AUDIT_CODE],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _middle(clip: Clip, frames: int) -> Clip:
    start = max(0, (len(clip.faces) - frames) // 2)
    return Clip(clip.name, clip.faces[start : start + frames])


def _spread(items: Sequence, count: int) -> list:
    """At most ``count`` of the items, evenly spread."""
    return list(items) if len(items) <= count else [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


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
    report = {
        "normaliser": run.config.data.normaliser,
        "transductive": run.config.data.transductive,
        "rows": rows,
        "degenerate": unscored,
        "times": times,
    }
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
        truth = true_flow(run.root, clip, affines[0], run.config.model.input)
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
