"""What makes results of the bench comparable: settings, lists, what these hold, and the scheme of the landmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tsal.bench.table import REFERENCE, read_results
from tsal.config import Config, labels_alone, load_method, names_of, result_settings, settings_of
from tsal.pseudo import PseudoLabeller
from tsal.run import STARTS, Run, list_hashes
from tsal.stages import prepare_data
from tsal.tracker import UNTUNED
from tsal.utils import ConfigError, DataError, InputError, first_line

STEPS = ("supervised.steps", "semi.steps", "train.epochs")
TRACKED = {  # settings without effect where nothing is tracked
    f"tsal.{name}"
    for name in ("max_fb_error", "window", "vote_error", "trust", "agreement_weight", "teacher_consistency")
}
BEFORE = {  # results that do not name these settings are of before there were any
    "tsal.window": 1,
    "tsal.vote_error": 0,
    "tsal.trust": 0,
    "tsal.agreement_weight": 0,
    "tracker.iterations": [1],
    "model.width": 1.0,
}
REMOVED = 5  # paths in a line
Configure = Callable[[str], Config]  # a method's name -> its config, of the bench's first seed


def seeded(configure: Configure, method: str, seed: int) -> Config:
    return configure(method).override({"seed": seed})


def base_folder(folder: Path, seed: int) -> Path:
    """The run of a seed that makes what its methods share, in the folder of a bench's runs."""
    return folder / f"base-s{seed}"


def deciding(config: Config) -> dict:
    """The settings that decide a run's numbers, by name: results of others are not put beside them.

    Unlabelled faces, their views and what is made of them decide nothing where labels are learned alone; labels to
    measure pseudo-labels by (``data.audit_labels``) never do.
    """
    settings = result_settings(config)
    if labels_alone(config):
        ignored = settings_of("unlabelled")
        settings = {
            name: value for name, value in settings.items() if name not in ignored and not name.startswith("tsal.")
        }
    return settings


def learned_and_measured(config: Config) -> list[str]:
    """The lists that decide a run's numbers, as :func:`deciding` has them."""
    settings = deciding(config)
    return [name for part in ("labelled", "unlabelled", "evaluate") for name in settings.get(f"data.{part}", ())]


def comparable(results: Sequence[dict], configure: Configure, now: Mapping[str, str] = {}) -> list[dict]:
    """Those that were made with these settings, the seed apart, with their method's as it is now, and with lists,
    images, labels and scheme as they are now.

    A result that was made before there was a setting was made with its default, or with what ``BEFORE`` says; one that
    does not say what it was made from counts as made from these, and so do all where the data are not here.

    Args:
        now: what :func:`check_data` says that the lists' files hold.
    """
    methods = names_of("methods")
    results = [r for r in results if r["method"] in methods and not other_settings(r, configure)]
    results = [r for r in results if _same_lists(r, seeded(configure, r["method"], r["seed"]))]
    return [r for r in results if all(now.get(name, value) == value for name, value in r.get("data", {}).items())]


def made_from(run: Run) -> dict:
    """What a result keeps of its data: hashes of its lists, of what their rows hold, of the files that its init and its
    tracker started from, and of the scheme.
    """
    names, manifest = ["labelled_fingerprint", "evaluate_fingerprint"], run.manifest()
    if not labels_alone(run.config):
        names.append("fingerprint")
    settings, tracker = run.config.flat(), run.config.data.consecutive or _learns_from_flow(run.config)
    names += [key for name, key in STARTS.items() if settings[name] and (tracker or name != "tracker.init")]
    return {
        "list_hashes": {name: manifest["lists"][name] for name in learned_and_measured(run.config)},
        "data": {name: manifest[name] for name in names},
        "scheme": _hash_scheme(run),
    }


def _learns_from_flow(config: Config) -> bool:
    return not labels_alone(config) and PseudoLabeller(config).needs_flow


def _same_lists(result: dict, config: Config) -> bool:
    """Whether the lists and the scheme hold what they held; what is not here (yet) counts as the same: a run says so
    itself.
    """

    def now(name: str) -> str | None:
        return list_hashes(run, [name])[name] if name else _hash_scheme(run)

    run = Run(Path(), config)
    for name, old_hash in [("", result.get("scheme")), *result.get("list_hashes", {}).items()]:
        with suppress(ConfigError, DataError):
            if old_hash and now(name) != old_hash:
                return False
    return True


def _hash_scheme(run: Run) -> str:
    return hashlib.sha256(json.dumps(run.scheme.to_dict(), sort_keys=True).encode()).hexdigest()


def check_data(folder: Path, config: Config) -> tuple[dict, list[str]]:
    """What a seed's base in a bench's ``folder`` says of the data once it is checked, of which files that are as they
    were are not opened; {} where they are not here or cannot be checked. And a line where they are here and not right,
    or another process works on them: results that are there say nothing of it, and no run that would is started.
    """
    run = Run(base_folder(folder.resolve(), config.seed), config, unsaved=True)
    try:
        list_hashes(run)  # before faces are rendered for nothing
    except (ConfigError, DataError, InputError):
        return {}, []
    try:
        return prepare_data(run, checked=run.folder), []
    except (ConfigError, DataError, InputError) as error:
        why = f"the check of the data failed: {first_line(error)}"
        return {}, [f"{why}; results of before are shown as if they were unchanged"]


def other_settings(result: dict, configure: Configure) -> dict[str, tuple[Any, Any]]:
    """The settings, by name, that a result was made with otherwise than it would be now: made with, and now."""
    defaults, config = Config().flat() | BEFORE, seeded(configure, result["method"], result["seed"])
    settings, old_settings = deciding(config), result.get("settings")
    if not isinstance(old_settings, dict):
        return {"settings": ("not kept", "kept")}
    # what is asked of tracks, and what makes them, decides nothing then
    if not _learns_from_flow(config):
        ignored = TRACKED | {name for name in settings if name.startswith("tracker.")}
        if config.data.consecutive:  # the tracker makes the numbers of a window, and with these a method needs it
            ignored = UNTUNED | TRACKED - {"tsal.agreement_weight", "tsal.teacher_consistency"}
        settings = {n: v for n, v in settings.items() if n not in ignored}
    pairs = {name: (old_settings.get(name, defaults.get(name)), value) for name, value in settings.items()}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}


def refuse_other_settings(
    configure: Configure, folder: Path, out: Path, methods: Sequence[str], seeds: Sequence[int]
) -> None:
    """Raise where runs or results of other settings would be overwritten, or would lie beside those to come; one that
    this version cannot read counts as such. Of a method that is not asked for, its own settings (``tsal.*``) may be
    others, and its run may be of another version.
    """
    there = {out / f"{result['method']}-s{result['seed']}.json": result for result in read_results(out)}
    wrong: dict[Path, str] = {}
    for path in sorted(folder.glob("*-s*/config.json")):
        name = path.parent.name.rpartition("-s")[0]
        if name == "base":
            continue
        try:
            config = Config.load(path)
            there[path.parent] = {"method": config.method, "seed": config.seed, "settings": deciding(config)}
        except ConfigError as error:
            if name in methods:
                wrong[path.parent] = f"cannot be read by this version ({error})"
    for path, result in there.items():
        if result["method"] not in names_of("methods"):
            continue
        apart, asked = other_settings(result, configure), (result["method"] in methods and result["seed"] in seeds)
        # an earlier version wrote the steps of a longer training to its run's config.json
        longer = STEPS if path.is_dir() and load_method(result["method"]).steps_times > 1 else ()
        apart = {n: v for n, v in apart.items() if n not in longer and (asked or not n.startswith("tsal."))}
        if apart:
            few = ", ".join(f"{name} = {before!r}, not {now!r}" for name, (before, now) in list(apart.items())[:3])
            said = f"was made with {few}{', ...' if len(apart) > 3 else ''}"
            wrong[path] = "does not say its settings" if "settings" in apart else said
    if wrong:
        (first, what), more = next(iter(wrong.items())), len(wrong) - REMOVED
        text = ", ".join(map(str, list(wrong)[:REMOVED])) + (f" and {more} more" if more > 0 else "")
        raise InputError(
            f"{first}: {what}, and would be overwritten or compared with other runs"
            f"{f', and so would {len(wrong) - 1} more' if len(wrong) > 1 else ''}; name other folders by "
            f"--runs and --out (make: RUNS= and OUT=), or remove {text}"
        )


def same_runs(methods: Sequence[str], configure: Configure) -> list[str]:
    """One line for all methods that are the same run as one named before them: by their settings, or because on these
    data nothing is tracked.
    """

    def effective(method: str) -> dict:
        config = configure(method)
        labeller, values = PseudoLabeller(config), deciding(config)
        values |= {"tsal.sources": labeller.names, "tsal.tracking": labeller.needs_flow}
        return values | {name: None for name in TRACKED if not labeller.needs_flow}

    def why(method: str, twin: str) -> str:
        config = configure(method)
        if config.data.consecutive or deciding(config) == deciding(configure(twin)):
            return "with these settings"
        return "on these data (data.consecutive=false: nothing is tracked)"

    settings = {method: effective(method) for method in methods}
    twins = {method: next(name for name in settings if settings[name] == settings[method]) for method in settings}
    again: dict[str, list[str]] = {}
    for method, twin in twins.items():
        if twin != method:
            again.setdefault(f"{twin} {why(method, twin)}: the same run again", []).append(method)
    return [f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {what}" for what, names in again.items()]


def all_labels(configure: Configure | None, results: Sequence[dict], beside: Sequence[dict] = ()) -> dict[str, float]:
    """NME by list of supervised-only where every label of the budget's domain is given; ``configure`` and ``results``
    are that budget's. Results ``beside`` it that name the same lists to measure on must have measured the same labels.
    """

    def same_truth(result: dict) -> bool:
        fingerprint = result.get("data", {}).get("evaluate_fingerprint")
        lists = result["settings"]["data.evaluate"]
        now = {
            r["data"]["evaluate_fingerprint"] for r in beside if "data" in r and r["settings"]["data.evaluate"] == lists
        }
        return fingerprint is None or not now or fingerprint in now

    references = [r for r in comparable(results, configure) if r["method"] == REFERENCE] if configure else []
    references = [r for r in references if same_truth(r)]
    lists = dict.fromkeys(key for r in references for key in r["lists"])
    return {
        key: float(np.mean([r["lists"][key][REFERENCE]["NME"] for r in references if key in r["lists"]]))
        for key in lists
    }
