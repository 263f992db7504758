"""Landmark schemes: what the indices of K landmarks mean. Each is a small file, ``configs/schemes/<name>.yaml`` or a
user's own.

Keys of a file (indices are 0-based; ``0-16`` is a range, both ends in it):

    points: 68                      how many landmarks there are
    flip: [[0, 16], [1, 15]]        pairs that a mirror swaps; any other landmark stays itself
    centre: 30                      the landmark that is the face's centre; without it: the mean of all
    ocular: [36, 45]                the two outer eye corners, the person's right one first
    pupil: [36-41, 42-47]           two groups of landmarks, whose means are taken as the pupils
    box: [-0.1, 0, 1.1, 1.3]        the face's box, brows to chin, where the tight box of the landmarks is [0, 0, 1, 1]
    lines: {left eye: 36-41 closed} what a figure joins: a name, its landmarks in order, and whether the line is closed
    names: [chin, ...]              of all landmarks; without it they are made from the lines: "left eye 1"
    also_read: {194: 0-67}          annotation files with 194 points are read too: these of their points, in this order

Only ``points`` is needed. A part of another scheme has ``subset_of: "68"``, ``keep: 17-67`` and perhaps a ``box``. It
reads that scheme's annotation files too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tsal.utils import REPOSITORY, SCHEME_FOLDER, ConfigError, PlainLoader, load_yaml, nearest, read_bytes

MOST_POINTS = 10_000  # landmarks of a scheme; dense meshes of faces have some thousands
KEYS = ("points", "flip", "centre", "ocular", "pupil", "box", "lines", "names", "also_read", "subset_of", "keep")
TIGHT = (0.0, 0.0, 1.0, 1.0)
AlsoRead = tuple[tuple[int, tuple[int, ...]], ...]  # numbers of points of annotation files, and which of them are kept


@dataclass(frozen=True)
class Scheme:
    """What the indices of K landmarks mean (0-based).

    ``centre`` is the landmark that the centre source takes as the face's centre, or -1 for the mean of all.
    ``ocular``: the outer eye corners, right one first. ``pupil``: the index groups whose means are taken as the pupils.
    ``box``: where the face's box lies in the landmarks' tight one, as :func:`tsal.utils.boxes_beside` takes it.
    """

    name: str
    points: int
    flip: tuple[int, ...]
    centre: int = -1
    ocular: tuple[int, int] | None = None
    pupil: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    lines: tuple[tuple[str, tuple[int, ...], bool], ...] = ()  # name, indices, closed line
    names: tuple[str, ...] = ()  # of the landmarks; () where nobody named them
    also_read: AlsoRead = ()  # annotation files of other schemes that hold these landmarks
    box: tuple[float, float, float, float] = TIGHT

    def __post_init__(self):
        if sorted(self.flip) != list(range(self.points)) or any(self.flip[self.flip[i]] != i for i in self.flip):
            raise ConfigError(f"scheme {self.name!r}: flip must pair {self.points} landmarks with one another")

    @property
    def can_flip(self) -> bool:
        """Whether it is known what a mirror does to the landmarks."""
        return self.flip != tuple(range(self.points))

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys of a scheme's file, every name and range written out; without ``name``."""
        values: dict[str, Any] = {"points": self.points, "flip": [[i, j] for i, j in enumerate(self.flip) if i < j]}
        if self.centre >= 0:
            values["centre"] = self.centre
        if self.ocular:
            values["ocular"] = list(self.ocular)
        if self.pupil:
            values["pupil"] = [list(group) for group in self.pupil]
        if self.box != TIGHT:
            values["box"] = list(self.box)
        values["lines"] = {
            label: " ".join(map(str, indices)) + " closed" * closed for label, indices, closed in self.lines
        }
        if self.also_read:
            values["also_read"] = {count: list(landmarks) for count, landmarks in self.also_read}
        return values | ({"names": list(self.names)} if self.names else {})


# --- finding and reading ---


def scheme_names() -> list[str]:
    """Names of the schemes that come with the project."""
    return sorted((path.stem for path in SCHEME_FOLDER.glob("*.yaml")), key=lambda name: (len(name), name))


def generic_scheme(points: int) -> Scheme:
    """A scheme of any number of landmarks that knows nothing of them: no flip pairs, the centroid as centre."""
    return Scheme(name=str(points), points=points, flip=tuple(range(points)))


def get_scheme(name: str) -> Scheme:
    """The scheme that ``data.scheme`` names.

    Args:
        name: a file of ``configs/schemes``; the path of a user's own (.yaml, .yml or .json), absolute or relative to
            the working directory or to the repository; any other whole number is a generic scheme.
    """
    return _find(name, ())


def read_scheme(path: Path, name: str) -> Scheme:
    """The scheme of a file; :class:`ConfigError` says in one line which key is wrong."""
    return _read(Path(path), name, ())


def _find(name: str, way: tuple[Path, ...]) -> Scheme:
    if name in scheme_names():
        return _read(SCHEME_FOLDER / f"{name}.yaml", name, way)
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        for folder in (Path.cwd(), REPOSITORY):  # joined to a folder, an absolute path stays as it is
            if (path := folder / Path(name).expanduser()).is_file():
                return _read(path, name, way)
        raise ConfigError(
            f"{name}: no such landmark scheme; a path is absolute, or relative to {Path.cwd()} or {REPOSITORY}"
        )
    if name.isdecimal() and len(name) < 10 and 0 < int(name) <= MOST_POINTS:
        return generic_scheme(int(name))
    names = ", ".join(scheme_names())
    raise ConfigError(
        f"no landmark scheme {name!r}; known: {names}, any whole number to {MOST_POINTS}, or the path of a .yaml file"
    )


def _read(path: Path, name: str, way: tuple[Path, ...]) -> Scheme:
    """``way``: the files that led here by their ``subset_of``."""
    path = path.resolve()
    if path in way:
        raise ConfigError(f"goes in a circle: {' -> '.join(p.name for p in (*way, path))}")
    try:
        values = load_yaml(read_bytes(path).decode(), _OneKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the scheme: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the scheme: it is no text") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return scheme_from_dict(values, name, str(path), (*way, path))


class _OneKeyLoader(PlainLoader):
    """Rejects a key that is given twice; PyYAML would silently use the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"the key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def scheme_from_dict(values: Any, name: str, where: str, way: tuple[Path, ...] = ()) -> Scheme:
    """A scheme from plain values, as a file or :meth:`Scheme.to_dict` gives them; ``where``: for errors."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: not a landmark scheme; want keys and values, such as 'points: 68'")
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{where}: {key}: unknown key{nearest(str(key), KEYS)}; keys: {', '.join(KEYS)}")
    if "subset_of" in values or "keep" in values:
        return _subset(values, name, where, way)
    points = values.get("points")
    if type(points) is not int or not 1 <= points <= MOST_POINTS:
        shown = "missing" if points is None else repr(points)
        raise ConfigError(f"{where}: points: {shown}; want the number of landmarks, at most {MOST_POINTS}")
    flip = _flip(values.get("flip", []), points, f"{where}: flip")
    centre = values.get("centre")
    centre = -1 if centre is None else _indices(centre, points, f"{where}: centre", count=1)[0]
    ocular = values.get("ocular")
    ocular = None if ocular is None else _indices(ocular, points, f"{where}: ocular", count=2)
    pupil = values.get("pupil")
    if pupil is not None:
        if not isinstance(pupil, list) or len(pupil) != 2:
            raise ConfigError(f"{where}: pupil: {pupil!r}; want two groups of landmarks, such as [36-41, 42-47]")
        pupil = tuple(_indices(group, points, f"{where}: pupil") for group in pupil)
    lines = _lines(values.get("lines", {}), points, f"{where}: lines")
    names = _names(values.get("names"), lines, points, f"{where}: names")
    if flip != tuple(range(points)):
        _check_mirror(flip, centre, ocular, pupil, where)
    also_read = _also_read(values.get("also_read", {}), points, f"{where}: also_read")
    box = _box(values.get("box"), f"{where}: box")
    return Scheme(name, points, flip, centre, ocular, pupil, lines, names, also_read, box)


def _subset(values: dict, name: str, where: str, way: tuple[Path, ...]) -> Scheme:
    """The landmarks ``keep`` of another scheme, renumbered in that order."""
    for key in ("subset_of", "keep"):
        if values.get(key) is None:
            raise ConfigError(f"{where}: {key}: missing; a part of another scheme has subset_of and keep")
    if others := [key for key in values if key not in ("subset_of", "keep", "box")]:
        raise ConfigError(f"{where}: {others[0]}: comes from the scheme of subset_of; leave it out")
    try:
        parent = _find(str(values["subset_of"]), way)
    except ConfigError as error:
        raise ConfigError(f"{where}: subset_of: {error}") from error
    keep = _indices(values["keep"], parent.points, f"{where}: keep")
    place = {old: new for new, old in enumerate(keep)}
    for i in keep:
        if parent.flip[i] not in place:
            raise ConfigError(f"{where}: keep: {i} is kept without its mirror image {parent.flip[i]}")

    def places(indices: Iterable[int]) -> tuple[int, ...]:
        return tuple(place[i] for i in indices if i in place)

    def whole(indices: Iterable[int]) -> bool:
        return all(i in place for i in indices)

    lines = tuple((label, places(indices), closed) for label, indices, closed in parent.lines if places(indices))
    return Scheme(
        name=name,
        points=len(keep),
        flip=tuple(place[parent.flip[i]] for i in keep),
        centre=place.get(parent.centre, -1),
        ocular=places(parent.ocular) if parent.ocular and whole(parent.ocular) else None,
        pupil=tuple(map(places, parent.pupil)) if parent.pupil and all(map(whole, parent.pupil)) else None,
        lines=lines,
        names=tuple(parent.names[i] for i in keep) if parent.names else (),
        also_read=tuple(
            (count, tuple(landmarks[i] for i in keep))
            for count, landmarks in ((parent.points, range(parent.points)), *parent.also_read)
            if count != len(keep)
        ),
        box=_box(values.get("box"), f"{where}: box"),
    )


# --- values of a file ---


def _indices(value: Any, points: int, where: str, count: int | None = None) -> tuple[int, ...]:
    """Landmarks, written as one, as a list, or as text with ranges (``3, 5, 8-11``); ``count`` of them where it is
    given.
    """
    indices: list[int] = []
    for part in value if isinstance(value, list) else re.split(r"[,\s]+", str(value).strip()):
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", str(part), re.ASCII)
        if not match:
            raise ConfigError(f"{where}: {part!r} is no landmark; want a number from 0, or a range such as 0-16")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(f"{where}: the range {part} goes backwards")
        if last >= points:
            raise ConfigError(f"{where}: {last} is none of the {points} landmarks (0-{points - 1})")
        indices += range(first, last + 1)
    if len(set(indices)) < len(indices):
        raise ConfigError(f"{where}: {next(i for i in indices if indices.count(i) > 1)} is given twice")
    if not indices or count not in (None, len(indices)):
        raise ConfigError(f"{where}: {value!r} are {len(indices)} landmarks; want {count or 'at least one'}")
    return tuple(indices)


def _flip(pairs: Any, points: int, where: str) -> tuple[int, ...]:
    if not isinstance(pairs, list):
        raise ConfigError(f"{where}: {pairs!r} is no list; want pairs such as [[0, 16], [1, 15]]")
    order, paired = list(range(points)), set()
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ConfigError(f"{where}: {pair!r} is no pair; want pairs such as [[0, 16], [1, 15]]")
        a, b = (_indices(i, points, where, count=1)[0] for i in pair)
        if both := paired & {a, b}:
            raise ConfigError(f"{where}: {min(both)} is in two pairs")
        paired |= {a, b}
        order[a], order[b] = b, a
    return tuple(order)


def _lines(lines: Any, points: int, where: str) -> tuple[tuple[str, tuple[int, ...], bool], ...]:
    if not isinstance(lines, dict):
        raise ConfigError(f"{where}: want a name and landmarks a line, such as 'left eye: 36-41 closed'")
    named = []
    for label, value in lines.items():
        parts = value if isinstance(value, list) else re.split(r"[,\s]+", str(value).strip())
        closed = parts[-1:] == ["closed"]
        named.append((str(label), _indices(parts[: len(parts) - closed], points, f"{where}: {label}"), closed))
    return tuple(named)


def _names(names: Any, lines: tuple, points: int, where: str) -> tuple[str, ...]:
    """The names that are given; else, of each landmark, its first line's with its place there from 1, or its index."""
    if names is None:
        defaults = {i: f"landmark {i}" for i in range(points)}
        for label, indices, _ in reversed(lines):
            defaults |= {i: label if len(indices) == 1 else f"{label} {place}" for place, i in enumerate(indices, 1)}
        return tuple(defaults[i] for i in range(points))
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ConfigError(f"{where}: want a list of texts, one a landmark")
    if len(names) != points:
        raise ConfigError(f"{where}: {len(names)} names for {points} landmarks")
    if len(set(names)) < points:
        raise ConfigError(f"{where}: {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return tuple(names)


def _also_read(files: Any, points: int, where: str) -> AlsoRead:
    """``{number of points: the landmarks among them}``; JSON has its keys as text."""
    if not isinstance(files, dict):
        raise ConfigError(f"{where}: want numbers of points and which of them are kept, such as {{68: 17-67}}")
    landmarks = {}
    for key, value in files.items():
        [count] = _indices(key, MOST_POINTS + 1, where, count=1)
        if count == points or count in landmarks:
            raise ConfigError(f"{where}: {count}: is {'the number of points itself' if count == points else 'twice'}")
        landmarks[count] = _indices(value, count, f"{where}: {count}", count=points)
    return tuple(landmarks.items())


def _box(value: Any, where: str) -> tuple[float, float, float, float]:
    if value is None:
        return TIGHT
    numbers = isinstance(value, list) and all(type(v) in (int, float) and math.isfinite(v) for v in value)
    if not numbers or len(value) != 4 or value[2] <= value[0] or value[3] <= value[1]:
        raise ConfigError(f"{where}: {value!r}; want four numbers, x1 < x2 and y1 < y2, such as [-0.1, 0, 1.1, 1.3]")
    return tuple(map(float, value))


def _check_mirror(flip, centre: int, ocular, pupil, where: str) -> None:
    """Where there are pairs, what lies in the middle must stay and what lies on both sides must change sides."""
    if centre >= 0 and flip[centre] != centre:
        raise ConfigError(
            f"{where}: centre: {centre} is no landmark of the middle line: flip pairs it with {flip[centre]}"
        )
    if ocular and flip[ocular[0]] != ocular[1]:
        raise ConfigError(f"{where}: ocular: {ocular[0]} and {ocular[1]} are no pair of flip")
    if pupil and {flip[i] for i in pupil[0]} != set(pupil[1]):
        raise ConfigError(f"{where}: pupil: flip does not map one group onto the other")


# --- the centre ---


def centre_point(points, scheme: Scheme, visible=None):
    """Face centre (..., 2) of points (..., K, 2), numpy or torch: the centre landmark, or the mean of all (visible)
    landmarks.

    Where the centre landmark, or every one of them, is hidden (``visible`` (..., K) bool), nothing is known and (0, 0)
    is given: the coordinates of a hidden point are never used.
    """
    chosen = slice(None) if scheme.centre < 0 else [scheme.centre]
    points = points[..., chosen, :]
    if visible is None:
        return points.mean(-2)
    visible, shown = visible[..., chosen], points + 0
    shown[~visible] = 0
    return shown.sum(-2) / visible.sum(-1)[..., None].clip(min=1)
