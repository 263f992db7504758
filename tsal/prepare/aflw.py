"""AFLW with 19 points and visibility: ``AFLWinfo_release.mat`` (Zhu et al., CVPR 2016) and AFLW's images.

Koestinger et al., "Annotated Facial Landmarks in the Wild", 2011. 24386 faces: the first 20000 of the .mat's order
``ra`` are for training, 4386 for testing. Frontal test faces have all 19 points visible and, as in the lists of the
paper's code, inside the box.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tsal.data import Origin, write_points
from tsal.prepare.builder import DatasetBuilder
from tsal.prepare.matlab import read_mat
from tsal.utils import DataError, files_below

POINTS, TRAIN, FACES = 19, 20000, 24386
SIZES = {"train": 20000, "test": 4386, "test.front": None}
ALL_VISIBLE = 1314  # test faces with all 19 points visible: what most papers call AFLW-frontal
FEW = 6  # visible points; a face with fewer is reported
BOXES = "GTB: the .mat's face rectangle; the seventh column (face_size) is sqrt(w h) of it"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def prepare_aflw(source: Path, folder: Path, *, workers: int = 2, progress: bool = True) -> dict:
    """Lists ``AFLW.{train,test,test.front}.GTB`` with face_size; returns the manifest. Coordinates of the .mat count
    from 1.
    """
    builder = DatasetBuilder(folder, "aflw", source, POINTS, BOXES, {"coordinates": "counted from 1, as MATLAB does"})
    info = _read(builder)
    total = len(info["names"])
    images, fixes = _Images(builder.source), {}
    few, whole = 0, 0
    used = dict.fromkeys(SIZES, 0)
    builder.drop_lists()  # a list must not name annotations of another release
    for place, index in enumerate(info["order"]):
        where = f"{info['path']} face {index + 1}"
        name, visible, points, box = (info[key][index] for key in ("names", "visible", "points", "boxes"))
        path, fix = images.find(name)
        if path is None:
            builder.reject(where, f"the image {name} does not exist under {builder.source}")
            continue
        if not visible.any():
            builder.reject(where, f"{name}: no landmark is visible")
            continue
        if not np.isfinite(points[visible]).all():
            builder.reject(where, f"{name}: a visible landmark is not finite")
            continue
        fixes[fix] = fixes.get(fix, 0) + bool(fix)
        few += int(visible.sum() < FEW)
        image = builder.released(path)
        builder.origins[image] = Origin()
        annotation = f"annotations/{index + 1:05d}.pts"
        write_points(builder.folder / annotation, np.where(visible[:, None], points, 0), visible)
        size = float(np.sqrt(max(0.0, (box[2] - box[0]) * (box[3] - box[1]))))
        inside = (points > box[:2]).all() and (points < box[2:]).all()
        whole += int(place >= TRAIN and visible.all())
        splits = ["train"] if place < TRAIN else ["test", "test.front"] if visible.all() and inside else ["test"]
        for split in splits:
            builder.add(f"AFLW.{split}.GTB", image, annotation, (*box, size), where)
            used[split] += 1
    builder.count("faces of the .mat", total, FACES, "not the release's own number")
    builder.count(f"faces with fewer than {FEW} visible points (kept; a metric counts the visible ones)", few)
    for fix, number in fixes.items():
        if fix:
            builder.count(f"images found by another name: {fix}", number)
    for split, number in used.items():
        builder.count(f"AFLW.{split}.GTB", number, SIZES[split], "rejected.csv says why")
    builder.count(
        "faces of AFLW.test.GTB with all points visible, those that leave the box among them",
        whole,
        ALL_VISIBLE,
        "rejected.csv says why",
    )
    return builder.write(workers=workers, progress=progress)


def _read(builder: DatasetBuilder) -> dict:
    """The .mat's arrays: names, visible (N, 19), points (N, 19, 2) and boxes (N, 4) 0-based px, order (N,) from 0."""
    name = "AFLWinfo_release.mat"
    path = next((path for path in files_below(builder.source) if path.name == name), builder.source / name)
    raw = read_mat(path, "nameList", "bbox", "data", "mask_new", "ra")
    try:
        names = [str(name) for name in np.atleast_1d(raw["nameList"])]
        count = len(names)
        x1, x2, y1, y2 = np.asarray(raw["bbox"], float).reshape(count, 4).T - 1
        points = np.asarray(raw["data"], float).reshape(count, 2, POINTS).transpose(0, 2, 1) - 1  # all x, then all y
        visible = np.asarray(raw["mask_new"]).reshape(count, POINTS) != 0
        order = np.asarray(raw["ra"], int).reshape(-1) - 1
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its variables do not fit one another ({error}); want nameList (N), bbox (N,4), data (N,38), "
            "mask_new (N,19), ra (N)"
        ) from None
    if sorted(order) != list(range(count)):
        raise DataError(f"{path}: ra is not an order of the {count} faces")
    boxes = np.stack([x1, y1, x2, y2], 1)
    return {"path": path, "names": names, "visible": visible, "points": points, "boxes": boxes, "order": order}


class _Images:
    """Finds AFLW's images: the .mat names some with an ending or in a folder that is not the one on disk."""

    def __init__(self, source: Path):
        self.by_stem: dict[str, list[Path]] = {}
        for path in files_below(source):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self.by_stem.setdefault(path.stem, []).append(path)

    def find(self, name: str) -> tuple[Path | None, str]:
        """The image and, where it is not found as it is named, what was changed."""
        named = Path(re.sub(r"\\", "/", name.strip()))
        same = self.by_stem.get(named.stem, [])
        folder = [path for path in same if path.parent.name == named.parent.name or not named.parent.name]
        if exact := [path for path in folder if path.name == named.name]:
            return exact[0], ""
        if folder:
            return folder[0], "another ending"
        if len(same) == 1:
            return same[0], "another folder"
        return None, ""
