"""What the init starts from: random weights, or a trained detector (``model.weights``), which is then fine-tuned."""

from __future__ import annotations

import dataclasses

from tsal.config import Config, labels_alone
from tsal.model import Detector
from tsal.model_files import load_model
from tsal.run import Run
from tsal.schemes import Scheme
from tsal.utils import SHIPPED, ConfigError, InputError, weights_file

NETWORK = ("size", "width", "stages", "heatmap")  # of model.*: with others the weights are of another network
VIEWS = ("model.input", "model.sigma", "model.heatmap_shape", "augment.box_scale")  # what the weights are used to


def initial_detector(run: Run) -> Detector:
    """The detector that the run's init starts from.

    Raises:
        InputError: a file that it starts from is another than when the run's data were checked; see also
            :func:`make_initial`.
    """
    detector = make_initial(run.config, run.scheme)[0]
    run.refuse_changed("model.weights", *["model.vgg16_weights"] * (run.config.model.size == "vgg16"))
    return detector


def make_initial(config: Config, scheme: Scheme) -> tuple[Detector, list[str]]:
    """A detector of random weights, or of those of ``model.weights``: then layers whose size depends on the number of
    landmarks stay random where that is another one.

    Returns:
        the detector, and warnings: settings that work, but not as one would think.

    Raises:
        ConfigError: the weights are of another network than ``model.*``.
        InputError: there is no such file, or it holds no detector.
    """
    if (path := weights_file(config.model.weights)) is None:
        return Detector(scheme.points, config.model), []
    named = f"model.weights={config.model.weights}"
    if not path.is_file():
        raise InputError(f"{named}: no file {path}; want {SHIPPED.stem}, or the path of a run's model.pt")
    # every weight of the backbone is in the file
    detector = Detector(scheme.points, dataclasses.replace(config.model, vgg16_weights=""))
    trained, then, learned = load_model(path)
    had, has = then.flat(), config.flat()
    network = [f"model.{name}" for name in NETWORK if name != "width" or config.model.size == "light"]
    if any(had[name] != has[name] for name in network):
        settings = " ".join(f"{name}={had[name]}" for name in (*network, *VIEWS) if had[name] != has[name])
        profile = ", or take the profile finetune" if path == SHIPPED else ""
        raise ConfigError(f"{named}: it is another network; set {settings} too{profile}")
    warnings = [f"{named}: it learned with {n}={had[n]}, not {has[n]}" for n in VIEWS if had[n] != has[n]]
    if learned.points != scheme.points:
        text = f"it has {learned.points} landmarks, the run {scheme.points}: layers whose size depends on that start"
        warnings.append(f"{named}: {text} from random weights")
        if config.supervised.steps == 0:
            raise ConfigError(f"supervised.steps=0: {warnings[-1]}, and have to learn")
    elif (learned.flip, learned.centre) != (scheme.flip, scheme.centre):
        warnings.append(f"{named}: its {learned.points} landmarks are not those of data.scheme={config.data.scheme}")
    if config.tsal.inits == 2 and not labels_alone(config):
        warnings.append(f"{named}: both inits (tsal.inits=2) start from it, and differ by their batches alone")
    own = detector.state_dict()
    same = {name: value for name, value in trained.state_dict().items() if value.shape == own[name].shape}
    detector.load_state_dict(own | same)
    return detector, warnings
