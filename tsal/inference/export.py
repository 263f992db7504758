"""A trained detector as a file of its own: ONNX or a ``torch.export`` program, from a crop to points and scores; or its
weights alone, small enough to ship.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tsal.config import Config
from tsal.inference.outputs import check_output
from tsal.model import Detector
from tsal.model_files import default_model, load_model
from tsal.schemes import Scheme
from tsal.utils import ConfigError, InputError, load_checkpoint, replacing

OPSET = 18
FORMATS = (".onnx", ".pt2", ".pt")


class ExportedDetector(nn.Module):
    """Crops (N, 3, S, S) float32 RGB in [0, 1] -> points (N, K, 2) px of the crop and scores (N, K) in [0, 1]."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        return self.detector.heatmap(self.detector(crops))


def export_model(weights: Path | Sequence[Path], out: Path, model: str | None = None) -> dict:
    """Write a detector, its decoding inside, with any number of crops a call.

    ONNX files and programs also say what a caller must know: the crop's side (``input``), ``box_scale`` (side of the
    crop over the longer side of the face's box), where the scheme's ``box`` lies in the landmarks' tight one, and the
    landmark ``scheme``; as metadata, or as the extra file ``tsal.json``. A file of weights is read by ``Landmarker``
    and ``load_model``; its convolutions are in half precision.

    Args:
        weights: a training's file; of several, the mean of their weights is written ("model soup", arXiv 2203.05482).
            That is a good detector only where the trainings began with the same init.
        out: ``.onnx`` (needs the packages onnx and onnxscript), ``.pt2``, a program for ``torch.export.load``, or
            ``.pt``, weights.
        model: ``teacher`` or ``student`` of a semi-supervised training; by default the method's result, or the only
            one.

    Returns:
        What the file says.

    Raises:
        ConfigError: another suffix, no such folder, an output that is an input or was written by another command, or a
            package that is missing.
        InputError: the weights cannot be read, or are of different networks.
    """
    out = Path(out)
    files = [Path(weights)] if isinstance(weights, (str, Path)) else [Path(path) for path in weights]
    check_output(out, FORMATS, is_export, files)
    form = out.suffix.lower()
    detector, config, scheme = _mean_model(files, model)
    facts = {
        "input": config.model.input,
        "box_scale": config.augment.box_scale,
        "box": list(scheme.box),
        "scheme": scheme.name,
        "landmarks": scheme.points,
    }
    # two crops: of one, a number of crops is taken for a constant
    example = (torch.zeros(2, 3, config.model.input, config.model.input),)
    module, batch = ExportedDetector(detector).eval(), torch.export.Dim("crops", min=1)
    with warnings.catch_warnings(), replacing(out) as temporary:
        warnings.simplefilter("ignore")  # of deprecations inside the exporter
        if form == ".pt":
            _write_weights([load_checkpoint(path) for path in files], model, detector, temporary)
        elif form == ".pt2":
            program = torch.export.export(module, example, dynamic_shapes=({0: batch},))
            torch.export.save(program, temporary, extra_files={"tsal.json": json.dumps(facts)})
        else:
            _write_onnx(module, example, batch, temporary, facts)
    return facts


def is_export(path: Path) -> bool:
    """Whether a file was written by :func:`export_model`: it says how crops are cut, or has weights in half precision,
    which no training writes.
    """
    if path.suffix.lower() == ".onnx":
        return all(name in path.read_bytes()[-1000:] for name in (b"box_scale", b"landmarks"))
    if path.suffix.lower() == ".pt2":
        return zipfile.is_zipfile(path) and any(Path(n).name == "tsal.json" for n in zipfile.ZipFile(path).namelist())
    try:
        models = load_checkpoint(path).get("models")
    except InputError:
        return False
    states = models.values() if isinstance(models, dict) else ()
    values = (value for state in states if isinstance(state, dict) for value in state.values())
    return any(isinstance(value, Tensor) and value.dtype == torch.half for value in values)


def _mean_model(files: Sequence[Path], model: str | None) -> tuple[Detector, Config, Scheme]:
    """As :func:`tsal.model_files.load_model`, with weights and running statistics averaged over files."""
    loaded = [load_model(path, model) for path in files]
    kinds = [(config.model, config.augment.box_scale, scheme.to_dict()) for _, config, scheme in loaded]
    for path, kind in zip(files, kinds):
        if kind != kinds[0]:
            raise InputError(f"{path}: has another network, crop or landmarks than {files[0]}: they have no mean")
    states = [detector.state_dict() for detector, *_ in loaded]
    means = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    loaded[0][0].load_state_dict(means)
    return loaded[0]


def _write_weights(contents: Sequence[dict], model: str | None, detector: Detector, path: Path) -> None:
    """What batch normalisation has summed up stays float32: a variance may be out of half precision's range. Where the
    training's images and first weights were is nobody else's business.
    """
    content, *others = contents
    name = model or default_model(content)
    state = {key: value.half() if value.ndim > 1 else value for key, value in detector.state_dict().items()}
    config = content["config"] | {"data": content["config"]["data"] | {"root": ""}}
    config["model"] = config["model"] | {"weights": ""}
    fingerprint = content.get("fingerprint", {})
    if others:
        fingerprint |= {"mean with": [other.get("fingerprint", {}) for other in others]}
    with path.open("wb") as file:  # of a path, torch keeps the name too: other bytes each time
        torch.save(content | {"config": config, "fingerprint": fingerprint, "models": {name: state}}, file)


def _write_onnx(module: nn.Module, example: tuple[Tensor], batch: torch.export.Dim, path: Path, facts: dict) -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs {' and '.join(missing)}: pip install 'tsal[export]'; or export to .pt2")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        module,
        example,
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=["crops"],
        output_names=["points", "scores"],
        dynamic_shapes=({0: batch},),
        external_data=False,
    )
    program.model.metadata_props.update({name: str(value) for name, value in facts.items()})
    program.save(path, external_data=False)
