"""``python -m tsal predict``, ``track``, ``demo`` and ``export``: a trained model on images, lists and videos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tsal.cli.options import add_face_model, add_finder, make_finder
from tsal.utils import OUTPUTS, InputError, counted

TRACK_NOTES = (
    "Faces are found and followed, so nothing but the video is needed. OUT.mp4 has the upright video's size "
    "(both: two side by side; an odd one gains a column or row), its mean frame rate and no sound. It is "
    "MPEG-4 part 2, which OpenCV writes everywhere; browsers want H.264: ffmpeg -i OUT.mp4 -c:v libx264 "
    "-pix_fmt yuv420p WEB.mp4. What is drawn is read back from the CSV: "
    "frame,time_ms,face,model,left,top,right,bottom,score,x0,y0,...,score0,... in px of the upright video; a "
    "face that was lost, or comes after a cut, gets a new number. A dot is hollow where its score is low: "
    "under three quarters of the model's median in the video. Frames over 8190 px a side (both: side by side) are "
    "drawn smaller, as MPEG-4 part 2 holds no more. An existing OUT.mp4 is replaced only where this command wrote it, "
    "and so is its CSV."
)


PREDICT_NOTES = (
    "Faces of images are found; those of a list are where its boxes are. The suffix of OUT says the form: .csv (a row "
    "for each face: path,face,left,top,right,bottom,score,x0,y0,...,score0,...), .json (which also names the images "
    "without a face) or .npz (paths (N,), faces (N,), boxes (N,4), points (N,K,2), scores (N,K)). Points and boxes are "
    "px of the original images, 0-based (.pts files count from 1); a list's rows stay in their order. Its labelled "
    "rows are measured: NME, AUC@0.08 and FR@0.08, errors over the distance that the detector's training divided by. "
    "An existing OUT is replaced only where this command wrote it, and so is a drawing."
)
DEMO_NOTES = (
    "Without INPUT: a photograph that matplotlib ships (Grace Hopper by James S. Davis, US Navy: public domain) and a "
    "clip of a rendered head. Into DIR are written the images or the video with landmarks, and the landmarks as CSV."
)
WEIGHTS = "a trained detector, such as <run>/semi/model.pt ($TSAL_WEIGHTS, else the one that comes with the project)"


def add_inference(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that use a trained model; ``command`` adds one: name, text, action, epilog."""
    text = "find the faces of images and write or draw their landmarks; or those of every row of a list"
    add_predict(command("predict", text, run_predict, PREDICT_NOTES))
    text = "draw the landmarks of every face on a video, and write their numbers"
    add_track(command("track", text, run_track, TRACK_NOTES))
    text = "show the trained detector on INPUT, or on a photograph and a rendered clip; under a minute"
    add_demo(command("demo", text, run_demo, DEMO_NOTES))
    add_export(command("export", "a trained detector as ONNX, or as a program of torch.export", run_export))


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE_OR_FOLDER",
        help="image files, and folders with all that is below them but former drawings",
    )
    parser.add_argument("--out", type=Path, metavar="OUT", help="output file for the landmarks: a .csv, .json or .npz")
    parser.add_argument(
        "--draw", type=Path, metavar="DIR", help="output folder for every image with its landmarks drawn on it"
    )
    parser.add_argument("--weights", type=Path, metavar="W", help=WEIGHTS)
    parser.add_argument("--model", metavar="NAME", help="teacher or student of a TSAL training (the method's result)")
    parser.add_argument(
        "--min-face", type=float, metavar="S", help="smallest face to find over the image's shorter side (0.1)"
    )
    add_face_model(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    group = parser.add_argument_group("a list of faces with boxes, instead of images")
    group.add_argument(
        "--list",
        metavar="LIST",
        help="path_of_img path_of_annotation x1 y1 x2 y2 [face_size] a row; "
        "a path, a name in DIR or DIR/lists, or <dataset>:<list>, whose paths are relative to data/prepared/<dataset>; "
        "where rows have annotations, NME, AUC@0.08 and FR@0.08 are printed",
    )
    group.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that the list's paths are relative to; not with <dataset>:<list>",
    )
    group.add_argument("--source", choices=("heatmap", "centre", "fused"), help="detection source (heatmap)")


def add_track(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--weights", type=Path, metavar="W", help=WEIGHTS)
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="OUT.mp4",
        help="output file for the video with faces, lines and dots",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="OUT.csv", help="output file for the landmarks (default: OUT.csv beside OUT.mp4)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="teacher or student of a TSAL training, or both side by side (the method's result)",
    )
    parser.add_argument(
        "--steady",
        action="store_true",
        help="fuse each frame's points with those of the 3 frames before and after it, carried along the flow: no lag, "
        "and motion is not blurred",
    )
    parser.add_argument(
        "--lag", type=int, metavar="N", help="with --steady: use only N later frames, as a stream shown N frames late"
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="sigma of a Gaussian over time; it looks as far ahead as back, so it has no lag (0: points as detected)",
    )
    add_finder(parser)
    add_face_model(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        metavar="W",
        help=f"{WEIGHTS}; of several files, trained from one init, the mean of their weights",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="FILE.onnx, FILE.pt2 (torch.export) or FILE.pt: weights",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="teacher or student of a semi-supervised training (the method's result)"
    )


def run_export(arguments: argparse.Namespace) -> None:
    from tsal.inference import export_model, find_weights

    facts = export_model([find_weights(path) for path in arguments.weights or [None]], arguments.out, arguments.model)
    side, landmarks = facts["input"], facts["landmarks"]
    box_scale = f"{facts['box_scale']:g} x the longer side of a face's box"
    print(f"{arguments.out}: {landmarks} landmarks of square crops of {side} px, {box_scale}")
    if arguments.out.suffix.lower() != ".pt":
        print(f"crops (N, 3, {side}, {side}) RGB in [0, 1] -> points (N, {landmarks}, 2) px, scores (N, {landmarks})")


def run_predict(arguments: argparse.Namespace) -> None:
    from tsal.evaluation import NORMALISERS
    from tsal.faces import MIN_FACE
    from tsal.inference import LeftOut, find_weights, predict_images, predict_list, without_faces

    _check_predict(arguments)
    weights = find_weights(arguments.weights)
    if arguments.list:
        source = arguments.source or "heatmap"
        options = {"model": arguments.model, "source": source, "device": arguments.device}
        root = arguments.root or Path()
        table, metrics, notes = predict_list(weights, arguments.list, root, arguments.out, **options)
        print(f"{arguments.out}: {len(table.paths)} faces, {table.points.shape[1]} points each")
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if metrics:
            shares = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("AUC@0.08", "FR@0.08"))
            of = f"{counted(metrics['faces'], 'labelled face')}, errors over the {NORMALISERS[metrics['normaliser']]}"
            print(f"NME {metrics['NME']:.3f} %, {shares} ({of})")
        return
    left_out = None
    try:
        table, notes = predict_images(
            arguments.images,
            weights,
            out=arguments.out,
            drawings=arguments.draw,
            model=arguments.model,
            device=arguments.device,
            min_face=MIN_FACE if arguments.min_face is None else arguments.min_face,
            finder=make_finder(arguments),
        )
    except LeftOut as error:
        table, notes, left_out = error.table, error.notes, error
    for note in notes + without_faces(table):
        print(f"note: {note}", file=sys.stderr)
    summary = f"{counted(len(table.paths), 'face')} in {counted(len(table.images), 'image')}"
    print(f"{summary}, {table.points.shape[1]} points each")
    for path in (arguments.out, arguments.draw):
        if path is not None:
            print(path)
    if left_out is not None:
        raise left_out


def _check_predict(arguments: argparse.Namespace) -> None:
    """Raise where the options of images and of a list are mixed, or one is missing."""
    from tsal.data import IMAGE_SUFFIXES

    if not arguments.images and not arguments.list:
        raise InputError("name images or folders, or a list (--list LIST --root DIR)")
    if arguments.images and not (arguments.out or arguments.draw):
        raise InputError("say what is wanted: --out OUT.csv (.json, .npz), --draw DIR, or both")
    if arguments.list and Path(arguments.list).suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{arguments.list}: is an image, no list; name it without --list: predict {arguments.list} ..."
        )
    of_dataset = arguments.list and ":" in arguments.list and not Path(arguments.list).is_file()
    if of_dataset and arguments.root:
        raise InputError(f"--root would be ignored: {arguments.list} is relative to its own dataset; leave it out")
    if arguments.list and not ((arguments.root or of_dataset) and arguments.out):
        raise InputError("--list wants --root DIR and --out OUT")
    of_images, of_lists = ("draw", "min_face", "finder", "finder_model"), ("list", "root", "source")
    form, others = ("images", of_lists) if arguments.images else ("--list", of_images)
    if wrong := [f"--{name.replace('_', '-')}" for name in others if getattr(arguments, name) is not None]:
        raise InputError(f"{', '.join(wrong)} would be ignored beside {form}: leave it out")


def run_track(arguments: argparse.Namespace) -> None:
    from tsal.inference import find_weights, track_video

    facts = track_video(
        arguments.video,
        find_weights(arguments.weights),
        arguments.out,
        model=arguments.model,
        steady=arguments.steady,
        lag=arguments.lag,
        smooth=arguments.smooth,
        csv_path=arguments.csv,
        boxes_file=arguments.boxes_file,
        find=make_finder(arguments),
        min_face=arguments.min_face,
        device=arguments.device,
    )
    print(
        "".join(f"note: {line}\n" for line in facts["notes"])
        + f"{facts['out']}: {facts['frames']} frames at {facts['fps']:.6g} a second, faces: {facts['faces']}\n"
        f"{facts['csv']}: the numbers that are drawn"
    )
    for name, jitter in facts["jitter"].items():
        kinds = ", ".join(f"{kind} {100 * value:.2f} %" for kind, value in jitter.items())
        kinds = "not known, of fewer than three frames" if "nan" in kinds else f"{kinds} of the {facts['jitter_d']}"
        print(f"jitter of the {name}, motion included: {kinds} (lag {facts['lag_ms']:.0f} ms)")
    print(f"{facts['frames_per_second']:.1f} frames/s, all readings together ({facts['seconds']:.1f} s)")


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="an image, a video or a folder of images")
    parser.add_argument("--weights", type=Path, metavar="W", help=WEIGHTS)
    parser.add_argument("--out", type=Path, default=OUTPUTS / "demo", metavar="DIR", help="folder (outputs/demo)")
    add_face_model(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")


def run_demo(arguments: argparse.Namespace) -> None:
    from tsal.inference import find_weights
    from tsal.inference import run_demo as demo

    weights, finder = find_weights(arguments.weights), make_finder(arguments)
    for line in demo(arguments.out, weights, arguments.input, device=arguments.device, finder=finder):
        print(line)
