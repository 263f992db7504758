"""Annotation lists, read and checked with the files that they name.

A list has one face a row: ``path_of_img path_of_annotation x1 y1 x2 y2 [face_size]``, paths relative to a root, the
annotation ``None`` for a face without labels. Boxes are in 0-based pixels. Rows whose image name is a number and that
follow one another in one folder, in rising order, are the frames of one clip; every other row is a photograph: a clip
of one frame.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tsal.data.images import look_at_image
from tsal.data.near import near_dataset, near_list
from tsal.data.placement import apart_problems, box_fault, points_problems
from tsal.data.points import read_points
from tsal.schemes import AlsoRead
from tsal.utils import PREPARED, DataError, iou, leads_out, means_nothing, read_text, tqdm, write_text

NO_LABELS = "None"
SAME_FACE = 0.2  # IoU from which two boxes of an image, perhaps of two finders, are of one face
SHOWN = 20  # lines of one kind about one list
TRANSDUCTIVE = ", or, to learn from unlabelled test images on purpose, set data.transductive=true"
ROW_FORMAT = "path_of_img path_of_annotation x1 y1 x2 y2 [face_size]"

Box: TypeAlias = "tuple[float, float, float, float]"


@dataclass(frozen=True)
class Face:
    """One row of a list. ``box``: x1, y1, x2, y2 in px of the image."""

    image: str
    annotation: str | None
    box: Box
    face_size: float | None
    list_name: str
    row: int

    @property
    def where(self) -> str:
        return f"{self.list_name}:{self.row}"


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one shot; a photograph is a clip of one frame."""

    name: str
    faces: tuple[Face, ...]


def list_root(root: Path, name: str) -> Path:
    """The folder that a list's paths are relative to: ``root``, or, for ``<dataset>:<list>``, that dataset's."""
    dataset, colon, _ = name.partition(":")
    return PREPARED / dataset if colon and "/" not in dataset else Path(root)


def find_list(root: Path, name: str) -> Path:
    """The file of a list named relative to ``root`` or to ``root/lists``; an absolute path is taken as it is.

    ``<dataset>:<list>`` is a list of ``data/prepared/<dataset>``: several datasets serve one run.
    """
    dataset, colon, rest = name.partition(":")
    if colon and "/" not in dataset:
        root, name = list_root(root, name), rest
        if not root.is_dir():
            near = near_dataset(dataset)
            raise DataError(f"{dataset}:{name}: no dataset {root}{near}; prepare it: python -m tsal data --help")
    for path in (Path(root) / name, Path(root) / "lists" / name):  # joined to a root, an absolute path stays as it is
        if path.is_file():
            return path
    raise DataError(f"{name}: no such list in {root} or {Path(root) / 'lists'}{near_list(Path(root), name)}")


def read_list(path: Path, *, label: str | None = None, root: Path | None = None) -> list[Face]:
    """Parse a list; raises :class:`DataError` with a line for every wrong row, with ``root`` also for one out of it."""
    faces, problems = parse_list(path, label or str(path), root)
    if problems:
        raise DataError(problems)
    return faces


def parse_list(path: Path, label: str, root: Path | None = None) -> tuple[list[Face], list[str]]:
    """The rows that are right, and one line for every one that is wrong; see :func:`read_list`."""
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError:
        return [], [f"{label}: cannot read the list: it is no text"]
    except OSError as error:
        return [], [f"{label}: cannot read the list: {error}"]
    faces, problems = [], []
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        where = f"{label}:{number}"
        if "\0" in line:
            problems.append(f"{where}: holds a null character; the list is damaged")
            continue
        if len(columns) not in (6, 7):
            problems.append(f"{where}: {len(columns)} columns, want 6 or 7: {ROW_FORMAT}")
            continue
        try:
            values = [float(v) for v in columns[2:]]
        except ValueError:
            problems.append(f"{where}: a box or face size is not a number: {' '.join(columns[2:])}")
            continue
        if not all(map(math.isfinite, values)):
            problems.append(f"{where}: a box or face size is not finite: {' '.join(columns[2:])}")
            continue
        x1, y1, x2, y2 = values[:4]
        if x2 <= x1 or y2 <= y1:
            problems.append(
                f"{where}: box is empty or inverted (x1 y1 x2 y2 = {' '.join(columns[2:6])}); want x1 < x2, y1 < y2"
            )
            continue
        if len(values) == 5 and values[4] <= 0:
            problems.append(f"{where}: face size {columns[6]} must be over 0")
            continue
        annotation, size = None if means_nothing(columns[1]) else columns[1], values[4] if len(values) == 5 else None
        outside = [name for name in (columns[0], annotation) if root and name and leads_out(root, name)]
        if outside:
            problems.append(f"{where}: {outside[0]} leads out of the root {root}; move the file, or name another root")
            continue
        faces.append(Face(columns[0], annotation, (x1, y1, x2, y2), size, label, number))
    if not faces and not problems:
        problems.append(f"{label}: the list is empty; want rows of {ROW_FORMAT}")
    return faces, problems


def write_list(path: Path, rows: Iterable[tuple[str, str | None, Sequence[float]]]) -> None:
    """Write rows of (image, annotation or None, box with an optional face size)."""
    lines = [" ".join([image, annotation or NO_LABELS, *(f"{v:.2f}" for v in box)]) for image, annotation, box in rows]
    write_text(path, "\n".join(lines) + "\n")


def group_clips(faces: Sequence[Face]) -> list[Clip]:
    """Rows -> clips and photographs, in the order of the list."""
    groups: list[list[Face]] = []
    for face in faces:
        stem = Path(face.image).stem
        previous = groups[-1][-1] if groups else None
        follows = (
            previous is not None
            and is_number(stem)
            and is_number(Path(previous.image).stem)
            and Path(previous.image).parent == Path(face.image).parent
            and previous.list_name == face.list_name
            and int(stem) > int(Path(previous.image).stem)
        )
        if follows:
            groups[-1].append(face)
        else:
            groups.append([face])
    return [Clip(_clip_name(group), tuple(group)) for group in groups]


def _clip_name(group: list[Face]) -> str:
    path = Path(group[0].image)
    return str(path.parent if is_number(path.stem) else path.with_suffix(""))


def is_number(stem: str) -> bool:
    """Whether an image's name is a frame's number; no file has a name of 256 characters."""
    return stem.isdecimal() and len(stem) < 256


@dataclass(frozen=True)
class FaceLists:
    """The lists of a run, read."""

    root: Path
    labelled: list[Face]
    unlabelled: list[Face]
    evaluate: dict[str, list[Face]]  # by the list's name
    truth: dict[tuple[str, Box], str]  # image and box of an unlabelled face -> annotation, for measuring only


def load_lists(
    root: Path,
    labelled,
    unlabelled,
    evaluate,
    truth=(),
    *,
    points: int | None = None,
    also_read: AlsoRead = (),
    transductive: bool = False,
) -> FaceLists:
    """Read every list of a run; all problems of all lists are raised together.

    With ``points`` (of an annotation; or ``also_read``), where a list is wrong, the files that its other rows name are
    checked too: nothing is left to be found in a second try. A face may not be in a training and in an evaluation
    list; ``transductive``: unlabelled ones may.
    """
    problems: list[str] = []

    def read(names: Iterable[str]) -> dict[str, list[Face]]:
        lists = {}
        for name in names:
            try:
                rows, wrong = parse_list(find_list(root, name), name, list_root(root, name))
                lists[name] = [_from(root, list_root(root, name), face) for face in rows]
                problems.extend(wrong)
            except DataError as error:
                problems.extend(error.problems)
        return lists

    if not Path(root).is_dir():
        raise DataError(f"{root}: no such folder (ROOT, or data.root)")
    sets = {
        "labelled": read(labelled),
        "unlabelled": read(unlabelled),
        "evaluate": read(evaluate),
        "truth": read(truth),
    }
    train = [face for faces in sets["labelled"].values() for face in faces]
    unlabelled_rows = [replace(face, annotation=None) for faces in sets["unlabelled"].values() for face in faces]
    labelled_rows = [face for face in train if face.annotation]
    if train and not labelled_rows:
        problems.append(
            f"{', '.join(labelled)}: the training list has no labelled rows (every annotation is {NO_LABELS})"
        )
    if not labelled:
        problems.append("data.labelled: no training list is named")
    if not evaluate:
        problems.append("data.evaluate: no evaluation list is named")
    faces_by_image, real = {}, cache(lambda image: os.path.realpath(Path(root) / image))  # slow: once each
    for face in labelled_rows if transductive else train + unlabelled_rows:
        faces_by_image.setdefault(real(face.image), []).append(face)
    for name, faces in sets["evaluate"].items():
        leaks = []
        for face in faces:
            if other := same_face(face, faces_by_image.get(real(face.image), ())):
                hint = "" if other.annotation else TRANSDUCTIVE
                leaks.append(
                    f"{face.where}: {face.image} is also in a training list ({other.where}); remove one of them{hint}"
                )
        problems += first_lines(leaks, f"{name}: {{}} more of its images are also in a training list")
    # a labelled list may hold frames without labels (a clip labelled in part): they are unlabelled data
    unlabelled_rows = unlabelled_rows + [face for face in train if not face.annotation]
    truths = _truth_of(
        real, unlabelled_rows, [face for faces in sets["truth"].values() for face in faces if face.annotation]
    )
    lists = FaceLists(Path(root), labelled_rows, unlabelled_rows, sets["evaluate"], truths)
    if problems and points is not None:
        problems += find_problems(lists, points, also_read)[1]
    if problems:
        raise DataError(problems)
    return lists


def _truth_of(
    real: Callable[[str], str], faces: Iterable[Face], labelled: Iterable[Face]
) -> dict[tuple[str, Box], str]:
    """Image and box of each face -> the annotation of that image's row of the same face, where there is one."""
    rows: dict[str, list[Face]] = {}
    for row in labelled:
        rows.setdefault(real(row.image), []).append(row)
    truths = {}
    for face in faces if rows else ():
        if row := same_face(face, rows.get(real(face.image), ())):
            truths[face.image, face.box] = row.annotation
    return truths


def same_face(face: Face, rows: Iterable[Face]) -> Face | None:
    """Of rows of a face's image, the one whose box is most like its own; None where all are of other faces."""
    best = max(rows, key=lambda row: iou(row.box, face.box), default=None)
    return best if best and iou(best.box, face.box) >= SAME_FACE else None


def first_lines(lines: Sequence[str], more: str) -> list[str]:
    """The first lines, and, where there are many, ``more`` with the number of the others: a clip has thousands of
    frames.
    """
    over = len(lines) - SHOWN
    return [*lines[:SHOWN], more.format(over)] if over > 1 else list(lines)


def from_root(root: Path, other: Path, name: str) -> str:
    """How a path that is relative to the folder ``other`` is written relative to ``root``."""
    if other == Path(root):
        return name
    # prepared datasets may move together
    beside = PREPARED in Path(root).absolute().parents and PREPARED in other.parents
    return os.path.normpath(os.path.join(os.path.relpath(other, root) if beside else other, name))


def _from(root: Path, other: Path, face: Face) -> Face:
    annotation = face.annotation and from_root(root, other, face.annotation)
    return replace(face, image=from_root(root, other, face.image), annotation=annotation)


def same_file(root: Path, face: Face, other: Face) -> bool:
    """Whether two rows name one file, by whatever way."""
    first, second = (os.path.realpath(Path(root) / row.image) for row in (face, other))
    return first == second


def find_problems(
    lists: FaceLists, points: int, also_read: AlsoRead = (), *, workers: int = 2, progress: bool = True
) -> tuple[dict[str, dict | str], list[str]]:
    """Open every image and annotation: what :func:`look_at_image` says of it, and one line for every problem."""
    groups = {"labelled": lists.labelled, "unlabelled": lists.unlabelled, **lists.evaluate}
    images = sorted({face.image for faces in groups.values() for face in faces})
    with ThreadPoolExecutor(workers) as pool:
        looks = pool.map(lambda image: look_at_image(lists.root / image, image), images)
        bar = tqdm(looks, total=len(images), desc="checking images", disable=not progress, mininterval=1)
        facts = dict(zip(images, bar))
    problems = []
    for faces in groups.values():
        for face in faces:
            wrong = face_problems(face, facts[face.image], lists.root, points, also_read)
            problems.extend(f"{face.where}: {line}" for line in wrong)
    return facts, problems


def face_problems(face: Face, fact: dict | str, root: Path, points: int, also_read: AlsoRead = ()) -> list[str]:
    """What is wrong with a row, one line each; ``fact``: what :func:`look_at_image` returned for its image."""
    if readable := not isinstance(fact, str):
        fault = box_fault(face.box, fact["width"], fact["height"])
        problems = [f"box {' '.join(f'{value:g}' for value in face.box)} of {face.image} {fault}"] if fault else []
    else:
        problems = [fact]
    if face.annotation:
        try:
            points, visible = read_points(root / face.annotation, points, also_read)
            problems += points_problems(points, visible, face.image, fact) if readable else []
            problems = problems or apart_problems(points, visible, face.box, face.image)
        except DataError as error:
            problems.append(str(error))
    return problems


def spread(items: Sequence, count: int) -> list:
    """At most ``count`` of the items, evenly spread."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]
