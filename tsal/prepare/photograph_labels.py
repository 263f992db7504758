"""Labels of photographs, in the forms that people have them: .pts files, a CSV table, COCO keypoints, WFLW's lists.

Each reader yields a :class:`Photograph` for every face, and rejects what it cannot use. ``first`` is what the pixels of
the source count from, 0 or 1; .pts files always count from 1.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tsal.data import IMAGE_SUFFIXES, LOOK_ALIKE, look_at_image, read_points
from tsal.prepare.builder import DatasetBuilder
from tsal.utils import DataError, counted, files_below, means_nothing, read_text

BOX_COLUMNS = ("x1", "y1", "x2", "y2")
# columns of a table that ``predict`` wrote, by their names here
PREDICTED = {"path": "image", "left": "box_x1", "top": "box_y1", "right": "box_x2", "bottom": "box_y2"}
NOT_READ = (".json", ".xml", ".mat", ".txt", ".csv", ".npy", ".npz")  # labels in other forms, one file an image
# images that OpenCV does not read: a folder from a phone or a camera holds them
UNREADABLE = (".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".psd", ".svg")


class Photograph(NamedTuple):
    """A face of an image, labelled or not."""

    image: str  # relative to the folder of the images
    points: np.ndarray | None  # (K, 2) px, 0-based
    visible: np.ndarray  # (K,) bool; (0,) without points
    box: tuple[float, ...] | None  # x1, y1, x2, y2 px, 0-based
    where: str  # in the source
    size: tuple[int, int] | None = None  # width and height of the labelled image, where the source says them


def read_folder(builder: DatasetBuilder, source: Path, first: float) -> Iterator[Photograph]:
    """Each image below a folder, labelled by the .pts beside it, whose name may be in another letter case."""
    files = files_below(source, but=builder.folder)  # which may lie below the source: what it holds is no material
    labels: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".pts":
            labels.setdefault(_key(path), []).append(path)
    images = builder.originals([path for path in files if path.suffix.lower() in IMAGE_SUFFIXES])
    taken = {path.with_suffix(".pts") for path in files if path.suffix.lower() in (*IMAGE_SUFFIXES, *UNREADABLE)}
    for path in _without_twins(builder, images):
        image, exact = str(path.relative_to(source)), path.with_suffix(".pts")
        fitting = [exact] if exact.exists() else [other for other in labels.get(_key(path), []) if other not in taken]
        if not fitting:
            yield Photograph(image, None, np.zeros(0, bool), None, str(path))
            continue
        annotation = fitting[0]
        taken.add(annotation)
        try:
            points, visible = read_points(annotation, builder.points, builder.also_read)
        except DataError as error:
            builder.reject(str(path), str(error))
            continue
        yield Photograph(image, points, visible, None, str(path))
    if unread := _labels_unread(images, files, labels):
        builder.notes.append(unread)
    for path in files:
        if path.suffix.lower() in UNREADABLE:
            builder.reject(str(path), "is an image of a format that is not read; save it as JPEG or PNG")
        elif path.suffix.lower() == ".pts" and path not in taken:
            builder.reject(str(path), "no image of its name is beside it")


def _without_twins(builder: DatasetBuilder, images: Sequence[Path]) -> list[Path]:
    """The images without some that share a .pts (``a.jpg``, ``a.png``): of copies one is kept; of images that differ in
    size or look, of which it fits one at most, none.
    """
    sharing: dict[Path, list[Path]] = {}
    for path in images:
        sharing.setdefault(path.with_suffix(".pts"), []).append(path)
    left_out: set[Path] = set()
    copies: list[str] = []
    for annotation, paths in sharing.items():
        if len(paths) == 1 or not annotation.exists():
            continue
        facts = {path: look_at_image(path, path.name) for path in paths}
        facts = {path: fact for path, fact in facts.items() if isinstance(fact, dict)}
        sizes = {path: f"{fact['width']} x {fact['height']}" for path, fact in facts.items()}
        looks = [fact["look"] for fact in facts.values()]
        alike = all((looks[0] ^ look).bit_count() <= LOOK_ALIKE for look in looks)
        if len(set(sizes.values())) > 1 or not alike:
            shown = " and ".join(f"{path.name} ({size})" for path, size in sizes.items())
            for path in sizes:
                builder.reject(str(path), f"{annotation.name} cannot be of {shown}; keep the image that was labelled")
            left_out |= set(sizes)
        else:
            left_out |= set(twins := list(sizes)[1:])
            copies += [f"{path.name} beside {next(iter(sizes)).name}" for path in twins]
    if copies:
        note = f"{counted(len(copies), 'image')} left out for another one of equal size and of the same .pts"
        builder.notes.append(f"{note}, such as {copies[0]}")
    return [path for path in images if path not in left_out]


def _labels_unread(images: Sequence[Path], files: Sequence[Path], labels: Collection[str]) -> str:
    """What to say of images without a .pts that have labels of another kind beside them; empty where none has."""
    bare = {_key(path) for path in images} - set(labels)
    label_files = sorted(path for path in files if path.suffix.lower() in NOT_READ and _key(path) in bare)
    if not label_files:
        return ""
    kinds = ", ".join(sorted({path.suffix for path in label_files}))
    return (
        f"beside {counted(len(label_files), 'image')} without .pts there is a file {kinds}, such as "
        f"{label_files[0].name}, that is not read; if it holds landmarks, write them to .pts, to a CSV table or to "
        "COCO keypoints"
    )


def _key(path: Path) -> str:
    """What a picture and its labels have in common, in any letter case."""
    return str(path.with_suffix("")).casefold()


def read_csv(builder: DatasetBuilder, source: Path, first: float) -> Iterator[Photograph]:
    """The rows of a table with a header, or of one that ``predict`` wrote."""
    try:
        table = csv.DictReader(io.StringIO(read_text(source), newline=""))
        columns = table.fieldnames or []
        if "image" not in columns:
            table.fieldnames = columns = [PREDICTED.get(name, name) for name in columns]
        rows = [(table.line_num, row) for row in table]  # blank lines are skipped
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: cannot be read as a CSV table ({error})") from None
    places = [(f"x{i}", f"y{i}") for i in range(builder.points)]
    names = ["image", *(name for place in places for name in place)]
    if missing := [name for name in names if name not in columns]:
        shown = ", ".join(missing[:4]) + (" ..." if len(missing) > 4 else "")
        separators = "" if len(columns) > 1 else "; are its columns parted by commas?"
        raise DataError(
            f"{source}: has no column {shown}; want image, x0, y0 ... x{builder.points - 1}, "
            f"y{builder.points - 1} (and v0 ..., box_x1 ...){separators}"
        )
    if twice := [name for name in names if columns.count(name) > 1]:
        raise DataError(f"{source}: its column {twice[0]} is given twice")
    if more := _counted(columns, "x") - builder.points:
        raise DataError(
            f"{source}: has {builder.points + more} points a face, not {builder.points}; give --points for them"
        )
    flags = sum(name[:1] == "v" and name[1:].isdecimal() for name in columns)
    if flags and (flags, _counted(columns, "v")) != (builder.points, builder.points):
        raise DataError(f"{source}: has {flags} columns of visibility; want v0 ... v{builder.points - 1}, or none")
    boxes = [name for name in columns if name.startswith(("box", "bbox"))]
    has_box = all(f"box_{name}" in columns for name in BOX_COLUMNS)
    if boxes and not has_box:
        corners = ", ".join(f"box_{name}" for name in BOX_COLUMNS)
        raise DataError(f"{source}: has the columns {', '.join(boxes)}; a box's are {corners} (corners, in px)")
    for number, row in rows:
        where = f"{source}:{number}"
        if None in row or None in row.values():
            builder.reject(where, f"want {len(columns)} columns, as the first row has")
            continue
        try:
            points = np.array([[_number(row[x]), _number(row[y])] for x, y in places])
            values = [row.get(f"v{i}") for i in range(builder.points)]
            visible = np.array([value is None or _number(value) > 0 for value in values]) & _is_placed(points)
            corners = [_number(row[f"box_{name}"]) for name in BOX_COLUMNS] if has_box else []
        except ValueError as error:
            builder.reject(where, str(error))
            continue
        # programs write that there is none as empty fields, zeros or -1
        is_box = all(map(math.isfinite, corners)) and any(corner > 0 for corner in corners)
        box = tuple(corner - first for corner in corners) if is_box else None
        yield Photograph(row["image"].strip(), points - first, visible, box, where)


def _counted(columns: Sequence[str], letter: str) -> int:
    """How many columns there are of a letter and a number, from 0 on without a gap."""
    return next(i for i in itertools.count() if f"{letter}{i}" not in columns)


def _is_placed(points: np.ndarray) -> np.ndarray:
    """Which of points (K, 2), as the source has them, have a place: ``0 0``, ``-1 -1`` and the like mean none."""
    return np.isfinite(points).all(1) & (points > 0).any(1)


def _number(text: str) -> float:
    """A number; NaN for an empty field, or ``NA`` and the like, which mean a missing point."""
    if means_nothing(text):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a number") from None
    if math.isinf(value):
        raise ValueError(f"{text.strip()!r} is not finite")
    return value


def read_coco(builder: DatasetBuilder, source: Path, first: float) -> Iterator[Photograph]:
    """The annotations of a COCO file, of keypoints or of COCO-WholeBody's faces, and its images without any."""
    try:
        content = json.loads(read_text(source))
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        sizes = {image["id"]: _size(image) for image in content["images"]}
        annotations = list(content["annotations"])
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{source}: cannot be read as JSON ({error})") from None
    except (KeyError, TypeError):
        raise DataError(
            f"{source}: is no COCO file: want the keys images (id, file_name) and annotations (image_id, keypoints, "
            "bbox)"
        ) from None
    annotated = set()
    for number, annotation in enumerate(annotations):
        where = f"{source} annotations[{number}]"
        try:
            image = images[annotation["image_id"]]
        except (KeyError, TypeError):
            builder.reject(where, "its image_id is missing, or none of images")
            continue
        annotated.add(annotation["image_id"])
        if annotation.get("iscrowd"):
            builder.reject(where, "a crowd has no landmarks")
            continue
        try:
            names = ("face_kpts", "face_box") if "face_kpts" in annotation else ("keypoints", "bbox")
            if names[0] == "face_kpts" and not annotation.get("face_valid", True):
                builder.reject(where, "its face has no landmarks (face_valid)")
                continue
            keypoints = np.array(annotation.get(names[0]) or [], float)
            box = np.array(annotation[names[1]], float).reshape(4) if names[1] in annotation else None
        except (TypeError, ValueError, OverflowError):
            builder.reject(where, "keypoints or bbox are no flat list of numbers")
            continue
        if keypoints.size not in (0, 3 * builder.points):
            builder.reject(
                where,
                f"{keypoints.size} numbers of keypoints, want {3 * builder.points}: x, y, v of {builder.points} points",
            )
            continue
        triples = keypoints.reshape(-1, 3) if keypoints.size else None
        # v: 0 not labelled, 1 labelled and hidden, 2 labelled and visible; a hidden point's place is known
        visible = np.zeros(0, bool) if triples is None else (triples[:, 2] > 0) & _is_placed(triples[:, :2])
        points = None if triples is None else triples[:, :2] - first
        if box is not None and visible.any() and not box.any():
            box = None  # [0, 0, 0, 0] is how programs write that there is none: the landmarks give it
        corners = None if box is None else tuple(np.concatenate([box[:2], box[:2] + box[2:]]) - first)
        yield Photograph(image, points, visible, corners, where, sizes[annotation["image_id"]])
    for number, image in images.items():
        if number not in annotated:  # a task half done
            yield Photograph(image, None, np.zeros(0, bool), None, f"{source} images, id {number}")


def _size(image: dict) -> tuple[int, int] | None:
    """Width and height of the labelled image; None where the file does not say them."""
    values = image.get("width"), image.get("height")
    return values if all(isinstance(value, int) and value > 0 for value in values) else None


def read_wflw(builder: DatasetBuilder, source: Path, first: float) -> Iterator[Photograph]:
    """The rows of WFLW's own lists: x y of each landmark, box x1 y1 x2 y2, six attributes, image."""
    try:
        lines = read_text(source).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: cannot be read as a list ({error})") from None
    numbers = 2 * builder.points + 4 + 6
    if not any(len(line.split(maxsplit=numbers)) == numbers + 1 for line in lines):
        raise DataError(
            f"{source}: want a folder, a .csv or a .json of COCO keypoints, or a list of WFLW: rows of x y of "
            f"{builder.points} points (--points), x1 y1 x2 y2, six attributes, image"
        )
    for row, line in enumerate(lines, 1):
        columns, where = line.split(maxsplit=numbers), f"{source}:{row}"
        if not columns:
            continue
        try:
            if len(columns) != numbers + 1:
                raise ValueError(
                    f"want {numbers + 1} columns: x y of {builder.points} points, box, 6 attributes, image"
                )
            points = np.array([_number(value) for value in columns[: 2 * builder.points]]).reshape(-1, 2)
            box = tuple(_number(value) - first for value in columns[2 * builder.points : 2 * builder.points + 4])
        except ValueError as error:
            builder.reject(where, str(error))
            continue
        yield Photograph(columns[-1].strip(), points - first, _is_placed(points), box, where)
