"""Face finders measured against landmark boxes: recall, and the landmarks' error from found boxes.

``python -m tsal.bench.finders --weights W [--realdata DIR] [--finder-model FILE]`` prints a Markdown table and keeps
it. A found face is the box that overlaps the row's box most, if their IoU is 0.5 or more; the others are missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from tsal.bench.speed import machine
from tsal.data import Face, FaceStore, find_list, read_list
from tsal.evaluation import face_nme, predict, read_ground_truth
from tsal.faces import YuNet, find_boxes, iou
from tsal.model_files import load_model
from tsal.utils import InputError, describe_environment, markdown_table, use_free_cores, write_text

OUT = Path("docs") / "results" / "finders" / "finders.md"
LISTS = ("semi/300W.val-150.GTB", "YTF.val.GTB")
HIT = 0.5  # IoU
HEAD = (
    "list",
    "finder",
    "recall %",
    "mean IoU",
    "other faces",
    "NME %",
    "NME %, second pass",
    "given boxes",
    "ms an image",
)
Finder = Callable[[np.ndarray], np.ndarray]


def search(find: Finder, root: Path, faces: Sequence[Face]) -> tuple[list[np.ndarray], float]:
    """The finder's boxes (n, 4) px in the image of each row, and its milliseconds an image."""
    images, spent = {}, 0.0
    for face in faces:
        if face.image not in images:
            image = cv2.imread(str(root / face.image))[..., ::-1]
            started = time.perf_counter()
            images[face.image] = find(image)
            spent += time.perf_counter() - started
    return [images[face.image] for face in faces], 1000 * spent / len(images)


def measure(
    find: Finder, detector: torch.nn.Module, store: FaceStore, faces: Sequence[Face], device: torch.device
) -> dict:
    """A row of the table, by the names of ``HEAD``; NMEs are those of the found faces, by any of their boxes."""
    scheme, boxes = store.scheme, [np.array(face.box) for face in faces]
    found, spent = search(find, store.root, faces)
    overlaps = [[iou(box, other) for other in others] or [0.0] for box, others in zip(boxes, found)]
    best = np.array([max(each) for each in overlaps])
    hits = np.flatnonzero(best >= HIT)
    given = [faces[i] for i in hits]
    first = [dataclasses.replace(faces[i], box=tuple(found[i][int(np.argmax(overlaps[i]))])) for i in hits]
    truth = read_ground_truth(store, given, "ocular", scheme)

    def points_of(rows: Sequence[Face]) -> np.ndarray:
        return predict(detector, store, rows, device)["heatmap"][0]

    def nme(points: np.ndarray) -> float:
        errors = face_nme(points, truth.points, truth.visible, truth.norm_px)
        return 100 * float(np.nanmean(errors))

    points = points_of(first)
    again = [
        dataclasses.replace(face, box=(*one.min(0).tolist(), *one.max(0).tolist())) for face, one in zip(first, points)
    ]
    return {
        "recall %": 100 * len(hits) / len(faces),
        "mean IoU": best[hits].mean(),
        "other faces": (sum(map(len, found)) - len(hits)) / len(faces),
        "NME %": nme(points),
        "NME %, second pass": nme(points_of(again)),
        "given boxes": nme(points_of(given)),
        "ms an image": spent,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.finders", description=__doc__.splitlines()[0])
    add = parser.add_argument
    real = os.environ.get("TSAL_REALDATA")
    add("--weights", type=Path, required=True, metavar="W", help="a training's model.pt")
    add("--realdata", type=Path, default=real, metavar="DIR", help=f"folder of {', '.join(LISTS)} ($TSAL_REALDATA)")
    add("--finder-model", type=Path, metavar="FILE", help="YuNet's model file ($TSAL_FACE_MODEL)")
    add("--every", type=int, default=1, metavar="N", help="each n-th row of the lists (%(default)s)")
    add("--out", type=Path, default=OUT, metavar="FILE", help="gets the table (%(default)s)")
    asked = parser.parse_args(arguments)
    if asked.realdata is None:
        raise InputError("name the folder of real faces (--realdata)")
    use_free_cores()
    facts = describe_environment() | {"cpus": os.cpu_count(), "load when started": os.getloadavg()[0]}
    device = torch.device("cpu")
    detector, config, scheme = load_model(asked.weights)
    store = FaceStore(asked.realdata, scheme, config.model.input, config.augment.box_scale, config.data.cache_mb)
    finders: dict[str, Finder] = {"haar": find_boxes, "yunet": YuNet(asked.finder_model)}
    rows = []
    for name in LISTS:
        faces = read_list(find_list(asked.realdata, name), label=name)[:: asked.every]
        faces = [face for face in faces if face.annotation]
        for kind, find in finders.items():
            print(f"{name}: {kind}", file=sys.stderr, flush=True)
            rows.append({"list": name, "finder": kind} | measure(find, detector, store, faces, device))
    shown = [[value if isinstance(value, str) else f"{value:.4g}" for value in row.values()] for row in rows]
    text = f"{machine(facts)}\n\n{markdown_table(HEAD, shown)}"
    write_text(asked.out, f"# Finders\n\n{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
