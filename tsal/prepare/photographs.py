"""Photographs of one's own: a folder of images with .pts files beside them, a CSV table, or COCO keypoints."""

from __future__ import annotations

import csv
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tsal.data import IMAGE_SUFFIXES, Origin, read_points, write_points
from tsal.faces import largest_face
from tsal.prepare.builder import DatasetBuilder, landmark_box
from tsal.utils import DataError, tqdm

BOXES = (
    "the source's own where it has one, else tight around the labelled landmarks; without either, "
    "the largest face that the finder sees"
)
BOX_COLUMNS = ("x1", "y1", "x2", "y2")


def prepare_photographs(
    source: Path,
    folder: Path,
    *,
    points: int,
    images: Path | None = None,
    one_based: bool = False,
    val: float = 0.1,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
) -> dict:
    """Lists ``train.txt``, ``val.txt`` (labelled) and ``unlabelled.txt`` (faces without labels).

    An image without labels and without a box is searched for a face: the largest one is taken.

    Args:
        source: a folder; or a .csv with the columns ``image``, ``x0, y0, x1, y1 ...`` (and ``v0 ...``: 0 for a hidden
            or missing point; ``box_x1, box_y1, box_x2, box_y2``); or a .json of COCO keypoints.
        points: landmarks a face, of the scheme.
        images: folder that the images' names are relative to; by default the source's own.
        one_based: pixels of the .csv or .json count from 1, not from 0 (.pts files always count from 1).
        val: share of the labelled images whose faces go to ``val.txt``, drawn by ``seed``; at least one of several.
    """
    source = Path(source).expanduser().resolve()
    root = Path(images).expanduser().resolve() if images else source if source.is_dir() else source.parent
    if not 0 <= val < 1:
        raise DataError(f"--val {val:g}: want a share of the images, from 0 to under 1")
    if not source.exists() or not root.is_dir():
        raise DataError(f"{source if not source.exists() else root}: no such file or folder")
    options = {"labels": str(source), "one_based": one_based, "val": val, "seed": seed}
    made = DatasetBuilder(folder, "photographs", root, points, BOXES, options)
    read = _read_folder if source.is_dir() else {".csv": _read_csv, ".json": _read_coco}.get(source.suffix.lower())
    if read is None:
        raise DataError(f"{source}: want a folder, a .csv or a .json of COCO keypoints")
    faces = []
    for face in read(made, source, 0.0 if not one_based else 1.0):
        image, *_, where = face
        if _is_file(root / image):
            faces.append(face)
        else:
            made.reject(where, f"the image {image[:200]} does not exist in {root}")
    held = _held_out(sorted({image for image, found, visible, *_ in faces if _is_labelled(found, visible)}), val, seed)
    bare = [root / image for image, found, visible, box, _ in faces if box is None and not _is_labelled(found, visible)]
    with ThreadPoolExecutor(workers) as pool:
        seen = dict(
            zip(
                bare,
                tqdm(
                    pool.map(largest_face, bare),
                    total=len(bare),
                    desc="finding faces",
                    disable=not progress or not bare,
                ),
            )
        )
    for number, (image, found, visible, box, where) in enumerate(faces):
        name = _named(made, image)
        made.origins[name] = Origin(clip=image)
        if not _is_labelled(found, visible):
            box = seen[root / image] if box is None else box
            if box is None:
                made.reject(where, f"{image}: no landmarks, no box, and no face is found")
            else:
                made.add("unlabelled.txt", name, None, box, where)
            continue
        annotation = f"annotations/{number:06d}.pts"
        write_points(made.folder / annotation, np.where(visible[:, None], found, 0), visible)
        made.add(
            "val.txt" if image in held else "train.txt", name, annotation, box or landmark_box(found, visible), where
        )
    made.count("images", len({image for image, *_ in faces}))
    made.count("faces", len(faces))
    if bare:
        made.count(
            "images without labels whose face is found in the pixels",
            sum(box is not None for box in seen.values()),
            len(seen),
            "rejected.csv names the others",
        )
    return made.write(workers=workers, progress=progress)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _is_labelled(found: np.ndarray | None, visible: np.ndarray) -> bool:
    return found is not None and bool(visible.any())


def _held_out(images: list[str], val: float, seed: int) -> set[str]:
    """The images for val.txt: where a share is wanted and there are several, one at least, and never all."""
    order = np.random.default_rng(seed).permutation(len(images))
    number = min(max(1, round(val * len(images))), len(images) - 1) if val and images else 0
    return {images[i] for i in order[:number]}


def _named(made: DatasetBuilder, image: str) -> str:
    """How a row names a photograph: numbers alone would make it a frame of a clip."""
    place = Path(image)
    if not place.stem.isdecimal():
        return made.released(image)
    return made.link(re.sub(r"\s+", "", f"renamed/{place.with_name(f'photo-{place.name}')}"), image)


def _read_folder(made: DatasetBuilder, source: Path, first: float):
    """(image, points (K, 2) 0-based px or None, visible (K,), box or None, where) of each image; labelled by the .pts
    beside it.
    """
    own = made.folder.resolve()  # may lie below the source: what it holds is no material
    for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and own not in p.parents):
        annotation, image = path.with_suffix(".pts"), str(path.relative_to(source))
        if not annotation.exists():
            yield image, None, np.zeros(0, bool), None, str(path)
            continue
        try:
            points, visible = read_points(annotation, made.points)
        except DataError as error:
            made.reject(str(path), str(error))
            continue
        yield image, points, visible, None, str(path)


def _read_csv(made: DatasetBuilder, source: Path, first: float):
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames or [], list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: cannot be read as a CSV table ({error})") from None
    places = [(f"x{i}", f"y{i}") for i in range(made.points)]
    wanted = ["image", *(name for place in places for name in place)]
    if missing := [name for name in wanted if name not in columns]:
        shown = ", ".join(missing[:4]) + (" ..." if len(missing) > 4 else "")
        separators = "" if len(columns) > 1 else "; are its columns parted by commas?"
        raise DataError(
            f"{source}: has no column {shown}; want image, x0, y0 ... x{made.points - 1}, "
            f"y{made.points - 1} (and v0 ..., box_x1 ...){separators}"
        )
    if twice := [name for name in wanted if columns.count(name) > 1]:
        raise DataError(f"{source}: its column {twice[0]} is given twice")
    has_box = all(f"box_{name}" in columns for name in BOX_COLUMNS)
    for number, row in enumerate(rows, 2):
        where = f"{source}:{number}"
        if None in row or None in row.values():
            made.reject(where, f"want {len(columns)} columns, as the first row has")
            continue
        try:
            points = np.array([[_number(row[x]), _number(row[y])] for x, y in places]) - first
            seen = [row.get(f"v{i}") for i in range(made.points)]
            visible = np.array([value is None or _number(value) > 0 for value in seen]) & np.isfinite(points).all(1)
            box = tuple(_number(row[f"box_{name}"]) - first for name in BOX_COLUMNS) if has_box else None
        except ValueError as error:
            made.reject(where, str(error))
            continue
        box = box if box and all(map(math.isfinite, box)) else None
        yield row["image"].strip(), points, visible, box, where


def _number(text: str) -> float:
    """A number; NaN for an empty field, which means a missing point."""
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a number") from None
    if math.isinf(value):
        raise ValueError(f"{text.strip()!r} is not finite")
    return value


def _read_coco(made: DatasetBuilder, source: Path, first: float):
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        annotations = list(content["annotations"])
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{source}: cannot be read as JSON ({error})") from None
    except (KeyError, TypeError):
        raise DataError(
            f"{source}: is no COCO file: want the keys images (id, file_name) and annotations (image_id, keypoints, "
            "bbox)"
        ) from None
    for number, annotation in enumerate(annotations):
        where = f"{source} annotations[{number}]"
        try:
            image = images[annotation["image_id"]]
        except (KeyError, TypeError):
            made.reject(where, "its image_id is missing, or none of images")
            continue
        if annotation.get("iscrowd"):
            made.reject(where, "a crowd has no landmarks")
            continue
        try:
            keypoints = np.array(annotation.get("keypoints", []), float)
            box = np.array(annotation["bbox"], float).reshape(4) if "bbox" in annotation else None
        except (TypeError, ValueError, OverflowError):
            made.reject(where, "keypoints or bbox are no flat list of numbers")
            continue
        if keypoints.size not in (0, 3 * made.points):
            made.reject(
                where, f"{keypoints.size} numbers of keypoints, want {3 * made.points}: x, y, v of {made.points} points"
            )
            continue
        found = keypoints.reshape(-1, 3) if keypoints.size else None
        corners = None if box is None else tuple(np.concatenate([box[:2], box[:2] + box[2:]]) - first)
        # v: 0 not labelled, 1 labelled and hidden, 2 labelled and visible; a hidden point's place is known
        visible = np.zeros(0, bool) if found is None else (found[:, 2] > 0) & np.isfinite(found).all(1)
        yield image, None if found is None else found[:, :2] - first, visible, corners, where
