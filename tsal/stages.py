"""The stages of a run, each called by a notebook and by the command line: prepare, train, audit, evaluate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from tsal.data.lists import check_files, group_clips
from tsal.data.photometric import to_float
from tsal.data.rendered import render_dataset
from tsal.data.views import plain_views
from tsal.errors import DataError, InputError
from tsal.evaluate import audit, load_member, metrics_rows, predictions_table, read_truth
from tsal.evaluate_flow import dis_flow, true_flow
from tsal.files import write_arrays, write_text
from tsal.pseudo import check_sources
from tsal.runs import Run, list_hashes
from tsal.tracker import FlowNet, track_frames, track_points
from tsal.training import load_tracker, train, train_tracker

__all__ = ["prepare", "train_tracker", "evaluate_tracker", "train", "audit_pseudo_labels", "evaluate"]


# --- data ------------------------------------------------------------------------------------------------------------------


def prepare(run: Run, *, progress: bool = True) -> dict:
    """Make the embedded data if it is asked for, check every list and file, write and return the manifest."""
    config = run.config
    check_sources(config.tsal.sources)
    if config.data.name == "rendered" and not config.data.root:
        render_dataset(run.root, config.render, progress=progress)
    facts = check_files(run.lists, run.scheme.points, workers=config.data.workers, progress=progress)
    if not run.clips:
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
    truth = read_truth(run.store, known, config.data.normaliser, run.scheme)
    arrays |= {"truth": truth.points.astype(np.float32), "visible": truth.visible}
    arrays |= {"d": truth.d.astype(np.float32), "box": truth.box.astype(np.float32)}
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
