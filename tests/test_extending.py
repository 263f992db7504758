"""The recipes of docs/extending.md, followed word by word: their code blocks are run as printed on the page."""

from __future__ import annotations

import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import save_image

from tsal import config as config_module
from tsal import losses, pseudo
from tsal.config import load_method, resolve
from tsal.data.lists import group_clips, read_list
from tsal.data.origins import read_origins
from tsal.data.points import read_points
from tsal.prepare.builder import Origin, read_rejected
from tsal.schemes import get_scheme
from tsal.utils.errors import ConfigError
from tsal.utils.paths import CONFIG_FOLDER, REPOSITORY


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of one section of the page, without their indent."""
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", page, re.M | re.S).group(1)
    matches = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in matches]


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
    names = dict(vars(losses))  # as the module sees it
    exec(blocks("A loss", "python")[0], names)
    points, target = torch.tensor([[[0.0, 0.0], [5.0, 5.0]]]), torch.tensor([[[2.0, 20.0], [math.nan, 0.0]]])
    offset = 10 - 10 * math.log(1 + 10 / 2)
    by_hand = 10 * math.log(1 + 2 / 2) + 20 - offset
    loss = names["wing_loss"](points, target, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(by_hand) and names["wing_loss"](points, target, torch.zeros(1, 2)).item() == 0


@pytest.fixture
def myfaces(tmp_path):
    """The builder of the page, on a release whose rows have these shots and frames; the last one has no landmarks."""
    labels = {"points": np.array([[10.0, 10.0], [30.0, 30.0]] * 34), "visible": np.arange(68) > 1, "split": "train"}

    def build(*frames: tuple[str | None, int | None]):
        places = [*frames, (None, None)]
        rows = [
            SimpleNamespace(**labels, path=f"{n}.png", shot=s, frame=f, person="a") for n, (s, f) in enumerate(places)
        ]
        rows[-1].points = None
        for number, row in enumerate(rows):
            save_image(tmp_path / "release" / row.path, np.full((40, 40, 3), 30 * number, np.uint8))
        names = {"rows_of": lambda source: rows}  # all else is imported on the page
        exec(blocks("A dataset", "python")[0], names)
        return names["prepare_myfaces"](tmp_path / "release", tmp_path / "made", progress=False)

    return build


def test_a_dataset_is_a_builder_whose_frames_form_clips_and_that_rejects_what_has_no_landmarks(tmp_path, myfaces):
    manifest = myfaces(("walk", 8), ("walk", 9), ("walk", 11), ("talk", 12), (None, None), (None, None))
    folder = tmp_path / "made"
    faces = read_list(folder / "lists" / "myfaces.train.GTB")
    assert [len(clip.faces) for clip in group_clips(faces)] == [3, 1, 1, 1] and manifest["notes"] == []
    assert all(face.box == (10, 10, 30, 30) for face in faces)
    points, visible = read_points(folder / faces[0].annotation, 68)
    assert points[2:4].tolist() == [[10, 10], [30, 30]] and visible.tolist() == [False] * 2 + [True] * 66
    assert read_rejected(folder) == [("faces.csv:7", "no landmarks")] and manifest["rejected"] == 1
    assert read_origins(folder)[faces[2].image] == Origin("a", "walk", 11)


def test_a_builder_says_where_frames_form_no_clip(myfaces):
    """Rows of two clips in turn."""
    [note] = myfaces(("walk", 1), ("talk", 1), ("walk", 2), ("talk", 2))["notes"]
    assert note.startswith("myfaces.train.GTB: the frames of 2 of 2 clips, such as walk, form no clip; name them by")


def test_a_method_is_a_file(tmp_path, monkeypatch):
    shutil.copytree(CONFIG_FOLDER, tmp_path / "configs")
    monkeypatch.setattr(config_module, "CONFIG_FOLDER", tmp_path / "configs")
    text = (CONFIG_FOLDER / "methods" / "tsal.yaml").read_text()
    (tmp_path / "configs" / "methods" / "mine.yaml").write_text(text.replace("max_fb_error: 0.5", "max_fb_error: 1.5"))
    assert load_method("mine").result == "teacher" and resolve(method="mine")[0].tsal.max_fb_error == 1.5
    path = tmp_path / "configs" / "methods" / "mine.yaml"
    for added, said in (("semi: {lr: 0.1}", "semi.lr: a method sets"), ("tracker: {lr: 0.1}", "tracker.lr: a method")):
        path.write_text(f"{text}\n{added}\n")
        with pytest.raises(ConfigError, match=f"^configs/methods/mine.yaml: {said}"):
            load_method("mine")
    path.write_text(re.sub(r"^  trust: .*\n", "", text, flags=re.M))
    with pytest.raises(ConfigError, match="^configs/methods/mine.yaml: tsal.trust: missing; a method writes out all"):
        load_method("mine")
    keys = {line.split(":")[0] for line in blocks("A method", "yaml")[0].splitlines()}
    assert keys == {"result", "steps_times", "tsal", "tracker"}


def test_a_landmark_scheme_is_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(blocks("A landmark scheme", "yaml")[0])
    scheme = get_scheme(str(tmp_path / "mine.yaml"))
    assert (scheme.points, scheme.centre, scheme.flip) == (5, 2, (1, 0, 2, 4, 3))
