"""300-W as iBUG releases it: folders afw, helen, ibug, lfpw of images with .pts, and detector boxes in .mat files.

Sagonas et al., "300 Faces in-the-Wild Challenge: database and results", IVC 2016. The usual split: train is afw and the
trainsets of helen and lfpw (3148 images); common is their testsets (554), challenging is ibug (135), full is both
(689).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tsal.data import Origin, read_points
from tsal.prepare.builder import DatasetBuilder, landmark_box
from tsal.prepare.matlab import read_mat
from tsal.utils import DataError, counted, is_hidden

POINTS = 68
SIZES = {
    "afw": 337,
    "helen/trainset": 2000,
    "lfpw/trainset": 811,
    "helen/testset": 330,
    "lfpw/testset": 224,
    "ibug": 135,
}
SPLITS = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "common": ("helen/testset", "lfpw/testset"),
    "challenging": ("ibug",),
    "full": ("helen/testset", "lfpw/testset", "ibug"),
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
MIRRORED = "_mirror"
BOXES = "DET: the release's face detector; GTB: tight around the labelled landmarks, as the release gives it"


def prepare_300w(source: Path, folder: Path, *, workers: int = 2, progress: bool = True) -> dict:
    """Lists ``300W.{train,common,challenging,full}.{DET,GTB}`` of the release at ``source``; returns the manifest.

    A face without a box of a kind is left out of that kind's lists only, and reported. dlib's copy of the release holds
    each image mirrored too, ``x_mirror.jpg`` beside ``x.jpg``: these are left out.
    """
    builder = DatasetBuilder(folder, "300w", source, POINTS, BOXES)
    images = {subset: _images(builder.source / subset) for subset in SIZES}
    mirrored = [path for paths in images.values() for path in paths if path.stem.endswith(MIRRORED)]
    images = {subset: [p for p in paths if not p.stem.endswith(MIRRORED)] for subset, paths in images.items()}
    if mirrored:
        builder.notes.append(
            f"{counted(len(mirrored), 'mirrored image')} (*{MIRRORED}.*) left out, such as {mirrored[0].name}"
        )
    if not any(images.values()):
        raise DataError(
            f"{builder.source}: holds none of {', '.join(SIZES)}; unpack 300-W's archives there, each in its folder"
        )
    boxes = {subset: _boxes(builder, subset) for subset, paths in images.items() if paths}
    faces = {subset: _faces(builder, subset, paths) for subset, paths in images.items()}
    for subset, expected in SIZES.items():
        missing = "" if images[subset] else "the folder is missing or holds no images"
        left_out = len(images[subset]) - len(faces[subset])
        why = missing or (
            f"{left_out} images have no usable .pts" if left_out else "not the release's own number of images"
        )
        builder.count(f"{subset}, faces", len(faces[subset]), expected, why)
    several = sum(len(group) > 1 for group in _by_photograph(faces).values())
    builder.count("photographs with several labelled faces, each a row of its own", several)
    for split, subsets in SPLITS.items():
        for kind in ("DET", "GTB"):
            rows = [(subset, *face) for subset in subsets for face in faces[subset]]
            used = sum(
                [_add(builder, f"300W.{split}.{kind}", kind, boxes.get(subset), *face) for subset, *face in rows]
            )
            builder.count(
                f"300W.{split}.{kind}",
                used,
                sum(SIZES[subset] for subset in subsets),
                "see the folders above, and rejected.csv",
            )
    return builder.write(workers=workers, progress=progress)


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(p.name))


def _key(name: str) -> str:
    """An image's name without what the release writes in two ways: ibug's ``image_092 _01.jpg`` has no space in the
    .mat.
    """
    return re.sub(r"\s+", "", Path(name).stem)


def _boxes(builder: DatasetBuilder, subset: str) -> dict[str, dict[str, np.ndarray]] | None:
    """{image: {"DET", "GTB"}} 0-based px of a subset, or None where its .mat is not there."""
    name = f"bounding_boxes_{subset.replace('/', '_')}.mat"
    folders = [
        p for p in builder.source.iterdir() if p.is_dir() and re.sub(r"[ _]", "", p.name).lower() == "boundingboxes"
    ]
    path = next((p / name for p in [*folders, builder.source] if (p / name).exists()), None)
    if path is None:
        builder.notes.append(
            f"{name} is missing: no .DET rows for {subset}, and its .GTB boxes are computed from the landmarks"
        )
        return None
    entries = read_mat(path, "bounding_boxes")["bounding_boxes"]
    boxes = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else np.atleast_1d(entries), 1):
        try:
            kinds = {"DET": entry["bb_detector"], "GTB": entry["bb_ground_truth"]}
            # MATLAB counts pixels from 1
            boxes[_key(entry["imgName"])] = {kind: np.asarray(box, float).reshape(4) - 1 for kind, box in kinds.items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            builder.reject(f"{path} entry {number}", "wants imgName, bb_detector and bb_ground_truth (x1 y1 x2 y2)")
    return boxes


def _faces(builder: DatasetBuilder, subset: str, images: list[Path]) -> list[tuple[str, str, str, np.ndarray]]:
    """(key, image, annotation, landmark box) of each image with a right .pts."""
    faces = []
    for path in images:
        annotation = path.with_suffix(".pts")
        try:
            points, visible = read_points(annotation, POINTS)
        except DataError as error:
            builder.reject(str(path), str(error))
            continue
        image = builder.released(path)
        photograph = (
            re.sub(r"_\d+$", "", path.stem) if subset in ("afw", "ibug") or subset.startswith("helen") else path.stem
        )
        builder.origins[image] = Origin(clip=f"{subset}/{photograph}")
        faces.append((_key(path.name), image, builder.released(annotation), landmark_box(points, visible)))
    return faces


def _by_photograph(faces: dict[str, list]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for subset in ("afw", "helen/trainset", "helen/testset", "ibug"):
        for key, *_ in faces[subset]:
            groups.setdefault((subset, re.sub(r"_\d+$", "", key)), []).append(key)
    return groups


def _add(
    builder: DatasetBuilder, name: str, kind: str, boxes, key: str, image: str, annotation: str, tight: np.ndarray
) -> int:
    """Add a face to a list, if it has a box of the kind; the number of rows added."""
    box = tight if boxes is None and kind == "GTB" else (boxes or {}).get(key, {}).get(kind)
    if box is None:
        if boxes is not None and not name.startswith("300W.full"):
            builder.reject(f"{name} {image}", f"the release's .mat has no {kind} box for it")
        return 0
    builder.add(name, image, annotation, box, f"{name} {image}")
    return 1
