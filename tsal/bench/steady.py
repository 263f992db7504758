"""How steady a detector's landmarks are in video: frame by frame, filtered in time, and carried along the flow.

``python -m tsal.bench.steady --weights W [--realdata DIR] [--rendered-weights W]`` prints one Markdown table for each
kind of clips, and keeps it. Real faces are found and followed as ``track`` does. Filters see every frame of a face's
track; what is measured leaves frames out that repeat the one before. The measures are those of :mod:`tsal.evaluation`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from tsal.bench.following import dense_val
from tsal.bench.speed import machine
from tsal.config import Config, RenderConfig
from tsal.data import Face, FaceStore, group_clips, read_list
from tsal.evaluation import flow_difference, follows, metrics_rows, predict, read_ground_truth
from tsal.faces import gaussian_lines, read_frames
from tsal.inference import CropDetector, follow_faces, steady
from tsal.model_files import load_model
from tsal.synthetic import render_dataset
from tsal.utils import InputError, describe_environment, markdown_table, use_free_cores, write_text

OUT = Path("docs") / "results" / "steady" / "steady.md"
# heads that no training with the default render.seed saw, and that nothing of steady was chosen on
RENDERED = RenderConfig(labelled=1, clips=1, validation=10, frames=24, seed=2)
FLOW_INPUT, FLOW_SCALE = Config().model.input, Config().augment.box_scale  # flow is measured alike for every detector
LAG = (
    "Lag is read relative to the first row. Landmarks found frame by frame use no other frame, so they are neither "
    "early nor late: what they have is an offset of the measure."
)
Filter = Callable[[np.ndarray, np.ndarray, "Track"], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Track:
    """One face in T frames that follow one another, without a cut; their images lie in a folder."""

    faces: list[Face]
    interval: float  # ms
    repeats: frozenset[int] = frozenset()  # places in the track


# --- filters in time ---


def one_euro(values: np.ndarray, interval: float, cutoff: float, beta: float) -> np.ndarray:
    """The one-euro filter (Casiez, Roussel, Vogel: CHI 2012) of values (T, ...), frame by frame: no later one is used.

    Args:
        interval: seconds between frames.
        cutoff: Hz, of what does not move.
        beta: Hz more for each unit a second.
    """

    def share(frequency: np.ndarray | float) -> np.ndarray | float:
        return 1 / (1 + 1 / (2 * np.pi * frequency * interval))

    out, speed = [values[0].astype(float)], np.zeros_like(values[0], float)
    for before, value in zip(values, values[1:]):
        speed += share(1.0) * ((value - before) / interval - speed)
        out.append(out[-1] + share(cutoff + beta * np.abs(speed)) * (value - out[-1]))
    return np.stack(out)


def gaussian(sigma: float) -> Filter:
    """``track --smooth``: a Gaussian of ``sigma`` frames that weighs lines."""

    def smoothed(points: np.ndarray, _: np.ndarray, track: Track) -> np.ndarray:
        flat = points.reshape(len(points), -1).astype(float)
        return gaussian_lines(flat, sigma).reshape(points.shape) if len(flat) > 2 else points

    return smoothed


def euro(cutoff: float, beta: float) -> Filter:
    """:func:`one_euro` of points in units of the face, the median root of its box's area."""

    def smoothed(points: np.ndarray, _: np.ndarray, track: Track) -> np.ndarray:
        boxes = np.array([face.box for face in track.faces])
        size = float(np.median(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))))
        return one_euro(points / size, track.interval / 1000, cutoff, beta) * size

    return smoothed


def along_flow(root: Path, device: torch.device, trusted: bool = True, **options: int) -> Filter:
    """:func:`tsal.steady`."""

    def fused(points: np.ndarray, scores: np.ndarray, track: Track) -> np.ndarray:
        frames = [cv2.imread(str(root / face.image))[..., ::-1] for face in track.faces]
        marks = {"cuts": (), "repeats": track.repeats}
        return steady(points, scores if trusted else None, frames, device=device, **marks, **options)

    return fused


def filters(root: Path, device: torch.device) -> dict[str, Filter]:
    """What is compared, by name."""
    return {
        "frame by frame": lambda points, *_: points,
        "Gaussian, sigma 0.5 frames": gaussian(0.5),
        "Gaussian, sigma 1 frame": gaussian(1),
        "Gaussian, sigma 2 frames": gaussian(2),
        "one-euro, 3 Hz, beta 30": euro(3, 30),
        "one-euro, 1 Hz, beta 10": euro(1, 10),
        "steady": along_flow(root, device),
        "steady, window 2": along_flow(root, device, window=2),
        "steady, lag 0": along_flow(root, device, lag=0),
    }


# --- clips ---


def real_tracks(realdata: Path, root: Path, most: int, detector: CropDetector) -> Iterator[Track]:
    """The longest face of each val clip of ``dense/clips.csv``, its frames written below ``root``."""
    for name in (row["file"] for row in dense_val(realdata)):
        path = realdata / "dense" / name
        followed = follow_faces(path, detector, progress=False)
        if not followed.tracks:
            raise InputError(f"{path}: no face is found in it")
        track = max(followed.tracks, key=lambda each: len(each.boxes))
        end, folder = track.first + min(most, len(track.boxes)), Path(name).with_suffix("")
        (root / folder).mkdir(parents=True)
        for number, _, image in read_frames(path):
            if number >= end:
                break
            if number >= track.first:
                cv2.imwrite(str(root / folder / f"{number - track.first}.png"), image)
        yield Track(
            [
                Face(f"{folder}/{place}.png", None, tuple(box), None, "val clips", place + 1)
                for place, box in enumerate(track.boxes[: end - track.first])
            ],
            float(np.median(np.diff(followed.times))),
            frozenset(n - track.first for n in followed.repeats if track.first < n < end),
        )


def rendered_tracks(root: Path, settings: RenderConfig) -> list[Track]:
    render_dataset(root, settings, progress=False)
    clips = group_clips(read_list(root / "lists" / "val.txt", label="rendered"))
    return [Track(list(clip.faces), 40.0) for clip in clips]


# --- measuring ---


def measure(weights: Path, root: Path, tracks: Sequence[Track], device: torch.device) -> list[dict]:
    """The detector's landmarks in all tracks -> a row of metrics for each filter, with ``frames/s`` of the filter."""
    detector, config, scheme = load_model(weights, device=device)
    store = FaceStore(root, scheme, config.model.input, config.augment.box_scale, config.data.cache_mb)
    ends = np.cumsum([len(track.faces) for track in tracks])[:-1]

    faces = [face for track in tracks for face in track.faces]
    points, scores = predict(detector, store, faces, device, progress="landmarks")["heatmap"]
    parts = list(zip(np.split(points, ends), np.split(scores, ends), tracks))
    by_filter, speeds = {}, {}
    for name, apply in filters(root, device).items():
        print(f"{len(faces)} frames: {name}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        by_filter[name] = np.concatenate([apply(*part) for part in parts]).astype(np.float32)
        speeds[name] = len(faces) / (time.perf_counter() - started)
    # numbered anew without the repeats: those that are left follow one another
    kept = np.array([place not in track.repeats for track in tracks for place in range(len(track.faces))])
    names = [f"{t}/{n}.png" for t, track in enumerate(tracks) for n in range(len(track.faces) - len(track.repeats))]
    faces = [face for face, keep in zip(faces, kept) if keep]
    truth = read_ground_truth(store, faces, "ocular" if faces[0].annotation else "box", scheme)
    table = {
        "list": truth.list_name,
        "path": np.array(names),
        "box": truth.box,
        "truth": truth.points,
        "visible": truth.visible,
        "norm_px": truth.norm_px,
        "degenerate": truth.degenerate,
        "models": np.array(["detector"]),
        "sources": np.array(list(by_filter)),
        "points": np.stack([filtered[kept] for filtered in by_filter.values()])[None],
    }
    view = FaceStore(root, scheme, FLOW_INPUT, FLOW_SCALE, config.data.cache_mb)
    table["flow_difference"] = flow_difference(view, faces, table["points"], follows(table), progress="flow")
    rows = metrics_rows(table)
    return [row | {"frames/s": speeds[row["source"]], "clips": len(tracks), "frames": len(names)} for row in rows]


def steadiness_table(rows: Sequence[dict]) -> str:
    """Rows of :func:`measure` of one kind of clips; jitters beside those of the first row.

    ``lag``, too, is read relative to the first row: landmarks found frame by frame use no other frame, so theirs is an
    offset of the measure. A line below the table says so.
    """
    first = rows[0]
    jitters = [name for name in ("flow_jitter", "error_jitter") if name in first]
    columns = [name for name in ("NME", "lag") if np.isfinite(first.get(name, np.nan))]
    head = [
        "points",
        *(f"{name.replace('_', ' ')} %" for name in jitters),
        *(f"{n} %" if n == "NME" else n for n in columns),
    ]
    lines = [
        [
            row["source"],
            *(f"{row[name]:.3f} ({100 * (row[name] / first[name] - 1):+.0f} %)" for name in jitters),
            *(f"{row[name]:.3f}" if name == "NME" else f"{row[name]:+.2f}" for name in columns),
            "" if row is first else f"{row['frames/s']:.3g}",
        ]
        for row in rows
    ]
    table = markdown_table([*head, "frames/s"], lines)
    return f"{table}\n\n{LAG}" if "lag" in columns else table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.steady", description=__doc__.splitlines()[0])
    add = parser.add_argument
    real = os.environ.get("TSAL_REALDATA")
    add("--weights", type=Path, required=True, metavar="W", help="detector for the real clips, a training's model.pt")
    add("--realdata", type=Path, default=real, metavar="DIR", help="folder with dense/clips.csv ($TSAL_REALDATA)")
    add("--rendered-weights", type=Path, metavar="W", help="detector for the rendered clips (that of --weights)")
    add("--frames", type=int, default=240, metavar="N", help="most frames of a real clip (%(default)s)")
    add("--clips", type=int, default=RENDERED.validation, metavar="N", help="rendered clips (%(default)s)")
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    add("--out", type=Path, default=OUT, metavar="FILE", help="output file for the tables (%(default)s)")
    options = parser.parse_args(arguments)
    use_free_cores()
    facts, device = (
        describe_environment() | {"cpus": os.cpu_count(), "load when started": os.getloadavg()[0]},
        torch.device(options.device),
    )
    text = [machine(facts)]
    with tempfile.TemporaryDirectory(prefix="tsal-steady-") as folder:
        kinds = {}
        if options.realdata:
            detector = CropDetector(options.weights, device=options.device)
            tracks = list(real_tracks(options.realdata, Path(folder) / "real", options.frames, detector))
            kinds["Real clips"] = options.weights, Path(folder) / "real", tracks
        settings = dataclasses.replace(RENDERED, validation=options.clips)
        root = Path(folder) / "rendered"
        kinds["Rendered clips"] = options.rendered_weights or options.weights, root, rendered_tracks(root, settings)
        for title, (weights, root, tracks) in kinds.items():
            rows = measure(weights, root, tracks, device)
            counts = f"{rows[0]['clips']} clips, {rows[0]['frames']} frames without repeats."
            text.append(f"## {title}\n\n{counts}\n\n{steadiness_table(rows)}")
    write_text(options.out, "# Steady landmarks\n\n" + "\n\n".join(text) + "\n")
    print("\n\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
