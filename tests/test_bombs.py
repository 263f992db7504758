"""Small files that ask for much, and paths that lead elsewhere: refused in a line, before time or memory is spent."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import bounded
from releases import landmarks, scene, write_image, write_pts
from toys import small_model
from videos import write_video

from tsal.config import Config
from tsal.data.images import look_at_image, read_image
from tsal.data.lists import Face, find_problems, group_clips, load_lists, read_list
from tsal.data.points import read_points
from tsal.faces import shots
from tsal.faces.detect import find_boxes
from tsal.inference.inputs import read_photograph
from tsal.model_files import load_model
from tsal.prepare.matlab import read_mat
from tsal.schemes import get_scheme
from tsal.utils import files
from tsal.utils.checkpoints import load_checkpoint, save_checkpoint
from tsal.utils.errors import ConfigError, DataError, InputError
from tsal.utils.files import read_arrays, write_arrays


@pytest.fixture(autouse=True)
def watched():
    with bounded(30, 2**28):
        yield


def png_head(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


# --- sizes that are declared ---


def test_the_package_bounds_the_pixels_that_opencv_decodes():
    """In a process of its own: OpenCV takes the bound when it is imported."""
    code = "import numpy as np; from tsal.data import decode_image; import cv2; "
    code += "big = cv2.imencode('.png', np.zeros((12000, 12000), np.uint8))[1].tobytes(); assert len(big) < 2**20; "
    code += "assert decode_image(big) is None; small = cv2.imencode('.png', np.ones((9, 8)))[1].tobytes(); "
    code += "print(decode_image(small).shape)"
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_IO_MAX_IMAGE_PIXELS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "(9, 8, 3)\n", done.stderr


@pytest.mark.parametrize("side", [20_000, 60_000, 2**30])
def test_a_png_that_declares_hundreds_of_megapixels(tmp_path, side):
    (tmp_path / "0.png").write_bytes(png_head(side, side))
    with pytest.raises(DataError, match="the image cannot be read or decoded"):
        read_image(tmp_path / "0.png")
    assert look_at_image(tmp_path / "0.png", "0.png").startswith("the image 0.png cannot be decoded")


def test_an_image_of_too_many_pixels_is_told_the_bound(tmp_path):
    (tmp_path / "0.png").write_bytes(png_head(60_000, 60_000))
    with pytest.raises(DataError, match="cannot be read or decoded: it has over 134 megapixels; shrink it"):
        read_photograph(tmp_path / "0.png")
    said = look_at_image(tmp_path / "0.png", "0.png")
    assert said.startswith("the image 0.png cannot be decoded: it has over 134 megapixels; shrink it, or set OPENCV_IO")


def test_strips_of_images_are_searched_for_faces_in_bounded_memory():
    """OpenCV's cascades ask for as many pixels as the widest image times the highest; without them, ever after."""
    with bounded(30, 2**29):
        for shape in ((40, 65_000), (65_000, 40), (299, 449_000)):
            assert len(find_boxes(np.zeros(shape, np.uint8))) == 0


def test_an_array_that_declares_a_terabyte(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (2**37,)})
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        archive.writestr("points.npy", head.getvalue() + bytes(64))
    with pytest.raises(InputError, match="not readable arrays"):
        read_arrays(tmp_path / "p.npz")


def test_an_archive_that_unpacks_to_a_hundred_times_its_size(tmp_path, monkeypatch):
    write_arrays(tmp_path / "p.npz", points=np.zeros(10**6))
    assert read_arrays(tmp_path / "p.npz")["points"].shape == (10**6,)  # small ones may: zeros are common
    monkeypatch.setattr(files, "BOMB_FLOOR", 10**6)
    for read in (read_arrays, load_checkpoint):
        with pytest.raises(InputError, match="bytes that unpack to 8000"):
            read(tmp_path / "p.npz")


def test_an_archive_whose_member_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        archive.writestr("points.npy", b"text")
    with pytest.raises(InputError, match=r"points.* is none"):
        read_arrays(tmp_path / "p.npz")


def test_a_matlab_file_that_unpacks_to_more_than_a_gibibyte(tmp_path):
    size, packer = 5 * 2**28, zlib.compressobj(1)
    head = struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<4I", 5, 8, 1, size) + struct.pack("<HH4s", 1, 1, b"a")
    head += struct.pack("<II", 2, size)
    data = packer.compress(struct.pack("<II", 14, len(head) + size) + head)
    data += b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()
    file = b"MATLAB 5.0".ljust(124) + struct.pack("<HH", 0x100, 0x4D49) + struct.pack("<II", 15, len(data)) + data
    (tmp_path / "a.mat").write_bytes(file)
    with pytest.raises(DataError, match="MemoryError"):
        read_mat(tmp_path / "a.mat", "a")


def test_a_matlab_file_that_ends_its_reader(tmp_path, monkeypatch):
    """As SciPy's does at some that are broken."""
    reader = tmp_path / "reader.py"
    reader.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "a.mat").touch()
    monkeypatch.setattr("tsal.prepare.matlab.READER", reader)
    with pytest.raises(
        DataError, match=r"a.mat: cannot be read as a MATLAB file \(reader ended: -11\); fetch it again"
    ):
        read_mat(tmp_path / "a.mat", "a")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["config"]["model"].update(width=1e5),
        lambda content: content["config"]["model"].update(input=2**20),
        lambda content: content["config"]["model"].update(input=-8),
        lambda content: content["fingerprint"]["scheme"].update(points=9000, flip=[]),
        lambda content: content.update(fingerprint=[]),
        lambda content: content.update(models={}),
        lambda content: content["models"].update(teacher=3),
        lambda content: content["models"]["teacher"].popitem(),
        lambda content: content["models"]["teacher"].update(other=torch.zeros(1)),
    ],
)
def test_a_detector_that_does_not_fit_its_config(tmp_path, change):
    path = small_model(tmp_path)
    content = load_checkpoint(path)
    change(content)
    save_checkpoint(path, content)
    try:
        detector, *_ = load_model(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:  # an input of another side has the same weights
        assert content["config"]["model"]["input"] == 2**20 and detector.config.input == 2**20


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "seed: *a11\n",
        "data: &a {data: *a}\n",
        "seed: 2020-13-45\n",
        f"seed: {'9' * 5000}\n",
        "supervised: {lr: 1" + "0" * 400 + "}\n",
        "[" * 600,
        "seed: 3\n" + "#" * 2**20,
        "? [a]\n: 1\n",
        "seed: \0\n",
    ],
)
def test_yaml_that_grows_or_breaks_its_reader(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for load in (lambda: Config.resolve(str(path)), lambda: Config.load(path), lambda: get_scheme(str(path))):
        with pytest.raises(ConfigError) as caught:
            load()
        assert path.stem in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["10001", "9" * 30, "9" * 5000])
def test_a_scheme_of_too_many_landmarks(tmp_path, name):
    with pytest.raises(ConfigError, match="any whole number to 10000"):
        get_scheme(name)
    (tmp_path / "mine.yaml").write_text(f"points: {name}\n")
    with pytest.raises(ConfigError, match=r"at most 10000|not valid YAML"):
        get_scheme(str(tmp_path / "mine.yaml"))


def test_a_video_that_declares_huge_frames(tmp_path, monkeypatch):
    write_video(tmp_path / "a.avi", [scene(t) for t in range(2)])  # 96 x 64
    monkeypatch.setattr(shots, "LARGEST_FRAME", 96 * 64 - 1)
    with pytest.raises(DataError, match="declares frames of 96 x 64 pixels"):
        list(shots.read_frames(tmp_path / "a.avi"))
    monkeypatch.setattr(shots, "LARGEST_FRAME", 96 * 64)
    assert len(list(shots.read_frames(tmp_path / "a.avi"))) == 2


# --- paths of a list ---


@pytest.fixture
def root(tmp_path) -> Path:
    """Three images with landmarks below a root, and one beside it."""
    for number in range(4):
        folder = tmp_path / "root" if number < 3 else tmp_path
        write_image(folder / f"{number}.png", number)
        write_pts(folder / f"{number}.pts", landmarks(5, number))
    (tmp_path / "root" / "a").mkdir()
    (tmp_path / "root" / "val.txt").write_text("2.png 2.pts 10 10 50 50\n")
    return tmp_path / "root"


def problems_of(root: Path, row: str) -> list[str]:
    (root / "train.txt").write_text(f"0.png 0.pts 10 10 50 50\n{row} 10 10 50 50\n")
    try:
        lists = load_lists(root, ["train.txt"], [], ["val.txt"])
    except DataError as error:
        return error.problems
    return DataError(find_problems(lists, 5)[1]).problems


@pytest.mark.parametrize("row", ["../3.png None", "1.png ../3.pts", "a/../../3.png None", "{root}/../3.png None"])
def test_a_row_that_leads_out_of_its_root_is_one_line(root, row):
    [line] = problems_of(root, row.format(root=root))
    assert line.startswith("train.txt:2: ") and f"leads out of the root {root}; move the file" in line
    assert ".." in line


def test_a_row_that_stays_below_its_root_is_taken(root):
    assert problems_of(root, "a/../1.png 1.pts") == [] and problems_of(root, f"{root}/1.png {root}/1.pts") == []


def test_links_below_the_root_lead_where_its_owner_wants(root):
    (root / "link.png").symlink_to(root.parent / "3.png")
    assert problems_of(root, "link.png None") == []
    (root / "circle").symlink_to(root / "circle")
    [line] = problems_of(root, "circle/1.png 1.pts")
    assert line == "train.txt:2: the image circle/1.png cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(root, kind, column):
    """A pipe never ends where nobody writes, and /dev/zero never does."""
    place = root / "odd"
    {"pipe": lambda: os.mkfifo(place), "device": lambda: place.symlink_to("/dev/zero"), "folder": place.mkdir}[kind]()
    names = ["1.png", "1.pts"]
    names[column] = "odd"
    (root / "train.txt").write_text(f"{' '.join(names)} 10 10 50 50\n")
    if column:
        with pytest.raises(DataError, match=r"odd: cannot read the annotation: (is no file|Is a directory)"):
            read_points(root / "odd", 5)
    else:
        assert look_at_image(root / "odd", "odd").startswith("the image odd cannot be read: ")
        with pytest.raises(DataError, match=r"odd: the image cannot be read: (is no file|Is a directory)"):
            read_image(root / "odd")


@pytest.mark.parametrize("name", ["9" * 5000, "x" * 300 + ".png", "a/" * 3000 + "0.png"])
def test_a_name_that_no_file_can_have(root, name):
    [line] = problems_of(root, f"{name} 1.pts")
    assert line.startswith("train.txt:2: the image ") and len(line) <= 1100 and "File name too long" in line
    (root / "list.txt").write_text(f"{name} None 10 10 50 50\n" * 2)
    assert [len(clip.faces) for clip in group_clips(read_list(root / "list.txt"))] == [1, 1]


def test_names_of_digits_are_frames_as_before():
    faces = [Face(f"a/{number:0200d}.png", None, (0, 0, 1, 1), None, "list", number) for number in (1, 2)]
    assert [len(clip.faces) for clip in group_clips(faces)] == [2]


# --- what is said ---


def test_an_error_is_a_line_that_a_terminal_can_show():
    assert str(InputError("a\x1b[2J\tb\rc")) == r"a\x1b[2J\tb\rc"
    error = DataError(["x" * 10**6, "é 漢 ok"])
    assert [len(line) for line in error.problems] == [905, 6] and error.problems[0].startswith("x" * 700 + " ... x")
    assert str(error).splitlines() == error.problems
