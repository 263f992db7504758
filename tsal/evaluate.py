"""Trained members -> predictions in original pixels -> one table a run -> metrics. Nothing in here trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tsal.config import Config, TsalConfig
from tsal.data.lists import Clip, Face
from tsal.data.photometric import to_float
from tsal.data.views import FaceStore, plain_views
from tsal.errors import InputError
from tsal.checkpoints import load_checkpoint, save_checkpoint
from tsal.geometry import apply_affine, invert_affine
from tsal.metrics import face_nme, is_degenerate, normaliser, summary
from tsal.model import Detector
from tsal.pseudo import SOURCES, detection_sources, fuse, tracking_sources
from tsal.schemes import Scheme, get_scheme
from tsal.tracker import reconstruct_next, track_frames

DETECTION_SOURCES = ("heatmap", "centre", "fused")
BATCH = 64


# --- weights ---------------------------------------------------------------------------------------------------------------


def save_members(path: Path, members: dict[str, Detector], config: Config, identity: dict) -> None:
    """Trained weights of named members, with the config that made them; tensors and plain types only."""
    weights = {name: member.state_dict() for name, member in members.items()}
    save_checkpoint(path, {"config": config.to_dict(), "identity": identity, "members": weights})


def load_member(path: Path, member: str | None = None, device: torch.device | str = "cpu") -> tuple[Detector, Config]:
    """A member (``teacher`` if there is one, by default) of a file that :func:`save_members` wrote, in eval mode."""
    content = load_checkpoint(path, device)
    if "members" not in content or "config" not in content:
        raise InputError(f"{path}: holds no trained detector (a run's <method>/model.pt does)")
    names = list(content["members"])
    member = member or ("teacher" if "teacher" in names else names[0])
    if member not in names:
        raise InputError(f"{path}: has no member {member!r}; it holds {', '.join(names)}")
    # the file holds every weight: what they once started from need not be there
    config = Config.from_dict(content["config"], str(path)).override({"model.vgg16_weights": ""})
    detector = Detector(get_scheme(config.data.scheme).points, config.model)
    detector.load_state_dict(content["members"][member])
    return detector.to(device).eval(), config


# --- predictions -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(
    detector: Detector, store: FaceStore, faces: Sequence[Face], device: torch.device, *, progress: str = ""
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Points (N, K, 2) px of the original images and scores (N, K) of each detection source, one crop a face."""
    detector.eval()
    found: dict[str, list] = {name: [] for name in DETECTION_SOURCES}
    starts = range(0, len(faces), BATCH)
    for start in tqdm(starts, desc=progress, disable=not progress, mininterval=1, unit="batch"):
        images, affines = plain_views(store, [[face] for face in faces[start : start + BATCH]])
        detection = detector(to_float(images.to(device)))
        sources = detection_sources(detector, detection)
        sources["fused"] = fuse(sources, TsalConfig(sources=("heatmap", "centre"), mu=0.5))
        for name in DETECTION_SOURCES:
            points = apply_affine(invert_affine(affines), sources[name].points.double().cpu().numpy())
            score = sources["heatmap" if name == "fused" else name].score
            found[name].append((points.astype(np.float32), score.float().cpu().numpy()))
    return {name: tuple(np.concatenate(parts) for parts in zip(*rows)) for name, rows in found.items()}


@dataclass(frozen=True)
class Truth:
    """What evaluation rows say, as arrays over N faces."""

    list_name: np.ndarray  # (N,) text
    path: np.ndarray  # (N,) text
    row: np.ndarray  # (N,) line of the list
    box: np.ndarray  # (N, 4) px
    points: np.ndarray  # (N, K, 2) px, NaN where there are no labels
    visible: np.ndarray  # (N, K) bool
    d: np.ndarray  # (N,) px; NaN for a face that is not scored (no labels, or a degenerate normaliser)
    degenerate: np.ndarray  # (N,) bool


def read_truth(store: FaceStore, faces: Sequence[Face], kind: str, scheme: Scheme) -> Truth:
    """Labels and normalisers of evaluation rows."""
    points, visible = map(np.array, zip(*(store.points(face) for face in faces)))
    box = np.array([face.box for face in faces])
    size = np.array([np.nan if face.face_size is None else face.face_size for face in faces])
    has_labels = np.array([face.annotation is not None for face in faces])
    d = normaliser(kind, points, box, size, scheme) if has_labels.any() else np.full(len(faces), np.nan)
    degenerate = has_labels & is_degenerate(d, box)
    return Truth(
        np.array([face.list_name for face in faces]),
        np.array([face.image for face in faces]),
        np.array([face.row for face in faces]),
        box,
        points,
        visible,
        np.where(has_labels & ~degenerate, d, np.nan),
        degenerate,
    )


def predictions_table(members: dict[str, Detector], store: FaceStore, truth: Truth, faces, device) -> dict[str, np.ndarray]:
    """The one table of a run: for M members, S sources and N faces, points (M, S, N, K, 2) px and scores (M, S, N, K)."""
    found = [predict(detector, store, faces, device, progress=f"predict {name}") for name, detector in members.items()]
    return {
        "list": truth.list_name,
        "path": truth.path,
        "row": truth.row,
        "box": truth.box.astype(np.float32),
        "truth": truth.points.astype(np.float32),
        "visible": truth.visible,
        "d": truth.d.astype(np.float32),
        "degenerate": truth.degenerate,
        "members": np.array(list(members)),
        "sources": np.array(DETECTION_SOURCES),
        "points": np.stack([[one[name][0] for name in DETECTION_SOURCES] for one in found]),
        "scores": np.stack([[one[name][1] for name in DETECTION_SOURCES] for one in found]),
    }


def table_errors(table: dict[str, np.ndarray]) -> np.ndarray:
    """Per-face NME (M, S, N) as a share of d; NaN where a face is not scored."""
    return face_nme(table["points"], table["truth"], table["visible"], table["d"])


def metrics_rows(table: dict[str, np.ndarray]) -> list[dict]:
    """Metrics by list, member and source, computed from the predictions table alone."""
    errors = table_errors(table)
    rows = []
    for name in dict.fromkeys(table["list"].tolist()):
        mine = table["list"] == name
        for m, member in enumerate(table["members"].tolist()):
            for s, source in enumerate(table["sources"].tolist()):
                scored = errors[m, s, mine]
                scored = scored[~np.isnan(scored)]
                counts = {"faces": len(scored), "degenerate": int(table["degenerate"][mine].sum())}
                rows.append({"list": name, "member": member, "source": source, **summary(scored), **counts})
    return rows


# --- audit of pseudo-labels ------------------------------------------------------------------------------------------------


@torch.no_grad()
def audit(
    detector: Detector,
    tracker: nn.Module,
    store: FaceStore,
    clips: Sequence[Clip],
    config: Config,
    device: torch.device,
    *,
    progress: str = "",
) -> dict[str, np.ndarray]:
    """Every source on every frame of ``clips``, as training would make them (crops by one box a clip, no augmentation).

    Returns arrays over N frames: ``clip`` (N,) text, ``path``, ``points`` (S, N, K, 2) px of the original image in the order of
    ``sources`` (S,), ``valid`` (S, N, K), ``flow_error`` (N, K) px of the input, ``agreement`` (N, K) px of the input, ``weight``
    (N, K) and ``zoom`` (N,), input px a px of the image.
    """
    detector.eval()
    tsal = config.tsal
    names = (*SOURCES, "fused")
    parts: dict[str, list[np.ndarray]] = {k: [] for k in ("points", "valid", "flow_error", "agreement", "weight", "zoom")}
    batches, frames = [[]], 0
    for clip in clips:
        if frames + len(clip.faces) > BATCH and batches[-1]:
            batches.append([])
            frames = 0
        batches[-1].append(clip)
        frames += len(clip.faces)
    for group in tqdm(batches if clips else [], desc=progress, disable=not progress, mininterval=1, unit="batch"):
        images, affines = plain_views(store, [clip.faces for clip in group])
        pictures = to_float(images.to(device))
        place = np.concatenate([np.arange(len(clip.faces)) for clip in group])
        following = torch.as_tensor(np.flatnonzero(place > 0), device=device)
        previous = following - 1
        sources = detection_sources(detector, detector(pictures))
        if len(following):
            forward, backward = track_frames(tracker, pictures[previous], pictures[following], config.tracker.polish)
            rebuilt = detector(reconstruct_next(pictures[previous], backward))
            sources |= tracking_sources(
                detector, rebuilt, sources["heatmap"], forward, backward, previous, following, tsal.gate_flow
            )
        else:
            gone = sources["heatmap"]
            gone = type(gone)(gone.points, gone.score, torch.zeros_like(gone.valid), torch.full_like(gone.score, torch.nan))
            sources |= {name: gone for name in SOURCES if name not in sources}
        fused = fuse(sources, tsal)
        back = invert_affine(affines)
        points = [apply_affine(back, sources[n].points.double().cpu().numpy()) for n in SOURCES]
        points.append(apply_affine(back, fused.points.double().cpu().numpy()))
        parts["points"].append(np.stack(points).astype(np.float32))
        parts["valid"].append(np.stack([sources[n].valid.cpu().numpy() for n in SOURCES] + [(fused.weight > 0).cpu().numpy()]))
        for name in ("flow_error", "agreement", "weight"):
            parts[name].append(getattr(fused, name).float().cpu().numpy())
        parts["zoom"].append(np.sqrt(np.abs(np.linalg.det(affines[:, :, :2]))).astype(np.float32))
    axis = {"points": 1, "valid": 1}
    arrays = {name: np.concatenate(rows, axis.get(name, 0)) for name, rows in parts.items() if rows}
    faces = [(clip.name, face) for clip in clips for face in clip.faces]
    return arrays | {
        "sources": np.array(names),
        "clip": np.array([name for name, _ in faces]),
        "path": np.array([face.image for _, face in faces]),
    }
