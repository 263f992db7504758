"""A tracker that no longer learns: the flow of two frames is computed once, and serves every view of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn

from tsal.data import CropFolder, FramePairs, to_float
from tsal.geometry import apply_affine, inside, invert_affine, move_flow, sample
from tsal.run import code_fingerprint
from tsal.tracker.network import track_frames
from tsal.tracker.points import TrackedPoints
from tsal.utils import half_precision, processor

PAIRS = 32  # computed at once on a GPU
TOGETHER = 4  # on a CPU, always so many: some of its convolutions round otherwise in batches of another size


@dataclass(frozen=True)
class PairFlows:
    """Flow of P pairs of frames in both directions, and what it says in the view that they are wanted in."""

    flows: Tensor  # (P, 2, 3, S, S): forward and backward; x, y px of the pairs' own crops, chance to be seen there
    to_view: Tensor  # (P, 2, 3): px of these crops -> px of the view

    def in_view(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Flow from first to second frames and back of some pairs, each (N, 2, S, S) px of the view."""
        flows, to_view = self.flows[rows, :, :2], self.to_view[rows]
        return move_flow(flows[:, 0], to_view), move_flow(flows[:, 1], to_view)

    def carry(self, points: Tensor, *, backward: bool = False) -> TrackedPoints:
        """Points (P, K, 2) px of the view in first frames, carried to second ones; ``backward``: the other way.

        Their forward-backward error is in px of the pairs' own crops, whatever the view.
        """
        here, there = self.flows.flip(1).unbind(1) if backward else self.flows.unbind(1)
        height, width = here.shape[-2:]
        own = apply_affine(invert_affine(self.to_view), points)
        flow = sample(here, own).mT  # (P, K, 3)
        moved = own + flow[..., :2]
        error = torch.linalg.vector_norm(flow[..., :2] + sample(there[:, :2], moved).mT, dim=-1)
        stays = inside(own, height, width) & inside(moved, height, width)
        return TrackedPoints(apply_affine(self.to_view, moved), error, stays, flow[..., 2])


class FrozenTracker:
    """Flows of pairs of frames, each computed once and kept: in memory while there is space, and on disk.

    They are kept as float16, which is exact to 0.004 px at 8 px. On a CPU a pair's flow is the same to the bit whatever
    it is computed together with: which pairs are new depends on where a run was resumed, and on other runs' flows.

    Args:
        net: a tracker in eval mode, called like :class:`~tsal.tracker.FlowNet`.
        memory_mb: flows kept in memory, MiB; on the pairs' device.
        disk: where they are kept for other runs; None: nowhere.
        amp: precision of its convolutions, as ``train.amp``; costs and flow are float32.
    """

    def __init__(self, net: nn.Module, memory_mb: float = 0, disk: CropFolder | None = None, amp: str = "none"):
        self.net, self.disk, self.amp, self.space = net, disk, amp, memory_mb * 2**20
        self._memory: dict[str, Tensor] = {}
        self._lock = Lock()  # teacher and student may ask at once
        self._latest: tuple[FramePairs, PairFlows] | None = None  # both ask for the same pairs in a step
        self._made_with = _hash(net) if disk else ""

    def __call__(self, pairs: FramePairs) -> PairFlows:
        with self._lock:
            if self._latest is None or self._latest[0] is not pairs:
                self._latest = pairs, PairFlows(self._flows(pairs), pairs.to_view)
            return self._latest[1]

    def _flows(self, pairs: FramePairs) -> Tensor:
        """Both flows (P, 2, 3, S, S) of the pairs' own crops."""
        shape, device = (2, 3, *pairs.first.shape[-2:]), pairs.first.device
        pair_flows = [self._kept(key, shape, device) for key in pairs.keys]
        new = [place for place, flows in enumerate(pair_flows) if flows is None]
        size = TOGETHER if device.type == "cpu" else PAIRS
        for part in (new[start : start + size] for start in range(0, len(new), size)):
            whole = part + part[-1:] * (size - len(part)) if device.type == "cpu" else part
            with half_precision(self.amp, device):
                flows = track_frames(self.net, to_float(pairs.first[whole]), to_float(pairs.second[whole]))
            for place, both in zip(part, torch.stack(flows, 1).half()):
                pair_flows[place] = both
                self._keep(pairs.keys[place], both)
        return torch.stack(pair_flows).float() if pair_flows else torch.zeros((0, *shape), device=device)

    def _kept(self, key: str, shape: tuple[int, ...], device: torch.device) -> Tensor | None:
        """Both flows (2, 3, S, S) of a pair."""
        if key in self._memory or not self.disk or not key:
            return self._memory.get(key)
        entry = self.disk.read(self._name(key, device), (*shape[:-1], 2 * shape[-1]))
        if entry is None:
            return None
        flows = torch.from_numpy(entry.view(np.float16).copy()).to(device)
        self._remember(key, flows)
        return flows

    def _keep(self, key: str, flows: Tensor) -> None:
        if not key:
            return
        self._remember(key, flows)
        if self.disk:
            self.disk.write(self._name(key, flows.device), flows.cpu().numpy().view(np.uint8))

    def _remember(self, key: str, flows: Tensor) -> None:
        if self.space >= flows.nbytes:
            self._memory[key] = flows.clone()  # not a part of the whole batch's
            self.space -= flows.nbytes

    def _name(self, key: str, device: torch.device) -> str:
        half = isinstance(half_precision(self.amp, device), torch.autocast)
        precision = "bfloat16" if half else "float32"
        made_on = f"{device.type} {processor(device)} {precision} torch {torch.__version__}"  # all of them round
        return hashlib.sha256(f"flow {self._made_with} {made_on} {key}".encode()).hexdigest()


def _hash(net: nn.Module) -> str:
    """Of a tracker's weights and of the code that runs it."""
    shape = type(net).__name__, getattr(net, "iterations", ())
    digest = hashlib.sha256(f"{shape} {code_fingerprint()}".encode())
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
