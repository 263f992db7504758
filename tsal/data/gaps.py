"""Where the frames of a clip follow one another, a gap between their numbers ends it: nothing is tracked across one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tsal.data.lists import Clip


def gaps(clip: Clip) -> list[int]:
    """Places of the frames before which others are left out: a step of the numbers is longer than the clip's shortest
    one. So a clip of every second frame, 0, 2, 4, has none.
    """
    if len(clip.faces) < 2:
        return []
    numbers = [int(Path(face.image).stem) for face in clip.faces]
    steps = [after - before for before, after in zip(numbers, numbers[1:])]
    shortest = min(steps)
    return [place for place, step in enumerate(steps, 1) if step > shortest]


def split_at_gaps(clips: Iterable[Clip]) -> list[Clip]:
    """The same frames, in clips without gaps; one between two gaps is a clip of its own."""
    parts = []
    for clip in clips:
        ends = [0, *gaps(clip), len(clip.faces)]
        parts += [Clip(clip.name, clip.faces[start:end]) for start, end in zip(ends, ends[1:])]
    return parts


def gap_warnings(clips: Iterable[Clip]) -> list[str]:
    """One line where some of the clips have gaps: how many, and the first one."""
    first_gaps = [(clip.faces, places[0]) for clip in clips if (places := gaps(clip))]
    if not first_gaps:
        return []
    faces, place = first_gaps[0]
    return [
        f"{faces[place].where}: frame {Path(faces[place].image).stem} comes after {Path(faces[place - 1].image).stem} "
        f"of {Path(faces[place].image).parent}: the numbers of {len(first_gaps)} clips have such gaps, and each gap "
        "ends a clip; if their frames follow one another all the same, number them 0, 1, 2, ...; if none do, set "
        "data.consecutive=false"
    ]
