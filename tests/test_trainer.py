"""The optimiser, the losses of a detector, and one asynchronous step."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from toys import PAIRED, Shift, a_detector, config, perfect_detection, random_batch, vector

from tsal import trainer
from tsal.averaging import distance
from tsal.config import Config, ModelConfig, TrainConfig
from tsal.losses import point_loss
from tsal.model import Detection, Detector
from tsal.optimiser import make_optimiser, rate_at, step_optimiser
from tsal.pseudo import PseudoLabels
from tsal.schemes import generic_scheme
from tsal.supervision import consistency_loss, detector_loss, structure_loss
from tsal.tracker.frozen import FrozenTracker
from tsal.tracker.network import FlowEstimate, FlowNet
from tsal.trainer import Context, Learner, TeacherStudent, asynchronous_step, supervised_step
from tsal.utils.parallel import in_turn, side_by_side

# --- optimiser ---


@pytest.mark.parametrize("size", ["light", "vgg16"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_each_parameter_is_in_exactly_one_group(size, optimiser):
    detector = Detector(4, ModelConfig(size=size, input=32))
    built = make_optimiser(detector, TrainConfig(optimiser=optimiser), 1e-3)
    placed = [id(p) for group in built.param_groups for p in group["params"]]
    assert len(placed) == len(set(placed)) and set(placed) == {id(p) for p in detector.parameters()}
    heads = [*detector.centre_head.parameters(), *detector.offset_head.parameters()]
    assert heads and {id(p) for p in heads} <= set(placed)


def test_the_paper_s_rates_biases_twice_and_stages_four_times():
    config = Config.load("paper")
    detector = Detector(4, ModelConfig(size="vgg16", input=32))
    built = make_optimiser(detector, config.train, config.supervised.lr)
    assert type(built) is torch.optim.SGD
    assert all(g["nesterov"] and g["momentum"] == 0.9 for g in built.param_groups)
    rate = {id(p): group["lr"] / config.supervised.lr for group in built.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    for name, parameter in detector.named_parameters():
        expected = (4 if name.startswith("stages.") else 1) * (2 if name.endswith("bias") else 1)
        assert rate[id(parameter)] == pytest.approx(expected), name
        assert decay[id(parameter)] == (0 if name.endswith("bias") else 5e-4), name


def test_only_weights_of_more_than_one_dimension_decay():
    """Scales of batch normalisation have none, as biases."""
    detector = Detector(4, ModelConfig(input=32, width=0.05))
    built = make_optimiser(detector, TrainConfig(weight_decay=0.1), 1e-3)
    decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    assert all(decay[id(p)] == (0.1 if p.ndim > 1 else 0) for p in detector.parameters())
    scales = [layer.weight for layer in detector.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert scales and all(decay[id(scale)] == 0 for scale in scales)


def test_the_paper_s_rate_halves_at_90_110_and_130_of_150_epochs():
    train = Config.load("paper").train
    at = {0.0: 1, 0.599: 1, 0.6: 0.5, 0.733: 0.5, 110 / 150: 0.25, 0.866: 0.25, 130 / 150: 0.125, 1.0: 0.125}
    assert {fraction: rate_at(fraction, train) for fraction in at} == at


def test_a_cosine_rises_over_its_warm_up_and_ends_at_zero():
    train = TrainConfig(schedule="cosine", warmup=0.1)
    assert rate_at(0.0, train) == 0 and rate_at(0.05, train) == pytest.approx(0.5)
    assert (
        rate_at(0.1, train) == 1
        and rate_at(0.55, train) == pytest.approx(0.5)
        and rate_at(1.0, train) == pytest.approx(0)
    )
    assert rate_at(0.7, TrainConfig(schedule="constant", warmup=0)) == 1


def test_a_step_keeps_the_ratio_of_the_groups_rates_and_clips_the_whole_gradient():
    net = nn.Linear(2, 1)
    optimiser = make_optimiser(net, TrainConfig(optimiser="sgd", momentum=0, weight_decay=0, bias_lr=2.0), 0.1)
    before = [p.detach().clone() for p in net.parameters()]
    step_optimiser(optimiser, net, 100 * (net.weight.sum() + net.bias.sum()), 0.5, clip_norm=3.0)
    moved = [(b - p.detach()).flatten().tolist() for b, p in zip(before, net.parameters())]
    part = 3 / math.sqrt(3)  # three equal gradients of joint length 3
    assert moved[0] == pytest.approx([0.05 * part] * 2, rel=1e-3) and moved[1] == pytest.approx([0.1 * part], rel=1e-3)


# --- the losses of one detector ---

POINTS = torch.tensor(
    [[[30.2, 40.7], [62.3, 40.1], [46.4, 52.8], [45.9, 66.2]], [[25.0, 33.3], [70.1, 36.6], [50.0, 50.0], [40.2, 70.4]]]
)
EACH_KIND = pytest.mark.parametrize("kind", ["distribution", "regression"])


def settings(kind: str = "distribution", *more: str) -> Config:
    radius = 0 if kind == "distribution" else 3
    return config("model.input=96", f"model.heatmap={kind}", f"model.decode_radius={radius}", "train.amp=none", *more)


def noisy_detection(detector: Detector, count: int, seed: int = 1) -> Detection:
    generator = torch.Generator().manual_seed(seed)
    size = detector.map_size

    def draw(channels: int) -> torch.Tensor:
        return torch.randn(count, channels, size, size, generator=generator, requires_grad=True)

    landmarks = detector.landmarks
    return Detection([draw(landmarks + 1) for _ in range(detector.config.stages)], draw(1), draw(2 * landmarks))


def outputs(detection: Detection) -> list[torch.Tensor]:
    return [*detection.stages, detection.centre, detection.offsets]


@EACH_KIND
def test_perfect_outputs_have_the_least_loss(kind):
    chosen = settings(kind)
    detector = a_detector(chosen)
    sigma = chosen.model.sigma
    detection = perfect_detection(detector, POINTS, PAIRED, sigma)
    loss, terms = detector_loss(detector, detection, POINTS, torch.ones(2, 4), chosen.train, PAIRED)
    assert terms["centre"] < 1e-5 and terms["offset"] < 1e-5
    if kind == "distribution":
        target = detection.stages[-1][:, :-1].exp()
        # of the targets: cross-entropy's minimum
        entropy = -(target * target.clamp_min(1e-30).log()).sum((-2, -1)).mean()
        assert terms["heatmap"].item() == pytest.approx(entropy.item(), abs=1e-4)
        assert terms["points"] < 0.1**2  # smooth-L1 of less than 0.1 px in x and in y
        least = chosen.train.heatmap_weight * entropy.item() + chosen.train.point_weight * terms["points"].item()
        assert loss.item() == pytest.approx(chosen.model.stages * least, abs=1e-4)
    else:
        assert terms["heatmap"] < 1e-8 and loss < 1e-5
    moved = perfect_detection(detector, POINTS + 2, PAIRED, sigma)
    worse, _ = detector_loss(detector, moved, POINTS, torch.ones(2, 4), chosen.train, PAIRED)
    assert worse > loss + 0.01


def test_centre_and_offsets_each_have_a_weight_of_their_own():
    alone = "train.heatmap_weight=0", "train.point_weight=0", "train.centre_weight=5", "train.offset_weight=7"
    chosen = settings("distribution", *alone)
    detector = a_detector(chosen)
    loss, terms = detector_loss(detector, noisy_detection(detector, 2), POINTS, torch.ones(2, 4), chosen.train, PAIRED)
    assert terms["centre"] > 0 and terms["offset"] > 0 and terms["centre"] != terms["offset"]
    assert loss.item() == pytest.approx((5 * terms["centre"] + 7 * terms["offset"]).item(), rel=1e-6)


@EACH_KIND
def test_the_gradient_reaches_every_stage_the_centre_and_the_offsets(kind):
    chosen = settings(kind)
    detector = a_detector(chosen)
    loss, _ = detector_loss(
        detector, detector(torch.rand(2, 3, 96, 96)), POINTS, torch.ones(2, 4), chosen.train, PAIRED
    )
    loss.backward()
    for part in (*detector.stages, detector.centre_head, detector.offset_head, detector.backbone):
        assert all(p.grad is not None for p in part.parameters())
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0


@EACH_KIND
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, 1e8])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_rows_without_labels_add_nothing(kind, rubbish, dtype):
    chosen = settings(kind)
    detector = a_detector(chosen)
    detection = noisy_detection(detector, 2)
    points, weights = POINTS.clone(), torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]).to(dtype)
    points[1] = rubbish
    both, terms = detector_loss(detector, detection, points, weights, chosen.train, PAIRED)
    alone, expected = detector_loss(
        detector, detection.rows(slice(0, 1)), POINTS[:1], weights[:1], chosen.train, PAIRED
    )
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(
        {k: v.item() for k, v in expected.items()}, rel=1e-5
    )
    for gradient in torch.autograd.grad(both, outputs(detection)):
        assert (gradient[1] == 0).all() and gradient.isfinite().all() and gradient[0].abs().sum() > 0
    assert both.item() == pytest.approx(alone.item(), rel=1e-5)


@EACH_KIND
@pytest.mark.parametrize("scheme", [PAIRED, generic_scheme(4)], ids=["centre landmark", "centroid"])
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, 1e6, -3.0, 55.0])
@pytest.mark.parametrize("hidden", [[0], [2], [0, 2], [1, 3]])
def test_the_value_of_a_hidden_landmark_changes_neither_loss_nor_gradient(kind, scheme, rubbish, hidden):
    chosen = settings(kind)
    detector = a_detector(chosen)
    detection = noisy_detection(detector, 2)
    spoiled, visible = POINTS.clone(), torch.ones(2, 4, dtype=torch.bool)
    visible[1, hidden] = False
    spoiled[1, hidden] = rubbish
    clean, _ = detector_loss(detector, detection, POINTS, visible, chosen.train, scheme)
    dirty, terms = detector_loss(detector, detection, spoiled, visible, chosen.train, scheme)
    assert torch.equal(clean, dirty) and all(term.isfinite() for term in terms.values())
    for before, after in zip(*(torch.autograd.grad(loss, outputs(detection)) for loss in (clean, dirty))):
        assert torch.equal(before, after) and after.isfinite().all()


@EACH_KIND
@pytest.mark.parametrize("scheme", [PAIRED, generic_scheme(4)], ids=["centre landmark", "centroid"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_without_any_visible_row_the_loss_is_zero_and_finite(kind, scheme, dtype):
    chosen = settings(kind)
    detector = a_detector(chosen)
    detection = noisy_detection(detector, 2)
    loss, terms = detector_loss(
        detector, detection, torch.full((2, 4, 2), math.nan), torch.zeros(2, 4).to(dtype), chosen.train, scheme
    )
    assert loss.item() == 0 and all(term.item() == 0 for term in terms.values())
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, outputs(detection)))


@EACH_KIND
def test_no_rows_at_all_give_a_finite_loss(kind):
    chosen = settings(kind)
    detector = a_detector(chosen)
    loss, _ = detector_loss(
        detector, noisy_detection(detector, 0), torch.empty(0, 4, 2), torch.empty(0, 4), chosen.train, PAIRED
    )
    assert loss.item() == 0


def test_a_scheme_without_a_centre_landmark_learns_from_boolean_visibility():
    chosen = settings()
    detector = a_detector(chosen)
    visible = torch.ones(2, 4, dtype=torch.bool)
    loss, terms = detector_loss(
        detector,
        perfect_detection(detector, POINTS, generic_scheme(4)),
        POINTS,
        visible,
        chosen.train,
        generic_scheme(4),
    )
    assert loss.isfinite() and terms["centre"] < 1e-5 and terms["offset"] < 1e-5


@EACH_KIND
def test_a_landmark_outside_the_crop_is_not_learned(kind):
    chosen = settings(kind)
    detector = a_detector(chosen)
    detection = noisy_detection(detector, 2)
    points, weights = POINTS.clone(), torch.ones(2, 4)
    points[0, 3] = torch.tensor([50.0, 96.0])  # below the last row
    weights_without = weights.clone()
    weights_without[0, 3] = 0
    outside, _ = detector_loss(detector, detection, points, weights, chosen.train, PAIRED)
    masked, _ = detector_loss(detector, detection, POINTS, weights_without, chosen.train, PAIRED)
    assert outside.item() == pytest.approx(masked.item(), rel=1e-6)


@EACH_KIND
def test_a_face_whose_centre_landmark_is_hidden_teaches_its_heatmaps_but_no_centre(kind):
    chosen = settings(kind)
    detector = a_detector(chosen)
    detection = noisy_detection(detector, 2)
    weights = torch.ones(2, 4)
    weights[1, 2] = 0
    loss, _ = detector_loss(detector, detection, POINTS, weights, chosen.train, PAIRED)
    gradients = torch.autograd.grad(loss, outputs(detection))
    assert (gradients[-2][1] == 0).all() and (gradients[-1][1] == 0).all()  # centre, offsets
    assert gradients[0][1, :2].abs().sum() > 0 and (gradients[0][1, 2] == 0).all()


def test_offsets_are_learned_at_the_centre_cell_alone_or_also_around_it():
    for radius, cells in ((0, 1), (1, 9)):
        chosen = settings("distribution", f"train.offset_radius={radius}")
        detector = a_detector(chosen)
        detection = noisy_detection(detector, 1)
        loss, _ = detector_loss(detector, detection, POINTS[:1], torch.ones(1, 4), chosen.train, PAIRED)
        gradient = torch.autograd.grad(loss, detection.offsets)[0]
        touched = gradient.abs().sum(1)[0] > 0
        assert touched.sum() == cells and touched[6, 5]  # landmark 2 at (46.4, 52.8): column 5, row 6


def test_structure_costs_nothing_for_a_rigid_face_and_something_for_a_stretched_one():
    chosen = settings()
    detector = a_detector(chosen)
    centre = POINTS[:1, 2:3]
    rigid = torch.cat([POINTS[:1], POINTS[:1] + 4])
    stretched = torch.cat([POINTS[:1], centre + (POINTS[:1] - centre) * 1.2])
    size, clip = torch.tensor([40.0, 40.0]), torch.tensor([0, 0])
    losses = [
        structure_loss(detector, perfect_detection(detector, p, PAIRED), size, clip, PAIRED).item()
        for p in (rigid, stretched)
    ]
    mean = ((POINTS[0] - centre[0]) / 40).square().sum(-1).mean().item()
    assert losses[0] == pytest.approx(0, abs=1e-8)
    assert losses[1] == pytest.approx((mean * (1.44 - 1)) ** 2, rel=1e-3)


@EACH_KIND
def test_the_consistency_loss_pulls_the_real_frame_towards_the_reconstruction_and_not_back(kind):
    chosen = settings(kind)
    detector = a_detector(chosen)
    real, rebuilt = noisy_detection(detector, 2), noisy_detection(detector, 2, seed=2)
    loss = consistency_loss(detector, real, rebuilt, torch.tensor([[1.0] * 4, [0.0] * 4]), chosen.train)
    gradients = torch.autograd.grad(loss, [*real.stages, *rebuilt.stages], allow_unused=True)
    assert all(g[0].abs().sum() > 0 and (g[1] == 0).all() for g in gradients[:2])  # the second pair is not trusted
    assert all(g is None for g in gradients[2:])
    assert consistency_loss(detector, real, rebuilt, torch.zeros(2, 4), chosen.train).item() == 0


def test_without_heatmaps_consistency_is_that_of_the_points_of_every_stage():
    chosen = settings("distribution", "train.heatmap_weight=0", "train.point_weight=3", "model.stages=2")
    detector = a_detector(chosen)
    real, rebuilt, trust = noisy_detection(detector, 2), noisy_detection(detector, 2, seed=2), torch.ones(2, 4)
    codec = detector.heatmap_codec
    target = codec.expectation(rebuilt.stages[-1])
    parts = [point_loss(codec.expectation(stage), target, trust).item() for stage in real.stages]
    assert min(parts) > 0
    loss = consistency_loss(detector, real, rebuilt, trust, chosen.train)
    assert loss.item() == pytest.approx(3 * sum(parts), rel=1e-6)


# --- one asynchronous step ---


PLAIN = (  # the method as in the paper, whatever the defaults
    "tsal.sources=tracked_heatmap,tracked_centre",
    "tsal.heatmap_share=0.5",
    "tsal.targets_from=self",
    "tsal.teacher_lr=1",
    "tsal.student_loss=points",
    "tsal.teacher_consistency=true",
    "tsal.bn_stats=own",
    "tsal.fallback=true",
    "tsal.max_fb_error=0",
    "semi.unlabelled_weight=1",
    "tsal.sic_weight=0.01",
    "tsal.ramp_up=0.4",
    "tsal.ramp_down=0.73",
    "tsal.drift_correction=false",
)


def small(*overrides: str) -> Config:
    return config("model.input=64", "train.amp=none", "train.warmup=0", *PLAIN, *overrides)


def models(chosen: Config, lr: float = 1e-3) -> tuple[Learner, Learner]:
    learners = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        detector = Detector(4, chosen.model)
        learners.append(Learner(detector, make_optimiser(detector, chosen.train, lr)))
    return learners[0], learners[1]


def a_tracker() -> FlowNet:
    torch.manual_seed(2)
    return FlowNet((8, 12, 16), width=16).eval().requires_grad_(False)


def step(*overrides: str, labelled=3, clips=(2, 2, 1), fraction=0.5, scheme=PAIRED, trackers=None, student_seed=None):
    """One step of two fresh models -> (teacher, student, report); everything that is drawn is the same each time."""
    chosen = small(*overrides)
    teacher, student = models(chosen)
    if student_seed is not None:
        torch.manual_seed(student_seed)
        student.detector.load_state_dict(Detector(4, chosen.model).state_dict())
    batch = random_batch(labelled, list(clips), 4)
    if trackers is None:
        trackers = dict.fromkeys(("teacher", "student"), a_tracker())
    frozen = {name: FrozenTracker(net) for name, net in trackers.items()}
    context = Context(chosen, scheme, torch.device("cpu"))
    report = asynchronous_step(TeacherStudent(teacher, student, frozen), batch, context, fraction)
    return teacher.detector, student.detector, report


def fresh() -> tuple[Detector, Detector]:
    return tuple(model.detector for model in models(small()))


def finite(report: dict) -> bool:
    may_be_nan = ("target_disagreement", "flow_error")
    return all(value.isfinite() for name, value in report.items() if name not in may_be_nan)


@pytest.fixture(scope="module")
def plain():
    """A step without averaging."""
    return step("tsal.ema_direction=none")


def test_a_step_changes_both_members_and_reports_finite_terms(plain):
    teacher, student, report = plain
    assert distance(fresh()[0], teacher) > 1e-4 and distance(fresh()[1], student) > 1e-4
    assert finite(report) and report["target_disagreement"] > 0 and report["weight"] == 1.0
    assert {
        "teacher_consistency",
        "teacher_sic",
        "teacher_heatmap",
        "student_unlabelled",
        "student_sic",
        "student_offset",
    } <= set(report)
    assert report["target_tracked"] > 0 and report["flow_error"].isfinite()


def test_a_step_is_the_same_every_time(plain):
    again = step("tsal.ema_direction=none")
    assert torch.equal(vector(plain[0]), vector(again[0])) and torch.equal(vector(plain[1]), vector(again[1]))


def test_an_ema_decay_of_one_leaves_the_teacher_to_itself(plain):
    teacher, student, _ = step("semi.ema_decay=1", "tsal.ema_direction=student_to_teacher")
    assert torch.equal(vector(teacher), vector(plain[0])) and torch.equal(vector(student), vector(plain[1]))


def test_the_teacher_takes_in_the_student_after_the_step(plain):
    teacher, student, _ = step("semi.ema_decay=0.9", "tsal.ema_direction=student_to_teacher")
    assert torch.equal(vector(student), vector(plain[1]))
    assert torch.allclose(vector(teacher), 0.9 * vector(plain[0]) + 0.1 * vector(plain[1]), atol=1e-6)
    assert distance(teacher, student) < distance(plain[0], plain[1])


def test_mutual_averaging_moves_the_student_too(plain):
    teacher, student, _ = step("semi.ema_decay=0.9", "tsal.ema_direction=mutual")
    expected = 0.9 * vector(plain[0]) + 0.1 * vector(plain[1])
    assert torch.allclose(vector(teacher), expected, atol=1e-6)
    assert torch.allclose(vector(student), 0.9 * vector(plain[1]) + 0.1 * expected, atol=1e-6)


@pytest.mark.parametrize("bn_stats", ["own", "average"])
def test_running_statistics_are_own_or_averaged_as_asked(plain, bn_stats):
    teacher, _, _ = step("semi.ema_decay=0.9", f"tsal.bn_stats={bn_stats}")
    name = "backbone.stem.1.running_mean"
    own, students = plain[0].state_dict()[name], plain[1].state_dict()[name]
    expected = own if bn_stats == "own" else 0.9 * own + 0.1 * students
    assert torch.allclose(teacher.state_dict()[name], expected, atol=1e-6) and not torch.allclose(
        own, students, atol=1e-4
    )


@pytest.mark.parametrize("target", ["self", "teacher"])
def test_the_teacher_learns_nothing_from_the_student_s_loss(target):
    first = step("tsal.ema_direction=none", f"tsal.targets_from={target}")
    second = step("tsal.ema_direction=none", f"tsal.targets_from={target}", student_seed=9)
    assert torch.equal(vector(first[0]), vector(second[0])) and not torch.equal(vector(first[1]), vector(second[1]))


def test_trackers_stay_as_they_were():
    tracker = a_tracker()
    before = vector(tracker)
    step(trackers=dict.fromkeys(("teacher", "student"), tracker))
    assert torch.equal(vector(tracker), before)


def test_each_member_uses_its_own_tracker():
    class Still(nn.Module):
        def __init__(self, flow: float):
            super().__init__()
            self.flow, self.calls = flow, 0

        def forward(self, first, second, both=False):
            self.calls += 1
            flow = torch.full((2 * len(first), 2, *first.shape[-2:]), self.flow)
            return FlowEstimate([flow], torch.full_like(flow[:, :1], 20.0))

    still, drifting = Still(0.0), Still(3.0)
    teacher, student, report = step(
        "tsal.ema_direction=none", "tsal.agreement_weight=0", trackers={"teacher": still, "student": drifting}
    )
    same = step(
        "tsal.ema_direction=none", "tsal.agreement_weight=0", trackers={"teacher": Still(0.0), "student": Still(0.0)}
    )
    assert (still.calls, drifting.calls) == (1, 1)
    assert torch.equal(vector(teacher), vector(same[0])) and not torch.equal(vector(student), vector(same[1]))
    assert report["flow_error"].item() == pytest.approx(math.hypot(6, 6), rel=1e-4)  # both ways by 3 px: they miss by 6


def agreement(
    points: torch.Tensor, flow: tuple[float, float], target: torch.Tensor | None = None, weight: float = 1.0
) -> torch.Tensor:
    """The loss of a student that says ``points`` (T, 1, 2) on the strong views of a clip that moves by ``flow``."""
    chosen = small("tsal.agreement_weight=1", "tsal.teacher_lr=0")
    student = SimpleNamespace(detector=SimpleNamespace(heatmap=lambda detection: (points, None)))
    pair = SimpleNamespace(student=student, trackers={"student": FrozenTracker(Shift(*flow))})
    context = Context(chosen, generic_scheme(1), torch.device("cpu"))
    ones = torch.ones(points.shape[:2])
    target = PseudoLabels(points.detach() if target is None else target, weight * ones, ones, ones > 0, ones)
    return trainer._agreement_loss(pair, None, target, random_batch(1, [len(points)], 1), context)


def test_a_student_agrees_with_itself_where_its_points_move_as_the_flow_does():
    moved = torch.tensor([[[20.0, 20.0]], [[23.0, 21.0]]])
    assert agreement(moved, (3.0, 1.0)) < 1e-3
    # 0.5 px off along x: smooth-L1 of 0.125 for each of both ways
    assert agreement(moved + torch.tensor([[[0.0, 0]], [[0.5, 0]]]), (3.0, 1.0)) == pytest.approx(0.125, abs=2e-3)


def test_a_student_s_disagreement_moves_both_frames_points_towards_each_other():
    points = torch.tensor([[[20.0, 20.0]], [[23.5, 21.0]]], requires_grad=True)
    agreement(points, (3.0, 1.0)).backward()
    assert points.grad[0, 0, 0] < 0 < points.grad[1, 0, 0]
    assert torch.allclose(points.grad[0], -points.grad[1], atol=1e-3)


def test_a_landmark_outside_the_strong_view_need_not_agree():
    points = torch.tensor([[[20.0, 20.0]], [[30.0, 30.0]]])
    outside = torch.tensor([[[20.0, 20.0]], [[62.5, 30.0]]])  # the strong view lies 2 px further left: 64.5 of 63
    assert agreement(points, (3.0, 1.0)) > 1 and agreement(points, (3.0, 1.0), outside) == 0


def test_a_landmark_without_a_target_need_not_agree():
    points = torch.tensor([[[20.0, 20.0]], [[30.0, 30.0]]])
    assert agreement(points, (3.0, 1.0)) > 1 and agreement(points, (3.0, 1.0), weight=0.0) == 0


def test_agreement_is_a_term_of_the_student_alone_where_frames_follow_one_another():
    for consecutive in ("true", "false"):
        options = "tsal.agreement_weight=2", f"data.consecutive={consecutive}", "tsal.sources=heatmap"
        _, _, report = step(*options)
        assert finite(report) and ("student_agreement" in report) == (consecutive == "true")
        assert "teacher_agreement" not in report


class CountingTracker(nn.Module):
    """A tracker that sees nothing move, and how many pairs it was asked for."""

    def __init__(self):
        super().__init__()
        self.pairs = 0

    def forward(self, first, second, both=False):
        self.pairs += len(first)
        still = torch.zeros(2 * len(first), 2, *first.shape[-2:])
        return FlowEstimate([still], still[:, :1] + 20)


@pytest.mark.parametrize("memory_mb, pairs", [(50, 2), (0, 4)], ids=["kept", "no memory"])
def test_a_tracker_is_asked_once_for_a_pair(memory_mb, pairs, monkeypatch):
    monkeypatch.setattr("tsal.tracker.frozen.TOGETHER", 1)  # no batch is filled up
    chosen = small("tsal.teacher_lr=0", "tsal.ema_direction=none", "tsal.agreement_weight=0")
    (teacher, student), tracker = models(chosen), CountingTracker()
    context, frozen = Context(chosen, PAIRED, torch.device("cpu")), FrozenTracker(tracker, memory_mb)
    pair = TeacherStudent(teacher, student, dict.fromkeys(("teacher", "student"), frozen))
    reports = [asynchronous_step(pair, random_batch(3, [2, 2, 1], 4), context, 0.5) for _ in range(2)]
    assert tracker.pairs == pairs
    assert (
        all(report["target_tracked"] > 0 for report in reports) and reports[0]["flow_error"] == reports[1]["flow_error"]
    )


@pytest.mark.parametrize("sources, pairs", [("heatmap,centre", 0), ("heatmap,propagated", 2)])
def test_a_method_without_tracking_sources_asks_no_tracker(sources, pairs, monkeypatch):
    monkeypatch.setattr("tsal.tracker.frozen.TOGETHER", 1)
    tracker = CountingTracker()
    _, _, report = step(
        f"tsal.sources={sources}",
        "tsal.teacher_consistency=false",
        "tsal.agreement_weight=0",
        trackers=dict.fromkeys(("teacher", "student"), tracker),
    )
    assert tracker.pairs == pairs and finite(report) and (report["target_tracked"] > 0) == (pairs > 0)


@pytest.mark.parametrize("fallback", ["true", "false"])
def test_photographs_alone_make_a_step(fallback):
    teacher, student, report = step("tsal.ema_direction=none", f"tsal.fallback={fallback}", clips=(1, 1, 1))
    assert finite(report) and report["teacher_consistency"] == 0 and report["target_tracked"] == 0
    assert report["teacher_sic"] == 0 and report["student_sic"] == 0  # no two frames of one clip
    assert (report["student_unlabelled"] > 0) == (fallback == "true") == bool(report["target_weight"] == 1)
    assert distance(fresh()[0], teacher) > 1e-4 and distance(fresh()[1], student) > 1e-4


def test_clips_alone_make_a_step():
    teacher, student, report = step("tsal.ema_direction=none", clips=(3, 2))
    assert finite(report) and report["target_tracked"] > 0.3
    assert distance(fresh()[0], teacher) > 1e-4 and distance(fresh()[1], student) > 1e-4


@pytest.mark.parametrize(
    "overrides",
    [
        ("tsal.student_loss=full",),
        ("tsal.targets_from=teacher",),
        ("tsal.sources=heatmap,centre",),
        ("tsal.sources=propagated",),
        ("tsal.max_fb_error=1",),
        ("model.heatmap=regression", "model.decode_radius=3", "train.optimiser=sgd"),
        ("train.amp=bf16",),
        ("augment.shape_transfer=1", "augment.aligned_mixup=0.5"),
        ("tsal.student_loss=full", "tsal.fallback=false", "tsal.max_fb_error=0.0001"),  # next to nothing to learn from
    ],
    ids=" ".join,
)
def test_every_variant_makes_a_step(overrides):
    teacher, student, report = step(*overrides)
    assert finite(report)
    assert all(p.isfinite().all() for net in (teacher, student) for p in net.parameters())


def test_a_scheme_that_knows_nothing_makes_a_step():
    teacher, _, report = step(scheme=generic_scheme(4))
    assert finite(report) and vector(teacher).isfinite().all()


def test_a_teacher_without_consistency_has_no_such_term():
    assert "teacher_consistency" not in step("tsal.teacher_consistency=false")[2]


def test_a_teacher_that_learns_sees_a_reconstructed_frame_as_it_saw_the_real_one():
    """Where every frame of a clip is the same, and flow says so, the consistency is met; with running statistics for
    reconstructed frames their faces would differ. And no statistics are learned from them.
    """
    chosen = small("model.stages=1")
    batch = random_batch(3, [3, 2, 1], 4)
    batch = replace(batch, weak=batch.weak[[0, 0, 0, 3, 3, 5]])
    context, still = Context(chosen, PAIRED, torch.device("cpu")), FrozenTracker(Shift(0.0, 0.0))
    pair = TeacherStudent(*models(chosen), {"teacher": still, "student": still})
    views = trainer.make_views(batch, context)
    forward_pass = trainer.teacher_pass(pair.teacher, views, batch, context)
    before = [buffer.clone() for buffer in pair.teacher.detector.buffers()]
    trainer.teacher_terms(pair, forward_pass, None, views, batch, context)["consistency"].backward()
    teacher = pair.teacher.detector
    assert all(torch.equal(now, was) for now, was in zip(teacher.buffers(), before))
    assert max(p.grad.abs().max() for p in teacher.parameters() if p.grad is not None) < 1e-3


def unlabelled_loss(moves: list[float], correct: bool) -> float:
    """Of two faces' targets that lie off the student's own points by ``moves`` (in shares of each face's size) to the
    right.
    """
    chosen = small(f"tsal.drift_correction={str(correct).lower()}")
    student, batch = models(chosen)[1], random_batch(0, [1] * len(moves), 4)
    size = batch.size * torch.tensor([1.0, 0.5])  # two faces, one half as large
    detection = student.detector(torch.rand(len(moves), 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    points = student.detector.heatmap(detection)[0].detach() - batch.to_strong[:, None, :, 2]
    points[..., 0] += (torch.tensor(moves) * size)[:, None]
    nothing = torch.full(points.shape[:2], torch.nan)
    target = PseudoLabels(points, torch.ones(points.shape[:2]), nothing, nothing > 0, nothing)
    context = Context(chosen, PAIRED, torch.device("cpu"))
    pair = TeacherStudent(student, student, {})
    return trainer._target_loss(pair, detection, target, size, batch, context).item()


def test_a_shift_that_all_targets_share_teaches_nothing_once_drift_is_corrected():
    assert unlabelled_loss([0.1, 0.1], correct=False) > 1
    assert unlabelled_loss([0.1, 0.1], correct=True) == pytest.approx(0, abs=1e-6)
    apart = unlabelled_loss([0.1, -0.1], correct=False)  # what faces do not share is learned as it was
    assert apart > 1 and unlabelled_loss([0.1, -0.1], correct=True) == pytest.approx(apart)


def test_a_step_without_unlabelled_faces_leaves_the_drift_alone():
    _, _, report = step("tsal.drift_correction=true", clips=())
    assert report["drift"] == 0 and report["loss"].isfinite()


def test_the_ramp_weighs_the_unlabelled_losses():
    assert step(fraction=0.0)[2]["weight"].item() == pytest.approx(math.exp(-5))
    assert step("semi.unlabelled_weight=0.5", fraction=0.5)[2]["weight"].item() == 0.5


def test_without_weight_the_unlabelled_targets_change_nothing():
    off = ("tsal.ema_direction=none", "semi.unlabelled_weight=0", "tsal.sic_weight=0")
    first, second = step(*off), step(*off, "tsal.sources=centre", "tsal.teacher_consistency=false")
    assert torch.equal(vector(first[0]), vector(second[0])) and torch.equal(vector(first[1]), vector(second[1]))


@pytest.fixture
def augmentations(monkeypatch):
    """What the labelled faces were given: (what, how much, the others' shapes) of each call; points move by 1 px,
    images stay.
    """
    calls = []

    def wear(images, points, visible, shapes, share, generator):
        calls.append(("shapes", share, shapes))
        return images, points + 1

    def mixup(images, points, visible, others, shapes, most, generator):
        calls.append(("mixup", most, shapes))
        assert len(others) == len(shapes) and others.dtype == torch.float32 and others.max() <= 1
        return images

    monkeypatch.setattr(trainer, "transfer_shapes", wear)
    monkeypatch.setattr(trainer, "aligned_mixup", mixup)
    return calls


def test_nobody_changes_unless_asked(augmentations):
    step("tsal.teacher_lr=0", "augment.shape_transfer=0", "augment.aligned_mixup=0")
    assert not augmentations


def test_both_members_learn_the_same_changed_faces_by_their_changed_labels(augmentations, monkeypatch):
    learned = []
    real = trainer.detector_loss
    monkeypatch.setattr(
        trainer,
        "detector_loss",
        lambda net, detection, points, *rest: learned.append(points) or real(net, detection, points, *rest),
    )
    step("augment.shape_transfer=0.7", "augment.aligned_mixup=0.4", "tsal.student_loss=points")
    points = random_batch(3, [2, 2, 1], 4).points
    assert [call[:2] for call in augmentations] == [("shapes", 0.7), ("mixup", 0.4)]
    assert all(torch.equal(shapes, points) for *_, shapes in augmentations)  # those of the labelled faces, as they are
    assert len(learned) == 2 and all(torch.equal(of, points + 1) for of in learned)


def test_a_labelled_face_with_a_hidden_landmark_lends_itself_to_none(augmentations):
    chosen = small("augment.shape_transfer=1", "augment.aligned_mixup=0.5")
    batch = random_batch(3, [], 4)
    batch.visible[1, 2] = False
    supervised_step(models(chosen)[0], batch, Context(chosen, PAIRED, torch.device("cpu")), 0.5)
    assert len(augmentations) == 2 and all(torch.equal(shapes, batch.points[[0, 2]]) for *_, shapes in augmentations)


@pytest.mark.parametrize("labelled, visible", [(3, True), (3, False), (1, True)], ids=["all", "none seen whole", "one"])
def test_changed_faces_make_a_step_and_the_same_one_every_time(labelled, visible):
    chosen = small("augment.shape_transfer=1", "augment.aligned_mixup=0.5")
    after = []
    for _ in range(2):
        model = models(chosen)[0]
        batch = random_batch(labelled, [], 4)
        batch.visible[:, 0] = visible
        assert finite(supervised_step(model, batch, Context(chosen, PAIRED, torch.device("cpu")), 0.5))
        after.append(vector(model.detector))
    assert torch.equal(*after) and after[0].isfinite().all()


# --- supervised training ---


def test_a_supervised_step_follows_the_schedule_and_clips_the_gradient():
    """Half way a cosine is at half its rate: the weights move by lr * 0.5 * the largest norm."""
    plain = "train.optimiser=sgd", "train.momentum=0", "train.weight_decay=0", "train.schedule=cosine"
    chosen = small("model.width=0.25", "train.clip_norm=0.01", *plain)
    model = models(chosen, lr=20.0)[0]
    before = vector(model.detector)
    supervised_step(model, random_batch(2, [], 4), Context(chosen, PAIRED, torch.device("cpu")), 0.5)
    assert (vector(model.detector) - before).norm().item() == pytest.approx(20 * 0.5 * 0.01, rel=1e-4)


@pytest.mark.parametrize("kind", ["distribution", "regression"])
def test_a_few_supervised_steps_lower_the_loss_on_their_own_batch(kind):
    still = ("augment.colour=0", "augment.grey=0", "augment.blur=0", "augment.noise=0", "augment.occlude=0")
    chosen = small(f"model.heatmap={kind}", "train.schedule=constant", *still)
    model = models(chosen, lr=3e-3)[0]
    batch, context = random_batch(4, [], 4), Context(chosen, PAIRED, torch.device("cpu"))
    losses = [supervised_step(model, batch, context, 0.5)["loss"].item() for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("targets", ["teacher", "self"])
def test_teacher_and_student_side_by_side_step_as_in_turn(targets):
    def two_steps(together) -> tuple[torch.Tensor, dict]:
        chosen = small(f"tsal.targets_from={targets}", "tsal.drift_correction=true")
        teacher, student = models(chosen)
        frozen = dict.fromkeys(("teacher", "student"), FrozenTracker(a_tracker(), 10))
        pair, context = TeacherStudent(teacher, student, frozen), Context(chosen, PAIRED, torch.device("cpu"), together)
        reports = [asynchronous_step(pair, random_batch(3, [2, 2, 1], 4, seed=seed), context, 0.5) for seed in (0, 1)]
        return torch.cat([vector(teacher.detector), vector(student.detector)]), reports[-1]

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with side_by_side() as together:
            weights, report = two_steps(together)
        torch.set_num_threads(1)
        expected, expected_report = two_steps(in_turn)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights, expected) and report.keys() == expected_report.keys()
    for name, value in expected_report.items():
        assert torch.allclose(report[name], value, rtol=0, atol=0, equal_nan=True), name


def test_what_fails_on_the_other_side_is_raised_and_both_sides_have_ended():
    ended = []

    def fails():
        raise ValueError("no teacher")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with side_by_side() as together, pytest.raises(ValueError, match="no teacher"):
            together(fails, lambda: ended.append("student"))
    finally:
        torch.set_num_threads(threads)
    assert ended == ["student"]


def test_the_other_side_gives_up_as_many_threads():
    """A training that leaves cores to other processes sets the threads of its own side alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with side_by_side() as together:
            assert together(torch.get_num_threads, torch.get_num_threads) == (2, 2)
            torch.set_num_threads(1)
            assert together(torch.get_num_threads, torch.get_num_threads) == (1, 1)
    finally:
        torch.set_num_threads(threads)
