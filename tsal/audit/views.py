"""What the explorer shows of a clip: crops, flow and heatmaps, made when they are first looked at, and kept."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from tsal.audit.store import Audit
from tsal.config import Config
from tsal.data import Clip, Face, FaceStore, frame_pairs, neighbours, plain_views, to_float
from tsal.model import Detector
from tsal.model_files import load_model
from tsal.pseudo import PseudoLabeller, carried_votes, detection_sources
from tsal.run import Run
from tsal.tracker import FrozenTracker, final_trackers, forward_backward_error, occlusion_mask
from tsal.trainings import model_files_of
from tsal.utils import InputError, file_hash, read_arrays, write_arrays

VIEWS = "views"  # folder in an audit's


@torch.no_grad()
def clip_view(
    models: dict[str, Detector],
    trackers: dict[str, FrozenTracker],
    store: FaceStore,
    clip: Clip,
    config: Config,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """What can be looked at of a clip of T frames.

    A model's points are carried by the tracker of its name, the teacher's where it has none; the flow shown is the
    teacher's.

    ``images`` (T, S, S, 3) uint8; ``affine`` (2, 3) image px -> input px; ``flow`` and ``flow_backward`` (T-1, 2, S, S)
    px float16; ``occluded`` (T-1, S, S) and ``forward_backward_error`` (T-1, S, S) float16 of the earlier frame; and
    ``heatmaps_<model>`` (T, K, h, w) uint8, each map over its largest value.

    Of the method's window: frames ``voters`` (V,) and ``voted`` (V,) that they vote for, with ``votes_<model>`` (V, K)
    and the points ``carried_<model>`` (V, K, 2) px that they carry there; ``own_<model>`` (T, K), a frame's vote for
    its own points.
    """
    crops, affines = plain_views(store, [clip.faces])
    view = {"images": crops.permute(0, 2, 3, 1).numpy(), "affine": affines[0]}
    labeller = PseudoLabeller(config, everything=True)
    previous, following = neighbours(range(len(clip.faces)), labeller.window)
    flows = None
    if len(clip.faces) > 1:
        indices = zip(previous.tolist(), following.tolist())
        pairs = frame_pairs(store, ((clip.faces[i], clip.faces[j], affines[0]) for i, j in indices))
        pairs = pairs.to(device)
        flows = trackers["teacher"](pairs)
        view |= {"voters": torch.cat([previous, following]).numpy(), "voted": torch.cat([following, previous]).numpy()}
        forward, backward = flows.in_view(following - previous == 1)
        view |= {
            "flow": forward.cpu().numpy().astype(np.float16),
            "flow_backward": backward.cpu().numpy().astype(np.float16),
        }
        view["occluded"] = occlusion_mask(forward, backward).cpu().numpy()
        view["forward_backward_error"] = forward_backward_error(forward, backward).cpu().numpy().astype(np.float16)
    images = to_float(crops.to(device))
    for name, detector in models.items():
        detection = detector.eval()(images)
        if flows:
            flows = trackers.get(name, trackers["teacher"])(pairs)
            sources = detection_sources(detector, detection)
            own, points = labeller.trust(sources), sources["heatmap"].points
            _, votes, (carried, _) = carried_votes(points, own, flows, previous, following, labeller.vote_error)
            for key, values in (("own", own), ("votes", votes), ("carried", carried)):
                view[f"{key}_{name}"] = values.cpu().numpy().astype(np.float16)
        maps = detector.maps(detection).clamp(min=0)
        view[f"heatmaps_{name}"] = (255 * maps / maps.amax((2, 3), keepdim=True).clamp(min=1e-9)).byte().cpu().numpy()
    return view


class ClipViews:
    """The views of an audit's clips by number (column ``view`` of its frames), see :func:`clip_view`.

    Raises:
        InputError: where a view is not kept, and the run's models are not those of the audit.
    """

    def __init__(self, run: Run, audit: Audit):
        self.run, self.audit = run, audit

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        path = self.audit.folder / VIEWS / f"{number}.npz"
        if path.exists():
            return read_arrays(path)
        run, clip = self.run, self._clip(number)
        view = clip_view(self._models, self._trackers, run.store, clip, run.config, run.device)
        path.parent.mkdir(exist_ok=True)
        write_arrays(path, **view)
        return view

    def _clip(self, number: int) -> Clip:
        rows = self.audit.frames[self.audit.frames["view"] == number]
        boxes = rows[["x1", "y1", "x2", "y2"]].to_numpy()
        faces = (Face(image, None, tuple(box), None, "", 0) for image, box in zip(rows.image, boxes))
        return Clip(rows["clip"].iloc[0], tuple(faces))

    @cached_property
    def _models(self) -> dict[str, Detector]:
        files = model_files_of(self.run)
        for name, weights in self.audit.weights.items():
            if file_hash(files[name][0]) != weights:
                again = f"python -m tsal pseudo --run {self.run.folder}"
                raise InputError(f"{files[name][0]}: changed since the audit was made; make it again: {again}")
        return {name: load_model(*files[name], self.run.device)[0] for name in self.audit.weights}

    @cached_property
    def _trackers(self) -> dict[str, FrozenTracker]:
        return final_trackers(self.run)
