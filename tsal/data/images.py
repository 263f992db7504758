"""Pictures as files: read, and described by what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from tsal.utils import DataError

# its warnings of broken files name none, and we tell of them ourselves
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        state = "cannot be read as a picture" if Path(path).exists() else "does not exist"
        raise DataError(f"{path}: the image {state}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def look_at_image(path: Path, name: str) -> dict | str:
    """``sha256``, ``width``, ``height`` and ``look`` (its perceptual hash) of a picture, or what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"the image {name} {'does not exist' if not path.exists() else f'cannot be read: {error.strerror}'}"
    if _is_cut_off(content):
        return f"the image {name} is cut off: its end is missing"
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is None:
        return f"the image {name} cannot be read as a picture"
    return describe_image(content, picture)


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end mark: OpenCV fills the rest with grey and says nothing."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")  # no end of image after the last start of scan
    return content.startswith(b"\x89PNG") and b"IEND" not in content


def describe_image(content: bytes, picture: np.ndarray) -> dict:
    """What :func:`look_at_image` says of a file's bytes and the BGR picture (H, W, 3) in them."""
    height, width = picture.shape[:2]
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": width,
        "height": height,
        "look": perceptual_hash(picture),
    }


def perceptual_hash(picture: np.ndarray) -> int:
    """63 bits: which of the 63 lowest frequencies of the grey picture, at 32 x 32, lie over their median (pHash)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()[1:]
    return int("".join("01"[int(bit)] for bit in low > np.median(low)), 2)
