"""What the builders of datasets share: rows, what was rejected and why, counts, and a prepared folder written at the
end.

``data/prepared/<name>/`` holds lists/ (see :mod:`tsal.data.lists`), images.csv (subject, clip, frame and content of
each image), rejected.csv (every row left out, and why) and manifest.json (source, options, box policy, counts). The
release itself is never changed: rows reach it through the link ``release``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsal.data import Face, Origin, face_problems, group_clips, look_at_image, read_json, write_list
from tsal.schemes import TIGHT, AlsoRead
from tsal.utils import (
    LOCK,
    DataError,
    boxes_beside,
    counted,
    file_hash,
    is_drawn,
    is_utf8,
    printable,
    replacing,
    short_name,
    tqdm,
    write_text,
)

RELEASE = "release"  # the link to the source, in the prepared folder
# what a stopped build leaves: it goes on from there
UNFINISHED = ("work", "annotations", "clips", "frames", "tracks", "renamed", RELEASE, LOCK)
IMAGE_COLUMNS = ("image", "subject", "clip", "frame", "sha256", "width", "height")


@dataclass(frozen=True)
class Row:
    """A row of a list to be, and where the source says so (for the report of rejected rows)."""

    list_name: str
    image: str
    annotation: str | None
    box: tuple[float, ...]  # x1, y1, x2, y2 (and face size), 0-based px
    where: str
    size: tuple[int, int] | None = None  # width and height of the labelled image, where the source says them


@dataclass
class DatasetBuilder:
    """A dataset in the making: collect, then :meth:`write`. Nothing is written to lists/ before every row is checked.

    Args:
        folder: the prepared folder.
        builder: the builder's name; ``source``: the release, or what takes its place.
        points: landmarks of a labelled row. Where no row has labels the manifest says 0: faces of any scheme.
        boxes: one line that says where the boxes come from.
        options: whatever else decides the result.
        also_read: annotation files of the source with other numbers of points, see :func:`tsal.data.read_points`.
    """

    folder: Path
    builder: str
    source: Path
    points: int
    boxes: str
    options: dict[str, Any] = field(default_factory=dict)
    also_read: AlsoRead = ()
    rows: list[Row] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    facts: dict[str, dict] = field(default_factory=dict)  # image -> see describe_image; where the builder knows them
    rejected: list[tuple[str, str]] = field(default_factory=list)  # where, why
    counts: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)  # name in the prepared folder -> file of the source

    def __post_init__(self):
        self.folder, self.source = Path(self.folder), Path(self.source).expanduser().resolve()
        if not self.source.exists():
            raise DataError(f"{self.source}: no such file or folder")
        former = self.folder / "manifest.json"
        if former.exists():
            manifest = read_json(former)
            builder, source = manifest.get("builder"), manifest.get("source")
            if builder != self.builder:
                raise DataError(f"{self.folder}: holds what {builder or 'another program'} made; give another --name")
            if source != str(self.source):
                raise DataError(f"{self.folder}: is made of {source}; give another --name, or remove the folder")
        elif (
            self.folder.exists()
            and not self._mark.exists()
            and any(p.name not in UNFINISHED for p in self.folder.iterdir())
        ):
            raise DataError(
                f"{self.folder}: holds files but no manifest.json of a prepared dataset; give another --name"
            )

    @property
    def _mark(self) -> Path:
        """Says that lists are being written; a build that was killed meanwhile may begin anew."""
        return self.folder / "work" / f"{self.builder}.writing"

    def add(
        self,
        list_name: str,
        image: str,
        annotation: str | None,
        box: Iterable[float],
        where: str,
        size: tuple[int, int] | None = None,
    ) -> None:
        """A row of a list; ``size``: of the image that was labelled, where the source says it."""
        if is_utf8(image):  # lists are UTF-8
            self.rows.append(Row(list_name, image, annotation, tuple(map(float, box)), where, size))
        else:
            self.reject(where, "its name is not UTF-8; rename the file or its folder")

    def reject(self, where: str, why: str) -> None:
        self.rejected.append((printable(where), printable(why)))

    def originals(self, files: Sequence[Path]) -> list[Path]:
        """A folder's files without drawings of this package, which show an image again, perhaps one of val.txt."""
        originals = [path for path in files if not is_drawn(path)]
        if drawn := len(files) - len(originals):
            self.notes.append(f"{counted(drawn, 'drawing')} of predict, track or demo left out")
        return originals

    def count(self, what: str, number: int, expected: int | None = None, why: str = "") -> None:
        """A number for the report; ``expected`` is the release's own, ``why`` explains a difference."""
        self.counts.append(
            {"what": what, "found": number, "expected": expected, "why": why if number != expected else ""}
        )

    def released(self, path: str | Path, before: str = "") -> str:
        """How a row names a file of the source: through the link ``release``, or through a link of its own where the
        name has white space, where the file lies beside the source, or where ``before`` is to stand before its name.
        """
        path = Path(path)
        if path.is_absolute() and path.is_relative_to(self.source):
            path = path.relative_to(self.source)
        beside = path.is_absolute() or ".." in path.parts  # the link to the source does not lead there
        if not (before or beside or re.search(r"\s", str(path))):
            return f"{RELEASE}/{path}"
        place = Path(path.name) if beside else path
        return self.link(re.sub(r"\s+", "", f"renamed/{place.with_name(before + place.name)}"), path)

    def link(self, name: str, path: str | Path) -> str:
        """A link in the prepared folder to a file of the source (relative to it, or absolute); returns its name.

        That is ``name``, shortened where it is too long, or, where another file is linked by it already, one with a
        hash of the file's path.
        """
        target, link = self.source / path, Path(name)
        name = str(link.with_name(short_name(link.name)))
        if self.links.setdefault(name, str(target)) != str(target):
            mark = hashlib.sha256(os.fsencode(target)).hexdigest()[:8]
            name = str(link.with_name(short_name(f"{link.stem}-{mark}{link.suffix}")))
        place = self.folder / name
        if place.is_symlink() and os.readlink(place) == str(target):
            return name
        with replacing(place) as temporary:
            os.symlink(target, temporary)
        return name

    def drop_lists(self) -> None:
        """Remove the lists of a former build, before images that they name are replaced."""
        for path in (self.folder / "lists").glob("*"):
            path.unlink(missing_ok=True)

    def write(self, *, workers: int = 2, progress: bool = True) -> dict:
        """Check every row, reject the wrong ones, write lists, images.csv, rejected.csv and manifest.json; returns the
        manifest.

        Raises:
            DataError: no row is right.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.link(RELEASE, self.source)
        rows = self._checked(workers, progress)
        if not rows:
            raise DataError([f"{self.source}: nothing is left to make a list of", *(self._reasons() or self.notes)])
        names = list(dict.fromkeys(row.list_name for row in rows))
        former = self.folder / "manifest.json"
        for name in set(read_json(former).get("lists", {})) - set(names) if former.exists() else ():
            (self.folder / "lists" / name).unlink(missing_ok=True)  # of other options
        lists = {}
        write_text(self._mark, "")
        for name in names:
            path = self.folder / "lists" / name
            list_rows = [row for row in rows if row.list_name == name]
            write_list(path, [(row.image, row.annotation, row.box) for row in list_rows])
            self._note_clips(name, list_rows)
            labelled = sum(row.annotation is not None for row in list_rows)
            lists[name] = {
                "rows": len(list_rows),
                "labelled": labelled,
                "sha256": file_hash(path),
            }
        images = [
            {"image": image, **vars(self.origins.get(image, Origin())), **self.facts[image]}
            for image in dict.fromkeys(row.image for row in rows)
        ]
        write_text(self.folder / "images.csv", _csv(IMAGE_COLUMNS, [[p[c] for c in IMAGE_COLUMNS] for p in images]))
        write_text(self.folder / "rejected.csv", _csv(("where", "why"), self.rejected))
        manifest = {
            "builder": self.builder,
            "source": str(self.source),
            "points": self.points if any(entry["labelled"] for entry in lists.values()) else 0,
            "boxes": self.boxes,
            "options": self.options,
            "lists": lists,
            "pictures": len({os.path.realpath(self.folder / p["image"]) for p in images}),  # a link is no other picture
            "counts": self.counts,
            "rejected": len(self.rejected),
            "notes": self.notes,
        }
        write_text(former, json.dumps(manifest, indent=1) + "\n")
        self._mark.unlink(missing_ok=True)
        return manifest

    def _note_clips(self, name: str, rows: Sequence[Row]) -> None:
        """A note where most clips of a list, by what is known of their frames, form none there: their images' names or
        their order are wrong.
        """
        frames: dict[str, set[str]] = {}
        for row in rows:
            origin = self.origins.get(row.image, Origin())
            if origin.clip is not None and origin.frame is not None:
                frames.setdefault(origin.clip, set()).add(row.image)
        clips = [clip for clip, images in frames.items() if len(images) > 1]
        groups = group_clips([Face(row.image, None, row.box[:4], None, name, 0) for row in rows])
        formed = {self.origins.get(g.faces[0].image, Origin()).clip for g in groups if len(g.faces) > 1}
        apart = [clip for clip in clips if clip not in formed]
        if len(apart) > len(clips) / 2:
            self.notes.append(
                f"{name}: the frames of {len(apart)} of {len(clips)} clips, such as {apart[0]}, form no clip; "
                "name them by numbers (clips/<clip>/12.jpg), and add a clip's rows together, by rising number"
            )

    def _reasons(self) -> list[str]:
        """A line for each rejected row; of many rows, one for each kind of reason: a hundred of one kind must not hide
        another.
        """
        if len(self.rejected) <= 20:
            return [f"{where}: {why}" for where, why in self.rejected]
        kinds = [re.sub(r"\S*[\d/\\.]\S*", "", why) for _, why in self.rejected]  # without names and numbers
        first: dict[str, tuple[str, str]] = {}
        for kind, row in zip(kinds, self.rejected):
            first.setdefault(kind, row)
        number = Counter(kinds)
        more = {kind: f" (and {number[kind] - 1} more of this kind)" if number[kind] > 1 else "" for kind in first}
        return [f"{where}: {why}{more[kind]}" for kind, (where, why) in first.items()][:20]

    def _checked(self, workers: int, progress: bool) -> list[Row]:
        """The rows whose image, box and annotation are right; the others are rejected."""
        images = [image for image in dict.fromkeys(row.image for row in self.rows) if image not in self.facts]
        facts: dict[str, dict | str] = dict(self.facts)
        with ThreadPoolExecutor(workers) as pool:
            looks = pool.map(lambda image: look_at_image(self.folder / image, image), images)
            bar = tqdm(
                looks, total=len(images), desc="checking images", disable=not (progress and images), mininterval=1
            )
            facts |= dict(zip(images, bar))
        rows = []
        for row in self.rows:
            face = Face(row.image, row.annotation, row.box[:4], None, row.list_name, 0)
            problems = face_problems(face, facts[row.image], self.folder, self.points)
            if not (all(map(math.isfinite, row.box)) and row.box[2] > row.box[0] and row.box[3] > row.box[1]):
                problems = ["the box is empty or inverted, or has no numbers"]
            fact = facts[row.image]
            if row.size and isinstance(fact, dict) and row.size != (fact["width"], fact["height"]):
                problems = [
                    f"labels of an image of {row.size[0]} x {row.size[1]} pixels, and {row.image} (turned as its EXIF "
                    f"says) has {fact['width']} x {fact['height']}; label this file, or give the one that was labelled"
                ]
            if problems:
                self.reject(row.where, problems[0])
            else:
                rows.append(row)
        self.facts = {image: fact for image, fact in facts.items() if isinstance(fact, dict)}
        return rows


def landmark_box(
    points: np.ndarray, visible: np.ndarray, place: Sequence[float] = TIGHT
) -> tuple[float, float, float, float]:
    """The box that is tight around the visible ones of points (K, 2) px, or the one at its ``place`` (Scheme.box); NaNs
    where there are none.
    """
    landmarks = np.asarray(points, float)[np.asarray(visible, bool)]
    if not len(landmarks):
        return (np.nan,) * 4
    return tuple(boxes_beside(np.concatenate([landmarks.min(0), landmarks.max(0)]), place))


def _csv(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue()


def read_rejected(root: Path) -> list[tuple[str, str]]:
    """(where, why) of every row that a builder left out."""
    path = Path(root) / "rejected.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [(row["where"], row["why"]) for row in csv.DictReader(file)]


def describe(manifest: dict, folder: Path) -> str:
    """What a builder made, for a person: counts beside the release's own, lists, what was rejected, notes."""
    lines = [f"{manifest['builder']}: {manifest['source']} -> {folder}"]
    for item in manifest["counts"]:
        expected = "" if item["expected"] is None else f" of {item['expected']}"
        lines.append(f"  {item['what']}: {item['found']}{expected}{' - ' + item['why'] if item['why'] else ''}")
    lines += [
        f"  lists/{name}: {entry['rows']} rows, {entry['labelled']} labelled"
        for name, entry in manifest["lists"].items()
    ]
    lines.append(f"  boxes: {manifest['boxes']}")
    if manifest["rejected"]:
        lines.append(f"  {manifest['rejected']} rows left out: rejected.csv says why")
    return "\n".join(lines + [f"  note: {note}" for note in manifest["notes"]])
