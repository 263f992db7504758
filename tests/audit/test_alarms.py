"""Alarms of a history: raised when it goes wrong, silent when it goes well."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from toys import random_batch

from tsal.audit.alarms import find_alarms
from tsal.pseudo import LabellerOutput, PseudoLabels, Source
from tsal.trainer import measure

WELL = {
    "step": range(10, 101, 10),
    "error_fused": [9, 8, 7, 6, 6, 5, 5, 5, 5, 5],
    "spread": [8.0] * 10,
    "model_distance": [0.1] * 10,
    "target_weight": [1.0] * 10,
    "target_disagreement": [3.0] * 10,
}


def history(**changes) -> pd.DataFrame:
    return pd.DataFrame(WELL | changes)


def test_a_good_history_raises_no_alarm():
    assert find_alarms(history()) == []


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"error_fused": [9, 8, 7, 6, 6, 7, 8, 9, 10, 11]},
            "drift: the error of the student's targets is 10.00 at the end, and was 6.33",
        ),
        (
            {"error_fused": [None] * 10, "target_disagreement": [2, 2, 2, 2, 2, 3, 3, 4, 4, 4]},
            "drift: the disagreement of the sources",
        ),
        (
            {"spread": [8, 8, 8, 7, 6, 5, 4, 3, 3, 3]},
            "collapse: shapes differ by 3.00 % over the faces, at first by 8.00 %",
        ),
        ({"model_distance": [1e-5] * 10}, "one network"),
        ({"target_weight": [0.5] * 5 + [0.0] * 5}, "silence: 0.0 % of the targets"),
    ],
)
def test_what_goes_wrong_is_told(changes, said):
    [line] = find_alarms(history(**changes))
    assert line.startswith(said)


def labelled(sources, target) -> LabellerOutput:
    """Labels with no pair of frames, so that nothing is reconstructed."""
    return LabellerOutput(sources, target, None)


def test_errors_are_shares_of_the_face_where_the_truth_is_known():
    batch = random_batch(0, [1, 1], 3)
    batch.size, batch.truth = torch.tensor([40.0, 20.0]), torch.full((2, 3, 2), torch.nan)
    batch.truth[:, 0] = torch.tensor([[10.0, 10.0], [5.0, 5.0]])
    points = torch.zeros(2, 3, 2)
    points[:, 0] = torch.tensor([[14.0, 10.0], [5.0, 6.0]])  # off by 4 of 40 px and by 1 of 20
    valid = torch.ones(2, 3, dtype=torch.bool)
    off = torch.tensor([[True], [False]]).expand(2, 3)
    sources = {"heatmap": Source(points, valid.float(), valid), "propagated": Source(points, valid.float(), off)}
    target = PseudoLabels(points, valid.float(), points[..., 0], valid, points[..., 0])
    labels = labelled(sources, target)
    metrics = measure(labels, batch)
    assert {name: float(value) for name, value in metrics.items() if name != "spread"} == pytest.approx(
        {"error_heatmap": 7.5, "error_propagated": 10.0, "error_fused": 7.5}
    )
    batch.truth = None
    assert set(measure(labels, batch)) == {"spread"}


def test_faces_that_all_get_one_shape_have_no_spread():
    batch = random_batch(0, [1, 1, 1], 3)
    batch.size, batch.truth = torch.full((3,), 50.0), None
    shape = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    places = torch.tensor([[5.0, 5.0], [9.0, 1.0], [2.0, 7.0]])[:, None]
    valid = torch.ones(3, 3, dtype=torch.bool)
    target = PseudoLabels(shape.expand(3, 3, 2), valid.float(), valid.float(), valid, valid.float())

    def spread(points) -> float:
        labels = labelled({"heatmap": Source(points, valid.float(), valid)}, target)
        return float(measure(labels, batch)["spread"])

    assert spread(shape + places) == pytest.approx(0, abs=1e-4)
    assert spread(shape * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1) + places) > 5
