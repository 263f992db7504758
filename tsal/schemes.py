"""Landmark schemes: flip pairs, the centre point, normalisers, drawing lines, subsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsal.errors import ConfigError


@dataclass(frozen=True)
class Scheme:
    """What the indices of K landmarks mean (0-based).

    ``centre`` is the landmark that the centre source takes as the face's centre, or -1 for the mean of all.
    ``ocular``: the two outer eye corners. ``pupil``: the index groups whose means stand for the two pupils.
    """

    name: str
    points: int
    flip: tuple[int, ...]
    centre: int = -1
    ocular: tuple[int, int] | None = None
    pupil: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    groups: tuple[tuple[str, tuple[int, ...], bool], ...] = ()  # name, indices, closed line
    subset_of_68: tuple[int, ...] | None = None

    def __post_init__(self):
        if sorted(self.flip) != list(range(self.points)) or any(self.flip[self.flip[i]] != i for i in self.flip):
            raise ConfigError(f"scheme {self.name!r}: flip must pair {self.points} landmarks with one another")


def _flip(count: int, pairs: list[tuple[int, int]]) -> tuple[int, ...]:
    order = list(range(count))
    for a, b in pairs:
        order[a], order[b] = b, a
    return tuple(order)


_PAIRS_68 = (
    [(i, 16 - i) for i in range(8)]
    + [(17 + i, 26 - i) for i in range(5)]
    + [(31, 35), (32, 34)]
    + [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    + [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58)]
    + [(60, 64), (61, 63), (65, 67)]
)


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


SCHEME_68 = Scheme(
    name="68",
    points=68,
    flip=_flip(68, _PAIRS_68),
    centre=30,
    ocular=(36, 45),
    pupil=(_span(36, 41), _span(42, 47)),
    groups=(
        ("jaw", _span(0, 16), False),
        ("left brow", _span(17, 21), False),
        ("right brow", _span(22, 26), False),
        ("nose bridge", _span(27, 30), False),
        ("nostrils", _span(31, 35), False),
        ("left eye", _span(36, 41), True),
        ("right eye", _span(42, 47), True),
        ("outer lip", _span(48, 59), True),
        ("inner lip", _span(60, 67), True),
    ),
)


def _subset(name: str, keep: tuple[int, ...]) -> Scheme:
    """A scheme of the landmarks ``keep`` of 68."""
    place = {old: new for new, old in enumerate(keep)}
    parent = SCHEME_68
    groups = tuple(
        (label, tuple(place[i] for i in indices if i in place), closed)
        for label, indices, closed in parent.groups
        if any(i in place for i in indices)
    )
    return Scheme(
        name=name,
        points=len(keep),
        flip=tuple(place[parent.flip[i]] for i in keep),
        centre=place[30],
        ocular=(place[36], place[45]),
        pupil=tuple(tuple(place[i] for i in eye) for eye in parent.pupil),
        groups=groups,
        subset_of_68=keep,
    )


SCHEME_51 = _subset("51", _span(17, 67))
SCHEME_49 = _subset("49", tuple(i for i in range(17, 68) if i not in (60, 64)))
SCHEMES = {scheme.name: scheme for scheme in (SCHEME_68, SCHEME_51, SCHEME_49)}


def generic_scheme(points: int) -> Scheme:
    """A scheme of any number of landmarks that knows nothing of them: no flip pairs, the centroid as centre."""
    return Scheme(name=str(points), points=points, flip=tuple(range(points)))


def get_scheme(name: str) -> Scheme:
    """The scheme called ``name``; any other whole number gives a generic one."""
    if name in SCHEMES:
        return SCHEMES[name]
    if name.isdigit() and int(name) > 0:
        return generic_scheme(int(name))
    raise ConfigError(f"no landmark scheme {name!r}; known: {', '.join(SCHEMES)}, or a whole number of landmarks")


def centre_point(points, scheme: Scheme, visible=None):
    """Face centre (..., 2) of points (..., K, 2), numpy or torch: the centre landmark, or the mean of (visible) landmarks."""
    if scheme.centre >= 0:
        return points[..., scheme.centre, :]
    if visible is None:
        return points.mean(-2)
    weight = visible[..., None].astype(points.dtype) if isinstance(points, np.ndarray) else visible[..., None].to(points.dtype)
    count = weight.sum(-2)
    return (points * weight).sum(-2) / (count.clip(min=1) if isinstance(points, np.ndarray) else count.clamp(min=1))
