"""The landmarks of a video as a CSV, and that CSV drawn on the video.

The CSV has a row for each frame, face and model: ``frame`` (from 0), ``time_ms``, ``face`` (from 0; a face that was
lost, or comes again after a cut, is a new one), ``model``, ``left top right bottom`` (the box in which the landmarks
were detected), ``score`` (mean of the landmarks'), then ``x0 y0 x1 y1 ...`` and ``score0 score1 ...`` of the scheme's
landmarks. Pixels are those of the upright video, 0-based; scores are the heatmaps', in [0, 1]. Rows are sorted by
frame, face and model.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from tsal.faces import Followed, read_frames
from tsal.figures import MODELS
from tsal.schemes import Scheme
from tsal.utils import MARK, DataError, replacing, tqdm

COLUMNS = ("frame", "time_ms", "face", "model", "left", "top", "right", "bottom", "score")
LOW = 0.75  # of a model's median score in the video or image: a landmark with less is drawn hollow
SHIFT = 4  # bits of OpenCV's sub-pixel coordinates
LONGEST_JPEG = 65500  # px a side
LONGEST_VIDEO = 8190  # px a side of MPEG-4 part 2, even


# --- the CSV ---


def write_csv(path: Path, followed: Followed, models: Sequence[str], shown: Sequence[np.ndarray]) -> None:
    """Landmarks of :func:`tsal.inference.track.detect`, as the module's docstring says; px to 2 digits, scores to 3."""
    landmarks = shown[0].shape[2]
    starts: dict[int, list[int]] = {}
    for number, track in enumerate(followed.tracks):
        starts.setdefault(track.first, []).append(number)
    axes = [f"{axis}{k}" for k in range(landmarks) for axis in "xy"]
    running: list[int] = []
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *axes, *(f"score{k}" for k in range(landmarks))])
        for frame, moment in enumerate(followed.times):
            running = sorted([n for n in running if followed.tracks[n].last >= frame] + starts.get(frame, []))
            for number in running:
                track, at = followed.tracks[number], frame - followed.tracks[number].first
                for m, name in enumerate(models):
                    row = shown[number][m, at]
                    places = [f"{value:.2f}" for value in (*track.boxes[at], *row[:, :2].ravel())]
                    scores = [f"{value:.3f}" for value in (row[:, 2].mean(), *row[:, 2])]
                    writer.writerow(
                        [frame, f"{moment:.3f}", number, name, *places[:4], scores[0], *places[4:], *scores[1:]]
                    )


def is_ours(path: Path) -> bool:
    """Whether a file begins as :func:`write_csv` begins it."""
    start = ",".join((*COLUMNS, "x0", "y0")).encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


def read_csv(path: Path) -> Iterator[tuple[int, list[dict]]]:
    """Frames with faces in order: number; ``face``, ``model``, ``box`` (4,), ``points`` (K, 2) and ``scores`` (K,) of
    each row.
    """
    with Path(path).open(newline="") as file:
        reader = csv.reader(file)
        fixed = len(COLUMNS)
        landmarks = (len(next(reader)) - fixed) // 3
        for frame, rows in itertools.groupby(reader, key=lambda row: int(row[0])):
            yield (
                frame,
                [
                    {
                        "face": int(row[2]),
                        "model": row[3],
                        "box": np.array(row[4:8], float),
                        "points": np.array(row[fixed : fixed + 2 * landmarks], float).reshape(-1, 2),
                        "scores": np.array(row[fixed + 2 * landmarks :], float),
                    }
                    for row in rows
                ],
            )


# --- drawing ---


def write_picture(path: Path, image: np.ndarray) -> None:
    """A BGR image as JPEG, with the mark as its comment; whole or not at all.

    Raises:
        DataError: the image is longer than ``LONGEST_JPEG``.
    """
    if why := too_long(image):
        raise DataError(f"{path}: {why}")
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    content = encoded.tobytes()
    head = 4 + int.from_bytes(content[4:6])  # the start and JFIF's own segment, which must follow it
    comment = b"\xff\xfe" + (2 + len(MARK)).to_bytes(2) + MARK
    with replacing(path) as temporary:
        temporary.write_bytes(content[:head] + comment + content[head:])


def too_long(image: np.ndarray) -> str:
    """Why an image cannot be drawn; nothing where it can."""
    height, width = image.shape[:2]
    longest = f"{width} x {height} pixels, and the JPEG of a drawing holds at most {LONGEST_JPEG} a side"
    return longest if max(height, width) > LONGEST_JPEG else ""


def video_zoom(width: int, height: int) -> float:
    """Size of the drawn video over that of the frames, or of frames side by side: 1 where MPEG-4 holds them."""
    return min(1.0, LONGEST_VIDEO / max(width, height))


def draw_csv(
    video: Path,
    csv_path: Path,
    out: Path,
    scheme: Scheme,
    low: dict[str, float],
    frames: int,
    fps: float,
    *,
    progress: bool = True,
) -> None:
    """The video with what the CSV says on it: a panel for each model of ``low``, side by side, named where there are
    several.

    Encoded as MPEG-4 part 2 (mp4v), without sound; what is longer than that holds is shrunk (:func:`video_zoom`), and
    an odd width or height, which it cannot hold, gains a copy of the last column or row.
    """
    faces = read_csv(csv_path)
    ahead = next(faces, None)
    place = str(out.resolve())  # to FFmpeg, a name alone that holds a colon begins with a protocol
    fps = round(fps, 3 if fps < 65 else 2 if fps < 655 else 1)  # MPEG-4 has at most 65535 ticks a second
    writer, frames_written = None, 0
    label = f"{video.name}: drawing"
    try:
        bar = tqdm(read_frames(video), total=frames, desc=label, unit="frame", disable=not progress, mininterval=1)
        for number, _, image in bar:
            rows: list[dict] = []
            if ahead and ahead[0] == number:
                rows, ahead = ahead[1], next(faces, None)
            panels = []
            for name, threshold in low.items():
                panel = image.copy()
                for row in rows:
                    if row["model"] == name:
                        draw_face(panel, row, scheme, threshold)
                if len(low) > 1:
                    _write_text(panel, name, (0.02 * panel.shape[1], 0.07 * panel.shape[0]), panel.shape[0] / 500)
                panels.append(panel)
            whole = np.hstack(panels)
            if (zoom := video_zoom(*whole.shape[:2])) < 1:
                whole = cv2.resize(whole, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            height, width = whole.shape[:2]
            whole = cv2.copyMakeBorder(whole, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            if writer is None:
                writer = cv2.VideoWriter(
                    place, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), fps, whole.shape[1::-1]
                )
                if not writer.isOpened():
                    size = f"{whole.shape[1]} x {whole.shape[0]}, {fps:g} frames/s"
                    raise DataError(f"{out.parent}: OpenCV cannot write an .mp4 there ({size})")
            writer.write(whole)
            frames_written += 1
    finally:
        if writer is not None:
            writer.release()
    if frames_written != frames:
        raise DataError(
            f"{video}: the last reading had {frames_written} frames, not {frames}: has the file changed? try again"
        )
    reader = cv2.VideoCapture(place, cv2.CAP_FFMPEG)
    count = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    reader.release()
    if count != frames:  # OpenCV's writer does not report a full disk
        raise DataError(f"{out.parent}: {count} of {frames} frames could be written; is the disk full?")
    mark_video(out)


def mark_video(path: Path) -> None:
    """Add the mark to an .mp4: a box of this kind is skipped by players."""
    with path.open("ab") as file:
        file.write((8 + len(MARK)).to_bytes(4) + b"free" + MARK)


def draw_face(image: np.ndarray, row: dict, scheme: Scheme, low: float) -> None:
    """Draw a row of :func:`read_csv` on a BGR image: box, lines and dots; a dot whose score is under ``low`` is
    hollow.
    """
    box, points, colour = row["box"], row["points"], _colour(row["model"])
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    radius = float(np.clip(0.011 * size, 1.1, 6))
    thin = max(1, round(size / 300))
    cv2.rectangle(image, _place(box[:2]), _place(box[2:]), (255, 255, 255), 1, cv2.LINE_AA, SHIFT)
    for _, indices, closed in scheme.lines:
        line = np.array([_place(points[i]) for i in indices], np.int32)
        cv2.polylines(image, [line], closed, colour, thin, cv2.LINE_AA, SHIFT)
    for point, score in zip(points, row["scores"]):
        place, sure = _place(point), score >= low
        outer, inner = round((radius + 0.7) * 2**SHIFT), round(radius * 2**SHIFT)
        cv2.circle(image, place, outer, (0, 0, 0), -1, cv2.LINE_AA, SHIFT)
        cv2.circle(image, place, inner, (255, 255, 255) if sure else colour, -1 if sure else 1, cv2.LINE_AA, SHIFT)
    _write_text(image, str(row["face"]), (box[0], box[1] - 3), size / 400)


def _place(point: Sequence[float]) -> tuple[int, int]:
    """Fixed-point coordinates; far outside the image they are clipped, or they would overflow."""
    x, y = np.clip(np.round(np.asarray(point, float) * 2**SHIFT), -(2**20), 2**20).astype(int)
    return int(x), int(y)


def _colour(model: str) -> tuple[int, int, int]:
    """BGR, the model's colour in the figures."""
    red, green, blue = bytes.fromhex(MODELS.get(model, MODELS["supervised"])[1:])
    return blue, green, red


def _write_text(image: np.ndarray, text: str, place: Sequence[float], scale: float) -> None:
    scale = float(np.clip(scale, 0.4, 2))
    where, thick = (round(place[0]), round(place[1])), max(1, round(1.5 * scale))
    for extra, grey in ((2, 0), (0, 255)):
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, (grey,) * 3, thick + extra, cv2.LINE_AA)
