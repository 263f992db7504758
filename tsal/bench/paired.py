"""Runs of two methods, compared by the seeds with which both went on from the same init."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from tsal.evaluation import SAME_INIT

Runs = Mapping[tuple[str, int], dict]  # results by method and seed


def shared_seeds(by: Runs, method: str, other: str) -> list[int]:
    """The seeds with which two methods share an init. Another CPU type makes another init of the same seed."""
    return [
        seed for m, seed in by if m == method and (other, seed) in by and same_init(by[method, seed], by[other, seed])
    ]


def same_init(first: dict, second: dict) -> bool:
    """Whether two runs share an init, by its NME (%) on their lists that have labels."""
    names = first["lists"].keys() & second["lists"].keys()
    apart = [abs(first["lists"][name]["init"]["NME"] - second["lists"][name]["init"]["NME"]) for name in names]
    return all(np.isnan(nme) or nme < SAME_INIT for nme in apart)


def paired_difference(by: Runs, name: str, method: str, other: str, draws: int) -> tuple[float, float, float]:
    """Mean over the seeds that the two share, and over faces, of a method's error less another's, and its 95 %
    bootstrap interval: seeds, and photographs and clips, are drawn anew. Frames of a clip err alike, so a clip is drawn
    whole. NaN for the interval of one seed and one clip, which would be a point.

    Of few seeds it is too narrow where seeds differ more than clips do: over seeds alone it leaves 0 out without any
    difference in half of all cases of two seeds, in a quarter of those of three.
    """
    sums, frames = _gains(by, name, method, other)
    if not sums.size:
        return np.nan, np.nan, np.nan
    mean = sums.sum() / (len(sums) * frames.sum())
    if sums.size == 1:
        return mean, np.nan, np.nan
    return mean, *interval_over_clips(sums, frames, draws)


def interval_over_clips(sums: np.ndarray, frames: np.ndarray, draws: int) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over frames: seeds, and clips whole, are drawn anew.

    Args:
        sums: (S, C), of each seed, over the frames of each photograph or clip.  frames: (C,), how many there are, 0 for
            a clip that is not measured.
    """
    rng = np.random.default_rng(0)
    drawn_seeds = rng.integers(len(sums), size=(draws, len(sums)))
    drawn_clips = rng.integers(len(frames), size=(draws, len(frames)))
    with np.errstate(invalid="ignore"):  # only clips that are not measured
        means = [sums[s][:, c].mean(0).sum() / frames[c].sum() for s, c in zip(drawn_seeds, drawn_clips)]
    low, high = np.nanquantile(means, (0.025, 0.975)).tolist()
    return low, high


def share_better(by: Runs, name: str, method: str, other: str) -> float:
    """Share (%) of photographs and clips where a method is better than another, ties counted half, in the mean over the
    seeds that the two share; NaN where they share none.
    """
    signs = np.sign(_gains(by, name, method, other)[0].round(4))  # results keep errors to four decimals
    return 100 * float(np.mean((1 - signs) / 2)) if signs.size else np.nan


def _gains(by: Runs, name: str, method: str, other: str) -> tuple[np.ndarray, np.ndarray]:
    """A method's errors less another's of each seed that the two share, summed over each photograph or clip (S, C), and
    how many frames each has (C,); empty where there is nothing to compare.
    """
    seeds = shared_seeds(by, method, other) if method != other else []
    pairs = [[by[m, seed]["lists"][name] for m in (method, other)] for seed in seeds]
    if not pairs or not pairs[0][0]["faces"]:
        return np.empty((0, 0)), np.empty(0)
    _, clip = np.unique(pairs[0][0]["clips"], return_inverse=True)  # (N,)
    sums = [np.bincount(clip, np.subtract(first["faces"], second["faces"])) for first, second in pairs]
    return np.array(sums), np.bincount(clip)


def rank_of(by: Runs, name: str, method: str, other: str) -> float:
    """What methods are listed by, see :func:`tsal.bench.table.compare`: a number of this one less that of another."""
    shared = shared_seeds(by, method, other)

    def mean(which: str) -> float:
        runs = [r for (m, seed), r in by.items() if m == which and (seed in shared or not shared)]
        measure = measure_of(number(r, name, "NME") for r in runs)
        return float(np.mean([number(r, name, measure) for r in runs])) if runs else 0.0

    less = mean(method) - mean(other)
    return less if math.isfinite(less) else math.inf


def measure_of(nmes: Iterable[float]) -> str:
    """What methods are compared by on a list: NME, or without labels flow jitter."""
    return "flow_jitter" if all(map(math.isnan, nmes)) else "NME"


def number(result: dict, name: str, measure: str) -> float:
    """A measure of a run on a list; NaN where it is not known."""
    return result["lists"][name][result["result"]].get(measure, math.nan)
