"""Tiny stand-ins of the datasets' official releases, in their true layout: folders, file names, .mat structures,
videos.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat
from videos import write_video


def write_image(path: Path, seed: int, side: int = 64) -> None:
    """A smooth random image: no two look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(0, 255, (8, 8, 3)).astype(np.float32)
    assert cv2.imwrite(
        str(path), cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )


def landmarks(count: int, seed: int) -> np.ndarray:
    """Points (K, 2), counted from 1, within 12 ... 52."""
    return np.random.default_rng([seed, count]).uniform(12, 52, (count, 2)).round(2)


def write_pts(path: Path, points: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(f"{x} {y}" for x, y in points)
    path.write_text(f"version: 1\nn_points:  {len(points)}\n{{\n{rows}\n}}\n")


def tight(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(0), points.max(0)])


# --- 300-W ---

NAMES_300W = {
    "afw": ["134212_1.jpg", "1051618982_1.jpg", "1051618982_2.jpg"],  # two faces of one photograph
    "helen/trainset": ["100032540_1.jpg", "100040721_1.jpg"],
    "lfpw/trainset": ["image_0001.png"],
    "helen/testset": ["296814969_3.jpg"],
    "lfpw/testset": ["image_0001.png", "image_0002.png"],
    "ibug": ["image_003_1.jpg", "image_092 _01.jpg"],  # the space is the release's
}


def release_300w(root: Path) -> Path:
    for subset, names in NAMES_300W.items():
        entries = []
        for number, name in enumerate(names):
            seed = 100 * list(NAMES_300W).index(subset) + number
            write_image(root / subset / name, seed)
            points = landmarks(68, seed)
            write_pts((root / subset / name).with_suffix(".pts"), points)
            entries.append(
                {
                    "imgName": name.replace(" ", ""),
                    "bb_detector": tight(points)[None] + 2,
                    "bb_ground_truth": tight(points)[None],
                }
            )
        write_boxes(root / "Bounding Boxes" / f"bounding_boxes_{subset.replace('/', '_')}.mat", entries)
    return root


def write_boxes(path: Path, entries: list[dict]) -> None:
    cells = np.empty((1, len(entries)), object)
    cells[0] = entries
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"bounding_boxes": cells})


# --- 300-VW ---


def release_300vw(root: Path, clips=("001", "114", "203", "410"), frames: int = 7) -> Path:
    for number, clip in enumerate(clips):
        write_video(root / clip / "vid.avi", [scene(10 * number + t) for t in range(frames)])
        for t in range(frames):
            write_pts(root / clip / "annot" / f"{t + 1:06d}.pts", landmarks(68, 10 * number + t))
    return root


def scene(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (6, 6, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


# --- AFLW ---


def release_aflw(root: Path, faces: int = 6, **changes) -> Path:
    """Faces 0 ... N-1, the last two of ``ra`` behind the 20000th place are not to be had: tests lower the number for
    training.
    """
    points = np.stack([landmarks(19, seed) for seed in range(faces)])
    visible = np.ones((faces, 19), np.uint8)
    visible[1, 4:] = 0  # four visible points
    visible[2] = 0
    names = [f"{(0, 2, 3)[i % 3]}/image{i:05d}.jpg" for i in range(faces)]
    for i, name in enumerate(names):
        write_image(root / "data" / "flickr" / name, 500 + i)
    names[3] = names[3].replace(".jpg", ".png")  # the ending is not the one on disk
    names[4] = f"9/{Path(names[4]).name}"  # nor is the folder
    cells = np.empty((faces, 1), object)
    cells[:, 0] = names
    content = {
        "nameList": cells,
        "bbox": np.stack([[10, 60, 8, 58]] * faces).astype(float),  # x1 x2 y1 y2
        "data": np.concatenate([points[..., 0], points[..., 1]], axis=1),  # all x, then all y
        "mask_new": visible,
        "ra": np.arange(faces, 0, -1)[None],
    }
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / "AFLWinfo_release.mat", content | changes)
    return root


# --- YouTube Faces ---


def release_youtube(root: Path, subjects: int = 10) -> Path:
    """Two clips a subject, of two and one frames; subjects alternate between the release's folders."""
    for number in range(subjects):
        part = ("training", "test")[number % 2]
        for clip, frames in ((0, (1, 0)), (5, (2,))):
            for frame in frames:
                name = f"Jane_Doe-{chr(65 + number)}_{clip}{frame}.jpg"
                write_image(root / part / name, 1000 + 20 * number + 2 * clip + frame)
                append_row(root / f"{part}_frames_keypoints.csv", name, landmarks(68, number + 100 * clip + frame))
    return root


def append_row(path: Path, name: str, points: np.ndarray) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["", *range(2 * len(points))])
        writer.writerow([name, *points.ravel()])


# --- photographs ---


def photographs_csv(root: Path, boxes: bool = False) -> Path:
    """A table of three images with five landmarks each."""
    columns = ["image", *(f"{axis}{i}" for i in range(5) for axis in "xy")]
    rows = [columns + (["box_x1", "box_y1", "box_x2", "box_y2"] if boxes else [])]
    for i in range(3):
        write_image(root / f"{i}.png", i)
        rows.append([f"{i}.png", *landmarks(5, i).ravel(), *([10, 10, 50, 50] if boxes else [])])
    path = root / "faces.csv"
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def coco(root: Path, points: int = 5, faces: int = 4) -> Path:
    """Keypoints with v = 2, 1 (hidden) and 0 (not labelled); the last face has a box alone."""
    images, annotations = [], []
    for i in range(faces):
        write_image(root / f"{i}.jpg", 2000 + i)
        images.append({"id": 7 + i, "file_name": f"{i}.jpg", "width": 64, "height": 64})
        coordinates = landmarks(points, i)
        flags = [2] * (points - 2) + [1, 0]
        keypoints = [value for (x, y), v in zip(coordinates, flags) for value in ((x, y, v) if v else (0, 0, 0))]
        annotations.append(
            {"id": i, "image_id": 7 + i, "bbox": [10, 10, 40, 42], "keypoints": keypoints if i < faces - 1 else []}
        )
    path = root / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path
