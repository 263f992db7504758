"""Faces followed through video, by flow and by their landmarks, measured against boxes: part of
``python -m tsal.bench.finders --video``.

Val clips of dense video have no labels: there the boxes are those that another finder, YuNet, has in each frame. The
five frames of a clip of YouTube Faces are near in time but do not follow one another: shown to and fro, they make a
second of fast motion.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from tsal.data import find_list, group_clips, read_list, read_points
from tsal.evaluation import face_nme, normaliser
from tsal.faces import Followed, read_frames
from tsal.inference import CropDetector, detect_tracks, follow_faces
from tsal.schemes import get_scheme
from tsal.utils import InputError, iou

LIST = "YTF.val.GTB"
SHOWN, RATE = 25, 25.0  # frames, and how many a second
HIT = 0.5  # IoU
TRUE = 0.3  # IoU with a box in any frame, from which a track is no false one
WAYS = {"flow": False, "landmarks": True}  # by_landmarks
HEAD = ("clips", "finder", "followed by", "covered %", "tracks a shot", "false tracks", "NME %", "frames/s", "ratio")


@dataclass(frozen=True)
class Clip:
    video: Path
    boxes: dict[int, np.ndarray]  # {frame: x1, y1, x2, y2 px}
    points: dict[int, np.ndarray]  # {frame: (K, 2) px}; empty where there are no labels


def write_clip(path: Path, images: Sequence[np.ndarray], rate: float) -> Path:
    """A video (Motion JPEG) of BGR images."""
    size = images[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
    for image in images:
        writer.write(image)
    writer.release()
    return path


def dense_val(realdata: Path) -> list[dict]:
    """Rows of ``dense/clips.csv``: the val clips.

    Raises:
        InputError: there is no such table.
    """
    table = realdata / "dense" / "clips.csv"
    if not table.is_file():
        raise InputError(f"{table}: no such table of clips (--realdata)")
    with table.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "val"]


def dense_clips(
    realdata: Path, folder: Path, most: int, reference: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Clip]:
    """The first frames of each val clip of ``dense/clips.csv``, with the surest box of ``reference`` in each frame."""
    for row in dense_val(realdata):
        images = [image for *_, image in islice(read_frames(realdata / "dense" / row["file"]), most)]
        detections = [reference(np.ascontiguousarray(image[..., ::-1])) for image in images]
        boxes = {number: boxes[0] for number, boxes in enumerate(detections) if len(boxes)}
        path = (folder / Path(row["file"]).name).with_suffix(".avi")
        yield Clip(write_clip(path, images, float(row["fps"])), boxes, {})


def list_clips(realdata: Path, folder: Path, every: int) -> Iterator[Clip]:
    """Each n-th clip of ``LIST``; its labelled frames have boxes and points."""
    for number, clip in enumerate(group_clips(read_list(find_list(realdata, LIST), label=LIST))[::every]):
        faces = list(islice(cycle([*clip.faces, *clip.faces[-2:0:-1]]), SHOWN))
        path = write_clip(folder / f"{number}.avi", [cv2.imread(str(realdata / face.image)) for face in faces], RATE)
        boxes, points = {}, {}
        for frame, face in enumerate(faces):
            if face.annotation:
                boxes[frame], points[frame] = np.array(face.box), read_points(realdata / face.annotation, 68)[0]
        yield Clip(path, boxes, points)


@dataclass
class _Sums:
    covered: list  # bool, one a box
    errors: list  # in shares of the outer eye-corner distance, one a box; NaN where it is not covered
    tracks: int = 0
    false: int = 0
    shots: int = 0
    frames: int = 0
    seconds: float = 0.0  # of the processor


def measure(clips: Sequence[Clip], detector: CropDetector, finder: Callable | None) -> list[dict]:
    """A row for each of ``WAYS``, which take turns clip by clip; NME is that of the boxes that both cover.

    Seconds are the processor's, so other programs cost little: the time of one thread that had a core for itself.
    """
    sums = {way: _Sums([], []) for way in WAYS}
    for clip in clips:
        for way, by_landmarks in WAYS.items():
            total, started = sums[way], time.process_time()
            followed = follow_faces(clip.video, detector, find=finder, by_landmarks=by_landmarks, progress=False)
            landmarks = detect_tracks(clip.video, followed, [detector], progress=False)
            total.seconds += time.process_time() - started
            total.frames += len(followed.times)
            total.shots += 1 + len(followed.cuts)
            total.tracks += len(followed.tracks)
            _compare(total, clip, followed, landmarks)
        print(f"{clip.video.name}", file=sys.stderr, flush=True)
    both = ~np.isnan([total.errors for total in sums.values()]).any(0)
    slow, *_ = (total.frames / total.seconds for total in sums.values())
    return [
        {
            "followed by": way,
            "covered %": 100 * np.mean(total.covered),
            "tracks a shot": total.tracks / total.shots,
            "false tracks": total.false,
            "NME %": 100 * np.array(total.errors)[both].mean() if both.any() else float("nan"),
            "frames/s": total.frames / total.seconds,
            "ratio": total.frames / total.seconds / slow,
        }
        for way, total in sums.items()
    ]


def _compare(sums: _Sums, clip: Clip, followed: Followed, landmarks: Sequence[np.ndarray]) -> None:
    """Add what the tracks have of the clip's boxes."""
    best = np.zeros(len(followed.tracks))
    for frame, box in clip.boxes.items():
        there = followed.tracks_at(frame)
        overlaps = [iou(followed.tracks[place].boxes[frame - followed.tracks[place].first], box) for place in there]
        best[there] = np.maximum(best[there], overlaps)
        hit = max(overlaps, default=0.0) >= HIT
        sums.covered.append(hit)
        error = np.nan
        if hit and frame in clip.points:
            place, truth = there[int(np.argmax(overlaps))], clip.points[frame]
            points = landmarks[place][0, frame - followed.tracks[place].first, :, :2]
            error = _nme(points, truth, box)
        sums.errors.append(error)
    sums.false += int((best < TRUE).sum())


def _nme(points: np.ndarray, truth: np.ndarray, box: np.ndarray) -> float:
    """The NME of a face (68, 2) px, over the distance of the outer eye corners."""
    visible = np.ones((1, len(truth)), bool)
    distance = normaliser("ocular", truth[None], visible, box[None], np.full(1, np.nan), get_scheme("68"))
    return float(face_nme(points[None], truth[None], visible, distance)[0])


def video_rows(
    realdata: Path, detector: CropDetector, finders: dict[str, Callable], frames: int, every: int
) -> Iterator[dict]:
    """Rows of ``HEAD``. ``finders``: by name, ``haar`` and ``yunet``; the latter says where the faces of dense clips
    are.
    """
    with tempfile.TemporaryDirectory(prefix="tsal-finders-") as name:
        kinds = {
            f"dense val, first {frames} frames": list(dense_clips(realdata, Path(name), frames, finders["yunet"])),
            LIST if every == 1 else f"{LIST}, each {every}th clip": list(list_clips(realdata, Path(name), every)),
        }
        for kind, clips in kinds.items():
            for finder, find in finders.items():
                print(f"{kind}: {finder}", file=sys.stderr, flush=True)
                for row in measure(clips, detector, None if finder == "haar" else find):
                    yield {"clips": kind, "finder": finder} | row
