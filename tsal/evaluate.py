"""Trained members -> predictions in original pixels -> one table a run -> metrics. Nothing in here trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from tqdm import tqdm

from tsal.config import Config, TsalConfig
from tsal.data.lists import Face
from tsal.data.photometric import to_float
from tsal.data.views import FaceStore, plain_views
from tsal.errors import InputError
from tsal.checkpoints import load_checkpoint, save_checkpoint
from tsal.geometry import apply_affine, invert_affine
from tsal.metrics import face_nme, is_degenerate, normaliser, summary
from tsal.model import Detector
from tsal.pseudo import detection_sources, fuse
from tsal.schemes import Scheme, get_scheme, scheme_from_dict

DETECTION_SOURCES = ("heatmap", "centre", "fused")
BATCH = 64


# --- weights ---------------------------------------------------------------------------------------------------------------


def save_members(path: Path, members: dict[str, Detector], config: Config, identity: dict) -> None:
    """Trained weights of named members, with the config that made them; tensors and plain types only.

    The ``identity`` of a run's training holds the landmark scheme written out, so a checkpoint needs no file of it.
    """
    weights = {name: member.state_dict() for name, member in members.items()}
    save_checkpoint(path, {"config": config.to_dict(), "identity": identity, "members": weights})


def load_member(path: Path, member: str | None = None, device: torch.device | str = "cpu") -> tuple[Detector, Config, Scheme]:
    """A member (``teacher`` if there is one, by default) of a file that :func:`save_members` wrote, in eval mode.

    Its scheme is the one that it learned; in a file from before schemes were kept, the one that its config names.
    """
    content = load_checkpoint(path, device)
    if "members" not in content or "config" not in content:
        raise InputError(f"{path}: holds no trained detector (a run's <method>/model.pt does)")
    names = list(content["members"])
    member = member or ("teacher" if "teacher" in names else names[0])
    if member not in names:
        raise InputError(f"{path}: has no member {member!r}; it holds {', '.join(names)}")
    # the file holds every weight: what they once started from need not be there
    config = Config.from_dict(content["config"], str(path)).override({"model.vgg16_weights": ""})
    kept, name = content.get("identity", {}).get("scheme"), config.data.scheme
    scheme = scheme_from_dict(kept, name, f"{path}: scheme") if kept else get_scheme(name)
    detector = Detector(scheme.points, config.model)
    detector.load_state_dict(content["members"][member])
    return detector.to(device).eval(), config, scheme


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
    d: np.ndarray  # (N,) px; NaN for a face that is not scored (no labels, or degenerate)
    degenerate: np.ndarray  # (N,) bool: labelled, but its normaliser is hidden, too short or not finite, or no landmark is visible


def read_truth(store: FaceStore, faces: Sequence[Face], kind: str, scheme: Scheme) -> Truth:
    """Labels and normalisers of evaluation rows."""
    points, visible = map(np.array, zip(*(store.points(face) for face in faces)))
    box = np.array([face.box for face in faces])
    size = np.array([np.nan if face.face_size is None else face.face_size for face in faces])
    has_labels = np.array([face.annotation is not None for face in faces])
    d = normaliser(kind, points, visible, box, size, scheme) if has_labels.any() else np.full(len(faces), np.nan)
    degenerate = has_labels & (is_degenerate(d, box) | ~visible.any(1))
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
