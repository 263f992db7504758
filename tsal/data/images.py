"""Image files: reading them, and describing their content."""

from __future__ import annotations

import errno
import hashlib
import re
from pathlib import Path

import cv2
import numpy as np

from tsal.utils import DataError, read_bytes

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".avif", ".gif", ".jp2", ".pbm", ".pgm", ".pnm", ".ppm"),
)
CUT_OFF = "is cut off: its end is missing"
TURNED_AVIF = "is turned by an irot or imir box of AVIF, which cannot be read; convert it to PNG or JPEG"
# A mark of a JPEG; in coded pixels, ff is followed by 0 or is a restart mark (d0-d7)
JPEG_MARK = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
AVIF_TURN = re.compile(rb"\0\0\0\x09(irot[\x01-\x03]|imir)")
TIFF_ORDERS = {b"II*\0": "little", b"MM\0*": "big"}
TIFF_ORIENTATION = 274

# OpenCV's lines about broken files do not name the file; the functions below report them
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3).

    Raises:
        DataError: one line that names the file: it cannot be read or decoded, or what is wrong with it.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: the image {_why(error)}") from None
    image = decode_image(content)
    if image is None:
        raise DataError(f"{path}: the image {_fault(content) or 'cannot be read or decoded'}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_image(content: bytes) -> np.ndarray | None:
    """BGR uint8 (H, W, 3) of an image file's bytes; None where they are no image, one whose end is missing, one that
    OpenCV would not turn, or one of too many pixels (:mod:`tsal` sets the bound).
    """
    if not content or _fault(content):
        return None
    coded = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(coded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is None:  # OpenCV makes no colours of a grey TIFF of floats
            image = cv2.imdecode(coded, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # of a head that declares too many pixels, or what no memory holds
        return None
    if image is None:
        return None
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    return image if image.dtype == np.uint8 else _to_bytes(image)


def over_the_bound(content: bytes) -> str:
    """How to mend it, after a colon, where an image file's bytes have more pixels than OpenCV decodes; else nothing."""
    try:
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE_PIXELS" in str(error):
            return ": it has over 134 megapixels; shrink it, or set OPENCV_IO_MAX_IMAGE_PIXELS to more"
    return ""


def _to_bytes(image: np.ndarray) -> np.ndarray | None:
    """Intensities as uint8: of 16-bit files by the bits that are in use (cameras save 10, 12 or 14 of them), of float
    ones from 0 ... 1 or 0 ... 255; None for others.
    """
    largest = float(image.max())
    if image.dtype == np.uint16:
        full = 2.0 ** max(8, 2 * np.ceil(np.log2(largest + 1) / 2)) - 1
    elif image.dtype.kind == "f" and image.min() >= 0 and largest <= 255:  # false for NaN too
        full = 1.0 if largest <= 1 else 255.0
    else:
        return None
    return (image * np.float32(255 / full)).round().astype(np.uint8)


def _why(error: OSError, name: str | Path = "") -> str:
    if error.errno == errno.ENOENT and "\\" in str(name):
        return "does not exist; write / between folders, not \\"
    return "does not exist" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"


def look_at_image(path: Path, name: str) -> dict | str:
    """``sha256``, ``width``, ``height``, ``look`` (the perceptual hash) and ``mirrored`` (its mirror image's) of an
    image, or what is wrong with it.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        return f"the image {name} {_why(error, name)}"
    image = decode_image(content)
    if image is None:
        why = _fault(content) or f"cannot be decoded{over_the_bound(content)}"
        return f"the image {name} {why}"
    return describe_image(content, image)


def _fault(content: bytes) -> str:
    """Why an image file's bytes are not decoded, though OpenCV may do so; empty where they are."""
    if _is_cut_off(content):
        return CUT_OFF
    return TURNED_AVIF if content[4:8] == b"ftyp" and AVIF_TURN.search(content) else ""


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end mark: some versions of OpenCV fill the rest with grey and say nothing.

    What follows the end mark does not matter: phones put a video there. Most files end with it, which costs no search.
    """
    if content.startswith(b"\xff\xd8"):
        if content.endswith(b"\xff\xd9"):
            return False
        at = 2
        while mark := JPEG_MARK.search(content, at):
            at, code = mark.end(), mark[1]
            if code == b"\xd9":
                return False
            if code not in b"\x01\xd8":  # the others begin a part that says its length
                at += int.from_bytes(content[at : at + 2], "big")
        return True
    return content.startswith(b"\x89PNG") and b"IEND" not in content[-8:] and b"IEND" not in content


def is_turned(content: bytes) -> bool:
    """Whether the EXIF orientation (or TIFF's) turns or mirrors an image file's pixels: they are read so, as viewers
    show them, but other programs may read them as they are stored.
    """
    if order := TIFF_ORDERS.get(content[:4]):
        return _tiff_orientation(content, order) in range(2, 9)
    if b"exif" not in content.lower():  # most files: nothing is decoded
        return False
    coded, small = np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8
    return not np.array_equal(cv2.imdecode(coded, small), cv2.imdecode(coded, small | cv2.IMREAD_IGNORE_ORIENTATION))


def _tiff_orientation(content: bytes, order: str) -> int:
    """The orientation of a TIFF's first image, in which OpenCV turns it always; 0 where none is named."""
    start = int.from_bytes(content[4:8], order)
    count = int.from_bytes(content[start : start + 2], order)
    for at in range(start + 2, start + 2 + 12 * count, 12):  # entries: tag, type, count, value
        if int.from_bytes(content[at : at + 2], order) == TIFF_ORIENTATION:
            return int.from_bytes(content[at + 8 : at + 10], order)
    return 0


def describe_image(content: bytes, image: np.ndarray) -> dict:
    """The facts that :func:`look_at_image` returns, from a file's bytes and the decoded BGR image (H, W, 3)."""
    height, width = image.shape[:2]
    look, mirrored = perceptual_hashes(image)
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": width,
        "height": height,
        "look": look,
        "mirrored": mirrored,
    }


def perceptual_hashes(image: np.ndarray) -> tuple[int, int]:
    """63 bits of an image, and those of its mirror image: which of the 63 lowest frequencies of the grey image, at
    32 x 32, lie over their median (pHash).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8]
    waves = (low.ravel()[1:], (low * np.tile([1, -1], 4)).ravel()[1:])  # mirroring turns the odd ones across
    look, mirrored = (int("".join("01"[int(bit)] for bit in part > np.median(part)), 2) for part in waves)
    return look, mirrored
