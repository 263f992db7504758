"""Results of the bench -> one comparison: paired over seeds and faces, as a table and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tsal.bench.paired import measure_of, number, paired_difference, rank_of, same_init, share_better, shared_seeds
from tsal.evaluation import NORMALISERS, STEADINESS
from tsal.utils import DataError, markdown_table, write_text

REFERENCE = "supervised"
OURS = ("tsal", "mean-teacher-corrected")  # what all others are compared with: the first of them that was run
WITHOUT = "tsal-no-"  # begins the names of methods that are TSAL less a part


def read_results(out: Path) -> list[dict]:
    """The JSON of each finished run in a folder."""
    results = []
    for path in sorted(Path(out).glob("*-s*.json")):
        try:
            result = json.loads(path.read_text())
            result["method"], result["seed"], [scores["clips"] for scores in result["lists"].values()]
            results.append(result)
        except (ValueError, KeyError, TypeError, AttributeError):
            what = "is no result of a method's run, or one of an earlier version"
            raise DataError(f"{path}: {what}; remove it, and run again") from None
    return results


def compare(results: Sequence[dict], full: dict[str, float] | None = None, draws: int = 2000) -> list[dict]:
    """A row for each evaluation list and method: NME over seeds, and its difference from supervised-only, paired over
    seeds.

    ``low`` and ``high`` bound 95 % of the bootstrap of that difference (in NME points): seeds, and photographs and
    clips, are drawn anew; NaN where there is one of each.
    ``full``: NME by list of supervised-only on all labels of the domain, for ``gap``, the share (%) of the way there
    that a method goes. ``ahead``, ``ahead low`` and ``ahead high`` say by how much ``ours`` (see ``OURS``; "" if none
    of them was run) is below the method, in the same way. ``paired`` and ``ahead paired``: how many seeds these two are
    of, where that is fewer than ``seeds``. ``better``: the share (%) of photographs and clips where ``ours`` is better
    than the method, the mean over the same seeds as ``ahead``. The error of a clip is the mean over its frames; a tie
    counts half. A mean that a few hard clips decide stands beside a share of about 50 %. ``semi seconds``: mean time of
    training after the init, tuning of the tracker included; NaN where runs have different CPU types, GPUs or threads,
    whose mean would be the time of neither. Flows are kept in ``data/cache``: the first method that asks for a pair's
    pays for it, and those after it read it. ``unit``: what errors are % of, and whether results are transductive; only
    where that is not the default.

    Rows of a list are in the order of NME (of flow jitter, where it has no labels) less that of ``ours`` over the seeds
    that the two share, so that a method of one seed stands where that seed puts it. Of a method that shares none with
    ``ours`` it is the difference of the means. Where none of ``OURS`` was run, supervised-only takes its place.
    """
    rows, ours = [], _ours(results)
    for name in dict.fromkeys(name for result in results for name in result["lists"]):
        by = {(r["method"], r["seed"]): r for r in results if name in r["lists"]}
        methods = dict.fromkeys(method for method, _ in by)
        for method in sorted(methods, key=lambda method: rank_of(by, name, method, ours or REFERENCE)):
            runs = {seed: r for (m, seed), r in by.items() if m == method}
            scores = np.array([r["lists"][name][r["result"]]["NME"] for r in runs.values()])
            row = {
                "list": name,
                **_unit(results),
                "method": method,
                "seeds": len(runs),
                "NME": scores.mean(),
                "std": scores.std(ddof=1) if len(runs) > 1 else np.nan,
            }
            for key in ("AUC@0.08", "FR@0.08"):
                row[key] = np.mean([r["lists"][name][r["result"]][key] for r in runs.values()])
            row["difference"], row["low"], row["high"] = paired_difference(by, name, method, REFERENCE, draws)
            labels_alone = [
                by[REFERENCE, s]["lists"][name][REFERENCE]["NME"] for s in shared_seeds(by, method, REFERENCE)
            ]
            reference = np.mean(labels_alone) if labels_alone else np.nan
            row["relative"] = 100 * row["difference"] / reference
            row["gap"] = 100 * -row["difference"] / (reference - full[name]) if full and name in full else np.nan
            row["ours"] = ours
            row["ahead"], row["ahead low"], row["ahead high"] = paired_difference(by, name, ours, method, draws)
            row["better"] = share_better(by, name, ours, method)
            seconds = [r["seconds"].get("semi", r["seconds"].get("supervised", np.nan)) for r in runs.values()]
            row["semi seconds"] = np.mean(seconds) if len(set(map(_speed, runs.values()))) == 1 else np.nan
            row["steps"] = next(iter(runs.values()))["steps"]["semi"]
            # a column only where it is known: results of before there was one stay as they are
            numbers = [r["lists"][name][r["result"]] for r in runs.values()]
            row |= _means(numbers, STEADINESS)
            steady = _means([each.get("window", {}) for each in numbers], ("NME", *STEADINESS))
            if steady.keys() & set(STEADINESS):  # not of photographs, which have no neighbours to be averaged with
                row |= {f"window {key}": value for key, value in steady.items()}
            for key, other in (("paired", REFERENCE), ("ahead paired", ours)):
                if method != other and 0 < (count := len(shared_seeds(by, method, other))) < len(runs):
                    row[key] = count
            rows.append(row)
    return rows


def _means(numbers: Sequence[dict], keys: Sequence[str]) -> dict[str, float]:
    """Means over runs of what any of them knows."""
    columns = {key: [each.get(key, np.nan) for each in numbers] for key in keys}
    return {key: float(np.nanmean(column)) for key, column in columns.items() if np.isfinite(column).any()}


def _machine(result: dict) -> tuple[str | None, str | None]:
    """CPU type and GPU of a run; older results name none."""
    machine = result.get("machine") or {}
    return machine.get("cpu"), machine.get("gpu")


def _speed(result: dict) -> tuple[str | None, ...]:
    """What a run's seconds depend on beside its method."""
    return *_machine(result), result.get("threads")


def _unit(results: Sequence[dict]) -> dict[str, str]:
    """``unit`` of the rows, where it is not that of the published tables."""
    text = unit_of(results)
    return {} if text == unit_of([{"normaliser": "ocular"}]) else {"unit": text}


def unit_of(results: Sequence[dict]) -> str:
    """What errors are in, with the mark of transductive results."""
    mark = ", transductive" * any(result.get("transductive") for result in results)
    return f"% of {NORMALISERS[results[0]['normaliser']]}{mark}"


def _ours(results: Sequence[dict]) -> str:
    methods = {result["method"] for result in results}
    return next((method for method in OURS if method in methods), "")


def parts(results: Sequence[dict], draws: int = 2000) -> list[dict]:
    """What the parts of TSAL add: a row for each list, method ``tsal-no-*`` and measure that it and ``tsal`` both have.

    ``seeds``: differences from ``tsal`` of the seeds with which the two share an init (above 0: the part helps), their
    ``mean``, and its 95 % interval ``low`` to ``high``. Of NME that is :func:`compare`'s, of one seed over its clips
    alone; of ``error_jitter`` and ``flow_jitter``, of which results keep no frames, Student's t over the seeds, and NaN
    where there are fewer than three.
    """
    rows = []
    for name in dict.fromkeys(name for result in results for name in result["lists"]):
        by = {(r["method"], r["seed"]): r for r in results if name in r["lists"]}
        for method in dict.fromkeys(method for method, _ in by if method.startswith(WITHOUT)):
            shared = shared_seeds(by, method, "tsal")
            for measure in ("NME", "error_jitter", "flow_jitter"):
                pairs = [[number(by[m, seed], name, measure) for m in (method, "tsal")] for seed in shared]
                apart = [without - whole for without, whole in pairs if math.isfinite(without - whole)]
                if not apart:
                    continue
                mean, low, high = (
                    paired_difference(by, name, method, "tsal", draws) if measure == "NME" else _student(apart)
                )
                part = {"list": name, "part": method.removeprefix(WITHOUT).replace("-", " "), "measure": measure}
                rows.append(part | {"seeds": apart, "mean": mean, "low": low, "high": high})
    return rows


def _student(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; NaN for fewer than three values."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 3:
        return mean, math.nan, math.nan
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return mean, mean - half, mean + half


def other_inits(results: Sequence[dict]) -> list[str]:
    """A line for each run whose init is not that of supervised-only of its seed: the two are not paired."""
    reference = {r["seed"]: r for r in results if r["method"] == REFERENCE}
    return [
        f"{r['method']} of seed {r['seed']} has another init than {REFERENCE} (made on another CPU type?) "
        "and is not paired with it: run one of them again"
        for r in results
        if r["seed"] in reference and not same_init(r, reference[r["seed"]])
    ]


def other_code(results: Sequence[dict]) -> list[str]:
    """A line where results are of different code (:func:`tsal.run.code_fingerprint`), with the runs of each; older
    results do not say of which they are.
    """
    by: dict[str, list[str]] = {}
    for r in results:
        if "code" in r:
            by.setdefault(r["code"], []).append(f"{r['method']} of seed {r['seed']}")
    if len(by) < 2:
        return []
    groups = "; ".join(f"{', '.join(runs)} ({code[:8]})" for code, runs in by.items())
    return [f"runs of different code are in one table: {groups}; what they differ by may be the code's"]


def other_machines(results: Sequence[dict]) -> list[str]:
    """A line where runs are of different CPU types, GPUs or threads, with the runs of each, and one where such runs are
    paired; older results do not say what they ran on.
    """
    by: dict[tuple, list[str]] = {}
    for r in results:
        if any(_machine(r)):
            by.setdefault(_speed(r), []).append(f"{r['method']} of seed {r['seed']}")
    if len(by) < 2:
        return []
    groups = "; ".join(
        f"{', '.join(runs)} ({', '.join(filter(None, (cpu, gpu)))}, threads: {threads})"
        for (cpu, gpu, threads), runs in by.items()
    )
    lines = [f"runs of different CPU types, GPUs or threads are in one table: {groups}; their seconds say little"]
    firsts = {(r["method"], r["seed"]): r for r in results if any(_machine(r))}
    apart = [
        f"{method} of seed {seed}"
        for (method, seed), r in firsts.items()
        for other in {REFERENCE, _ours(results)} - {method}
        if (first := firsts.get((other, seed))) and _machine(first) != _machine(r) and same_init(first, r)
    ]
    if apart:
        runs = ", ".join(dict.fromkeys(apart))
        lines.append(
            f"paired with runs of another CPU type or GPU, where train.amp=auto may be another precision: {runs}"
        )
    return lines


STEADY = ("error_jitter", "jitter", "flow_jitter", "window NME", "window error_jitter", "window flow_jitter")
HEAD = (  # a column that is empty in a whole table is left out
    "method",
    "seeds",
    "NME %",
    "AUC@0.08",
    "FR@0.08",
    "error jitter %",
    "jitter %",
    "flow jitter %",
    "NME %, window",
    "error jitter %, window",
    "flow jitter %, window",
    "against supervised only",
    "95 % interval",
    "gap closed",
    "{ours} against it",
    "{ours} better in",
    "further steps",
    "seconds",
)


def _cells(row: dict) -> tuple[str, ...]:
    def known(value: float, text: str) -> str:
        return "" if np.isnan(value) else text

    def of_seeds(key: str) -> str:
        return f", {row[key]} seed{'s' * (row[key] > 1)}" if key in row else ""

    return (
        row["method"],
        str(row["seeds"]),
        known(row["NME"], f"{row['NME']:.3f}") + known(row["std"], f" ± {row['std']:.3f}"),
        known(row["NME"], f"{row['AUC@0.08']:.3f}"),
        known(row["NME"], f"{row['FR@0.08']:.3f}"),
        *(f"{row[key]:.3f}" if key in row else "" for key in STEADY),
        known(row["difference"], f"{row['difference']:+.3f} ({row['relative']:+.1f} %){of_seeds('paired')}"),
        known(row["low"], f"{row['low']:+.3f} ... {row['high']:+.3f}"),
        known(row["gap"], f"{row['gap']:.0f} %"),
        known(
            row["ahead"],
            f"{row['ahead']:+.3f}"
            + known(row["ahead low"], f" ({row['ahead low']:+.3f} ... {row['ahead high']:+.3f})")
            + of_seeds("ahead paired"),
        ),
        known(row["better"], f"{row['better']:.0f} %"),
        str(row["steps"]),
        known(row["semi seconds"], f"{row['semi seconds']:.0f}"),
    )


def markdown(rows: Sequence[dict]) -> str:
    """The comparison as a table for each list; a line below says what its order is where that is not the order of the
    means, because methods have different seeds.
    """
    blocks = []
    for name in dict.fromkeys(row["list"] for row in rows):
        list_rows = [row for row in rows if row["list"] == name]
        columns = [
            column
            for column in zip([head.format(**list_rows[0]) for head in HEAD], *map(_cells, list_rows))
            if any(column[1:])
        ]
        head, *lines = zip(*columns)
        title = f"### {name}" + (f" (errors in {list_rows[0]['unit']})" if "unit" in list_rows[0] else "")
        blocks += [title, "", markdown_table(head, lines), ""]
        measure = measure_of(row["NME"] for row in list_rows)
        means = [row.get(measure, np.inf) for row in list_rows]
        if means != sorted(means):
            other = list_rows[0]["ours"] or REFERENCE
            blocks += [f"Rows are in the order of {measure.replace('_', ' ')} less that of {other}, seed by seed.", ""]
    return "\n".join(blocks)


def draw(results: Sequence[dict], out: Path) -> None:
    """The methods with their seeds, as ``compare-*.png`` and ``.pdf`` beside the table; ``compare-parts`` only where
    there are methods ``tsal-no-*`` beside ``tsal``.
    """
    import pandas as pd

    from tsal.figures import Comparison, draw_comparison, draw_parts, save

    unit = unit_of(results)
    if left_out := parts(results):
        save(draw_parts(pd.DataFrame(left_out), unit), out)
    rows = [
        {
            "list": name,
            "method": r["method"],
            "labelled": r["labelled"],
            "seed": r["seed"],
            "NME": scores[r["result"]]["NME"],
            "error_jitter": scores[r["result"]].get("error_jitter", np.nan),
            "init": scores["init"]["NME"],
            "runs": "",
        }
        for r in results
        for name, scores in r["lists"].items()
        if not np.isnan(scores[r["result"]]["NME"])
    ]
    if not rows:  # no list has labels
        return
    full = _ours(results) or results[0]["method"]
    for figure in draw_comparison(Comparison(pd.DataFrame(rows), full, unit)):
        save(figure, out)


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    import pandas as pd

    write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
