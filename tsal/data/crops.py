"""Cut crops kept on disk: shared by runs and processes, named by what they were made from, bounded.

An entry is the crop's bytes and a checksum, uncompressed: reading one takes a sixteenth of decoding and cutting a
photograph of 0.2 megapixels, where lossless PNG and WebP take half. Whatever is wrong with an entry or with the disk, a
crop is only cut anew.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from tsal.utils import replacing

SUFFIX = ".crop"
# seconds: an entry used more often is not marked each time, which would write to the disk at every hit
TOUCH_AFTER = 60.0
KEPT = 7 / 8  # share of the bound that eviction leaves: one look at the folder makes room for many entries
LOOK_EVERY = 1 / 16  # of the bound, written by this process, until it looks at what others have written


class CropFolder:
    """Crops of uint8 in a folder of at most ``limit_mb`` MiB; those used longest ago go first.

    Processes that fill one folder at once may each exceed the bound by a sixteenth of it. On a disk that cannot be
    written to, it warns once and keeps nothing more.
    """

    def __init__(self, folder: Path, limit_mb: float):
        self.folder, self._limit = Path(folder), limit_mb * 2**20
        self._size: int | None = None  # bytes in the folder, as far as this process knows
        self._unseen = 0  # bytes written since it last looked
        self._writable = True
        self._lock = Lock()

    def read(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The crop kept under ``key``, or None; what is there but is no such crop is removed."""
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                used, content = os.fstat(file.fileno()).st_mtime, file.read()
        except OSError:
            return None
        pixels = memoryview(content)[:-4]
        if len(pixels) != np.prod(shape) or content[-4:] != _checksum(key, pixels):
            with suppress(OSError):
                path.unlink()
            return None
        if abs(time.time() - used) > TOUCH_AFTER:
            with suppress(OSError):
                os.utime(path)
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    def write(self, key: str, crop: np.ndarray) -> None:
        """Keep a crop, removing old ones where there is no room."""
        content = crop.tobytes()
        content += _checksum(key, content)
        with self._lock:
            if not self._writable or len(content) > self._limit:
                return
            try:
                self._make_room(len(content))
                with replacing(self._path(key)) as temporary:
                    temporary.write_bytes(content)
            except FileNotFoundError:
                return  # another process removed the temporary file
            except OSError as error:
                self._writable = False
                text = f"{self.folder}: cannot keep crops there ({error.strerror}); they are cut anew each time"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
                return
            self._size += len(content)
            self._unseen += len(content)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _make_room(self, length: int) -> None:
        if self._size is None or self._size + length > self._limit or self._unseen > self._limit * LOOK_EVERY:
            files = []  # temporary ones too: a killed process leaves some behind
            with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # removed by another process
                            facts = entry.stat(follow_symlinks=False)
                            files.append((facts.st_mtime_ns, facts.st_size, entry.path))
            self._size, self._unseen = sum(size for _, size, _ in files), 0
            if self._size + length > self._limit:
                for _, size, path in sorted(files):
                    if self._size + length <= self._limit * KEPT:
                        break
                    with suppress(FileNotFoundError):
                        os.unlink(path)
                    self._size -= size


def crop_key(image: bytes, *made_with: object) -> str:
    """Name of a crop: a hash of the image file's bytes and of everything that decides what is cut from it."""
    digest = hashlib.sha256(repr(made_with).encode() + b"\0")
    digest.update(image)
    return digest.hexdigest()


def _checksum(key: str, pixels: bytes | memoryview) -> bytes:
    """Four bytes, of the key too: an entry under another's name is not taken for it."""
    return zlib.crc32(pixels, zlib.crc32(key.encode())).to_bytes(4, "little")
