"""What of given boxes tracks cover is counted as by hand."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tsal.bench.following import Clip, _compare, _Sums, list_clips
from tsal.data import group_clips, read_list
from tsal.faces import Followed, Track, read_frames

BOX = np.array([10.0, 10, 30, 30])


def test_covered_boxes_their_errors_and_false_tracks_are_counted():
    """Frames 0 to 4 have a box, a track has frames 1 to 4 and is elsewhere in frame 4; another track has no face."""
    truth = np.zeros((68, 2))
    truth[45] = (10, 0)
    clip = Clip(Path("v"), {n: BOX for n in range(5)}, {n: truth for n in range(4)})
    face = Track(1, [BOX, BOX + [0, 5, 0, 5], BOX, BOX + 100], [True] * 4)
    false = Track(0, [BOX + [15, 0, 15, 0]] * 5, [True] * 5)
    landmarks = [np.zeros((1, len(track.boxes), 68, 3)) for track in (face, false)]
    landmarks[0][0, :, :, :2] = truth + [3, 4]  # 5 px off, the eyes are 10 px apart
    sums = _Sums([], [])
    _compare(sums, clip, Followed(200, 200, [0.0] * 5, [], [face, false], 0, []), landmarks)
    assert sums.covered == [False, True, True, True, False]  # IoU 0.6 in frame 2; 5/35 of the false one
    assert sums.errors == pytest.approx([np.nan, 0.5, 0.5, 0.5, np.nan], nan_ok=True)
    assert sums.false == 1


def test_the_frames_of_a_real_clip_go_to_and_fro_with_their_own_boxes(realdata, tmp_path):
    [clip] = islice(list_clips(realdata, tmp_path, 1), 1)
    faces = group_clips(read_list(realdata / "lists" / "YTF.val.GTB", label="val"))[0].faces
    order = [0, 1, 2, 3, 4, 3, 2, 1, 0]
    for frame, place in enumerate(order):
        assert (frame in clip.boxes) == (faces[place].annotation is not None)
        if frame in clip.boxes:
            assert clip.boxes[frame].tolist() == list(faces[place].box)
            assert clip.points[frame].min(0) == pytest.approx(clip.boxes[frame][:2], abs=1.01)
    assert len(list(read_frames(clip.video))) == 25
