"""``python -m tsal predict``, ``track`` and ``export``: a trained model on lists and videos, and in other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from tsal.cli.options import add_finder

TRACK_NOTES = (
    "Faces are found and followed, so nothing but the video is needed. OUT.mp4 has the upright video's size "
    "(both: two side by side; an odd one gains a column or row), its mean frame rate and no sound. It is "
    "MPEG-4 part 2, which OpenCV writes everywhere; browsers want H.264: ffmpeg -i OUT.mp4 -c:v libx264 "
    "-pix_fmt yuv420p WEB.mp4. What is drawn is read back from the CSV: "
    "frame,time_ms,face,model,left,top,right,bottom,score,x0,y0,...,score0,... in px of the upright video; a "
    "face that was lost, or comes after a cut, gets a new number. A dot is hollow where its score is low: "
    "under three quarters of the model's median in the video. An existing OUT.mp4 is replaced only where its CSV "
    "shows that this command wrote it."
)


def add_predict(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--weights", required=True, type=Path, metavar="W", help="a training's model.pt, such as <run>/semi/model.pt"
    )
    made.add_argument(
        "--list",
        required=True,
        metavar="LIST",
        help="path_of_img path_of_annotation x1 y1 x2 y2 [face_size] a row; "
        "a path, or a name in DIR or DIR/lists; annotations are not opened",
    )
    made.add_argument(
        "--root", required=True, type=Path, metavar="DIR", help="folder that the list's paths are relative to"
    )
    made.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="P.npz",
        help="gets paths (N,), points (N,K,2) in px of the original images, scores (N,K), in the order of the list",
    )
    made.add_argument("--model", metavar="NAME", help="teacher or student of a TSAL training (teacher)")
    made.add_argument(
        "--source", default="heatmap", choices=("heatmap", "centre", "fused"), help="detection source (%(default)s)"
    )
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")


def add_track(made: argparse.ArgumentParser) -> None:
    made.add_argument("video", type=Path, metavar="VIDEO")
    made.add_argument(
        "--weights", required=True, type=Path, metavar="W", help="a training's model.pt, such as <run>/semi/model.pt"
    )
    made.add_argument(
        "--out", required=True, type=Path, metavar="OUT.mp4", help="gets the video with faces, lines and dots"
    )
    made.add_argument("--csv", type=Path, metavar="OUT.csv", help="gets the numbers (beside OUT.mp4)")
    made.add_argument(
        "--model", metavar="NAME", help="teacher or student of a TSAL training, or both side by side (teacher)"
    )
    made.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="sigma of a Gaussian over time; it looks as far ahead as back, so it has no lag (0: points as detected)",
    )
    add_finder(made)
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")


def add_export(made: argparse.ArgumentParser) -> None:
    made.add_argument("--weights", required=True, type=Path, metavar="W", help="a training's model.pt")
    made.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="FILE.onnx, or FILE.pt2 for torch.export.load"
    )
    made.add_argument("--model", metavar="NAME", help="teacher or student of a semi-supervised training (teacher)")


def run_export(arguments: argparse.Namespace) -> None:
    from tsal.inference import export_model

    facts = export_model(arguments.weights, arguments.out, arguments.model)
    side = facts["input"]
    print(
        f"{arguments.out}: crops (N, 3, {side}, {side}) RGB in [0, 1] -> points (N, {facts['landmarks']}, 2) px of the "
        f"crop, scores (N, {facts['landmarks']}); a crop is square, {facts['box_scale']:g} x the longer side of the "
        "face's box"
    )


def run_predict(arguments: argparse.Namespace) -> None:
    from tsal.inference import predict_list

    found = predict_list(
        arguments.weights,
        arguments.list,
        arguments.root,
        arguments.out,
        model=arguments.model,
        source=arguments.source,
        device=arguments.device,
    )
    print(f"{arguments.out}: {len(found['paths'])} faces, {found['points'].shape[1]} points each")


def run_track(arguments: argparse.Namespace) -> None:
    from tsal.inference import track_video

    found = track_video(
        arguments.video,
        arguments.weights,
        arguments.out,
        model=arguments.model,
        smooth=arguments.smooth,
        csv_path=arguments.csv,
        boxes_file=arguments.boxes_file,
        min_face=arguments.min_face,
        device=arguments.device,
    )
    print(
        "".join(f"note: {line}\n" for line in found["notes"])
        + f"{found['out']}: {found['frames']} frames at {found['fps']:.6g} a second, faces: {found['faces']}\n"
        f"{found['csv']}: the numbers that are drawn"
    )
    for name, jitter in found["jitter"].items():
        smoothed = f", smoothed {100 * jitter['smoothed']:.2f} % (lag 0 ms)" if "smoothed" in jitter else ""
        print(f"jitter of the {name}: {100 * jitter['raw']:.2f} % of the face's size{smoothed}")
    print(f"{found['frames_per_second']:.1f} frames/s, all readings together ({found['seconds']:.1f} s)")
