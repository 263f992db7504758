"""Videos of your own -> clips of followed faces and a list without labels.

Two readings of each video: the first finds shots and faces (:mod:`tsal.faces.follow`) and keeps what it found in
work/<video>.json; the second (:mod:`tsal.prepare.clips`) cuts and writes them. A stopped run goes on where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tsal.data import Origin
from tsal.faces import MIN_FACE, VIDEO_SUFFIXES, Followed, GivenBox, Track, follow_video, read_boxes
from tsal.prepare.builder import DatasetBuilder
from tsal.prepare.clips import JPEG_QUALITY, LIST, MARGIN, FaceClip, clips_of, write_clips
from tsal.utils import DataError, counted, files_below, write_text

SUFFIXES = (*VIDEO_SUFFIXES, ".gif")
POINTS = 0  # no row has labels
VERSION = 6  # of what work/ holds: raise it when the finder, the linking, the cuts or the repeats change
FOUND = (
    "of the face finder (OpenCV's Haar cascades), followed by median flow, smoothed; made as tight as a landmark box"
)
GIVEN = "given as a file; propagated by median flow or interpolated between rows"
TRACK_COLUMNS = ("clip", "video", "shot", "first", "last", "frames", "interval_ms", "x1", "y1", "x2", "y2", "detected")
FRAME_COLUMNS = ("clip", "image", "frame", "time_ms", "x1", "y1", "x2", "y2", "state")


def prepare_video(
    source: Path,
    folder: Path,
    *,
    boxes_file: Path | None = None,
    every: int = 1,
    fps: float | None = None,
    longest: int | None = None,
    largest: bool = False,
    min_face: float = MIN_FACE,
    workers: int = 2,
    progress: bool = True,
) -> dict:
    """Clips and ``unlabelled.txt`` of a video, or of all videos in a folder and below it; returns the manifest.

    Beside the lists: tracks.csv (a row a clip; ``detected``: share of the searches that found the face; windows without
    their last column and row) and frames.csv (numbers of the image and of the video's frame, times, and boxes in the
    video's px). Frames that repeat the one before are left out, and the images' numbers do not count them.

    Args:
        boxes_file: boxes of another finder, see :func:`tsal.faces.read_boxes`; for a folder its column
            ``video`` names the file.
        every: write each n-th frame. ``fps``: instead, at most so many frames a second, by the frames' own times.
        longest: frames; a longer clip becomes several. A training step draws clips, not frames, so the parts of a long
            video are seen more often than the whole would be.
        largest: leave out faces that are seen beside a larger one: other people, and what is no face.
        min_face: side of the smallest face that is found, over the image's shorter side.

    Raises:
        DataError: no video, none that can be read, or no face in them; wrong options; each wrong row of the boxes file.
    """
    _check_options(every, fps, longest, min_face)
    options = {"every": every, "fps": fps, "longest": longest, "largest": largest, "min_face": min_face}
    options |= {"margin": MARGIN, "jpeg_quality": JPEG_QUALITY}
    options["boxes_file"] = str(boxes_file) if boxes_file else None
    builder = DatasetBuilder(folder, "video", source, POINTS, GIVEN if boxes_file else FOUND, options)
    single = builder.source.is_file()
    videos = _videos(builder)
    given = _given_of(Path(boxes_file), builder.source, videos) if boxes_file else None
    done: list[tuple[Path, Followed, list[FaceClip]]] = []
    for video, name in zip(videos, _names(builder.source, videos)):
        if not video.exists():
            builder.reject(str(video), "a link to a file that does not exist")
            continue
        if given is not None and video not in given:
            builder.reject(str(video), f"{boxes_file} has no boxes for it")
            continue
        try:
            followed = _followed(
                builder, video, name, None if given is None else given[video], min_face, workers, progress
            )
            clips = clips_of(name, followed, every, fps, longest, largest)
            if not clips:
                raise DataError(
                    f"{video}: no face is found; try a smaller min_face than {min_face:g}, or give boxes of your own"
                )
            write_clips(builder, video, name, clips, progress)
        except DataError as error:
            if single:
                raise
            for line in error.problems:
                builder.reject(str(video), line.removeprefix(f"{video}: "))
            continue
        done.append((video, followed, clips))
    _add_rows(builder, done)
    builder.count("videos", len(done), len(videos), "rejected.csv says why")
    builder.count("frames of the videos", sum(len(followed.times) for _, followed, _ in done))
    builder.count("frames that repeat the one before, left out", sum(len(followed.repeats) for _, followed, _ in done))
    builder.count("seconds", round(sum(_seconds(followed) for _, followed, _ in done)))
    builder.count("shots", sum(len(followed.cuts) + 1 for _, followed, _ in done))
    builder.count("tracks kept", sum(len({id(clip.track) for clip in clips}) for *_, clips in done))
    builder.count("clips", sum(len(clips) for *_, clips in done))
    builder.count("tracks dropped: found too seldom to be a face", sum(followed.dropped for _, followed, _ in done))
    manifest = builder.write(workers=workers, progress=progress)
    _write_tables(builder, done)
    _remove_others(builder.folder / "clips", {clip.name for *_, clips in done for clip in clips})
    return manifest


def _check_options(every: int, fps: float | None, longest: int | None, min_face: float) -> None:
    if every < 1:
        raise DataError(f"every = {every}: want 1 or more")
    if fps is not None and not 0 < fps < 1e4:
        raise DataError(f"fps = {fps:g}: want over 0")
    if fps is not None and every != 1:
        raise DataError(f"every = {every} and fps = {fps:g}: give one of them")
    if longest is not None and longest < 2:
        raise DataError(f"longest = {longest}: want 2 frames or more")
    if not 0.02 <= min_face <= 1:
        raise DataError(f"min_face = {min_face:g}: want a share of the image's shorter side, from 0.02 to 1")


def _videos(builder: DatasetBuilder) -> list[Path]:
    source = builder.source
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise DataError(f"{source}: not a video by its name; want one of {' '.join(SUFFIXES)}")
        return [source]
    below = files_below(source, but=builder.folder)  # which may lie below the source: what it holds is no material
    files = [path for path in below if path.is_file() or not path.exists()]
    videos = builder.originals([path for path in files if path.suffix.lower() in SUFFIXES])
    if not videos:
        raise DataError(f"{source}: holds no video ({' '.join(SUFFIXES)}){''.join(f'; {n}' for n in builder.notes)}")
    if others := [path for path in files if path.suffix.lower() not in SUFFIXES]:
        builder.notes.append(
            f"{counted(len(others), 'file')} left out, no videos by their names, such as {others[0].name}"
        )
    return videos


def _relative(source: Path, video: Path) -> str:
    return video.name if source.is_file() else video.relative_to(source).as_posix()


def _names(source: Path, videos: Sequence[Path]) -> list[str]:
    """A word of plain ASCII for each video, of its stem; where two would be one, with a hash of the path."""
    words = []
    for video in videos:
        plain = unicodedata.normalize("NFKD", video.stem).encode("ascii", "ignore").decode()
        words.append(re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:80] or "video")
    lower = [word.lower() for word in words]  # some file systems do not distinguish A from a
    marks = [
        hashlib.sha256(_relative(source, video).encode("utf-8", "surrogateescape")).hexdigest()[:8] for video in videos
    ]
    return [f"{word}-{mark}" if lower.count(word.lower()) > 1 else word for word, mark in zip(words, marks)]


def _given_of(path: Path, source: Path, videos: Sequence[Path]) -> dict[Path, dict[int, list[GivenBox]]]:
    """The boxes file's boxes, by video."""
    boxes = read_boxes(path)
    if "" in boxes:
        if not source.is_file():
            raise DataError(f"{path}: boxes for a folder of videos want a first column video with the file's name")
        return {videos[0]: boxes[""]}
    video_boxes, problems = {}, []
    for name, frames in boxes.items():
        fits = [video for video in videos if name in (_relative(source, video), video.name)]
        fits = [video for video in fits if _relative(source, video) == name] or fits
        if len(fits) != 1:
            row = next(iter(frames.values()))[0].where
            why = "names several videos; give its path below the folder" if fits else "is no video there"
            problems.append(f"{row}: {name!r} {why} ({source})")
        elif fits[0] in video_boxes:
            problems.append(f"{path}: {fits[0].name} is named in two ways, {name!r} is one")
        else:
            video_boxes[fits[0]] = frames
    if problems:
        raise DataError(problems)
    return video_boxes


# --- first reading ---


def _key(video: Path, given: Mapping[int, list[GivenBox]] | None, min_face: float) -> list:
    state = video.stat()
    rows = (
        None
        if given is None
        else [[number, [[*row.box, row.track] for row in given[number]]] for number in sorted(given)]
    )
    content = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return [VERSION, str(video), state.st_size, state.st_mtime_ns, min_face, content]


def _followed(
    builder: DatasetBuilder, video: Path, name: str, given, min_face: float, workers: int, progress: bool
) -> Followed:
    """What follow_video says, from work/ where it is known."""
    record, key = builder.folder / "work" / f"{name}.json", _key(video, given, min_face)
    followed = _recorded(record, key)
    if followed is None:
        followed = follow_video(video, min_face=min_face, given=given, workers=workers, progress=progress)
        tracks = [
            {"first": t.first, "shot": t.shot, "boxes": np.round(t.boxes, 2).tolist()}
            | {"detected": _bits(t.detected), "searched": _bits(t.searched)}
            for t in followed.tracks
        ]
        times = [round(time, 3) for time in followed.times]
        write_text(record, json.dumps({"key": key, **vars(followed), "times": times, "tracks": tracks}) + "\n")
        followed = _recorded(record, key)  # a run that goes on sees the same digits
    builder.notes.extend(followed.notes)
    return followed


def _recorded(record: Path, key: list) -> Followed | None:
    try:
        values = json.loads(record.read_text())
        if values.pop("key") != key:
            return None
        tracks = [
            Track(t["first"], np.array(t["boxes"], float), _flags(t["detected"]), t["shot"], _flags(t["searched"]))
            for t in values.pop("tracks")
        ]
        return Followed(**values, tracks=tracks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of an older version, or damaged: found again
        return None


def _bits(values: Sequence[bool]) -> str:
    return "".join("01"[bool(value)] for value in values)


def _flags(bits: str) -> list[bool]:
    return [bit == "1" for bit in bits]


def _seconds(followed: Followed) -> float:
    times = followed.times
    return (times[-1] - times[0] + (float(np.median(np.diff(times))) if len(times) > 1 else 0.0)) / 1000


# --- what is written at the end ---


def _add_rows(builder: DatasetBuilder, done: Sequence[tuple[Path, Followed, list[FaceClip]]]) -> None:
    for video, _, clips in done:
        for clip in clips:
            x, y = clip.window[:2]
            for number, frame in zip(clip.images, clip.frames):
                image = f"clips/{clip.name}/{number:06d}.jpg"
                builder.origins[image] = Origin(clip=clip.name, frame=number)
                box = clip.track.boxes[frame - clip.track.first] - [x, y, x, y]
                builder.add(LIST, image, None, box, f"{video} frame {frame}")


def _write_tables(builder: DatasetBuilder, done: Sequence[tuple[Path, Followed, list[FaceClip]]]) -> None:
    tracks, frames = [], []
    for video, followed, clips in done:
        for clip in clips:
            track, times = clip.track, [followed.times[frame] for frame in clip.frames]
            interval = f"{np.median(np.diff(times)):.3f}" if len(times) > 1 else ""
            share = sum(track.detected) / (sum(track.searched) or len(track.detected))
            ends = (clip.frames[0], clip.frames[-1], len(clip.frames), interval)
            tracks.append(
                (clip.name, _relative(builder.source, video), track.shot, *ends, *clip.window, f"{share:.3f}")
            )
            for number, frame, time in zip(clip.images, clip.frames, times):
                at = frame - track.first
                state = "detected" if track.detected[at] else "propagated"
                frames.append((clip.name, number, frame, f"{time:.3f}", *(f"{v:.2f}" for v in track.boxes[at]), state))
    for name, columns, rows in (("tracks.csv", TRACK_COLUMNS, tracks), ("frames.csv", FRAME_COLUMNS, frames)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        write_text(builder.folder / name, text.getvalue())


def _remove_others(root: Path, names: set[str]) -> None:
    """Clips of videos that are gone, and what a killed run left."""
    for path in root.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)
