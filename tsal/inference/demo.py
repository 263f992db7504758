"""What a trained detector does, in under a minute: on an image, a video or a folder, or on what every machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tsal.data import IMAGE_SUFFIXES
from tsal.inference.drawing import mark_video
from tsal.inference.inputs import HEIC_SUFFIXES
from tsal.inference.landmarker import Finder
from tsal.inference.outputs import check_folder, check_output
from tsal.inference.predict import predict_images
from tsal.inference.tables import without_faces
from tsal.inference.track import track_video
from tsal.synthetic import render_clip
from tsal.utils import DataError, counted, is_drawn, replacing

CLIP = (3, 50, 256)  # seed, frames and side (px) of the rendered clip
FPS = 25


def run_demo(
    out: Path, weights: Path, source: Path | None = None, *, device: str = "auto", finder: Finder | None = None
) -> Iterator[str]:
    """Landmarks of an image, a folder of images or a video, drawn and as CSV, in the folder ``out`` -> a line for each
    thing that was made.

    Without ``source``: those of :func:`photograph` and of a rendered clip.

    Args:
        finder: as of :class:`tsal.Landmarker`; of videos, a function is called with the smallest face too.
    """
    check_folder(out)
    options = {"device": device, "progress": source is not None}
    if source is None:
        clip = out / "rendered" / "clip.mp4"
        check_output(clip, (".mp4",), is_drawn)
        yield from _of_images(photograph(), out, weights, finder=finder, **options)
        write_rendered_clip(clip)
        yield from _of_video(clip, out, weights, find=finder, **options)
    elif not source.exists():
        raise DataError(f"{source}: no such image, video or folder")
    elif source.is_dir() or source.suffix.lower() in (*IMAGE_SUFFIXES, *HEIC_SUFFIXES):
        yield from _of_images(source, out, weights, finder=finder, **options)
    else:
        yield from _of_video(source, out, weights, find=finder, **options)


def photograph() -> Path:
    """A portrait of Grace Hopper (James S. Davis, US Navy; a work of the US government, public domain), of matplotlib's
    sample data.
    """
    try:
        from matplotlib import get_data_path
    except ImportError:
        path = None
    else:
        path = Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if path is None or not path.is_file():
        raise DataError(
            "the demo's photograph comes with matplotlib, which is not installed or lacks it: name an image or a video "
            "of your own (make demo INPUT=photo.jpg)"
        )
    return path


def write_rendered_clip(path: Path) -> None:
    """A talking head as .mp4, the same every time."""
    seed, frames, side = CLIP
    images = render_clip(seed, frames, side, flow=False).images
    with replacing(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), FPS, (side, side))
        for image in images:
            writer.write(np.ascontiguousarray(image[..., ::-1]))
        writer.release()
        mark_video(temporary)


def _of_images(source: Path, out: Path, weights: Path, **options) -> Iterator[str]:
    name = source.resolve().name if source.is_dir() else source.stem
    csv, drawings = out / f"{name}.csv", out / f"{name}-drawn"
    table, notes = predict_images([source], weights, out=csv, drawings=drawings, **options)
    yield from (f"note: {line}" for line in notes + without_faces(table))
    yield f"{counted(len(table.paths), 'face')} in {counted(len(table.images), 'image')}: {drawings}"
    yield f"their landmarks: {csv}"


def _of_video(source: Path, out: Path, weights: Path, **options) -> Iterator[str]:
    out.mkdir(parents=True, exist_ok=True)
    facts = track_video(source, weights, out / f"{source.stem}-drawn.mp4", **options)
    yield from (f"note: {line}" for line in facts["notes"])
    yield f"{counted(facts['faces'], 'face')} in {counted(facts['frames'], 'frame')}: {facts['out']}"
    yield f"their landmarks: {facts['csv']}"
