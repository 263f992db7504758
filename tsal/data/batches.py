"""Batches of training views.

A batch is a pure function of (lists, config, seed, step): it does not depend on the number of threads, and a resumed
run sees the batches that it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from tsal.config import AugmentConfig
from tsal.data.lists import Clip, Face
from tsal.data.pairs import FramePairs, frame_pairs
from tsal.data.views import FaceStore, clip_box, cut_view, random_affine, stack_images, stack_numbers
from tsal.geometry import apply_affine, compose_affine, invert_affine


@dataclass(frozen=True)
class Part:
    """Which images of a step's whole batch one process has: ``rows`` of ``whole`` images."""

    rows: tuple[int, ...]
    whole: int


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
    following: Tensor  # (P,) long, into U: a later frame of the same clip, at most ``window`` frames after ``previous``
    seed: int  # of this step's noise
    labelled_part: Part  # the L among the labelled faces of all processes
    unlabelled_part: Part  # the U among the unlabelled frames of all processes
    faces: tuple[str, ...] = ()  # rows of the lists and their images, of all processes: to say which batch it was
    pairs: FramePairs | None = None  # P, with the way to the weak view: where a tracker is needed
    truth: Tensor | None = None  # (U, K, 2) px of the weak view, NaN where not known: for measuring, never learned from

    def to(self, device: torch.device) -> Batch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: v.to(device, non_blocking=True) for n, v in moved.items() if hasattr(v, "to")})


@dataclass(frozen=True)
class PointPairs:
    """P pairs of frames, and N points whose places in both are known; px of the crop."""

    first: Tensor  # (P, 3, S, S) uint8
    second: Tensor  # (P, 3, S, S) uint8
    points: Tensor  # (P, N, 2) px in the first frame
    moved: Tensor  # (P, N, 2) px in the second frame
    seen_first: Tensor  # (P, N) bool: the point is visible in the first frame, and in the crop
    seen_second: Tensor  # (P, N) bool: in the second
    seed: int  # of this step's noise
    faces: tuple[str, ...] = ()  # rows of the lists and their images

    def to(self, device: torch.device) -> PointPairs:
        moved = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("seed", "faces")}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in moved.items()})


def positions(count: int, seed: int, start: int, size: int) -> np.ndarray:
    """``size`` indices below ``count`` from position ``start`` of an endless walk: a new permutation each epoch."""
    where = np.arange(start, start + size)
    out = np.empty(size, int)
    for epoch in np.unique(where // count):
        order = np.random.default_rng([seed, int(epoch)]).permutation(count)
        in_epoch = where // count == epoch
        out[in_epoch] = order[where[in_epoch] % count]
    return out


def neighbours(places: Iterable[int], window: int) -> tuple[Tensor, Tensor]:
    """All pairs of frames of one clip that are at most ``window`` apart: indices (P,) of the earlier and of the later
    ones.

    Args:
        places: of each frame in its clip: 0, 1, 2, ... anew for each.
    """
    pairs = [(i - gap, i) for i, place in enumerate(places) for gap in range(1, min(window, place) + 1)]
    earlier, later = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
    return earlier, later


class BatchMaker:
    """Training batches by step; of several processes, each cuts its own faces and clips of the one batch."""

    def __init__(
        self,
        store: FaceStore,
        labelled: Sequence[Face],
        clips: Sequence[Clip],
        single_images: Sequence[Clip],
        augment: AugmentConfig,
        *,
        seed: int,
        sizes: tuple[int, int, int],  # labelled faces, clips, photographs a step
        frames: int,
        window: int = 1,  # frames that the two of a pair are apart, at most
        pairs: bool = False,  # with the pairs of frames that a frozen tracker sees
        share: tuple[int, int] = (0, 1),  # number of this process, of how many
        truth: Mapping[tuple, str] | None = None,  # of unlabelled faces, as FaceLists.truth: for measuring
    ):
        self.truth, self.window, self.pairs, self.share = truth or {}, window, pairs, share
        self.store, self.augment, self.seed, self.sizes, self.frames = store, augment, seed, sizes, frames
        self.labelled, self.clips, self.single_images = labelled, clips, single_images

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        chosen = [
            positions(len(pool), self.seed + 7919 * stream, step * size, size)
            if len(pool) and size
            else np.empty(0, int)
            for stream, (pool, size) in enumerate(zip((self.labelled, self.clips, self.single_images), self.sizes))
        ]
        faces = [self._place(self.labelled[i], rng) for i in chosen[0]]
        groups = [self._window(i, rng) for i in chosen[1]] + [self.single_images[i].faces for i in chosen[2]]
        clips = [self._place_clip(number, group, rng) for number, group in enumerate(groups)]
        first, step_by = self.share
        ends = np.cumsum([0] + [len(group) for group in groups])
        rows = tuple(
            row for start, end in zip(ends[:-1][first::step_by], ends[1:][first::step_by]) for row in range(start, end)
        )
        return self._stack(
            [self._labelled(*placed) for placed in faces[first::step_by]],
            [frame for placed in clips[first::step_by] for frame in self._unlabelled(*placed)],
            seed=int(rng.integers(2**31)),
            labelled_part=Part(tuple(range(len(faces)))[first::step_by], len(faces)),
            unlabelled_part=Part(rows, int(ends[-1])),
            faces=tuple(
                f"{face.where} {face.image}"
                for face in [*(placed[0] for placed in faces), *(face for group in groups for face in group)]
            ),
        )

    def _window(self, clip: int, rng: np.random.Generator) -> tuple[Face, ...]:
        """Frames of a clip that follow one another."""
        faces = self.clips[clip].faces
        start = int(rng.integers(max(1, len(faces) - self.frames + 1)))
        return faces[start : start + self.frames]

    def _place(self, face: Face, rng: np.random.Generator) -> tuple[Face, np.ndarray, bool]:
        """A labelled face, the affine of its view, and whether that is mirrored."""
        flip = self.store.scheme.can_flip and rng.random() < self.augment.flip
        return face, random_affine(face.box, self.store.side, self.augment, rng, 1.0, flip), flip

    def _labelled(self, face: Face, affine: np.ndarray, flip: bool) -> tuple:
        points, visible = self.store.points(face)
        points = apply_affine(affine, points)
        if flip:
            points, visible = points[list(self.store.scheme.flip)], visible[list(self.store.scheme.flip)]
        return self.store.view(face, affine), points, visible

    def _place_clip(self, number: int, faces: Sequence[Face], rng: np.random.Generator) -> tuple:
        """Frames of one clip, the affines of their weak and strong views, and whether the strong one is mirrored."""
        box, side = clip_box(faces), self.store.side
        weak = random_affine(box, side, self.augment, rng, self.augment.weak_geometry, False)
        flip = bool(self.store.scheme.can_flip and rng.random() < self.augment.flip)
        return (
            number,
            faces,
            weak,
            random_affine(box, side, self.augment, rng, self.augment.strong_geometry, flip),
            flip,
        )

    def _unlabelled(
        self, number: int, faces: Sequence[Face], weak: np.ndarray, strong: np.ndarray, flip: bool
    ) -> Iterator[tuple]:
        side = self.store.side
        step = compose_affine(strong, invert_affine(weak))
        zoom = np.sqrt(abs(np.linalg.det(weak[:, :2])))
        for place, face in enumerate(faces):
            x1, y1, x2, y2 = face.box
            size = zoom * np.sqrt((x2 - x1) * (y2 - y1))
            crop = self.store.crop(face)  # once: a small cache would have lost it to another thread by the second view
            views = cut_view(crop, weak, side), cut_view(crop, strong, side)
            yield *views, step, flip, size, number, place, self._truth(face, weak), face, weak

    def _truth(self, face: Face, affine: np.ndarray) -> np.ndarray:
        """Landmarks (K, 2) px of the view, NaN where they are hidden or not known."""
        points, visible = self.store.points(replace(face, annotation=self.truth.get((face.image, face.box))))
        return np.where(visible[:, None], apply_affine(affine, points), np.nan)

    def _stack(self, labelled: list[tuple], unlabelled: list[tuple], **more: int | Part | tuple[str, ...]) -> Batch:
        side, count = self.store.side, self.store.scheme.points
        images, points, visible = zip(*labelled) if labelled else ((), (), ())
        weak, strong, step, flip, size, clip, place, truth, faces, affine = (
            zip(*unlabelled) if unlabelled else ((),) * 10
        )
        previous, following = neighbours(place, self.window)
        pairs = ((faces[i], faces[j], affine[j]) for i, j in zip(previous.tolist(), following.tolist()))
        return Batch(
            labelled=stack_images(images, side),
            points=stack_numbers(points, (count, 2)),
            visible=torch.as_tensor(np.array(visible, bool).reshape(-1, count)),
            weak=stack_images(weak, side),
            strong=stack_images(strong, side),
            to_strong=stack_numbers(step, (2, 3)),
            flipped=torch.tensor(flip, dtype=torch.bool),
            size=stack_numbers(size, ()),
            clip=torch.tensor(clip, dtype=torch.long),
            previous=previous,
            following=following,
            **more,
            pairs=frame_pairs(self.store, pairs) if self.pairs else None,
            truth=stack_numbers(truth, (count, 2)) if self.truth else None,
        )


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
