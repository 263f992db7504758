"""Three lines: ``from tsal import Landmarker; landmarker = Landmarker(); faces = landmarker(image)``.

Importing this module does not import torch, which takes most of the time; making a :class:`Landmarker` does.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, overload

import numpy as np

from tsal.faces import MIN_FACE, YuNet, checked_boxes, find_boxes, named_finder
from tsal.inference.inputs import is_still, read_photograph
from tsal.inference.tighten import PASSES, tightened
from tsal.inference.weights import find_weights
from tsal.utils import ConfigError, DataError

Image: TypeAlias = "np.ndarray | str | Path"
Images: TypeAlias = "list[np.ndarray] | list[str] | list[Path] | list[Image]"
Boxes: TypeAlias = "np.ndarray | Sequence[Sequence[float]] | Sequence[float]"
Finder: TypeAlias = "Callable[[np.ndarray], np.ndarray] | Literal['haar', 'yunet']"

HELD = 2**26  # pixels of decoded images kept at once
WANTED = "want RGB uint8 (H, W, 3), grey uint8 (H, W), or a path; several images are given as a list"
PILLOW = (
    "; a Pillow image becomes one, turned as its EXIF says, by "
    "numpy.asarray(ImageOps.exif_transpose(image).convert('RGB'))"
)


@dataclass(frozen=True, eq=False)
class FaceLandmarks:
    """One face. Pixels are 0-based: (0, 0) is the centre of the image's first pixel."""

    points: np.ndarray  # (K, 2) float32 px of the image, x then y
    scores: np.ndarray  # (K,) float32 in [0, 1]: how concentrated each landmark's heatmap is
    box: np.ndarray  # (4,) float32 px: x1, y1, x2, y2, in which the landmarks were detected
    number: int | None = None  # in a video: the face's, from 0; after a cut or a loss it is a new one


class Frame(NamedTuple):
    """A frame of :meth:`Landmarker.track`."""

    number: int  # from 0
    time_ms: float
    faces: list[FaceLandmarks]


class Landmarker:
    """Facial landmarks of images and videos by a trained detector.

    One instance may be called from several threads at once; a ``finder`` of your own must then allow it too.

    Args:
        weights: a file of a trained detector; by default that of the environment's ``TSAL_WEIGHTS``, else the one that
            ships.
        model: a model of that file, such as ``student``; by default its method's result, or the only one.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``.
        finder: ``haar`` (OpenCV's cascades), ``yunet``, or a function: RGB uint8 image (H, W, 3) -> boxes (N, 4) px,
            tight around the landmarks; by default, as in the commands, YuNet where the environment's
            ``TSAL_FACE_MODEL`` names its model file, else the cascades.
        min_face: smallest face that the cascades, or YuNet, look for, over the image's shorter side.
        batch: faces of a forward pass.
        flip: detect in each face's mirror image too, and average: a little less error (docs/model-card.md), twice the
            time.

    Attributes:
        scheme: the :class:`tsal.schemes.Scheme` of the K landmarks: their ``names``, the ``lines`` that join them.

    Raises:
        InputError: what is wrong with the weights, the options or the environment's model file.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        model: str | None = None,
        *,
        device: str = "auto",
        finder: Finder | None = None,
        min_face: float = MIN_FACE,
        batch: int = 32,
        flip: bool = False,
    ):
        from tsal.inference.crop_detector import CropDetector  # imports torch

        if not 0.02 <= min_face <= 1:
            raise ConfigError(f"min_face = {min_face:g}: want a share of the image's shorter side, from 0.02 to 1")
        if not isinstance(batch, Integral) or batch < 1:
            raise ConfigError(f"batch = {batch}: want a whole number, 1 or more")
        finder = finder if callable(finder) else named_finder(finder)
        self._detector = CropDetector(find_weights(weights), model, device, batch, flip)
        self._finder = functools.partial(finder, min_face=min_face) if isinstance(finder, YuNet) else finder
        self._min_face = min_face
        self.scheme = self._detector.scheme

    @overload
    def __call__(self, images: Image, boxes: Boxes | None = None) -> list[FaceLandmarks]: ...

    @overload
    def __call__(self, images: Images, boxes: list[Boxes | None] | None = None) -> list[list[FaceLandmarks]]: ...

    def __call__(self, images, boxes=None):
        """Landmarks of every face of an image, or of each image of a list.

        Args:
            images: an RGB uint8 image (H, W, 3) or grey (H, W), or the path of an image file; or a list of these.
            boxes: of an image: x1, y1, x2, y2 px (N, 4), tight around the landmarks, or one such box; without them
                faces are found. Of a list of images: a list, None where faces are to be found.

        Returns:
            The faces of the image, in the order of ``boxes`` or of the finder; of a list, a list of these.

        Raises:
            InputError: an image or a box that is not valid; the text says which.
        """
        if isinstance(images, (np.ndarray, str, Path)) or getattr(images, "ndim", 0) > 1:  # rows of a tensor are none
            return self._in_images([images], [boxes])[0]
        if not isinstance(images, Iterable):
            raise DataError(f"images of type {type(images).__name__}: {WANTED}{PILLOW}")
        images = list(images)
        boxes = [None] * len(images) if boxes is None else list(boxes)
        if len(boxes) != len(images):
            raise DataError(f"{len(images)} images, but boxes of {len(boxes)}: want one item of boxes for each image")
        return self._in_images(images, boxes)

    def track(self, video: str | Path, *, steady: bool = False, progress: bool = False) -> Iterator[Frame]:
        """Every frame of a video with its faces, each with a number that stays with it through its shot.

        The video is read twice: faces are found and followed to its end, and landmarks are detected in their boxes,
        smoothed without lag. The first frame comes with the second reading. A face whose landmarks' scores are far
        lower than another's is left out. What is left out, or odd in the file, is reported by :func:`warnings.warn`.

        Args:
            steady: fuse each frame's points (px) with those of the 3 frames before and after it, carried along the
                optical flow, as ``tsal track --steady`` does; scores stay. The video is read a third time, and the
                first frame comes after that; until then the landmarks of all frames are held, but no images.
            progress: show bars of the readings (by tqdm, where it is installed).

        Raises:
            InputError: it is no video, or cannot be read.
        """
        path = Path(video)
        if not path.is_file():
            raise DataError(f"{path}: no such video")
        if is_still(path):
            raise DataError(f"{path}: is an image; call the Landmarker itself with it")
        return self._frames(path, steady, progress)

    # --- images ---

    def _in_images(self, images: Sequence[Image], boxes: Sequence[Boxes | None]) -> list[list[FaceLandmarks]]:
        faces: list[list[FaceLandmarks]] = []
        group: list[tuple[np.ndarray, np.ndarray, bool]] = []
        for number, (image, image_boxes) in enumerate(zip(images, boxes)):
            name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
            pixels = _rgb(image, name)
            if not has_room([held for held, *_ in group], pixels):
                faces += self._in_group(group)
                group = []
            is_found = image_boxes is None
            checked = self._find(pixels, name) if is_found else checked_boxes(image_boxes, pixels, name)
            group.append((pixels, checked, is_found))
        return faces + self._in_group(group)

    def _in_group(self, group: Sequence[tuple[np.ndarray, np.ndarray, bool]]) -> list[list[FaceLandmarks]]:
        """Faces of images (H, W, 3), each with its boxes (N, 4), and whether a finder found them."""
        rows = [(place, box, is_found) for place, (_, boxes, is_found) in enumerate(group) for box in boxes]
        points, scores = self._detector([self._detector.cut(group[place][0], box) for place, box, _ in rows])
        points, scores, boxes = self._again(group, rows, points, scores)
        faces: list[list[FaceLandmarks]] = [[] for _ in group]
        for (place, *_), *face in zip(rows, points, scores, boxes):
            faces[place].append(FaceLandmarks(*face))
        return faces

    def _again(self, group, rows, points, scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points, scores and boxes (N, 4), those of found faces detected anew in the tight boxes of their landmarks."""
        boxes = np.array([box for _, box, _ in rows]).reshape(-1, 4)
        from_finder = np.array([is_found for *_, is_found in rows], bool)
        for _ in range(PASSES - 1):
            tight, same_face = tightened(boxes, points, self._detector.scheme.box)
            chosen = np.flatnonzero(from_finder & same_face)
            cuts = [self._detector.cut(group[rows[i][0]][0], tight[i]) for i in chosen]
            points[chosen], scores[chosen] = self._detector(cuts)
            boxes[chosen] = tight[chosen]
        return points, scores, boxes.astype(np.float32)

    def _find(self, image: np.ndarray, name: str) -> np.ndarray:
        if self._finder is None:
            return find_boxes(image, self._min_face)
        return checked_boxes(self._finder(image), image, f"{name}: the finder")

    # --- video ---

    def _frames(self, path: Path, steady: bool, progress: bool) -> Iterator[Frame]:
        from tsal.inference.video import detect_frames, follow_faces, steady_frames  # imports torch

        own = {} if self._finder is None else {"find": lambda image, _: self._finder(image), "workers": 1}
        followed = follow_faces(path, self._detector, min_face=self._min_face, progress=progress, **own)
        for note in followed.notes:
            warnings.warn(note, stacklevel=2)
        frames = (steady_frames if steady else detect_frames)(path, followed, [self._detector], progress=progress)
        for number, tracks, points, scores in frames:
            boxes = [followed.tracks[track].boxes[number - followed.tracks[track].first] for track in tracks]
            each = zip(points[0], scores[0], np.array(boxes, np.float32), tracks)
            yield Frame(number, followed.times[number], [FaceLandmarks(*face) for face in each])


def has_room(held: Sequence[np.ndarray], image: np.ndarray) -> bool:
    """Whether an image may be kept beside others that are decoded."""
    return not held or sum(other.size for other in held) + image.size <= 3 * HELD


def _rgb(image: Image, name: str) -> np.ndarray:
    """RGB uint8 (H, W, 3), of an array checked or a file read."""
    if isinstance(image, (str, Path)):
        return read_photograph(Path(image))
    if not hasattr(image, "ndim"):  # no array or tensor: of a palette numpy would take the indices for grey
        raise DataError(f"{name}: of type {type(image).__name__}: {WANTED}{PILLOW}")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"{name}: {pixels.dtype} of shape {pixels.shape}; {WANTED}")
    if not pixels.size:
        raise DataError(f"{name}: has no pixels (shape {pixels.shape})")
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2))
