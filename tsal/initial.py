"""What the init starts from: random weights, or a trained detector (``model.weights``), which is then fine-tuned."""

from __future__ import annotations

from pathlib import Path

from tsal.config import Config
from tsal.model import Detector
from tsal.model_files import load_model
from tsal.schemes import Scheme
from tsal.utils import PACKAGE, ConfigError, InputError, file_hash, from_repository

SHIPPED = PACKAGE / "weights" / "face68.pt"  # model.weights=face68
NETWORK = ("size", "width", "stages", "heatmap")  # of model.*: with others the weights are of another network


def initial_weights(config: Config) -> Path | None:
    """The file that ``model.weights`` names (:data:`SHIPPED` by its name alone); None where it names none.

    Raises:
        InputError: there is no such file.
    """
    if not (named := config.model.weights):
        return None
    path = SHIPPED if named == SHIPPED.stem else from_repository(named)
    if not path.is_file():
        raise InputError(f"model.weights={named}: no such file; want {SHIPPED.stem}, or the path of a run's model.pt")
    return path


def initial_fingerprint(config: Config) -> dict[str, str]:
    """The content of that file, as a part of a training's fingerprint; empty where ``model.weights`` names none."""
    path = initial_weights(config)
    return {"weights": file_hash(path)} if path else {}


def initial_detector(config: Config, scheme: Scheme) -> tuple[Detector, list[str]]:
    """The detector that the init starts from: of random weights, or of those of ``model.weights``. Layers whose size
    depends on the number of landmarks stay random where that is another one.

    Returns:
        the detector, and warnings: settings by which it is further from what its weights learned than it need be.

    Raises:
        ConfigError: the weights are of another network than ``model.*``.
        InputError: see :func:`load_model`.
    """
    detector, path = Detector(scheme.points, config.model), initial_weights(config)
    if path is None:
        return detector, []
    trained, then, learned = load_model(path)
    network = [(f"model.{name}", getattr(then.model, name), getattr(config.model, name)) for name in NETWORK]
    named = f"model.weights={config.model.weights}"
    if any(had != has for _, had, has in network):
        wanted = " ".join(f"{name}={had}" for name, had, has in network if had != has)
        raise ConfigError(f"{named}: it is another network; set {wanted} too, or take the profile finetune")
    own = detector.state_dict()
    same = {name: value for name, value in trained.state_dict().items() if value.shape == own[name].shape}
    detector.load_state_dict(own | same)
    views = [
        ("model.input", then.model.input, config.model.input),
        ("model.sigma", then.model.sigma, config.model.sigma),
        ("model.heatmap_shape", then.model.heatmap_shape, config.model.heatmap_shape),
        ("augment.box_scale", then.augment.box_scale, config.augment.box_scale),
    ]
    warnings = [f"{named}: it learned with {name}={had}, not {has}" for name, had, has in views if had != has]
    if learned.points != scheme.points:
        text = f"it has {learned.points} landmarks, the run {scheme.points}"
        warnings.append(f"{named}: {text}: layers whose size depends on that start from random weights")
    elif (learned.flip, learned.centre) != (scheme.flip, scheme.centre):
        warnings.append(f"{named}: its {learned.points} landmarks are not those of data.scheme={config.data.scheme}")
    return detector, warnings
