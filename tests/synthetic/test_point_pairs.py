"""The flow of rendered pairs is true in every crop: it leads to the same colours, in both directions of time, mirrored
or not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsal.config import AugmentConfig, RenderConfig
from tsal.data.lists import group_clips, read_list
from tsal.data.photometric import to_float
from tsal.data.views import FaceStore
from tsal.geometry import warp
from tsal.schemes import get_scheme
from tsal.synthetic.dataset import render_dataset
from tsal.synthetic.flow import SyntheticFlowMaker, cut_flow, ground_truth_flow


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("known") / "rendered"
    render_dataset(root, RenderConfig(labelled=1, clips=3, validation=1, frames=3, side=96), workers=1, progress=False)
    clips = group_clips(read_list(root / "lists" / "unlabelled.txt"))
    return FaceStore(root, get_scheme("68"), 64, 1.35, 100), clips


def difference(pairs) -> torch.Tensor:
    """Mean over valid pixels of the colours' difference, for the pairs as they are and along their flow."""
    first, second = to_float(pairs.first), to_float(pairs.second)
    return torch.stack([(one - first).abs().mean(1)[pairs.valid].mean() for one in (second, warp(second, pairs.flow))])


def test_a_flow_is_cut_as_its_image_is():
    flow = np.zeros((2, 20, 20), np.float32)
    flow[0], flow[1] = 3.0, 1.0
    hidden = np.zeros((20, 20), bool)
    hidden[10, 10] = True
    twice_mirrored = np.array([[-2.0, 0, 38], [0, 2.0, 0]])  # x -> 38 - 2x: mirrored, at twice the size
    moved, valid = cut_flow(flow, hidden, twice_mirrored, 39)
    assert moved[5, 20].tolist() == [-6.0, 2.0]
    assert not valid[20, 18] and valid[20, 14]  # pixel (10, 10) is seen at (18, 20)
    assert not valid[5, 5] and valid[5, 6]  # x = 5 leads to -1
    assert not valid[37, 20] and valid[36, 20]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_flow_leads_to_the_same_colours(rendered, flip):
    store, clips = rendered
    maker = SyntheticFlowMaker(store, clips, AugmentConfig(flip=flip), seed=3, pairs=6)
    still, along = difference(maker(0))
    assert along < 0.4 * still  # what is left is noise, light and resampling


def test_pairs_depend_on_seed_and_step_alone_and_come_in_both_directions(rendered):
    store, clips = rendered
    plain = AugmentConfig(flip=0, scale=0, rotation=0, shift=0)
    make = SyntheticFlowMaker(store, clips, plain, seed=1, pairs=3)
    one, two, other = make(4), SyntheticFlowMaker(store, clips, plain, seed=1, pairs=3)(4), make(5)
    assert torch.equal(one.flow, two.flow) and torch.equal(one.first, two.first) and one.seed == two.seed
    assert not torch.equal(one.first, other.first)
    firsts = {pairs.first[i].numpy().tobytes() for pairs in map(make, range(12)) for i in range(3)}
    seconds = {pairs.second[i].numpy().tobytes() for pairs in map(make, range(12)) for i in range(3)}
    assert len(firsts & seconds) >= 6  # a clip's last frame is a first one only backwards


def test_evaluation_reads_the_same_truth(rendered):
    store, clips = rendered
    fingerprint = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    flow, valid = ground_truth_flow(store.root, clips[0], fingerprint, 96)
    assert flow.shape == (2, 2, 96, 96) and valid.shape == (2, 96, 96) and 0.5 < valid.float().mean() < 1
    assert ground_truth_flow(store.root.parent, clips[0], fingerprint, 96) is None
