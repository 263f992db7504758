"""Files of several runs -> the numbers of their methods, to be compared over seeds, label budgets and parts left out.

Runs are distinguished by their configs. A seed is ``seed``; a budget is the number of labelled faces (of the manifest);
every other setting that decides a result and is not the same in all runs makes a method of its own, and so do other
lists of as many labelled faces. Each run has its own method and the rival that it trained (``semi.rival``). A method is
called by its name in configs/methods, and by the settings in which it differs from that file or from the profile of the
first run. The first run's method is the full one, against which ablations are measured, seed by seed, where both runs
share an init, or their settings make two. What was trained on labels alone is distinguished by the settings that such
a training sees.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tsal.config import Config, load_method, settings_of
from tsal.evaluation import NORMALISERS, SAME_INIT
from tsal.figures.evaluated import refuse_former
from tsal.figures.style import read_report
from tsal.run import Run
from tsal.trainings import rival_config
from tsal.utils import ConfigError, InputError

LISTS = ("data.labelled", "data.unlabelled")
BUDGET = (*LISTS, "render.labelled")  # the settings that make a budget of labels
SAME = {"seed", "result", *settings_of("machine", "measuring"), *BUDGET} - {"data.transductive", "data.normaliser"}
FURTHER = ("steps_times", "semi.steps", "semi.batch", "semi.lr")  # of what comes after the init
METHOD_KEYS = ("method", "result", "steps_times", "tracker.flow")  # that a method's file says, beside tsal.*
INIT, SUPERVISED, TSAL = "supervised init", "supervised only", "TSAL"


class Comparison(NamedTuple):
    """What the runs say: ``scores`` has a row for each evaluation list, method, number of labelled faces and seed."""

    # list, method, labelled, seed, NME, error_jitter (or NaN), runs (names of the folders), and init: NME % of the init
    # that a run went on from, NaN where its settings make it another one than the full method's
    scores: pd.DataFrame
    full: str  # the first run's method
    unit: str

    def paired(self) -> pd.DataFrame:
        """``scores`` with ``difference``: NME less that of the full method's run on the same list, with the same budget
        and seed, NaN where there is none. Of runs that should have one init and have not, there is none either: another
        CPU type makes another init of the same seed.
        """
        keys, scores = ["list", "labelled", "seed"], self.scores
        full = scores[scores.method == self.full].set_index(keys)[["NME", "init"]]
        reference = full.reindex(pd.MultiIndex.from_frame(scores[keys])).set_axis(scores.index)
        apart = (scores.init - reference.init).abs() >= SAME_INIT
        apart = apart.groupby([scores[key] for key in ("method", "labelled", "seed")]).transform("any")  # on any list
        return scores.assign(difference=(scores.NME - reference.NME).mask(apart))


def read_runs(folders: Sequence[Path]) -> Comparison:
    """Of evaluated runs; :class:`InputError` where one is not, or where they are measured in different ways."""
    runs = {}
    for folder in dict.fromkeys(Path(folder).resolve() for folder in folders):
        for name in ("config.json", "manifest.json", "metrics.json"):
            if not (folder / name).is_file():
                raise InputError(
                    f"{folder / name}: not there; a run that is compared is evaluated first: "
                    f"python -m tsal evaluate --run {folder}"
                )
        run = Run.open(folder)
        manifest, report = read_report(run, "manifest.json"), read_report(run, "metrics.json")
        refuse_former(run, report)
        runs[folder] = run.config, manifest, report
    if not runs:
        raise InputError("no run to compare: give the folders of one or more")
    _check_alike(runs)
    configs, manifests, _ = zip(*runs.values())
    methods = _name_methods(configs, [manifest["labelled"] for manifest in manifests])
    rows = []
    for (folder, (config, manifest, report)), names in zip(runs.items(), methods):
        numbers = {(row["list"], row["model"]): row for row in report["rows"] if row["source"] == "heatmap"}
        same_init = next(iter(names)) == next(iter(methods[0]))  # by its settings
        for list_name in dict.fromkeys(name for name, _ in numbers):
            init = numbers.get((list_name, "init"), {}).get("NME", np.nan) if same_init else np.nan
            for method, model in names.items():
                row = numbers.get((list_name, model), {})
                nme, shaken = row.get("NME", np.nan), row.get("error_jitter", np.nan)
                if nme is not None and np.isfinite(nme):
                    rows.append((list_name, method, manifest["labelled"], config.seed, nme, shaken, init, folder.name))
    if not rows:
        raise InputError("no run has a number to compare: their evaluation lists have no labels")
    scores = pd.DataFrame(rows, columns=["list", "method", "labelled", "seed", "NME", "error_jitter", "init", "runs"])
    full, keys = list(methods[0])[-1], ["list", "method", "labelled", "seed"]
    scores = _of_the_full_method_s_init(scores, full)
    # runs of one seed share what was trained on labels alone: it counts once
    scores["list"], scores["method"] = (
        pd.Categorical(scores[name], scores[name].unique()) for name in ("list", "method")
    )
    scores = scores.groupby(keys, observed=True).agg(
        NME=("NME", "mean"),
        error_jitter=("error_jitter", "mean"),
        init=("init", "mean"),
        runs=("runs", lambda names: ", ".join(dict.fromkeys(names))),
    )
    first = next(iter(runs.values()))[0]
    unit = f"% of {NORMALISERS[first.data.normaliser]}" + ", transductive" * any(
        config.data.transductive for config, _, _ in runs.values()
    )
    return Comparison(scores.reset_index().astype({"list": str, "method": str}), full, unit)


def _of_the_full_method_s_init(scores: pd.DataFrame, full: str) -> pd.DataFrame:
    """Where runs of one seed have several inits (of several machines), what was trained on labels alone is there
    several times: that of the full method's init is kept.
    """
    keys = ["list", "labelled", "seed"]
    full_init = scores[scores.method == full].groupby(keys).init.mean().reindex(pd.MultiIndex.from_frame(scores[keys]))
    same = (scores.init - full_init.to_numpy()).abs() < SAME_INIT
    return scores[same | ~same.groupby([scores[key] for key in (*keys, "method")]).transform("any")]


def _check_alike(runs: dict) -> None:
    """One normaliser, and one content of each evaluation list: of its file, and of all that its rows name."""
    seen: dict[str, tuple[str, Path]] = {}
    for folder, (config, manifest, report) in runs.items():
        facts = {
            f"evaluation list {name}": digest
            for name, digest in manifest["lists"].items()
            if name in config.data.evaluate
        }
        if faces := report.get("evaluate_fingerprint"):  # an earlier version's has none
            facts[f"content (images, boxes, labels) of {', '.join(config.data.evaluate)}"] = faces
        for name, value in {"normaliser": report["normaliser"], **facts}.items():
            before, other = seen.setdefault(name, (value, folder))
            if before != value:
                raise InputError(f"{folder}: its {name} is not that of {other}; compare runs that are measured alike")


def _name_methods(configs: Sequence[Config], labelled: Sequence[int]) -> list[dict[str, str]]:
    """Of each run, with its number of labelled faces: its methods, and the model of the run that is each one's result;
    the run's method comes last.
    """
    try:
        base = Config.load(configs[0].profile)
    except ConfigError:  # a profile of one's own
        base = Config()
    settings, usual = [config.flat() for config in configs], base.flat()
    rivals = [rival.flat() if (rival := rival_config(config)) else None for config in configs]
    several = {name for name in LISTS if _differs(name, settings, labelled)}
    trainings = [*settings, *filter(None, rivals)]
    methods = [run["method"] for run in trainings]  # trainings of one method may differ where the runs do not

    def differs(key: str) -> bool:
        return key in several or (key not in SAME and (_differs(key, settings) or _differs(key, trainings, methods)))

    differing = [key for key in usual if differs(key)]
    unseen = settings_of("unlabelled")  # by trainings on labels alone
    names = []
    for run, rival in zip(settings, rivals):
        alone = [key for key in differing if not key.startswith(("tsal.", "tracker.")) and key not in unseen]
        method, result, own = _known_method(run, trainings)
        models = {_called(INIT, [key for key in alone if key not in FURTHER], run, usual): "init"}
        if result == "supervised":
            models[_called(method, alone, run, usual | own)] = result
        else:
            models[_called(SUPERVISED, alone, run, usual)] = "supervised"
            if rival:
                title, _, rival_own = _known_method(rival, trainings)
                models[_called(title, differing, rival, usual | rival_own)] = rival["method"]
            models[_called(method, differing, run, usual | own)] = result
        names.append(models)
    return names


def _differs(key: str, settings: Sequence[dict], groups: Sequence[Hashable] = ()) -> bool:
    """Whether a setting has several values; with the ``groups`` that the runs are of: in one of them."""
    by_group: dict[Hashable, set[str]] = {}
    for run, group in zip(settings, groups or [0] * len(settings)):
        by_group.setdefault(group, set()).add(json.dumps(run[key]))
    return any(len(values) > 1 for values in by_group.values())


def _called(name: str, keys: Sequence[str], settings: dict, usual: dict) -> str:
    words = [f"{key}={json.dumps(settings[key])}".replace('"', "") for key in keys if settings[key] != usual[key]]
    return ", ".join([name, *words])


def _known_method(settings: dict[str, Any], runs: Sequence[dict]) -> tuple[str, str, dict[str, Any]]:
    """Title and result of a run's method, and the settings of its file; where that is gone, those of the first run of
    this method.
    """
    name = settings["method"]
    try:
        own = load_method(name).settings
    except ConfigError:
        first = next(run for run in runs if run["method"] == name)
        own = {key: value for key, value in first.items() if key.startswith("tsal.") or key in METHOD_KEYS}
    return {"tsal": TSAL, "supervised": SUPERVISED}.get(name, name), settings["result"], own
