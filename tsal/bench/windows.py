"""Targets from a window of frames: their error against the window's length, on rendered clips with exact truth.

``python -m tsal.bench.windows --weights [NAME=]FILE ...`` asks the labeller of the method ``tsal`` for its targets on
consecutive frames, with windows of 0 to ``--reach`` frames to either side, and keeps ``windows.md``, ``.csv``,
``.json``, and a figure. Beside the windows: the same targets with the previous frame alone in place of the heatmap
source, a Gaussian in time, and windows whose tracks have no error, which is the most that a better tracker could give.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tsal.bench.paired import interval_over_clips
from tsal.bench.steady import RENDERED, rendered_tracks
from tsal.config import Config
from tsal.data import Clip, FaceStore, frame_pairs, group_clips, neighbours, plain_views, to_float
from tsal.evaluation import face_nme, jitter, known_mean, read_ground_truth
from tsal.faces import gaussian_lines
from tsal.figures import draw_windows, save
from tsal.geometry import apply_affine, invert_affine
from tsal.model import Detector
from tsal.model_files import load_model
from tsal.pseudo import PseudoLabeller
from tsal.synthetic import rendered_visibility
from tsal.tracker import FrozenTracker, PairFlows, initial_tracker
from tsal.utils import describe_environment, markdown_table, tqdm, use_free_cores, write_text

OUT = Path("docs") / "results" / "windows"
REACH = 5  # frames to either side
# kinds of targets, by the names that table and figure have
ALONE, CARRIED, REBUILT = "frame alone", "previous frame, carried", "previous frame, reconstructed"
PLAIN, TRUSTED, GAUSSIAN = "window", "window, trust", "Gaussian in time"
PERFECT, PERFECT_TRUSTED = "perfect tracks", "perfect tracks, trust"
WINDOW = ("heatmap", "centre", "propagated")  # sources


# --- what may carry points, in place of PairFlows ---


@dataclasses.dataclass(frozen=True)
class PerfectTracks:
    """Tracks without error: a point that is carried keeps its distance from the truth, and is always seen."""

    truth: Tensor  # (T, K, 2) px of the view
    previous: Tensor  # (P,) frames
    following: Tensor  # (P,)

    def carry(self, points: Tensor, *, backward: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`tsal.tracker.PairFlows.carry`."""
        here, there = (self.following, self.previous) if backward else (self.previous, self.following)
        every = torch.ones_like(points[..., 0])
        return points + self.truth[there] - self.truth[here], 0 * every, every > 0, every


@dataclasses.dataclass(frozen=True)
class FromPrevious:
    """Flows along which points are carried onward alone: a later frame says nothing of an earlier one."""

    flows: PairFlows

    def carry(self, points: Tensor, *, backward: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`tsal.tracker.PairFlows.carry`."""
        moved, error, stays, seen = self.flows.carry(points, backward=backward)
        return moved, error, stays & (not backward), seen


# --- targets ---


def labeller(side: int, window: int, trusted: bool, sources: Sequence[str]) -> PseudoLabeller:
    """That of the method ``tsal`` for crops of ``side`` px, with another window and other sources, and with its trust
    or none.
    """
    values = {"model.input": side, "tsal.window": window, "tsal.sources": list(sources), "data.consecutive": True}
    return PseudoLabeller(Config.resolve(method="tsal", overrides=values | ({} if trusted else {"tsal.trust": 0.0})))


def spread_of(window: int) -> float:
    """Standard deviation, in frames, of equal weights on the 2 ``window`` + 1 frames: sigma of a Gaussian as wide."""
    return (window * (window + 1) / 3) ** 0.5


@torch.no_grad()
def clip_targets(
    detector: Detector,
    store: FaceStore,
    clip: Clip,
    truth: np.ndarray,
    tracker: FrozenTracker,
    reach: int,
    device: torch.device,
) -> dict[tuple[str, int], np.ndarray]:
    """Targets of a clip's T frames, cut by one box as in training: {(kind, window): points (T, K, 2) px of the images}.

    Args:
        truth: (T, K, 2) px of the images; used by :class:`PerfectTracks` alone.
        reach: the largest window.
    """
    crops, affines = plain_views(store, [clip.faces])
    images, affine = to_float(crops.to(device)), affines[0]
    every = neighbours(range(len(clip.faces)), max(1, reach))
    ways = zip(every[0].tolist(), every[1].tolist())
    flows = tracker(frame_pairs(store, ((clip.faces[i], clip.faces[j], affine) for i, j in ways)).to(device))
    exact = torch.as_tensor(apply_affine(affine, truth), dtype=torch.float32, device=device)
    detection = labeller(store.side, 1, False, WINDOW).detect(detector, images)

    def targets(window: int, *, trusted=False, perfect=False, onward=False, sources=WINDOW) -> np.ndarray:
        near = every[1] - every[0] <= window
        previous, following = (ends[near].to(device) for ends in every)
        tracks = PairFlows(flows.flows[near.to(device)], flows.to_view[near.to(device)])
        tracks = PerfectTracks(exact, previous, following) if perfect else FromPrevious(tracks) if onward else tracks
        asked = labeller(store.side, window, trusted, sources)
        labels = asked(detector, images, detection, tracks, previous, following)
        return apply_affine(invert_affine(affine), labels.fused.points.double().cpu().numpy())

    own = targets(1, sources=("heatmap", "centre"))
    by_kind = {(ALONE, 0): own}
    by_kind[CARRIED, 1] = targets(1, sources=("propagated", "centre"), onward=True)
    by_kind[REBUILT, 1] = targets(1, sources=("tracked_heatmap", "centre"))
    makers = {
        PLAIN: targets,
        TRUSTED: lambda window: targets(window, trusted=True),
        GAUSSIAN: lambda window: gaussian_lines(own.reshape(len(own), -1), spread_of(window)).reshape(own.shape),
        PERFECT: lambda window: targets(window, perfect=True),
        PERFECT_TRUSTED: lambda window: targets(window, trusted=True, perfect=True),
    }
    return by_kind | {(kind, window): make(window) for kind, make in makers.items() for window in range(1, reach + 1)}


# --- measuring ---


def frame_errors(
    points: np.ndarray, truth: np.ndarray, seen: np.ndarray, d: np.ndarray, sizes: Sequence[int]
) -> dict[str, np.ndarray]:
    """NME of all landmarks, of visible and of hidden ones, and error jitter, as shares of d, of N frames of clips.

    ``NME``, ``visible`` and ``hidden`` (N,), see :func:`tsal.evaluation.face_nme`; ``error_jitter`` (N,) of inner
    frames, see :func:`tsal.evaluation.jitter`. NaN where there is nothing to measure.

    Args:
        points, truth: (N, K, 2) px of the images.  seen: (N, K) bool.  d: (N,) px; NaN for a frame that is not scored.
        sizes: frames of each clip.
    """
    masks = {"NME": np.ones_like(seen), "visible": seen, "hidden": ~seen}
    errors = {name: face_nme(points, truth, mask, d) for name, mask in masks.items()}
    shaken, ends = np.full(len(d), np.nan), np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends):
        shaken[start + 1 : end - 1] = jitter((points - truth)[start:end], d[start + 1 : end - 1])
    return errors | {"error_jitter": shaken}


def changes(difference: np.ndarray, sizes: Sequence[int], draws: int = 2000) -> dict[str, float]:
    """Of frames' differences (N,), NaN left out: their mean ``change``, its 95 % bootstrap interval ``low`` to
    ``high``, clips drawn anew, and ``better``, the clips whose mean is below 0.
    """
    parts = np.split(difference, np.cumsum(sizes)[:-1])
    sums, counts = np.array([(np.nansum(part), np.isfinite(part).sum()) for part in parts]).T
    low, high = interval_over_clips(sums[None], counts, draws)
    return {"change": float(known_mean(difference)), "low": low, "high": high, "better": int((sums < 0).sum())}


def measure(
    weights: Path, root: Path, clips: Sequence[Clip], tracker: FrozenTracker, reach: int, device: torch.device
) -> list[dict]:
    """A detector's targets on rendered clips -> a row for each kind and window.

    A row has the means of :func:`frame_errors` in %, NME % of each of the ``clips``, and the :func:`changes` of NME
    from that of the frame alone.
    """
    detector, config, scheme = load_model(weights, device=device)
    store = FaceStore(root, scheme, config.model.input, config.augment.box_scale, config.data.cache_mb)
    truth = read_ground_truth(store, [face for clip in clips for face in clip.faces], "ocular", scheme)
    seen = np.concatenate([rendered_visibility(root, clip) for clip in clips])
    sizes = [len(clip.faces) for clip in clips]
    exact = np.split(truth.points, np.cumsum(sizes)[:-1])
    targets = [
        clip_targets(detector, store, clip, points, tracker, reach, device)
        for clip, points in zip(tqdm(clips, desc=weights.parent.name, unit="clip", mininterval=1), exact)
    ]
    every = {
        key: frame_errors(
            np.concatenate([by_kind[key] for by_kind in targets]), truth.points, seen, truth.norm_px, sizes
        )
        for key in targets[0]
    }
    rows = []
    for (kind, window), errors in every.items():
        row = {"targets": kind, "window": window} | {
            name: 100 * float(known_mean(values)) for name, values in errors.items()
        }
        row["clips"] = [
            round(100 * float(known_mean(part)), 3) for part in np.split(errors["NME"], np.cumsum(sizes)[:-1])
        ]
        rows.append(row | changes(100 * (errors["NME"] - every[ALONE, 0]["NME"]), sizes))
    return rows


# --- shown ---


def windows_tables(rows: Sequence[dict]) -> str:
    """Rows of all detectors as two Markdown tables: every kind and window; and the change of NME from the frame alone
    with the method's own window.
    """
    own = min(Config.resolve().tsal.window, max(row["window"] for row in rows))
    nearest = [row for row in rows if row["window"] == own or row["targets"] in (CARRIED, REBUILT)]
    alone = {row["detector"]: np.array(row["clips"]) for row in rows if row["targets"] == ALONE}

    def change(row: dict) -> str:
        ratios = np.array(row["clips"]) / alone[row["detector"]]
        mean = f"{row['change']:+.2f} ({row['low']:+.2f} ... {row['high']:+.2f})"
        return f"{mean}; {100 * (np.nanmedian(ratios) - 1):+.1f} %, {row['better']}"

    return (
        "NME of all / visible / hidden landmarks, and error jitter, in %; R: frames to either side.\n\n"
        + _table(rows, lambda row: f"{_nme(row)}, {row['error_jitter']:.2f}")
        + "\n\nNME less that of the frame alone, and its 95 % interval over clips; the median over clips of a clip's "
        "relative change, and in how many NME is lower.\n\n" + _table(nearest, change)
    )


def _nme(row: dict) -> str:
    return " / ".join(f"{row[name]:.2f}" for name in ("NME", "visible", "hidden"))


def _table(rows: Sequence[dict], cell: Callable[[dict], str]) -> str:
    """A line for each kind and window, a column for each detector."""
    lines: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        lines.setdefault((row["targets"], row["window"]), []).append(cell(row))
    detectors = dict.fromkeys(row["detector"] for row in rows)
    return markdown_table(["targets", "R", *detectors], ([kind, str(r), *cells] for (kind, r), cells in lines.items()))


def named_file(text: str) -> tuple[str, Path]:
    """``NAME=FILE`` or ``FILE`` -> a detector's name and its file; without a name, that of the training's folder."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else (Path(text).parent.name, Path(text))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.windows", description=__doc__.splitlines()[0])
    add = parser.add_argument
    named = {"type": named_file, "nargs": "+", "required": True, "metavar": "[NAME=]FILE"}
    add("--weights", **named, help="detectors: a training's model.pt, with a name for the table")
    add("--clips", type=int, default=16, metavar="N", help="rendered clips (%(default)s)")
    add("--frames", type=int, default=RENDERED.frames, metavar="N", help="frames of each (%(default)s)")
    add("--reach", type=int, default=REACH, metavar="N", help="the largest window, frames to a side (%(default)s)")
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    add("--out", type=Path, default=OUT, metavar="FOLDER", help="output folder for table and figure (%(default)s)")
    options = parser.parse_args(arguments)
    use_free_cores()
    config, device = Config(), torch.device(options.device)
    net = initial_tracker(config).to(device).eval().requires_grad_(False)
    tracker = FrozenTracker(net, config.data.cache_mb)  # detectors of one input size have the same flows
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="tsal-windows-") as folder:
        root = Path(folder) / "rendered"
        settings = dataclasses.replace(RENDERED, validation=options.clips, frames=options.frames)
        clips = [clip for track in rendered_tracks(root, settings) for clip in group_clips(track.faces)]
        for name, weights in options.weights:
            detector_rows = measure(weights, root, clips, tracker, options.reach, device)
            rows += [{"detector": name} | row for row in detector_rows]
    write_windows(options.out, rows, f"{options.clips} clips of {options.frames} frames")
    print(windows_tables(rows))
    return 0


def write_windows(out: Path, rows: Sequence[dict], about: str) -> None:
    """``windows.md``, ``.csv``, ``.json`` and the figure ``windows.png`` and ``.pdf`` in a folder."""
    import pandas as pd

    content = {"environment": describe_environment(), "clips": about, "rows": list(rows)}
    write_text(out / "windows.json", json.dumps(content, indent=1) + "\n")
    write_text(out / "windows.csv", pd.DataFrame(rows).drop(columns="clips").to_csv(index=False, float_format="%.4f"))
    write_text(out / "windows.md", f"# Targets from a window\n\n{about}.\n\n{windows_tables(rows)}\n")
    save(draw_windows(pd.DataFrame(rows)), out)


if __name__ == "__main__":
    sys.exit(main())
