"""Image files: which are whole, and intensities of more than 8 bits."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tsal.data import decode_image, look_at_image, read_image
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
