"""Small videos that several tests write."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 160, 120


def write_video(path: Path, frames, fps: float = 25, codec: str = "MJPG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    return path


def scene(seed: int, count: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """A still BGR image of smooth noise; a blue column moves by 2 px a frame: each frame shows its number."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    still = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 30, 220, cv2.NORM_MINMAX).astype(np.uint8)
    frames = [still.copy() for _ in range(count)]
    for number, frame in enumerate(frames):
        frame[:, 4 * number : 4 * number + 4] = (255, 0, 0)
    return frames


def drop_frames(path: Path, dropped) -> None:
    """Empty the chunks of these frames, counted from 0, of an .avi: the others keep their times."""
    content = path.read_bytes()
    at, end = content.index(b"movi") + 4, content.index(b"idx1")
    chunks, index, number = b"", b"", 0
    while at < end:
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"00dc":
            data = b"" if number in dropped else content[at + 8 : at + 8 + size]
            length = len(data).to_bytes(4, "little")
            index += b"00dc" + (16).to_bytes(4, "little") + (len(chunks) + 4).to_bytes(4, "little") + length
            chunks += b"00dc" + length + data + bytes(len(data) % 2)
            number += 1
        at += 8 + size + size % 2
    head = content[: content.index(b"movi") - 4]
    movi = (len(chunks) + 4).to_bytes(4, "little") + b"movi" + chunks
    path.write_bytes(head + movi + b"idx1" + len(index).to_bytes(4, "little") + index)


def rotate_tag(path: Path, degrees: int) -> None:
    """Set the matrix of the track header (tkhd) of an .mp4, as phones do: the image is to be turned clockwise."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4
    matrix = place + (40 if content[place] == 0 else 52)
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    values = [cosine, sine, 0, -sine, cosine, 0, 0, 0]
    fixed = [value << 16 for value in values] + [1 << 30]  # 16.16, the last 2.30
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    path.write_bytes(content)
