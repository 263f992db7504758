"""A trained detector beside dlib's 68-point predictor, with labelled boxes, moved ones, and faces that are found.

``python -m tsal.bench.anchors --realdata DIR`` prints one Markdown table and keeps it with its numbers. dlib takes part
where it can be imported (``pip install 'tsal[anchors]'``: dlib-bin and its predictor's file). It was trained on 300-W,
so most likely on the photographs of 300W.val-150 too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tsal.bench.failures import by_kind, hard_faces
from tsal.bench.finders import HIT, LISTS, best_match
from tsal.data import Face, FaceStore, find_list, read_image, read_list
from tsal.evaluation import GroundTruth, auc, face_nme, failure_rate, read_ground_truth
from tsal.inference import Landmarker, find_weights
from tsal.schemes import get_scheme
from tsal.utils import describe_environment, iou, markdown_table, write_text

CALIBRATION = "semi/300W.labelled-1057.GTB"  # where dlib's boxes are compared with the landmarks' boxes
MOVED = 0.1  # of the longer side of a box, in a random direction
THRESHOLD = 0.08
Points = "np.ndarray"  # (K, 2) px
Predict = Callable[[np.ndarray, "np.ndarray | None"], "list[tuple[np.ndarray, Points]]"]


def ours(landmarker: Landmarker) -> Predict:
    """RGB image and a box, or None to find faces -> (box, points) of each face."""
    return lambda image, box: [(face.box, face.points) for face in landmarker(image, box)]


def dlib_predictor(root: Path) -> Predict | None:
    """The same for dlib: boxes of its own detector, or a labelled box moved and scaled to where that would put it."""
    try:
        import dlib
        from face_recognition_models import pose_predictor_model_location
    except ImportError:
        return None
    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(pose_predictor_model_location())

    def edges(rectangle) -> np.ndarray:
        return np.array([rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()], float)

    def to_dlib() -> tuple[np.ndarray, float]:
        """Shift of the centre and side of dlib's boxes, in longer sides of the landmarks' boxes: medians."""
        shifts, sides = [], []
        for face in read_list(find_list(root, CALIBRATION), label=CALIBRATION)[::4]:
            box = np.array(face.box)
            long = max(box[2] - box[0], box[3] - box[1])
            for dlib_box in map(edges, detector(read_image(root / face.image), 1)):
                if iou(dlib_box, box) >= HIT:
                    shifts.append(((dlib_box[:2] + dlib_box[2:]) - (box[:2] + box[2:])) / 2 / long)
                    sides.append((dlib_box[2] - dlib_box[0]) / long)
        return np.median(shifts, 0), float(np.median(sides))

    shift, side = to_dlib()

    def predict(image: np.ndarray, box: np.ndarray | None) -> list[tuple[np.ndarray, Points]]:
        if box is None:
            rectangles = list(detector(image, 1))
        else:
            long = max(box[2] - box[0], box[3] - box[1])
            x, y = (box[:2] + box[2:]) / 2 + shift * long
            half = side * long / 2
            rectangles = [dlib.rectangle(*(round(value) for value in (x - half, y - half, x + half, y + half)))]
        shapes = [predictor(image, rectangle) for rectangle in rectangles]
        points = [np.array([[part.x, part.y] for part in shape.parts()], float) for shape in shapes]
        return [(np.concatenate([each.min(0), each.max(0)]), each) for each in points]

    return predict


def errors_in(boxes: np.ndarray, predict: Predict, images: Sequence[np.ndarray], truth: GroundTruth) -> np.ndarray:
    """Each face's error (N,) in a given box, over the outer eye-corner distance."""
    points = np.stack([predict(image, box)[0][1] for image, box in zip(images, boxes)])
    return face_nme(points, truth.points, truth.visible, truth.norm_px)


def measure(
    predict: Predict, images: Sequence[np.ndarray], truth: GroundTruth, labelled_errors: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """Errors in % of the outer eye-corner distance: labelled boxes, moved boxes, found faces.

    Args:
        labelled_errors: (N,), in the labelled boxes, as :func:`errors_in` has them.
    """
    box = truth.box
    side = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])[:, None]
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(box))
    moved = box + MOVED * side * np.tile(np.stack([np.cos(angle), np.sin(angle)], 1), 2)

    errors = np.full(len(box), np.nan)  # in found boxes
    for row, image in enumerate(images):
        faces = predict(image, None)
        best, overlap = best_match([face[0] for face in faces], box[row])
        if overlap >= HIT:
            errors[row] = face_nme(
                faces[best][1][None], truth.points[row][None], truth.visible[row][None], truth.norm_px[row][None]
            )[0]
    hits = ~np.isnan(errors)
    return {
        "NME %": 100 * float(labelled_errors.mean()),
        "AUC@0.08": auc(labelled_errors, THRESHOLD),
        "FR@0.08": failure_rate(labelled_errors, THRESHOLD),
        "NME %, boxes moved": 100 * float(errors_in(moved, predict, images, truth).mean()),
        "found %": 100 * float(hits.mean()),
        "NME % of those, found boxes": 100 * float(errors[hits].mean()),
        "NME % of those, labelled boxes": 100 * float(labelled_errors[hits].mean()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.anchors", description=__doc__)
    parser.add_argument("--realdata", required=True, type=Path, metavar="DIR", help="folder of 300-W and YouTube Faces")
    parser.add_argument("--weights", type=Path, metavar="W", help="a trained detector (the one that ships)")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/anchors.json"), metavar="FILE", help="(%(default)s)"
    )
    arguments = parser.parse_args(argv)
    root, weights, scheme = arguments.realdata, find_weights(arguments.weights), get_scheme("68")
    plain, flipped = (Landmarker(weights, finder="haar", flip=flip) for flip in (False, True))
    methods = {weights.stem: ours(plain), f"{weights.stem}, flip": ours(flipped)}
    if other := dlib_predictor(root):
        methods["dlib, 68 points"] = other
    rows, kinds = [], []
    for name in LISTS:
        faces: list[Face] = [face for face in read_list(find_list(root, name), label=name) if face.annotation]
        truth = read_ground_truth(FaceStore(root, scheme, 96, 1.35, 0), faces, "ocular", scheme)
        images = [read_image(root / face.image) for face in faces]
        for method, predict in methods.items():
            errors = errors_in(truth.box, predict, images, truth)
            rows.append({"list": name, "method": method} | measure(predict, images, truth, errors))
            kinds.append({"list": name, "method": method} | by_kind(errors, hard_faces(truth, images)))
            print(rows[-1], kinds[-1], flush=True)
    facts = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest(), "machine": describe_environment()}
    write_text(arguments.out, json.dumps(facts | {"rows": rows, "kinds": kinds}, indent=1) + "\n")
    write_text(arguments.out.with_suffix(".md"), _table(rows))
    write_text(arguments.out.with_name(f"{arguments.out.stem}-kinds.md"), _table(kinds))


def _table(rows: Sequence[dict]) -> str:
    cells = [[f"{value:.4g}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    return markdown_table(list(rows[0]), cells) + "\n"


if __name__ == "__main__":
    main()
