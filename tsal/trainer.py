"""Training: one step of each kind, read top-down."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tsal.averaging import RunningMean, average_models, distance, ramp
from tsal.config import Config
from tsal.data import Batch, aligned_mixup, photometric_augmentation, to_float, transfer_shapes
from tsal.geometry import inside
from tsal.losses import point_loss, weighted_mean
from tsal.model import Detection, Detector
from tsal.optimiser import rate_at, step_optimiser
from tsal.pseudo import LabelledFrames, PseudoLabeller, PseudoLabels, to_view, weights_to_view
from tsal.schemes import Scheme
from tsal.supervision import consistency_loss, detector_loss, structure_loss
from tsal.tracker import track_frames
from tsal.utils import half_precision

# --- what steps work with ---


@dataclass
class Learner:
    """A detector and its optimiser."""

    detector: Detector
    optimiser: torch.optim.Optimizer

    def learn(self, loss: Tensor, scale: float, clip_norm: float) -> None:
        step_optimiser(self.optimiser, self.detector, loss, scale, clip_norm)


@dataclass
class TeacherStudent:
    """The two learners of a semi-supervised training, each with its frozen tracker, and the drift of their targets."""

    teacher: Learner
    student: Learner
    trackers: dict[str, nn.Module]  # "teacher" and "student"; one network twice when they share it
    drift: RunningMean = field(
        default_factory=lambda: RunningMean(2)
    )  # student's points less targets, over the face's size

    def __post_init__(self):
        self.drift.to(next(self.student.detector.parameters()).device)

    def distance(self) -> dict[str, float]:
        return {"model_distance": distance(self.teacher.detector, self.student.detector)}


class FlowMemory:
    """Flows of frozen trackers, while there is room: a pair that is never augmented looks the same each time."""

    def __init__(self, limit: int):
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.limit = self.room = limit  # bytes; 0: nothing is ever kept

    def keep(self, key: tuple[int, int], flows: Tensor) -> Tensor:
        """The flows as they are used: in half precision (0.004 px at 8 px) where there is a memory, kept or not."""
        flows = flows.half() if self.limit else flows
        if self.room >= flows.nbytes:
            self.kept[key] = flows
            self.room -= flows.nbytes
        return flows


class Context:
    """What every step needs and none changes: config, scheme, device, precision, and how pseudo-labels are made."""

    def __init__(self, config: Config, scheme: Scheme, device: torch.device):
        self.config, self.scheme, self.device = config, scheme, device
        self.flows = FlowMemory(config.data.cache_mb * 2**20 if config.augment.weak_geometry == 0 else 0)
        self.labeller = PseudoLabeller(config, self.precision)

    def precision(self):
        """The precision of a forward pass; losses, targets, costs and flow are always float32."""
        return half_precision(self.config.train.amp, self.device)

    def strong(self, images: Tensor, seed: int, *, occlude: bool = False) -> Tensor:
        """Images in [0, 1] -> augmented ones; the same seed draws the same."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return photometric_augmentation(images, self.config.augment, generator, occlude=occlude)

    def labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labelled images, augmented, in [0, 1], and their points (L, K, 2) px, after shape transfer and aligned
        mixup between them. The same batch draws the same.
        """
        augment, images, points = self.config.augment, to_float(batch.labelled), batch.points
        whole = batch.visible.all(1)
        others, shapes = images[whole], points[whole]
        generator = torch.Generator(self.device).manual_seed(batch.seed + 2)
        if augment.shape_transfer > 0:
            images, points = transfer_shapes(images, points, batch.visible, shapes, augment.shape_transfer, generator)
        if augment.aligned_mixup > 0:
            images = aligned_mixup(images, points, batch.visible, others, shapes, augment.aligned_mixup, generator)
        return self.strong(images, batch.seed), points


@dataclass(frozen=True)
class Views:
    """A batch as the detectors see it, in [0, 1]."""

    labelled: Tensor  # (L, 3, S, S)
    points: Tensor  # (L, K, 2) px of the labelled images
    weak: Tensor  # (U, 3, S, S): targets are made on it
    strong: Tensor  # (U, 3, S, S): the student learns on it


def make_views(batch: Batch, context: Context) -> Views:
    labelled, points = context.labelled(batch)
    strong = context.strong(to_float(batch.strong), batch.seed + 1, occlude=True)
    return Views(labelled, points, to_float(batch.weak), strong)


@dataclass(frozen=True)
class Pass:
    """One pass of a learner over labelled and unlabelled images."""

    loss: Tensor  # on the labelled ones; zero where it learned nothing
    detection: Detection  # of the unlabelled ones
    terms: dict[str, Tensor]


# --- steps ---


def supervised_step(learner: Learner, batch: Batch, context: Context, fraction: float) -> dict[str, Tensor]:
    """Labelled rows alone."""
    train = context.config.train
    learner.detector.train()
    images, points = context.labelled(batch)
    with context.precision():
        detection = learner.detector(images)
    loss, terms = detector_loss(learner.detector, detection, points, batch.visible, train, context.scheme)
    learner.learn(loss, rate_at(fraction, train), train.clip_norm)
    return {"loss": loss.detach()} | terms


def asynchronous_step(pair: TeacherStudent, batch: Batch, context: Context, fraction: float) -> dict[str, Tensor]:
    """One step of Teacher-Student Asynchronous Learning (arXiv 2012.06711), and of every method that is a part of it.

    Each view goes once through its detector, reconstructed frames through the one that makes the targets. Targets are
    detached.
    """
    tsal, semi, train = context.config.tsal, context.config.semi, context.config.train
    weight, scale = semi.unlabelled_weight * ramp(fraction, tsal.ramp_up, tsal.ramp_down), rate_at(fraction, train)
    factors = {"consistency": weight, "unlabelled": weight, "sic": tsal.sic_weight}
    views = make_views(batch, context)
    teacher = look_or_learn(pair.teacher, views, batch, context)
    student = learn_labels(pair.student, views, views.strong, batch, context)
    labels = pseudo_labels(pair, teacher, views, batch, context)
    target = labels[tsal.targets_from].fused

    of_teacher = teacher_terms(pair.teacher, teacher, labels, batch, context)
    of_student = student_terms(pair, student, target, batch, context)
    teacher_loss = add(teacher.loss, of_teacher, factors)
    student_loss = add(student.loss * (fraction >= tsal.labels_after), of_student, factors)

    if tsal.teacher_lr > 0:
        pair.teacher.learn(teacher_loss, scale, train.clip_norm)
    pair.student.learn(student_loss, scale, train.clip_norm)
    average_models(pair.teacher.detector, pair.student.detector, semi.ema_decay, tsal.ema_direction, tsal.bn_stats)
    report = {"loss": (teacher_loss + student_loss).detach(), "weight": torch.tensor(weight)}
    report |= named("teacher", teacher.terms | of_teacher) | named("student", student.terms | of_student)
    return report | describe(target, pair, context) | measure(labels[tsal.targets_from], batch)


def add(loss: Tensor, terms: dict[str, Tensor], factors: dict[str, float]) -> Tensor:
    """A loss and its further terms, each times its factor."""
    for name, value in terms.items():
        loss = loss + factors[name] * value
    return loss


def learn_labels(learner: Learner, views: Views, unlabelled: Tensor, batch: Batch, context: Context) -> Pass:
    """One pass over labelled and unlabelled images -> supervised loss, detections of the unlabelled ones, terms."""
    learner.detector.train()
    with context.precision():
        detection = learner.detector(torch.cat([views.labelled, unlabelled]))
    count = len(views.labelled)
    labelled, train = detection.rows(slice(0, count)), context.config.train
    loss, terms = detector_loss(learner.detector, labelled, views.points, batch.visible, train, context.scheme)
    return Pass(loss, detection.rows(slice(count, None)), terms)


def look_or_learn(teacher: Learner, views: Views, batch: Batch, context: Context) -> Pass:
    """The teacher's pass over the weak views: with labels, where it learns; else as evaluation sees them."""
    if context.config.tsal.teacher_lr > 0:
        return learn_labels(teacher, views, views.weak, batch, context)
    zero = torch.zeros((), device=context.device)
    return Pass(zero, context.labeller.detect(teacher.detector, views.weak), {})


def pseudo_labels(
    pair: TeacherStudent, teacher: Pass, views: Views, batch: Batch, context: Context
) -> dict[str, LabelledFrames]:
    """Pseudo-labels of the weak views by who makes them: "teacher", "self" where the student learns from its own."""
    tsal, labeller, places = context.config.tsal, context.labeller, (batch.previous, batch.following)
    labels = {}
    if tsal.targets_from == "teacher" or labeller.consistency:
        flows = flows_of(pair.trackers["teacher"], views.weak, batch, context) if labeller.needs_flow else None
        labels["teacher"] = labeller(pair.teacher.detector, views.weak, teacher.detection, flows, *places)
    if tsal.targets_from == "self":
        flows = flows_of(pair.trackers["student"], views.weak, batch, context) if labeller.needs_flow else None
        detection = labeller.detect(pair.student.detector, views.weak)
        labels["self"] = labeller(pair.student.detector, views.weak, detection, flows, *places)
    return labels


def flows_of(tracker: nn.Module, weak: Tensor, batch: Batch, context: Context) -> tuple[Tensor, Tensor]:
    """Forward and backward flow (P, 2, H, W) of the batch's pairs of frames by a frozen tracker, where they are not
    remembered.
    """
    keys = [(id(tracker), pair) for pair in batch.pair.tolist()]
    found = {place: context.flows.kept[key] for place, key in enumerate(keys) if key in context.flows.kept}
    new = [place for place in range(len(keys)) if place not in found]
    if new:
        with context.precision():
            flows = track_frames(tracker, weak[batch.previous[new]], weak[batch.following[new]])
        for place, both in zip(new, torch.stack(flows, 1)):
            found[place] = context.flows.keep(keys[place], both)
    empty = weak.new_zeros((0, 2, 2, *weak.shape[-2:]))
    whole = torch.stack([found[place] for place in range(len(keys))]).float() if keys else empty
    return whole[:, 0], whole[:, 1]


# --- losses on unlabelled frames ---


def teacher_terms(
    learner: Learner, seen: Pass, labels: dict[str, LabelledFrames], batch: Batch, context: Context
) -> dict[str, Tensor]:
    """Where the teacher learns: ``consistency`` with itself on reconstructed frames, and structure (``sic``)."""
    terms, config = {}, context.config
    if context.labeller.consistency and len(batch.following):
        own = labels["teacher"]
        trust = own.sources["tracked_heatmap"].valid[batch.following].to(torch.float32)
        real = seen.detection.rows(batch.following)
        terms["consistency"] = consistency_loss(learner.detector, real, own.reconstruction, trust, config.train)
    if config.tsal.teacher_lr > 0:
        terms["sic"] = structure_loss(learner.detector, seen.detection, batch.size, batch.clip, context.scheme)
    return terms


def student_terms(
    pair: TeacherStudent, seen: Pass, target: PseudoLabels, batch: Batch, context: Context
) -> dict[str, Tensor]:
    """``unlabelled``: the student's loss on its own view against the fused target; structure (``sic``)."""
    size = batch.size * batch.to_strong[:, :, :2].det().abs().sqrt()  # (U,) px, in the strong view
    return {
        "unlabelled": _target_loss(pair, seen.detection, target, size, batch, context),
        "sic": structure_loss(pair.student.detector, seen.detection, size, batch.clip, context.scheme),
    }


def _target_loss(
    pair: TeacherStudent, detection: Detection, target: PseudoLabels, size: Tensor, batch: Batch, context: Context
) -> Tensor:
    """The student's loss on its strong view against the fused target, which is made on the weak view.

    Drift correction: teacher and student see different views, so targets carry a small constant offset that the EMA
    accumulates. Its running mean over all faces and landmarks is subtracted.
    """
    config, side, detector = context.config, context.config.model.input, pair.student.detector
    points = to_view(target.points, batch.to_strong, batch.flipped, context.scheme)
    weights = weights_to_view(target.weight, batch.flipped, context.scheme)
    if config.tsal.drift_correction and len(points):
        apart = (detector.heatmap(detection)[0].detach() - points) / size[:, None, None]
        trust = weights * inside(points, side, side)
        shift = torch.stack([weighted_mean(along, trust) for along in apart.unbind(-1)])
        points = points + size[:, None, None] * pair.drift.update(shift)
    if config.tsal.student_loss == "full":
        return detector_loss(detector, detection, points, weights, config.train, context.scheme)[0]
    return point_loss(detector.heatmap(detection)[0], points, weights * inside(points, side, side))


# --- what a history keeps ---


def named(learner: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{learner}_{name}": value for name, value in terms.items()}


def describe(target: PseudoLabels, pair: TeacherStudent, context: Context) -> dict[str, Tensor]:
    """What a run's history keeps of the targets."""
    report = {
        "target_weight": target.weight.mean(),
        "target_disagreement": target.disagreement.nanmean(),
        "target_tracked": target.tracked.float().mean(),
        "flow_error": target.flow_error.nanmean(),
    }
    return report | ({"drift": 100 * pair.drift.mean.norm()} if context.config.tsal.drift_correction else {})


def measure(labels: LabelledFrames, batch: Batch) -> dict[str, Tensor]:
    """Mean error of each source and of the fused target where the batch has labels to measure by, in % of the face's
    size; and the ``spread`` of the heatmap source's shapes over the faces, in % too: 0 once all faces get the same
    shape. Nothing of it is learned from.
    """
    shape = labels.sources["heatmap"].points / batch.size[:, None, None]
    spread = 100 * (shape - shape.mean(1, keepdim=True)).std(0).mean()
    if batch.truth is None:
        return {"spread": spread}
    fused = [("fused", labels.fused.points, labels.fused.weight > 0)]
    errors = {}
    for name, points, valid in [*((n, s.points, s.valid) for n, s in labels.sources.items()), *fused]:
        apart = 100 * (points - batch.truth).norm(dim=-1) / batch.size[:, None]
        errors[f"error_{name}"] = torch.where(valid, apart, torch.nan).nanmean()
    return {"spread": spread} | errors
