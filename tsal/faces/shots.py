"""A video's frames, read in order; the shots that they make, from one cut to the next; frames that repeat others."""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tsal.utils import DataError, counted, is_utf8, printable

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken videos are reported by errors and notes

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m2v", ".wmv", ".asf"),
    *(".flv", ".f4v", ".3gp", ".3g2", ".ts", ".mts", ".m2ts", ".vob", ".ogv", ".mxf", ".dv", ".rm", ".rmvb", ".y4m"),
)
LARGEST_FRAME = 2**27  # pixels: 0.4 GiB, as of images (:mod:`tsal`)
BROKEN_FRAMES = 100  # in a row, after which no whole one is looked for
THUMB = (32, 18)  # cells, for cuts
CUT_FLOOR, CUT_RATIO = 12.0, 4.0  # grey levels, and over the local level
CUT_NEAR, CUT_AROUND = 4, 8  # frames
STEP_SIDE = 128  # px: frames are compared at this size, where compression noise is small
# On 66 real clips the steps over that level have a valley at 0.15 to 0.2, between repeats and slow motion.
REPEAT_AROUND, REPEAT_LEVEL, REPEAT_SHARE = 8, 0.75, 0.2  # frames; quantile of their steps; share of it
# In those of these clips that were not converted, repeats lie at 6 and more, moments of slow motion at 2 to 5; but at 5
# a fifteenth of the repeats of converted clips would be missed besides.
REPEAT_GAP = 4.0  # the nearest other steps over a repeat's
REPEAT_SLOPE = 0.7  # mean of the nearest steps on both sides over that of the next ones; a reversal's are at 0.5 to 0.6


def read_frames(path: Path, notes: list[str] | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
    """Frames of a video in order: number from 0, time in ms as the file says, upright BGR (H, W, 3) uint8.

    Ends before a frame of another size, and before the first that cannot be decoded: pictures after that may be smeared
    up to the next key frame, and OpenCV does not say which.

    Args:
        notes: gets a line where these are not as many frames as the header says, or others follow.

    Raises:
        DataError: it is no video, or its first frame cannot be decoded.
    """
    reader = _open(path)
    try:
        if not reader.isOpened():
            raise DataError(f"{path}: cannot be read as a video; it is broken or no video")
        width, height = reader.get(cv2.CAP_PROP_FRAME_WIDTH), reader.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > LARGEST_FRAME:
            raise DataError(f"{path}: declares frames of {width:.0f} x {height:.0f} pixels; want at most 16384 x 8192")
        reader.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # a phone's rotation tag
        number, size = 0, None
        while True:
            there, image = reader.read()
            if not there or (size and image.shape[:2] != size):
                break
            size = image.shape[:2]
            upright = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            yield number, reader.get(cv2.CAP_PROP_POS_MSEC), upright
            number += 1
        note = _end_note(reader, Path(path).name, number, there)
        if not number:
            raise DataError(f"{path}: {note}")
        if note and notes is not None:
            notes.append(f"{Path(path).name}: {note}")
    finally:
        reader.release()


def _end_note(reader: cv2.VideoCapture, name: str, number: int, there: bool) -> str:
    """What to say of a reading that ends before frame ``number`` (``there``: is decoded); empty where all are read."""
    total = _header(reader)[0]
    used = f"{number} of {total} frames" if total > number else counted(number, "frame")
    if there or any(reader.grab() for _ in range(BROKEN_FRAMES)):
        fault = "has another size" if there else "cannot be decoded"
        mended = f"re-encode the video (ffmpeg -i {shlex.quote(name)} -c:v libx264 NEW.mp4)"
        return f"{used} can be used, as frame {number} (counted from 0) {fault}; {mended}"
    if not number:
        return "holds no frame that can be decoded"
    if total in (0, number):
        return ""
    lost = "; the file may be cut off where the last frames are missing" if total > number + 2 else ""
    return f"its header says {total} frames, {number} can be used{lost}"


def _open(path: Path) -> cv2.VideoCapture:
    name = str(Path(path).resolve())
    if not is_utf8(name):  # OpenCV would end the process
        raise DataError(f"{printable(name)}: the name is not UTF-8; rename the file or its folder")
    return cv2.VideoCapture(name, cv2.CAP_FFMPEG)


def read_header(path: Path) -> tuple[int, float]:
    """Number of frames and frames a second as the file's header says; both may be wrong, or 0."""
    reader = _open(path)
    try:
        return _header(reader)
    finally:
        reader.release()


def _header(reader: cv2.VideoCapture) -> tuple[int, float]:
    count, rate = reader.get(cv2.CAP_PROP_FRAME_COUNT), reader.get(cv2.CAP_PROP_FPS)
    return (int(count) if 0 < count < 1e9 else 0), (rate if 0 < rate < 1e4 else 0.0)


# --- cuts ---


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A small float32 BGR image to compare frames by."""
    return cv2.resize(image, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)


def unlikeness(first: np.ndarray, second: np.ndarray, reach: int = 2) -> float:
    """Mean absolute difference of two thumbnails in grey levels, the least over shifts up to ``reach`` cells: cameras
    move.
    """
    height, width = first.shape[:2]
    core = first[reach : height - reach, reach : width - reach]
    steps = range(2 * reach + 1)
    return min(
        float(np.abs(core - second[y : y + core.shape[0], x : x + core.shape[1]]).mean()) for y in steps for x in steps
    )


def mark_cuts(items: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple[Any, bool]]:
    """(item, thumbnail) of each frame -> (item, whether a shot begins with it), a few frames later.

    A shot begins where a frame is unlike the one before it by more than ``CUT_FLOOR`` grey levels and ``CUT_RATIO``
    times the median of the 8 steps before and after (fast motion raises that level), and no frame of the 4 before is
    like one of the 4 from it on (after a flash the scene comes back). A dissolve is no cut: faces are lost in it by
    flow.
    """
    window: deque = deque()  # (item, thumbnail, step)
    previous, place = None, 0  # place: of the next frame to give out, in the window

    def is_cut(at: int) -> bool:
        step = window[at][2]
        if step <= CUT_FLOOR:
            return False
        around = [
            window[i][2] for i in range(max(0, at - CUT_AROUND), min(len(window), at + CUT_AROUND + 1)) if i != at
        ]
        around = [other for other in around if other is not None]
        if around and step <= CUT_RATIO * np.median(around):
            return False
        before = [window[i][1] for i in range(max(0, at - CUT_NEAR), at)]
        after = [window[i][1] for i in range(at, min(len(window), at + CUT_NEAR))]
        return min(unlikeness(earlier, later) for earlier in before for later in after) > max(CUT_FLOOR, step / 2)

    for item, thumb in items:
        window.append((item, thumb, None if previous is None else unlikeness(previous, thumb)))
        previous = thumb
        if len(window) - place > CUT_AROUND:
            yield window[place][0], window[place][2] is not None and is_cut(place)
            place += 1
            if place > CUT_AROUND:
                window.popleft()
                place -= 1
    for at in range(place, len(window)):
        yield window[at][0], window[at][2] is not None and is_cut(at)


# --- repeats ---


def small_grey(image: np.ndarray) -> np.ndarray:
    """A grey uint8 image (128, 128) of a BGR one, to measure the step to the next frame by."""
    small = cv2.resize(image, (STEP_SIDE, STEP_SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)


def repeated_frames(steps: Sequence[float]) -> list[int]:
    """The frames that show what the one before them shows, as where 24 frames a second became 30.

    Args:
        steps: mean absolute difference from the frame before in grey levels, one a frame; the first one's is not used.

    A frame is a repeat if it equals the one before. So are successive frames whose steps are low, less than
    ``REPEAT_SHARE`` of the third quartile of the 8 steps before and after, if they are low all at once: what
    compression changes is small beside motion, but in a still scene every step is small, and a head that slows down or
    turns back has steps that fall and rise by degrees. So up to three in four frames may be repeats; some repeats are
    missed, as a false one would freeze a moving face.
    """
    steps = np.asarray(steps, float)
    low = [at for at in range(1, len(steps)) if steps[at] == 0 or steps[at] < REPEAT_SHARE * _level(steps, at)]
    repeats = []
    for run in np.split(low, np.flatnonzero(np.diff(low) > 1) + 1):
        all_at_once = len(run) and _is_low_at_once(steps, int(run[0]), int(run[-1]) + 1)
        repeats += [int(at) for at in run if all_at_once or steps[at] == 0]
    return repeats


def _level(steps: np.ndarray, at: int) -> float:
    around = np.concatenate([steps[max(1, at - REPEAT_AROUND) : at], steps[at + 1 : at + 1 + REPEAT_AROUND]])
    return float(np.quantile(around, REPEAT_LEVEL)) if len(around) else 0.0


def _is_low_at_once(steps: np.ndarray, start: int, end: int) -> bool:
    """Whether the steps from ``start`` to before ``end`` are far lower than those on both sides, which do not lead down
    to them.
    """
    sides = [side for side in (steps[max(1, start - 3) : start][::-1], steps[end : end + 3]) if len(side)]  # near first
    if not sides or min(side[0] for side in sides) < REPEAT_GAP * steps[start:end].max():
        return False
    whole = [side for side in sides if len(side) == 3]
    if not whole:
        return True
    nearest, second, third = np.mean(whole, 0)
    return not (nearest < REPEAT_SLOPE * second and second < third)


def cuts_and_repeats(images: Iterable[np.ndarray]) -> tuple[list[int], list[int]]:
    """Frames of a video that begin a shot, and frames that repeat the one before; colours in whatever order."""
    cuts, steps, last = [], [], None

    def thumbnails() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal last
        for number, image in enumerate(images):
            grey = small_grey(image)
            steps.append(0.0 if last is None else float(cv2.absdiff(last, grey).mean()))
            last = grey
            yield number, thumbnail(image)

    cuts = [number for number, cut in mark_cuts(thumbnails()) if cut]
    return cuts, repeated_frames(steps)
