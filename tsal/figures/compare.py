"""How the methods of several runs compare, over seeds, label budgets and parts left out, as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from tsal.figures.comparison import START, SUPERVISED, Comparison, read_runs
from tsal.figures.dataset import COLOURS
from tsal.figures.pseudo_labels import empty
from tsal.figures.style import COLUMN, MODELS, NORMALISERS, TEXT, Picture, save, styled
from tsal.figures.tables import write_tables
from tsal.run import INCIDENTAL, MEASURING
from tsal.utils import ConfigError, InputError

BUDGET = ("data.labelled", "data.unlabelled", "render.labelled")  # the settings that a budget of labels stands in
SAME = {"profile", "seed", *INCIDENTAL, *MEASURING, *BUDGET} - {"data.transductive", "data.normaliser"}
FURTHER = ("semi.steps", "semi.batch", "semi.lr")  # of what comes after the start
START, SUPERVISED, TSAL = "init", "supervised only", "TSAL"


class Comparison(NamedTuple):
    """What the runs say: ``scores`` has a row for each evaluation list, method, number of labelled faces and seed."""

    scores: pd.DataFrame  # list, method, labelled, seed, NME, runs (names of the folders)
    full: str  # the first run's method
    unit: str


def compare_runs(folders: Sequence[Path], out: Path) -> list[Path]:
    """``compare-*.png``, ``.pdf``, and ``compare.md`` and ``.tex`` of runs in the folder ``out`` -> their paths."""
    found = read_runs(folders)
    paths = [path for figure in draw_comparison(found) for path in save(figure, Path(out))]
    return paths + write_tables(comparison_tables(found), out, "compare")


# --- read
# ------------------------------------------------------------------------------------------------------------------


def read_runs(folders: Sequence[Path]) -> Comparison:
    """Of evaluated runs; :class:`InputError` where one is not, or where they are measured in different ways."""
    runs = {}
    for folder in dict.fromkeys(Path(folder).resolve() for folder in folders):
        for name in ("config.json", "manifest.json", "metrics.json"):
            if not (folder / name).is_file():
                raise InputError(
                    f"{folder / name}: not there; a run that is compared is evaluated first: python -m tsal evaluate --run {folder}"
                )
        config = Config.load(folder / "config.json")
        try:
            runs[folder] = (
                config,
                json.loads((folder / "manifest.json").read_text()),
                json.loads((folder / "metrics.json").read_text()),
            )
        except ValueError:
            raise InputError(
                f"{folder}: manifest.json or metrics.json is broken; make them again: python -m tsal evaluate --run {folder}"
            ) from None
    if not runs:
        raise InputError("no run to compare: give the folders of one or more")
    _check_alike(runs)
    methods = _name_methods([config for config, _, _ in runs.values()])
    rows = []
    for (folder, (config, manifest, report)), names in zip(runs.items(), methods):
        found = {(row["list"], row["model"]): row["NME"] for row in report["rows"] if row["source"] == "heatmap"}
        for list_name in dict.fromkeys(name for name, _ in found):
            for method, model in names.items():
                nme = found.get((list_name, model), np.nan)
                if nme is not None and np.isfinite(nme):
                    rows.append((list_name, method, manifest["labelled"], config.seed, nme, folder.name))
    if not rows:
        raise InputError("no run has a number to compare: their evaluation lists have no labels")
    scores = pd.DataFrame(rows, columns=["list", "method", "labelled", "seed", "NME", "runs"])
    # runs of one seed share what was trained on labels alone: it counts once
    keys = ["list", "method", "labelled", "seed"]
    scores["list"], scores["method"] = (
        pd.Categorical(scores[name], scores[name].unique()) for name in ("list", "method")
    )
    scores = scores.groupby(keys, observed=True).agg(
        NME=("NME", "mean"), runs=("runs", lambda names: ", ".join(dict.fromkeys(names)))
    )
    first = next(iter(runs.values()))[0]
    unit = f"% of {NORMALISERS[first.data.normaliser]}" + ", transductive" * any(
        config.data.transductive for config, _, _ in runs.values()
    )
    return Comparison(scores.reset_index().astype({"list": str, "method": str}), list(methods[0])[-1], unit)


def _check_alike(runs: dict) -> None:
    """One normaliser, and one content of each evaluation list."""
    seen: dict[str, tuple[str, Path]] = {}
    for folder, (config, manifest, report) in runs.items():
        facts = {
            f"evaluation list {name}": digest
            for name, digest in manifest["lists"].items()
            if name in config.data.evaluate
        }
        for name, value in {"normaliser": report["normaliser"], **facts}.items():
            before, other = seen.setdefault(name, (value, folder))
            if before != value:
                raise InputError(f"{folder}: its {name} is not that of {other}; compare runs that are measured alike")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _name_methods(configs: Sequence[Config]) -> list[dict[str, str]]:
    """Of each run: its methods, and the model of the run that is each one's result; TSAL or its rival comes last."""
    try:
        base = Config.load(configs[0].profile)
    except ConfigError:  # a profile of one's own
        base = Config()
    settings, usual = [flat(config.to_dict()) for config in configs], flat(base.to_dict())
    differing = [key for key in usual if key not in SAME and len({json.dumps(one[key]) for one in settings}) > 1]
    names = []
    for one in settings:
        alone = [key for key in differing if not key.startswith(("tsal.", "tracker."))]
        method, result, told = _known_method(one, base)
        untold = [key for key in differing if key not in told]
        names.append(
            {
                _called(START, [key for key in alone if key not in FURTHER], one, usual): "init",
                _called(SUPERVISED, alone, one, usual): "supervised",
                _called(method, untold, one, usual): result,
            }
        )
    return names


def _called(name: str, keys: Sequence[str], settings: dict, usual: dict) -> str:
    words = [f"{key}={json.dumps(settings[key])}".replace('"', "") for key in keys if settings[key] != usual[key]]
    return ", ".join([name, *words])


def _known_method(settings: dict, base: Config) -> tuple[str, str, set[str]]:
    """Name and result of the file of configs/methods that sets TSAL and its flow just so, and the settings that it
    tells.
    """
    parts = {key for key in settings if key.startswith("tsal.") or key == "tracker.flow"}
    # on some profiles two files say the same: the one that sets less is meant
    methods = sorted((len(load_method(name)[0]), name) for name in method_names())
    for _, name in methods:
        overrides, result, _ = load_method(name)
        wanted = flat(base.override(overrides).to_dict())
        if result != "supervised" and all(settings[key] == wanted[key] for key in parts):
            return TSAL if name == "tsal" else name, result, parts
    return TSAL, "teacher", set()


# --- told
# ------------------------------------------------------------------------------------------------------------------


def method_table(found: Comparison) -> pd.DataFrame:
    """A row for each list, number of labelled faces and method: seeds, mean, standard deviation over seeds (NaN for
    one), and the
    ``difference`` from the full method, paired over the seeds that both have."""
    scores, rows = found.scores, []
    for (name, labelled), mine in scores.groupby(["list", "labelled"], sort=False):
        full = mine[mine.method == found.full].set_index("seed").NME
        for method, one in mine.groupby("method", sort=False):
            paired = (one.set_index("seed").NME - full).dropna()
            row = {
                "list": name,
                "labelled": labelled,
                "method": method,
                "seeds": len(one),
                "mean": one.NME.mean(),
                "std": one.NME.std(ddof=1),
            }
            row["difference"] = paired.mean() if method != found.full and len(paired) else np.nan
            rows.append(row | {"pairs": len(paired) if method != found.full else 0})
    return pd.DataFrame(rows)


def comparison_tables(found: Comparison) -> dict[str, pd.DataFrame | str]:
    numbers = method_table(found)
    text = lambda form: lambda value: "-" if np.isnan(value) else form.format(value)  # noqa: E731
    shown = numbers.assign(
        **{
            "mean": numbers["mean"].map(text("{:.2f}")),
            "std": numbers["std"].map(text("{:.2f}")),
            "difference": numbers.difference.map(text("{:+.2f}")),
        }
    )
    shown = shown.rename(
        columns={"mean": "NME %", "std": "deviation over seeds", "difference": "difference from the full method"}
    )
    runs = found.scores.assign(NME=found.scores.NME.map("{:.2f}".format)).rename(columns={"NME": "NME %"})
    tables: dict[str, pd.DataFrame | str] = {
        f"Methods (NME in {found.unit}; full method: {found.full})": shown,
        "Runs": runs,
    }
    reasons = {
        f"No {name}": why
        for name, why in (("label-budget curve", _no_budgets(found)), ("ablation", _no_ablation(found)))
        if why
    }
    if found.scores.seed.nunique() < 2:
        reasons["No spread"] = "All runs have one seed."
    return tables | {
        title: f"Nothing to show: {why}" if title != "No spread" else why for title, why in reasons.items()
    }


def _no_budgets(found: Comparison) -> str:
    counts = found.scores.labelled.unique()
    return f"all runs have {counts[0]} labelled faces." if len(counts) < 2 else ""


def _no_ablation(found: Comparison) -> str:
    others = [
        method
        for method in found.scores.method.unique()
        if method != found.full and not method.startswith((START, SUPERVISED))
    ]
    if not others:
        return f"all runs have one method, {found.full}."
    table = method_table(found)
    paired = table[table.method.isin(others)].pairs.any()
    return "" if paired else f"no run of another method has a seed and a budget of a run of {found.full}."


# --- drawn ---


@styled
def draw_comparison(found: Comparison) -> list[Picture]:
    """Methods with their seeds, NME against labels, and what each part is worth."""
    return [_draw_methods(found), _draw_budgets(found), _draw_ablation(found)]


def _colours(found: Comparison) -> dict[str, str]:
    """The models' own colours for what they are, others for others."""
    own = {START: MODELS["init"], SUPERVISED: MODELS["supervised"], found.full: MODELS["teacher"]}
    free = [colour for colour in COLOURS if colour not in own.values()]
    others = [method for method in dict.fromkeys(found.scores.method) if method not in own]
    return own | {method: free[i % len(free)] for i, method in enumerate(others)}


def _short(method: str) -> str:
    """A method's name for an axis: below it the first of its settings, and how many more there are."""
    name, *words = method.split(", ")
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    return f"{name}\n{words[0].removeprefix('tsal.')}{more}" if words else name


def _panels(figure: Picture, found: Comparison) -> dict[str, Any]:
    lists = list(dict.fromkeys(found.scores.list))
    return dict(zip(lists, figure.subplots(1, len(lists), squeeze=False)[0]))


def _width(found: Comparison) -> float:
    return COLUMN if found.scores.list.nunique() == 1 else TEXT


def _draw_methods(found: Comparison) -> Picture:
    """A dot a seed, their mean, and a whisker of one standard deviation each way."""
    numbers, colours = method_table(found), _colours(found)
    panels = list(dict.fromkeys(zip(numbers.list, numbers.labelled)))
    methods = [method for method in colours if method in set(numbers.method)]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height = 0.5 + sum(0.12 + 0.11 * (1 + _short(method).count("\n")) for method in methods)
    figure = Picture("compare-methods", COLUMN if columns == 1 else TEXT, max(1.3, height) * rows, layout="constrained")
    for axes, (name, labelled) in zip(figure.subplots(rows, columns, squeeze=False).flat, panels):
        mine = numbers[(numbers.list == name) & (numbers.labelled == labelled)].set_index("method")
        every = found.scores[(found.scores.list == name) & (found.scores.labelled == labelled)]
        for place, method in enumerate(methods):
            if method not in mine.index:
                continue
            row, seeds = mine.loc[method], every[every.method == method].NME
            axes.plot(
                seeds,
                np.full(len(seeds), place),
                marker="o",
                markersize=2.5,
                linestyle="",
                color=colours[method],
                alpha=0.6,
            )
            looks = {
                "color": colours[method],
                "marker": "D",
                "markersize": 4.5,
                "markeredgecolor": "black",
                "markeredgewidth": 0.4,
            }
            axes.errorbar(row["mean"], place, xerr=np.nan_to_num(row["std"]), capsize=2.5, elinewidth=1, **looks)
        axes.set_yticks(range(len(methods)), map(_short, methods))
        axes.set(ylim=(len(methods) - 0.5, -0.5), xlabel=f"NME ({found.unit})")
        counts = sorted(set(mine.seeds))
        axes.set_title(
            f"{name}: {labelled} labelled faces, "
            + (f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds")
        )
        axes.margins(x=0.1)
        axes.grid(False, axis="y")
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    return figure


def _draw_budgets(found: Comparison) -> Picture:
    numbers, colours = method_table(found), _colours(found)
    figure = Picture("compare-budgets", _width(found), 2.2 + 0.08 * len(colours), layout="constrained")
    marks = dict(zip(colours, "osD^vPX*<>" * (1 + len(colours) // 10)))
    for name, axes in _panels(figure, found).items():
        mine = numbers[numbers.list == name].sort_values("labelled", kind="stable")
        budgets = mine.labelled.unique()
        axes.set_title(name)
        if len(budgets) < 2:
            empty(axes, f"nothing to show:\nall runs have {budgets[0]} labelled faces")
            continue
        for method, rows in mine.groupby("method", sort=False):
            spread = np.nan_to_num(rows["std"])
            axes.fill_between(
                rows.labelled,
                rows["mean"] - spread,
                rows["mean"] + spread,
                color=colours[method],
                alpha=0.15,
                linewidth=0,
            )
            options = {"color": colours[method], "marker": marks[method], "label": _short(method).replace("\n", ": ")}
            axes.plot(rows.labelled, rows["mean"], markersize=3.5, **options)
        axes.set(xscale="log", xlabel="labelled faces", ylabel=f"NME\n({found.unit})")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(budgets, [str(count) for count in budgets])
    shown = [axes for axes in figure.axes if axes.lines]
    if shown:
        spread = ", band of one standard deviation each way" * bool(numbers["std"].notna().any())
        columns = 2 if len(figure.axes) == 1 else 4
        figure.legend(
            *shown[0].get_legend_handles_labels(),
            title=f"means of the seeds{spread}",
            loc="outside lower center",
            ncols=columns,
        )
    return figure


def _draw_ablation(found: Comparison) -> Picture:
    """How much worse (right) or better (left) than the full method, seed by seed and over all budgets."""
    scores, colours = found.scores, _colours(found)
    methods = [method for method in colours if method in set(scores.method) and method not in (START, found.full)]
    figure = Picture("compare-ablation", _width(found), max(1.3, 0.65 + 0.3 * len(methods)), layout="constrained")
    for name, axes in _panels(figure, found).items():
        table = scores[scores.list == name].pivot(index=["labelled", "seed"], columns="method", values="NME")
        changes = table.sub(table[found.full], axis=0) if found.full in table else table * np.nan
        known = [method for method in methods if method in changes and changes[method].notna().any()]
        axes.set_title(name)
        if _no_ablation(found) or not known:
            empty(
                axes,
                "nothing to show:\n"
                + fill(_no_ablation(found).removesuffix(".") or "no pair of runs on this list", 40),
            )
            continue
        for place, method in enumerate(known):
            one = changes[method].dropna()
            axes.barh(place, one.mean(), height=0.55, color=colours[method], alpha=0.75)
            axes.plot(one, np.full(len(one), place), marker="o", markersize=2.5, linestyle="", color="#222222")
        axes.axvline(0, color="#222222", linewidth=0.7)
        axes.set_yticks(range(len(known)), map(_short, known))
        axes.set(ylim=(len(known) - 0.5, -0.5), xlabel=f"NME above that of {found.full}\n({found.unit})")
        axes.margins(x=0.1)
        axes.grid(False, axis="y")
    return figure
