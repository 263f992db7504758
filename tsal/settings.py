"""Every setting of a run, by section; the defaults are the profile ``demo``.

Each field says what it is for, and, where it has one, its role: ``machine`` settings change how a run goes and never
what comes out of it, ``measuring`` ones are not seen by training, ``unlabelled`` ones touch no labelled face. Lengths
called px are pixels of the network's input, *px at 96* those of an input of 96 px: the value is scaled with
``model.input``. :mod:`tsal.config` reads the files of ``configs/`` and overrides into them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal


def setting(
    default: Any, text: str, role: str = "", least: float = 0, most: float = math.inf, multiple_of: int = 1
) -> Any:
    """A field of a section: its default, one line that says what it is, its role, and, of numbers, its range."""
    facts = {"text": text, "role": role, "least": least, "most": most, "multiple_of": multiple_of}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class DataConfig:
    """Which faces. Lists are relative to ``root`` (its ``lists`` folder may be left out)."""

    name: str = setting(
        "rendered", "rendered: faces generated at run time; anything else: a folder with your own lists"
    )
    root: str = setting("", "folder of the lists; empty for rendered faces and for prepared datasets", "measuring")
    scheme: str = setting("68", "landmark scheme: a name of configs/schemes, or the path of a file")
    labelled: tuple[str, ...] = setting(("labelled.txt",), "training lists with labels")
    unlabelled: tuple[str, ...] = setting(("unlabelled.txt",), "training lists whose labels are not used", "unlabelled")
    evaluate: tuple[str, ...] = setting(("val.txt",), "lists to measure on", "measuring")
    audit_labels: tuple[str, ...] = setting(
        (), "lists with labels of unlabelled rows, to measure pseudo-labels; never trained on", "measuring"
    )
    consecutive: bool = setting(
        True,
        "frames of an unlabelled clip follow one another at video rate, so that a tracker can follow",
        "unlabelled",
    )
    sparse: tuple[str, ...] = setting(
        (),
        "evaluation lists without consecutive frames (jitter is not measured), even where data.consecutive is true",
        "measuring",
    )
    transductive: bool = setting(
        False, "unlabelled rows may be images or clips of the evaluation lists; results are marked so", "measuring"
    )
    normaliser: Literal["ocular", "pupil", "box", "face_size"] = setting(
        "ocular", "length that errors are divided by", "measuring"
    )
    cache_mb: int = setting(
        2000, "decoded crops kept in memory, MiB; and, on the device, as many of the flows of each tracker", "machine"
    )
    disk_cache_mb: int = setting(4000, "crops kept in data/cache for every run, MiB; 0: none", "machine")
    workers: int = setting(2, "threads that cut crops ahead of training", "machine", least=1)


@dataclass(frozen=True)
class RenderConfig:
    """Rendered faces, generated at run time."""

    labelled: int = setting(40, "labelled photographs", least=1)
    clips: int = setting(180, "unlabelled clips")
    validation: int = setting(40, "labelled evaluation clips; training and evaluation share no head", least=1)
    frames: int = setting(5, "frames of a clip", least=1)
    side: int = setting(128, "pixels of a frame", least=32)
    seed: int = setting(0, "seed of heads, scenes and motion")


@dataclass(frozen=True)
class ModelConfig:
    """The detector and its codecs."""

    size: Literal["light", "vgg16"] = setting(
        "light", "backbone: 1.45 M parameters, or the paper's VGG-16 with CPM stages"
    )
    width: float = setting(1.0, "the light detector's channels are multiplied by it", least=0.05)
    input: int = setting(96, "side of the square input, px; a multiple of 32", least=32, multiple_of=32)
    stages: int = setting(2, "heatmap stages", least=1)
    heatmap: Literal["distribution", "regression"] = setting(
        "distribution", "a softmax over the map, or values to regress"
    )
    heatmap_shape: Literal["gaussian", "laplacian"] = setting("gaussian", "shape of target heatmaps")
    sigma: float = setting(5.0, "standard deviation of target heatmaps, px", least=0.1)
    decode_radius: int = setting(0, "window of the local soft-argmax, cells; 0: the whole map")
    centre_candidates: int = setting(5, "top-N centres", least=1)
    vgg16_weights: str = setting("", "file of ImageNet weights with torchvision's names; relative: to the repository")
    weights: str = setting(
        "", "trained detector that the init starts from: face68, or the path of a run's model.pt; empty: random weights"
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Training views. Ranges are uniform. Geometry is drawn once a clip, everything else once an image."""

    box_scale: float = setting(1.35, "side of the crop over the longer side of the box", least=0.1)
    scale: float = setting(0.15, "1 +- scale", most=0.9)
    rotation: float = setting(30.0, "+- degrees")
    shift: float = setting(0.08, "+- share of the crop's side")
    flip: float = setting(0.5, "probability of a mirror image", most=1)
    colour: float = setting(0.3, "strength of brightness, contrast and channel gains")
    grey: float = setting(0.15, "probability of a grey image", most=1)
    blur: float = setting(0.2, "probability of blur", most=1)
    noise: float = setting(0.03, "largest standard deviation, in [0, 1] intensities")
    occlude: float = setting(0.5, "probability of a patch over the student's view", "unlabelled", most=1)
    weak_geometry: float = setting(0.3, "share of scale, rotation and shift that the target's view gets", "unlabelled")
    strong_geometry: float = setting(
        1.0, "share of them that the student's view of an unlabelled face gets", "unlabelled"
    )
    shape_transfer: float = setting(
        0.0, "probability that a labelled face moves part of the way to the shape of another one of its step", most=1
    )
    aligned_mixup: float = setting(
        0.0, "largest share of another labelled face mixed into a labelled one, landmark on landmark", most=1
    )


@dataclass(frozen=True)
class SupervisedConfig:
    """The supervised init: labels alone, from random weights or ``model.weights``."""

    steps: int = setting(800, "optimiser steps")
    batch: int = setting(32, "labelled faces a step", least=1)
    lr: float = setting(2e-3, "largest learning rate")


@dataclass(frozen=True)
class SemiConfig:
    """What every method gets after the init, supervised-only too: equal steps, equal faces."""

    steps: int = setting(600, "optimiser steps")
    rival: str = setting(
        "mean-teacher-corrected",
        "method that a run trains too, to compare with: same init, same steps; empty: none",
        "machine",
    )
    batch: int = setting(16, "labelled faces a step", least=1)
    lr: float = setting(2e-3, "largest learning rate of the student")
    clips: int = setting(5, "unlabelled clips a step", "unlabelled")
    images: int = setting(24, "unlabelled single images a step; at most a tenth of those in the lists", "unlabelled")
    frames: int = setting(5, "frames of a clip in a step (T)", "unlabelled", least=1)
    unlabelled_weight: float = setting(1.0, "weight of the unlabelled losses after the ramp-up", "unlabelled")
    ema_decay: float = setting(
        0.98, "teacher <- decay * teacher + (1 - decay) * student, after each step", "unlabelled", most=1
    )


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser and losses of every training of a detector."""

    epochs: int = setting(0, "if positive, init and further steps are epochs x their batches of the labelled rows")
    optimiser: Literal["adamw", "sgd"] = setting("adamw", "SGD has Nesterov momentum")
    schedule: Literal["cosine", "steps", "constant"] = setting(
        "cosine", "fall of the learning rate: to 0 along a cosine; halved at 90, 110 and 130 of 150 parts; none"
    )
    warmup: float = setting(0.05, "share of the run with a rising rate", most=1)
    momentum: float = setting(0.9, "momentum of SGD", most=1)
    weight_decay: float = setting(1e-4, "decay of weights; biases have none")
    bias_lr: float = setting(1.0, "rate of biases, times lr")
    stage_lr: float = setting(1.0, "rate of the heatmap stages, times lr")
    clip_norm: float = setting(5.0, "largest norm of the gradient; 0: off")
    heatmap_weight: float = setting(2.5, "cross-entropy of a distribution, or MSE of values")
    point_weight: float = setting(1.0, "smooth-L1 of soft-argmax points, px")
    centre_weight: float = setting(1.0, "focal loss of the centre heatmap")
    offset_weight: float = setting(3.0, "L1 of offsets, in cells")
    offset_radius: int = setting(1, "cells around the centre cell that also learn their offsets; 0: as in the paper")
    checkpoint_every: int = setting(100, "steps between two checkpoints", "machine", least=1)
    snapshots: int = setting(
        4,
        "number of equal parts of the semi-supervised training; models are saved after each, for notebook 04",
        "machine",
    )
    on_nonfinite: Literal["stop", "skip"] = setting(
        "stop", "at a loss or gradient that is NaN or infinite: stop the training, or skip the step", "machine"
    )
    on_alarm: Literal["tell", "stop"] = setting(
        "tell", "when the teacher collapses or targets have no weight for 50 steps: print it, or stop", "machine"
    )
    amp: Literal["auto", "none", "bf16"] = setting("auto", "auto: bfloat16 where the processor has it in hardware")
    device: str = setting("auto", "auto: cuda where there is one", "machine")


@dataclass(frozen=True)
class TrackerConfig:
    """The optical-flow network and its own stage."""

    channels: tuple[int, ...] = setting((12, 24, 32, 48, 64), "channels of the feature pyramid's levels", least=1)
    search: int = setting(3, "cells around each cell that it is compared with, at every level", least=1)
    finest: int = setting(1, "level of the finest estimated flow, at stride 2^finest")
    iterations: tuple[int, ...] = setting(
        (1, 2, 2, 1), "refinements of the flow at each level, finest first; coarser levels have the last number"
    )
    width: int = setting(32, "channels of the flow estimator", least=4)
    flow: Literal["learned", "lucas-kanade"] = setting(
        "learned", "flow of the tracking sources; lucas-kanade needs no network"
    )
    init: str = setting("tsal/weights/tracker.pt", "trained tracker to start from, in the repository; empty: none")
    synthetic_steps: int = setting(
        0, "steps on pairs with exact flow; a tracker without init needs about 1500 at tracker.lr=4e-3"
    )
    rendered_share: float = setting(
        0.0, "share of the synthetic pairs that are rendered clips; the others are warps of own frames", most=1
    )
    apart: int = setting(8, "frames that the two of a rendered pair are apart, at most", least=1)
    video_steps: int = setting(50, "steps on pairs of real frames, without labels")
    tune_steps: int = setting(
        0,
        "steps on real pairs with detection consistency by the init's detector; only if the method uses learned flow",
    )
    batch: int = setting(8, "pairs a step", least=1)
    lr: float = setting(1e-3, "learning rate on pairs with exact flow")
    video_lr: float = setting(2e-5, "learning rate on pairs of real frames; larger ones made the tracker worse")
    occlusion_after: float = setting(0.2, "share of the video steps after which occluded pixels are left out", most=1)
    census_weight: float = setting(1.0, "weight of the photometric (census) loss")
    smooth_weight: float = setting(0.5, "weight of edge-aware smoothness")
    consistency_weight: float = setting(
        1.0,
        "weight of detection consistency; at 1 its gradient is 0.2 times the census term's, for regression maps 1.7",
    )


@dataclass(frozen=True)
class TsalConfig:
    """A method: what the student and the teacher learn from. The files of ``configs/methods`` write every one of these
    out.
    """

    inits: Literal[1, 2] = setting(
        1, "one supervised init for both models, or one for each, with different seeds of weights and batches"
    )
    trackers: Literal["shared", "own"] = setting(
        "shared", "one tracker for both models, or one for each (where tracker.tune_steps is above 0)"
    )
    sources: tuple[str, ...] = setting(
        ("heatmap", "centre", "propagated"), "sources that are fused into the student's targets"
    )
    tracking: Literal["consecutive", "any"] = setting(
        "consecutive", "where tracking sources are used: on consecutive frames (data.consecutive), or on any clip"
    )
    heatmap_share: float = setting(
        0.9, "mu: weight of heatmap sources in the fusion; that of centre sources is 1 - mu", most=1
    )
    targets_from: Literal["self", "teacher"] = setting("teacher", "whose sources the student learns from")
    student_loss: Literal["points", "full"] = setting(
        "full", "points of the heatmap source, or the whole supervised loss"
    )
    teacher_consistency: bool = setting(
        False, "the teacher's heatmaps on a frame agree with those on its reconstruction (needs teacher_lr > 0)"
    )
    teacher_lr: float = setting(
        0.1, "the teacher's learning rate as a share of the student's; 0: the teacher changes by averaging alone"
    )
    student_init: Literal["init", "random"] = setting("init", "the student's first weights")
    labels_after: float = setting(
        0.0, "share of the run after which the student learns labels; before, it learns pseudo-labels alone", most=1
    )
    ema_direction: Literal["student_to_teacher", "mutual", "none"] = setting(
        "student_to_teacher", "direction of the averaging"
    )
    bn_stats: Literal["own", "average"] = setting(
        "own", "batch statistics: each model's own, or averaged like the weights"
    )
    sic_weight: float = setting(
        30.0, "weight of the facial structure invariance; the paper's 0.01 is too small to have an effect"
    )
    fallback: bool = setting(True, "a landmark without a valid tracking source takes the sources of the frame itself")
    ramp_up: float = setting(0.1, "share of the run in which the unlabelled losses rise", most=1)
    ramp_down: float = setting(0.9, "share of the run after which the unlabelled losses fall", most=1)
    max_fb_error: float = setting(
        0.5,
        "tracked_heatmap, tracked_centre: forward-backward error (px at 96) above which a point is left out; 0: never",
    )
    window: int = setting(
        3,
        "R: source propagated is made of the points of at most R frames before and after (at most semi.frames - 1)",
        least=1,
    )
    vote_error: float = setting(
        1.0, "px at 96; vote of a carried point: exp(-(forward-backward error / this)^2) * visibility * trust; 0: trust"
    )
    trust: float = setting(
        2.0, "px at 96; trust in a point: 1 / (1 + (distance of heatmap and centre source / this)^2); 0: all are 1"
    )
    agreement_weight: float = setting(
        1.0, "weight of the student's agreement with its own points on neighbouring frames, carried by the flow"
    )
    drift_correction: bool = setting(
        True, "subtract the running mean of the offset between targets and the student's points"
    )
