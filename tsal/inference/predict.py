"""A trained detector on a list of one's own: rows, labelled or not -> points in pixels of the original images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tsal.data import Face, FaceLists, check_files, find_list, read_list
from tsal.evaluation import DETECTION_SOURCES, predict
from tsal.model_files import load_model
from tsal.run import Run
from tsal.utils import ConfigError, DataError, write_arrays


def read_faces(root: Path, name: str) -> list[Face]:
    """Rows of a list, their images checked, their annotations left closed. ``name``: a path, or a name in ``root``."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder (--root)")
    path = Path(name) if Path(name).is_file() else find_list(root, name)
    faces = [dataclasses.replace(face, annotation=None) for face in read_list(path, label=name)]
    check_files(FaceLists(root, [], faces, {}, {}), 0)
    return faces


def predict_list(
    weights: Path,
    name: str,
    root: Path,
    out: Path,
    *,
    model: str | None = None,
    source: str = "heatmap",
    device: str = "auto",
) -> dict[str, np.ndarray]:
    """Write ``paths`` (N,), ``points`` (N, K, 2) float32 px of the images and ``scores`` (N, K), row by row, to ``out``
    (.npz).

    Args:
        model: ``teacher`` or ``student`` of a TSAL training; by default the teacher, or the only model there is.
        source: ``heatmap``, ``centre`` or ``fused``.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"{out}: the output must be named .npz")
    if source not in DETECTION_SOURCES:
        raise ConfigError(f"source {source!r} is none of {', '.join(DETECTION_SOURCES)}")
    detector, config, scheme = load_model(weights, model)
    config = config.override({"data.root": str(root.resolve()), "train.device": device})
    run = Run(out.parent, config, scheme)  # for its crops and device: it has no folder
    faces = read_faces(root, name)
    workers = config.data.workers
    found = predict(detector.to(run.device), run.store, faces, run.device, workers=workers, progress="predict")
    points, scores = found[source]
    arrays = {"paths": np.array([face.image for face in faces]), "points": points, "scores": scores}
    write_arrays(out, **arrays)
    return arrays
