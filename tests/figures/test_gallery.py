"""The gallery: executed notebooks as pages, and figures that are small enough for a repository."""

from __future__ import annotations

import os
import re

import cv2
import numpy as np
import pytest
from toys import NOTEBOOKS

from tsal.cli.commands import main
from tsal.config import Config
from tsal.figures import gallery
from tsal.run import Run
from tsal.utils import PACKAGE, InputError


def test_pages_have_an_index_with_the_question_of_each_notebook(smoke_run, tmp_path):
    paths = gallery.write_pages(Run.open(smoke_run), tmp_path / "pages")
    assert [path.name for path in paths] == ["index.html", *(f"{name}.html" for name in NOTEBOOKS)]
    index = paths[0].read_text()
    assert re.findall(r'href="(.+?)"', index) == [path.name for path in paths[1:]]
    assert "1. Data" in index and "Which faces does the run have, and are its lists and files valid?" in index
    page = paths[3].read_text()
    assert "data:image/png;base64" in page and "<title>3. Training</title>" in page


def test_figures_are_within_the_limit(smoke_run, tmp_path):
    run = Run.open(smoke_run)
    for limit in (gallery.LIMIT, 60_000):
        paths = gallery.write_figures(run, tmp_path / "chosen", limit)
        assert [path.stem for path in paths] == list(gallery.CHOSEN)
        assert all(path.stat().st_size <= limit and cv2.imread(str(path)).std() > 1 for path in paths)


def test_a_figure_within_the_limit_stays_as_it_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    size = (tmp_path / "a.png").stat().st_size
    path = gallery._write_within(tmp_path / "a.png", tmp_path / "b.png", size)
    assert path.read_bytes() == (tmp_path / "a.png").read_bytes()
    assert gallery._write_within(tmp_path / "a.png", tmp_path / "c.png", size - 1).stat().st_size < size


def test_the_command_says_what_it_wrote_or_what_is_missing(smoke_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "write_pages", lambda run, folder: [folder / "index.html"])
    assert main(["gallery", "--run", str(smoke_run)]) == 0
    assert capsys.readouterr().out == f"{gallery.PAGES / 'index.html'}\n"  # and no figures, which were not asked for
    assert main(["gallery", "--run", str(smoke_run), "--publish", str(tmp_path / "chosen")]) == 0
    chosen = [tmp_path / "chosen" / f"{name}.png" for name in gallery.CHOSEN]
    assert capsys.readouterr().out.splitlines()[1:] == [str(path) for path in chosen]
    assert all(path.exists() for path in chosen)
    monkeypatch.undo()
    (tmp_path / "config.json").write_bytes((smoke_run / "config.json").read_bytes())
    with pytest.raises(InputError, match="no executed notebook"):
        gallery.write_pages(Run.open(tmp_path), tmp_path / "pages")
    with pytest.raises(InputError, match="none drawn yet; run 'python -m tsal figures"):
        gallery.write_figures(Run.open(tmp_path), tmp_path / "chosen")


def test_notebooks_that_are_older_than_what_draws_their_figures_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "write_pages", lambda run, folder: [folder / "index.html"])
    Config.load("smoke").save(tmp_path / "config.json")
    changed = max(path.stat().st_mtime for name in ("figures", "explorer") for path in (PACKAGE / name).glob("*.py"))
    (tmp_path / "executed").mkdir()
    for name, seconds in {"01_data": -1, "02_tracker": 1, "03_train": -1, "04_pseudo_labels.failed": -1}.items():
        (tmp_path / "executed" / f"{name}.ipynb").touch()
        os.utime(tmp_path / "executed" / f"{name}.ipynb", (changed + seconds,) * 2)
    assert main(["gallery", "--run", str(tmp_path)]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("note: 01_data, 03_train: executed before a file of tsal/figures or tsal/explorer changed")
    assert line.endswith(f"python -m tsal notebook notebooks/01_data.ipynb --run {tmp_path}")
    for name in ("01_data", "03_train"):
        os.utime(tmp_path / "executed" / f"{name}.ipynb", (changed + 1,) * 2)
    assert main(["gallery", "--run", str(tmp_path)]) == 0 and capsys.readouterr().err == ""


def test_a_run_without_labels_to_measure_by_publishes_the_other_figures(tmp_path, smoke_run):
    (tmp_path / "config.json").write_bytes((smoke_run / "config.json").read_bytes())
    (tmp_path / "figures").mkdir()
    for name in ("history", "summary"):
        cv2.imwrite(str(tmp_path / "figures" / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    paths = gallery.write_figures(Run.open(tmp_path), tmp_path / "chosen")
    assert [path.name for path in paths] == ["history.png", "summary.png"]
