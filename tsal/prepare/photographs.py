"""Photographs of one's own: a folder of images with .pts files beside them, a CSV table, COCO keypoints, or a list
of WFLW.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tsal.data import SAME_FACE, Origin, in_percent, is_turned, look_at_image, reflected, write_points
from tsal.faces import faces_in
from tsal.prepare.builder import DatasetBuilder, landmark_box
from tsal.prepare.photograph_labels import Photograph, read_coco, read_csv, read_folder, read_wflw
from tsal.prepare.shot_groups import group_images
from tsal.schemes import TIGHT, Scheme, get_scheme
from tsal.utils import DataError, counted, iou, is_utf8, read_bytes, tqdm

BOXES = (
    "the source's own where it has one, else around the labelled landmarks (the scheme's box); without either, "
    "the largest face that the finder sees, or with --all-faces every one"
)
# Side of a source's box over that of the box around the landmarks: over this it is the body's. Boxes of 4568 faces of
# 300-W and YouTube Faces have at most 1.4 with any scheme's landmarks, and 2.1 where only half of five are known.
OF_BODY = 3.0
BODIES = 0.1  # share of the labelled faces' own boxes that are bodies': from it on, boxes without labels may be too
HIDDEN = "landmarks of labelled faces that are missing or hidden, such as -1 -1 and 0 0"
READERS = {".csv": read_csv, ".json": read_coco, ".txt": read_wflw}


def prepare_photographs(
    source: Path,
    folder: Path,
    *,
    points: int = 68,
    scheme: str = "",
    images: Path | None = None,
    one_based: bool = False,
    val: float = 0.1,
    seed: int = 0,
    all_faces: bool = False,
    workers: int = 2,
    progress: bool = True,
) -> dict:
    """Lists ``train.txt``, ``val.txt`` (labelled) and ``unlabelled.txt`` (faces without labels).

    An image with a face without labels and without a box is searched for faces: the largest one that is no other row's
    is taken, or ``all_faces``.

    Args:
        source: a folder; or a .csv with the columns ``image``, ``x0, y0, x1, y1 ...`` (and ``v0 ...``: 0 for a hidden
            or missing point; ``box_x1, box_y1, box_x2, box_y2``); or a .json of COCO keypoints, or of COCO-WholeBody,
            whose ``face_kpts`` are taken; or a list of WFLW (.txt, ``points=98``). Points with neither coordinate over
            0 are missing, whatever else is said of them.
        points: landmarks a face. ``scheme``: instead, the landmark scheme that they are of, as ``data.scheme``: its
            ``box`` is taken around the landmarks of a face that has no box. A part of another scheme takes its own
            points of .pts files of the whole.
        images: folder that the images' names are relative to; by default the source's own.
        one_based: pixels of the .csv or .json count from 1, not from 0 (.pts files always count from 1).
        val: share of the labelled images whose faces go to ``val.txt``, drawn by ``seed``; at least one of several.
            Images that look alike, and frames of one video, stay together. Faces without labels of these images, and
            of copies of their files, are left out.
    """
    source = Path(source).expanduser().resolve()
    root = Path(images).expanduser().resolve() if images else source if source.is_dir() else _images_of(source)
    if not 0 <= val < 1:
        raise DataError(f"--val {val:g}: want a share of the images, from 0 to under 1")
    if not source.exists() or not root.is_dir():
        raise DataError(f"{source if not source.exists() else root}: no such file or folder")
    landmark_scheme = get_scheme(scheme := scheme or str(points))
    options = {"labels": str(source), "one_based": one_based, "val": val, "seed": seed, "all_faces": all_faces}
    options |= {"scheme": scheme} | ({"box": landmark_scheme.box} if landmark_scheme.box != TIGHT else {})
    builder = DatasetBuilder(
        folder, "photographs", root, landmark_scheme.points, BOXES, options, landmark_scheme.also_read
    )
    read = read_folder if source.is_dir() else READERS.get(source.suffix.lower())
    if read is None:
        raise DataError(f"{source}: want a folder, a .csv or a .json of COCO keypoints, or a .txt of WFLW")
    faces: list[Photograph] = []
    for face in read(builder, source, 0.0 if not one_based else 1.0):
        if not is_utf8(face.image):
            builder.reject(face.where, "its name is not UTF-8; rename the file or its folder")
        elif _is_file(root / face.image):
            faces.append(face)
        else:
            builder.reject(face.where, f"the image {face.image[:200]} does not exist in {root}")
    builder.count("images", len({face.image for face in faces}))
    builder.count("faces", len(faces))
    states = _look_at(root, sorted({face.image for face in faces}), workers, progress)
    looks = {image: look for image, look in states.items() if isinstance(look, dict)}
    labelled = sorted({face.image for face in faces if _is_labelled(face)})
    held = _held_out(group_images(labelled, looks), val, seed)
    if val and len(labelled) > 1 and not held:
        held = _held_out(list(_copies(labelled, looks).values()), val, seed)
        looks_alike = "all labelled images look like one scene or video: val.txt holds images of it too"
        builder.notes.append(looks_alike if held else "all labelled images are copies of one: there is no val.txt")
    faces = _without_held(builder, faces, held, looks)
    faces = _with_face_boxes(builder, faces, landmark_scheme)
    bare: dict[str, Photograph] = {}  # of each image the first face that has no box: all of it are found at once
    faces = [face for face in faces if face.box is not None or bare.setdefault(face.image, face) is face]
    known: dict[str, list[tuple[float, ...]]] = {}
    for face in faces:
        if face.box is not None:
            known.setdefault(face.image, []).append(face.box)
    detections = _find_others(root, list(bare), known, workers, progress)
    builder.drop_lists()  # a list must not name annotations of other rows
    for number, face in enumerate(faces):
        image, landmarks, visible, box, where, size = face
        name = _named(builder, image)
        builder.origins[name] = Origin(clip=image)
        if image in looks:
            builder.facts[name] = looks[image]
        if not _is_labelled(face):
            boxes = detections[image] if box is None else [box]
            if not boxes:
                beside = " beside those of other rows" if image in known else ""
                nothing = f"{image}: no landmarks, no box, and no face is found{beside}"
                builder.reject(where, nothing if image in looks else str(states[image]))
            for box in boxes if all_faces else boxes[:1]:
                builder.add("unlabelled.txt", name, None, box, where, size)
            continue
        annotation = f"annotations/{number:06d}.pts"
        write_points(builder.folder / annotation, np.where(visible[:, None], landmarks, 0), visible)
        builder.add("val.txt" if image in held else "train.txt", name, annotation, box, where, size)
    if hidden := sum(int((~face.visible).sum()) for face in faces if _is_labelled(face)):
        builder.count(HIDDEN, hidden)
    shown = [face for face in faces if _is_labelled(face) and face.image in looks]
    if shown:
        marks = np.stack([face.points for face in shown]), np.stack([face.visible for face in shown])
        sizes = np.array([(looks[face.image]["width"], looks[face.image]["height"]) for face in shown])
        builder.notes += filter(None, [reflected(*marks, landmark_scheme.ocular), in_percent(*marks, sizes)])
    if turned := [image for image in labelled if image in looks and is_turned(read_bytes(root / image))]:
        of = f"{len(turned)} of {counted(len(labelled), 'labelled image')}, such as {turned[0]},"
        builder.notes.append(f"EXIF turns {of} when they are read: labels must be of the turned image")
    if bare:
        builder.count(
            "images without labels whose face is found in the pixels",
            sum(map(bool, detections.values())),
            len(detections),
            "rejected.csv names the others",
        )
    if several := {image: boxes for image, boxes in detections.items() if len(boxes) > 1}:
        more = counted(sum(map(len, several.values())) - len(several), "face")
        outcome = "are taken too" if all_faces else "are left out (--all-faces takes them)"
        beside = (
            f"{more} beside the largest of {counted(len(several), 'image')}, such as {Path(next(iter(several))).name}"
        )
        builder.notes.append(f"without labels: {beside}, {outcome}")
    return builder.write(workers=workers, progress=progress)


def _images_of(source: Path) -> Path:
    """The folder that the names in a file are relative to: its own, or that of WFLW's images beside or above a list."""
    beside = [folder / "WFLW_images" for folder in list(source.parents)[:3]]
    folders = [folder for folder in beside if folder.is_dir()] if source.suffix.lower() == ".txt" else []
    return folders[0] if folders else source.parent


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _is_labelled(face: Photograph) -> bool:
    return face.points is not None and bool(face.visible.any())


def _is_of_body(box: Sequence[float], around: Sequence[float], visible: np.ndarray) -> bool:
    """Whether a box is far longer than the one around the landmarks, if most of them are known."""
    side, own = (max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (box, around))
    return visible.mean() > 0.5 and OF_BODY * own < side < np.inf


def _with_face_boxes(builder: DatasetBuilder, faces: Sequence[Photograph], scheme: Scheme) -> list[Photograph]:
    """The faces with boxes of faces: a labelled one that has none, or a body's, gets the one around its landmarks;
    where boxes may be bodies', one without labels gets none.
    """
    boxed, of_body = [], []
    for face in faces:
        if _is_labelled(face):
            around = landmark_box(face.points, face.visible, scheme.box)
            if face.box and (scheme.ocular or scheme.pupil) and _is_of_body(face.box, around, face.visible):
                of_body.append(face.where)
                face = face._replace(box=None)
            face = face._replace(box=face.box or around)
        boxed.append(face)
    if not of_body:
        return boxed
    long = (
        f"is over {OF_BODY:g} times as long as the one around the landmarks and may be the body's; the one around "
        "the landmarks is used"
    )
    builder.notes.append(f"the box of {counted(len(of_body), 'face')}, such as {of_body[0]}, {long}")
    others = [face for face in boxed if face.box and not _is_labelled(face)]
    if others and len(of_body) >= BODIES * sum(face.box is not None for face in faces if _is_labelled(face)):
        boxed = [face if _is_labelled(face) else face._replace(box=None) for face in boxed]
        of = f"{counted(len(others), 'face')} without labels, such as {others[0].where},"
        builder.notes.append(f"the box of {of} may be the body's too; its image is searched for faces")
    return boxed


def _find_others(
    root: Path, images: Sequence[str], known: Mapping[str, Sequence[Sequence[float]]], workers: int, progress: bool
) -> dict[str, list[tuple[float, ...]]]:
    """The boxes of the faces that are seen in each image, largest first, without those that are ``known`` there."""
    with ThreadPoolExecutor(workers) as pool:
        detections = pool.map(faces_in, [root / image for image in images])
        bar = tqdm(detections, total=len(images), desc="finding faces", disable=not (progress and images))
        return {
            image: [box for box in boxes if not any(iou(box, other) >= SAME_FACE for other in known.get(image, ()))]
            for image, boxes in zip(images, bar)
        }


def _look_at(root: Path, images: Sequence[str], workers: int, progress: bool) -> dict[str, dict | str]:
    """What is known of each image, or what is wrong with it."""
    with ThreadPoolExecutor(workers) as pool:
        looks = pool.map(lambda image: look_at_image(root / image, image), images)
        bar = tqdm(looks, total=len(images), desc="reading images", disable=not progress, mininterval=1)
        return dict(zip(images, bar))


def _held_out(groups: Sequence[Sequence[str]], val: float, seed: int) -> set[str]:
    """The images for val.txt, whole groups of them: where a share is wanted and there are several groups, one at least,
    and never all.
    """
    images = sum(map(len, groups))
    quota, held = max(1, round(val * images)) if val else 0, set()
    if len(groups) < 2 or not quota:
        return held
    order = np.random.default_rng(seed).permutation(len(groups))
    for index in order[: len(groups) - 1]:
        if len(held) + len(groups[index]) <= quota:
            held |= set(groups[index])
    return held or set(min((groups[index] for index in order), key=len))


def _copies(images: Iterable[str], looks: Mapping[str, dict]) -> dict[str, list[str]]:
    """Content, or the name of an image that cannot be read -> the images of it, in their order."""
    copies: dict[str, list[str]] = {}
    for image in images:
        copies.setdefault(looks[image]["sha256"] if image in looks else image, []).append(image)
    return copies


def _without_held(
    builder: DatasetBuilder, faces: Sequence[Photograph], held: set[str], looks: Mapping[str, dict]
) -> list[Photograph]:
    """The faces without those that have no labels and whose image, or a copy of it, is held out: what is measured on is
    not learned from, and a run refuses such lists.
    """
    contents, kept = _copies(sorted(held), looks), []
    for face in faces:
        content = looks[face.image]["sha256"] if face.image in looks else face.image
        if content not in contents or _is_labelled(face):
            kept.append(face)
        else:
            copy = "" if face.image in held else f"a copy of {contents[content][0]}, "
            builder.reject(face.where, f"{face.image}: no landmarks, and the image is {copy}held out for val.txt")
    return kept


def _named(builder: DatasetBuilder, image: str) -> str:
    """How a row names a photograph: numbers alone would make it a frame of a clip."""
    numbered = re.sub(r"\s+", "", Path(image).stem).isdecimal()
    return builder.released(image, before="photo-" if numbered else "")
