"""300-VW as iBUG releases it (300VW_Dataset_2015_12_14): 114 folders, each with ``vid.avi`` and ``annot/000001.pts``
...

Shen et al., "The First Facial Landmark Tracking in-the-Wild Challenge", ICCVW 2015. 50 clips are for training; the test
clips are of category A (31: well lit), B (19: unconstrained light) and C (14: everything).
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Any

import cv2

from tsal.data import Origin, describe_image, read_points
from tsal.faces import follow_video, read_frames, read_header
from tsal.prepare.builder import DatasetBuilder, landmark_box
from tsal.utils import DataError, is_hidden, replacing, tqdm, write_text

POINTS = 68
SPLITS = {
    "train": "001 002 003 004 007 009 010 011 013 015 016 017 018 019 020 022 025 027 028 029 031 033 034 035 037 039 "
    "041 043 044 046 047 048 049 053 057 059 112 113 115 119 120 123 138 143 144 160 204 205 223 225",
    "A": "114 124 125 126 150 158 401 402 505 506 507 508 509 510 511 514 515 518 519 520 521 522 524 525 "
    "537 538 540 541 546 547 548",
    "B": "203 208 211 212 213 214 218 224 403 404 405 406 407 408 409 412 550 551 553",
    "C": "410 411 516 517 526 528 529 530 531 533 557 558 559 562",
}
LISTS = {"train": "300VW.train", "A": "300VW.test-A", "B": "300VW.test-B", "C": "300VW.test-C"}
LABELLED_BOXES = "tight around the labelled landmarks (.GTB)"
FOUND_BOXES = "of the face finder, followed over time (.DET); none comes from a label"
EXTRACTED, FINDER = 2, 3  # of what work/*.json and work/*-faces.json hold: raise it when that changes
JPEG_QUALITY = 95


def prepare_300vw(
    source: Path,
    folder: Path,
    *,
    every: int = 1,
    labels: bool = True,
    found_boxes: bool = False,
    workers: int = 2,
    progress: bool = True,
) -> dict:
    """Frames and lists of the release at ``source``; returns the manifest. A stopped extraction goes on with the clips
    that miss.

    Args:
        every: take each n-th frame, from the first one; nothing is padded or dropped at a clip's end.
        labels: ``300VW.{train,test-A,test-B,test-C}.GTB`` with landmarks; else only the lists of ``found_boxes``.
        found_boxes: also ``.DET`` lists without labels, whose boxes are found in the pixels. A clip of them is one face
            that is followed; each has a folder of its own, ``tracks/<clip>-f<face>``, a link to the frames.
    """
    if every < 1:
        raise DataError(f"--every {every}: want 1 or more")
    found_boxes = found_boxes or not labels
    options = {"every": every, "labels": labels, "found_boxes": found_boxes, "jpeg_quality": JPEG_QUALITY}
    boxes = "; ".join([LABELLED_BOXES] * labels + [FOUND_BOXES] * found_boxes)
    builder = DatasetBuilder(folder, "300vw", source, POINTS, boxes, options)
    splits = {name: split for split, names in SPLITS.items() for name in names.split()}
    videos = {path.parent.name: path for path in sorted(builder.source.glob("*/vid.avi"))}
    clips = [name for name in splits if name in videos]
    if not clips:
        raise DataError(
            f"{builder.source}: holds no <clip>/vid.avi of 300-VW (001, 002 ...); give the folder "
            "300VW_Dataset_2015_12_14"
        )
    for name in sorted(set(splits) - set(videos)):
        builder.reject(f"clip {name} ({LISTS[splits[name]]})", f"{builder.source / name / 'vid.avi'} does not exist")
    for name in sorted(set(videos) - set(splits)):
        builder.notes.append(f"{videos[name].parent} is no clip of 300-VW's lists: left out")
    facts = _each(
        builder,
        "extracting frames",
        clips,
        lambda name, stop: extract(videos[name], builder, name, every, stop),
        workers,
        progress,
    )
    builder.notes += [f"clip {name}: {note}" for name in facts for note in facts[name]["notes"]]
    faces = {}
    if found_boxes:
        faces = _each(
            builder,
            "finding faces",
            list(facts),
            lambda name, stop: find_faces(videos[name], builder, name, facts[name]["numbers"]),
            workers,
            progress,
        )
    for split, names in SPLITS.items():
        split_clips = [name for name in names.split() if name in facts]
        builder.count(
            f"{LISTS[split]}, clips", len(split_clips), len(names.split()), "rejected.csv says which are missing"
        )
        for name in split_clips:
            if labels:
                _add_labelled(builder, f"{LISTS[split]}.GTB", videos[name], facts[name])
            if name in faces:
                _add_found(builder, f"{LISTS[split]}.DET", videos[name], facts[name], faces[name])
    return builder.write(workers=workers, progress=progress)


def _each(
    builder: DatasetBuilder, label: str, names: Sequence[str], work: Callable, workers: int, progress: bool
) -> dict[str, Any]:
    """Clip -> what ``work(clip, stop)`` says of it; a clip whose video cannot be read is rejected.

    Where one fails or the user stops, the clips that wait are not begun, and ``stop`` is set for those at work.
    """
    stop, results = Event(), {}

    def work_on(name: str) -> Any:
        try:
            return work(name, stop)
        except DataError:
            raise
        except BaseException:
            stop.set()  # before this thread takes the next clip
            raise

    with ThreadPoolExecutor(workers) as pool:
        jobs = {name: pool.submit(work_on, name) for name in names}
        try:
            for name, job in tqdm(jobs.items(), desc=label, unit="clip", disable=not progress, mininterval=1):
                try:
                    results[name] = job.result()
                except DataError as error:
                    builder.reject(f"clip {name}", str(error))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def extract(video: Path, builder: DatasetBuilder, name: str, every: int, stop: Event) -> dict:
    """Write each n-th frame of a video as ``frames/<name>/<number>.jpg``, counted from 1; whole or not at all.

    A frame that was dropped has no image, but a number and a .pts: what is read after it is numbered by its time.

    Returns:
        ``numbers``: of all frames that can be read. ``frames``: {number: see describe_image}. ``notes``. What is
        extracted already, from the same file with the same setting, is not extracted again.

    Raises:
        DataError: the video cannot be read, or its times do not say which number a frame has.
    """
    record, target = builder.folder / "work" / f"{name}.json", builder.folder / "frames" / name
    state, (total, rate) = video.stat(), read_header(video)
    key = [EXTRACTED, state.st_size, state.st_mtime_ns, every, JPEG_QUALITY]
    former = _recorded(record, key)
    if former and target.is_dir() and len(list(target.glob("*.jpg"))) == len(former["frames"]):
        return former
    if target.is_dir():
        builder.drop_lists()  # a list must not name frames that are gone
    temporary = target.with_name(f".{name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    frames, numbers, notes, first, number = {}, [], [], 0.0, 0
    try:
        for _, time, image in read_frames(video, notes=notes):
            if stop.is_set():
                raise DataError(f"{video}: stopped")
            first = first if numbers else time
            number = max(number + 1, _periods(time - first, rate) + 1)
            numbers.append(number)
            if (number - 1) % every == 0:
                content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
                (temporary / f"{number:06d}.jpg").write_bytes(content)
                frames[f"{number:06d}"] = describe_image(content, image)
        skipped = _periods(first, rate)  # frames before the first that is read; or as many as a codec delays all
        if 0 < skipped <= total - number or number > max(total, len(numbers)):
            raise DataError(
                f"{video}: {len(numbers)} frames can be read, by their times {skipped + 1} to {skipped + number} of "
                f"{total}: which .pts is whose cannot be told"
            )
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    facts = {"key": key, "numbers": numbers, "frames": frames, "notes": notes}
    write_text(record, json.dumps(facts) + "\n")
    return facts


def _periods(milliseconds: float, rate: float) -> int:
    """How many frames' time that is; 0 where it is no number."""
    return round(milliseconds * rate / 1000) if math.isfinite(milliseconds) else 0


def _recorded(record: Path, key: list) -> dict | None:
    """What work/ holds of a clip, made under ``key``; None where it holds nothing, something else or a broken thing."""
    try:
        former = json.loads(record.read_text())
        return former if former["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _take(builder: DatasetBuilder, clip: str, number: str, fact: dict, folder: str = "") -> str:
    image = f"{folder or f'frames/{clip}'}/{number}.jpg"
    builder.origins[image] = Origin(clip, clip, int(number))  # the release names no subjects: each clip counts as one
    builder.facts[image] = fact
    return image


def _add_labelled(builder: DatasetBuilder, name: str, video: Path, facts: dict) -> None:
    """The frames of a clip that have a right .pts, and the count of both."""
    clip = video.parent.name
    files = {path.stem for path in (video.parent / "annot").glob("*.pts") if not is_hidden(path.name)}
    builder.count(
        f"{clip}, frames of vid.avi",
        len(facts["numbers"]),
        len(files),
        "annot/ holds another number of .pts; the ones without a partner are left out",
    )
    for number in sorted(files - {f"{i:06d}" for i in facts["numbers"]}):
        builder.reject(str(video.parent / "annot" / f"{number}.pts"), f"the video has no frame {number}")
    for number, fact in facts["frames"].items():
        path = video.parent / "annot" / f"{number}.pts"
        if number not in files:
            builder.reject(f"{video} frame {number}", f"{path} does not exist")
            continue
        try:
            points, visible = read_points(path, POINTS)
        except DataError as error:
            builder.reject(f"{video} frame {number}", str(error))
            continue
        builder.add(
            name,
            _take(builder, clip, number, fact),
            builder.released(path),
            landmark_box(points, visible),
            f"{video} frame {number}",
        )


def _add_found(builder: DatasetBuilder, name: str, video: Path, facts: dict, faces: dict[str, list]) -> None:
    """The frames of a clip in which a face was found: a clip for each face, as :func:`find_faces` says."""
    clip = video.parent.name
    missing = [number for number in facts["frames"] if number not in faces]
    builder.count(
        f"{clip}, frames with a found face",
        len(facts["frames"]) - len(missing),
        len(facts["frames"]),
        "the others are in rejected.csv",
    )
    for number in missing:
        builder.reject(f"{name} {video} frame {number}", "no face is found")
    runs = groupby(facts["frames"], lambda number: faces[number][0] if number in faces else None)
    for place, numbers in enumerate([list(numbers) for face, numbers in runs if face is not None]):
        # frames of one folder are one clip: two faces, or what lies around a gap, must not share one
        folder = f"tracks/{clip}-f{place:02d}"
        with replacing(builder.folder / folder) as temporary:
            os.symlink(f"../frames/{clip}", temporary)
        for number in numbers:
            image = _take(builder, clip, number, facts["frames"][number], folder)
            builder.add(name, image, None, faces[number][1], f"{video} frame {number}")


def find_faces(video: Path, builder: DatasetBuilder, clip: str, numbers: Sequence[int]) -> dict[str, list]:
    """{frame's number: [face, box]} of the face that is followed longest, and of the next longest where that one is not
    there; faces are numbers. Kept in work/. ``numbers``: of the video's frames, see :func:`extract`.
    """
    record, state = builder.folder / "work" / f"{clip}-faces.json", video.stat()
    key = [FINDER, state.st_size, state.st_mtime_ns]
    if former := _recorded(record, key):
        return former["found"]
    faces: dict[str, list] = {}
    tracks = sorted(follow_video(video, workers=1, progress=False).tracks, key=lambda track: -len(track.boxes))
    for face, track in enumerate(tracks):
        for number, box in zip(numbers[track.first :], track.boxes):
            faces.setdefault(f"{number:06d}", [face, [round(float(v), 2) for v in box]])
    write_text(record, json.dumps({"key": key, "found": faces}) + "\n")
    return faces
