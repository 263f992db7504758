"""The tracker's training, without labels: pairs with exact flow, then pairs of real frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tsal.config import Config
from tsal.data import Batch, BatchMaker, PointPairs, to_float
from tsal.loop import fit, is_done, record_time, seed_everything
from tsal.model import Detector
from tsal.optimiser import rate_at, step_optimiser
from tsal.run import Run
from tsal.tracker.frozen import FrozenTracker
from tsal.tracker.losses import FlowWeights, endpoint_error, point_loss, supervised_flow_loss, unsupervised_flow_loss
from tsal.tracker.lucas_kanade import LucasKanade
from tsal.tracker.network import FlowNet, both_directions
from tsal.tracker.points import leaves_frame, occlusion_mask
from tsal.tracker.warped_pairs import photometric_change, synthetic_pair
from tsal.utils import (
    ConfigError,
    InputError,
    half_precision,
    load_checkpoint,
    rank,
    save_checkpoint,
    wait_for_all,
    weights_file,
)

PAIRS = 17  # added to the seed of weights
# settings of the tracker that do not decide its training before it is tuned
UNTUNED = frozenset({"tracker.flow", "tracker.tune_steps", "tracker.consistency_weight"})


def synthetic_flow_loss(
    net: nn.Module, first: Tensor, second: Tensor, truth: Tensor, valid: Tensor, weights: FlowWeights = FlowWeights()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a step on pairs whose flow is known, and its detached parts.

    Args:
        first, second: frames (N, 3, H, W) in [0, 1].
        truth: flow first -> second (N, 2, H, W) px.
        valid: (N, H, W) bool, where it counts.
    """
    estimate = net(first, second)
    loss = supervised_flow_loss(estimate, truth, valid, weights)
    return loss, {"endpoint_error": endpoint_error(estimate.flows[0].detach(), truth, valid)}


def point_pairs_loss(
    net: nn.Module, first: Tensor, second: Tensor, pairs: PointPairs, weights: FlowWeights = FlowWeights()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a step on pairs with known points, in both directions, and its detached parts.

    Args:
        first, second: the frames of ``pairs`` (P, 3, S, S) in [0, 1], in whatever light.
    """
    points, moved = torch.cat([pairs.points, pairs.moved]), torch.cat([pairs.moved, pairs.points])
    here = torch.cat([pairs.seen_first, pairs.seen_second])
    there = torch.cat([pairs.seen_second, pairs.seen_first])
    return point_loss(net(first, second, both=True), points, moved, here, there, weights)


def video_loss(
    net: nn.Module,
    first: Tensor,
    second: Tensor,
    weights: FlowWeights = FlowWeights(),
    *,
    use_occlusion: bool = True,
    detect: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a step on neighbouring frames (N, 3, H, W) in [0, 1], which needs no labels, and its detached parts.

    Args:
        use_occlusion: leave occluded pixels out of the photometric term; off during a warm-up, while the flow is too
            poor to detect them. Pixels that leave the frame are always left out.
        detect: frozen detector in eval mode, images -> heatmaps (N, K, h, w), for the detection consistency.
    """
    forward, backward = (finest for finest, *_ in both_directions(net, first, second))
    if use_occlusion:
        hidden_first, hidden_second = occlusion_mask(forward, backward), occlusion_mask(backward, forward)
    else:
        hidden_first, hidden_second = leaves_frame(forward.detach()), leaves_frame(backward.detach())
    loss, terms = unsupervised_flow_loss(
        first, second, forward, backward, ~hidden_first, ~hidden_second, weights, detect
    )
    return loss, terms | {"occluded": hidden_first.float().mean()}


# --- files ---


def make_tracker(config: Config) -> FlowNet:
    settings = config.tracker
    try:
        return FlowNet(settings.channels, settings.search, settings.finest, settings.width, settings.iterations)
    except ValueError as error:
        raise ConfigError(f"tracker.{error}") from error


def initial_tracker(config: Config) -> FlowNet:
    """The tracker that training starts from: ``tracker.init``, or an untrained one."""
    tracker, path = make_tracker(config), weights_file(config.tracker.init)
    if path:
        content = load_checkpoint(path, what="tracker (tracker.init)")
        try:
            tracker.load_state_dict(content["tracker"])
        except (KeyError, RuntimeError):
            raise ConfigError(
                f"tracker.init={path}: holds no tracker of these channels, search, finest and width; set "
                'tracker.init="" to train one from scratch'
            ) from None
    return tracker


def load_tracker(path: Path, config: Config, device: torch.device) -> FlowNet:
    """A trained tracker of a run, frozen.

    Raises:
        InputError: there is none, or one of other settings (``tracker.*``).
    """
    tracker, folder = make_tracker(config), path.parent
    own = folder.name == "tracker"  # else it was tuned: <run>/semi/tracker-teacher
    stage, run = ("tracker", folder.parent) if own else ("train", folder.parent.parent)
    if not path.exists():
        raise InputError(f"{path}: not trained yet; run 'python -m tsal {stage} --run {run}'")
    try:
        tracker.load_state_dict(load_checkpoint(path, device)["tracker"])
    except (KeyError, RuntimeError):
        raise InputError(
            f"{path}: holds no tracker of the run's channels, search, finest and width; run 'python -m tsal {stage} "
            f"--run {run}'"
        ) from None
    return tracker.to(device).eval().requires_grad_(False)


def open_tracker(run: Run) -> nn.Module:
    """What the tracking sources' flow comes from."""
    if run.config.tracker.flow == "lucas-kanade":
        return LucasKanade()
    return load_tracker(run.folder / "tracker" / "model.pt", run.config, run.device)


def tuned_trackers(run: Run) -> list[Path]:
    """Files of the trackers that were tuned with a detector: none, one for both, or the student's, the teacher's."""
    return sorted((run.folder / "semi").glob("tracker-*/model.pt"))


def freeze_tracker(run: Run, net: nn.Module) -> FrozenTracker:
    """A tracker that keeps its flows in memory and beside the run's crops on disk."""
    amp = "none" if isinstance(net, LucasKanade) else run.config.train.amp  # gradients of images need all digits
    return FrozenTracker(net, run.config.data.cache_mb, run.store.disk, amp)


def final_trackers(run: Run, device: torch.device | None = None) -> dict[str, FrozenTracker]:
    """The trackers that "teacher" and "student" were trained with: one twice, unless each tuned its own."""
    device = device or run.device
    nets = [load_tracker(path, run.config, device) for path in tuned_trackers(run)] or [open_tracker(run).to(device)]
    trackers = [freeze_tracker(run, net) for net in nets]
    return {"teacher": trackers[-1], "student": trackers[0]}


def measuring_tracker(run: Run) -> FrozenTracker | None:
    """The run's own tracker, whatever the method takes its flow from; None where frames do not follow one another."""
    if not run.config.data.consecutive:
        return None
    # without a place on disk: these flows are asked for once, and would crowd out those of training
    net = load_tracker(run.folder / "tracker" / "model.pt", run.config, run.device)
    return FrozenTracker(net, amp=run.config.train.amp)


def _finish(folder: Path, **content) -> None:
    """Keep the result; what resuming needed is no longer needed. Of several processes, the first writes."""
    if rank() == 0:
        save_checkpoint(folder / "model.pt", content)
        (folder / "last.pt").unlink(missing_ok=True)
    wait_for_all()


# --- trainings ---


def train_tracker(run: Run, rendered: Callable[[int], PointPairs] | None = None, origin: dict | None = None) -> FlowNet:
    """The tracker of a run: pairs with exact flow (``tracker.synthetic_steps``), then pairs of real frames; no labels
    at all. Without clips it stays the initial one.

    Args:
        rendered: makes the rendered pairs of a step, of which ``tracker.rendered_share`` are trained on.
        origin: what decides ``rendered``; a tracker that was made from another one is trained anew.
    """
    config, folder, settings = run.config, run.folder / "tracker", run.config.tracker
    parts = "model.input", "augment", "train.warmup", "train.amp", "tracker"  # of train, what its steps look at
    fingerprint = run.fingerprint(*parts, without=UNTUNED) | {"rendered": origin}
    if not is_done(folder / "model.pt", fingerprint):
        run.refuse_changed("tracker.init")
        seed_everything(config.seed)
        if not run.clips:  # photographs alone: no motion to learn, and nothing that is learned from it
            settings = dataclasses.replace(settings, synthetic_steps=0, video_steps=0)
        tracker, seconds = initial_tracker(config).to(run.device), 0.0
        if settings.synthetic_steps:
            seconds += _fit_synthetic(run, tracker, folder / "synthetic", rendered, fingerprint)
        if settings.video_steps:
            seconds += _fit_video(run, tracker, folder, "tracker", settings.video_steps, fingerprint)
        record_time(folder, settings.synthetic_steps + settings.video_steps, seconds)
        (folder / "metrics.json").unlink(missing_ok=True)  # of a former tracker: stage tracker is not done
        _finish(folder, tracker=tracker.state_dict(), fingerprint=fingerprint, config=config.to_dict())
    return load_tracker(folder / "model.pt", config, run.device)


def tune_tracker(run: Run, tracker: FlowNet, detector: Detector, folder: Path, fingerprint: dict) -> FlowNet:
    """Further steps on real pairs with a frozen detector, whose heatmaps must agree on warped and real frames."""
    config = run.config
    tracker.requires_grad_(True)
    detector = detector.eval().requires_grad_(False)
    steps = config.tracker.tune_steps
    seconds = _fit_video(
        run, tracker, folder, "tune tracker", steps, fingerprint, detect=lambda images: detector.maps(detector(images))
    )
    detector.requires_grad_(True)
    if rank() == 0:
        record_time(folder, steps, seconds)
    _finish(folder, tracker=tracker.state_dict(), fingerprint=fingerprint, config=config.to_dict())
    return load_tracker(folder / "model.pt", config, run.device)  # of several processes, all have the first one's


def _pairs(run: Run) -> BatchMaker:
    """Pairs of neighbouring frames of the unlabelled clips."""
    sizes = (0, run.config.tracker.batch, 0)
    return BatchMaker(
        run.store, [], run.clips, [], run.config.augment, seed=run.config.seed + PAIRS, sizes=sizes, frames=2
    )


def _fit(
    run: Run,
    tracker: FlowNet,
    folder: Path,
    label: str,
    steps: int,
    lr: float,
    make_batch: Callable[[int], Batch | PointPairs],
    loss_of: Callable[[Batch | PointPairs, float], tuple[Tensor, dict[str, Tensor]]],
    fingerprint: dict,
) -> float:
    """Steps by a cosine from ``lr``; returns their seconds."""
    config = run.config
    optimiser = torch.optim.AdamW(tracker.parameters(), lr=lr, weight_decay=1e-4)
    for group in optimiser.param_groups:
        group["base_lr"] = lr
    schedule = dataclasses.replace(config.train, schedule="cosine")

    def step(batch: Batch | PointPairs, fraction: float) -> dict[str, Tensor]:
        loss, terms = loss_of(batch, fraction)
        step_optimiser(optimiser, tracker, loss, rate_at(fraction, schedule), 1.0)
        return {"loss": loss.detach(), **terms}

    tracker.train()
    state = {"tracker": tracker, "optimiser": optimiser}
    options = {"fingerprint": fingerprint, "config": config, "device": run.device}
    _, seconds = fit(
        folder, label=label, steps=steps, make_batch=make_batch, step_function=step, state=state, **options
    )
    return seconds


def _weights(config: Config) -> FlowWeights:
    settings = config.tracker
    return FlowWeights(
        census=settings.census_weight, smoothness=settings.smooth_weight, consistency=settings.consistency_weight
    )


def _fit_synthetic(
    run: Run, tracker: FlowNet, folder: Path, rendered: Callable[[int], PointPairs] | None, fingerprint: dict
) -> float:
    """Pairs whose motion is known: rendered ones, by their points, and warps of single frames; done once, kept in
    ``folder``.
    """
    if is_done(folder / "model.pt", fingerprint):
        content = load_checkpoint(folder / "model.pt", run.device)
        tracker.load_state_dict(content["tracker"])
        return content["seconds"]
    settings, weights, warped = run.config.tracker, _weights(run.config), _pairs(run)
    share = settings.rendered_share if rendered else 0.0

    def make_batch(step: int) -> Batch | PointPairs:
        # spread evenly: a step is rendered where its share of the steps so far grows by one
        return rendered(step) if int((step + 1) * share) > int(step * share) else warped(step)

    def loss_of(batch: Batch | PointPairs, _: float) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator(run.device).manual_seed(batch.seed)
        if isinstance(batch, PointPairs):
            first, second = (photometric_change(to_float(frames), generator) for frames in (batch.first, batch.second))
            with half_precision(run.config.train.amp, run.device):
                return point_pairs_loss(tracker, first, second, batch, weights)
        pair = synthetic_pair(to_float(batch.weak[batch.previous]), generator)
        with half_precision(run.config.train.amp, run.device):
            loss, terms = synthetic_flow_loss(tracker, *pair, weights)
        return loss, terms | {"seen": torch.full_like(loss.detach(), torch.nan)}  # not known of a warp

    label, steps = "tracker, exact flow", settings.synthetic_steps
    seconds = _fit(run, tracker, folder, label, steps, settings.lr, make_batch, loss_of, fingerprint)
    _finish(folder, tracker=tracker.state_dict(), fingerprint=fingerprint, seconds=seconds)
    return seconds


def _fit_video(
    run: Run,
    tracker: FlowNet,
    folder: Path,
    label: str,
    steps: int,
    fingerprint: dict,
    detect: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Pairs of real frames, by how well one explains the other; with ``detect``, by the detector's heatmaps too."""
    settings, weights = run.config.tracker, _weights(run.config)

    def loss_of(batch: Batch, fraction: float) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = (to_float(batch.weak[of]) for of in (batch.previous, batch.following))
        masked = fraction >= settings.occlusion_after
        return video_loss(tracker, first, second, weights, use_occlusion=masked, detect=detect)

    return _fit(run, tracker, folder, label, steps, settings.video_lr, _pairs(run), loss_of, fingerprint)
