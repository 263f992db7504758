"""Trained detectors in files: weights with the config and the landmark scheme that made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from tsal.config import Config
from tsal.model import Detector
from tsal.schemes import Scheme, get_scheme, scheme_from_dict
from tsal.utils import InputError, first_line, load_checkpoint, save_checkpoint


def save_models(path: Path, models: dict[str, Detector], config: Config, fingerprint: dict) -> None:
    """Trained weights of named models, with the config that made them; tensors and plain types only.

    The ``fingerprint`` of a run's training holds the landmark scheme written out, so a checkpoint needs no file of it.
    """
    weights = {name: model.state_dict() for name, model in models.items()}
    save_checkpoint(path, {"config": config.to_dict(), "fingerprint": fingerprint, "models": weights})


def snapshot_steps(steps: int, count: int) -> list[int]:
    """After which steps the models are kept beside the final ones: even stages of the run, without its end."""
    return sorted({round(steps * stage / count) for stage in range(1, count)} - {0, steps})


def snapshot_name(step: int | str) -> str:
    return f"step-{step:06d}.pt" if isinstance(step, int) else f"step-{step}.pt"


def default_model(content: Mapping) -> str:
    """The one of a file's models that is meant where none is named: its method's result; in a file from before
    configs said it, the teacher or the first.
    """
    names = list(content["models"])
    result = content["config"].get("result", "teacher")
    return result if result in names else "teacher" if "teacher" in names else names[0]


def load_model(
    path: Path, model: str | None = None, device: torch.device | str = "cpu"
) -> tuple[Detector, Config, Scheme]:
    """A model (by default :func:`default_model`) of a file that :func:`save_models` wrote, in eval mode.

    Its scheme is the one that it learned; in a file from before schemes were kept, the one that its config names.

    Raises:
        InputError: the file is damaged, holds something else, or weights that do not fit its config.
    """
    content = load_checkpoint(path, device)
    fingerprint = content.get("fingerprint", {})
    if not all(isinstance(part, dict) for part in (content.get("models"), content.get("config"), fingerprint)):
        raise InputError(f"{path}: holds no trained detector (a run's <method>/model.pt does)")
    if not (names := list(content["models"])):
        raise InputError(f"{path}: holds no models")
    model = model or default_model(content)
    if model not in names:
        raise InputError(f"{path}: has no model {model!r}; it holds {', '.join(map(str, names))}")
    # the file holds every weight: what they once started from need not be there
    config = Config.from_dict(content["config"], str(path)).override({"model.vgg16_weights": "", "model.weights": ""})
    stored_scheme, name = fingerprint.get("scheme"), config.data.scheme
    scheme = scheme_from_dict(stored_scheme, name, f"{path}: scheme") if stored_scheme else get_scheme(name)
    weights = content["models"][model]
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes a damaged config has
            shapes = {name: value.shape for name, value in Detector(scheme.points, config.model).state_dict().items()}
        fits = shapes == {name: value.shape for name, value in weights.items()}
        detector = Detector(scheme.points, config.model) if fits else None
    except (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{path}: its config makes no detector, or its weights are none ({first_line(error)})"
        ) from error
    if detector is None:
        raise InputError(f"{path}: the weights of {model!r} do not fit its config of {scheme.points} landmarks")
    detector.load_state_dict(weights)
    return detector.to(device).eval(), config, scheme
