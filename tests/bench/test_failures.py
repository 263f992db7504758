"""Errors by what makes a face hard."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tsal.bench.failures import by_kind, hard_faces, main, rendered_heads


def test_a_kind_has_the_mean_error_of_its_faces_and_the_rest_that_of_the_others():
    hard = {"turned": np.array([True, True, False, False]), "dark": np.array([False, True, True, False])}
    errors = by_kind(np.array([0.01, 0.03, 0.05, 0.2]), hard)
    assert errors == pytest.approx({"turned": 2, "dark": 4, "none of these": 20})


def test_rendered_heads_are_called_hard_for_what_is_hard_about_them():
    images, truth = rendered_heads(12, 64, 0)
    darker = [image // (20 if number < 3 else 1) for number, image in enumerate(images)]
    truth.visible[:] = True
    truth.visible[5, :7] = False  # a tenth of 68
    truth.points[:, [0, 16, 30]] = [[0, 0], [60, 0], [30, 0]]  # the ends of the outline, the nose tip
    truth.points[7:11, 30, 0] = 48, 12, 50, 10
    hard = hard_faces(truth, darker)
    assert hard["dark"][:3].all() and hard["dark"].sum() == 3
    assert np.flatnonzero(hard["occluded"]).tolist() == [5]
    assert np.flatnonzero(hard["turned"]).tolist() == [7, 8, 9, 10]


def test_the_command_writes_a_table_and_a_picture_of_heads_of_every_kind(tmp_path, capsys):
    main(["--heads", "12", "--out", str(tmp_path)])
    table = (tmp_path / "failures.md").read_text()
    assert "turned | dark | small | occluded" in table and table in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / "failures.jpg")).astype(int)
    side, under, gap = (6.9 - 0.2 - 5 * 0.04) / 6, 0.14, 0.04  # inches: four rows of six heads
    height = 0.02 + 4 * (side + under) + 3 * gap
    assert picture.shape == pytest.approx((150 * height, 150 * 6.9, 3), abs=1)
    for row, column in np.ndindex(4, 6):
        top, left = 0.02 + row * (side + under + gap), 0.2 + column * (side + gap)
        y, x, bottom, right = (round(150 * place) for place in (top, left, top + side, left + side))
        head = picture[y:bottom, x:right]
        assert np.median(head) < 220 and (head[..., 0] - head[..., 2] > 60).sum() > 800  # its landmarks are blue
