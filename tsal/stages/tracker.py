"""Stage tracker: train the optical-flow tracker and measure it beside zero motion and OpenCV's DIS."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import torch
from torch import Tensor, nn

from tsal.data import Clip, FaceStore, find_list, group_clips, plain_views, read_list, spread, to_float
from tsal.evaluation import read_ground_truth
from tsal.geometry import apply_affine, sample
from tsal.run import Run, code_fingerprint
from tsal.stages.alone import alone
from tsal.synthetic import VERSION as RENDERER
from tsal.synthetic import PointPairMaker, rendered_visibility
from tsal.tracker import dis_flow, load_tracker
from tsal.tracker import train_tracker as tracker_training
from tsal.utils import use_free_cores, write_text

APART = (1, 2, 3, 5, 8)  # frames that the two of a measured pair are apart
BATCH = 32


@alone
def train_tracker(run: Run) -> nn.Module:
    """The tracker of a run, trained where it is not yet, on rendered pairs too where ``tracker.rendered_share`` asks
    for them.
    """
    use_free_cores()
    if run.config.tracker.rendered_share <= 0 or not run.config.tracker.synthetic_steps:
        return tracker_training(run)
    config, root = run.config, run.rendered
    store = FaceStore(root, run.scheme, config.model.input, config.augment.box_scale, config.data.cache_mb)
    clips = [clip for clip in group_clips(read_list(find_list(root, "unlabelled.txt"))) if len(clip.faces) > 1]
    settings, seed = config.tracker, config.seed + 18
    rendered = PointPairMaker(store, clips, config.augment, seed=seed, pairs=settings.batch, apart=settings.apart)
    origin = dataclasses.asdict(config.render) | {"renderer": RENDERER, "code": code_fingerprint("synthetic")}
    return tracker_training(run, rendered, origin)


@alone
def measure_tracker(run: Run, *, pairs: int = 200) -> dict[str, dict | str | None]:
    """The tracker beside zero motion and OpenCV's DIS, on the evaluation lists; kept in ``tracker/metrics.json``.

    For two frames of a clip that are 1, 2, 3, 5 or 8 apart, the landmarks that both show are carried from the first to
    the second at once, and compared with its labels.

    Args:
        pairs: of each number of frames apart, evenly spread over those that there are.

    Returns:
        ``normaliser`` that errors are divided by (None: they are px of the input), ``pairs`` by frames apart, and
        ``methods``: of each its ``mean`` and ``median`` error by frames apart, in % of the normaliser. Where it is
        known which landmarks a frame shows, ``precision`` and ``recall`` of the tracker's doubt (it takes a landmark
        to be hidden in the second frame), as shares.
    """
    tracker = load_tracker(run.folder / "tracker" / "model.pt", run.config, run.device)
    report: dict = {"normaliser": _normaliser(run), "pairs": {}, "methods": {}}
    for apart in APART:
        chosen = _labelled_pairs(run, apart, pairs)
        if not chosen:
            continue
        report["pairs"][str(apart)] = len(chosen)
        for method, row in _measured(run, tracker, chosen, report["normaliser"]).items():
            for kind, value in row.items():
                report["methods"].setdefault(method, {}).setdefault(kind, {})[str(apart)] = value
    write_text(run.folder / "tracker" / "metrics.json", json.dumps(report, indent=1) + "\n")
    return report


def _normaliser(run: Run) -> str | None:
    """The run's normaliser; None where its scheme or its lists know none."""
    kind, scheme = run.config.data.normaliser, run.scheme
    sizes = (face.face_size for faces in run.lists.evaluate.values() for face in faces)
    possible = {"ocular": scheme.ocular, "pupil": scheme.pupil, "box": True, "face_size": all(sizes)}
    return kind if possible[kind] else None


def _labelled_pairs(run: Run, apart: int, count: int) -> list[tuple[Clip, int, int]]:
    """Pairs of labelled frames of the evaluation lists: clip, and the places of both in it."""
    ways = [(clip, t, t + apart) for clip in run.evaluated_clips for t in range(len(clip.faces) - apart)]
    return spread([way for way in ways if all(way[0].faces[t].annotation for t in way[1:])], count)


def _measured(
    run: Run, tracker: nn.Module, pairs: list[tuple[Clip, int, int]], kind: str | None
) -> dict[str, dict[str, float]]:
    """Each method's error on pairs, and precision and recall of the tracker's doubt; what is undefined is left out."""
    faces = [(clip.faces[first], clip.faces[second]) for clip, first, second in pairs]
    crops, affines = plain_views(run.store, faces)
    affines = affines[::2]
    labels, shown, has_visibility = _labels(run, pairs)
    here, there = (torch.as_tensor(apply_affine(affines, points)).float() for points in labels)
    zoom = torch.as_tensor(np.linalg.det(affines[:, :, :2])).abs().sqrt()
    scale = torch.ones(len(pairs))  # px of the input to px or to %
    if kind:
        truth = read_ground_truth(run.store, [second for _, second in faces], kind, run.scheme)
        scale = (100 / (torch.as_tensor(truth.norm_px) * zoom)).float()
    both = shown[0] & shown[1] & scale.isfinite()[:, None]
    flows, visibility = _flows(run, tracker, crops[::2], crops[1::2])
    measures: dict[str, dict[str, float]] = {}
    for name, flow in flows.items():
        errors = ((here + sample(flow, here).mT - there).norm(dim=-1) * scale[:, None])[both]
        measures[name] = {"mean": float(errors.mean()), "median": float(errors.median())} if len(errors) else {}
    counted = shown[0] & has_visibility[:, None]
    doubt, hidden = (sample(visibility, here)[:, 0] < 0.5)[counted], ~shown[1][counted]
    right = float((doubt & hidden).sum())
    shares = {"precision": int(doubt.sum()), "recall": int(hidden.sum())}
    measures["tracker"] |= {name: right / count for name, count in shares.items() if count}
    return measures


def _labels(run: Run, pairs: list[tuple[Clip, int, int]]) -> tuple[np.ndarray, Tensor, Tensor]:
    """Landmarks (2, P, K, 2) px of the first and second frames, which of them the frames show (2, P, K), and whether
    that is known (P,): of rendered clips, and of lists that mark any landmark as hidden.
    """
    rows = [[run.store.points(pair[0].faces[pair[end]]) for pair in pairs] for end in (1, 2)]
    points, shown = (np.array([[row[part] for row in rows_of_end] for rows_of_end in rows]) for part in (0, 1))
    lists = np.array([clip.faces[0].list_name for clip, *_ in pairs])
    has_visibility = np.isin(lists, lists[~shown.all((0, 2))])
    for place, (clip, *frames) in enumerate(pairs):
        rendered = rendered_visibility(run.root, clip)
        if rendered is not None and rendered.shape[1] == run.scheme.points:  # not labelled anew by another scheme
            shown[:, place], has_visibility[place] = rendered[frames], True
    return points, torch.from_numpy(shown), torch.from_numpy(has_visibility)


@torch.no_grad()
def _flows(run: Run, tracker: nn.Module, first: Tensor, second: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Each method's flow (P, 2, S, S) px between crops (P, 3, S, S) uint8, and the tracker's chance (P, 1, S, S) that a
    pixel is seen in the second.
    """
    parts = [
        tracker(to_float(a.to(run.device)), to_float(b.to(run.device)))
        for a, b in zip(first.split(BATCH), second.split(BATCH))
    ]
    flow = torch.cat([part.flows[0].cpu() for part in parts])
    visibility = torch.cat([part.seen.sigmoid().cpu() for part in parts])
    return {"zero motion": torch.zeros_like(flow), "DIS": dis_flow(first, second), "tracker": flow}, visibility
