"""Trained models -> predictions in original pixels -> one table a run -> metrics. Nothing in here trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tsal.data import Face, FaceStore, plain_views, prefetch, to_float
from tsal.evaluation.carried import flow_difference
from tsal.evaluation.metrics import face_nme, is_degenerate, normaliser, summary
from tsal.evaluation.steadiness import follows, inner_frames, steady_numbers, table_jitters
from tsal.evaluation.windows import steady_lists
from tsal.geometry import apply_affine, invert_affine
from tsal.model import Detector
from tsal.pseudo import detection_sources, fuse
from tsal.schemes import Scheme
from tsal.tracker import FrozenTracker
from tsal.utils import InputError, tqdm

DETECTION_SOURCES = ("heatmap", "centre", "fused")
BATCH = 64


@torch.no_grad()
def predict(
    detector: Detector,
    store: FaceStore,
    faces: Sequence[Face],
    device: torch.device,
    *,
    workers: int = 2,
    batch: int = BATCH,
    progress: str = "",
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Points (N, K, 2) px of the original images and scores (N, K) of each detection source, one crop a face.

    Args:
        workers: threads that cut the next batches of crops while one is computed; 0: none. Results are the same.
        batch: faces computed at once.

    Raises:
        DataError: an image that cannot be read.
    """
    detector.eval()
    by_source: dict[str, list] = {name: [] for name in DETECTION_SOURCES}
    starts = range(0, len(faces), batch)
    batches = prefetch(lambda i: plain_views(store, [[face] for face in faces[i : i + batch]]), starts, workers)
    for images, affines in tqdm(
        batches, desc=progress, total=len(starts), disable=not progress, mininterval=1, unit="batch"
    ):
        detection = detector(to_float(images.to(device)))
        sources = detection_sources(detector, detection)
        sources["fused"] = fuse(sources, ("heatmap", "centre"), heatmap_share=0.5)
        for name in DETECTION_SOURCES:
            points = apply_affine(invert_affine(affines), sources[name].points.double().cpu().numpy())
            score = sources["heatmap" if name == "fused" else name].score
            by_source[name].append((points.astype(np.float32), score.float().cpu().numpy()))
    return {name: tuple(np.concatenate(parts) for parts in zip(*rows)) for name, rows in by_source.items()}


@dataclass(frozen=True)
class GroundTruth:
    """What evaluation rows say, as arrays over N faces."""

    list_name: np.ndarray  # (N,) text
    path: np.ndarray  # (N,) text
    row: np.ndarray  # (N,) line of the list
    box: np.ndarray  # (N, 4) px
    points: np.ndarray  # (N, K, 2) px, NaN where there are no labels
    visible: np.ndarray  # (N, K) bool
    norm_px: np.ndarray  # (N,) px; NaN for a face that is not scored (no labels, or degenerate)
    degenerate: (
        np.ndarray
    )  # (N,) bool: labelled, but its normaliser is hidden, too short or not finite, or no landmark is visible


def read_ground_truth(store: FaceStore, faces: Sequence[Face], kind: str, scheme: Scheme) -> GroundTruth:
    """Labels and normalisers of evaluation rows."""
    points, visible = map(np.array, zip(*(store.points(face) for face in faces)))
    box = np.array([face.box for face in faces])
    size = np.array([np.nan if face.face_size is None else face.face_size for face in faces])
    has_labels = np.array([face.annotation is not None for face in faces])
    d = normaliser(kind, points, visible, box, size, scheme) if has_labels.any() else np.full(len(faces), np.nan)
    degenerate = has_labels & (is_degenerate(d, box) | ~visible.any(1))
    return GroundTruth(
        np.array([face.list_name for face in faces]),
        np.array([face.image for face in faces]),
        np.array([face.row for face in faces]),
        box,
        points,
        visible,
        np.where(has_labels & ~degenerate, d, np.nan),
        degenerate,
    )


def predictions_table(
    models: dict[str, Detector],
    store: FaceStore,
    truth: GroundTruth,
    faces,
    device,
    workers: int = 2,
    consecutive: bool = False,
    sparse: Sequence[str] = (),
    tracker: FrozenTracker | None = None,
) -> dict[str, np.ndarray]:
    """The table of a run: for M models, S sources, N faces, points (M, S, N, K, 2) px and scores (M, S, N, K).

    ``consecutive``: whether images numbered one after another are neighbouring frames, but in the lists ``sparse``.
    Then the table of lists that have three of them also holds ``flow_difference`` (M, S, N, K) px, see
    :func:`flow_difference`, and, with a tracker, a further source: ``window``, the heatmap source made steady by its
    neighbours, see :mod:`tsal.evaluation.windows`.

    Raises:
        InputError: a model whose points are not finite: left out, such a face would lower the error.
    """
    predictions = [
        predict(detector, store, faces, device, workers=workers, progress=f"predict {name}")
        for name, detector in models.items()
    ]
    for name, prediction in zip(models, predictions):
        if broken := np.flatnonzero(~np.isfinite(prediction["fused"][0]).all((1, 2))).tolist():
            raise InputError(
                f"{name}: its landmarks are no numbers in {len(broken)} of {len(faces)} images, first in "
                f"{faces[broken[0]].image}; its training went wrong, see its history"
            )
    table = {
        "list": truth.list_name,
        "path": truth.path,
        "row": truth.row,
        "box": truth.box.astype(np.float32),
        "truth": truth.points.astype(np.float32),
        "visible": truth.visible,
        "norm_px": truth.norm_px.astype(np.float32),
        "degenerate": truth.degenerate,
        "models": np.array(list(models)),
        "sparse": np.array(sparse, dtype=str),
    }
    sources, followed = list(DETECTION_SOURCES), consecutive and inner_frames(after := follows(table)).any()
    if followed and tracker:
        sources.append("window")
        points = [prediction["heatmap"][0] for prediction in predictions]
        steady = steady_lists(points, faces, after, store, tracker, device, progress="window")
        for prediction, points in zip(predictions, steady):
            prediction["window"] = points, prediction["heatmap"][1]
    table["sources"] = np.array(sources)
    table["points"] = np.stack([[prediction[name][0] for name in sources] for prediction in predictions])
    table["scores"] = np.stack([[prediction[name][1] for name in sources] for prediction in predictions])
    if followed:
        table["flow_difference"] = flow_difference(store, faces, table["points"], after, workers, "flow")
    return table


def table_of_part(table: dict[str, np.ndarray], landmarks: Sequence[int]) -> dict[str, np.ndarray]:
    """The table with these of the K landmarks alone, as a run's own but for its normaliser, which stays."""
    by_landmark = {"truth": 1, "visible": 1, "points": 3, "scores": 3, "flow_difference": 3}  # and the axis of the K
    axes = {name: axis for name, axis in by_landmark.items() if name in table}
    return table | {name: np.take(table[name], landmarks, axis) for name, axis in axes.items()}


def table_errors(table: dict[str, np.ndarray]) -> np.ndarray:
    """Per-face NME (M, S, N) as a share of d; NaN where a face is not scored."""
    return face_nme(table["points"], table["truth"], table["visible"], table["norm_px"])


def metrics_rows(table: dict[str, np.ndarray]) -> list[dict]:
    """Metrics by list, model and source, computed from the predictions table alone; with those of steadiness for a list
    that has consecutive frames.
    """
    errors, jitters = table_errors(table), table_jitters(table)
    rows = []
    for name in dict.fromkeys(table["list"].tolist()):
        in_list = table["list"] == name
        steady = steady_numbers(table, jitters, in_list)
        for m, model in enumerate(table["models"].tolist()):
            for s, source in enumerate(table["sources"].tolist()):
                scored = errors[m, s, in_list]
                scored = scored[~np.isnan(scored)]
                counts = {"faces": len(scored), "degenerate": int(table["degenerate"][in_list].sum())}
                rows.append(
                    {"list": name, "model": model, "source": source, **summary(scored), **counts, **steady[m, s]}
                )
    return rows
