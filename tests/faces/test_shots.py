"""Frames that repeat the one before are distinguished from slow motion, on real video too."""

from __future__ import annotations

import csv
import os

import cv2
import numpy as np
import pytest

from tsal.faces.shots import mark_cuts, read_frames, repeated_frames, small_grey, thumbnail
from tsal.utils import DataError


@pytest.mark.parametrize("each", [2, 3, 5])
def test_frames_that_differ_by_compression_alone_are_repeats_up_to_two_in_three(each):
    rng = np.random.default_rng(0)
    repeat = np.arange(60) % each != 0 if each == 3 else np.arange(60) % each == each - 1
    steps = np.where(repeat, rng.uniform(0.1, 0.4, 60), rng.uniform(3, 8, 60))
    assert repeated_frames(steps) == [at for at in np.flatnonzero(repeat).tolist() if at]


def test_a_still_scene_and_motion_that_slows_down_hold_no_repeats_and_equal_frames_always_are():
    assert repeated_frames(np.random.default_rng(0).uniform(0.04, 0.07, 40)) == []
    assert repeated_frames(5 * 0.9 ** np.arange(40)) == []
    assert repeated_frames([0.0] * 4) == [1, 2, 3] and repeated_frames([0.0, 2.0]) == [] == repeated_frames([0.0])


def steps_and_cuts(path) -> tuple[list[float], list[int]]:
    greys, frames = [], []
    for number, _, image in read_frames(path):
        greys.append(small_grey(image))
        frames.append((number, thumbnail(image)))
    steps = [0.0, *(float(cv2.absdiff(*pair).mean()) for pair in zip(greys, greys[1:]))]
    return steps, [number for number, cut in mark_cuts(frames) if cut]


def test_repeats_and_cuts_of_real_clips_are_those_counted_in_their_table(realdata):
    if not (realdata / "dense" / "clips.csv").is_file():
        pytest.skip("TSAL_REALDATA has no dense/clips.csv")
    with (realdata / "dense" / "clips.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for name in ("train/p06-1.mp4", "train/p06-3.mp4", "train/p07-1.mp4", "train/p12-1.mp4", "train/p35-1.mp4"):
        steps, cuts = steps_and_cuts(realdata / "dense" / name)
        assert abs(len(repeated_frames(steps)) - int(rows[name]["repeated_frames"])) <= 1, name
        assert cuts == [int(cut) for cut in rows[name]["cuts"].split()], name


def test_a_video_whose_name_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"Ren\xe9.mp4")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not UTF-8"):
        next(read_frames(path))
