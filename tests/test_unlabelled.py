"""What is learned from unlabelled faces: which view who sees, targets in a mirror, the face's size, the weights."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from toys import PAIRED, config, random_batch

from tsal import trainer
from tsal.averaging import RunningMean
from tsal.config import Config
from tsal.data.batches import Batch
from tsal.data.photometric import to_float
from tsal.model import Detector
from tsal.optimiser import make_optimiser
from tsal.pseudo import PseudoLabels
from tsal.trainer import Context, Learner, Pass, TeacherStudent

SIDE = 64
SEEN_PLAINLY = ("augment.colour=0", "augment.grey=0", "augment.blur=0", "augment.noise=0", "augment.occlude=0")
TARGETS = torch.tensor([[[10.0, 20.0], [50.0, 20.0], [30.0, 30.0], [30.0, 40.0]]])  # of one frame, in the weak view
STILL, MIRROR = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), torch.tensor([[[-1.0, 0, SIDE - 1], [0, 1, 0]]])


def settings(*overrides: str) -> Config:
    plain = ("tsal.student_loss=points", "tsal.agreement_weight=0", "tsal.drift_correction=false")
    return config(f"model.input={SIDE}", "train.amp=none", "train.warmup=0", *plain, *overrides)


def context(*overrides: str) -> Context:
    return Context(settings(*overrides), PAIRED, torch.device("cpu"))


def a_learner(chosen: Config, seed: int) -> Learner:
    torch.manual_seed(seed)
    detector = Detector(4, chosen.model)
    return Learner(detector, make_optimiser(detector, chosen.train, 1e-3))


# --- which view who sees ---


@pytest.mark.parametrize("targets", ["teacher", "self"])
def test_the_teacher_sees_the_weak_views_and_the_student_learns_on_the_strong_ones(targets):
    """Strong views are black here, weak ones white."""
    chosen = settings("model.width=0.25", f"tsal.targets_from={targets}", "tsal.sources=heatmap", *SEEN_PLAINLY)
    batch = random_batch(2, [2, 1], 4)
    batch.strong.zero_()
    batch.weak.fill_(255)
    teacher, student = a_learner(chosen, 0), a_learner(chosen, 1)
    views = {}
    for name, learner in (("teacher", teacher), ("student", student)):
        learner.forward = lambda images, name=name, net=learner.detector: (views.update({name: images}), net(images))[1]
    pair = TeacherStudent(teacher, student, {})
    trainer.asynchronous_step(pair, batch, Context(chosen, PAIRED, torch.device("cpu")), 0.5)
    labelled = to_float(batch.labelled)
    for name, light in (("teacher", 1.0), ("student", 0.0)):
        assert torch.allclose(views[name][:2], labelled, atol=1e-6) and (views[name][2:] == light).all(), name


def test_an_occluder_lies_on_the_student_s_view_alone():
    batch = random_batch(2, [2, 1], 4)
    views = trainer.make_views(batch, context(*SEEN_PLAINLY, "augment.occlude=1"))
    assert torch.allclose(views.labelled, to_float(batch.labelled), atol=1e-6)
    assert torch.equal(views.weak, to_float(batch.weak))
    covered = (views.strong - to_float(batch.strong)).abs().amax(1) > 1e-3
    assert covered.any(-1).any(-1).all() and not covered.all()  # each a part of its own


# --- targets in the student's view ---


def one_face(to_strong: torch.Tensor, flipped: bool) -> Batch:
    batch = random_batch(0, [1], 4)
    return replace(batch, to_strong=to_strong.expand(1, 2, 3), flipped=torch.tensor([flipped]))


def a_target(points: torch.Tensor, weights: torch.Tensor | None = None) -> PseudoLabels:
    whole = torch.ones(points.shape[:2])
    return PseudoLabels(points, whole if weights is None else weights, whole, whole > 0, whole)


def student_says(points: torch.Tensor) -> SimpleNamespace:
    """A pair whose detectors find ``points`` (U, K, 2) px, in both of their sources."""
    detector = SimpleNamespace(
        heatmap=lambda detection: (points, None), centre=lambda detection: (points[:, None], None)
    )
    learner = SimpleNamespace(detector=detector)
    return SimpleNamespace(teacher=learner, student=learner, drift=RunningMean(2), trackers={})


def target_loss(pair: SimpleNamespace, target: PseudoLabels, batch: Batch, *overrides: str) -> float:
    return trainer._target_loss(pair, None, target, batch.size, batch, context(*overrides)).item()


@pytest.mark.parametrize("moved, loss", [(None, 0.0), (0, 0.0), (1, 9.5 / 3)])
def test_in_a_mirror_left_and_right_change_places_with_their_weights(moved, loss):
    """The right one's target has no weight; in the mirror it is the left one's place."""
    points = torch.tensor([[[13.0, 20.0], [53.0, 20.0], [33.0, 30.0], [33.0, 40.0]]])
    if moved is not None:
        points[0, moved, 1] += 10
    target = a_target(TARGETS, torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    assert target_loss(student_says(points), target, one_face(MIRROR, flipped=True)) == pytest.approx(loss, abs=1e-6)


def test_a_target_outside_the_student_s_view_is_neither_learned_nor_counted_as_drift():
    target, points = TARGETS.clone(), TARGETS.clone()
    target[0, 3, 0], points[0, 3, 0] = SIDE + 5, SIDE - 25  # 30 px apart
    pair, batch = student_says(points), one_face(STILL, flipped=False)
    assert target_loss(pair, a_target(target), batch) == 0
    assert target_loss(pair, a_target(target), batch, "tsal.drift_correction=true") == 0
    assert pair.drift.count == 1 and pair.drift.mean.tolist() == [0, 0]


# --- structure ---


def two_frames(stretch: float = 1.0) -> torch.Tensor:
    """Three landmarks 10 px from the centre, then 20 px: over 40 px, the means of squares are 3/64 and 12/64."""
    around = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    return stretch * (torch.stack([10 * around, 20 * around]) + 25)


@pytest.mark.parametrize("zoom, flipped", [(1.0, False), (2.0, False), (2.0, True)])
def test_structure_is_measured_by_the_size_that_the_face_has_in_the_strong_view(zoom, flipped):
    batch = random_batch(0, [2], 4)
    to_strong = torch.tensor([[-zoom if flipped else zoom, 0.0, 0.0], [0.0, zoom, 0.0]]).expand(2, 2, 3)
    batch = replace(batch, to_strong=to_strong, flipped=torch.tensor([flipped] * 2))
    forward_pass = Pass(torch.zeros(()), None, {})
    pair = student_says(two_frames(zoom))
    terms = trainer.student_terms(pair, forward_pass, a_target(two_frames()), batch, context())
    assert terms["sic"].item() == pytest.approx((9 / 64) ** 2, rel=1e-5)


@pytest.mark.parametrize("size, expected", [(40.0, (9 / 64) ** 2), (20.0, 16 * (9 / 64) ** 2)])
def test_the_teacher_s_structure_is_measured_by_the_face_s_size(size, expected):
    batch = replace(random_batch(0, [2], 4), size=torch.full((2,), size))
    forward_pass = Pass(torch.zeros(()), None, {})
    terms = trainer.teacher_terms(
        student_says(two_frames()), forward_pass, None, None, batch, context("tsal.teacher_lr=1")
    )
    assert terms["sic"].item() == pytest.approx(expected, rel=1e-5)


# --- the weights of the terms ---


@pytest.mark.parametrize("fraction, share", [(0.0, math.exp(-5)), (0.5, 1.0)])
def test_every_unlabelled_term_is_ramped_and_agreement_has_a_weight_of_its_own(fraction, share):
    chosen = settings("semi.unlabelled_weight=3", "tsal.agreement_weight=2", "tsal.ramp_up=0.4", "tsal.sic_weight=0.01")
    factors = trainer.loss_factors(chosen, fraction)
    expected = {"consistency": 3 * share, "unlabelled": 3 * share, "agreement": 6 * share, "sic": 0.01}
    assert factors == pytest.approx(expected)
