"""A trained detector on images, whose faces are found, or on the rows of a list, labelled or not -> points in pixels of
the original images.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsal.data import Face, FaceLists, FaceStore, check_files, find_list, list_root, read_list
from tsal.evaluation import DETECTION_SOURCES, NORMALISERS, face_nme, predict, read_ground_truth, summary
from tsal.faces import MIN_FACE
from tsal.inference.drawing import too_long
from tsal.inference.inputs import find_images, read_photograph
from tsal.inference.landmarker import FaceLandmarks, Finder, Landmarker, has_room
from tsal.inference.tables import LandmarkTable, check_table, draw_table, drawing_paths, write_table
from tsal.inference.weights import find_weights
from tsal.model_files import default_model, load_model
from tsal.run import Run
from tsal.utils import ConfigError, DataError, InputError, Stopped, counted, load_checkpoint, printable, tqdm

AT_ONCE = 8  # images between two looks of the detector, so that the bar moves; fewer where they are large


class LeftOut(DataError):
    """Raised when all else is written: what is wrong with images that were named. ``table`` and ``notes``: see
    :func:`predict_images`.
    """

    def __init__(self, problems: list[str], table: LandmarkTable, notes: list[str]):
        super().__init__(problems)
        self.table, self.notes = table, notes


def read_faces(root: Path, name: str) -> tuple[list[Face], Path]:
    """Rows of a list, their images checked, their annotations not yet; and the folder that they are relative to.

    ``name``: a path, a name in ``root``, or ``<dataset>:<list>``, whose rows are relative to that dataset.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder (--root)")
    path = Path(name)
    if not path.is_file():
        path, root = find_list(root, name), list_root(root, name)
    faces = read_list(path, label=name, root=root)
    check_files(FaceLists(root, [], [dataclasses.replace(face, annotation=None) for face in faces], {}, {}), 0)
    return faces, root


def predict_list(
    weights: Path,
    name: str,
    root: Path,
    out: Path,
    *,
    model: str | None = None,
    source: str = "heatmap",
    device: str = "auto",
) -> tuple[LandmarkTable, dict[str, Any], list[str]]:
    """Write the landmarks of every row of a list, in its order, to ``out`` (.csv, .json or .npz), and measure them.

    Args:
        name, root: see :func:`read_faces`; the table has the list's paths.
        model: ``teacher`` or ``student`` of a TSAL training; by default the method's result, or the only model there
            is.
        source: ``heatmap``, ``centre`` or ``fused``.

    Returns:
        The table; :func:`tsal.evaluation.summary` of the rows that have labels, how many ``faces`` it is of, and the
        ``normaliser`` that errors are divided by (that of the detector's training), empty where nothing is measured;
        and a line on what is not.
    """
    check_table(out)
    if source not in DETECTION_SOURCES:
        raise ConfigError(f"source {source!r} is none of {', '.join(DETECTION_SOURCES)}")
    detector, config, scheme = load_model(weights, model)
    faces, root = read_faces(root, name)
    config = config.override({"data.root": str(root.resolve()), "train.device": device})
    run = Run(out.parent, config, scheme)  # for its crops and device: it has no folder
    workers = config.data.workers
    detections = predict(detector.to(run.device), run.store, faces, run.device, workers=workers, progress="predict")
    points, scores = detections[source]
    paths = [face.image for face in faces]
    table = _table(paths, paths, [face.box for face in faces], points, scores)
    write_table(out, table, scheme)
    return table, *_measure(points, faces, run.store, config.data.normaliser)


def _measure(
    points: np.ndarray, faces: Sequence[Face], store: FaceStore, kind: str
) -> tuple[dict[str, Any], list[str]]:
    """Metrics of points (N, K, 2) px against the labels that the rows have, see :func:`predict_list`."""
    labelled = [row for row, face in enumerate(faces) if face.annotation]
    if not labelled:
        return {}, []
    if kind == "face_size" and any(faces[row].face_size is None for row in labelled):
        why = "the detector's training divided errors by the seventh column, face_size, which the list lacks"
        return {}, [f"errors are not measured: {why}"]
    try:
        truth = read_ground_truth(store, [faces[row] for row in labelled], kind, store.scheme)
    except InputError as error:
        return {}, [f"errors are not measured: {error}"]
    errors = face_nme(points[labelled], truth.points, truth.visible, truth.norm_px)
    scored = errors[~truth.degenerate]
    why = f"no landmark is visible, or the {NORMALISERS[kind]} is hidden or too short"
    notes = [f"{counted(apart, 'labelled face')} not measured: {why}"] if (apart := truth.degenerate.sum()) else []
    return ({"faces": len(scored), "normaliser": kind, **summary(scored)} if len(scored) else {}), notes


def predict_images(
    inputs: Sequence[Path],
    weights: Path,
    *,
    out: Path | None = None,
    drawings: Path | None = None,
    model: str | None = None,
    device: str = "auto",
    min_face: float = MIN_FACE,
    finder: Finder | None = None,
    progress: bool = True,
) -> tuple[LandmarkTable, list[str]]:
    """Find the faces of images and their landmarks; write a table, drawings, or both.

    Args:
        inputs: image files, and folders, with all that is below them but former drawings.
        out: output file for the landmarks (.csv, .json or .npz).
        drawings: output folder for every image with its landmarks drawn on it.
        min_face: smallest face that is looked for, over the image's shorter side.
        finder: as of :class:`tsal.Landmarker`.

    Returns:
        The table, and lines on what of a folder is left out, or not drawn.

    Raises:
        DataError: an input that is not there, no image at all; nothing is written.
        LeftOut: a line for each named image that cannot be read or drawn; the others are written.
        Stopped: Ctrl-C while faces are looked for; the table of the images before it is written beside ``out``.
    """
    weights = find_weights(weights)
    if out is not None:
        check_table(out)
    images, notes = find_images(inputs)
    base = next((folder for folder in inputs if folder.is_dir()), None)
    places = {} if drawings is None else drawing_paths([str(path) for path in images], drawings, base)
    landmarker = Landmarker(weights, model, device=device, min_face=min_face, finder=finder)
    names, faces, wrong = [], [], []
    held: list[np.ndarray] = []
    try:
        for path, is_named in tqdm(images.items(), desc="predict", unit="image", disable=not progress, mininterval=1):
            problems = wrong if is_named else notes
            try:
                pixels = read_photograph(path)
            except DataError as error:
                problems.append(f"{error}; it is left out")
                continue
            if len(held) == AT_ONCE or not has_room(held, pixels):
                faces += landmarker(held)
                held = []
            held.append(pixels)
            names.append(str(path))
            if str(path) in places and (why := too_long(pixels)):
                problems.append(f"{path}: is not drawn: {why}")
                del places[str(path)]
        faces += landmarker(held)
    except KeyboardInterrupt as stop:
        if out is None or not faces:
            raise
        partial, last = out.with_name(f"{out.stem}.partial{out.suffix}"), names[len(faces) - 1]
        write_table(partial, _image_table(names[: len(faces)], faces, landmarker.scheme.points), landmarker.scheme)
        text = f"{partial} has the first {len(faces)} of {counted(len(images), 'image')}, up to {printable(last)}"
        raise Stopped(text, getattr(stop, "status", 130) - 128) from None
    if not names:
        raise DataError(wrong + notes)
    table = _image_table(names, faces, landmarker.scheme.points)
    if out is not None:
        write_table(out, table, landmarker.scheme)
    places = {name: places[name] for name in names if name in places}
    if places:
        model = model or default_model(load_checkpoint(weights))  # each has a colour
        draw_table(table, landmarker.scheme, places, model, progress=progress)
    if wrong:
        raise LeftOut(wrong, table, notes)
    return table, notes


def _image_table(images: Sequence[str], faces: Sequence[Sequence[FaceLandmarks]], landmarks: int) -> LandmarkTable:
    """The table of the faces of each image."""
    rows = [(path, face) for path, image_faces in zip(images, faces) for face in image_faces]
    return _table(
        images,
        [path for path, _ in rows],
        [face.box for _, face in rows],
        np.array([face.points for _, face in rows], np.float32).reshape(-1, landmarks, 2),
        np.array([face.scores for _, face in rows], np.float32).reshape(-1, landmarks),
    )


def _table(images: Sequence[str], paths: Sequence[str], boxes, points: np.ndarray, scores: np.ndarray) -> LandmarkTable:
    counts: Counter[str] = Counter()
    faces = []
    for path in paths:
        faces.append(counts[path])
        counts[path] += 1
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return LandmarkTable(
        list(dict.fromkeys(images)), np.array(paths, dtype=str), np.array(faces, int), boxes, points, scores
    )
