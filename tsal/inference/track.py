"""A video -> the same video with landmarks drawn on every face, and their numbers as a CSV.

Several readings, so that nothing but numbers is kept of the video: faces are found and followed (tsal.faces), landmarks
are detected in the followed boxes, and again in the boxes of these landmarks, made steady where asked, and what the CSV
says of them is drawn (tsal.inference.drawing). The file is whole when it is read, so boxes and points are smoothed
without lag.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tsal.config import Config
from tsal.data import cut_crop, to_float
from tsal.evaluation import DEGENERATE_SHARE, jitter
from tsal.faces import MIN_FACE, SETTLED, Followed, follow_video, gaussian_lines, read_boxes, read_frames
from tsal.geometry import apply_affine, crop_affine, invert_affine
from tsal.inference.drawing import LOW, draw_csv, is_ours, write_csv
from tsal.inference.steadying import steady_tracks
from tsal.inference.tighten import PASSES, sure_tracks, tighten_tracks
from tsal.model import Detector
from tsal.model_files import default_model, load_model
from tsal.run import Run
from tsal.schemes import Scheme
from tsal.utils import ConfigError, DataError, load_checkpoint, replacing, tqdm

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
    find: Callable[[np.ndarray, float], np.ndarray] | None = None,
    min_face: float = MIN_FACE,
    device: str = "auto",
    progress: bool = True,
) -> dict:
    """Write the overlay (``out``, .mp4 without sound) and the CSV; both whole or not at all.

    Args:
        model: ``teacher``, ``student`` or another of the file, or ``both``: teacher and student side by side; by
            default the teacher, or the only model there is.
        steady: fuse each frame's points with those of its neighbours, carried along the flow, see
            :class:`tsal.inference.Steadier`.
        lag: of ``steady``: use no more than so many later frames, as a stream would; None: all of its window.
        smooth: sigma of a Gaussian in time over the points, seconds; symmetric, so it has no lag. 0: points as
            detected.
        csv_path: by default ``out`` with the suffix .csv.
        boxes_file: boxes of another finder, see :func:`tsal.data.boxes_file.read_boxes`.
        find: another finder than the Haar cascades, such as :class:`tsal.faces.YuNet`.
        min_face: smallest face that is looked for, over the image's shorter side.

    Faces that were found, not given, are detected anew in the boxes of their landmarks. One whose landmarks' scores are
    far lower than another's is dropped.

    Returns:
        ``out``, ``csv``, ``width`` and ``height`` (of the upright video), ``fps``, ``frames``, ``faces``, ``seconds``
        and ``frames_per_second`` (of all readings), ``jitter`` ({model: {"raw": share of d, "steady": with ``steady``,
        "smoothed": with ``smooth``}}; without frames that repeat others; d is a face's median distance of the outer eye
        corners, or the median root of its box's area where there is none), ``low`` ({model: score under which a
        landmark is hollow}), ``lag_ms`` (of a stream with ``lag``, else 0) and ``notes``.

    Raises:
        InputError: what is wrong with the video, the weights or the paths.
    """
    video, weights, out = Path(video), Path(weights), Path(out)
    csv_path = out.with_suffix(".csv") if csv_path is None else Path(csv_path)
    _check_paths(video, weights, out, csv_path)
    if not (math.isfinite(smooth) and 0 <= smooth <= 10):
        raise ConfigError(f"smooth = {smooth:g}: want seconds, from 0 (off) to 10")
    if not 0.02 <= min_face <= 1:
        raise ConfigError(f"min_face = {min_face:g}: want a share of the image's shorter side, from 0.02 to 1")
    if lag is not None and not (steady and isinstance(lag, int) and lag >= 0):
        raise ConfigError(f"lag = {lag}: want a whole number of frames, 0 or more, and steady (--steady) with it")
    detectors, config, scheme, device = _load(weights, model, device)
    given = _boxes_of(boxes_file, video) if boxes_file else None

    start = time.perf_counter()
    followed = follow_video(video, min_face=min_face, given=given, find=find, settled=SETTLED, progress=progress)
    if not followed.tracks:
        raise DataError(
            f"{video}: no face is found; try a smaller --min-face than {min_face:g}, "
            "or boxes of your own (--boxes-file)"
        )
    found = detect(video, followed, detectors, config, device, progress=progress)
    if given is None:
        followed, found = sure_tracks(followed, found, video.name)
    for _ in range(PASSES - 1 if given is None else 0):
        followed = tighten_tracks(followed, [one[0, ..., :2] for one in found])
        found = detect(video, followed, detectors, config, device, progress=progress)
    interval = float(np.median(np.diff(followed.times))) if len(followed.times) > 1 else 0.0
    fused = found
    if steady:
        name, total = f"{video.name}: steadying", len(followed.times)
        bar = tqdm(read_frames(video), total=total, desc=name, unit="frame", disable=not progress, mininterval=1)
        fused = steady_tracks(bar, followed, found, lag=lag, device=device)
    shown = [smooth_points(one, 1000 * smooth / interval if interval > 0 else 0.0) for one in fused]
    scores = np.concatenate([one[..., 2].reshape(len(detectors), -1) for one in found], 1)
    low = {name: LOW * float(np.median(mine)) for name, mine in zip(detectors, scores)}
    fps = 1000 * (len(followed.times) - 1) / (followed.times[-1] - followed.times[0]) if interval > 0 else 25.0
    with replacing(csv_path) as numbers, replacing(out) as overlay:
        write_csv(numbers, followed, list(detectors), shown)
        draw_csv(video, numbers, overlay, scheme, low, len(followed.times), fps, progress=progress)
    seconds = time.perf_counter() - start
    kinds = {"raw": found} | ({"steady": fused} if steady else {}) | ({"smoothed": shown} if smooth else {})
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
            name: {kind: _jitter(points, m, followed, scheme) for kind, points in kinds.items()}
            for m, name in enumerate(detectors)
        },
        "low": low,
        "lag_ms": (lag or 0) * interval,
        "notes": followed.notes + _repeats_note(video, followed),
    }


def _repeats_note(video: Path, followed: Followed) -> list[str]:
    if not followed.repeats:
        return []
    share = f"{len(followed.repeats)} of {len(followed.times)} frames"
    return [f"{video.name}: {share} repeat the frame before; they are left out of the jitter"]


# --- what is given ---


def _check_paths(video: Path, weights: Path, out: Path, csv_path: Path) -> None:
    """Inputs are there, outputs can be written and are nobody else's."""
    if not video.is_file():
        raise DataError(f"{video}: no such video")
    for path, suffix in ((out, ".mp4"), (csv_path, ".csv")):
        if path.suffix.lower() != suffix:
            raise ConfigError(f"{path}: the output must be named {suffix}")
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}")
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder")
        if any(path.exists() and other.exists() and path.samefile(other) for other in (video, weights)):
            raise ConfigError(f"{path}: is an input too; name another output")
    if csv_path.exists() and not is_ours(csv_path):
        raise ConfigError(f"{csv_path}: is there and was not written by this command; remove it or name another")
    if out.exists() and not csv_path.exists():
        raise ConfigError(f"{out}: is there without {csv_path.name}, so it may be another's; remove it or name another")


def _load(weights: Path, model: str | None, device: str) -> tuple[dict[str, Detector], Config, Scheme, torch.device]:
    """The detectors by name, in the order in which they are shown."""
    names = BOTH if model == "both" else (model,)
    detectors = {}
    for name in names:
        detector, config, scheme = load_model(weights, name)
        if name is None:
            name = default_model(list(load_checkpoint(weights)["models"]))
        detectors[name] = detector
    run = Run(weights.parent, config.override({"train.device": device}), scheme)  # for its device: it has no folder
    detectors = {name: each.to(run.device, memory_format=torch.channels_last) for name, each in detectors.items()}
    return detectors, config, scheme, run.device


def _boxes_of(path: Path, video: Path) -> dict:
    boxes = read_boxes(path)
    if not boxes.keys() <= {"", video.name}:
        raise DataError(f"{path}: names videos other than {video.name}")
    return boxes.get("", {}) or boxes[video.name]


# --- landmarks ---


@contextmanager
def _light_threads(config: Config, device: torch.device) -> Iterator[None]:
    """One thread for the light detector on a CPU: a second gains 1 ms a frame, and loses 20 where another program is
    busy.
    """
    count = torch.get_num_threads()
    if device.type == "cpu" and config.model.size == "light":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


@torch.inference_mode()
def detect(
    video: Path,
    followed: Followed,
    detectors: dict[str, Detector],
    config: Config,
    device: torch.device,
    *,
    progress: bool = True,
) -> list[np.ndarray]:
    """Landmarks of every track: arrays (models, frames of the track, K, 3) float32 of x, y px of the video and score.

    In float32, as :mod:`tsal.inference.predict`: in bfloat16 points move by 0.2 % of the face, which is a fifth of
    their jitter, to save 0.5 ms.
    """
    landmarks = next(iter(detectors.values())).landmarks
    found = [np.full((len(detectors), len(track.boxes), landmarks, 3), np.nan, np.float32) for track in followed.tracks]
    side, box_scale = config.model.input, config.augment.box_scale
    end = max(track.last for track in followed.tracks)
    waiting: list[tuple[int, int, np.ndarray, np.ndarray]] = []  # track, place in it, affine, crop

    def work() -> None:
        tracks, places, affines, crops = zip(*waiting)
        images = to_float(torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2))  # channels last already
        for number, detector in enumerate(detectors.values()):
            points, scores = detector.heatmap(detector(images))
            points = apply_affine(invert_affine(np.stack(affines)), points.double().cpu().numpy())
            for track, place, xy, score in zip(tracks, places, points, scores.cpu().numpy()):
                found[track][number, place] = np.column_stack([xy, score])
        waiting.clear()

    reached = -1
    label = f"{video.name}: landmarks"
    bar = tqdm(read_frames(video), total=end + 1, desc=label, unit="frame", disable=not progress, mininterval=1)
    with bar, _light_threads(config, device):
        for reached, _, image in bar:
            for number, track in enumerate(followed.tracks):
                if track.first <= reached <= track.last:
                    box = track.boxes[reached - track.first]
                    crop = cut_crop(image, box, side, box_scale)[..., ::-1]  # RGB
                    waiting.append((number, reached - track.first, crop_affine(box, side, box_scale), crop))
            if len(waiting) >= BATCH:
                work()
            if reached == end:
                break
        if waiting:
            work()
    if reached < end:
        raise DataError(
            f"{video}: the second reading ended at frame {reached}, not {end}: has the file changed? try again"
        )
    return found


def smooth_points(found: np.ndarray, sigma: float) -> np.ndarray:
    """A track's landmarks (models, frames, K, 3) with x and y smoothed over time, ``sigma`` in frames; scores stay."""
    count = found.shape[1]
    if sigma < 0.1 or count < 3:
        return found
    shown = found.copy()
    values = found[..., :2].swapaxes(0, 1).reshape(count, -1).astype(float)
    smoothed = gaussian_lines(values, sigma).reshape(count, found.shape[0], -1, 2)
    shown[..., :2] = smoothed.swapaxes(0, 1)
    return shown


def _jitter(found: Sequence[np.ndarray], model: int, followed: Followed, scheme: Scheme) -> float:
    """Mean over every face and frame that repeats none; d is one number a face, so that turning the head does not blow
    it up.
    """
    values = []
    for points, track in zip(found, followed.tracks):
        distinct = ~np.isin(np.arange(track.first, track.last + 1), followed.repeats)
        boxes, xy = np.asarray(track.boxes), points[model, distinct, :, :2].astype(float)
        d = side = float(np.median(np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))))
        if scheme.ocular:
            d = float(np.median(np.linalg.norm(xy[:, scheme.ocular[0]] - xy[:, scheme.ocular[1]], axis=-1)))
        values.append(jitter(xy, d if d >= DEGENERATE_SHARE * side else side))
    whole = np.concatenate(values)
    return float(whole.mean()) if len(whole) else float("nan")
