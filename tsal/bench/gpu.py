"""What one GPU does with this code: the paper's step, its share of the matrix rate, precision, a real training.

One command, at most eight minutes; each row is kept in the JSON file as soon as it is known, a failure as a row
that says why. Weights and images are random unless ``--realdata`` names faces: speed does not depend on them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tsal.bench.gpu_step import TINY, paper_step
from tsal.bench.gpu_training import measure_training
from tsal.bench.report import Device, Report
from tsal.config import Config
from tsal.data import to_float
from tsal.model import Detector
from tsal.pseudo import detection_sources
from tsal.schemes import get_scheme
from tsal.tracker import initial_tracker, track_frames, track_points
from tsal.utils import InputError, describe_environment

PRECISIONS = ("bf16", "fp32")
SYNTHETIC_LIMIT = 130.0  # seconds, after which no row is begun or goes on but the training's
LAYOUTS = ("plain", "channels-last", "channels-last, flows kept", "compiled, flows kept")
KEPT_MB = 4000  # for the flows of a step, which training keeps too


def measure_step(report: Report, device: Device, config: Config, layouts: Sequence[str], limit: float, backend: str):
    """``limit``: seconds for all rows together, past which they are skipped."""
    end = min(report.elapsed + limit, report.until)

    def job(precision: str, layout: str) -> dict:
        device.fresh()
        torch.compiler.reset()
        amp = {"train.amp": "bf16" if precision == "bf16" else "none"}
        how, _, kept = layout.partition(", ")
        step, frames = paper_step(config.override(amp), device.device, how, backend, kept_mb=KEPT_MB if kept else 0)
        took = report.elapsed
        step()
        device.wait()
        took, seconds = report.elapsed - took, device.seconds(step)
        note = f"{frames} frames in {seconds:.3f} s; the first step took {took:.1f} s"
        return {"value": frames / seconds, "unit": "frames/s", "peak GB": device.peak(), "note": note}

    for layout in layouts:
        for precision in precisions(backend):
            what, setting = f"TSAL step, {config.model.size} {config.model.input} px", f"{precision}, {layout}"
            left = end - report.elapsed
            if left < min(10.0, limit / 2) or limit <= 0:
                report.add(what, setting, note="failed: no time left for it")
            else:
                report.attempt(what, setting, lambda p=precision, a=layout: job(p, a), left)


def precisions(backend: str) -> tuple[str, ...]:
    """Compiling takes long: one precision of what is compiled."""
    return PRECISIONS[:1] if backend else PRECISIONS


# --- rates ---


def measure_matrices(report: Report, device: Device, side: int) -> dict[str, float]:
    """FLOP/s of a product of two square matrices, by precision."""
    rates = {}

    def job(name: str) -> dict:
        kind = torch.bfloat16 if name == "bf16" else torch.float32
        first, second = (torch.randn((side, side), device=device.device, dtype=kind) for _ in range(2))
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if name == "TF32" else before)
        try:
            rates[name] = 2 * side**3 / device.seconds(lambda: first @ second)
        finally:
            torch.set_float32_matmul_precision(before)
        return {"value": rates[name] / 1e12, "unit": "TFLOP/s", "note": f"{side} x {side}"}

    for name in ("bf16", "fp32", "TF32"):
        report.attempt("matrix product", name, lambda name=name: job(name))
    return rates


def measure_passes(
    report: Report, device: Device, config: Config, count: int, rates: dict[str, float], backend: str = ""
) -> None:
    """The paper's detector alone, compiled where a backend is named: how much of the matrix rate its passes reach."""
    tf32 = device.cuda and torch.backends.cudnn.allow_tf32  # torch's default for convolutions, not for matrices

    def job(precision: str, backward: bool) -> dict:
        device.fresh()
        detector = Detector(get_scheme(config.data.scheme).points, config.model)
        detector = detector.to(device.device, memory_format=torch.channels_last)
        images = torch.rand((count, 3, config.model.input, config.model.input), device=device.device)
        images = images.contiguous(memory_format=torch.channels_last)

        def run() -> None:
            with torch.set_grad_enabled(backward), device.precision(precision):
                detection = detector(images)
            if backward:
                detector.zero_grad(set_to_none=True)
                sum(maps.float().mean() for maps in (*detection.stages, detection.centre, detection.offsets)).backward()

        with FlopCounterMode(display=False) as counter:
            run()
        if backend:
            torch.compiler.reset()
            detector.compile(backend=backend, dynamic=False)
        flops, seconds = counter.get_total_flops(), device.seconds(run)
        limit = "bf16" if precision == "bf16" else "TF32" if tf32 else "fp32"
        note = f"{count} images, {flops / count / 1e9:.1f} GFLOP each, in {1e3 * seconds:.1f} ms; share of {limit}"
        share = flops / seconds / rates[limit] if limit in rates else None
        return {
            "value": flops / seconds / 1e12,
            "unit": "TFLOP/s",
            "share": share,
            "peak GB": device.peak(),
            "note": note,
        }

    for precision in precisions(backend):
        for name in ("forward", "forward and backward"):
            what, backward = f"{config.model.size} detector, {name}", name != "forward"
            what += ", compiled" if backend else ""
            report.attempt(what, precision, lambda p=precision, b=backward: job(p, b))


# --- precision ---


def texture(count: int, side: int, seed: int) -> Tensor:
    """Smooth random images (N, 3, S, S) in [0, 1]."""
    coarse = torch.rand((count, 3, side // 8, side // 8), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True).clamp(0, 1)


def small_networks(config: Config) -> dict[str, tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]]:
    """A light detector and the tracker, float64 on the CPU, each with how points (N, K, 2) come from images."""
    scheme, side = get_scheme(config.data.scheme), config.model.input
    torch.manual_seed(0)
    detector, tracker = Detector(scheme.points, config.model).double().eval(), initial_tracker(config).double().eval()
    with torch.no_grad():  # peaks, as of a trained one: of flat maps every point is the middle
        last = detector.stages[-1][-1]
        last.weight.mul_(5 / detector(texture(4, side, 0).double()).stages[-1].std())
    points = side * (0.15 + 0.7 * torch.rand((4, scheme.points, 2)))

    def track(network: nn.Module, images: Tensor) -> Tensor:
        flows = track_frames(network, images, images.roll((2, -1), (-1, -2)))
        return track_points(points.to(images), *(flow[:, :2].to(images.dtype) for flow in flows)).points

    return {"light detector": (detector, lambda net, images: net.heatmap(net(images))[0]), "tracker": (tracker, track)}


def measure_agreement(report: Report, device: Device, config: Config) -> None:
    """Points of the device's float32 (with TF32 convolutions or without) and bfloat16 against the CPU's float64."""
    images = texture(4, config.model.input, 1)
    before = torch.backends.cudnn.allow_tf32
    for name, (network, read) in small_networks(config).items():
        with torch.no_grad(), patch.object(torch.Tensor, "float", torch.Tensor.double):  # where the code leaves bf16
            truth = read(network, images.double())
        moved = network.float().to(device.device)

        def job(precision: str, read=read, truth=truth, moved=moved) -> dict:
            torch.backends.cudnn.allow_tf32 = before and precision != "fp32, no TF32"
            try:
                with torch.no_grad(), device.precision(precision):
                    points = read(moved, images.to(device.device))
            finally:
                torch.backends.cudnn.allow_tf32 = before
            error = (points.double().cpu() - truth).norm(dim=-1)
            note = f"largest of {error.numel()} points, median {error.median():.2g}"
            return {"value": error.max().item(), "unit": "px from float64", "note": note}

        for precision in ("fp32, no TF32", "fp32", "bf16"):
            report.attempt(f"{name}, points", precision, lambda p=precision, job=job: job(p))


def measure_predict(report: Report, device: Device, config: Config) -> None:
    """Faces a second from crops in memory to points in memory, as evaluation reads them."""
    detector = Detector(get_scheme(config.data.scheme).points, config.model).to(device.device).eval()

    @torch.no_grad()
    def predict(images: Tensor) -> Tensor:
        detection = detector(to_float(images.to(device.device)))
        return detection_sources(detector, detection)["heatmap"].points.cpu()

    for count in (1, 8, 64, 256):
        crops = (255 * texture(count, config.model.input, 2)).byte()
        job = lambda crops=crops: len(crops) / device.seconds(lambda: predict(crops))  # noqa: E731
        report.attempt("light detector, predict", f"batch {count}", lambda j=job: {"value": j(), "unit": "faces/s"})


# --- all of it ---


def bench_gpu(
    out: Path,
    *,
    device: str = "auto",
    quick: bool = False,
    realdata: Path | None = None,
    runs: Path | None = None,
    train_s: float = 330,
    compile_s: float = 0,
) -> list[dict]:
    """Rows of :class:`tsal.bench.report.Report`, which are kept in ``out``.

    Args:
        realdata: real faces, to train on for ``train_s`` seconds at most, last of all; None: no training.
        runs: where that training's runs stay; None: nowhere.
        compile_s: seconds for steps of compiled detectors; 0: none.
    """
    place = Device(device, quick)
    if place.cuda and not torch.cuda.is_available():
        raise InputError("--device: this machine has no CUDA GPU that torch can use; use cpu")
    facts = describe_environment() | {"cpus": os.cpu_count(), "device": str(place.device), "quick": quick}
    facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    facts |= {"TF32 convolutions": torch.backends.cudnn.allow_tf32, "matmul": torch.get_float32_matmul_precision()}
    if place.cuda:
        facts["gpu GB"] = torch.cuda.get_device_properties(place.device).total_memory / 2**30
    paper = Config.resolve("paper", method="tsal-paper", overrides=TINY if quick else ())
    small = Config.resolve("demo", overrides=["model.input=64"] if quick else ())
    report = Report(out, facts, SYNTHETIC_LIMIT)
    frames = paper.semi.batch + paper.semi.clips * paper.semi.frames + paper.semi.images
    rates = measure_matrices(report, place, 256 if quick else 8192)
    measure_passes(report, place, paper, frames, rates)
    measure_agreement(report, place, small)
    measure_predict(report, place, small)
    measure_step(report, place, paper, LAYOUTS[:3], SYNTHETIC_LIMIT, "")
    if compile_s > 0:
        backend, report.until = "aot_eager" if quick else "inductor", report.elapsed + compile_s
        measure_passes(report, place, paper, frames, rates, backend)
        measure_step(report, place, paper, LAYOUTS[3:], compile_s, backend)
    place.fresh()
    if realdata and not quick:
        with tempfile.TemporaryDirectory() as folder:
            measure_training(report, realdata, runs or Path(folder), place.device.type, train_s)
    return report.rows
