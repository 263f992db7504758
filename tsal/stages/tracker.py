"""Stage tracker: train the optical-flow tracker and measure it beside zero motion and OpenCV's DIS."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import torch
from torch import nn

from tsal.data import FaceStore, find_list, group_clips, plain_views, read_list, spread, to_float
from tsal.run import Run
from tsal.synthetic import VERSION as RENDERER
from tsal.synthetic import SyntheticFlowMaker, ground_truth_flow
from tsal.tracker import dis_flow, load_tracker, track_frames, track_points
from tsal.tracker import train_tracker as tracker_training
from tsal.utils import use_free_cores, write_text


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
    rendered = SyntheticFlowMaker(store, clips, config.augment, seed=config.seed + 18, pairs=config.tracker.batch)
    origin = dataclasses.asdict(config.render) | {"renderer": RENDERER}
    return tracker_training(run, rendered, origin)


def measure_tracker(run: Run, *, clips: int = 200) -> dict[str, dict[str, float]]:
    """The tracker beside zero motion and OpenCV's DIS, on the evaluation lists; kept in ``tracker/metrics.json``.

    ``transfer``: labelled points propagated to the next frame against its labels, mean distance in px of the input.
    ``endpoint_error``: on rendered clips, mean over pixels seen in both frames, px of the input.
    """
    tracker = load_tracker(run.folder / "tracker" / "model.pt", run.config, run.device)
    groups = [c for faces in run.lists.evaluate.values() for c in group_clips(faces) if len(c.faces) > 1]
    groups = spread(groups, clips)
    results: dict[str, dict[str, list]] = {}
    for clip in groups:
        crops, affines = plain_views(run.store, [clip.faces])
        images = to_float(crops.to(run.device))
        forward = track_frames(tracker, images[:-1], images[1:])[0][:, :2]
        zero = torch.zeros_like(forward).cpu()
        methods = {"zero motion": zero, "DIS": dis_flow(crops[:-1], crops[1:]), "tracker": forward.cpu()}
        truth = ground_truth_flow(run.root, clip, affines[0], run.config.model.input)
        points, visible = map(np.array, zip(*(run.store.points(face) for face in clip.faces)))
        points_input = torch.as_tensor(points @ affines[0][:, :2].T + affines[0][:, 2]).float()
        both = torch.as_tensor(visible[:-1] & visible[1:])
        for name, flow in methods.items():
            row = results.setdefault(name, {"transfer": [], "endpoint_error": []})
            if both.any():
                propagated = track_points(torch.nan_to_num(points_input[:-1]), flow, torch.zeros_like(flow)).points
                row["transfer"].append((propagated - points_input[1:]).norm(dim=-1)[both])
            if truth is not None:
                row["endpoint_error"].append((flow - truth[0]).norm(dim=1)[truth[1]])
    report = {
        name: {key: float(torch.cat(values).mean()) for key, values in row.items() if values}
        for name, row in results.items()
    }
    write_text(run.folder / "tracker" / "metrics.json", json.dumps(report, indent=1) + "\n")
    return report
