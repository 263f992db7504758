"""Stage pseudo: the audit of every source of pseudo-labels on unlabelled frames."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from tsal.audit import Audit, AuditWriter, audit_model
from tsal.config import settings_of
from tsal.data import Clip, spread
from tsal.evaluation import read_ground_truth
from tsal.model_files import load_model, snapshot_name
from tsal.run import Run, code_fingerprint
from tsal.stages.alone import alone
from tsal.synthetic import rendered_visibility
from tsal.tracker import final_trackers, tuned_trackers
from tsal.trainings import model_files_of, schedule_steps
from tsal.utils import file_hash, load_checkpoint, use_free_cores


def audited_files(run: Run) -> list[tuple[str, int, Path, str | None]]:
    """(model, step, file, name in it) of all that is audited: the init, snapshots, and the models at the end."""
    files = model_files_of(run)
    final, steps = files["teacher"][0], schedule_steps(run)[1]
    fingerprint = load_checkpoint(final)["fingerprint"]
    stages: list[tuple[int, Path]] = []
    for path in sorted(final.parent.glob(snapshot_name("*"))):
        if load_checkpoint(path)["fingerprint"] == fingerprint:
            stages.append((int(path.stem.rpartition("-")[2]), path))
    return [("init", 0, files["init"][0], None)] + [
        (name, step, path, name) for step, path in [*stages, (steps, final)] for name in ("teacher", "student")
    ]


@alone
def audit_pseudo_labels(run: Run, *, clips: int = 64, frames: int = 24, early_frames: int = 200) -> Audit | None:
    """Every source of each model of :func:`audited_files` on unlabelled frames; kept in ``audit/``, see
    :mod:`tsal.audit`.

    Where ``data.audit_labels`` has labels, they are added for measuring. An audit that was made from the same is read
    instead. None, and no ``audit/``, where the run learns from no pseudo-labels (``run.no_pseudo_labels``).

    Args:
        clips: at most so many clips, and as many photographs, evenly spread; ``frames``: of a clip, from its middle.
        early_frames: frames at most, evenly spread clips, of the models before the end.
    """
    config = run.config
    if run.no_pseudo_labels:
        shutil.rmtree(run.folder / "audit", ignore_errors=True)  # of other settings
        return None
    of = _audited_state(run)
    made_from = _audit_hash(run, of, clips, frames, early_frames)
    if audit := Audit.kept(run.folder / "audit", made_from):
        return audit
    use_free_cores()
    trackers = final_trackers(run)
    chosen = [_middle(clip, frames) for clip in spread(run.clips, clips)] + spread(run.single_images, clips)
    faces = [face for clip in chosen for face in clip.faces]
    labelled = [dataclasses.replace(face, annotation=run.lists.truth.get((face.image, face.box))) for face in faces]
    truth = read_ground_truth(run.store, labelled, config.data.normaliser, run.scheme)
    writer = AuditWriter(run.folder / "audit", run.store, chosen, truth, made_from, of, _hidden(run, chosen))
    longest = max(len(clip.faces) for clip in chosen)
    few = spread(range(len(chosen)), max(1, early_frames // longest))
    last = max(step for _, step, _, _ in audited_files(run))
    numbers = writer.frames.view.to_numpy()
    try:
        for name, step, path, key in audited_files(run):
            detector = load_model(path, key, run.device)[0]
            of = range(len(chosen)) if step in (0, last) else few
            labels = audit_model(
                detector,
                trackers.get(name, trackers["teacher"]),
                run.store,
                [chosen[i] for i in of],
                config,
                run.device,
                progress=f"audit {name} {step}",
            )
            writer.add(name, step, labels, np.flatnonzero(np.isin(numbers, of)), file_hash(path))
        return writer.close()
    finally:
        writer.discard()


def _audited_state(run: Run) -> dict:
    """What the run must still be where its audit is shown: settings, scheme and training faces."""
    ignored = settings_of("machine", "measuring") - {"data.normaliser", "data.audit_labels"}
    settings = {name: value for name, value in run.config.flat().items() if name not in ignored}
    return {"settings": settings, "scheme": run.scheme.to_dict(), "fingerprint": run.manifest()["fingerprint"]}


def _audit_hash(run: Run, of: dict, *sizes: int) -> str:
    """Of all that an audit depends on: weights, lists and labels' files, settings, code."""
    weights = [
        *dict.fromkeys(path for _, _, path, _ in audited_files(run)),
        *(tuned_trackers(run) or [run.folder / "tracker/model.pt"]),
    ]
    labels = [run.root / name for name in sorted(set(run.lists.truth.values()))]
    facts = {
        "weights": [file_hash(path) for path in weights if path.exists()],
        "of": of,
        "manifest": run.manifest(),
        "labels": [(path.stat().st_size, path.stat().st_mtime_ns) for path in labels if path.exists()],
        "models": [(name, step) for name, step, _, _ in audited_files(run)],
        "sizes": sizes,
        "code": code_fingerprint("audit", "evaluation"),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _hidden(run: Run, clips: list[Clip]) -> np.ndarray:
    """Which landmarks (N, K) the clips' N frames hide (1) or show (0): known of rendered faces; -1: not known."""
    parts = []
    for clip in clips:
        parts.append(np.full((len(clip.faces), run.scheme.points), -1, np.int8))
        shown = rendered_visibility(run.root, clip)
        if shown is not None:
            subsets = dict(run.scheme.also_read) | {run.scheme.points: range(run.scheme.points)}
            if landmarks := subsets.get(shown.shape[1]):  # none: labelled anew by another scheme
                parts[-1][:] = ~shown[:, list(landmarks)]
    return np.concatenate(parts)


def _middle(clip: Clip, frames: int) -> Clip:
    start = max(0, (len(clip.faces) - frames) // 2)
    return Clip(clip.name, clip.faces[start : start + frames])
