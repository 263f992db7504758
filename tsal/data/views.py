"""Faces -> crops -> batches of training views.

A batch is a pure function of (lists, config, seed, step): it does not depend on the number of threads, and a resumed run sees
the batches that it would have seen.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Callable, Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from tsal import geometry
from tsal.config import AugmentConfig
from tsal.data.crops import CropFolder, crop_key
from tsal.data.lists import Clip, Face, read_points
from tsal.data.pictures import read_image
from tsal.geometry import apply_affine, compose_affine, crop_affine, invert_affine
from tsal.schemes import Scheme

cv2.setNumThreads(1)  # crops are small and cut by threads of our own; OpenCV's would fight torch's for the cores

CROP_MARGIN = 1.75  # side of a stored crop over the network's input: room for rotation, shift and scale


class FaceStore:
    """Decoded, anti-aliased crops around each face, kept in memory up to a bound (least recently used first out).

    With ``disk``, crops are kept there too where the picture has more pixels than its crop. Of smaller ones (enlarged faces, the
    rendered clips) the crop would take more of the disk's bound than it saves: decoding and cutting take 0.2 ms, not 1 ms.
    """

    def __init__(self, root: Path, scheme: Scheme, side: int, expand: float, cache_mb: int, disk: CropFolder | None = None):
        self.root, self.scheme, self.side, self.expand, self.disk = Path(root), scheme, side, expand, disk
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
        expand = self.expand * (side - 1) / (self.side - 1)
        entry = self._make_crop(face, side, expand), crop_affine(face.box, side, expand)
        with self._lock:
            if face not in self._crops:
                self._crops[face] = entry
                self._size += entry[0].nbytes
                while self._size > self._limit and len(self._crops) > 1:
                    self._size -= self._crops.popitem(last=False)[1][0].nbytes
        return entry

    def _make_crop(self, face: Face, side: int, expand: float) -> np.ndarray:
        """From the disk, or cut."""
        path, content = self.root / face.image, b""
        if self.disk:
            with suppress(OSError):
                content = path.read_bytes()
        if not content:
            return cut_crop(read_image(path), face.box, side, expand)
        key = crop_key(content, self._code, tuple(map(float, face.box)), side, float(expand))
        crop = self.disk.read(key, (side, side, 3))
        if crop is None:
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            if picture is None:
                return cut_crop(read_image(path), face.box, side, expand)  # which says what is wrong
            crop = cut_crop(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), face.box, side, expand)
            if picture.size > crop.size:
                self.disk.write(key, crop)
        return crop

    def points(self, face: Face) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks (K, 2) px of the image and visibility (K,); NaN and False for a face without labels."""
        if face.annotation is None:
            return np.full((self.scheme.points, 2), np.nan, np.float32), np.zeros(self.scheme.points, bool)
        if face.annotation not in self._points:
            self._points[face.annotation] = read_points(self.root / face.annotation, self.scheme.points)
        return self._points[face.annotation]

    def view(self, face: Face, affine: np.ndarray) -> np.ndarray:
        """The input picture (S, S, 3) uint8 that ``affine`` (image px -> input px) asks for."""
        return _view(self.crop(face), affine, self.side)


def _view(entry: tuple[np.ndarray, np.ndarray], affine: np.ndarray, side: int) -> np.ndarray:
    """The picture (side, side, 3) that ``affine`` (image px -> its px) asks for, from a crop and its affine."""
    crop, to_crop = entry
    step = compose_affine(affine, invert_affine(to_crop))
    return cv2.warpAffine(crop, step, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _cutting_code() -> str:
    """What changes when the code or the library that decodes and cuts does: kept crops of another code are not looked at."""
    parts = (inspect.getsource(cut_crop), inspect.getsource(geometry), cv2.__version__, cv2.getCPUFeaturesLine())
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def cut_crop(image: np.ndarray, box, side: int, expand: float) -> np.ndarray:
    """Crop by a box; first shrunk by area where the picture is larger than needed, so that nothing aliases."""
    affine = crop_affine(box, side, expand)
    zoom = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    shrink = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    if zoom < 0.75:
        # cut the part that is needed before shrinking it
        corners = apply_affine(invert_affine(affine), np.array([[0.0, 0], [side - 1, side - 1]]))
        x1, y1 = np.clip(np.floor(corners[0]).astype(int) - 2, 0, [image.shape[1] - 1, image.shape[0] - 1])
        x2, y2 = np.maximum(np.ceil(corners[1]).astype(int) + 3, [x1 + 1, y1 + 1])
        image = image[y1:y2, x1:x2]
        width, height = max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom))
        kx, ky = width / image.shape[1], height / image.shape[0]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        shrink = np.array([[kx, 0, (0.5 - x1) * kx - 0.5], [0, ky, (0.5 - y1) * ky - 0.5]])
    step = compose_affine(affine, invert_affine(shrink))
    return cv2.warpAffine(image, step, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def clip_box(faces: Sequence[Face]) -> tuple[float, ...]:
    """The one box of a clip: the mean of its frames' boxes."""
    return tuple(np.mean([face.box for face in faces], axis=0))


def plain_affine(faces: Sequence[Face], side: int, expand: float) -> np.ndarray:
    """The crop without augmentation, for one face or for all frames of a clip."""
    return crop_affine(clip_box(faces), side, expand)


def random_affine(box, side: int, augment: AugmentConfig, rng: np.random.Generator, share: float, flip: bool) -> np.ndarray:
    """An augmented crop; ``share`` in [0, 1] is how much of the configured ranges it draws from."""
    spread = rng.uniform(-1, 1, 4) * share
    scale = 1 + augment.scale * spread[0]
    return crop_affine(
        box, side, augment.expand, scale=scale, rotation=augment.rotation * spread[1], shift=augment.shift * spread[2:], flip=flip
    )


@dataclass
class Batch:
    """One step's faces: L labelled ones, and U frames of unlabelled clips and photographs. All px are of the input."""

    labelled: Tensor  # (L, 3, S, S) uint8
    points: Tensor  # (L, K, 2) px
    visible: Tensor  # (L, K) bool
    weak: Tensor  # (U, 3, S, S) uint8: the view that targets are made on
    strong: Tensor  # (U, 3, S, S) uint8: the student's view
    to_strong: Tensor  # (U, 2, 3): weak px -> strong px
    flipped: Tensor  # (U,) bool: strong is mirrored against weak
    size: Tensor  # (U,) px: face size in the weak view
    clip: Tensor  # (U,) long
    previous: Tensor  # (P,) long, into U
    following: Tensor  # (P,) long, into U: the frame after ``previous``
    pair: Tensor  # (P,) long: which two frames of which window of the data
    seed: int  # of this step's noise
    truth: Tensor | None = None  # (U, K, 2) px of the weak view, NaN where not known: for measuring, never learned from

    def to(self, device: torch.device) -> "Batch":
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: v.to(device, non_blocking=True) for n, v in moved.items() if isinstance(v, Tensor)})


def positions(count: int, seed: int, start: int, size: int) -> np.ndarray:
    """``size`` indices below ``count`` from position ``start`` of an endless walk that is a new permutation each epoch."""
    where = np.arange(start, start + size)
    out = np.empty(size, int)
    for epoch in np.unique(where // count):
        order = np.random.default_rng([seed, int(epoch)]).permutation(count)
        mine = where // count == epoch
        out[mine] = order[where[mine] % count]
    return out


class BatchMaker:
    """Training batches by step."""

    def __init__(
        self,
        store: FaceStore,
        labelled: Sequence[Face],
        clips: Sequence[Clip],
        photographs: Sequence[Clip],
        augment: AugmentConfig,
        *,
        seed: int,
        sizes: tuple[int, int, int],  # labelled faces, clips, photographs a step
        frames: int,
        truth: Mapping[str, str] | None = None,  # image -> annotation of unlabelled faces, for measuring
    ):
        self.truth = truth or {}
        self.store, self.augment, self.seed, self.sizes, self.frames = store, augment, seed, sizes, frames
        self.labelled, self.clips, self.photographs = labelled, clips, photographs
        self._first = np.cumsum([0] + [len(clip.faces) for clip in clips])  # number of each clip's first frame

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        chosen = [
            positions(len(pool), self.seed + 7919 * stream, step * size, size) if len(pool) and size else np.empty(0, int)
            for stream, (pool, size) in enumerate(zip((self.labelled, self.clips, self.photographs), self.sizes))
        ]
        faces = [self.labelled[i] for i in chosen[0]]
        labelled = [self._labelled(face, rng) for face in faces]
        groups = [self._window(i, rng) for i in chosen[1]] + [(self.photographs[i].faces, 0) for i in chosen[2]]
        unlabelled = [frame for number, group in enumerate(groups) for frame in self._unlabelled(number, *group, rng)]
        return self._stack(labelled, unlabelled, int(rng.integers(2**31)))

    def _window(self, clip: int, rng: np.random.Generator) -> tuple[tuple[Face, ...], int]:
        """Frames of a clip that follow one another, and which window of the data it is."""
        faces = self.clips[clip].faces
        start = int(rng.integers(max(1, len(faces) - self.frames + 1)))
        return faces[start : start + self.frames], int(self._first[clip]) + start

    def _labelled(self, face: Face, rng: np.random.Generator) -> tuple:
        flip = self.store.scheme.can_flip and rng.random() < self.augment.flip
        affine = random_affine(face.box, self.store.side, self.augment, rng, 1.0, flip)
        points, visible = self.store.points(face)
        points = apply_affine(affine, points)
        if flip:
            points, visible = points[list(self.store.scheme.flip)], visible[list(self.store.scheme.flip)]
        return self.store.view(face, affine), points, visible

    def _unlabelled(self, number: int, faces: Sequence[Face], window: int, rng: np.random.Generator) -> Iterator[tuple]:
        box = clip_box(faces)
        weak = random_affine(box, self.store.side, self.augment, rng, self.augment.weak, False)
        flip = bool(self.store.scheme.can_flip and rng.random() < self.augment.flip)
        strong = random_affine(box, self.store.side, self.augment, rng, self.augment.strong, flip)
        step = compose_affine(strong, invert_affine(weak))
        zoom = np.sqrt(abs(np.linalg.det(weak[:, :2])))
        for place, face in enumerate(faces):
            x1, y1, x2, y2 = face.box
            size = zoom * np.sqrt((x2 - x1) * (y2 - y1))
            crop = self.store.crop(face)  # once: a small cache would have lost it to another thread by the second view
            views = _view(crop, weak, self.store.side), _view(crop, strong, self.store.side)
            yield *views, step, flip, size, number, place, window * self.frames + place, self._truth(face, weak)

    def _truth(self, face: Face, affine: np.ndarray) -> np.ndarray:
        """Landmarks (K, 2) px of the view, NaN where they are hidden or not known."""
        points, visible = self.store.points(replace(face, annotation=self.truth.get(face.image)))
        return np.where(visible[:, None], apply_affine(affine, points), np.nan)

    def _stack(self, labelled: list[tuple], unlabelled: list[tuple], seed: int) -> Batch:
        side, count = self.store.side, self.store.scheme.points
        images, points, visible = zip(*labelled) if labelled else ((), (), ())
        weak, strong, step, flip, size, clip, place, pair, truth = zip(*unlabelled) if unlabelled else ((),) * 9
        following = [i for i, p in enumerate(place) if p > 0]
        return Batch(
            labelled=_pictures(images, side),
            points=_numbers(points, (count, 2)),
            visible=torch.as_tensor(np.array(visible, bool).reshape(-1, count)),
            weak=_pictures(weak, side),
            strong=_pictures(strong, side),
            to_strong=_numbers(step, (2, 3)),
            flipped=torch.tensor(flip, dtype=torch.bool),
            size=_numbers(size, ()),
            clip=torch.tensor(clip, dtype=torch.long),
            previous=torch.tensor(following, dtype=torch.long) - 1,
            following=torch.tensor(following, dtype=torch.long),
            pair=torch.tensor([pair[i] for i in following], dtype=torch.long),
            seed=seed,
            truth=_numbers(truth, (count, 2)) if self.truth else None,
        )


def _pictures(images: Sequence[np.ndarray], side: int) -> Tensor:
    stacked = np.stack(images) if images else np.empty((0, side, side, 3), np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def _numbers(values: Sequence, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32).reshape(-1, *shape))


def plain_views(store: FaceStore, groups: Sequence[Sequence[Face]]) -> tuple[Tensor, np.ndarray]:
    """Crops without augmentation, one box a group: pictures (N, 3, S, S) uint8 and affines (N, 2, 3) image px -> input px."""
    affines = [plain_affine(faces, store.side, store.expand) for faces in groups for _ in faces]
    faces = [face for group in groups for face in group]
    images = [store.view(face, affine) for face, affine in zip(faces, affines)]
    return _pictures(images, store.side), np.array(affines).reshape(-1, 2, 3)


def prefetch(make: Callable[[int], object], steps: Iterable[int], workers: int) -> Iterator[object]:
    """make(step) for each step, in order, worked out ahead by threads."""
    if workers < 1:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(make, step))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
