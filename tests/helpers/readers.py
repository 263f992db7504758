"""The package's readers: how a whole file of each is made, what reads it, and what is wrong with how it was read."""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from fuzz import SECONDS, TooSlow, bounded, paths_below
from releases import coco, landmarks, photographs_csv, release_aflw, scene, write_boxes, write_image, write_pts
from toys import DotDetector, Shift, config, moving_clip, small_model
from videos import write_video

from tsal import config as config_module
from tsal.audit.store import Audit, AuditWriter, audit_model
from tsal.config import Config
from tsal.data.images import look_at_image, read_image
from tsal.data.lists import group_clips, load_lists
from tsal.data.origins import read_origins, read_prepared
from tsal.data.points import read_points
from tsal.data.views import FaceStore
from tsal.evaluation.predictions import GroundTruth
from tsal.faces.boxes_file import read_boxes
from tsal.faces.detect import largest_face
from tsal.faces.follow import follow_video
from tsal.faces.shots import read_frames
from tsal.guard import read_alarms
from tsal.inference.predict import read_faces
from tsal.model_files import load_model
from tsal.prepare.aflw import _read as read_aflw
from tsal.prepare.builder import DatasetBuilder
from tsal.prepare.ibug_300w import _boxes as read_300w_boxes
from tsal.prepare.photographs import prepare_photographs
from tsal.run import Run
from tsal.schemes import generic_scheme, get_scheme, read_scheme
from tsal.tracker.frozen import FrozenTracker
from tsal.utils.errors import DataError, InputError
from tsal.utils.files import read_arrays, write_arrays

LONGEST_LINE = 2000


# --- readers: how a whole file is made, and what reads it ---


def images(folder: Path) -> None:
    for number in range(3):
        write_image(folder / f"{number}.png", number)
        write_pts(folder / f"{number}.pts", landmarks(5, number))


def a_list(folder: Path) -> Path:
    images(folder)
    (folder / "val.txt").write_text("2.png 2.pts 10 10 50 50\n")
    path = folder / "train.txt"
    path.write_text("# faces\n0.png 0.pts 10 10 50 50 40\n1.png None 10.5 10 50 50\n")
    return path


def read_lists(path: Path) -> None:
    lists = load_lists(path.parent, [path.name], [path.name], ["val.txt"], points=5, transductive=True)
    group_clips([*lists.labelled, *lists.unlabelled])
    read_faces(path.parent, path.name)


def points_file(folder: Path) -> Path:
    write_pts(folder / "0.pts", landmarks(5, 0))
    return folder / "0.pts"


def boxes_of_300w(folder: Path) -> Path:
    box = np.array([[10.0, 10, 50, 50]])
    entries = [{"imgName": f"{i}.jpg", "bb_detector": box, "bb_ground_truth": box + 1} for i in range(2)]
    write_boxes(folder / "bounding_boxes_ibug.mat", entries)
    return folder / "bounding_boxes_ibug.mat"


def compressed_aflw(folder: Path) -> Path:
    from scipy.io import loadmat, savemat

    path = release_aflw(folder) / "AFLWinfo_release.mat"
    content = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    savemat(path, content, do_compression=True)
    shutil.rmtree(folder / "data")
    return path


def table(folder: Path) -> Path:
    return photographs_csv(folder, boxes=True)


def prepare(path: Path) -> None:
    """The builder: rows that are wrong are left out, and lists are whole or not there."""
    folder = path.parent.parent / "prepared"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        prepare_photographs(path, folder, points=5, val=0.3, workers=1, progress=False)
    except InputError:
        assert not (folder / "lists").exists()
        raise
    finally:
        assert not [name for name in paths_below(folder) if ".tmp" in name]
        shutil.rmtree(folder, ignore_errors=True)


def boxes(folder: Path) -> Path:
    path = folder / "boxes.csv"
    path.write_text("video,frame,x1,y1,x2,y2,track\na.avi,0,1,2,30,40,1\na.avi,1,1.5,2,30,40,1\n")
    return path


def settings(folder: Path) -> Path:
    (folder / "mine.yaml").write_text(
        "profile: mine\nsupervised: {steps: 20, batch: 8, lr: 1.0e-3}\ndata:\n  labelled: [a.txt, b.txt]\n"
        "tracker: {channels: [8, 16]}\ntrain: {optimiser: adamw}\nseed: 3\n"
    )
    return folder / "mine.yaml"


def scheme(folder: Path) -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        "points: 6\nflip: [[0, 1], [2, 3]]\ncentre: 4\nocular: [0, 1]\npupil: [[0, 2], [1, 3]]\n"
        "lines: {eyes: 0-3 closed, nose: [4, 5]}\n"
    )
    return path


def method(folder: Path) -> Path:
    path = folder / "configs" / "methods" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("result: supervised\nsteps_times: 2\ntsal: {ema_direction: none}\ntracker: {flow: learned}\n")
    return path


def read_method(path: Path) -> None:
    former, config_module.CONFIG_FOLDER = config_module.CONFIG_FOLDER, path.parent.parent
    try:
        config_module.load_method("mine")
    finally:
        config_module.CONFIG_FOLDER = former


def run_folder(folder: Path) -> Path:
    config("data.scheme=5").save(folder / "config.json")
    (folder / "scheme.json").write_text(json.dumps(get_scheme("5").to_dict()))
    (folder / "manifest.json").write_text(json.dumps({"images": {"a.png": {"sha256": "0" * 64}}}))
    return folder / "config.json"


def open_run(path: Path) -> None:
    Run.open(path.parent).manifest()


def video(folder: Path) -> Path:
    write_video(folder / "a.avi", [scene(t) for t in range(4)])
    return folder / "a.avi"


def mp4(folder: Path) -> Path:
    write_video(folder / "a.mp4", [scene(t) for t in range(4)], codec="mp4v")
    return folder / "a.mp4"


def read_video(path: Path) -> None:
    list(read_frames(path))
    follow_video(path, workers=1, progress=False)


def png(folder: Path) -> Path:
    write_image(folder / "0.png", 0)
    return folder / "0.png"


def other_image(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        assert cv2.imwrite(str(folder / f"0{suffix}"), scene(0, 48, 40))
        return folder / f"0{suffix}"

    return make


def look(path: Path) -> None:
    largest_face(path)
    if isinstance(said := look_at_image(path, path.name), str):
        raise DataError(said)
    read_image(path)


def predictions(folder: Path) -> Path:
    write_arrays(folder / "p.npz", points=np.zeros((2, 5, 2), np.float32), path=np.array(["a", "b"]), row=np.arange(2))
    return folder / "p.npz"


def audit(folder: Path) -> Path:
    clip, places, _ = moving_clip(folder / "images")
    store, names = FaceStore(folder / "images", generic_scheme(1), 64, 1.35, 50), np.array(["clip"] * 3)
    frame = np.arange(3)
    box = np.array([face.box for face in clip.faces])
    truth = GroundTruth(names, names, frame, box, places[:, None], frame[:, None] >= 0, frame + 60.0, frame < 0)
    writer = AuditWriter(folder / "audit", store, [clip], truth)
    options = config("tsal.window=1", "tsal.max_fb_error=0", "tsal.fallback=true")
    labels = audit_model(DotDetector(), FrozenTracker(Shift(2.0, 0.0)), store, [clip], options, torch.device("cpu"))
    writer.add("teacher", 5, labels, frame)
    writer.close()
    return folder / "audit" / "labels.parquet"


def read_audit(path: Path) -> None:
    opened = Audit.open(path.parent)
    for name in opened.names:
        for source in opened.sources:
            opened.errors(name, source)


def other_of_audit(name: str) -> Callable[[Path], Path]:
    return lambda folder: audit(folder).with_name(name)


def origins(folder: Path) -> Path:
    (folder / "images.csv").write_text("image,subject,clip,frame,sha256,width,height\na.png,s,c,3,00,64,64\n")
    return folder / "images.csv"


def prepared_manifest(folder: Path) -> Path:
    (folder / "manifest.json").write_text(json.dumps({"builder": "photographs", "lists": {"train.txt": {"rows": 3}}}))
    return folder / "manifest.json"


def alarms(folder: Path) -> Path:
    (folder / "alarms.json").write_text(json.dumps([{"alarm": "collapse", "step": 3, "seed": 1, "rows": [1, 2]}]))
    return folder / "alarms.json"


@dataclass(frozen=True)
class Reader:
    make: Callable[[Path], Path]  # writes a whole file into a folder
    read: Callable[[Path], object]
    one_in: int = 1  # of the short form's cases: a process each takes a third of a second


READERS = {
    "list": Reader(a_list, read_lists),
    "landmarks (.pts)": Reader(points_file, lambda path: read_points(path, 5)),
    "boxes of 300-W (.mat)": Reader(
        boxes_of_300w,
        lambda path: read_300w_boxes(DatasetBuilder(path.parent / "none", "300w", path.parent, 68, ""), "ibug"),
        one_in=10,
    ),
    "AFLW, compressed (.mat)": Reader(
        compressed_aflw,
        lambda path: read_aflw(DatasetBuilder(path.parent / "none", "aflw", path.parent, 19, "")),
        one_in=10,
    ),
    "photographs (.csv)": Reader(table, prepare),
    "photographs (COCO .json)": Reader(lambda folder: coco(folder), prepare),
    "boxes (.csv)": Reader(boxes, read_boxes),
    "profile (.yaml)": Reader(settings, lambda path: Config.resolve(str(path))),
    "scheme (.yaml)": Reader(scheme, lambda path: read_scheme(path, "mine")),
    "method (.yaml)": Reader(method, read_method),
    "run (config.json)": Reader(run_folder, open_run),
    "run (scheme.json)": Reader(lambda folder: run_folder(folder).with_name("scheme.json"), open_run),
    "run (manifest.json)": Reader(lambda folder: run_folder(folder).with_name("manifest.json"), open_run),
    "checkpoint": Reader(small_model, load_model),
    "video (.avi)": Reader(video, read_video),
    "video (.mp4)": Reader(mp4, read_video),
    "image (.png)": Reader(png, look),
    "image (.jpg)": Reader(other_image(".jpg"), look),
    "image (.bmp)": Reader(other_image(".bmp"), look),
    "image (.webp)": Reader(other_image(".webp"), look),
    "image (.tif)": Reader(other_image(".tif"), look),
    "predictions (.npz)": Reader(predictions, read_arrays),
    "audit (.parquet)": Reader(audit, read_audit),
    "audit (frames.csv)": Reader(other_of_audit("frames.csv"), read_audit),
    "audit (ground_truth.npz)": Reader(other_of_audit("ground_truth.npz"), read_audit),
    "prepared dataset (images.csv)": Reader(origins, lambda path: read_origins(path.parent)),
    "prepared dataset (manifest.json)": Reader(prepared_manifest, lambda path: read_prepared(path.parent)),
    "alarms (.json)": Reader(alarms, lambda path: read_alarms(path.parent)),
}


def outcome(read: Callable[[Path], object], path: Path) -> str:
    """What is wrong with how a reader takes a file; nothing where it reads it or says in a line each what is wrong."""
    try:
        with bounded():
            read(path)
    except InputError as error:
        lines = error.problems if isinstance(error, DataError) else [str(error)]
        wrong = [line for line in lines if not line or len(line) > LONGEST_LINE or not line.isprintable()]
        return f"said {wrong[0][:300]!r}" if wrong else ""
    except BaseException as error:  # TooSlow is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        where = error.__traceback__
        while where.tb_next:
            where = where.tb_next
        place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
        return f"{type(error).__name__} ({place}): {str(error)[:200]}"
    return ""


def read_forked(path: Path, names: tuple[str, ...]) -> tuple[dict | None, str]:
    """:func:`matlab.read_apart` with a fork in place of a new process, which costs ten times as much."""
    from tsal.prepare.matlab_process import answer

    receiver, sender = os.pipe()
    if not (child := os.fork()):
        with suppress(BaseException), os.fdopen(sender, "wb") as file:
            faulthandler.disable()  # a crash is an answer too
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            file.write(answer(str(path), list(names)))
            file.flush()
            os._exit(0)
        os._exit(1)
    os.close(sender)
    try:
        with os.fdopen(receiver, "rb") as file:
            said = file.read()
    except TooSlow:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGXCPU:
        raise TooSlow(f"over {SECONDS} s")
    return pickle.loads(said) if not status else (None, f"reader ended: {status}")
