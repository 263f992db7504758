"""Faces -> crops -> plain and augmented views."""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
import torch
from torch import Tensor

from tsal import geometry
from tsal.config import AugmentConfig
from tsal.data.crops import CropFolder, crop_key
from tsal.data.images import decode_image, read_image
from tsal.data.lists import Face
from tsal.data.points import read_points
from tsal.geometry import apply_affine, compose_affine, crop_affine, invert_affine
from tsal.schemes import Scheme
from tsal.utils import read_bytes

cv2.setNumThreads(1)  # crops are small and cut by threads of our own; OpenCV's would fight torch's for the cores

WARPED = 32766  # px: the longest side that warpAffine takes
CROP_MARGIN = 1.75  # side of a stored crop over the network's input: room for rotation, shift and scale


class FaceStore:
    """Decoded, anti-aliased crops around each face, kept in memory up to a bound (least recently used first out).

    With ``disk``, crops are kept there too where the image has more pixels than its crop. Of smaller ones (enlarged
    faces, the rendered clips) the crop would take more of the disk's bound than it saves: decoding and cutting take 0.2
    ms, not 1 ms.
    """

    def __init__(
        self, root: Path, scheme: Scheme, side: int, box_scale: float, cache_mb: int, disk: CropFolder | None = None
    ):
        self.root, self.scheme, self.side, self.box_scale, self.disk = Path(root), scheme, side, box_scale, disk
        self._limit, self._size = cache_mb * 2**20, 0
        self._crops: OrderedDict[Face, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._points: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = Lock()
        self._code = _cutting_code() if disk else ""

    def crop(self, face: Face) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 (C, C, 3), not to be written to, and the affine (2, 3) from the image's pixels to the crop's."""
        with self._lock:
            if face in self._crops:
                self._crops.move_to_end(face)
                return self._crops[face]
        side = round(self.side * CROP_MARGIN)
        box_scale = self.box_scale * (side - 1) / (self.side - 1)
        entry = self._make_crop(face, side, box_scale), crop_affine(face.box, side, box_scale)
        with self._lock:
            if face not in self._crops:
                self._crops[face] = entry
                self._size += entry[0].nbytes
                while self._size > self._limit and len(self._crops) > 1:
                    self._size -= self._crops.popitem(last=False)[1][0].nbytes
        return entry

    def _make_crop(self, face: Face, side: int, box_scale: float) -> np.ndarray:
        """From the disk, or cut."""
        path, content = self.root / face.image, b""
        if self.disk:
            with suppress(OSError):
                content = read_bytes(path)
        if not content:
            return cut_crop(read_image(path), face.box, side, box_scale)
        key = crop_key(content, self._code, tuple(map(float, face.box)), side, float(box_scale))
        crop = self.disk.read(key, (side, side, 3))
        if crop is None:
            image = decode_image(content)
            if image is None:
                return cut_crop(read_image(path), face.box, side, box_scale)  # which says what is wrong
            crop = cut_crop(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), face.box, side, box_scale)
            if image.size > crop.size:
                self.disk.write(key, crop)
        return crop

    def points(self, face: Face) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks (K, 2) px of the image and visibility (K,); NaN and False for a face without labels."""
        if face.annotation is None:
            return np.full((self.scheme.points, 2), np.nan, np.float32), np.zeros(self.scheme.points, bool)
        if face.annotation not in self._points:
            scheme = self.scheme
            self._points[face.annotation] = read_points(self.root / face.annotation, scheme.points, scheme.also_read)
        return self._points[face.annotation]

    def view(self, face: Face, affine: np.ndarray) -> np.ndarray:
        """The input image (S, S, 3) uint8 that ``affine`` (image px -> input px) asks for."""
        return cut_view(self.crop(face), affine, self.side)


def cut_view(entry: tuple[np.ndarray, np.ndarray], affine: np.ndarray, side: int) -> np.ndarray:
    """The image (side, side, 3) that ``affine`` (image px -> its px) asks for, from a crop and its affine."""
    crop, to_crop = entry
    step = compose_affine(affine, invert_affine(to_crop))
    return cv2.warpAffine(crop, step, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _cutting_code() -> str:
    """What changes when the code or the library that decodes and cuts does: kept crops of another code are not looked
    at.
    """
    parts = (inspect.getsource(cut_crop), inspect.getsource(geometry), cv2.__version__, cv2.getCPUFeaturesLine())
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def cut_crop(image: np.ndarray, box, side: int, box_scale: float) -> np.ndarray:
    """Crop by a box; first shrunk by area where the image is larger than needed, so that nothing aliases."""
    affine = crop_affine(box, side, box_scale)
    zoom = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    shrink = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    shrunk = zoom if zoom < 0.75 else 1.0
    if shrunk < 1 or max(image.shape[:2]) > WARPED:
        # cut the part that is needed before shrinking it
        corners = apply_affine(invert_affine(affine), np.array([[0.0, 0], [side - 1, side - 1]]))
        x1, y1 = np.clip(np.floor(corners[0]).astype(int) - 2, 0, [image.shape[1] - 1, image.shape[0] - 1])
        x2, y2 = np.maximum(np.ceil(corners[1]).astype(int) + 3, [x1 + 1, y1 + 1])
        image = image[y1:y2, x1:x2]
        width, height = max(1, round(image.shape[1] * shrunk)), max(1, round(image.shape[0] * shrunk))
        kx, ky = width / image.shape[1], height / image.shape[0]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        shrink = np.array([[kx, 0, (0.5 - x1) * kx - 0.5], [0, ky, (0.5 - y1) * ky - 0.5]])
    step = compose_affine(affine, invert_affine(shrink))
    return cv2.warpAffine(image, step, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def clip_box(faces: Sequence[Face]) -> tuple[float, ...]:
    """The one box of a clip: the mean of its frames' boxes."""
    return tuple(np.mean([face.box for face in faces], axis=0))


def plain_affine(faces: Sequence[Face], side: int, box_scale: float) -> np.ndarray:
    """The crop without augmentation, for one face or for all frames of a clip."""
    return crop_affine(clip_box(faces), side, box_scale)


def random_affine(
    box, side: int, augment: AugmentConfig, rng: np.random.Generator, share: float, flip: bool
) -> np.ndarray:
    """An augmented crop; ``share`` in [0, 1] is how much of the configured ranges it draws from."""
    spread = rng.uniform(-1, 1, 4) * share
    scale = 1 + augment.scale * spread[0]
    return crop_affine(
        box,
        side,
        augment.box_scale,
        scale=scale,
        rotation=augment.rotation * spread[1],
        shift=augment.shift * spread[2:],
        flip=flip,
    )


def beyond_crop(augment: AugmentConfig, side: int) -> float:
    """Share, of 200 draws, of augmented views with more than 1 % of their pixels beyond the stored crop, where they
    repeat its border.
    """
    rng, box, lost = np.random.default_rng(0), (0.0, 0.0, 1.0, 1.0), []
    line, middle, reach = np.linspace(0, side - 1, 32), (side - 1) / 2, (round(side * CROP_MARGIN) - 1) / 2
    pixels = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    to_plain = crop_affine(box, side, augment.box_scale)  # the stored crop is this one, continued to every side
    share = max(1.0, augment.weak_geometry, augment.strong_geometry)
    for _ in range(200):
        view = random_affine(box, side, augment, rng, share, False)
        places = apply_affine(compose_affine(to_plain, invert_affine(view)), pixels)
        lost.append((np.abs(places - middle) > reach).any(-1).mean())
    return float(np.mean(np.array(lost) > 0.01))


def stack_images(images: Sequence[np.ndarray], side: int) -> Tensor:
    stacked = np.stack(images) if images else np.empty((0, side, side, 3), np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def stack_numbers(values: Sequence, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32).reshape(-1, *shape))


def plain_views(store: FaceStore, groups: Sequence[Sequence[Face]]) -> tuple[Tensor, np.ndarray]:
    """Crops without augmentation, one box a group: images (N, 3, S, S) uint8 and affines (N, 2, 3) image px -> input
    px.
    """
    affines = [plain_affine(faces, store.side, store.box_scale) for faces in groups for _ in faces]
    faces = [face for group in groups for face in group]
    images = [store.view(face, affine) for face, affine in zip(faces, affines)]
    return stack_images(images, store.side), np.array(affines).reshape(-1, 2, 3)
