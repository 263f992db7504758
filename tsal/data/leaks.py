"""What training must not share with evaluation: faces of an image, by name and by content, and clips; and what is told
only: other faces of an image, subjects, and what looks the same.

A perceptual hash finds images that were saved anew, resized or mirrored. On 300 photographs of 300-W, copies (JPEG
quality 30, a quarter of the size, brighter, 1.7 times larger; mirrored or not) differ in at most 6 of its 63 bits,
distinct photographs in more than 10; frames of one shot, and other shots of one interview, in 4 and more. So it warns,
and does not forbid.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tsal.data.lists import (
    TRANSDUCTIVE,
    Face,
    FaceLists,
    find_problems,
    first_lines,
    group_clips,
    is_number,
    same_face,
    same_file,
)
from tsal.data.origins import Origin
from tsal.schemes import AlsoRead
from tsal.utils import DataError

LOOK_ALIKE = 6  # bits


def check_files(
    lists: FaceLists,
    points: int,
    also_read: AlsoRead = (),
    *,
    origins: Mapping[str, Origin] = MappingProxyType({}),
    transductive: bool = False,
    known: dict[str, dict] | None = None,
    workers: int = 2,
    progress: bool = True,
) -> tuple[dict[str, dict], list[str]]:
    """Open every image and annotation of a run, and compare training with evaluation.

    Args:
        known: what an earlier check returned for these files: none is opened.

    Returns:
        what is known of each image (see :func:`tsal.data.images.look_at_image`), and warnings.

    Raises:
        DataError: all problems at once.
    """
    if known is None:
        facts, problems = find_problems(lists, points, also_read, workers=workers, progress=progress)
    else:
        facts, problems = known, []
    leaks, warnings = find_leaks(lists, facts, origins, transductive)
    if problems + leaks:
        raise DataError(problems + leaks)
    every = {"labelled": lists.labelled, "unlabelled": lists.unlabelled, **lists.evaluate}
    return facts, warnings + [line for faces in every.values() for line in _out_of_order(faces)]


def numbered_images(faces: Iterable[Face], origins: Mapping[str, Origin]) -> dict[str, str]:
    """Images of which only the name is known, a number -> their folder: frames, or photographs."""
    images = {face.image: Path(face.image) for face in faces if face.image not in origins}
    return {image: str(path.parent) for image, path in images.items() if is_number(path.stem)}


def clip_frames(faces: Sequence[Face], numbered: Mapping[str, str]) -> set[str]:
    """Which of ``numbered`` are the frames of a clip, by the rows of all lists: two of their folder stand beside one
    another in a list, by rising number, or, wherever they stand, have successive numbers. Those of a few photographs
    are far apart.
    """
    numbers: dict[str, set[int]] = {}
    for image, folder in numbered.items():
        numbers.setdefault(folder, set()).add(int(Path(image).stem))
    folders = {folder for folder, group in numbers.items() if any(number + 1 in group for number in group)}
    folders |= {clip.name for clip in group_clips(faces) if len(clip.faces) > 1}
    return {image for image, folder in numbered.items() if folder in folders}


def clip_names(faces: Sequence[Face], origins: Mapping[str, Origin], frames: Collection[str]) -> dict[str, Face]:
    """Clips -> their first row: as the builder named them, or the folder of an image of ``frames`` (see
    :func:`clip_frames`).
    """
    names: dict[str, Face] = {}
    for clip in group_clips(faces):
        for face in clip.faces:
            origin = origins.get(face.image, Origin())
            if origin.clip and origin.frame is not None:
                names.setdefault(origin.clip, face)
            elif len(clip.faces) > 1 or face.image in frames:
                names.setdefault(clip.name, face)
    return names


def find_leaks(
    lists: FaceLists, facts: Mapping[str, dict | str], origins: Mapping[str, Origin], transductive: bool
) -> tuple[list[str], list[str]]:
    """Problems (faces of images of one content, and clips, that are in training and in evaluation lists) and warnings
    (other faces of one image, subjects, look-alikes).

    Args:
        facts: of each image: ``sha256``, ``look`` and ``mirrored``, the perceptual hashes of it and of its mirror
            image; text for an image that cannot be read.
        transductive: unlabelled rows may share with evaluation lists; labelled ones never.
    """
    problems, warnings = [], []
    looks = {image: fact for image, fact in facts.items() if isinstance(fact, dict)}
    forbidden = lists.labelled + ([] if transductive else lists.unlabelled)
    contents: dict[str, list[Face]] = {}
    for face in forbidden:
        if face.image in looks:
            contents.setdefault(looks[face.image]["sha256"], []).append(face)
    every = [*lists.labelled, *lists.unlabelled, *itertools.chain(*lists.evaluate.values())]
    numbered = numbered_images(every, origins)
    frames = clip_frames(every, numbered)
    clips = clip_names(lists.labelled, origins, frames)
    clips |= {} if transductive else clip_names(lists.unlabelled, origins, frames)
    for name, faces in lists.evaluate.items():
        copies, beside = [], {}
        for face in faces:
            content = looks[face.image]["sha256"] if face.image in looks else None
            rows = contents.get(content, ())
            other = same_face(face, rows)
            if other and not same_file(lists.root, other, face):  # the same file: reported by load_lists
                copies.append(
                    f"{face.where}: {face.image} is the same image as {other.image} of {other.where}; "
                    f"remove one of them{_hint(other)}"
                )
            elif rows and not other:
                beside.setdefault(content, f"{face.where}: {face.image}, {rows[0].where}")
        if beside:
            warnings.append(
                f"{name}: {len(beside)} of its images are also in a training list, with another face "
                f"({next(iter(beside.values()))})"
            )
        problems += first_lines(copies, f"{name}: {{}} more of its images are the same as images of a training list")
        shared = [
            f"{face.where}: clip {clip} is also in a training list ({clips[clip].where}); "
            f"remove one of them{_hint(clips[clip])}"
            for clip, face in clip_names(faces, origins, frames).items()
            if clip in clips
        ]
        problems += first_lines(shared, f"{name}: {{}} more of its clips are also in a training list")
    if not problems:
        warnings += _shared_folders(lists, forbidden, numbered)
        warnings += _shared_subjects(lists, origins)
        warnings += _look_alikes(lists, looks, transductive)
    return problems, warnings


def _out_of_order(faces: list[Face]) -> list[str]:
    """A line for each folder whose frames a list has in another order than that of their numbers: 0, 1, 10, 11, 2."""
    frames: dict[tuple[str, str], list[tuple[int, Face]]] = {}
    for face in faces:
        path = Path(face.image)
        if is_number(path.stem):
            frames.setdefault((face.list_name, str(path.parent)), []).append((int(path.stem), face))
    warnings = []
    for (name, folder), rows in frames.items():
        numbers = [number for number, _ in rows]
        falls = [place for place in range(1, len(rows)) if numbers[place] < numbers[place - 1]]
        if falls and len(set(numbers)) == len(numbers):  # a number again is another face of that frame
            place = falls[0]
            warnings.append(
                f"{rows[place][1].where}: frame {numbers[place]} of {folder} comes after {numbers[place - 1]}, so its "
                f"frames are {len(falls) + 1} clips; put the rows of {name} in the order of the numbers for one clip"
            )
    return warnings


def _hint(face: Face) -> str:
    return "" if face.annotation else TRANSDUCTIVE


def _shared_folders(lists: FaceLists, trained: Iterable[Face], numbered: Mapping[str, str]) -> list[str]:
    """A line for each folder of which training and an evaluation list have numbered images too far apart to be known as
    a clip.
    """
    rows = {numbered[face.image]: face for face in trained if face.image in numbered}
    warnings = []
    for name, faces in lists.evaluate.items():
        lines: dict[str, str] = {}
        for face in faces:
            other = rows.get(numbered.get(face.image))
            if other and face.image != other.image:  # another face of one image: told already
                lines.setdefault(
                    numbered[face.image],
                    f"{face.where}: {face.image} and {other.image} of {other.where} are numbered images of one folder; "
                    "if they are frames of one clip, remove one of them",
                )
        warnings += first_lines([*lines.values()], f"{name}: {{}} more of its folders have images in a training list")
    return warnings


def _shared_subjects(lists: FaceLists, origins: Mapping[str, Origin]) -> list[str]:
    trained = {origins[face.image].subject for face in lists.labelled + lists.unlabelled if face.image in origins} - {
        None
    }
    warnings = []
    for name, faces in lists.evaluate.items():
        if shared := sorted({origins[face.image].subject for face in faces if face.image in origins} & trained):
            shown = ", ".join(shared[:5]) + (" ..." if len(shared) > 5 else "")
            warnings.append(f"{name}: {len(shared)} of its subjects are also in a training list ({shown})")
    return warnings


def _look_alikes(lists: FaceLists, looks: Mapping[str, dict], transductive: bool) -> list[str]:
    """A line for each evaluation image that looks like a training image of other content: the nearest one."""
    train = {
        face.image: face
        for face in (lists.labelled if transductive else lists.labelled + lists.unlabelled)
        if face.image in looks
    }
    if not train:
        return []
    images = list(train)
    hashes = np.array([looks[image]["look"] for image in images], np.uint64)
    copies: dict[str, list[int]] = {}  # content -> places of the training images that have it
    for place, image in enumerate(images):
        copies.setdefault(looks[image]["sha256"], []).append(place)
    warnings: list[str] = []
    compared: set[str] = set()  # images: a list may be a part of another
    for name, faces in lists.evaluate.items():
        lines = []
        for image, face in {
            face.image: face for face in faces if face.image in looks and face.image not in compared
        }.items():
            compared.add(image)
            own = np.array([[looks[image]["look"]], [looks[image]["mirrored"]]], np.uint64)
            bits = np.bitwise_count(hashes ^ own)  # (2, images)
            bits[:, copies.get(looks[image]["sha256"], [])] = 64  # another face of one image, which is told already
            mirrored, nearest = np.unravel_index(bits.argmin(), bits.shape)
            if bits[mirrored, nearest] <= LOOK_ALIKE:
                other, how = train[images[nearest]], "the mirror image of " if mirrored else ""
                lines.append(
                    f"{face.where}: {image} looks like {how}{other.image} of {other.where} "
                    f"({int(bits[mirrored, nearest])} of 63 bits differ)"
                )
        warnings += first_lines(lines, f"{name}: {{}} more of its images look like images of a training list")
    return warnings
