"""What the ranges of single settings do not tell: whether all that they describe can be built, before any training."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from torch import nn

from tsal.config import AugmentConfig, Config, labels_alone
from tsal.data import beyond_crop
from tsal.evaluation import normaliser
from tsal.initial import make_initial
from tsal.model import Detector
from tsal.pseudo import PseudoLabeller, detection_sources
from tsal.run import STARTS, Run
from tsal.tracker import initial_tracker
from tsal.trainings import find_rival, parts_that_track, rival_config
from tsal.utils import ConfigError, first_line, weights_file


def check_settings(run: Run) -> list[str]:
    """Build the detector, the tracker and the labeller that the settings describe, and use them once.

    Returns:
        warnings: settings that work, but not as one would think.

    Raises:
        ConfigError: what does not work, by the settings' names.
        InputError: the lists or the scheme do not have the normaliser.
    """
    config = run.config
    find_rival(config)
    PseudoLabeller(config)
    if config.tsal.teacher_consistency and config.tsal.teacher_lr == 0:
        raise ConfigError(
            "tsal.teacher_consistency=true: it is a loss of the teacher, and with tsal.teacher_lr=0 the teacher learns "
            "nothing; give it a rate, such as 0.1, or set tsal.teacher_consistency=false"
        )
    if (up := config.tsal.ramp_up) > (down := config.tsal.ramp_down):
        raise ConfigError(
            f"tsal.ramp_up={up:g}: is above tsal.ramp_down={down:g}, so that the weight of the unlabelled losses would "
            "jump; set it to that or less"
        )
    if run.clips and (config.semi.clips == 0 or config.semi.frames == 1) and (tracks := parts_that_track(config)):
        few = "semi.clips=0" if config.semi.clips == 0 else "semi.frames=1"
        raise ConfigError(
            f"{few}: a step has no two frames to track between, wanted by {' and '.join(tracks)}; set semi.clips to 1 "
            "or more and semi.frames to 2 or more, or a method that does not track, such as mean-teacher-corrected"
        )
    for name, named in ((name, config.flat()[name]) for name in STARTS):
        if (path := weights_file(named)) and path.resolve().is_relative_to(run.folder.resolve()):
            raise ConfigError(
                f"{name}={named}: a file of this run, which would train it away; give the run another folder (--run, "
                "RUN=), or copy the file out of it"
            )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        initial_tracker(config)
        detector, warnings = make_initial(config, run.scheme)
        _check_detector(run, detector)
    lists = run.lists
    evaluated = [face for faces in lists.evaluate.values() for face in faces]
    measured = [evaluated] if any(face.annotation for face in evaluated) else []
    for faces in [*measured, lists.unlabelled] if lists.truth else measured:
        size = np.array([np.nan if any(face.face_size is None for face in faces) else 1.0])
        any_face = np.zeros((1, run.scheme.points, 2)), np.ones((1, run.scheme.points), bool), np.zeros((1, 4))
        normaliser(config.data.normaliser, *any_face, size, run.scheme)
    return warnings + _warnings(config) + _short_clips(run)


def _warnings(config: Config) -> list[str]:
    warnings, augment = _not_tracked(config), config.augment
    if rival := rival_config(config):
        warnings += [f"semi.rival={rival.method}: {line}" for line in _not_tracked(rival)]
    if config.tsal.trackers == "own" and config.tracker.tune_steps == 0:
        warnings.append(
            "tsal.trackers=own: with tracker.tune_steps=0 no tracker is tuned, so both models share the run's, and "
            "there is no detection consistency; the profile paper has tracker.tune_steps=2000"
        )
    if (share := beyond_crop(augment, config.model.input)) >= 0.01:
        usual = AugmentConfig()
        names = "scale", "rotation", "shift", "weak_geometry", "strong_geometry"
        larger = [f"augment.{n}={getattr(augment, n):g}" for n in names if getattr(augment, n) > getattr(usual, n)]
        warnings.append(
            f"{' '.join(larger)}: {share:.0%} of the largest views reach beyond the crops that are kept of faces "
            "(more than 1 % of their pixels), where they repeat its border; smaller ranges avoid it"
        )
    return warnings


def _not_tracked(config: Config) -> list[str]:
    """What a method would learn from faces that are followed from frame to frame, where no frame follows another."""
    if labels_alone(config) or config.data.consecutive:
        return []
    tsal, labeller = config.tsal, PseudoLabeller(config)
    sources = [name for name in tsal.sources if name not in labeller.names]
    off = [f"tsal.sources={','.join(sources)}"] * bool(sources)
    off += [f"tsal.agreement_weight={tsal.agreement_weight:g}"] * (tsal.agreement_weight > 0 and not labeller.agreement)
    off += ["tsal.teacher_consistency=true"] * (tsal.teacher_consistency and not labeller.consistency)
    if not off:
        return []
    return [
        f"data.consecutive=false: no frame follows another, so {' and '.join(off)} have no effect, and methods that "
        "differ in nothing else give the same result; with tsal.tracking=any faces are tracked nevertheless"
    ]


def _short_clips(run: Run) -> list[str]:
    """More frames of a clip asked for than any has. What a profile or budget has was not asked for, and is not told."""
    config, frames, usual = run.config, run.config.semi.frames, 0
    with suppress(ConfigError):  # a profile of one's own is known by its name alone
        usual = Config.resolve(config.profile, config.budget).semi.frames
    longest = max((len(clip.faces) for clip in run.clips), default=0)
    if labels_alone(config) or config.semi.clips == 0 or not 0 < longest < frames or frames <= usual:
        return []
    rendered = config.data.name == "rendered" and not config.data.root
    return [
        f"semi.frames={frames}: no unlabelled clip has more than {longest} frames, so a step sees no more of one; "
        + (f"set render.frames={frames} too" if rendered else "it wants longer clips")
    ]


def _check_detector(run: Run, detector: Detector) -> None:
    model, batch = run.config.model, min(run.config.supervised.batch, run.config.semi.batch)
    if model.centre_candidates > (cells := (model.input // Detector.stride) ** 2):
        raise ConfigError(
            f"model.centre_candidates={model.centre_candidates}: wants at most {cells}, the cells of a map of "
            f"model.input={model.input}"
        )
    image = torch.zeros(1, 3, model.input, model.input)
    if (tsal := run.config.tsal).teacher_lr == 0 and tsal.ema_direction != "none" and tsal.bn_stats == "own":
        if any(isinstance(module, nn.BatchNorm2d) for module in detector.modules()):
            raise ConfigError(
                "tsal.bn_stats=own: with tsal.teacher_lr=0 the teacher's batch statistics stay the init's, while "
                "its weights are averaged; set tsal.bn_stats=average, or give it a rate, such as tsal.teacher_lr=0.1"
            )
    if batch == 1:
        try:
            detector.train()(image)
        except ValueError:  # one cell at the deepest stride is one number, of which there is no variance
            raise ConfigError(
                f"model.input={model.input}: wants supervised.batch and semi.batch of 2 or more, or a larger input"
            ) from None
    try:
        detection_sources(detector.eval(), detector(image))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"model.*: a detector of these settings does not work: {first_line(error)}") from error
