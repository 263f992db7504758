"""Faces in an image by YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023), where its model
file is given: OpenCV runs it and does not ship it. And when it is taken instead of the cascades.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np

from tsal.data import box_fault
from tsal.faces.detect import LONGEST, MIN_FACE, SAME, shared
from tsal.utils import InputError, first_line

MODEL_VARIABLE = "TSAL_FACE_MODEL"  # of the environment: the model file
SCORE = 0.6  # of a face that is kept
OVERLAP = 0.3  # IoU from which the better of two finds is kept
SHORTER_SIDE = 320  # px: larger images are shrunk to it; YuNet finds faces of about 10 to 300 px
# From YuNet's box to that of the landmarks: shift of the centre (x, y), width and height, in shares of its width and
# height. Medians over 1030 training faces of 300-W (AFW, HELEN) and YouTube Faces; the standard deviations are 0.05,
# 0.04, 0.12 and 0.08. x is 0 by symmetry (measured 0.001).
TO_FACE = (0.0, 0.125, 1.05, 0.775)


class YuNet:
    """Called with an image, it finds the faces in it; serves several threads at once.

    Args:
        model: an ONNX file of OpenCV's model zoo, face_detection_yunet_*.onnx; None: what the environment variable
            TSAL_FACE_MODEL names.

    Raises:
        InputError: no model is named, or OpenCV cannot run it as YuNet.
    """

    def __init__(self, model: Path | None = None):
        source = "--finder-model" if model else MODEL_VARIABLE
        model = model or os.environ.get(MODEL_VARIABLE)
        if not model:
            raise InputError(
                f"finder yunet: name its model file (--finder-model FILE, YuNet(FILE) in Python, or {MODEL_VARIABLE}): "
                "face_detection_yunet_2023mar.onnx of OpenCV's model zoo"
            )
        self.model = Path(model)
        if not self.model.is_file():
            raise InputError(f"{model}: no such model file ({source})")
        self._of_thread = threading.local()
        try:
            self(np.zeros((SHORTER_SIDE, SHORTER_SIDE, 3), np.uint8))  # OpenCV takes any network, and then it fails
        except cv2.error as error:
            reason = f"OpenCV {cv2.__version__} cannot run it as YuNet: {first_line(error)}"
            raise InputError(f"{model} ({source}): {reason}") from None

    def __call__(self, image: np.ndarray, min_face: float = MIN_FACE) -> np.ndarray:
        """Faces in an RGB image (H, W, 3) uint8, best first -> boxes (n, 4) px as tight as a landmark box.

        Args:
            min_face: side of the smallest face over the image's shorter side.
        """
        height, width = image.shape[:2]
        zoom = min(1.0, SHORTER_SIDE / min(height, width), LONGEST * SHORTER_SIDE / max(height, width))
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        image = np.ascontiguousarray(image[..., ::-1])  # BGR
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if zoom < 1 else image
        detector = self._detector()
        detector.setInputSize(size)
        detections = detector.detect(small)[1]
        if detections is None:
            return np.zeros((0, 4))
        detections = detections[np.argsort(-detections[:, -1], kind="stable")].astype(float)
        sides = detections[:, 2:4]
        detections = detections[np.sqrt(sides.prod(1)) >= min_face * min(size)]
        boxes: list[np.ndarray] = []
        for box in tight_boxes(detections[:, :4]):
            if all(shared(box, other) < SAME for other in boxes):
                boxes.append(box)
        zooms = np.tile([size[0] / width, size[1] / height], 2)
        scaled = (np.array(boxes).reshape(-1, 4) + 0.5) / zooms - 0.5
        # a face at the bottom edge has its landmarks below it
        return scaled[np.array([not box_fault(box, width, height) for box in scaled], bool)]

    def _detector(self):
        if not hasattr(self._of_thread, "detector"):
            model = cv2.FaceDetectorYN.create(str(self.model), "", (SHORTER_SIDE, SHORTER_SIDE), SCORE, OVERLAP)
            self._of_thread.detector = model
        return self._of_thread.detector


def named_finder(name: str | None = None) -> YuNet | None:
    """The finder that :class:`tsal.Landmarker` and the commands take; None: OpenCV's cascades.

    Args:
        name: ``haar`` or ``yunet``; None: YuNet where the environment variable TSAL_FACE_MODEL names its model file,
            else the cascades.

    Raises:
        InputError: another name; or what is wrong with the model file, see :class:`YuNet`.
    """
    if name not in (None, "haar", "yunet"):
        raise InputError(f"finder = {name!r}: want haar, yunet, or a function: RGB image -> boxes (N, 4) px")
    return YuNet() if name == "yunet" or (name is None and os.environ.get(MODEL_VARIABLE)) else None


def tight_boxes(boxes: np.ndarray) -> np.ndarray:
    """YuNet's boxes (n, 4), x, y, width, height px -> x1, y1, x2, y2 as tight as a landmark box."""
    sides = boxes[:, 2:]
    centre = boxes[:, :2] + (sides - 1) / 2 + np.array(TO_FACE[:2]) * sides
    half = np.array(TO_FACE[2:]) * sides / 2
    return np.concatenate([centre - half, centre + half], 1)
