"""Which model is averaged into which, and when the unlabelled losses count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tsal.averaging import RunningMean, average_into, average_models, batch_statistics, distance, ramp


def network(value: float) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)
        net[1].running_mean.fill_(value)
        net[1].running_var.fill_(value)
        net[1].num_batches_tracked.fill_(int(value))
    return net


def parameters(net: nn.Module) -> set[float]:
    return {round(v, 5) for p in net.parameters() for v in p.flatten().tolist()}


def test_decay_is_the_share_that_the_target_keeps_of_itself():
    target, source = network(1.0), network(5.0)
    average_into(target, source, 0.75)
    assert parameters(target) == {2.0} and parameters(source) == {5.0}


@pytest.mark.parametrize("decay, left", [(1.0, 1.0), (0.0, 5.0)])
def test_decay_one_keeps_the_target_and_decay_zero_copies_the_source(decay, left):
    target = network(1.0)
    average_into(target, network(5.0), decay)
    assert parameters(target) == {left}


def test_own_statistics_stay_and_averaged_ones_move_but_a_counter_never():
    own, averaged, source = network(1.0), network(1.0), network(5.0)
    average_into(own, source, 0.75, bn_stats="own")
    average_into(averaged, source, 0.75, bn_stats="average")
    assert own[1].running_mean.tolist() == [1.0, 1.0] and own[1].running_var.tolist() == [1.0, 1.0]
    assert averaged[1].running_mean.tolist() == [2.0, 2.0] and averaged[1].running_var.tolist() == [2.0, 2.0]
    assert own[1].num_batches_tracked == averaged[1].num_batches_tracked == 1


@pytest.mark.parametrize(
    "direction, teacher_after, student_after",
    [("student_to_teacher", 2.0, 5.0), ("mutual", 2.0, 4.25), ("none", 1.0, 5.0)],  # 0.75 * 5 + 0.25 * 2 = 4.25
)
def test_the_direction_says_who_changes(direction, teacher_after, student_after):
    teacher, student = network(1.0), network(5.0)
    average_models(teacher, student, 0.75, direction)
    assert (parameters(teacher), parameters(student)) == ({teacher_after}, {student_after})


def test_averaging_leaves_no_trace_in_the_graph():
    teacher, student = network(1.0), network(5.0)
    average_models(teacher, student, 0.9, "mutual")
    assert all(p.requires_grad and p.grad is None and p.is_leaf for net in (teacher, student) for p in net.parameters())


def test_distance_is_relative_to_the_first():
    assert distance(network(2.0), network(2.0)) == 0
    assert distance(network(2.0), network(3.0)) == pytest.approx(0.5)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_a_batch_are_used_and_not_kept(training):
    net = nn.BatchNorm1d(1, affine=False).train(training)
    with batch_statistics(net):
        assert net(torch.tensor([[3.0], [5.0]])).flatten().tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert (net.running_mean.item(), net.running_var.item(), net.num_batches_tracked.item()) == (0, 1, 0)
    assert net.training == training and net.track_running_stats


UP, DOWN = 0.4, 0.73


def test_the_ramp_rises_stays_and_falls_as_in_the_paper():
    assert ramp(0.0, UP, DOWN) == pytest.approx(math.exp(-5))
    assert ramp(0.2, UP, DOWN) == pytest.approx(math.exp(-5 / 4))
    assert ramp(0.4, UP, DOWN) == ramp(0.6, UP, DOWN) == ramp(0.73, UP, DOWN) == 1.0
    assert ramp(0.865, UP, DOWN) == pytest.approx(math.exp(-12.5 / 4))
    assert ramp(1.0, UP, DOWN) == pytest.approx(math.exp(-12.5))


def test_the_ramp_has_no_jump():
    values = [ramp(i / 1000, UP, DOWN) for i in range(1001)]
    assert max(abs(a - b) for a, b in zip(values, values[1:])) < 0.02


def test_a_ramp_can_be_left_out():
    assert {ramp(f, 0.0, 1.0) for f in (0.0, 0.3, 1.0)} == {1.0}


def test_a_running_mean_is_plain_until_its_span_and_then_forgets():
    mean = RunningMean(2, span=2)
    means = [mean.update(torch.tensor(value)).tolist() for value in ([4.0, 0.0], [2.0, 2.0], [7.0, 1.0])]
    assert means == [[4.0, 0.0], [3.0, 1.0], [5.0, 1.0]]
    again = RunningMean(2, span=2)
    again.load_state_dict(mean.state_dict())
    assert torch.equal(again.update(torch.zeros(2)), torch.tensor([2.5, 0.5]))
