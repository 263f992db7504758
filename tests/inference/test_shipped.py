"""The detector that ships finds landmarks: on drawn faces, and with the errors of its model card on real ones."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tsal import Landmarker
from tsal.bench.anchors import errors_in, ours
from tsal.data import FaceStore, find_list, read_image, read_list
from tsal.evaluation import read_ground_truth
from tsal.inference import find_weights
from tsal.schemes import get_scheme
from tsal.synthetic import render_clip
from tsal.utils.paths import REPOSITORY


def test_landmarks_of_drawn_faces_are_near_where_they_were_drawn():
    landmarker, apart = Landmarker(), []
    for seed in range(1, 6):
        clip = render_clip([7, seed], 1, 192, flow=False)
        points, visible = clip.points[0], clip.visible[0]
        box = np.concatenate([points.min(0), points.max(0)])
        [face] = landmarker(clip.images[0], boxes=[box])
        apart.append(np.linalg.norm(face.points - points, axis=1)[visible].mean() / max(box[2:] - box[:2]))
    assert np.mean(apart) < 0.04


@pytest.mark.parametrize("name", ["semi/300W.val-150.GTB", "YTF.val.GTB"])
def test_errors_on_real_faces_are_those_of_the_model_card(realdata, name):
    rows = json.loads((REPOSITORY / "docs/results/anchors.json").read_text())["rows"]
    [said] = [row["NME %"] for row in rows if (row["list"], row["method"]) == (name, "face68")]
    rows_of_list, scheme = read_list(find_list(realdata, name), label=name), get_scheme("68")
    faces = [face for face in rows_of_list if face.annotation]
    truth = read_ground_truth(FaceStore(realdata, scheme, 96, 1.35, 0), faces, "ocular", scheme)
    images = [read_image(realdata / face.image) for face in faces]
    assert 100 * errors_in(truth.box, ours(Landmarker()), images, truth).mean() == pytest.approx(said, abs=0.002)


def test_the_recipe_of_the_page_reads_a_detector_and_a_run_s_predictions(run):
    """The code of docs/use.md as printed, but for its two paths."""
    page = (REPOSITORY / "docs" / "use.md").read_text().partition("## In other programs")[2]
    [text] = re.findall(r"```python\n(.*?)```", page, re.S)
    names = {}
    for said, path in (("outputs/mine-faces-s0/semi/model.pt", find_weights()), ("outputs/mine-faces-s0", run.folder)):
        assert f'"{said}"' in text
        text = text.replace(f'"{said}"', repr(str(path)))
    exec(text, names)
    assert names["points"].shape == (2, 68, 2) and names["scores"].shape == (2, 68) and names["scheme"].points == 68
    table = names["table"]
    assert names["errors"].shape == table["visible"].shape and 0 < np.nanmean(names["errors"]) < 10
    [keys] = re.findall(r"\| array of `predictions.npz` .*?\n\n", page + "\n\n", re.S)
    assert set(table.files) <= set(re.findall(r"`(\w+)`", keys))
