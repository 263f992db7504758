"""A run: its folder, the resolved config in it, and what every stage opens first.

``outputs/<run>/`` holds config.json, scheme.json (what the landmarks mean), environment.json, manifest.json (lists and
images by content), a folder for each thing that is trained (model.pt, history.csv), audit/, predictions.npz,
metrics.json, figures/ and executed/ (notebooks).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from tsal.config import Config, labels_alone, settings_of
from tsal.data import (
    Clip,
    CropFolder,
    FaceLists,
    FaceStore,
    find_list,
    group_clips,
    list_root,
    load_lists,
    near_dataset,
    read_json,
    split_at_gaps,
)
from tsal.schemes import Scheme, get_scheme, read_scheme
from tsal.utils import (
    OUTPUTS,
    PACKAGE,
    PREPARED,
    REPOSITORY,
    ConfigError,
    InputError,
    describe_environment,
    file_hash,
    first_of,
    lock_folder,
    weights_file,
    write_text,
)

# layout rule: all code that decides the result of a training is in these files
CORE = ("*.py", "data/*.py", "tracker/*.py", "utils/distributed.py", "utils/environment.py")
# settings that name a file of weights which a training starts from -> what the manifest calls the file's hash
STARTS = {"model.weights": "weights", "model.vgg16_weights": "vgg16_weights", "tracker.init": "tracker_init"}


@dataclass(frozen=True)
class Run:
    """A run's folder and config; opens lists and crops on first use."""

    folder: Path
    config: Config
    kept_scheme: Scheme | None = None  # as it was when the run was made; else data.scheme is looked up
    unsaved: bool = False  # its settings are in no file yet

    @staticmethod
    def create(folder: Path, config: Config) -> Run:
        """A run with ``config`` resolved. :func:`tsal.stages.prepare_data` checks its lists, and then writes it to the
        folder: settings that do not hold leave a run that is there as it was.
        """
        run = Run(REPOSITORY / folder, config, unsaved=True)
        _ = run.scheme, run.device  # a wrong name raises at once
        return run

    def save(self) -> None:
        """Write the settings, the scheme, and versions and commit to the folder; the run counts as unchecked then."""
        environment = describe_environment()
        with lock_folder(self.folder):
            # first, so that a kill on the way leaves no manifest of other settings
            for name in ("manifest.json", "scheme.json"):
                (self.folder / name).unlink(missing_ok=True)
            self.config.save(self.folder / "config.json")
            write_text(self.folder / "scheme.json", json.dumps(self.scheme.to_dict(), indent=1) + "\n")
            write_text(self.folder / "environment.json", json.dumps(environment, indent=2) + "\n")

    @staticmethod
    def open(folder: Path, overrides=()) -> Run:
        """A run that :meth:`create` made; ``overrides`` hold for this process alone. A relative folder is taken
        relative to the repository.

        Its scheme is the one that it was made with: a scheme's file may have changed since, or be gone.
        """
        folder = REPOSITORY / folder
        path = folder / "config.json"
        if not path.exists():
            raise InputError(
                f"{folder}: no run there (no config.json){_near_runs(folder)}; to make one of this name, give its "
                f"options to 'python -m tsal data --run {folder}'"
            )
        stored = Config.load(path)
        config, name, file = stored.override(overrides), stored.data.scheme, path.with_name("scheme.json")
        scheme = read_scheme(file, name) if file.exists() and config.data.scheme == name else None
        return Run(folder, config, scheme)

    @cached_property
    def scheme(self) -> Scheme:
        return self.kept_scheme or get_scheme(self.config.data.scheme)

    @cached_property
    def device(self) -> torch.device:
        name = self.config.train.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError:
            raise ConfigError(f"train.device, --device: {name!r} is no device; use auto, cpu or cuda") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "train.device, --device: this machine has no CUDA GPU that torch can use; use auto or cpu"
            )
        if device.type not in ("cpu", "cuda"):
            try:
                torch.zeros(1, device=device)
            except (RuntimeError, AssertionError, NotImplementedError):  # torch was built without it
                raise ConfigError(
                    f"train.device, --device: torch has no {name} on this machine; use auto, cpu or cuda"
                ) from None
        if device == torch.device("cuda"):
            device = torch.device("cuda", torch.cuda.current_device())  # torchrun's processes have one each
        return device

    @cached_property
    def root(self) -> Path:
        """The folder that the lists' paths are relative to."""
        data = self.config.data
        if data.root:
            return REPOSITORY / data.root  # an absolute folder stays as it is
        if data.name != "rendered":
            if (PREPARED / data.name / "lists").is_dir():
                return PREPARED / data.name
            raise ConfigError(
                f"data.root: name the folder of {data.name!r} (make: ROOT=<folder>), "
                f"or prepare it: python -m tsal data --help{near_dataset(data.name)}"
            )
        return self.rendered

    @cached_property
    def rendered(self) -> Path:
        """The folder of the rendered faces."""
        if self.config.data.name == "rendered" and self.config.data.root:
            return REPOSITORY / self.config.data.root
        # other settings, another folder: two runs never overwrite each other's images
        settings = json.dumps(dataclasses.asdict(self.config.render), sort_keys=True)
        return PREPARED / f"rendered-{self.config.profile}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    @cached_property
    def lists(self) -> FaceLists:
        data = self.config.data
        return load_lists(
            self.root,
            data.labelled,
            data.unlabelled,
            data.evaluate,
            self.truth_lists,
            points=self.scheme.points,
            also_read=self.scheme.also_read,
            transductive=data.transductive,
        )

    @property
    def truth_lists(self) -> tuple[str, ...]:
        """Lists that hold labels of unlabelled rows, for measuring; the rendered faces bring theirs."""
        data = self.config.data
        rendered = data.name == "rendered" and not data.root and not data.audit_labels
        return ("unlabelled-truth.txt",) if rendered else data.audit_labels

    @cached_property
    def clips(self) -> list[Clip]:
        """Unlabelled clips of two frames or more; without gaps where frames are consecutive."""
        return [clip for clip in self._unlabelled if len(clip.faces) > 1]

    @cached_property
    def single_images(self) -> list[Clip]:
        """Unlabelled single frames."""
        return [clip for clip in self._unlabelled if len(clip.faces) == 1]

    @cached_property
    def _unlabelled(self) -> list[Clip]:
        clips = group_clips(self.lists.unlabelled)
        return split_at_gaps(clips) if self.config.data.consecutive else clips

    @cached_property
    def evaluated_clips(self) -> list[Clip]:
        """Clips and single frames of the evaluation lists; without gaps in lists whose frames are consecutive."""
        data = self.config.data
        clips = {name: group_clips(faces) for name, faces in self.lists.evaluate.items()}
        split = {name for name in clips if data.consecutive and name not in data.sparse}
        return [clip for name, whole in clips.items() for clip in (split_at_gaps(whole) if name in split else whole)]

    @property
    def no_pseudo_labels(self) -> str:
        """Why the run learns from no pseudo-labels, so that there are none to look at; empty where it does."""
        if labels_alone(self.config):
            return f"the method {self.config.method} learns from labels alone"
        return "" if self.lists.unlabelled else "data.unlabelled names no faces"

    @cached_property
    def store(self) -> FaceStore:
        config, limit = self.config, self.config.data.disk_cache_mb
        disk = CropFolder(REPOSITORY / "data" / "cache", limit) if limit > 0 else None
        return FaceStore(
            self.root, self.scheme, config.model.input, config.augment.box_scale, config.data.cache_mb, disk
        )

    def manifest(self) -> dict:
        path = self.folder / "manifest.json"
        if not path.exists():
            raise InputError(
                f"{self.folder}: the data is not checked yet; run 'python -m tsal data --run {self.folder}'"
            )
        return read_json(path)

    def fingerprint(self, *parts: str, without: Collection[str] = (), rows: str = "fingerprint") -> dict:
        """What a checkpoint must agree on to be taken up: settings under ``parts`` that decide a result, training data,
        code.

        ``scheme`` is the content of the scheme that data.scheme named: a file with other content makes other trainings.

        Args:
            parts: sections or settings; seed and data always take part.
            without: settings that this result does not depend on.
            rows: which hash of the manifest stands for the data; "labelled_fingerprint" where labels alone are learned.
        """
        ignored = settings_of("machine", "measuring") | set(without)
        chosen = ("seed", "data", *parts)
        values = {
            name: value
            for name, value in sorted(self.config.flat().items())
            if name not in ignored and any(name == part or name.startswith(f"{part}.") for part in chosen)
        }
        if rows not in (manifest := self.manifest()):
            raise InputError(
                f"{self.folder}: checked by another version; run 'python -m tsal data --run {self.folder}'"
            )
        for name in [name for name in STARTS if name in values]:  # what the file holds decides, not where it lies
            del values[name]
            values[f"file of {name}"] = manifest.get(STARTS[name], "")
        more = {"scheme": self.scheme.to_dict(), "data": manifest[rows], "code": code_fingerprint()}
        return values | more

    def changed_starts(self) -> list[str]:
        """Settings of :data:`STARTS` whose file is another than when the data were checked; not those whose file is
        gone, which a training that is done does not need.
        """
        manifest, now = self.manifest(), start_hashes(self.config)
        return [name for name, key in STARTS.items() if now[key] and now[key] != manifest.get(key)]

    def refuse_changed(self, *names: str) -> None:
        """Raise where a file that one of these settings names is another than when the data were checked."""
        for name in self.changed_starts():
            if name in names:
                path = weights_file(self.config.flat()[name])
                raise InputError(f"{path}: changed since it was checked; run 'python -m tsal data --run {self.folder}'")


def _near_runs(folder: Path) -> str:
    """The run beside a folder, or in outputs/, whose name is most like the folder's; the runs in outputs/, if none
    is.
    """
    places = OUTPUTS, folder.parent
    there = {path.parent.name: path.parent for place in places for path in place.glob("*/config.json")}
    if close := difflib.get_close_matches(folder.name, there, n=1):
        return f"; did you mean {there[close[0]]}?"
    return f"; runs: {first_of(sorted(there))}" if there else ""


def code_fingerprint(*packages: str) -> str:
    """Hash of all code that decides the result of a training, and of further subpackages: a change of any file changes
    it.
    """
    digest = hashlib.sha256()
    for pattern in (*CORE, *(f"{package}/*.py" for package in packages)):
        for path in sorted(PACKAGE.glob(pattern)):
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def start_hashes(config: Config) -> dict[str, str]:
    """What the manifest keeps of the files of :data:`STARTS`: their hashes; "" where a setting names none, or none is
    there.
    """
    files = {key: weights_file(config.flat()[name]) for name, key in STARTS.items()}
    return {key: file_hash(path) if path and path.is_file() else "" for key, path in files.items()}


def list_names(run: Run) -> tuple[str, ...]:
    """Every list of the run."""
    data = run.config.data
    return (*data.labelled, *data.unlabelled, *data.evaluate, *run.truth_lists)


def list_hashes(run: Run, names: Sequence[str] | None = None) -> dict[str, str]:
    """Content hash of every list of the run, or of those named."""
    names = list_names(run) if names is None else names
    return {name: file_hash(find_list(run.root, name)) for name in names}


def data_folders(run: Run) -> list[Path]:
    """The run's root, and those of other prepared datasets whose lists it takes."""
    return list(dict.fromkeys([run.root, *(list_root(run.root, name) for name in list_names(run))]))
