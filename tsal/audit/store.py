"""The audit of pseudo-labels: every source of every model on unlabelled frames, kept for people and programs to look
into.

``<run>/audit/`` holds

- ``labels.parquet``, a row for each model, step, source, frame and landmark: ``model``, ``step`` (of TSAL's run; 0:
  the init), ``source``, ``frame`` (row of frames.csv), ``image``, ``landmark``, ``x``, ``y`` (px of the image),
  ``score`` (of the source; the target's weight for ``fused``), ``valid`` (the source says something), ``disagreement``
  (px of the network's input between heatmap and centre sources), ``forward_backward_error`` (px of the input, of
  what carried the source's point; of ``fused``: mean over the tracking sources that the method fuses),
  ``target_weight`` (weight of the landmark in the student's target), ``votes`` (of the frame's neighbours for their
  point of it, the source ``propagated``: their sum, 1 a neighbour at most), ``error`` (% of the normaliser, where the
  data's truth lists have labels). One row group a model and step.
- ``frames.csv``: clip, place in it, image, box, normaliser d (px), zoom (input px a px of the image).
- ``ground_truth.npz``: labels of the frames (``points``, ``visible``), where there are any, and which landmarks are
  ``hidden`` (1; 0: shown; -1: not known, as of all but rendered faces); for measuring only.
- ``views/<clip's number>.npz``: the crops, flow and heatmaps that the explorer has shown, see :mod:`tsal.audit.views`.

``labels.parquet`` also keeps, in its metadata, what the audit was made from, so that it is not made again from the
same, the hash of each model's file, and which settings, scheme and faces of the run it is of (``of``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from tsal.config import Config
from tsal.data import Clip, FaceStore, frame_pairs, neighbours, plain_affine, plain_views, to_float
from tsal.evaluation import BATCH, GroundTruth
from tsal.geometry import apply_affine, invert_affine
from tsal.model import Detector
from tsal.pseudo import SOURCES, PseudoLabeller
from tsal.tracker import FrozenTracker
from tsal.utils import InputError, read_arrays, remove_unfinished, tqdm, write_arrays

AUDITED = (*SOURCES, "fused")
FRAMES, TRUTH, LABELS = "frames.csv", "ground_truth.npz", "labels.parquet"


class Labels(NamedTuple):
    """What one model at one step says of N frames, source by source."""

    points: np.ndarray  # (S, N, K, 2) px of the image
    score: np.ndarray  # (S, N, K)
    valid: np.ndarray  # (S, N, K) bool
    disagreement: np.ndarray  # (N, K) px of the input; NaN where one family speaks alone
    flow_error: np.ndarray  # (S, N, K) px of the input, forward-backward; NaN where the source has no track
    weight: np.ndarray  # (N, K): the gate
    votes: np.ndarray  # (N, K): sum of the neighbours' votes, 1 each at most; 0 where none says anything


# --- made ---


@torch.no_grad()
def audit_model(
    detector: Detector,
    tracker: FrozenTracker,
    store: FaceStore,
    clips: Sequence[Clip],
    config: Config,
    device: torch.device,
    *,
    progress: str = "",
) -> Labels:
    """Every source on every frame of ``clips``, as training would make them (crops by one box a clip, no augmentation).

    Sources are in the order of ``AUDITED``; frames as in ``clips``.
    """
    labeller = PseudoLabeller(config, everything=True)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in Labels._fields}
    batches, frames = [[]], 0
    for clip in clips:
        if frames + len(clip.faces) > BATCH and batches[-1]:
            batches.append([])
            frames = 0
        batches[-1].append(clip)
        frames += len(clip.faces)
    for group in tqdm(batches, desc=progress, disable=not progress, mininterval=1, unit="batch"):
        crops, affines = plain_views(store, [clip.faces for clip in group])
        images = to_float(crops.to(device))
        place = np.concatenate([np.arange(len(clip.faces)) for clip in group])
        previous, following = (ends.to(device) for ends in neighbours(place.tolist(), labeller.window))
        faces = [face for clip in group for face in clip.faces]
        pairs = frame_pairs(
            store, ((faces[i], faces[j], affines[j]) for i, j in zip(previous.tolist(), following.tolist()))
        )
        flows = tracker(pairs.to(device))
        labels = labeller(detector, images, labeller.detect(detector, images), flows, previous, following)
        sources, fused = labels.sources, labels.fused
        back = invert_affine(affines)
        points = [apply_affine(back, sources[n].points.double().cpu().numpy()) for n in SOURCES]
        points.append(apply_affine(back, fused.points.double().cpu().numpy()))
        parts["points"].append(np.stack(points).astype(np.float32))
        parts["valid"].append(
            np.stack([sources[n].valid.cpu().numpy() for n in SOURCES] + [(fused.weight > 0).cpu().numpy()])
        )
        errors = [sources[name].flow_error for name in SOURCES] + [fused.flow_error]
        nothing = torch.full_like(fused.flow_error, torch.nan)
        parts["flow_error"].append(
            torch.stack([nothing if error is None else error for error in errors]).float().cpu().numpy()
        )
        for name in ("disagreement", "weight"):
            parts[name].append(getattr(fused, name).float().cpu().numpy())
        parts["votes"].append(sources["propagated"].votes.float().cpu().numpy())
        scores = [sources[n].score.float().cpu().numpy() for n in SOURCES] + [fused.weight.float().cpu().numpy()]
        parts["score"].append(np.stack(scores).astype(np.float32))
    axis = {"points": 1, "score": 1, "valid": 1, "flow_error": 1}
    return Labels(**{name: np.concatenate(rows, axis.get(name, 0)) for name, rows in parts.items()})


class AuditWriter:
    """Writes an audit into ``folder``: to a temporary folder, which takes the place of a former one when all is
    written.
    """

    def __init__(
        self,
        folder: Path,
        store: FaceStore,
        clips: Sequence[Clip],
        truth: GroundTruth,
        made_from: str = "",
        of: Mapping | None = None,
        hidden: np.ndarray | None = None,
    ):
        self.folder, self.truth, self.made_from, self.of, self.weights = Path(folder), truth, made_from, of or {}, {}
        self.temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        remove_unfinished(self.folder.parent, self.folder.name)
        self.temporary.mkdir(parents=True)
        affines = [plain_affine(clip.faces, store.side, store.box_scale) for clip in clips for _ in clip.faces]
        box = pd.DataFrame(truth.box, columns=["x1", "y1", "x2", "y2"])
        self.frames = pd.DataFrame(
            {
                "clip": [clip.name for clip in clips for _ in clip.faces],
                "place": [place for clip in clips for place in range(len(clip.faces))],
                "view": [number for number, clip in enumerate(clips) for _ in clip.faces],
                "image": truth.path,
            }
        ).join(box)
        self.frames["norm_px"], self.frames["zoom"] = (
            truth.norm_px,
            [np.sqrt(abs(np.linalg.det(affine[:, :2]))) for affine in affines],
        )
        self.frames.to_csv(self.temporary / FRAMES, index_label="frame")
        unknown = np.full(truth.visible.shape, -1, np.int8)
        write_arrays(
            self.temporary / TRUTH,
            points=truth.points.astype(np.float32),
            visible=truth.visible,
            hidden=unknown if hidden is None else hidden,
        )
        self.parquet, self.models = None, []

    def add(self, model: str, step: int, labels: Labels, rows: np.ndarray, weights: str = "") -> None:
        """``rows`` (N,): which frames the labels are of; ``weights``: hash of the model's file."""
        import pyarrow as pa
        from pyarrow import parquet

        sources, count, points = labels.score.shape
        shape = (sources, count, points)
        distance = np.linalg.norm(labels.points - self.truth.points[rows], axis=-1)
        known = self.truth.visible[rows] & labels.valid
        with np.errstate(invalid="ignore"):
            error = np.where(known, 100 * distance / self.truth.norm_px[rows, None], np.nan)

        def category(values: Sequence[str], index: np.ndarray) -> pa.DictionaryArray:
            return pa.DictionaryArray.from_arrays(
                pa.array(np.broadcast_to(index, shape).ravel().astype(np.int32)), pa.array(list(values))
            )

        def number(values: np.ndarray, kind=np.float32) -> np.ndarray:
            return np.broadcast_to(values, shape).ravel().astype(kind)

        table = pa.table(
            {
                "model": category([model], np.zeros(())),
                "step": number(np.array(step), np.int32),
                "source": category(AUDITED, np.arange(sources)[:, None, None]),
                "frame": number(rows[None, :, None], np.int32),
                "image": category(self.frames.image.iloc[rows].tolist(), np.arange(count)[None, :, None]),
                "landmark": number(np.arange(points), np.int16),
                "x": number(labels.points[..., 0]),
                "y": number(labels.points[..., 1]),
                "score": number(labels.score),
                "valid": number(labels.valid, bool),
                "disagreement": number(labels.disagreement[None]),
                "forward_backward_error": number(labels.flow_error),
                "target_weight": number(labels.weight[None]),
                "votes": number(labels.votes[None]),
                "error": number(error),
            }
        )
        self.parquet = self.parquet or parquet.ParquetWriter(self.temporary / LABELS, table.schema, compression="zstd")
        self.parquet.write_table(table, row_group_size=len(table))
        self.models.append((model, step))
        self.weights[model] = weights

    def close(self) -> Audit:
        about = {"models": self.models, "weights": self.weights, "of": self.of}
        texts = {name: json.dumps(value) for name, value in about.items()} | {"made_from": self.made_from}
        self.parquet.add_key_value_metadata(texts)
        self.parquet.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.temporary, self.folder)
        return Audit.open(self.folder)

    def discard(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)


# --- read ---


@dataclass(frozen=True)
class Audit:
    """An audit on disk; labels are read when they are asked for."""

    folder: Path
    frames: pd.DataFrame  # a row a frame, see above
    truth: np.ndarray  # (N, K, 2) px of the image, NaN where there are no labels
    visible: np.ndarray  # (N, K) bool: labelled, and so measured
    hidden: np.ndarray  # (N, K) int8: 1 hidden, 0 shown, -1 not known; a hidden landmark may be labelled
    models: tuple[tuple[str, int], ...]  # (model, step), in the file's order
    made_from: str = ""  # hash of weights, data, settings and code; "" where its maker kept none
    weights: dict[str, str] = field(default_factory=dict)  # hash of each model's file at its last step
    of: dict = field(default_factory=dict)  # ``settings``, ``scheme`` and ``fingerprint`` of the run; {}: none kept
    _labels: dict = field(default_factory=dict)

    @staticmethod
    def open(folder: Path) -> Audit:
        from pyarrow import parquet

        folder = Path(folder)
        try:
            truth = read_arrays(folder / TRUTH)
            metadata = parquet.read_metadata(folder / LABELS).metadata
            models, weights = json.loads(metadata[b"models"]), json.loads(metadata[b"weights"])
            frames = pd.read_csv(folder / FRAMES, index_col="frame").astype({"norm_px": float, "zoom": float})
            models = tuple((str(name), int(step)) for name, step in models)
            points, visible = truth["points"], truth["visible"]
            hidden = truth.get("hidden", np.full(visible.shape, -1, np.int8))  # audits of before keep none
            if points.shape != (len(frames), points.shape[1], 2) or not models:
                raise ValueError("its files do not fit one another")
            if not points.shape[:2] == visible.shape == hidden.shape:
                raise ValueError("its labels do not fit one another")
            if points.dtype.kind != "f" or visible.dtype != bool or hidden.dtype != np.int8:
                raise TypeError("ground truth of another type")
            made_from, of = metadata.get(b"made_from", b"").decode(), dict(json.loads(metadata.get(b"of", b"{}")))
        except Exception as error:  # of broken files, pandas and pyarrow raise whatever they stumble on
            raise _broken(folder, error) from None
        return Audit(folder, frames, points, visible, hidden, models, made_from, weights, of)

    @staticmethod
    def kept(folder: Path, made_from: str) -> Audit | None:
        """The audit in the folder, where it is whole and was made from this."""
        try:
            audit = Audit.open(folder)
        except InputError:
            return None
        return audit if audit.made_from == made_from else None

    @property
    def sources(self) -> tuple[str, ...]:
        return AUDITED

    @property
    def names(self) -> list[str]:
        """Models by name, each once."""
        return list(dict.fromkeys(name for name, _ in self.models))

    def describe(self) -> str:
        """How much was audited, in one line."""
        models, sources = ", ".join(self.names), ", ".join(self.sources)
        return f"{len(self.frames)} frames, models {models}, sources {sources}: {self.folder}"

    def steps(self, model: str) -> list[int]:
        return sorted(step for name, step in self.models if name == model)

    def labels(self, model: str, step: int | None = None) -> tuple[Labels, np.ndarray]:
        """What a model says (at its last step by default), and the frames (rows of ``frames``) that it says it of.

        Raises:
            InputError: ``labels.parquet`` is damaged there.
        """
        key = (model, self.steps(model)[-1] if step is None else step)
        if key not in self._labels:
            try:
                self._labels[key] = self._read_labels(self.models.index(key))
            except Exception as error:  # as above
                raise _broken(self.folder, error) from None
        return self._labels[key]

    def _read_labels(self, group: int) -> tuple[Labels, np.ndarray]:
        """A row group of ``labels.parquet``."""
        from pyarrow import parquet

        table = parquet.ParquetFile(self.folder / LABELS).read_row_group(group)
        column = {
            name: table[name].to_numpy() for name in table.column_names if name not in ("model", "source", "image")
        }
        shape = (len(AUDITED), -1, self.truth.shape[1])
        arrays = {name: values.reshape(shape) for name, values in column.items()}
        labels = Labels(
            np.stack([arrays["x"], arrays["y"]], -1),
            arrays["score"],
            arrays["valid"],
            arrays["disagreement"][0],
            arrays["forward_backward_error"],
            arrays["target_weight"][0],
            arrays["votes"][0],
        )
        rows = arrays["frame"][0, :, 0].astype(int)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.truth):
            raise IndexError("a frame that is not there")
        if labels.points.dtype.kind != "f" or labels.valid.dtype != bool:
            raise TypeError("labels of another type")
        return labels, rows

    def errors(self, model: str, source: str, step: int | None = None) -> np.ndarray:
        """(N', K) % of the normaliser; NaN where there is no label or the source says nothing."""
        labels, rows = self.labels(model, step)
        index = AUDITED.index(source)
        distance = np.linalg.norm(labels.points[index] - self.truth[rows], axis=-1)
        d = self.frames.norm_px.to_numpy()[rows, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.visible[rows] & labels.valid[index], 100 * distance / d, np.nan)


def _broken(folder: Path, error: Exception) -> InputError:
    kind = type(error).__name__
    again = f"python -m tsal pseudo --run {folder.parent}"
    return InputError(f"{folder}: is no audit, or a broken one ({kind}); make it again: {again}")
