"""Landmarks of images as a table: written as .csv, .json or .npz, and drawn on the images.

The CSV has a row for each face: ``path``, ``face`` (from 0 in each image), ``left top right bottom`` (the box),
``score`` (mean of the landmarks'), then ``x0 y0 x1 y1 ...`` and ``score0 score1 ...``, as the CSV of a video has them
(:mod:`tsal.inference.drawing`). The JSON also names the images without a face. The .npz holds the arrays of
:class:`LandmarkTable`.
"""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tsal.data import read_image
from tsal.inference.drawing import LOW, draw_face, write_picture
from tsal.inference.outputs import check_folder, check_output
from tsal.schemes import Scheme
from tsal.utils import (
    ConfigError,
    counted,
    first_of,
    is_drawn,
    printable,
    replacing,
    short_name,
    tqdm,
    write_arrays,
    write_text,
)

SUFFIXES = (".csv", ".json", ".npz")
COLUMNS = ("path", "face", "left", "top", "right", "bottom", "score")  # before those of the landmarks
ARRAYS = ("paths", "faces", "boxes", "points", "scores")


@dataclass(frozen=True)
class LandmarkTable:
    """N faces of M images. Pixels are those of the images, 0-based."""

    images: list[str]  # M, those without a face too
    paths: np.ndarray  # (N,) text: the image of each face
    faces: np.ndarray  # (N,) int: its place among the faces of its image
    boxes: np.ndarray  # (N, 4) float32 px: x1, y1, x2, y2, in which the landmarks were detected
    points: np.ndarray  # (N, K, 2) float32 px
    scores: np.ndarray  # (N, K) float32 in [0, 1]

    def by_image(self) -> dict[str, list[int]]:
        """Rows of each image, in one pass: a table may be of a hundred thousand images."""
        rows: dict[str, list[int]] = {name: [] for name in self.images}
        for row, name in enumerate(self.paths.tolist()):
            rows[name].append(row)
        return rows


def without_faces(table: LandmarkTable) -> list[str]:
    """A line on the images without a face, and what to try; none where all have one."""
    names = [name for name, rows in table.by_image().items() if not rows]
    advice = (
        "try another finder (docs/finders.md), or, where faces are small, 'python -m tsal predict' with a smaller "
        "--min-face"
    )
    return (
        [f"no face is found in {counted(len(names), 'image')} ({printable(first_of(names, 3))}): {advice}"]
        if names
        else []
    )


def check_table(out: Path) -> None:
    """Raise where no table can be written under this name, or it is another file's."""
    check_output(out, SUFFIXES, is_table)


def is_table(path: Path) -> bool:
    """Whether a file is such as :func:`write_table` writes, by its beginning or the names of its arrays."""
    if path.suffix.lower() == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.namelist() == [f"{name}.npy" for name in ARRAYS]
        except zipfile.BadZipFile:
            return False
    start = ",".join((*COLUMNS, "x0", "y0")) if path.suffix.lower() == ".csv" else '{"scheme": '
    with path.open("rb") as file:
        return file.read(len(start)) == start.encode()


def write_table(out: Path, table: LandmarkTable, scheme: Scheme) -> None:
    """Write the table in the form that the suffix of ``out`` names, whole or not at all."""
    check_table(out)
    if out.suffix.lower() == ".csv":
        _write_csv(out, table)
    elif out.suffix.lower() == ".json":
        _write_json(out, table, scheme)
    else:
        write_arrays(out, **{name: getattr(table, name) for name in ARRAYS})


def _write_csv(out: Path, table: LandmarkTable) -> None:
    count = table.points.shape[1]
    axes = [f"{axis}{k}" for k in range(count) for axis in "xy"]
    columns = [*COLUMNS, *axes, *(f"score{k}" for k in range(count))]
    how = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}  # a name may be in another coding
    with replacing(out) as temporary, temporary.open("w", **how) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for path, face, box, points, scores in zip(table.paths, table.faces, table.boxes, table.points, table.scores):
            score, *each = (f"{value:.3f}" for value in (scores.mean(), *scores))
            places = [f"{value:.2f}" for value in (*box, *points.ravel())]
            writer.writerow([path, face, *places[:4], score, *places[4:], *each])


def _write_json(out: Path, table: LandmarkTable, scheme: Scheme) -> None:
    def rounded(values: np.ndarray, digits: int) -> list:
        return np.round(values.astype(float), digits).tolist()

    def face(row: int) -> dict:
        points, scores = table.points[row], table.scores[row]
        return {
            "box": rounded(table.boxes[row], 2),
            "score": rounded(scores.mean(), 3),
            "points": rounded(points, 2),
            "scores": rounded(scores, 3),
        }

    images = [{"path": name, "faces": [face(row) for row in rows]} for name, rows in table.by_image().items()]
    write_text(out, json.dumps({"scheme": scheme.name, "landmarks": scheme.points, "images": images}) + "\n")


# --- drawing ---


def drawing_paths(images: Sequence[str], folder: Path, base: Path | None = None) -> dict[str, Path]:
    """Where the drawing of each image goes: below ``folder``, as the image lies below ``base``, or by its name alone.

    Raises:
        ConfigError: a drawing would replace one of the images, or a file that is no such drawing, or cannot be written.
    """
    places: dict[str, Path] = {}
    taken: set[Path] = set()
    above = None if base is None else os.path.abspath(base)
    for image in images:
        path = Path(os.path.abspath(image))  # without "..", which would lead out of the folder
        inside = above is not None and path.is_relative_to(above)
        relative = (path.relative_to(above) if inside else Path(path.name)).with_suffix("")
        place, number = (folder / relative).with_name(short_name(f"{relative.name}.jpg")), 1
        while place in taken:
            number += 1
            place = (folder / relative).with_name(short_name(f"{relative.name}-{number}.jpg"))
        taken.add(place)
        places[image] = place
    own = {Path(image).resolve() for image in images}
    if wrong := [place for place in places.values() if place.resolve() in own]:
        raise ConfigError(f"{wrong[0]}: is an input too; name another folder for the drawings")
    if wrong := [place for place in places.values() if place.exists() and not is_drawn(place)]:
        raise ConfigError(
            f"{wrong[0]}: is there and was not written by this command; remove it, or name another folder"
        )
    for each in {folder, *(place.parent for place in places.values())}:
        check_folder(each)
    return places


def draw_table(
    table: LandmarkTable,
    scheme: Scheme,
    places: Mapping[str, Path],
    model: str = "teacher",
    *,
    progress: bool = False,
) -> None:
    """Draw every image with its landmarks into the file that ``places`` names (JPEG, as large as the image).

    A dot is hollow where its score is under three quarters of the median of its image.
    """
    by_image = table.by_image()
    for name, place in tqdm(places.items(), desc="drawing", unit="image", disable=not progress, mininterval=1):
        image = cv2.cvtColor(read_image(Path(name)), cv2.COLOR_RGB2BGR)
        rows = by_image[name]
        low = LOW * float(np.median(table.scores[rows])) if len(rows) else 0.0
        for row in rows:
            face = {"face": int(table.faces[row]), "model": model, "box": table.boxes[row].astype(float)}
            face |= {"points": table.points[row].astype(float), "scores": table.scores[row]}
            draw_face(image, face, scheme, low)
        write_picture(place, image)
