"""Training: one step of each kind, read top-down."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tsal.averaging import RunningMean, average_members, distance, ramp
from tsal.config import Config, TrainConfig
from tsal.data import Batch, blend_faces, photometric_augmentation, to_float, wear_shapes
from tsal.geometry import inside
from tsal.losses import point_loss, weighted_mean
from tsal.model import Detection, Detector
from tsal.pseudo import (
    TRACKING,
    PseudoLabels,
    Source,
    detection_sources,
    fuse,
    mean_with_mirror,
    to_view,
    tracking_sources,
    weights_to_view,
)
from tsal.schemes import Scheme
from tsal.supervision import calm_loss, detector_loss, structure_loss
from tsal.tracker import reconstruct_next, track_frames
from tsal.utils import has_bfloat16

# --- optimiser
# ---------------------------------------------------------------------------------------------------------------


def make_optimiser(module: nn.Module, train: TrainConfig, lr: float) -> torch.optim.Optimizer:
    """SGD (Nesterov) or AdamW; biases and heatmap stages may have rates of their own. Every parameter is in one group."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        rate = (train.bias_lr if name.endswith("bias") else 1.0) * (
            train.stage_lr if name.startswith("stages.") else 1.0
        )
        decay = train.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    rows = [
        {"params": items, "lr": lr * rate, "base_lr": lr * rate, "weight_decay": decay}
        for (rate, decay), items in groups.items()
    ]
    placed = [id(p) for row in rows for p in row["params"]]
    if sorted(placed) != sorted(id(p) for p in module.parameters()):
        raise AssertionError("a parameter is in no optimiser group, or in two")
    if train.optimiser == "sgd":
        return torch.optim.SGD(rows, momentum=train.momentum, nesterov=train.momentum > 0)
    return torch.optim.AdamW(rows)


def rate_at(fraction: float, train: TrainConfig) -> float:
    """Learning rate relative to its largest, at a fraction of the run.

    ``steps`` halves it at 90, 110 and 130 of 150 (the paper's epochs); ``cosine`` ends at 0.
    """
    if fraction < train.warmup:
        return fraction / train.warmup
    if train.schedule == "steps":
        return 0.5 ** sum(fraction >= epoch / 150 for epoch in (90, 110, 130))
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (fraction - train.warmup) / (1 - train.warmup)))
    return 1.0


def step_optimiser(
    optimiser: torch.optim.Optimizer, module: nn.Module, loss: Tensor, scale: float, clip_norm: float
) -> None:
    """One optimiser step at ``scale`` times the groups' base rates."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * scale
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
    optimiser.step()


# --- steps
# -----------------------------------------------------------------------------------------------------------------


@dataclass
class Member:
    """A detector and what trains it."""

    detector: Detector
    optimiser: torch.optim.Optimizer
    drift: RunningMean = field(
        default_factory=lambda: RunningMean(2)
    )  # of its points from its targets', in shares of a face's size

    def __post_init__(self):
        self.drift.to(next(self.detector.parameters()).device)

    def learn(self, loss: Tensor, scale: float, clip_norm: float) -> None:
        step_optimiser(self.optimiser, self.detector, loss, scale, clip_norm)


class FlowMemory:
    """What frozen trackers said of pairs of frames, while there is room: a pair that is never augmented looks the same
    each time.
    """

    def __init__(self, limit: int):
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.limit = self.room = limit  # bytes; 0: nothing is ever kept

    def keep(self, key: tuple[int, int], flows: Tensor) -> Tensor:
        """The flows as they are used: in half precision (0.004 px at 8 px) where there is a memory, whether or not they
        found room.
        """
        flows = flows.half() if self.limit else flows
        if self.room >= flows.nbytes:
            self.kept[key] = flows
            self.room -= flows.nbytes
        return flows


class Context:
    """What every step needs and none changes: config, scheme, device, precision."""

    def __init__(self, config: Config, scheme: Scheme, device: torch.device):
        self.config, self.scheme, self.device = config, scheme, device
        self.half = config.train.amp == "bf16" or (config.train.amp == "auto" and has_bfloat16(device))
        self.flows = FlowMemory(config.data.cache_mb * 2**20 if config.augment.weak == 0 else 0)

    def precision(self):
        """The precision of a forward pass; losses, targets, costs and flow are always float32."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext()

    def strong(self, images: Tensor, seed: int, *, occlude: bool = False) -> Tensor:
        """Pictures in [0, 1] -> augmented ones; the same seed draws the same."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return photometric_augmentation(images, self.config.augment, generator, occlude=occlude)

    def labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labelled pictures, augmented, in [0, 1], and their points (L, K, 2) px: faces in the shapes of others,
        others showing
        through them. The same batch draws the same."""
        augment, images, points = self.config.augment, to_float(batch.labelled), batch.points
        whole = batch.visible.all(1)
        others, shapes = images[whole], points[whole]
        generator = torch.Generator(self.device).manual_seed(batch.seed + 2)
        if augment.shapes > 0:
            images, points = wear_shapes(images, points, batch.visible, shapes, augment.shapes, generator)
        if augment.blend > 0:
            images = blend_faces(images, points, batch.visible, others, shapes, augment.blend, generator)
        return self.strong(images, batch.seed), points


def supervised_step(member: Member, batch: Batch, context: Context, fraction: float) -> dict[str, Tensor]:
    """Labelled rows alone."""
    config = context.config
    member.detector.train()
    images, points = context.labelled(batch)
    with context.precision():
        detection = member.detector(images)
    loss, terms = detector_loss(member.detector, detection, points, batch.visible, config, context.scheme)
    member.learn(loss, rate_at(fraction, config.train), config.train.clip_norm)
    return {"loss": loss.detach()} | terms


def asynchronous_step(
    teacher: Member,
    student: Member,
    trackers: dict[str, nn.Module],
    batch: Batch,
    context: Context,
    fraction: float,
) -> dict[str, Tensor]:
    """One step of Teacher-Student Asynchronous Learning (arXiv 2012.06711).

    ``trackers``: ``teacher`` and ``student``; one network twice when they share it. Each picture goes once through each
    detector.
    """
    config, tsal = context.config, context.config.tsal
    labelled, points = context.labelled(batch)
    weak, strong = to_float(batch.weak), context.strong(to_float(batch.strong), batch.seed + 1, occlude=True)
    weight = tsal.weight * ramp(fraction, tsal.ramp_up, tsal.ramp_down)
    scale = rate_at(fraction, config.train)
    needs_own, learns = tsal.target_member == "own", tsal.teacher_lr > 0
    calm = learns and tsal.calm and len(batch.following) > 0
    flows = {}
    if calm or any(name in TRACKING for name in tsal.sources):
        flows = _flows(trackers, weak, batch, needs_own, context)

    # teacher: labels, one calm source, structure; or, without a rate of its own, nothing but its sources
    terms, loss = {}, torch.zeros((), device=context.device)
    if learns:
        loss, found, terms = _learn_labels(teacher, labelled, points, weak, batch, context)
    elif not needs_own:
        found = _detect(teacher.detector, weak, context)
    if calm or not needs_own:
        sources, reconstruction = _sources(teacher.detector, found, weak, flows.get("teacher"), batch, context)
    if calm:
        trust = sources["tracked_heatmap"].valid[batch.following].to(torch.float32)
        terms["calm"] = calm_loss(teacher.detector, found.rows(batch.following), reconstruction, trust, config.train)
        loss = loss + weight * terms["calm"]
    if learns:
        terms["sic"] = structure_loss(teacher.detector, found, batch.size, batch.clip, context.scheme)
        loss = loss + tsal.sic_weight * terms["sic"]
    teacher_loss = loss

    # student: labels, the fusion of several sources, structure
    seen, found, student_terms = _learn_labels(student, labelled, points, strong, batch, context)
    if needs_own:
        real = _detect(student.detector, weak, context)
        sources, _ = _sources(student.detector, real, weak, flows.get("student"), batch, context)
    target = fuse(sources, tsal)
    size = batch.size * batch.to_strong[:, :, :2].det().abs().sqrt()
    student_terms["unlabelled"] = _unlabelled_loss(student, found, target, size, batch, context)
    student_terms["sic"] = structure_loss(student.detector, found, size, batch.clip, context.scheme)
    seen = seen * (fraction >= tsal.labels_from)
    student_loss = seen + weight * student_terms["unlabelled"] + tsal.sic_weight * student_terms["sic"]

    if learns:
        teacher.learn(teacher_loss, scale, config.train.clip_norm)
    student.learn(student_loss, scale, config.train.clip_norm)
    average_members(teacher.detector, student.detector, tsal.alpha, tsal.direction, buffers=tsal.buffers)
    report = {f"teacher_{k}": v for k, v in terms.items()} | {f"student_{k}": v for k, v in student_terms.items()}
    report |= _describe(target) | measure(sources, target, batch)
    if tsal.correct_drift:
        report["drift"] = 100 * student.drift.mean.norm()
    return report | {"loss": (teacher_loss + student_loss).detach(), "weight": torch.tensor(weight)}


def _flows(
    trackers: dict[str, nn.Module], weak: Tensor, batch: Batch, both: bool, context: Context
) -> dict[str, tuple[Tensor, Tensor]]:
    """Forward and backward flow (P, 2, H, W) of all frame pairs of the batch, one call a tracker."""
    names = ("teacher", "student") if both else ("teacher",)
    once = {id(trackers[name]): trackers[name] for name in names}
    found = {key: _flow(tracker, weak, batch, context) for key, tracker in once.items()}
    return {name: found[id(trackers[name])] for name in names}


def _flow(tracker: nn.Module, weak: Tensor, batch: Batch, context: Context) -> tuple[Tensor, Tensor]:
    """One frozen tracker's flows, asked for where they are not remembered."""
    keys = [(id(tracker), pair) for pair in batch.pair.tolist()]
    found = {place: context.flows.kept[key] for place, key in enumerate(keys) if key in context.flows.kept}
    new = [place for place in range(len(keys)) if place not in found]
    if new:
        with context.precision():
            flows = track_frames(
                tracker, weak[batch.previous[new]], weak[batch.following[new]], context.config.tracker.polish
            )
        for place, both in zip(new, torch.stack(flows, 1)):
            found[place] = context.flows.keep(keys[place], both)
    whole = (
        torch.stack([found[place] for place in range(len(keys))]).float()
        if keys
        else weak.new_zeros((0, 2, 2, *weak.shape[-2:]))
    )
    return whole[:, 0], whole[:, 1]


def _learn_labels(
    member: Member, labelled: Tensor, points: Tensor, unlabelled: Tensor, batch: Batch, context: Context
) -> tuple[Tensor, Detection, dict[str, Tensor]]:
    """One pass over labelled and unlabelled pictures -> supervised loss, detections of the unlabelled ones, terms."""
    member.detector.train()
    with context.precision():
        detection = member.detector(torch.cat([labelled, unlabelled]))
    count = len(labelled)
    loss, terms = detector_loss(
        member.detector, detection.rows(slice(0, count)), points, batch.visible, context.config, context.scheme
    )
    return loss, detection.rows(slice(count, None)), terms


@torch.no_grad()
def _detect(detector: Detector, images: Tensor, context: Context) -> Detection:
    """As evaluation sees it: with running statistics, nothing learned."""
    detector.eval()
    with context.precision():
        return detector(images)


@torch.no_grad()
def _sources(
    detector: Detector,
    real: Detection,
    weak: Tensor,
    flows: tuple[Tensor, Tensor] | None,
    batch: Batch,
    context: Context,
) -> tuple[dict[str, Source], Detection]:
    """Sources of the unlabelled frames, detached, and the detection on the reconstructions (P of them; none without
    flows).
    """
    tsal = context.config.tsal
    sources = detection_sources(detector, real.detach())
    again = [reconstruct_next(weak[batch.previous], flows[1])] if flows else []
    count = sum(map(len, again))
    if mirror := tsal.mirror and context.scheme.can_flip:
        again.append(weak.flip(-1))
    if not again:
        return sources, real.rows(slice(0, 0))
    detection = _detect(detector, torch.cat(again), context)  # a target is measured with the running statistics
    reconstruction = detection.rows(slice(0, count))
    if mirror:
        sources = mean_with_mirror(
            sources, detection_sources(detector, detection.rows(slice(count, None))), weak.shape[-1], context.scheme
        )
    if flows:
        sources |= tracking_sources(
            detector, reconstruction, sources["heatmap"], *flows, batch.previous, batch.following, tsal.gate_flow
        )
    return sources, reconstruction


def _unlabelled_loss(
    student: Member, found: Detection, target: PseudoLabels, size: Tensor, batch: Batch, context: Context
) -> Tensor:
    """The student's loss on its own view against the fused target, which is made on the weak view; ``size`` (U,) px, in
    its own.

    On its harder view the student places all landmarks of all faces a little off from where the teacher has them.
    Taught that, it moves on its easy view too, the teacher follows, and the next target lies farther out. What is
    common to all faces (``correct_drift``) is left out of the targets, so that labels alone say where faces lie on the
    average.
    """
    config, side, detector = context.config, context.config.model.input, student.detector
    points = to_view(target.points, batch.to_strong, batch.flipped, context.scheme)
    weights = weights_to_view(target.weight, batch.flipped, context.scheme)
    if config.tsal.correct_drift and len(points):
        apart = (detector.heatmap(found)[0].detach() - points) / size[:, None, None]
        trust = weights * inside(points, side, side)
        shift = torch.stack([weighted_mean(along, trust) for along in apart.unbind(-1)])
        points = points + size[:, None, None] * student.drift.update(shift)
    if config.tsal.student_loss == "full":
        return detector_loss(detector, found, points, weights, config, context.scheme)[0]
    return point_loss(detector.heatmap(found)[0], points, weights * inside(points, side, side))


def _describe(target: PseudoLabels) -> dict[str, Tensor]:
    """What a run's history keeps of the targets."""
    return {
        "target_weight": target.weight.mean(),
        "target_agreement": target.agreement.nanmean(),
        "target_tracked": target.tracked.float().mean(),
        "flow_error": target.flow_error.nanmean(),
    }


def measure(sources: dict[str, Source], target: PseudoLabels, batch: Batch) -> dict[str, Tensor]:
    """Mean error of each source and of the fused target where the batch knows the truth, in % of the face's size, and
    the ``spread`` of the heatmap source's shapes over the faces, in % too: 0 once all faces get the same shape. Nothing
    of it is learned from.
    """
    shape = sources["heatmap"].points / batch.size[:, None, None]
    spread = 100 * (shape - shape.mean(1, keepdim=True)).std(0).mean()
    if batch.truth is None:
        return {"spread": spread}
    errors = {}
    for name, points, valid in [
        *((n, s.points, s.valid) for n, s in sources.items()),
        ("fused", target.points, target.weight > 0),
    ]:
        distance = 100 * (points - batch.truth).norm(dim=-1) / batch.size[:, None]
        errors[f"error_{name}"] = torch.where(valid, distance, torch.nan).nanmean()
    return {"spread": spread} | errors


def member_distance(teacher: Detector, student: Detector) -> dict[str, float]:
    return {"member_distance": distance(teacher, student)}
