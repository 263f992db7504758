"""A file of face boxes that another finder made for a video, or for several: read, and checked by row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsal.data import box_fault
from tsal.utils import DataError, read_text


@dataclass(frozen=True)
class GivenBox:
    """A row of a boxes file."""

    box: tuple[float, float, float, float]
    track: str | None
    where: str


def read_boxes(path: Path) -> dict[str, dict[int, list[GivenBox]]]:
    """A CSV ``[video,]frame,x1,y1,x2,y2[,track]`` -> {video ("" without that column): {frame: boxes}}.

    Frames count from 0; boxes are px of the video.

    Raises:
        DataError: a line for each wrong row.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read the boxes: {getattr(error, 'strerror', None) or error}") from None
    columns = [name.strip() for name in rows[0]] if rows else []
    plain = ["frame", "x1", "y1", "x2", "y2"]
    if columns not in [first + plain + last for first in ([], ["video"]) for last in ([], ["track"])]:
        raise DataError(f"{path}: its first line is {','.join(columns)!r}, want [video,]frame,x1,y1,x2,y2[,track]")
    boxes: dict[str, dict[int, list[GivenBox]]] = {}
    problems, seen = [], set()
    for number, values in enumerate(rows[1:], 2):
        where = f"{path}:{number}"
        if not values:
            continue
        if len(values) != len(columns):
            problems.append(f"{where}: {len(values)} columns, want {len(columns)}: {','.join(columns)}")
            continue
        row = {name: value.strip() for name, value in zip(columns, values)}
        try:
            box = tuple(float(row[name]) for name in plain[1:])
        except ValueError:
            box = (math.nan,) * 4
        if not all(map(math.isfinite, box)):
            problems.append(f"{where}: a box is four numbers, got {' '.join(row[name] for name in plain[1:])}")
        elif box[2] <= box[0] or box[3] <= box[1]:
            shown = " ".join(row[name] for name in plain[1:])
            problems.append(f"{where}: box is empty or inverted ({shown}); want x1 < x2, y1 < y2")
        elif not (row["frame"].isascii() and row["frame"].isdigit() and len(row["frame"]) < 10):
            problems.append(f"{where}: frame {row['frame']!r} is no whole number from 0")
        elif row.get("track") == "":
            problems.append(f"{where}: track is empty; leave the column out where the boxes are not linked")
        elif row.get("video") == "":
            problems.append(f"{where}: video is empty")
        else:
            key = (row.get("video"), int(row["frame"]), row.get("track"))
            if "track" in row and key in seen:
                problems.append(f"{where}: frame {key[1]} has a box of track {key[2]} already")
            seen.add(key)
            frames = boxes.setdefault(row.get("video", ""), {})
            frames.setdefault(int(row["frame"]), []).append(GivenBox(box, row.get("track"), where))
    if not boxes and not problems:
        problems.append(f"{path}: holds no boxes")
    if problems:
        raise DataError(problems)
    return boxes


def check_boxes(
    boxes: Mapping[int, list[GivenBox]], size: Sequence[int], count: int, notes: Sequence[str] = ()
) -> None:
    """Raise a line for each box that is of no frame, or of no face in a frame of ``size`` (width, height).

    ``notes``: why no more than ``count`` frames were read.
    """
    problems = []
    last = "; ".join([f"the last one read is {count - 1} (counted from 0)", *notes])
    for number, rows in boxes.items():
        for row in rows:
            if number >= count:
                problems.append(f"{row.where}: frame {number}, but {last}")
            elif fault := box_fault(row.box, *size):
                problems.append(f"{row.where}: the box {fault}")
    if problems:
        raise DataError(problems)
