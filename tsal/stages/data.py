"""Stage data: make the rendered faces where they are asked for, check every list and file, keep the manifest."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from tsal.config import labels_alone, settings_of
from tsal.data import (
    Face,
    Origin,
    check_files,
    find_list,
    from_root,
    gap_warnings,
    group_clips,
    in_percent,
    list_root,
    read_origins,
    read_prepared,
    reflected,
)
from tsal.pseudo import check_sources
from tsal.run import Run, data_folders, list_hashes, list_names, start_hashes
from tsal.schemes import TIGHT
from tsal.stages.alone import alone
from tsal.stages.settings_check import check_settings
from tsal.synthetic import render_dataset
from tsal.trainings import parts_that_track
from tsal.utils import ConfigError, DataError, InputError, write_text

CHECKED = ".checked"  # in a run's folder: what its data's files were when they were checked


@alone
def prepare_data(run: Run, *, checked: Path | None = None, progress: bool = True) -> dict:
    """Render faces if they are asked for, check every list and file, write and return the manifest; and before it the
    settings of a run that is made. Where the check fails, the run's folder is as it was.

    Args:
        checked: folder of a run (of this one too) that may have been checked with the same settings of data: if no file
            has changed since, none is opened again.
    """
    config = run.config
    check_sources(config.tsal.sources)
    own = config.data.name == "rendered" and config.data.root  # a rendering of one's own is taken as it is
    if not own and (config.data.name == "rendered" or config.tracker.rendered_share > 0):
        render_dataset(run.rendered, config.render, progress=progress)
    prepared, origins, boxes = {}, {}, []
    for folder in data_folders(run):
        if dataset := read_prepared(folder):
            prepared[folder.name] = dataset
            boxes += _check_labels(run, folder, dataset)
        origins |= {from_root(run.root, folder, image): origin for image, origin in read_origins(folder).items()}
    lists = run.lists
    state = _files_state(run)  # before the files are read: one that changes meanwhile is seen next time
    facts, warnings = check_files(
        lists,
        run.scheme.points,
        run.scheme.also_read,
        origins=origins,
        transductive=config.data.transductive,
        known=_known_facts(run, checked, state) if checked else None,
        workers=config.data.workers,
        progress=progress,
    )
    warnings += boxes + _odd_lists(run, facts) + check_settings(run)
    if config.data.consecutive:
        warnings += gap_warnings(group_clips(lists.unlabelled))
    if not run.clips:
        none = "data.unlabelled: no clip of two frames or more"
        if tracks := parts_that_track(config):
            raise DataError(
                f"{none} (frames are files 0.jpg, 1.jpg ... of one folder); wanted by {' and '.join(tracks)}: name a "
                "list with clips, or set data.consecutive=false, or a method that does not track, such as "
                "mean-teacher-corrected"
            )
        if not labels_alone(config):  # a method that needs no unlabelled faces wants no tracker either
            warnings.append(f"{none}: the tracker is not trained, and nothing is tracked")
    hashes = list_hashes(run)
    evaluated = list(itertools.chain(*lists.evaluate.values()))
    every = [lists.labelled, lists.unlabelled, *lists.evaluate.values()]
    grouped = {
        face.image: Origin(clip=clip.name, frame=int(Path(face.image).stem))
        for faces in every
        for clip in group_clips(faces)
        if len(clip.faces) > 1
        for face in clip.faces
    }
    origins = grouped | origins  # a builder knows better than the files' names
    evaluate = {
        name: {"faces": len(faces), "clips": len(group_clips(faces))} for name, faces in run.lists.evaluate.items()
    }
    manifest = {
        "data": config.data.name,
        "prepared": prepared,
        "transductive": config.data.transductive,
        "warnings": warnings,
        "lists": hashes,
        **start_hashes(config),
        "labelled": len(run.lists.labelled),
        "unlabelled": len(run.lists.unlabelled),
        "clips": len(run.clips),
        "clip_lengths": dict(sorted(Counter(len(clip.faces) for clip in run.clips).items())),
        "photographs": len(run.single_images),
        "evaluate": evaluate,
        "fingerprint": rows_fingerprint(run, lists.labelled + lists.unlabelled, facts),
        "labelled_fingerprint": rows_fingerprint(run, lists.labelled, facts),
        "evaluate_fingerprint": rows_fingerprint(run, evaluated, facts, sizes=config.data.normaliser == "face_size"),
        "images": {image: fact | vars(origins.get(image, Origin())) for image, fact in sorted(facts.items())},
    }
    if run.unsaved:
        run.save()
    write_text(run.folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    write_text(run.folder / CHECKED, state)
    return manifest


def _check_labels(run: Run, folder: Path, dataset: dict) -> list[str]:
    """A prepared dataset whose labels the run reads must have its scheme's landmarks; a warning where the builder did
    not take the scheme's boxes around them.

    Raises:
        ConfigError: it has another number of landmarks.
    """
    data, scheme = run.config.data, run.scheme
    read = [name for name in (*data.labelled, *data.evaluate, *run.truth_lists) if list_root(run.root, name) == folder]
    lists = dataset.get("lists", {})  # a list that the builder did not write may have labels
    if not any(lists.get(Path(name.rpartition(":")[2]).name, {}).get("labelled", True) for name in read):
        return []
    options = dataset.get("options", {})
    if dataset["points"] not in (0, scheme.points, *dict(scheme.also_read)):
        raise ConfigError(
            f"data.scheme={data.scheme}: has {scheme.points} landmarks, and {folder} has {dataset['points']}; "
            f"set data.scheme={options.get('scheme', dataset['points'])}"
        )
    own = dataset["builder"] == "photographs" and dataset["points"] == scheme.points
    if own and options.get("box", [*TIGHT]) != [*scheme.box]:
        text = "the boxes around its landmarks are not those of data.scheme, in which faces are detected"
        return [f"{folder}: {text}; prepare it again (--scheme {data.scheme})"]
    return []


def _odd_lists(run: Run, facts: dict[str, dict]) -> list[str]:
    """A warning for each list most of whose labels are mirrored, or all of whose labels seem to be in percent."""
    lists: dict[str, list] = {}
    for face in itertools.chain(run.lists.labelled, *run.lists.evaluate.values()):
        if face.annotation:
            size = np.array([facts[face.image]["width"], facts[face.image]["height"]])
            lists.setdefault(face.list_name, []).append((*run.store.points(face), size))
    said = []
    for name, faces in lists.items():
        points, visible, sizes = map(np.stack, zip(*faces))
        for text in (reflected(points, visible, run.scheme.ocular), in_percent(points, visible, sizes)):
            said += [f"{name}: {text}"] if text else []
    return said


def is_unchecked(run: Run) -> bool:
    """Whether the data must be checked: never before, or a list, image or annotation is another since, by size and
    time, or a file of weights that a training starts from, by its content.
    """
    return not _was_checked(run.folder, _files_state(run)) or bool(run.changed_starts())


def _was_checked(folder: Path, state: str) -> bool:
    record = folder / CHECKED
    return (folder / "manifest.json").exists() and record.exists() and record.read_text() == state


def _known_facts(run: Run, folder: Path, state: str) -> dict[str, dict] | None:
    """What the check of the run in ``folder`` found in each image, if it was of the same data and files, and can be
    read: it may be of another version, or cut short.
    """
    if not _was_checked(folder, state):
        return None
    with suppress(ConfigError, DataError, InputError):
        other = Run.open(folder)
        if other.scheme == run.scheme and _data_settings(other) == _data_settings(run):
            images = other.manifest().get("images") or {}
            return images if images and all("mirrored" in fact for fact in images.values()) else None
    return None


def _data_settings(run: Run) -> dict:
    settings, ignored = run.config.flat(), settings_of("machine")
    return {name: value for name, value in settings.items() if name.startswith("data.") and name not in ignored}


def _files_state(run: Run) -> str:
    """Hash of the sizes and times of all files that the run's lists name, and of the lists."""
    faces = [*run.lists.labelled, *run.lists.unlabelled, *itertools.chain(*run.lists.evaluate.values())]
    named = {name for face in faces for name in (face.image, face.annotation) if name} | set(run.lists.truth.values())
    digest = hashlib.sha256()
    lists = [find_list(run.root, name) for name in list_names(run)]
    for path in [*lists, *(run.root / name for name in sorted(named))]:
        try:
            state = os.stat(path)
            digest.update(f"{state.st_size} {state.st_mtime_ns} {path.name}\n".encode())
        except OSError:  # the check says what is wrong with it
            digest.update(b"gone\n")
    return digest.hexdigest()


def rows_fingerprint(run: Run, faces: list[Face], facts: dict[str, dict], *, sizes: bool = False) -> str:
    """Hash of all that is seen of these rows: images, boxes and labels, in their order; with ``sizes`` their seventh
    column too.
    """
    digest = hashlib.sha256()
    for face in faces:
        size = [face.face_size] if sizes else []
        digest.update(json.dumps([facts[face.image]["sha256"], face.image, face.box, *size]).encode())
        points, visible = run.store.points(face)
        digest.update(points.tobytes() + visible.tobytes())
    return digest.hexdigest()
