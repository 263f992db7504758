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


@pytest.mark.parametrize("speed", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("start", [0.0, 0.4, 0.8])
def test_a_head_that_turns_back_repeats_no_frame(speed, start):
    """Of a nod or a shake by a sine the steps fall to almost nothing and rise again; its period is 126 to 13 frames."""
    assert repeated_frames(5 * np.abs(np.cos(speed * np.arange(60) + start))) == []


def test_a_head_that_slows_down_and_then_moves_fast_repeats_no_frame():
    assert repeated_frames([0.0, 3, 3, 2.5, 2, 1.2, 0.8, 0.5, 0.4, 0.5, 0.6, 0.8, 1.5, 4, 5, 5, 5, 4, 5, 5]) == []


def test_of_24_frames_a_second_shown_as_30_each_fifth_is_a_repeat():
    """Motion that rises and falls with compression noise: a few are missed, as a false one would freeze the face."""
    rng, shown = np.random.default_rng(0), np.arange(150)
    repeat = shown % 5 == 4
    motion = (3 + 2 * np.sin(0.3 * shown)) * rng.uniform(0.7, 1.3, 150)
    flagged = set(repeated_frames(np.where(repeat, rng.uniform(0.05, 0.2, 150), motion)))
    assert flagged <= set(np.flatnonzero(repeat)) and len(flagged) >= 0.9 * repeat.sum()


def steps_and_cuts(path) -> tuple[list[float], list[int]]:
    greys, frames = [], []
    for number, _, image in read_frames(path):
        greys.append(small_grey(image))
        frames.append((number, thumbnail(image)))
    steps = [0.0, *(float(cv2.absdiff(*pair).mean()) for pair in zip(greys, greys[1:]))]
    return steps, [number for number, cut in mark_cuts(frames) if cut]


def test_most_repeats_and_the_cuts_of_real_clips_are_those_counted_in_their_table(realdata):
    if not (realdata / "dense" / "clips.csv").is_file():
        pytest.skip("TSAL_REALDATA has no dense/clips.csv")
    with (realdata / "dense" / "clips.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for name in ("train/p06-1.mp4", "train/p07-1.mp4", "train/p12-1.mp4", "train/p35-1.mp4"):
        steps, cuts = steps_and_cuts(realdata / "dense" / name)
        counted = int(rows[name]["repeated_frames"])
        assert 0.75 * counted <= len(repeated_frames(steps)) <= counted, name
        assert cuts == [int(cut) for cut in rows[name]["cuts"].split()], name


def test_a_video_whose_name_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"Ren\xe9.mp4")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not UTF-8"):
        next(read_frames(path))
