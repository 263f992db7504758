"""One frozen dataclass holds every setting of a run.

``Config.load`` starts from a profile (``configs/<profile>.yaml``) or from a run's ``config.json`` and applies overrides
such as ``"train.steps=2000"``. A name that does not exist or a value of a wrong type is a :class:`ConfigError` that
names the nearest valid one. Lengths called px are pixels of the network's input.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tsal.utils import CONFIG_FOLDER, ConfigError, write_text


@dataclass(frozen=True)
class DataConfig:
    """Which faces. Lists are relative to ``root`` (its ``lists`` folder may be left out)."""

    name: str = "rendered"  # "rendered": the embedded faces; anything else: a folder with lists of one's own
    root: str = ""  # "" for rendered: data/prepared/rendered-<profile>-<hash of render>
    scheme: str = "68"
    labelled: tuple[str, ...] = ("labelled.txt",)
    unlabelled: tuple[str, ...] = ("unlabelled.txt",)
    evaluate: tuple[str, ...] = ("val.txt",)
    truth: tuple[str, ...] = ()  # labels of unlabelled rows, for measuring pseudo-labels only; never trained on
    transductive: bool = (
        False  # unlabelled rows may be pictures or clips of the evaluation lists; marked in every result
    )
    normaliser: Literal["ocular", "pupil", "box", "face_size"] = "ocular"
    cache_mb: int = 2000  # decoded crops kept in memory
    disk_cache_mb: int = 4000  # and in data/cache, for every run on this machine; 0: none
    workers: int = 2  # threads that cut crops ahead of training


@dataclass(frozen=True)
class RenderConfig:
    """The embedded rendered faces."""

    labelled: int = 40  # labelled photographs
    clips: int = 180  # unlabelled clips
    validation: int = 40  # labelled clips to measure on; all identities apart
    frames: int = 5  # frames of a clip
    side: int = 128  # pixels of a frame
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The detector."""

    size: Literal["light", "vgg16"] = "light"
    input: int = 96  # side of the square input, px
    stages: int = 2
    heatmap: Literal["distribution", "gaussian"] = "distribution"  # a softmax over the map, or values to regress
    decode_radius: int = 0  # local soft-argmax window in cells; 0: the whole map
    centre_candidates: int = 5  # top-N centres
    vgg16_weights: str = ""  # local file of ImageNet weights with torchvision's names


@dataclass(frozen=True)
class AugmentConfig:
    """Training views. Ranges are uniform; probabilities are per face (one draw a clip)."""

    expand: float = 1.35  # side of the crop over the longer side of the box
    scale: float = 0.15  # 1 +- scale
    rotation: float = 30.0  # +- degrees
    shift: float = 0.08  # +- share of the crop's side
    flip: float = 0.5
    colour: float = 0.3  # strength of brightness, contrast and channel gains
    grey: float = 0.15
    blur: float = 0.2
    noise: float = 0.03  # largest standard deviation, in [0, 1] intensities
    occlude: float = 0.5  # of the student's view
    weak: float = 0.3  # share of scale, rotation and shift that the target's view gets
    strong: float = 1.0  # and the student's view of an unlabelled face
    shapes: float = (
        0.0  # probability that a labelled face goes part of the way to the shape of another labelled one of its step
    )
    blend: float = 0.0  # largest share of another labelled face that shows through a labelled one, landmark on landmark
    sigma: float = 5.0  # of target heatmaps, px
    shape: Literal["gaussian", "laplacian"] = "gaussian"


UNLABELLED_VIEWS = ("weak", "strong", "occlude")  # settings of augment that no labelled face sees


@dataclass(frozen=True)
class TrainConfig:
    """Supervised training, and the optimiser of every stage of the detector."""

    steps: int = 800  # of the supervised start
    epochs: int = 0  # if positive, steps = epochs x batches of the labelled rows (start) and further = the same
    further: int = 600  # steps that every method gets after the start
    batch: int = 32  # labelled faces a step of the start
    further_batch: int = 16  # and of every method after it
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    further_lr: float = 2e-3
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    warmup: float = 0.05  # share of the run with a rising rate
    momentum: float = 0.9  # SGD, Nesterov
    weight_decay: float = 1e-4
    bias_lr: float = 1.0  # rate of biases, times lr
    stage_lr: float = 1.0  # rate of the heatmap stages, times lr
    clip_norm: float = 5.0  # 0: off
    heatmap_weight: float = 2.5  # cross-entropy of a distribution, or MSE of values
    point_weight: float = 1.0  # smooth-L1 of soft-argmax points, px
    centre_weight: float = 1.0
    offset_weight: float = 3.0  # L1 in cells
    offset_radius: int = 1  # cells around the centre cell that also learn their offsets; 0: as in the paper
    checkpoint_every: int = 100  # steps
    snapshots: int = 4  # TSAL's members are kept at so many even stages of its run, the last included, for the audit
    amp: Literal["auto", "none", "bf16"] = "auto"  # auto: bfloat16 where the processor has it in hardware
    device: str = "auto"  # auto: cuda where there is one


@dataclass(frozen=True)
class TrackerConfig:
    """The optical-flow network and its own stage."""

    channels: tuple[int, ...] = (12, 24, 32, 48, 64)
    search: int = 3  # cells around each cell, at every level
    finest: int = 1  # level of the finest estimated flow, at stride 2^finest
    width: int = 32  # of the flow estimator
    flow: Literal["learned", "lucas-kanade"] = "learned"  # of the tracking sources; the latter needs no network
    polish: int = 0  # Lucas-Kanade steps after the network: they help one that was trained for minutes
    start: str = (
        "tsal/weights/tracker.pt"  # a tracker that training goes on from, in the repository (make pretrain); "": none
    )
    synthetic_steps: int = 0  # on pairs with known flow; from scratch, 1500 at lr 4e-3 are of use
    rendered: float = 0.0  # share of them on the embedded rendered clips; the others are warps of the run's own frames
    video_steps: int = 50  # on real pairs, without labels
    tune_steps: int = 0  # on real pairs with the started detector: adds detection consistency
    batch: int = 8  # pairs a step
    lr: float = 1e-3
    video_lr: float = 2e-5  # of real pairs; a higher rate undoes what the known flow taught
    occlusion_from: float = 0.2  # share of the video steps after which occluded pixels are left out
    census_weight: float = 1.0
    smooth_weight: float = 0.5
    consistency_weight: float = 1.0


@dataclass(frozen=True)
class TsalConfig:
    """Teacher-Student Asynchronous Learning."""

    starts: Literal[1, 2] = 1  # one supervised start for both members, or two with different seeds
    trackers: Literal["shared", "own"] = "shared"
    clips: int = 12  # unlabelled clips a step
    photographs: int = 24  # unlabelled photographs a step; at most a tenth of those that there are
    frames: int = 2  # frames of a clip in a step (T)
    sources: tuple[str, ...] = (
        "heatmap",
        "centre",
        "tracked_heatmap",
        "tracked_centre",
    )  # fused into the student's target
    mirror: bool = True  # heatmap and centre sources of targets: the mean of a frame's and of its mirror image's
    mu: float = 0.8  # weight of heatmap sources in the fusion; centre sources have 1 - mu
    target_member: Literal["own", "teacher"] = "teacher"  # whose sources the student learns from
    student_loss: Literal["points", "full"] = "full"  # points of the heatmap source, or the whole supervised loss
    calm: bool = True  # the teacher's own one-source loss
    teacher_lr: float = (
        0.1  # the teacher's learning rate over the student's; 0: it has no loss, and changes by averaging alone
    )
    student_start: Literal["start", "fresh"] = (
        "start"  # the student's first weights: the supervised start's, or random ones
    )
    labels_from: float = 0.0  # share of the run after which the student sees labels; before, pseudo-labels alone
    alpha: float = 0.98  # teacher <- alpha teacher + (1 - alpha) student
    direction: Literal["student_to_teacher", "mutual", "none"] = "student_to_teacher"
    buffers: Literal["own", "average"] = "own"  # batch statistics: each member's own, or averaged like the weights
    sic_weight: float = 0.01
    fallback: bool = (
        True  # where tracking gives nothing (a photograph, a first frame, a gate), take the real frame's sources
    )
    weight: float = 1.0  # of the unlabelled losses at the ramp's top
    ramp_up: float = 0.1  # share of the run
    ramp_down: float = 0.9
    gate_flow: float = 0.0  # largest forward-backward error of a tracked point, px; 0: no gate
    correct_drift: bool = False  # move all targets by the mean shift between them and the student's points, which would add up step by step
    gate_agreement: float = 0.0  # scale of exp(-(|heatmap - centre| / scale)^2), px; 0: no weighting


@dataclass(frozen=True)
class Config:
    """Every setting of a run."""

    profile: str = "cpu"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    tsal: TsalConfig = field(default_factory=TsalConfig)

    @staticmethod
    def load(source: str | Path, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
        """Read a profile's name, a YAML or a JSON file, then apply ``overrides`` ("section.name=value", in order)."""
        path = Path(source)
        if path.suffix not in (".yaml", ".yml", ".json"):
            path = CONFIG_FOLDER / f"{source}.yaml"
            if not path.exists():
                names = sorted(p.stem for p in CONFIG_FOLDER.glob("*.yaml"))
                raise ConfigError(
                    f"no profile {str(source)!r}{_nearest(str(source), names)}; profiles: {', '.join(names)}"
                )
        try:
            values = yaml.safe_load(path.read_text()) or {}
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the config: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: cannot read the config: it is no text") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
        return Config.from_dict(values, str(path)).override(overrides)

    @staticmethod
    def from_dict(values: Mapping[str, Any], origin: str = "config") -> Config:
        """Build from nested plain values, as :meth:`to_dict` gives them."""
        return _update(Config(), values, origin)

    def override(self, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
        """A copy with ``overrides`` applied."""
        config = self
        pairs = overrides.items() if isinstance(overrides, Mapping) else map(_split_override, overrides)
        for name, value in pairs:
            nested: Any = value
            for part in reversed(name.split(".")):
                nested = {part: nested}
            config = _update(config, nested, "override")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values (lists for tuples)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")


def load_budget(name: str) -> list[str]:
    """Overrides of a named label budget (``configs/budgets/<name>.yaml``): which lists a run takes, and what else suits
    them.
    """
    values = _read_budget(name)
    lists = [f"data.{key}={','.join(value)}" for key, value in values.items() if key not in ("all_labels", "set")]
    return lists + _set_overrides(values)


def load_reference(name: str) -> str:
    """The budget that has every label of a budget's domain; "" where it names none."""
    return _read_budget(name).get("all_labels", "")


def _read_budget(name: str) -> dict[str, Any]:
    path = CONFIG_FOLDER / "budgets" / f"{name}.yaml"
    names = sorted(p.stem for p in path.parent.glob("*.yaml"))
    if not path.exists():
        raise ConfigError(f"no budget {name!r}{_nearest(name, names)}; budgets: {', '.join(names)}")
    return yaml.safe_load(path.read_text())


def method_names() -> list[str]:
    """The semi-supervised methods of ``configs/methods``."""
    return sorted(path.stem for path in (CONFIG_FOLDER / "methods").glob("*.yaml"))


def load_method(name: str) -> tuple[list[str], str, int]:
    """A semi-supervised method (``configs/methods/<name>.yaml``): its overrides, the member that is its result, and how
    many times the
    further steps it takes. Where it names a ``base``, all that it does not say itself is that method's."""
    values = _read_method(name)
    return _set_overrides(values), values["result"], values.get("further_times", 1)


def _set_overrides(values: Mapping[str, Any]) -> list[str]:
    """What stands under ``set`` in a budget's or a method's file, as overrides."""
    return [
        f"{section}.{key}={','.join(value) if isinstance(value, list) else json.dumps(value).strip(chr(34))}"
        for section, settings in values.get("set", {}).items()
        for key, value in settings.items()
    ]


def _read_method(name: str) -> dict[str, Any]:
    folder, names = CONFIG_FOLDER / "methods", method_names()
    if name not in names:
        raise ConfigError(f"no method {name!r}{_nearest(name, names)}; methods: {', '.join(names)}")
    values = yaml.safe_load((folder / f"{name}.yaml").read_text())
    if "base" not in values:
        return values
    base, own = _read_method(values.pop("base")), values.get("set", {})
    sections = dict.fromkeys([*base.get("set", {}), *own])
    return (
        base
        | values
        | {"set": {section: base.get("set", {}).get(section, {}) | own.get(section, {}) for section in sections}}
    )


def _split_override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"override {text!r}: write section.name=value")
    return name.strip(), value.strip()


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.4)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _names(config: Any, prefix: str = "") -> Iterable[str]:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        yield from _names(value, f"{prefix}{item.name}.") if dataclasses.is_dataclass(value) else [prefix + item.name]


def _update(config: Any, values: Mapping[str, Any], origin: str, prefix: str = "") -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin}: {prefix.rstrip('.') or 'the top level'} is a section, not a value")
    hints = typing.get_type_hints(type(config))
    changes = {}
    for name, value in values.items():
        if name not in hints:
            whole = [prefix + n for n in _names(config)] + [prefix + n for n in hints]
            # a forgotten section ("steps=5") is the commonest slip: compare with the last parts too
            every = list(_names(Config()))
            tails = [n for n in every if n.rpartition(".")[2] == str(name)]
            hint = f" (did you mean {tails[0]!r}?)" if tails else _nearest(prefix + str(name), whole + every)
            raise ConfigError(f"{origin}: unknown setting {prefix + str(name)!r}{hint}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            changes[name] = _update(current, value, origin, f"{prefix}{name}.")
        else:
            changes[name] = _coerce(value, hints[name], f"{origin}: {prefix}{name}")
    return dataclasses.replace(config, **changes)


def _coerce(value: Any, kind: Any, where: str) -> Any:
    """``value`` as ``kind``; text (from make or the command line) is read as YAML would read it."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        inner = typing.get_args(kind)[0]
        parts = [p.strip() for p in value.strip("[]()").split(",") if p.strip()] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            raise ConfigError(f"{where}: wants a list, got {value!r}")
        return tuple(_coerce(part, inner, where) for part in parts)
    if kind is str:
        if not isinstance(value, str):
            value = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        if not isinstance(value, str):
            raise ConfigError(f"{where}: wants text, got {value!r}")
        return value
    if origin is Literal:
        allowed = typing.get_args(kind)
        for choice in allowed:
            if str(value) == str(choice) and not isinstance(value, bool):
                return choice
        choices = [str(a) for a in allowed]
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(choices)}{_nearest(str(value), choices)}")
    if isinstance(value, str):
        try:
            value = float(value) if kind is float else yaml.safe_load(value)  # YAML reads 4e-3 as text
        except (ValueError, yaml.YAMLError):
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: wants {_kind_name(kind)}, got {value!r}")
    return value


def _kind_name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, kind.__name__ if not isinstance(kind, types.GenericAlias) else str(kind))
