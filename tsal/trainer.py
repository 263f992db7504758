"""Training: one step of each kind, read top-down."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tsal.averaging import RunningMean, average_models, distance, ramp
from tsal.config import Config
from tsal.data import Batch, Part, aligned_mixup, photometric_augmentation, to_float, transfer_shapes
from tsal.geometry import apply_affine, inside, invert_affine, to_view, weights_to_view
from tsal.losses import point_loss, weighted_mean
from tsal.model import Detection, Detector
from tsal.optimiser import rate_at, step_optimiser
from tsal.pseudo import LabellerOutput, PseudoLabeller, PseudoLabels, carried_votes
from tsal.schemes import Scheme
from tsal.supervision import consistency_loss, detector_loss, structure_loss
from tsal.tracker import FrozenTracker
from tsal.utils import Together, half_precision, in_turn, mean_over_processes, rank, share_gradients, share_statistics


@dataclass
class Learner:
    """A detector and its optimiser; of several processes, all take the step of the whole batch."""

    detector: Detector
    optimiser: torch.optim.Optimizer

    def __post_init__(self):
        self.forward = share_gradients(share_statistics(self.detector))  # the detector, as learning calls it

    def learn(self, loss: Tensor, rate: float, clip_norm: float) -> None:
        """One step of the optimiser, at ``rate`` times its largest learning rates."""
        step_optimiser(self.optimiser, self.detector, loss, rate, clip_norm)


@dataclass
class TeacherStudent:
    """The two learners of a semi-supervised training, each with its frozen tracker, and the drift of their targets."""

    teacher: Learner
    student: Learner
    trackers: dict[str, FrozenTracker]  # "teacher" and "student"; one network twice when they share it
    drift: RunningMean = field(default_factory=lambda: RunningMean(2))  # student less target, over the face's size

    def __post_init__(self):
        self.drift.to(next(self.student.detector.parameters()).device)

    def distance(self) -> dict[str, float]:
        return {"model_distance": distance(self.teacher.detector, self.student.detector)}


class Context:
    """What every step needs and none changes: config, scheme, device, precision, how pseudo-labels are made, and how
    the teacher's half of a step and the student's are called: in turn, or side by side.
    """

    def __init__(self, config: Config, scheme: Scheme, device: torch.device, together: Together = in_turn):
        self.together = together
        self.config, self.scheme, self.device = config, scheme, device
        self.labeller = PseudoLabeller(config, self.precision)

    def precision(self):
        """The precision of a forward pass; losses, targets, costs and flow are always float32."""
        return half_precision(self.config.train.amp, self.device)

    def strong(self, images: Tensor, seed: int, part: Part, *, occlude: bool = False) -> Tensor:
        """Images in [0, 1] -> augmented ones; the same seed draws the same."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return photometric_augmentation(images, self.config.augment, generator, part, occlude=occlude)

    def augment_labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labelled images, augmented, in [0, 1], and their points (L, K, 2) px, after shape transfer and aligned
        mixup between them. The same batch draws the same. Of several processes, each mixes its own faces alone.
        """
        augment, images, points = self.config.augment, to_float(batch.labelled), batch.points
        whole = batch.visible.all(1)
        others, shapes = images[whole], points[whole]
        generator = torch.Generator(self.device).manual_seed(batch.seed + 2 + rank())
        if augment.shape_transfer > 0:
            images, points = transfer_shapes(images, points, batch.visible, shapes, augment.shape_transfer, generator)
        if augment.aligned_mixup > 0:
            images = aligned_mixup(images, points, batch.visible, others, shapes, augment.aligned_mixup, generator)
        return self.strong(images, batch.seed, batch.labelled_part), points


@dataclass(frozen=True)
class Views:
    """A batch as the detectors see it, in [0, 1]."""

    labelled: Tensor  # (L, 3, S, S)
    points: Tensor  # (L, K, 2) px of the labelled images
    weak: Tensor  # (U, 3, S, S): targets are made on it
    strong: Tensor  # (U, 3, S, S): the student learns on it


@dataclass(frozen=True)
class Pass:
    """One pass of a learner over labelled and unlabelled images."""

    loss: Tensor  # on the labelled ones; zero where it learned nothing
    detection: Detection | None  # of the unlabelled ones; None: nobody looks at it
    terms: dict[str, Tensor]


# --- steps ---


def supervised_step(learner: Learner, batch: Batch, context: Context, fraction: float) -> dict[str, Tensor]:
    """Labelled rows alone."""
    train = context.config.train
    learner.detector.train()
    images, points = context.augment_labelled(batch)
    with context.precision():
        detection = learner.forward(images)
    loss, terms = detector_loss(learner.detector, detection, points, batch.visible, train, context.scheme)
    learner.learn(loss, rate_at(fraction, train), train.clip_norm)
    return {"loss": loss.detach()} | terms


def asynchronous_step(pair: TeacherStudent, batch: Batch, context: Context, fraction: float) -> dict[str, Tensor]:
    """One step of Teacher-Student Asynchronous Learning (arXiv 2012.06711), and of every method that is a part of it.

    The teacher sees labelled and weak views, the student labelled and strong ones (and weak ones where
    ``tsal.targets_from`` is self); whoever makes targets also sees the reconstructed frames. Targets are detached.
    """
    tsal, semi, train = context.config.tsal, context.config.semi, context.config.train
    rate, factors = rate_at(fraction, train), loss_factors(context.config, fraction)
    views = make_views(batch, context)
    (teacher, teacher_labels), (student, student_labels) = context.together(
        lambda: teacher_half(pair, views, batch, context), lambda: student_half(pair, views, batch, context)
    )
    targets = {"teacher": teacher_labels, "self": student_labels}[tsal.targets_from]

    def teacher_learns() -> tuple[Tensor, dict[str, Tensor]]:
        terms = teacher_terms(pair, teacher, teacher_labels, views, batch, context)
        return learn(pair.teacher, teacher.loss, terms, rate, factors, context)

    def student_learns() -> tuple[Tensor, dict[str, Tensor]]:
        terms = student_terms(pair, student, targets.fused, batch, context)
        return learn(pair.student, student.loss * (fraction >= tsal.labels_after), terms, rate, factors, context)

    (teacher_loss, teacher_extra), (student_loss, student_extra) = context.together(teacher_learns, student_learns)
    average_models(pair.teacher.detector, pair.student.detector, semi.ema_decay, tsal.ema_direction, tsal.bn_stats)
    report = {"loss": teacher_loss + student_loss, "weight": torch.tensor(factors["unlabelled"])}
    report |= named("teacher", teacher.terms | teacher_extra) | named("student", student.terms | student_extra)
    return report | describe(targets.fused, pair, context) | measure(targets, batch)


def make_views(batch: Batch, context: Context) -> Views:
    labelled, strong = context.together(
        lambda: context.augment_labelled(batch),
        lambda: context.strong(to_float(batch.strong), batch.seed + 1, batch.unlabelled_part, occlude=True),
    )
    return Views(*labelled, to_float(batch.weak), strong)


def loss_factors(config: Config, fraction: float) -> dict[str, float]:
    """What each further term of the losses is multiplied by, at this fraction of the training."""
    tsal = config.tsal
    weight = config.semi.unlabelled_weight * ramp(fraction, tsal.ramp_up, tsal.ramp_down)
    return {
        "consistency": weight,
        "unlabelled": weight,
        "agreement": weight * tsal.agreement_weight,
        "sic": tsal.sic_weight,
    }


def add(loss: Tensor, terms: dict[str, Tensor], factors: dict[str, float]) -> Tensor:
    """A loss and its further terms, each times its factor."""
    for name, value in terms.items():
        loss = loss + factors[name] * value
    return loss


def learn(
    learner: Learner, loss: Tensor, terms: dict[str, Tensor], rate: float, factors: dict[str, float], context: Context
) -> tuple[Tensor, dict[str, Tensor]]:
    """One optimiser step, where anything is learned -> the loss with its further terms, and these."""
    loss = add(loss, terms, factors)
    if loss.requires_grad:
        learner.learn(loss, rate, context.config.train.clip_norm)
    return loss.detach(), {name: value.detach() for name, value in terms.items()}


def labelled_pass(learner: Learner, views: Views, unlabelled: Tensor, batch: Batch, context: Context) -> Pass:
    """One pass over labelled and unlabelled images -> supervised loss, detections of the unlabelled ones, terms."""
    learner.detector.train()
    with context.precision():
        detection = learner.forward(torch.cat([views.labelled, unlabelled]))
    count = len(views.labelled)
    labelled, train = detection.rows(slice(0, count)), context.config.train
    loss, terms = detector_loss(learner.detector, labelled, views.points, batch.visible, train, context.scheme)
    return Pass(loss, detection.rows(slice(count, None)), terms)


def teacher_pass(teacher: Learner, views: Views, batch: Batch, context: Context) -> Pass:
    """The teacher's pass over the weak views: with labelled ones where it learns; else as evaluation, for targets."""
    if (tsal := context.config.tsal).teacher_lr > 0:
        return labelled_pass(teacher, views, views.weak, batch, context)
    detection = context.labeller.detect(teacher.detector, views.weak) if tsal.targets_from == "teacher" else None
    return Pass(torch.zeros((), device=context.device), detection, {})


def teacher_half(
    pair: TeacherStudent, views: Views, batch: Batch, context: Context
) -> tuple[Pass, LabellerOutput | None]:
    """The teacher's pass, and its pseudo-labels of the weak views where the student learns from them."""
    teacher = teacher_pass(pair.teacher, views, batch, context)
    if context.config.tsal.targets_from != "teacher":
        return teacher, None
    return teacher, pseudo_labels(pair, "teacher", teacher.detection, views, batch, context)


def student_half(
    pair: TeacherStudent, views: Views, batch: Batch, context: Context
) -> tuple[Pass, LabellerOutput | None]:
    """The student's pass, and its own pseudo-labels of the weak views where it learns from them."""
    student = labelled_pass(pair.student, views, views.strong, batch, context)
    if context.config.tsal.targets_from != "self":
        return student, None
    detection = context.labeller.detect(pair.student.detector, views.weak)
    return student, pseudo_labels(pair, "student", detection, views, batch, context)


def pseudo_labels(
    pair: TeacherStudent, who: str, detection: Detection, views: Views, batch: Batch, context: Context
) -> LabellerOutput:
    """What the teacher, or the student, makes of its detection on the weak views, with its tracker."""
    flows = pair.trackers[who](batch.pairs) if context.labeller.needs_flow else None
    labelled = views.labelled if who == "teacher" and context.config.tsal.teacher_lr > 0 else None
    detector = getattr(pair, who).detector
    return context.labeller(detector, views.weak, detection, flows, batch.previous, batch.following, labelled)


# --- losses on unlabelled frames ---


def teacher_terms(
    pair: TeacherStudent, teacher: Pass, labels: LabellerOutput | None, views: Views, batch: Batch, context: Context
) -> dict[str, Tensor]:
    """Where the teacher learns: ``consistency`` with itself on reconstructed frames, and structure (``sic``)."""
    terms, config, detector = {}, context.config, pair.teacher.detector
    if context.labeller.consistency:
        # where no target needs them, frames are reconstructed here, while the student learns
        flows = pair.trackers["teacher"](batch.pairs)
        frames = views.weak, flows, batch.previous, batch.following, views.labelled
        rebuilt = labels.rebuilt if labels and labels.rebuilt else context.labeller.rebuild(detector, *frames)
        trust = rebuilt.sources["tracked_heatmap"].valid[rebuilt.rows].to(torch.float32)
        real = teacher.detection.rows(rebuilt.rows)
        terms["consistency"] = consistency_loss(detector, real, rebuilt.detection, trust, config.train)
    if config.tsal.teacher_lr > 0:
        terms["sic"] = structure_loss(detector, teacher.detection, batch.size, batch.clip, context.scheme)
    return terms


def student_terms(
    pair: TeacherStudent, student: Pass, target: PseudoLabels, batch: Batch, context: Context
) -> dict[str, Tensor]:
    """``unlabelled``: the student's loss on its own view against the fused target; structure (``sic``); ``agreement``
    of its own points on neighbouring frames.
    """
    size = batch.size * batch.to_strong[:, :, :2].det().abs().sqrt()  # (U,) px, in the strong view
    terms = {
        "unlabelled": _target_loss(pair, student.detection, target, size, batch, context),
        "sic": structure_loss(pair.student.detector, student.detection, size, batch.clip, context.scheme),
    }
    if context.labeller.agreement:
        terms["agreement"] = _agreement_loss(pair, student.detection, target, batch, context)
    return terms


def _agreement_loss(
    pair: TeacherStudent, detection: Detection, target: PseudoLabels, batch: Batch, context: Context
) -> Tensor:
    """The student's points on its strong views against its own on neighbouring frames, carried along the flow.

    Both ends learn. Points go to the weak view for the flow; which landmark is which does not matter to it. A landmark
    that has no target, or one outside the strong view, in either frame is left out.
    """
    side = context.config.model.input
    targets = to_view(target.points, batch.to_strong, batch.flipped, context.scheme.flip)
    shown = inside(targets, side, side) * weights_to_view(target.weight, batch.flipped, context.scheme.flip)
    points = pair.student.detector.heatmap(detection)[0]
    weak = apply_affine(invert_affine(batch.to_strong), points)
    flows = pair.trackers["student"](batch.pairs)
    vote_error = context.labeller.vote_error
    to, votes, (carry, _) = carried_votes(weak, shown, flows, batch.previous, batch.following, vote_error)
    return point_loss(weak[to], carry, votes.detach() * shown[to])


def _target_loss(
    pair: TeacherStudent, detection: Detection, target: PseudoLabels, size: Tensor, batch: Batch, context: Context
) -> Tensor:
    """The student's loss on its strong view against the fused target, which is made on the weak view.

    Drift correction: on its harder view the student's points lie a little off the target, the same way for all faces.
    Learning that, and averaging it into the teacher, moves the teacher's points further at each step. So the running
    mean of (student - target) over all faces and landmarks is added to the targets.
    """
    config, side, detector = context.config, context.config.model.input, pair.student.detector
    points = to_view(target.points, batch.to_strong, batch.flipped, context.scheme.flip)
    weights = weights_to_view(target.weight, batch.flipped, context.scheme.flip)
    if config.tsal.drift_correction and batch.unlabelled_part.whole:
        apart = (detector.heatmap(detection)[0].detach() - points) / size[:, None, None]
        trust = weights * inside(points, side, side)
        shift = torch.stack([weighted_mean(along, trust) for along in apart.unbind(-1)])
        points = points + size[:, None, None] * pair.drift.update(mean_over_processes(shift))
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


def measure(targets: LabellerOutput, batch: Batch) -> dict[str, Tensor]:
    """Mean error of each source and of the fused target where the batch has labels to measure by, in % of the face's
    size; and the ``spread`` of the heatmap source's shapes over the faces, in % too: 0 once all faces get the same
    shape. Nothing of it is learned from.
    """
    shape = targets.sources["heatmap"].points / batch.size[:, None, None]
    several = len(shape) > 1  # one face has no spread
    spread = 100 * (shape - shape.mean(1, keepdim=True)).std(0).mean() if several else shape.new_tensor(torch.nan)
    if batch.truth is None:
        return {"spread": spread}
    fused = [("fused", targets.fused.points, targets.fused.weight > 0)]
    errors = {}
    for name, points, valid in [*((n, s.points, s.valid) for n, s in targets.sources.items()), *fused]:
        apart = 100 * (points - batch.truth).norm(dim=-1) / batch.size[:, None]
        errors[f"error_{name}"] = torch.where(valid, apart, torch.nan).nanmean()
    return {"spread": spread} | errors
