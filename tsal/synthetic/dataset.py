"""Rendered clips of talking heads: real video's troubles, and the truth that real video lacks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import cv2
import numpy as np

from tsal.config import RenderConfig
from tsal.data import write_points
from tsal.synthetic.drawing import Buffer, expose, ground_truth_flow, is_hidden, rasterise, shade, surface_tracks
from tsal.synthetic.mesh import landmarks
from tsal.synthetic.scene import Scene, draw_scene, drift
from tsal.utils import lock_folder, read_arrays, remove_unfinished, tqdm

VERSION = 3  # of the renderer: raise it when its output changes
TRUTH = ("points", "visible", "tracks", "tracks_visible")  # what a clip's file of ground truth holds
SPLITS = {"labelled": 0, "unlabelled": 1, "val": 2}


@dataclass(frozen=True)
class RenderedClip:
    """A clip of T frames of S x S pixels, with its truth.

    Flow, where it was asked for, is between neighbouring frames: forward from pixels of frame t towards frame t + 1,
    backward from pixels of frame t + 1 towards frame t.
    """

    images: np.ndarray  # (T, S, S, 3) uint8 RGB
    points: np.ndarray  # (T, 68, 2) float32 px
    visible: np.ndarray  # (T, 68) bool: in the frame, not behind the head itself nor an occluder
    tracks: np.ndarray  # (T, N, 2) float32 px: points of head, background and occluder, the same in every frame
    tracks_visible: np.ndarray  # (T, N) bool, as ``visible``
    flow_forward: np.ndarray | None = None  # (T-1, 2, S, S) float32 px: pixel -> the same surface point
    flow_backward: np.ndarray | None = None  # (T-1, 2, S, S) float32 px
    occluded_forward: np.ndarray | None = None  # (T-1, S, S) bool: the pixel's point is hidden or outside there
    occluded_backward: np.ndarray | None = None  # (T-1, S, S) bool


def render_clip(seed, frames: int, side: int, *, flow: bool = True) -> RenderedClip:
    """Render one clip of its own identity; ``seed`` is anything ``np.random.default_rng`` takes. Same seed, same
    bytes. ``flow``: with the dense flow of neighbouring frames.
    """
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, frames, side)
    finer = 2
    fine = [rasterise(scene, t, side, finer) for t in range(frames)]
    points = np.stack([landmarks(v) for v in scene.projected])
    motion = np.gradient(points[..., :2].mean(1), axis=0) if frames > 1 else rng.normal(0, 2, (1, 2))
    images = [expose(rng, shade(scene, t, side, fine[t], finer), scene.light, motion[t]) for t in range(frames)]
    visible = [~is_hidden(points[t, :, :2], points[t, :, 2], fine[t], side) for t in range(frames)]
    tracks = surface_tracks(scene, fine, side, rng)
    flat = points[..., :2].astype(np.float32)
    dense = _dense_flow(scene, fine, side) if flow else {}
    return RenderedClip(np.stack(images), flat, np.stack(visible), *tracks, **dense)


def _dense_flow(scene: Scene, fine: list[Buffer], side: int) -> dict[str, np.ndarray]:
    """Flow and occlusion of neighbouring frames, by the names of :class:`RenderedClip`."""
    steps = range(len(fine) - 1)
    exact = [rasterise(scene, t, side, 1) for t in range(len(fine) if steps else 0)]
    ways = {
        "forward": [ground_truth_flow(scene, t, t + 1, exact[t], fine[t + 1]) for t in steps],
        "backward": [ground_truth_flow(scene, t + 1, t, exact[t + 1], fine[t]) for t in steps],
    }
    arrays = {}
    for way, pairs in ways.items():
        arrays[f"flow_{way}"] = np.array([flow for flow, _ in pairs], np.float32).reshape(-1, 2, side, side)
        arrays[f"occluded_{way}"] = np.array([hidden for _, hidden in pairs], bool).reshape(-1, side, side)
    return arrays


# --- files ---


def _detector_box(rng: np.random.Generator, points: np.ndarray, jitter: float) -> np.ndarray:
    """Tight boxes (T, 4) px of points (T, 68, 2), moved and resized by about ``jitter`` of their size, smoothly in
    time.
    """
    box = np.concatenate([points.min(1), points.max(1)], -1)
    size = np.tile(box[:, 2:] - box[:, :2], 2)
    return box + jitter * size * (0.6 * rng.normal(size=4) + 0.6 * drift(rng, len(points), 4))


def _write_clip(job: tuple[Path, RenderConfig, str, int]) -> tuple[str, int, list[str]]:
    """Render and write one clip or photograph below the root; returns the split, the index and the rows of its list.

    A row's annotation is always given here: the list of unlabelled clips drops it.
    """
    root, settings, split, index = job
    cv2.setNumThreads(1)
    key = [settings.seed, SPLITS[split], index]
    single = split == "labelled"
    clip = render_clip(np.random.SeedSequence(key), 1 if single else settings.frames, settings.side, flow=False)
    boxes = _detector_box(np.random.default_rng([*key, 1]), clip.points, 0.0 if single else 0.025)
    folder = split if single else f"{split}/{_name(split, index)}"
    truth = "truth" if split == "unlabelled" else "images"
    (root / "images" / folder).mkdir(parents=True, exist_ok=True)
    (root / truth / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for t, (image, points, box) in enumerate(zip(clip.images, clip.points, boxes)):
        stem = _name(split, index) if single else str(t)
        image_path, annotation = f"images/{folder}/{stem}.jpg", f"{truth}/{folder}/{stem}.pts"
        written = cv2.imwrite(
            str(root / image_path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92]
        )
        if not written:
            raise OSError(f"{root / image_path}: could not be written")
        write_points(root / annotation, points)
        rows.append(" ".join([image_path, annotation, *(f"{v:.2f}" for v in box)]))
    if not single:
        path = root / "ground_truth" / f"{folder}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(clip, name) for name in TRUTH}
        arrays["tracks"] = np.round(clip.tracks * 256) / np.float32(256)  # packs better, and errs by under 0.002 px
        np.savez_compressed(path, **arrays)
    return split, index, rows


def _name(split: str, index: int) -> str:
    return f"face-{index:04d}" if split == "labelled" else f"clip-{index:04d}"


def load_ground_truth(path) -> dict[str, np.ndarray]:
    """The truth of one clip: the arrays ``TRUTH`` of :class:`RenderedClip`."""
    return read_arrays(path)


def render_dataset(root: Path, settings: RenderConfig, *, workers: int | None = None, progress: bool = True) -> dict:
    """Render all clips into ``root``, with lists, annotations and oracles, and return the manifest.

    Nothing is done where ``root`` already holds the same; a former rendering with other settings is replaced as a
    whole.

    Raises:
        FileExistsError: ``root`` holds something else than a rendering.
    """
    root = Path(root)
    if manifest := _kept_rendering(root, settings):
        return manifest
    with lock_folder(root.parent, wait=True):  # runs of one profile share a rendering
        return _kept_rendering(root, settings) or _new_rendering(root, settings, workers, progress)


def _wanted(settings: RenderConfig) -> dict:
    return {"renderer": VERSION, "settings": asdict(settings)}


def _kept_rendering(root: Path, settings: RenderConfig) -> dict | None:
    """The manifest of a rendering with these settings, if it is in ``root``."""
    former = root / "manifest.json"
    if former.is_file():
        manifest, wanted = json.loads(former.read_text()), _wanted(settings)
        return manifest if {name: manifest.get(name) for name in wanted} == wanted else None
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root}: holds files but no rendering's manifest.json; name an empty or a new folder")
    return None


def _new_rendering(root: Path, settings: RenderConfig, workers: int | None, progress: bool) -> dict:
    """Render into a temporary folder, which takes the place of ``root`` when all is written."""
    counts = {"labelled": settings.labelled, "unlabelled": settings.clips, "val": settings.validation}
    remove_unfinished(root.parent, root.name)
    temporary, former = (root.parent / f".{root.name}.{os.getpid()}.tmp{end}" for end in ("", ".former"))
    temporary.mkdir(parents=True)
    try:
        jobs = [(temporary, settings, split, index) for split in SPLITS for index in range(counts[split])]
        rows = {(split, index): lines for split, index, lines in _all_written(jobs, workers, progress)}
        _write_lists(temporary / "lists", counts, rows)
        clips = [
            {
                "split": split,
                "name": _name(split, index),
                "seed": [settings.seed, SPLITS[split], index],
                "frames": len(lines),
            }
            for (split, index), lines in rows.items()
        ]
        manifest = {**_wanted(settings), "counts": counts, "clips": clips}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        if root.exists():
            os.replace(root, former)  # moved, not removed: a process killed meanwhile leaves no half of it there
        os.replace(temporary, root)
    finally:
        for folder in (temporary, former):
            shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _all_written(jobs: list, workers: int | None, progress: bool):
    """Results of all jobs, in the jobs' order, from a pool of processes (or this one, for one worker)."""
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    bar = tqdm(total=len(jobs), desc="rendering", unit="clip", file=sys.stderr, disable=not progress)
    with bar:
        if workers <= 1:
            for job in jobs:
                yield _write_clip(job)
                bar.update()
            return
        # Spawned, not forked: a forked child inherits the locks of the parent's torch and cv2 threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
            for result in pool.map(_write_clip, jobs):
                yield result
                bar.update()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""

    def wait() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _write_lists(folder: Path, counts: dict, rows: dict) -> None:
    folder.mkdir()
    lines = {split: [line for i in range(count) for line in rows[split, i]] for split, count in counts.items()}
    bare = [" ".join([image_path, "None", *box]) for image_path, _, *box in map(str.split, lines["unlabelled"])]
    lists = {
        "labelled": lines["labelled"],
        "unlabelled": bare,
        "unlabelled-truth": lines["unlabelled"],
        "val": lines["val"],
    }
    for name, content in lists.items():
        (folder / f"{name}.txt").write_text("".join(line + "\n" for line in content))
