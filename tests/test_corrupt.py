"""Every kind of file, broken in many ways: a clear line or a rejected row, never a traceback, never a half-written
list.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil

import numpy as np
import pytest
from prepared import prepare_in
from releases import (
    append_row,
    coco,
    landmarks,
    photographs_csv,
    release_300vw,
    release_300w,
    release_aflw,
    release_youtube,
    scene,
    write_image,
    write_pts,
)
from videos import write_video

from tsal.cli.commands import main
from tsal.data.lists import read_list
from tsal.faces import shots
from tsal.prepare import aflw
from tsal.prepare.builder import read_rejected


def numbers_to(text: str):
    def change(content: bytes) -> bytes:
        out = bytearray()
        for byte in content:
            out += text.encode() if chr(byte).isdigit() else bytes([byte])
        return bytes(out)

    return change


def noise(length: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, length, np.uint8).tobytes()


def with_bits_flipped(content: bytes, every: int) -> bytes:
    values = np.frombuffer(content, np.uint8).copy()
    values[::every] ^= 1 << 5
    return values.tobytes()


def overwritten(content: bytes, start: float, length: int, byte: int) -> bytes:
    at = int(start * len(content))
    return content[:at] + bytes([byte]) * min(length, len(content) - at) + content[at + length :]


WAYS = {
    "empty": lambda c: b"",
    "one byte": lambda c: c[:1],
    "a tenth": lambda c: c[: len(c) // 10],
    "half": lambda c: c[: len(c) // 2],
    "nine tenths": lambda c: c[: len(c) * 9 // 10],
    "all but the last byte": lambda c: c[:-1],
    "no first byte": lambda c: c[1:],
    "no first line": lambda c: c.partition(b"\n")[2],
    "zeros": lambda c: bytes(len(c)),
    "noise": lambda c: noise(len(c)),
    "a word": lambda c: b"hello\n",
    "a web page": lambda c: b"<!DOCTYPE html><html><title>404 Not Found</title></html>\n",
    "its head zeroed": lambda c: overwritten(c, 0, 16, 0),
    "its end zeroed": lambda c: overwritten(c, 0.97, 64, 0),
    "its middle overwritten": lambda c: overwritten(c, 0.5, 64, 255),
    "a bit of each 7th byte": lambda c: with_bits_flipped(c, 7),
    "a bit of each 501st byte": lambda c: with_bits_flipped(c, 501),
    "UTF-16": lambda c: c.decode("latin-1").encode("utf-16"),
    "Latin-1 letters": lambda c: c.replace(b"1", b"\xe9"),
    "twice": lambda c: c + c,
    "backwards": lambda c: c[::-1],
    "compressed": lambda c: gzip.compress(c),
    "numbers to letters": numbers_to("x"),
    "numbers to nan": numbers_to("nan"),
    "numbers too large": lambda c: c.replace(b"1", b"1e999"),
    "numbers negative": lambda c: c.replace(b" ", b" -").replace(b",", b",-"),
    "other separators": lambda c: c.replace(b",", b";").replace(b" ", b"\t;"),
    "null characters": lambda c: c.replace(b"1", b"1\0"),
}


def photographs_folder(root):
    for i in range(3):
        write_image(root / f"{i}.jpg", i)
        write_pts(root / f"{i}.pts", landmarks(5, i))
    return root


def own_videos(root):
    for number, name in enumerate(("a", "b")):
        write_video(root / f"{name}.avi", [scene(10 * number + t) for t in range(7)])
    rows = [f"{name}.avi,{t},20,10,60,50,1" for name in ("a", "b") for t in range(7)]
    (root / "boxes.csv").write_text("\n".join(["video,frame,x1,y1,x2,y2,track", *rows]) + "\n")
    return root


assert shots  # imported before the stand-ins write the first video: it is what silences FFmpeg

MINE = ("photographs", "--name", "mine", "--points", "5", "--val", "0")
FOLLOW = ("video", "--name", "mine", "--boxes-file", "RELEASE/boxes.csv")
KINDS = {  # what is broken: the stand-in, the file in it, the builder and its options
    "boxes of 300-W (.mat)": (release_300w, "Bounding Boxes/bounding_boxes_ibug.mat", ("300w",)),
    "landmarks of 300-W (.pts)": (release_300w, "ibug/image_003_1.pts", ("300w",)),
    "image of 300-W (.jpg)": (release_300w, "ibug/image_003_1.jpg", ("300w",)),
    "image of 300-W (.png)": (release_300w, "lfpw/testset/image_0001.png", ("300w",)),
    "video of 300-VW (.avi)": (release_300vw, "001/vid.avi", ("300vw",)),
    "landmarks of 300-VW (.pts)": (release_300vw, "001/annot/000003.pts", ("300vw",)),
    "AFLWinfo_release.mat": (release_aflw, "AFLWinfo_release.mat", ("aflw",)),
    "table of YouTube Faces (.csv)": (release_youtube, "training_frames_keypoints.csv", ("youtube",)),
    "table of one's own (.csv)": (photographs_csv, "faces.csv", MINE),
    "COCO keypoints (.json)": (coco, "people.json", MINE),
    "landmarks of one's own (.pts)": (photographs_folder, "1.pts", MINE),
    "image of one's own (.jpg)": (photographs_folder, "1.jpg", MINE),
    "video of one's own (.avi)": (own_videos, "a.avi", FOLLOW),
    "boxes of one's own (.csv)": (own_videos, "boxes.csv", FOLLOW),
}


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(aflw, "TRAIN", 4)
    return prepare_in(tmp_path / "prepared", monkeypatch)


def check(status: int, error: str) -> None:
    """A clear line, if anything: what progress bars write ends in a carriage return."""
    assert status in (0, 2) and "Traceback" not in error
    lines = [line.rpartition("\r")[2] for line in error.splitlines()]
    reported = [line for line in lines if line.startswith("error: ")]
    assert bool(reported) == (status == 2), error
    # libraries name no file
    noise = ("error: ", "Corrupt JPEG data", "Premature end of JPEG", "Invalid JPEG", "Unsupported marker", "libpng ")
    assert all(line.startswith(noise) or not line.strip() or re.search(r"\[[\d:]+[<,]", line) for line in lines), error


def check_lists(folder) -> None:
    """Either nothing was written, or lists that are whole and as the manifest says."""
    if not (folder / "manifest.json").exists():
        assert not (folder / "lists").exists()
        return
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(path.name for path in (folder / "lists").iterdir()) == sorted(manifest["lists"])
    for name, entry in manifest["lists"].items():
        assert len(read_list(folder / "lists" / name)) == entry["rows"]
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_source_is_reported_in_a_line_or_left_out(tmp_path, prepared, capfd, kind):
    stand_in, name, (builder, *options) = KINDS[kind]
    stand_in(tmp_path / "whole")
    for boxes in (tmp_path / "whole").glob("Bounding Boxes/*.mat"):  # a process reads each: one is enough
        boxes.unlink() if "ibug" not in boxes.name else None
    whole = (tmp_path / "whole" / name).read_bytes()
    for number, (way, change) in enumerate(WAYS.items()):
        release = tmp_path / f"broken-{number}"
        shutil.copytree(tmp_path / "whole", release)
        (release / name).write_bytes(change(whole))
        source = release / name if builder == "photographs" and not name.endswith(".pts") else release
        shutil.rmtree(prepared, ignore_errors=True)
        status = main(["data", builder, str(source), *(option.replace("RELEASE", str(release)) for option in options)])
        check(status, capfd.readouterr().err)
        [folder] = list(prepared.glob("*")) or [prepared / "none"]
        check_lists(folder)
        assert way != "empty" or status == 2 or read_rejected(folder)
        shutil.rmtree(release)


@pytest.mark.parametrize("name", ["lists/train.txt", "images.csv", "manifest.json", "annotations/000000.pts"])
def test_a_broken_prepared_dataset_is_reported_in_a_line(tmp_path, prepared, capfd, name):
    """A run on it: lists are read, checked, and rejected as a whole."""
    for i in range(4):
        write_image(tmp_path / "whole" / f"{i}.png", i)
        append_row(tmp_path / "whole" / "faces.csv", f"{i}.png", landmarks(5, i))
    table = tmp_path / "whole" / "faces.csv"
    rows = table.read_text().splitlines()
    rows[0] = ",".join(["image", *(f"{axis}{i}" for i in range(5) for axis in "xy")])
    table.write_text("\n".join(rows) + "\n")
    assert main(["data", "photographs", str(table), "--name", "mine", "--points", "5", "--val", "0.25"]) == 0
    folder = prepared / "mine"
    for frame in (0, 1):
        write_image(folder / "clip" / f"{frame}.png", 50 + frame)
    (folder / "lists" / "clips.txt").write_text("".join(f"clip/{frame}.png None 5 5 50 50\n" for frame in (0, 1)))
    whole = (folder / name).read_bytes()
    for way, change in [("whole", lambda c: c), *WAYS.items()]:
        (folder / name).write_bytes(change(whole))
        run = tmp_path / "run"
        status = main(
            [
                "data",
                "--profile",
                "smoke",
                "--run",
                str(run),
                "--data",
                "mine",
                "--labelled",
                "train.txt",
                "--unlabelled",
                "clips.txt",
                "--evaluate",
                "val.txt",
                "--set",
                "data.scheme=5",
                "data.normaliser=box",
            ]
        )
        error = capfd.readouterr().err
        check(status, error)
        assert (run / "manifest.json").exists() == (status == 0), way
        assert way != "whole" or status == 0, error
        shutil.rmtree(run, ignore_errors=True)
