"""Image files: reading them, and describing their content."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import cv2
import numpy as np

from tsal.utils import DataError, read_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# OpenCV's warnings about broken files do not name the file; the functions below report them
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    try:
        image = decode_image(read_bytes(path))
    except OSError as error:
        raise DataError(f"{path}: the image {_why(error)}") from None
    if image is None:
        raise DataError(f"{path}: the image cannot be read or decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_image(content: bytes) -> np.ndarray | None:
    """BGR uint8 (H, W, 3) of an image file's bytes; None where they are no image, or one of too many pixels
    (:mod:`tsal` sets the bound).
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:  # of a head that declares too many pixels, or what no memory holds
        return None


def _why(error: OSError) -> str:
    return "does not exist" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"


def look_at_image(path: Path, name: str) -> dict | str:
    """``sha256``, ``width``, ``height`` and ``look`` (its perceptual hash) of an image, or what is wrong with it."""
    try:
        content = read_bytes(path)
    except OSError as error:
        return f"the image {name} {_why(error)}"
    if _is_cut_off(content):
        return f"the image {name} is cut off: its end is missing"
    image = decode_image(content)
    if image is None:
        return f"the image {name} cannot be decoded"
    return describe_image(content, image)


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end mark: OpenCV fills the rest with grey and says nothing."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")  # no end of image after the last start of scan
    return content.startswith(b"\x89PNG") and b"IEND" not in content


def describe_image(content: bytes, image: np.ndarray) -> dict:
    """The facts that :func:`look_at_image` returns, from a file's bytes and the decoded BGR image (H, W, 3)."""
    height, width = image.shape[:2]
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": width,
        "height": height,
        "look": perceptual_hash(image),
    }


def perceptual_hash(image: np.ndarray) -> int:
    """63 bits: which of the 63 lowest frequencies of the grey image, at 32 x 32, lie over their median (pHash)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()[1:]
    return int("".join("01"[int(bit)] for bit in low > np.median(low)), 2)
