"""Image files: which are whole, and intensities of more than 8 bits."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tsal.data import decode_image, is_turned, look_at_image, read_image
from tsal.utils import DataError


def picture(side=32):
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("progressive", [0, 1])
def test_what_stands_behind_the_end_of_a_jpeg_does_not_matter(tmp_path, progressive):
    coded = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    video = b"\0\0\0\x18ftypmp42" + b"\xff\xda" + bytes(50)  # by chance a start of scan
    for end in (video, b"\0"):
        (tmp_path / "motion.jpg").write_bytes(coded[:-2] + b"\xff\xff\xd9" + end)  # a mark may have several ff
        assert look_at_image(tmp_path / "motion.jpg", "motion.jpg")["width"] == 32
        assert np.array_equal(decode_image((tmp_path / "motion.jpg").read_bytes()), decode_image(coded))
    for length in (len(coded) // 2, len(coded) - 2):
        (tmp_path / "cut.jpg").write_bytes(coded[:length])
        assert "cut off" in look_at_image(tmp_path / "cut.jpg", "cut.jpg")


@pytest.mark.parametrize("suffix, end", [(".jpg", 2), (".png", 12)])
def test_an_image_without_its_end_is_read_by_no_version_of_opencv(tmp_path, monkeypatch, suffix, end):
    coded = cv2.imencode(suffix, picture())[1].tobytes()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.full((32, 32, 3), 128, np.uint8))  # 4.10 fills up with grey
    assert decode_image(coded) is not None
    for length in (len(coded) // 2, len(coded) - end):
        (tmp_path / "cut").write_bytes(coded[:length])
        assert decode_image(coded[:length]) is None
        with pytest.raises(DataError, match="cut: the image is cut off: its end is missing$"):
            read_image(tmp_path / "cut")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_an_image_of_16_bits_is_read_by_the_bits_in_use(tmp_path, suffix, bits):
    grey = np.linspace(0, 1, 64).reshape(8, 8)
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), np.round(grey * (2**bits - 1)).astype(np.uint16))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(float) - 255 * grey[..., None]).max() <= 1


def test_an_image_of_8_bits_is_left_as_it_is():
    dark = picture() // 8
    assert (decode_image(cv2.imencode(".png", dark)[1].tobytes()) == dark).all()


@pytest.mark.parametrize("full", [1, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_float_image_is_read_by_its_range_and_not_a_number_is_refused(full, channels, capfd):
    grey = np.repeat(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1), channels, 2)
    image = decode_image(cv2.imencode(".tiff", grey * full)[1].tobytes())
    assert image.dtype == np.uint8 and image.shape == (8, 8, 3) and np.abs(image - 255 * grey).max() <= 1
    assert not capfd.readouterr().err  # OpenCV's own lines
    grey[3, 3] = np.nan
    assert decode_image(cv2.imencode(".tiff", grey)[1].tobytes()) is None


def test_back_slashes_of_a_list_are_named(tmp_path):
    assert "write /" in look_at_image(tmp_path / "afw\\a.jpg", "afw\\a.jpg")


@pytest.mark.parametrize("turn, refused", [(b"irot\1", True), (b"imir\0", True), (b"irot\0", False)])
def test_an_avif_that_opencv_would_not_turn_is_refused(tmp_path, turn, refused):
    coded = cv2.imencode(".avif", picture())[1].tobytes()
    colours = coded.index(b"\0\0\0\x13colr")  # the fourth property becomes the turn, and a box of nothing
    content = coded[:colours] + b"\0\0\0\x09" + turn + b"\0\0\0\x0afree\0\0" + coded[colours + 19 :]
    content = content.replace(b"\1\2\x83\4", b"\1\2\x83\x84")
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(content, np.uint8), 1), cv2.imdecode(np.frombuffer(coded, np.uint8), 1)
    )
    (tmp_path / "a.avif").write_bytes(content)
    if not refused:
        assert read_image(tmp_path / "a.avif").shape == (32, 32, 3)
        return
    said = "the image a.avif is turned by an irot or imir box of AVIF, which cannot be read; convert it to PNG or JPEG"
    assert look_at_image(tmp_path / "a.avif", "a.avif") == said
    with pytest.raises(DataError, match="a.avif: the image is turned by an irot or imir box"):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize("order, head", [("little", b"II*\0"), ("big", b"MM\0*")])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_a_turned_tiff_is_told(order, head, orientation):
    """Hand-made, 60 x 40, its upper left corner white."""
    image = np.zeros((40, 60), np.uint8)
    image[:8, :8] = 255
    tags = {256: 60, 257: 40, 258: 8, 259: 1, 262: 1, 273: 150, 274: orientation, 277: 1, 278: 40, 279: 2400}
    tags = {tag: value for tag, value in tags.items() if value}
    content = head + (8).to_bytes(4, order) + len(tags).to_bytes(2, order)
    for tag, value in tags.items():  # tag, type short, count, value
        content += b"".join(n.to_bytes(size, order) for n, size in ((tag, 2), (3, 2), (1, 4), (value, 2))) + b"\0\0"
    content = content.ljust(150, b"\0") + image.tobytes()
    corner = {None: (0, 0), 1: (0, 0), 3: (-1, -1), 6: (0, -1)}[orientation]
    assert decode_image(content)[corner].tolist() == [255] * 3  # OpenCV turns it
    assert is_turned(content) == (corner != (0, 0))
