"""Files are written whole or not at all, and reading one never runs what it holds."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tsal.config import Config
from tsal.utils import checkpoints
from tsal.utils.checkpoints import load_checkpoint, save_checkpoint
from tsal.utils.errors import InputError
from tsal.utils.files import files_below, read_arrays, remove_unfinished, replacing, write_arrays, write_text
from tsal.utils.paths import REPOSITORY, from_repository


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_error_while_writing_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="in the middle"):
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("in the middle")
    assert (tmp_path / "a.txt").read_text() == "old" and left(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch, interruption):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})

    def failing(content, target):
        target.write(b"PK half a checkpoint")
        raise interruption("no space left")

    monkeypatch.setattr(checkpoints.torch, "save", failing)
    with pytest.raises(interruption):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1} and left(tmp_path) == ["last.pt"]


def test_what_cannot_be_saved_leaves_the_old_arrays(tmp_path):
    write_arrays(tmp_path / "a.npz", x=np.arange(3))

    class Unsaveable:
        def __array__(self, *_, **__):
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_arrays(tmp_path / "a.npz", x=np.arange(9), y=Unsaveable())
    assert read_arrays(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2] and left(tmp_path) == ["a.npz"]


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "text")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {"text": np.array(["a", "bc"]), "path": np.array([1.5, np.nan]), "mask": np.array([[True, False]])}
    write_arrays(tmp_path / "a.npz", **arrays)
    archive = read_arrays(tmp_path / "a.npz")
    assert set(archive) == set(arrays)
    assert all(
        np.array_equal(archive[k], arrays[k], equal_nan=k == "path") and archive[k].dtype == arrays[k].dtype
        for k in arrays
    )


def test_arrays_that_would_run_something_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz")


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    content = {
        "step": 3,
        "history": [{"loss": 0.5}],
        "state": {"w": torch.arange(3.0)},
        "fingerprint": {"name": "x", "more": [1, None]},
    }
    save_checkpoint(tmp_path / "a.pt", content)
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(checkpoint["state"].pop("w"), content["state"].pop("w")) and checkpoint == content


class Bomb:
    went_off = False

    def __reduce__(self):
        return (setattr, (Bomb, "went_off", True))


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickled_object_is_refused_and_never_run(tmp_path, write):
    path = tmp_path / "bomb.pt"
    write({"models": Bomb()}, path)
    with pytest.raises(InputError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice to run what the file holds
    assert not Bomb.went_off


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError, match="a.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_missing_or_foreign_checkpoint_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="none.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="list.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "list.pt")


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path):
    for name in (".a.txt.4194305.tmp.txt", ".audit.4194305.tmp", ".b.txt.4194305.tmp.txt", ".a.txt.1.tmp.txt", "a.txt"):
        (tmp_path / name).mkdir() if name.startswith(".audit") else (tmp_path / name).write_text("x")
    remove_unfinished(tmp_path, "a*")  # no process has the number 4194305, one has the number 1
    assert left(tmp_path) == [".a.txt.1.tmp.txt", ".b.txt.4194305.tmp.txt", "a.txt"]


@pytest.mark.parametrize("letter", ["x", "ä"])
def test_a_file_may_have_the_longest_name_that_a_file_has(tmp_path, letter):
    """Two names that begin alike have two temporary ones, and what a killed process left of them is removed."""
    names = [letter * (250 // len(letter.encode())) + end for end in ("1.txt", "2.txt")]
    with replacing(tmp_path / names[0]) as temporary, replacing(tmp_path / names[1]) as other:
        assert temporary != other and temporary.suffix == ".txt"
        for path in (temporary, other):
            path.write_text(path.name)
    assert left(tmp_path) == names
    temporary.write_text("half")
    remove_unfinished(tmp_path)
    assert left(tmp_path) == names


def test_files_behind_links_are_found_once_each_and_links_that_go_round_end(tmp_path):
    for name in ("top/b/deep/1", "top/b/2", "top/3", "store/4", "store/more/5", "top/left out/6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    links = {
        "top/a": "top/b",
        "top/b/up": "top",
        "top/c": "store",
        "store/back": "top",
        "top/d": "none",
        "top/7": "top/3",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    paths = files_below(tmp_path / "top", but=tmp_path / "top" / "left out")
    assert [str(path.relative_to(tmp_path / "top")) for path in paths] == [
        *("3", "7", "b/2", "b/deep/1", "c/4", "c/more/5", "d")
    ]


def test_hidden_and_system_files_below_a_folder_are_none_of_its_files(tmp_path):
    top = tmp_path / ".mine"  # what is given itself may be hidden
    for name in ("a.jpg", "._a.jpg", ".ipynb_checkpoints/b.jpg", "more/@eaDir/c.jpg", "__MACOSX/d.jpg", "more/e.jpg"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    (top / ".link").symlink_to(top / "more")
    assert [str(path.relative_to(top)) for path in files_below(top)] == ["a.jpg", "more/e.jpg"]


def test_a_path_of_a_notebook_starts_at_the_repository_wherever_its_kernel_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY / "notebooks")
    assert from_repository("data/x.mp4") == REPOSITORY / "data" / "x.mp4"
    assert from_repository(tmp_path) == tmp_path and from_repository("~/x") == Path.home() / "x"
    assert Config.resolve("configs/profiles/smoke.yaml") == Config.resolve("smoke")
