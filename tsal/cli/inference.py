"""``python -m tsal predict`` and ``track``: a trained model on lists and videos."""

from __future__ import annotations

import argparse
from pathlib import Path

from tsal.cli.options import add_face_model, add_finder, make_finder

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
        "--steady",
        action="store_true",
        help="fuse each frame's points with those of the 3 frames before and after it, carried along the flow: no lag, "
        "and motion is not blurred",
    )
    made.add_argument(
        "--lag", type=int, metavar="N", help="with --steady: use only N later frames, as a stream shown N frames late"
    )
    made.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="sigma of a Gaussian over time; it looks as far ahead as back, so it has no lag (0: points as detected)",
    )
    add_finder(made)
    add_face_model(made)
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")


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
        "".join(f"note: {line}\n" for line in found["notes"])
        + f"{found['out']}: {found['frames']} frames at {found['fps']:.6g} a second, faces: {found['faces']}\n"
        f"{found['csv']}: the numbers that are drawn"
    )
    for name, jitter in found["jitter"].items():
        raw, *others = (f"{kind} {100 * value:.2f} %" for kind, value in jitter.items())
        print(f"jitter of the {name}: {', '.join([f'{raw} of the face', *others])} (lag {found['lag_ms']:.0f} ms)")
    print(f"{found['frames_per_second']:.1f} frames/s, all readings together ({found['seconds']:.1f} s)")
