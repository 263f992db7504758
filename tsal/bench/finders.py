"""Face finders measured against landmark boxes: recall, and the landmarks' error from found boxes.

``python -m tsal.bench.finders [--weights W] [--realdata DIR] [--finder-model FILE]`` prints a Markdown table and keeps
it; with ``--video`` that of :mod:`tsal.bench.following` instead. A found face is the box that overlaps the row's box
most, if their IoU is 0.5 or more; the others are missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from tsal.bench.following import HEAD as VIDEO_HEAD
from tsal.bench.following import video_rows
from tsal.bench.speed import machine
from tsal.data import Face, FaceStore, find_list, read_image, read_list
from tsal.evaluation import face_nme, read_ground_truth
from tsal.faces import YuNet, find_boxes
from tsal.inference import CropDetector, find_weights, tightened
from tsal.utils import InputError, describe_environment, iou, markdown_table, use_free_cores, write_text

FOLDER = Path("docs") / "results" / "finders"
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


def best_match(boxes: Iterable[Sequence[float]], box: Sequence[float]) -> tuple[int, float]:
    """Place of the box that overlaps with ``box`` most, and their IoU; (-1, 0.0) where there is none."""
    return max(
        ((place, iou(other, box)) for place, other in enumerate(boxes)), key=lambda pair: pair[1], default=(-1, 0.0)
    )


def search(find: Finder, root: Path, faces: Sequence[Face]) -> tuple[list[np.ndarray], float]:
    """The finder's boxes (n, 4) px in the image of each row, and its milliseconds an image."""
    images, spent = {}, 0.0
    for face in faces:
        if face.image not in images:
            image = read_image(root / face.image)
            started = time.perf_counter()
            images[face.image] = find(image)
            spent += time.perf_counter() - started
    return [images[face.image] for face in faces], 1000 * spent / len(images)


def measure(find: Finder, detector: CropDetector, root: Path, faces: Sequence[Face]) -> dict:
    """A row of the table, by the names of ``HEAD``; NMEs are those of the found faces, by any of their boxes."""
    detections, spent = search(find, root, faces)
    matches = [best_match(boxes, face.box) for boxes, face in zip(detections, faces)]
    overlaps = np.array([overlap for _, overlap in matches])
    hits = np.flatnonzero(overlaps >= HIT)
    hit_faces, first = [faces[i] for i in hits], np.array([detections[i][matches[i][0]] for i in hits])
    store = FaceStore(root, detector.scheme, detector.side, detector.box_scale, 0)
    truth = read_ground_truth(store, hit_faces, "ocular", detector.scheme)

    def points_in(boxes: np.ndarray) -> np.ndarray:
        return detector([detector.cut(read_image(root / face.image), box) for face, box in zip(hit_faces, boxes)])[0]

    def nme(points: np.ndarray) -> float:
        return 100 * float(np.nanmean(face_nme(points, truth.points, truth.visible, truth.norm_px)))

    points = points_in(first)
    return {
        "recall %": 100 * len(hits) / len(faces),
        "mean IoU": overlaps[hits].mean(),
        "other faces": (sum(map(len, detections)) - len(hits)) / len(faces),
        "NME %": nme(points),
        "NME %, second pass": nme(points_in(tightened(first, points, detector.scheme.box)[0])),
        "given boxes": nme(points_in(truth.box)),
        "ms an image": spent,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.finders", description=__doc__.splitlines()[0])
    add = parser.add_argument
    real = os.environ.get("TSAL_REALDATA")
    add("--weights", type=Path, metavar="W", help="a trained detector (the one that ships)")
    add("--realdata", type=Path, default=real, metavar="DIR", help=f"folder of {', '.join(LISTS)} ($TSAL_REALDATA)")
    add("--finder-model", type=Path, metavar="FILE", help="YuNet's model file ($TSAL_FACE_MODEL)")
    add("--every", type=int, default=1, metavar="N", help="each n-th row, or clip, of the lists (%(default)s)")
    add("--video", action="store_true", help="faces followed through clips, instead of faces found in images")
    add("--frames", type=int, default=60, metavar="N", help="with --video: most frames of a dense clip (%(default)s)")
    add("--out", type=Path, metavar="FILE", help=f"output file for the table ({FOLDER}/finders.md, video.md)")
    options = parser.parse_args(arguments)
    if options.realdata is None:
        raise InputError("name the folder of real faces (--realdata)")
    use_free_cores()
    facts = describe_environment() | {"cpus": os.cpu_count(), "load when started": os.getloadavg()[0]}
    detector = CropDetector(find_weights(options.weights), device="cpu")
    finders: dict[str, Finder] = {"haar": find_boxes, "yunet": YuNet(options.finder_model)}
    if options.video:
        rows = list(video_rows(options.realdata, detector, finders, options.frames, options.every))
    else:
        rows = []
        for name in LISTS:
            faces = read_list(find_list(options.realdata, name), label=name)[:: options.every]
            faces = [face for face in faces if face.annotation]
            for kind, find in finders.items():
                print(f"{name}: {kind}", file=sys.stderr, flush=True)
                rows.append({"list": name, "finder": kind} | measure(find, detector, options.realdata, faces))
    shown = [[v if isinstance(v, str) else "" if np.isnan(v) else f"{v:.4g}" for v in row.values()] for row in rows]
    text = f"{machine(facts)}\n\n{markdown_table(VIDEO_HEAD if options.video else HEAD, shown)}"
    out = options.out or FOLDER / ("video.md" if options.video else "finders.md")
    write_text(out, f"# {'Faces followed' if options.video else 'Finders'}\n\n{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
