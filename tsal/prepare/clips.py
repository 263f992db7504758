"""The second reading of a video: each track's frames are cut to one window and written as
clips/<video>-s<shot>-f<face>/<number>.jpg, a folder at a time, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tsal.faces import Followed, Track, read_frames
from tsal.prepare.builder import DatasetBuilder
from tsal.utils import DataError, tqdm, write_text

LIST = "unlabelled.txt"
MARGIN = 0.75  # of the face's size, on each side of the union of a track's boxes
JPEG_QUALITY = 95
PARTS = r"-s\d+-f\d+(-p\d+)?"  # what follows a video's name in a clip's: shot, face, part of a long track


@dataclass(frozen=True)
class FaceClip:
    """A track, or a part of one, to be written. ``window``: first column and row, and the ones after the last.

    ``frames``: the video's numbers, from 0. ``images``: those of the files, which count the frames that are taken, so
    that neighbours differ by one: jitter is measured on such.
    """

    name: str
    track: Track
    window: tuple[int, int, int, int]
    frames: tuple[int, ...]
    images: tuple[int, ...]


def clips_of(
    name: str,
    followed: Followed,
    every: int = 1,
    fps: float | None = None,
    longest: int | None = None,
    largest: bool = False,
) -> list[FaceClip]:
    """The clips that the tracks of a video become; a track between two samples is none.

    Frames that repeat the one before are left out. ``longest``: a clip of more frames becomes several, of even length,
    each with a window of its own. ``largest``: of faces seen at once only the largest.
    """
    distinct = np.setdiff1d(np.arange(len(followed.times)), np.array(followed.repeats, int))
    if fps is None:
        sampled = np.arange(len(distinct)) % every == 0
    else:
        # a hair early still counts
        slots = np.floor((np.array(followed.times)[distinct] - followed.times[0]) * fps / 1000 + 1e-3)
        sampled = np.diff(slots, prepend=-1) > 0
    numbers, clips, faces = np.cumsum(sampled) - 1, [], {}
    for track in _largest(followed.tracks) if largest else followed.tracks:
        images = np.flatnonzero(sampled & (distinct >= track.first) & (distinct <= track.last))
        if not len(images):
            continue
        face = faces[track.shot] = faces.get(track.shot, -1) + 1
        whole = f"{name}-s{track.shot:03d}-f{face:02d}"
        parts = np.array_split(images, -(-len(images) // longest)) if longest else [images]
        for number, part in enumerate(parts):
            frames = distinct[part]
            boxes = track.boxes if len(parts) == 1 else track.boxes[frames - track.first]
            window = window_of(boxes, followed.width, followed.height)
            named = whole if len(parts) == 1 else f"{whole}-p{number:02d}"
            clips.append(FaceClip(named, track, window, tuple(frames.tolist()), tuple(numbers[part].tolist())))
    return clips


def _largest(tracks: Sequence[Track]) -> list[Track]:
    """The tracks without those that for half of their frames or more are seen beside a larger face."""

    def sizes(track: Track, first: int, last: int) -> np.ndarray:
        boxes = np.asarray(track.boxes)[first - track.first : last + 1 - track.first]
        return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)

    def beside_larger(track: Track, other: Track) -> bool:
        first, last = max(track.first, other.first), min(track.last, other.last)
        both = 2 * (last - first + 1) >= len(track.boxes)
        return both and np.median(sizes(track, first, last)) < np.median(sizes(other, first, last))

    return [track for track in tracks if not any(beside_larger(track, other) for other in tracks if other is not track)]


def window_of(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The one window of a track: the union of boxes (n, 4), generously larger, in the image; without its last column
    and row.
    """
    boxes = np.asarray(boxes)
    margin = MARGIN * float(np.median(np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))))
    x1, y1 = np.maximum(np.floor(boxes[:, :2].min(0) - margin), 0)
    x2, y2 = np.minimum(np.ceil(boxes[:, 2:].max(0) + margin) + 1, [width, height])
    return int(x1), int(y1), int(x2), int(y2)


def write_clips(builder: DatasetBuilder, video: Path, name: str, clips: Sequence[FaceClip], progress: bool) -> None:
    """Write the clips that are missing; those of other options or another video are removed first."""
    root, record = builder.folder / "clips", builder.folder / "work" / f"{name}.clips.json"
    state = video.stat()
    windows = [[clip.name, clip.window, clip.frames, clip.images] for clip in clips]
    key = hashlib.sha256(
        json.dumps([str(video), state.st_size, state.st_mtime_ns, JPEG_QUALITY, windows]).encode()
    ).hexdigest()
    if not record.exists() or record.read_text() != key:
        former = [path for path in root.glob(f"{name}-s*") if re.fullmatch(re.escape(name) + PARTS, path.name)]
        if former:  # a list must not name images that are gone
            (builder.folder / "lists" / LIST).unlink(missing_ok=True)
        for path in former:
            shutil.rmtree(path)
        write_text(record, key)
    missing = [clip for clip in clips if len(list((root / clip.name).glob("*.jpg"))) != len(clip.frames)]
    if not missing:
        return
    end = max(clip.frames[-1] for clip in missing)
    temporary = {clip.name: root / f".{clip.name}.{os.getpid()}.tmp" for clip in missing}
    takers: dict[int, list[FaceClip]] = {}
    for clip in missing:
        takers.setdefault(clip.frames[0], []).append(clip)
    running: list[tuple[FaceClip, dict[int, int]]] = []
    reached = -1
    try:
        label = f"{video.name}: cutting"
        bar = tqdm(read_frames(video), total=end + 1, desc=label, unit="frame", disable=not progress, mininterval=1)
        with bar:
            for reached, _, image in bar:
                for clip in takers.get(reached, ()):
                    temporary[clip.name].mkdir(parents=True)
                    running.append((clip, dict(zip(clip.frames, clip.images))))
                for clip, numbers in running:
                    if reached in numbers:
                        _write_frame(temporary[clip.name] / f"{numbers[reached]:06d}.jpg", image, clip.window)
                for clip, _ in running:
                    if clip.frames[-1] == reached:
                        shutil.rmtree(root / clip.name, ignore_errors=True)
                        os.replace(temporary[clip.name], root / clip.name)
                running = [item for item in running if item[0].frames[-1] > reached]
                if reached == end:
                    break
    finally:
        for path in temporary.values():
            shutil.rmtree(path, ignore_errors=True)
    if reached < end:
        raise DataError(
            f"{video}: the second reading ended at frame {reached}, not {end}: has the file changed? try again"
        )


def _write_frame(path: Path, image: np.ndarray, window: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = window
    path.write_bytes(cv2.imencode(".jpg", image[y1:y2, x1:x2], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
