"""The config of a run: profile < budget < lists of the command line < method < ``--set``, the later wins.

A profile (``configs/profiles``) is scale: model, steps, batch, rendering, tracker. A budget (``configs/budgets``) is
data: lists and how many faces of each kind a step has, or which faces are rendered. A method (``configs/methods``) is
what is learned from: every ``tsal.*`` setting, whole.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tsal.settings import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    RenderConfig,
    SemiConfig,
    SupervisedConfig,
    TrackerConfig,
    TrainConfig,
    TsalConfig,
    setting,
)
from tsal.utils import CONFIG_FOLDER, REPOSITORY, ConfigError, first_line, load_yaml, nearest, read_bytes, write_text

Overrides = Iterable[str] | Mapping[str, Any]
LABELS = ("profile", "budget", "method")  # names of files: only the settings that these bring count


@dataclass(frozen=True)
class Config:
    """Every setting of a run, and the names of the three files that it was made from."""

    profile: str = setting("demo", "scale: model, steps, batch, rendering, tracker", "machine")
    budget: str = setting("", "data: lists and faces a step; empty: the lists named", "machine")
    method: str = setting("tsal", "targets", "machine")
    result: Literal["teacher", "student", "supervised"] = setting("teacher", "model evaluated as the method's result")
    steps_times: int = setting(1, "of the method: steps after the init, times those of the other methods", least=1)
    seed: int = setting(0, "random seed of initial weights and batches")
    data: DataConfig = field(default_factory=DataConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    semi: SemiConfig = field(default_factory=SemiConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    tsal: TsalConfig = field(default_factory=TsalConfig)

    @staticmethod
    def load(source: str | Path, overrides=()) -> Config:
        """The config of one source, with ``overrides`` over it; see :func:`resolve` for one of several layers.

        Args:
            source: the name of a profile, or the path of a YAML or JSON file, such as a run's ``config.json``.
            overrides: ``{"section.name": value}``, or texts ``"section.name=value"`` as the command line has them.

        Raises:
            ConfigError: a name that does not exist, with the nearest valid one, or a value of a wrong type.
        """
        values = read_profile(source)
        if "method" in values and "result" not in values:  # of before runs kept what their method's file says
            with suppress(ConfigError):
                method = load_method(str(values["method"]))
                values = {"result": method.result, "steps_times": method.steps_times} | values
        return override(update(Config(), values, str(source)), overrides)

    @staticmethod
    def resolve(profile: str = "demo", budget: str = "", method: str = "tsal", overrides=(), lists=()) -> Config:
        """The config of a profile, a budget, a method and overrides, the later wins; see :func:`resolve`."""
        return resolve(profile, budget, method, overrides, lists)[0]

    @staticmethod
    def from_dict(values, origin: str = "config") -> Config:
        """Build from nested plain values, as :meth:`to_dict` gives them."""
        return update(Config(), values, origin)

    def override(self, overrides) -> Config:
        """A copy with ``overrides`` applied, see :meth:`load`."""
        return override(self, overrides)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values (lists for tuples)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def flat(self) -> dict[str, Any]:
        """Plain values by ``section.name``."""
        return flatten("", self.to_dict())

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all; a file that says the same is left alone, since make goes by its time."""
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)


def flatten(prefix: str, value: Any) -> dict[str, Any]:
    """Nested values -> one level, names joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, item in value.items() for k, v in flatten(f"{prefix}.{name}".lstrip("."), item).items()}


def fields_of(config: Any = None, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """(``section.name``, field) of every setting."""
    config = Config() if config is None else config
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def settings_of(*roles: str) -> frozenset[str]:
    """Names (``section.name``) of the settings with one of these roles."""
    return frozenset(name for name, item in fields_of() if item.metadata["role"] in roles)


def result_settings(config: Config) -> dict[str, Any]:
    """The settings (``section.name``) that a run's numbers depend on, as plain values."""
    ignored = settings_of("machine") | {"data.root", "data.audit_labels"}
    return {name: value for name, value in config.flat().items() if name not in ignored}


# --- files ---


def names_of(kind: str) -> list[str]:
    """The files of ``configs/profiles``, ``configs/budgets`` or ``configs/methods``, by name."""
    return sorted(path.stem for path in (CONFIG_FOLDER / kind).glob("*.yaml"))


def _read(kind: str, name: str) -> dict[str, Any]:
    names = names_of(kind)
    if name not in names:
        raise ConfigError(f"no {kind[:-1]} {name!r}{nearest(name, names)}; {kind}: {', '.join(names)}")
    return read_yaml(CONFIG_FOLDER / kind / f"{name}.yaml")


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = load_yaml(read_bytes(path).decode()) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the config: it is no text") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {first_line(error)}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: the top level is a section, not a value")
    return dict(values)


@dataclass(frozen=True)
class Method:
    """What a file of ``configs/methods`` says."""

    name: str
    result: Literal["supervised", "teacher", "student"]  # the model that is its result
    steps_times: int = 1  # times the steps of the other methods
    settings: dict[str, Any] = field(default_factory=dict)  # by section.name, these three among them


def load_method(name: str) -> Method:
    """A method by name; ConfigError where its file sets less than all of ``tsal.*``, or what all methods share."""
    values = _read("methods", name)
    result, times = values.pop("result", None), values.pop("steps_times", 1)
    if result not in ("supervised", "teacher", "student"):
        raise ConfigError(f"method {name}: result: {result!r}; want supervised, teacher or student")
    if type(times) is not int or times < 1:
        raise ConfigError(f"method {name}: steps_times: {times!r}; want a whole number from 1")
    settings, file = flatten("", values), f"configs/methods/{name}.yaml"
    for key in settings:
        if key.partition(".")[0] != "tsal" and key != "tracker.flow":
            raise ConfigError(f"{file}: {key}: a method sets tsal.* and tracker.flow alone; --set {key}=... is for all")
    missing = [key for key, _ in fields_of(TsalConfig(), "tsal.") if key not in settings]
    if missing and result != "supervised" and "tsal" not in settings:
        raise ConfigError(f"{file}: {missing[0]}: missing; a method writes out all of tsal.*, as tsal.yaml does")
    return Method(name, result, times, {"method": name, "result": result, "steps_times": times} | settings)


def labels_alone(config: Config) -> bool:
    """Whether a run's method learns from labels alone: then it has no rival, teacher, student and pseudo-labels."""
    return config.result == "supervised"


def load_budget(name: str) -> dict[str, Any]:
    """The settings of a label budget, by section.name."""
    values = _read("budgets", name)
    values.pop("all_labels", None)
    return {"budget": name} | flatten("", values)


def all_labels_budget(name: str) -> str:
    """The name of the budget with every label of the domain of budget ``name``; "" where its file says none."""
    return _read("budgets", name).get("all_labels", "")


# --- resolved ---


def resolve(
    profile: str = "demo", budget: str = "", method: str = "tsal", overrides: Overrides = (), lists: Overrides = ()
) -> tuple[Config, dict[str, str]]:
    """The config of three names and overrides, and where each setting (``section.name``) came from.

    ``lists``: which faces, as the command line names them; they come after the budget and before the method.
    """
    layers = [(f"profile {Path(profile).stem}", flatten("", read_profile(profile)))]
    if budget:
        layers.append((f"budget {budget}", load_budget(budget)))
    layers.append(("command line", _pairs(lists)))
    layers.append((f"method {method}", load_method(method).settings))
    layers.append(("--set", _pairs(overrides)))
    config, origins = Config(), {name: "default" for name, _ in fields_of()}
    for origin, values in layers:
        config = override(config, values, origin if origin.startswith(("profile", "budget", "method")) else "override")
        origins |= {name: origin for name in values}
    return config, origins


def read_profile(source: str | Path) -> dict[str, Any]:
    """The nested values of a profile, by name or file (YAML, JSON), whose name is the profile's where it says none."""
    path = next(filter(Path.is_file, (Path(source), REPOSITORY / source)), Path(source))
    values = read_yaml(path) if path.suffix in (".yaml", ".yml", ".json") else _read("profiles", str(source))
    return {"profile": path.stem} | values


def override(config: Config, overrides: Overrides, origin: str = "override") -> Config:
    """A copy of the config with values by section.name, or texts "section.name=value", applied in order."""
    for name, value in _pairs(overrides).items():
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        config = update(config, nested, origin)
    return config


def _pairs(overrides: Overrides) -> dict[str, Any]:
    if isinstance(overrides, Mapping):
        return dict(overrides)
    pairs = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"override {text!r}: write section.name=value")
        if name.strip() in LABELS:
            raise ConfigError(
                f"override {text!r}: a name alone changes no setting; give it as the {name.strip()} itself: "
                f"--{name.strip()}, or {name.strip().upper()}= to make"
            )
        pairs.pop(name.strip(), None)
        pairs[name.strip()] = value.strip()
    return pairs


# --- values of the right type ---


def update(config: Any, values: Mapping[str, Any], origin: str, prefix: str = "") -> Any:
    """A copy of a section with nested values, each of the setting's type.

    Raises:
        ConfigError: a name that does not exist, or a value of a wrong type; ``origin`` begins the message.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin}: {prefix.rstrip('.') or 'the top level'} is a section, not a value")
    hints = typing.get_type_hints(type(config))
    bounds = {item.name: item.metadata for item in dataclasses.fields(config)}
    changes = {}
    for name, value in values.items():
        if name not in hints:
            every = [n for n, _ in fields_of()]
            whole = [prefix + n for n, _ in fields_of(config)] + [prefix + n for n in hints]
            # a forgotten section ("steps=5") is the commonest slip: compare with the last parts too
            tails = [n for n in every if n.rpartition(".")[2] == str(name)]
            hint = f" (did you mean {tails[0]!r}?)" if tails else nearest(prefix + str(name), whole + every)
            raise ConfigError(f"{origin}: unknown setting {prefix + str(name)!r}{hint}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            changes[name] = update(current, value, origin, f"{prefix}{name}.")
        else:
            changes[name] = _coerce(value, hints[name], f"{origin}: {prefix}{name}")
            _check_range(changes[name], bounds[name], f"{origin}: {prefix}{name}")
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
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(choices)}{nearest(str(value), choices)}")
    if isinstance(value, str):
        try:
            value = float(value) if kind is float else load_yaml(value)  # YAML reads 4e-3 as text
        except (ValueError, yaml.YAMLError):
            pass
    if type(value) is int and abs(value) >= 2**63:
        raise ConfigError(f"{where}: {value} is too large")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: wants {_kind_name(kind)}, got {value!r}")
    return value


def _check_range(value: Any, bounds: Mapping[str, Any], where: str) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)) and not bounds["least"] <= number <= bounds["most"]:  # true for NaN too
            above = f" and at most {bounds['most']:g}" if bounds["most"] < math.inf else ""
            raise ConfigError(f"{where}: wants at least {bounds['least']:g}{above}, got {number:g}")
        if isinstance(number, int) and number % bounds["multiple_of"]:
            raise ConfigError(f"{where}: wants a multiple of {bounds['multiple_of']}, got {number}")
        if number == math.inf:
            raise ConfigError(f"{where}: wants a finite number")


def _kind_name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, kind.__name__ if not isinstance(kind, types.GenericAlias) else str(kind))
