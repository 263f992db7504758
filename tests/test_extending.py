"""The recipes of docs/extending.md, followed word by word: their code blocks are run as printed on the page."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import save_image

from tsal import config as config_module
from tsal import pseudo
from tsal.config import load_method, resolve
from tsal.data.lists import read_list
from tsal.data.points import write_points
from tsal.losses import weighted_mean
from tsal.prepare.builder import DatasetBuilder, Origin, landmark_box, read_rejected
from tsal.schemes import get_scheme
from tsal.utils.paths import CONFIG_FOLDER, REPOSITORY


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of one section of the page, without their indent."""
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", page, re.M | re.S).group(1)
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]


def test_a_source_has_a_name_and_a_family(monkeypatch):
    names = {}
    exec(blocks("A source of pseudo-labels", "python")[0], names)
    assert set(pseudo.HEATMAP_FAMILY) <= set(names["HEATMAP_FAMILY"])
    monkeypatch.setattr(pseudo, "HEATMAP_FAMILY", names["HEATMAP_FAMILY"])
    everywhere = torch.ones((1, 1), dtype=torch.bool)
    at = {"heatmap": 1.0, "centre": 1.0, "first_stage": 3.0}
    sources = {name: pseudo.Source(torch.full((1, 1, 2), x), torch.ones(1, 1), everywhere) for name, x in at.items()}
    assert pseudo.fuse(sources, ("heatmap", "first_stage"), 0.5).points.tolist() == [[[2.0, 2.0]]]  # the family's mean


def test_a_loss_is_masked_and_has_the_value_by_hand():
    names = {"Tensor": Tensor, "torch": torch, "math": math, "weighted_mean": weighted_mean}
    exec(blocks("A loss", "python")[0], names)
    points, target = torch.tensor([[[0.0, 0.0], [5.0, 5.0]]]), torch.tensor([[[2.0, 20.0], [math.nan, 0.0]]])
    offset = 10 - 10 * math.log(1 + 10 / 2)
    by_hand = 10 * math.log(1 + 2 / 2) + 20 - offset
    loss = names["wing_loss"](points, target, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(by_hand) and names["wing_loss"](points, target, torch.zeros(1, 2)).item() == 0


def test_a_dataset_is_a_builder_that_rejects_what_has_no_landmarks(tmp_path):
    points = np.array([[10.0, 10.0], [30.0, 30.0]] * 34)
    seen = {"visible": np.ones(68, bool), "split": "train", "shot": None, "frame": None}
    rows = [SimpleNamespace(path=f"{n}.png", points=p, person=f"p{n}", **seen) for n, p in enumerate((points, None))]
    for row in rows:
        row.points = [] if row.points is None else Landmarks(row.points)
        save_image(tmp_path / "release" / row.path, np.full((40, 40, 3), 90 + 60 * rows.index(row), np.uint8))
    names = {"Path": Path, "DatasetBuilder": DatasetBuilder, "Origin": Origin, "write_points": write_points}
    names |= {"landmark_box": landmark_box, "rows_of": lambda source: rows}
    exec(blocks("A dataset", "python")[0], names)
    manifest = names["prepare_myfaces"](tmp_path / "release", tmp_path / "made", progress=False)
    [face] = read_list(tmp_path / "made" / "lists" / "myfaces.train.GTB")
    assert face.box == (10, 10, 30, 30) and manifest["rejected"] == 1
    assert read_rejected(tmp_path / "made") == [("faces.csv:2", "no landmarks")]


class Landmarks(np.ndarray):
    """Points that are there: the recipe asks ``if not row.points``."""

    def __new__(cls, points):
        return np.asarray(points).view(cls)

    def __bool__(self):
        return len(self) > 0


def test_a_method_is_a_file(tmp_path, monkeypatch):
    shutil.copytree(CONFIG_FOLDER, tmp_path / "configs")
    monkeypatch.setattr(config_module, "CONFIG_FOLDER", tmp_path / "configs")
    text = (CONFIG_FOLDER / "methods" / "tsal.yaml").read_text()
    (tmp_path / "configs" / "methods" / "mine.yaml").write_text(text.replace("max_fb_error: 0.5", "max_fb_error: 1.5"))
    assert load_method("mine").result == "teacher" and resolve(method="mine")[0].tsal.max_fb_error == 1.5
    keys = {line.split(":")[0] for line in blocks("A method", "yaml")[0].splitlines()}
    assert keys == {"result", "steps_times", "tsal", "tracker"}


def test_a_landmark_scheme_is_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(blocks("A landmark scheme", "yaml")[0])
    scheme = get_scheme(str(tmp_path / "mine.yaml"))
    assert (scheme.points, scheme.centre, scheme.flip) == (5, 2, (1, 0, 2, 4, 3))
