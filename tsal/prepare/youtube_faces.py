"""YouTube Faces with 68 keypoints, as the public repository udacity/P1_Facial_Keypoints releases them.

``training`` and ``test`` hold images named ``<subject>_<clip><frame>.jpg``; ``*_frames_keypoints.csv`` gives 136
numbers per image, x then y, counted from 1. Faces: Wolf, Hassner, Maoz, CVPR 2011. The landmarks come from a
face-alignment network, not from people. The release's own two folders are pooled and split by subject.
"""

from __future__ import annotations

import csv
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tsal.data import Origin, write_points
from tsal.faces import largest_face
from tsal.prepare.builder import DatasetBuilder, landmark_box
from tsal.utils import DataError, files_below, tqdm

POINTS = 68
NAME = re.compile(r"(?P<subject>.+)_(?P<clip>\d)(?P<frame>\d)\.(jpe?g|png)", re.IGNORECASE)
BOXES = (
    "GTB: tight around the labelled landmarks; DET: the largest face that the finder sees (OpenCV's Haar cascades), no "
    "label behind it"
)
MIN_FACE = 0.2  # of the image's shorter side: the release's images are cut around a face


def prepare_youtube(
    source: Path,
    folder: Path,
    *,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
) -> dict:
    """Lists ``YTF.{train,val,test}.GTB`` and ``YTF.train.unlabelled.DET``, clip by clip; returns the manifest.

    Args:
        val, test: shares of the subjects; no subject is in two splits.
        seed: of the split.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise DataError(f"--val {val:g} and --test {test:g}: want shares of the subjects whose sum is under 1")
    options = {"val": val, "test": test, "seed": seed}
    builder = DatasetBuilder(folder, "youtube", source, POINTS, BOXES, options)
    tables = [path for path in files_below(builder.source) if path.name.endswith("_frames_keypoints.csv")]
    if not tables:
        raise DataError(
            f"{builder.source}: holds no *_frames_keypoints.csv; give the folder 'data' of P1_Facial_Keypoints"
        )
    faces: dict[tuple[str, str, int], tuple[str, str, tuple]] = {}
    rows = 0
    for table in tables:
        for where, name, points in _read(builder, table):
            rows += 1
            path = table.parent / table.name.replace("_frames_keypoints.csv", "") / name
            if path.exists():
                _take(builder, faces, where, name, path, points)
            else:
                builder.reject(where, f"the image {path} does not exist")
    split = split_subjects(sorted({subject for subject, _, _ in faces}), val, test, seed)
    for (subject, _clip, _frame), (image, annotation, box) in sorted(faces.items()):
        builder.add(f"YTF.{split[subject]}.GTB", image, annotation, box, image)
    train = [face[0] for key, face in sorted(faces.items()) if split[key[0]] == "train"]
    with ThreadPoolExecutor(workers) as pool:
        jobs = pool.map(lambda image: largest_face(builder.folder / image, MIN_FACE), train)
        boxes = list(tqdm(jobs, total=len(train), desc="finding faces", disable=not progress, mininterval=1))
    for image, box in zip(train, boxes):
        if box is None:
            builder.reject(f"YTF.train.unlabelled.DET {image}", "no face is found")
        else:
            builder.add("YTF.train.unlabelled.DET", image, None, box, image)
    builder.count(
        "YTF.train.unlabelled.DET", sum(box is not None for box in boxes), len(train), "no face is found in the others"
    )
    builder.count("rows of the tables", rows)
    builder.count("faces", len(faces), rows, "rejected.csv says why")
    builder.count("clips", len({key[:2] for key in faces}))
    for name in ("train", "val", "test"):
        builder.count(f"subjects in {name}", sum(part == name for part in split.values()))
    return builder.write(workers=workers, progress=progress)


def _read(builder: DatasetBuilder, table: Path):
    """(where, image's name, points (68, 2) 0-based px) of each right row of a table."""
    try:
        with table.open(newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a CSV table ({error})") from None
    for number, row in enumerate(rows[1:], 2):  # the first row names the columns
        where = f"{table}:{number}"
        if len(row) != 2 * POINTS + 1:
            builder.reject(
                where, f"{len(row)} columns, want {2 * POINTS + 1}: the image's name, then x and y of {POINTS} points"
            )
            continue
        try:
            values = [float(value) for value in row[1:]]
        except ValueError:
            builder.reject(where, "a coordinate is not a number")
            continue
        if not all(map(math.isfinite, values)):
            builder.reject(where, "a coordinate is not finite")
            continue
        yield where, row[0], np.array(values).reshape(POINTS, 2) - 1


def _take(builder: DatasetBuilder, faces: dict, where: str, name: str, path: Path, points: np.ndarray) -> None:
    match = NAME.fullmatch(name)
    if not match:
        builder.reject(where, f"the image's name {name!r} is not <subject>_<clip><frame>.jpg")
        return
    subject, clip, frame = re.sub(r"\s+", "_", match["subject"]), match["clip"], int(match["frame"])
    if (subject, clip, frame) in faces:
        builder.reject(where, f"{name} is in the tables twice; the first row is used")
        return
    # frames of a clip are numbered images of one folder
    image = builder.link(f"clips/{subject}_{clip}/{frame}{path.suffix.lower()}", path)
    annotation = f"clips/{subject}_{clip}/{frame}.pts"
    write_points(builder.folder / annotation, points)
    builder.origins[image] = Origin(subject, f"{subject}_{clip}", frame)
    faces[subject, clip, frame] = (image, annotation, landmark_box(points, np.ones(len(points), bool)))


def split_subjects(subjects: list[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Each subject's split: ``train``, ``val`` or ``test``; shares are of the subjects, rounded, never all of them."""
    order = np.random.default_rng(seed).permutation(len(subjects))
    few = [round(share * len(subjects)) for share in (val, test)]
    names = ["val"] * few[0] + ["test"] * few[1]
    return {
        subjects[i]: names[place] if place < min(len(names), len(subjects) - 1) else "train"
        for place, i in enumerate(order)
    }
