"""How steady landmarks are on consecutive frames: pure functions of the predictions table; each number's name says its
definition.

Consecutive are successive rows of a list whose images are numbered one after another in one folder; a number that is
left out ends what is consecutive. An inner frame has a frame before and a frame after it. ``|second difference|`` is
the length of p(t - 1) - 2 p(t) + p(t + 1), px; steady motion has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from tsal.evaluation.metrics import known_mean

STEADINESS = ("jitter", "flow_jitter", "flow_left_out", "error_jitter", "label_jitter", "lag")  # %, but for the lag
SHIFTS = np.arange(-3, 4)  # frames, that a lag is looked for in
MOTION = 1e-4  # of d, a frame: what moves by less has no lag


def follows(table: dict[str, np.ndarray]) -> np.ndarray:
    """Rows (N,) whose image is the frame after that of the row before; none of the lists that ``sparse`` names, whose
    frames are not neighbours.
    """
    images = [PurePath(path) for path in table["path"].tolist()]
    number = np.array([int(image.stem) if image.stem.isdecimal() else -1 for image in images])
    folder = np.array([str(image.parent) for image in images])
    after = np.zeros(len(images), bool)
    same = (folder[1:] == folder[:-1]) & (table["list"][1:] == table["list"][:-1])
    same &= ~np.isin(table["list"][1:], table.get("sparse", []))
    after[1:] = same & (number[:-1] >= 0) & (number[1:] == number[:-1] + 1)
    return after


def inner_frames(after: np.ndarray) -> np.ndarray:
    """Rows (N,) that follow the row before and are followed by the next; ``after``: what :func:`follows` says."""
    inner = after.copy()
    inner[:-1] &= after[1:]
    inner[-1:] = False
    return inner


def unit_length(table: dict[str, np.ndarray]) -> np.ndarray:
    """d (N,) px: the run's normaliser (NaN for a face that is not scored); in a list without a scored face, which has
    no truth, sqrt(w h) of the row's box.
    """
    d, box = table["norm_px"].astype(float), table["box"].astype(float)
    for name in np.unique(table["list"]):
        in_list = table["list"] == name
        if np.isnan(d[in_list]).all():
            d[in_list] = np.sqrt((box[in_list, 2] - box[in_list, 0]) * (box[in_list, 3] - box[in_list, 1]))
    return d


def second_difference(before: np.ndarray, points: np.ndarray, after: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """|before(t - 1) - 2 points(t) + after(t + 1)| (..., N, K) px at inner frames; NaN elsewhere, and where a point is
    NaN.

    Args:
        before: (..., N, K, 2) px, each frame's points as they are seen from the next one: themselves, or carried there.
        points: (..., N, K, 2) px.  after: like ``before``, as seen from the previous frame.  inner: (N,) bool.
    """
    length = np.full(points.shape[:-1], np.nan)
    (t,) = np.nonzero(inner)
    apart = before[..., t - 1, :, :].astype(float) - 2.0 * points[..., t, :, :] + after[..., t + 1, :, :]
    length[..., t, :] = np.linalg.norm(apart, axis=-1)
    return length


def table_jitters(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of each inner frame, the mean over landmarks as a share of d; NaN elsewhere, and where there is nothing to take
    the mean of. (M, S, N) each, ``label_jitter`` (N,). Empty where the table holds no consecutive frames, that is, no
    ``flow_difference``.

    - ``jitter``: |second difference| of the points.
    - ``flow_jitter``: the same with the neighbours' points carried to the frame by optical flow (the table's
      ``flow_difference``, px); a point that flow loses is left out, and ``flow_left_out`` is the share of those.
    - ``error_jitter``: |second difference| of prediction - label, of landmarks visible in all three frames.
    - ``label_jitter``: |second difference| of the labels, of the same landmarks.
    """
    if "flow_difference" not in table:
        return {}
    d = unit_length(table)
    inner = inner_frames(follows(table)) & np.isfinite(d)
    truth = np.where(table["visible"][..., None], table["truth"], np.nan)

    def shaken(tracks: np.ndarray) -> np.ndarray:
        return known_mean(second_difference(tracks, tracks, tracks, inner)) / d

    flow = np.where(inner[:, None], table["flow_difference"], np.nan)
    return {
        "jitter": np.stack([shaken(points) for points in table["points"]]),  # one by one: long lists fill memories
        "flow_jitter": known_mean(flow) / d,
        "flow_left_out": np.where(inner, np.isnan(flow).mean(-1), np.nan),
        "error_jitter": np.stack([shaken(points - truth) for points in table["points"]]),
        "label_jitter": shaken(truth),
    }


def steady_numbers(table: dict[str, np.ndarray], jitters: dict[str, np.ndarray], in_list: np.ndarray) -> np.ndarray:
    """Numbers (M, S) of the rows ``in_list`` (N,), a dict each: of :func:`table_jitters` the mean over inner
    frames in %; ``lag`` in frames; ``inner_frames``; and ``jitter_d``, what d is. A number that is not known is left
    out; without inner frames all are.
    """
    numbers = np.array([[{} for _ in table["sources"]] for _ in table["models"]], object)
    inner = in_list & np.isfinite(jitters["jitter"][0, 0]) if jitters else np.zeros(len(in_list), bool)
    if not inner.any():
        return numbers
    shared = {
        "inner_frames": int(inner.sum()),
        "jitter_d": "normaliser" if np.isfinite(table["norm_px"][in_list]).any() else "box",
    }
    tracks = _labelled_tracks(table, in_list)
    for m, s in np.ndindex(numbers.shape):
        of_frames = {
            name: values[inner] if values.ndim == 1 else values[m, s, inner] for name, values in jitters.items()
        }
        cell = {name: 100 * float(known_mean(values)) for name, values in of_frames.items()}
        cell["lag"] = lag(
            [
                (table["points"][m, s][rows][:, visible] / d, table["truth"][rows][:, visible] / d)
                for rows, visible, d in tracks
            ]
        )
        numbers[m, s] = {name: value for name, value in cell.items() if np.isfinite(value)} | shared
    return numbers


def _labelled_tracks(table: dict[str, np.ndarray], in_list: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Rows (T,) of consecutive frames that are all scored, the landmarks (K,) that are visible in all of them, and the
    mean d px.
    """
    scored, after = in_list & np.isfinite(table["norm_px"]), follows(table)
    runs: list[list[int]] = []
    for row in np.flatnonzero(scored):
        if runs and after[row] and runs[-1][-1] == row - 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return [(np.array(rows), table["visible"][rows].all(0), float(table["norm_px"][rows].mean())) for rows in runs]


def lag(tracks: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """By how many frames predictions are late: the shift at which their velocity correlates best with the labels'.

    A velocity is p(t) - p(t - 1). Its mean over a track's frames is taken off, landmark by landmark: steady motion
    looks the same at every shift. Every shift in -3 ... 3 is measured on the same frames of the labels, so a track
    needs 10 frames, and the sums are over all tracks. The best one is refined by a parabola through its neighbours'
    correlations; at -3 and 3 there is none. NaN where no track is long enough, where labels or predictions do not move,
    and where no shift correlates.

    Args:
        tracks: predictions and labels (T, K, 2) each, of consecutive frames, as shares of d.
    """
    reach = int(SHIFTS[-1])
    together, predicted, labelled, count = np.zeros(len(SHIFTS)), np.zeros(len(SHIFTS)), 0.0, 0
    for points, truth in tracks:
        velocity, label_velocity = np.diff(points.astype(float), axis=0), np.diff(truth.astype(float), axis=0)
        frames = len(label_velocity) - 2 * reach
        if frames < 3:
            continue
        label = _centred(label_velocity[reach : reach + frames])
        labelled, count = labelled + np.square(label).sum(), count + label.size // 2
        for index, shift in enumerate(SHIFTS):
            prediction = _centred(velocity[reach + shift : reach + shift + frames])
            together[index] += (prediction * label).sum()
            predicted[index] += np.square(prediction).sum()
    if not count or min(labelled, predicted.min()) < count * MOTION**2:
        return float("nan")
    alike = together / np.sqrt(predicted * labelled)
    best = int(alike.argmax())
    if alike[best] <= 0:
        return float("nan")
    if best in (0, len(alike) - 1):
        return float(SHIFTS[best])
    left, peak, right = alike[best - 1 : best + 2]
    bend = left - 2 * peak + right
    return float(SHIFTS[best] + (0.5 * (left - right) / bend if bend < 0 else 0.0))


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(0)
