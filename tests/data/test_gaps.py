"""Frames that a list leaves out end a clip, where frames are consecutive: nothing is tracked across them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import config, face, save_image

from tsal.data import BatchMaker, group_clips, split_at_gaps
from tsal.data.lists import write_list
from tsal.data.points import write_points
from tsal.run import Run
from tsal.stages.tracker import _labelled_pairs

BOX = (4, 4, 30, 30)


def numbers(clips) -> list[list[int]]:
    return [[int(Path(face.image).stem) for face in clip.faces] for clip in clips]


@pytest.mark.parametrize(
    "frames, clips",
    [
        ([1, 2, 3, 400, 401, 402], [[1, 2, 3], [400, 401, 402]]),
        ([1, 2, 4, 20, 21], [[1, 2], [4], [20, 21]]),
        ([0, 1, 2, 3], [[0, 1, 2, 3]]),  # as rendered faces and `data video` number them
        ([0, 2, 4, 6], [[0, 2, 4, 6]]),  # every second frame
        ([0, 2, 4, 8, 10], [[0, 2, 4], [8, 10]]),
        ([7, 30], [[7, 30]]),
        ([7], [[7]]),
    ],
)
def test_a_step_longer_than_a_clip_s_shortest_ends_it(frames, clips):
    rows = [face(f"c/{number}.png", row=row) for row, number in enumerate(frames, 1)]
    parts = split_at_gaps(group_clips(rows))
    assert numbers(parts) == clips and [row for clip in parts for row in clip.faces] == rows
    assert {clip.name for clip in parts} == {"c"}


@pytest.fixture
def opened(tmp_path):
    """A run on clips with gaps, 1 2 3 400 401 without labels and 1 2 30 31 32 with; ``opened(overrides)``."""
    root = tmp_path / "root"
    for name in ("a", *(f"c/{n}" for n in (1, 2, 3, 400, 401, 500)), *(f"v/{n}" for n in (1, 2, 30, 31, 32))):
        save_image(root / f"{name}.png", np.full((40, 40, 3), 90, np.uint8))
        write_points(root / f"{name}.pts", np.full((68, 2), 9.0))
    write_list(root / "labelled.txt", [("a.png", "a.pts", BOX)])
    write_list(root / "unlabelled.txt", [(f"c/{n}.png", None, BOX) for n in (1, 2, 3, 400, 401, 500)])
    write_list(root / "val.txt", [(f"v/{n}.png", f"v/{n}.pts", BOX) for n in (1, 2, 30, 31, 32)])
    lists = ["data.labelled=labelled.txt", "data.unlabelled=unlabelled.txt", "data.evaluate=val.txt"]
    return lambda *more: Run(tmp_path / "run", config("data.name=mine", f"data.root={root}", *lists, *more))


def test_a_run_tracks_within_the_parts_of_a_clip_alone(opened):
    run = opened()
    assert numbers(run.clips) == [[1, 2, 3], [400, 401]] and numbers(run.single_images) == [[500]]
    make = BatchMaker(run.store, [], run.clips, [], run.config.augment, seed=0, sizes=(0, 2, 0), frames=6, window=3)
    batch = make(0)
    images = [int(Path(row.rsplit(" ")[-1]).stem) for row in batch.faces]
    pairs = {(images[i], images[j]) for i, j in zip(batch.previous.tolist(), batch.following.tolist())}
    assert pairs == {(1, 2), (2, 3), (1, 3), (400, 401)}


def test_gaps_do_not_count_where_frames_are_not_consecutive(opened):
    run = opened("data.consecutive=false")
    assert numbers(run.clips) == [[1, 2, 3, 400, 401, 500]] and run.single_images == []


@pytest.mark.parametrize(
    "more, pairs",
    [
        ((), [[1, 2], [30, 31], [31, 32]]),
        (("data.sparse=val.txt",), [[1, 2], [2, 30], [30, 31], [31, 32]]),
        (("data.consecutive=false",), [[1, 2], [2, 30], [30, 31], [31, 32]]),
    ],
)
def test_a_tracker_is_measured_on_frames_as_far_apart_as_it_is_said(opened, more, pairs):
    labelled_pairs = _labelled_pairs(opened(*more), 1, 10)
    places = [[clip.faces[place].image for place in both] for clip, *both in labelled_pairs]
    assert [[int(Path(image).stem) for image in both] for both in places] == pairs
