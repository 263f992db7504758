"""A video -> the same video with landmarks drawn on every face, and their numbers as a CSV.

Several readings, so that nothing but numbers is kept of the video: faces are followed, landmarks are detected in their
boxes (tsal.inference.video), made steady where asked, and what the CSV says of them is drawn (tsal.inference.drawing).
The file is whole when it is read, so boxes and points are smoothed without lag.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tsal.evaluation import DEGENERATE_SHARE, jitter
from tsal.faces import MIN_FACE, Followed, gaussian_lines, named_finder, read_boxes
from tsal.inference.crop_detector import CropDetector
from tsal.inference.drawing import LONGEST_VIDEO, LOW, draw_csv, is_ours, video_zoom, write_csv
from tsal.inference.inputs import is_still
from tsal.inference.outputs import check_output
from tsal.inference.video import detect_tracks, follow_faces, steady_found, too_seldom
from tsal.model_files import default_model
from tsal.schemes import Scheme
from tsal.utils import ConfigError, DataError, is_drawn, load_checkpoint, replacing

BOTH = ("teacher", "student")
BATCH = 32  # crops a forward pass


def track_video(
    video: Path,
    weights: Path,
    out: Path,
    *,
    model: str | None = None,
    steady: bool = False,
    lag: int | None = None,
    smooth: float = 0.0,
    csv_path: Path | None = None,
    boxes_file: Path | None = None,
    find: Callable[[np.ndarray, float], np.ndarray] | Literal["haar", "yunet"] | None = None,
    min_face: float = MIN_FACE,
    device: str = "auto",
    progress: bool = True,
) -> dict:
    """Write the CSV and then the overlay (``out``, .mp4 without sound); each whole or not at all.

    Args:
        model: ``teacher``, ``student`` or another of the file, or ``both``: teacher and student side by side; by
            default the method's result, or the only model there is.
        steady: fuse each frame's points with those of its neighbours, carried along the flow, see
            :class:`tsal.inference.Steadier`.
        lag: of ``steady``: use no more than so many later frames, as a stream would; None: all of its window.
        smooth: sigma of a Gaussian in time over the points, seconds; symmetric, so it has no lag. 0: points as
            detected.
        csv_path: by default ``out`` with the suffix .csv.
        boxes_file: boxes of another finder, see :func:`tsal.faces.read_boxes`; used as they are.
        find: as ``finder`` of :class:`tsal.Landmarker`, but a function is called with ``min_face`` too, and by two
            threads at once; not taken beside ``boxes_file``.
        min_face: smallest face that is looked for, over the image's shorter side.

    Faces that were found, not given, are followed by the landmarks of the first model. One whose scores are far lower
    than another's is dropped.

    Returns:
        ``out``, ``csv``, ``width`` and ``height`` (of the upright video), ``fps``, ``frames``, ``faces``, ``seconds``
        and ``frames_per_second`` (of all readings), ``jitter`` ({model: {"raw": share of d, "steady": with ``steady``,
        "smoothed": with ``smooth``}}; without frames that repeat others; d is a face's median distance of the outer eye
        corners, or the median root of its box's area where there is none), ``jitter_d`` (what d is), ``low`` ({model:
        score under which a landmark is hollow}), ``lag_ms`` (of a stream with ``lag``, else 0) and ``notes``.

    Raises:
        InputError: what is wrong with the video, the weights or the paths.
    """
    video, weights, out = Path(video), Path(weights), Path(out)
    csv_path = out.with_suffix(".csv") if csv_path is None else Path(csv_path)
    if not video.is_file():
        raise DataError(f"{video}: no such video")
    if is_still(video):
        raise DataError(f"{video}: is an image; use: python -m tsal predict {video} --draw DIR")
    check_output(out, (".mp4",), is_drawn, (video, weights))
    check_output(csv_path, (".csv",), is_ours, (video, weights))
    if not (math.isfinite(smooth) and 0 <= smooth <= 10):
        raise ConfigError(f"smooth = {smooth:g}: want seconds, from 0 (off) to 10")
    if not 0.02 <= min_face <= 1:
        raise ConfigError(f"min_face = {min_face:g}: want a share of the image's shorter side, from 0.02 to 1")
    if lag is not None and not (steady and isinstance(lag, Integral) and lag >= 0):
        raise ConfigError(f"lag = {lag}: want a whole number of frames, 0 or more, and steady (--steady) with it")
    boxes = _boxes_of(boxes_file, video) if boxes_file else None
    if boxes is None and not callable(find):
        find = named_finder(find)
    detectors = _load(weights, model, device)
    first, *_ = detectors.values()

    start = time.perf_counter()
    with _light_threads(first):
        followed = follow_faces(video, first, given=boxes, find=find, min_face=min_face, progress=progress)
        if not followed.tracks:
            advice = (
                "try another finder (docs/finders.md), or 'python -m tsal track' with --boxes-file, or, where faces "
                f"are small, with a smaller --min-face than {min_face:g}"
            )
            raise DataError(
                f"{video}: no face is found; {too_seldom(followed.dropped) if followed.dropped else advice}"
            )
        landmarks = detect_tracks(video, followed, list(detectors.values()), progress=progress)
    interval = float(np.median(np.diff(followed.times))) if len(followed.times) > 1 else 0.0
    fused = landmarks
    if steady:
        fused = steady_found(video, followed, landmarks, lag=lag, device=first.device, progress=progress)
    shown = [smooth_points(values, 1000 * smooth / interval if interval > 0 else 0.0) for values in fused]
    scores = np.concatenate([values[..., 2].reshape(len(detectors), -1) for values in landmarks], 1)
    low = {name: LOW * float(np.median(model_scores)) for name, model_scores in zip(detectors, scores)}
    fps = 1000 * (len(followed.times) - 1) / (followed.times[-1] - followed.times[0]) if interval > 0 else 25.0
    with replacing(csv_path) as numbers:
        write_csv(numbers, followed, list(detectors), shown)
    try:
        with replacing(out) as overlay:
            draw_csv(video, csv_path, overlay, first.scheme, low, len(followed.times), fps, progress=progress)
    except DataError as error:
        raise DataError(f"{error}; the numbers are in {csv_path}") from None
    seconds = time.perf_counter() - start
    kinds = {"raw": landmarks} | ({"steady": fused} if steady else {}) | ({"smoothed": shown} if smooth else {})
    return {
        "out": str(out),
        "csv": str(csv_path),
        "width": followed.width,
        "height": followed.height,
        "fps": fps,
        "frames": len(followed.times),
        "faces": len(followed.tracks),
        "seconds": seconds,
        "frames_per_second": len(followed.times) / seconds,
        "jitter": {
            name: {kind: _jitter(points, m, followed, first.scheme) for kind, points in kinds.items()}
            for m, name in enumerate(detectors)
        },
        "jitter_d": "eyes' outer distance" if first.scheme.ocular else "face's size",
        "low": low,
        "lag_ms": (lag or 0) * interval,
        "notes": followed.notes + _more_notes(video, out, followed, len(detectors)),
    }


def _more_notes(video: Path, out: Path, followed: Followed, panels: int) -> list[str]:
    notes = []
    if followed.repeats:
        share = f"{len(followed.repeats)} of {len(followed.times)} frames"
        notes.append(f"{video.name}: {share} repeat the frame before; they are left out of the jitter")
    if video_zoom(panels * followed.width, followed.height) < 1:
        notes.append(f"{out.name}: is shrunk to {LONGEST_VIDEO} px on its longer side, the most that MPEG-4 holds")
    return notes


# --- what is given ---


def _load(weights: Path, model: str | None, device: str) -> dict[str, CropDetector]:
    """The detectors by name, in the order in which they are shown."""
    detectors = {}
    for name in BOTH if model == "both" else (model,):
        detector = CropDetector(weights, name, device, BATCH)
        if name is None:
            name = default_model(load_checkpoint(weights))
        detectors[name] = detector
    return detectors


def _boxes_of(path: Path, video: Path) -> dict:
    boxes = read_boxes(path)
    if not boxes.keys() <= {"", video.name}:
        raise DataError(f"{path}: names videos other than {video.name}")
    return boxes.get("", {}) or boxes[video.name]


# --- landmarks ---


@contextmanager
def _light_threads(detector: CropDetector) -> Iterator[None]:
    """One thread for the light detector on a CPU: a second gains 1 ms a frame, and loses 20 where another program is
    busy.
    """
    count = torch.get_num_threads()
    if detector.device.type == "cpu" and detector.config.model.size == "light":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def smooth_points(landmarks: np.ndarray, sigma: float) -> np.ndarray:
    """A track's landmarks (models, frames, K, 3) with x and y smoothed over time, ``sigma`` in frames; scores stay."""
    count = landmarks.shape[1]
    if sigma < 0.1 or count < 3:
        return landmarks
    shown = landmarks.copy()
    values = landmarks[..., :2].swapaxes(0, 1).reshape(count, -1).astype(float)
    smoothed = gaussian_lines(values, sigma).reshape(count, landmarks.shape[0], -1, 2)
    shown[..., :2] = smoothed.swapaxes(0, 1)
    return shown


def _jitter(landmarks: Sequence[np.ndarray], model: int, followed: Followed, scheme: Scheme) -> float:
    """Mean over every face and frame that repeats none; d is one number a face, so that turning the head does not blow
    it up.
    """
    values = []
    for points, track in zip(landmarks, followed.tracks):
        distinct = ~np.isin(np.arange(track.first, track.last + 1), followed.repeats)
        if distinct.sum() < 3:
            continue
        boxes, xy = np.asarray(track.boxes), points[model, distinct, :, :2].astype(float)
        d = side = float(np.median(np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))))
        if scheme.ocular:
            d = float(np.median(np.linalg.norm(xy[:, scheme.ocular[0]] - xy[:, scheme.ocular[1]], axis=-1)))
        values.append(jitter(xy, d if d >= DEGENERATE_SHARE * side else side))
    whole = np.concatenate(values) if values else np.empty(0)
    return float(whole.mean()) if len(whole) else float("nan")
