"""A run: its folder, the resolved config in it, and what every stage opens first.

``outputs/<run>/`` holds config.json, environment.json, manifest.json (lists and pictures by content), a folder for each thing that
is trained (model.pt, history.csv), audit.npz, predictions.npz, metrics.json, figures/ and executed/ (notebooks).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tsal.config import Config
from tsal.data.lists import Clip, FaceLists, find_list, group_clips, load_lists
from tsal.data.views import FaceStore
from tsal.errors import ConfigError, InputError
from tsal.files import write_text
from tsal.schemes import Scheme, get_scheme

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "opencv-python", "opencv-python-headless", "pandas", "matplotlib", "seaborn", "papermill")
# modules that decide what training makes of its settings
TRAINING_CODE = (
    "averaging", "codecs", "geometry", "losses", "losses_flow", "model", "pseudo", "schemes", "tracker", "tracker_training",
    "trainer", "training",
    "data/photometric", "data/views",
)  # fmt: skip
# settings that change how a run goes, never what comes out of it
INCIDENTAL = ("profile", "data.cache_mb", "data.workers", "train.device", "train.checkpoint_every")
MEASURING = ("data.root", "data.evaluate", "data.truth", "data.normaliser")  # training does not see these


@dataclass(frozen=True)
class Run:
    """A run's folder and config; opens lists and crops on first use."""

    folder: Path
    config: Config

    @staticmethod
    def create(folder: Path, config: Config) -> "Run":
        """A run with ``config`` resolved: written to the folder, with versions and commit."""
        run = Run(Path(folder), config)
        run.scheme, run.device  # a wrong name is told before anything is written
        (run.folder / "manifest.json").unlink(missing_ok=True)  # of other data, perhaps: a run is not ready before it is checked
        config.save(run.folder / "config.json")
        write_text(run.folder / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
        return run

    @staticmethod
    def open(folder: Path, overrides=()) -> "Run":
        """A run that :meth:`create` made; ``overrides`` hold for this process alone."""
        path = Path(folder) / "config.json"
        if not path.exists():
            raise InputError(f"{folder}: no run there (no config.json); make one with 'python -m tsal data --run {folder}'")
        return Run(Path(folder), Config.load(path, overrides))

    @cached_property
    def scheme(self) -> Scheme:
        return get_scheme(self.config.data.scheme)

    @cached_property
    def device(self) -> torch.device:
        name = self.config.train.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError:
            raise ConfigError(f"train.device: {name!r} is no device; use auto, cpu or cuda") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError("train.device: this machine has no CUDA GPU that torch can use; use auto or cpu")
        return device

    @cached_property
    def root(self) -> Path:
        """The folder that the lists' paths are relative to."""
        data = self.config.data
        if data.root:
            return REPOSITORY / data.root  # an absolute folder stays as it is
        if data.name != "rendered":
            raise ConfigError(f"data.root: name the folder of {data.name!r} (make: ROOT=<folder>)")
        # other settings, another folder: two runs never take each other's pictures away
        settings = json.dumps(dataclasses.asdict(self.config.render), sort_keys=True)
        name = f"rendered-{self.config.profile}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
        return REPOSITORY / "data" / "prepared" / name

    @cached_property
    def lists(self) -> FaceLists:
        data = self.config.data
        return load_lists(self.root, data.labelled, data.unlabelled, data.evaluate, self.truth_lists, points=self.scheme.points)

    @property
    def truth_lists(self) -> tuple[str, ...]:
        """Lists that hold labels of unlabelled rows, for measuring; the rendered faces bring theirs."""
        data = self.config.data
        embedded = data.name == "rendered" and not data.root and not data.truth
        return ("unlabelled-truth.txt",) if embedded else data.truth

    @cached_property
    def clips(self) -> list[Clip]:
        """Unlabelled clips of two frames or more."""
        return [clip for clip in group_clips(self.lists.unlabelled) if len(clip.faces) > 1]

    @cached_property
    def photographs(self) -> list[Clip]:
        """Unlabelled single frames."""
        return [clip for clip in group_clips(self.lists.unlabelled) if len(clip.faces) == 1]

    @cached_property
    def store(self) -> FaceStore:
        config = self.config
        return FaceStore(self.root, self.scheme, config.model.input, config.augment.expand, config.data.cache_mb)

    def manifest(self) -> dict:
        path = self.folder / "manifest.json"
        if not path.exists():
            raise InputError(f"{self.folder}: the data is not checked yet; run 'python -m tsal data --run {self.folder}'")
        return json.loads(path.read_text())

    def identity(self, *parts: str) -> dict:
        """What a checkpoint must agree on to be taken up: settings under ``parts`` that decide a result, training data, code."""
        whole = self.config.to_dict()
        values = {}
        for part in ("seed", "data", *parts):
            values |= _flatten(part, _dig(whole, part))
        kept = {k: v for k, v in sorted(values.items()) if k not in INCIDENTAL + MEASURING}
        return kept | {"fingerprint": self.manifest()["fingerprint"], "code": code_fingerprint()}


def _dig(values: dict, name: str):
    for part in name.split("."):
        values = values[part]
    return values


def _flatten(prefix: str, value) -> dict:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, item in value.items() for k, v in _flatten(f"{prefix}.{name}", item).items()}


def code_fingerprint() -> str:
    """Hash of the modules that training's result depends on."""
    return hashlib.sha256(b"".join((REPOSITORY / "tsal" / f"{name}.py").read_bytes() for name in TRAINING_CODE)).hexdigest()


def describe_environment() -> dict:
    """Versions, machine and commit of a run."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": versions,
        "commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the code, with a + where the work tree differs from it; None outside a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def list_hashes(run: Run) -> dict[str, str]:
    """Content hash of every list of the run."""
    data = run.config.data
    names = (*data.labelled, *data.unlabelled, *data.evaluate, *run.truth_lists)
    return {name: hashlib.sha256(find_list(run.root, name).read_bytes()).hexdigest() for name in names}
