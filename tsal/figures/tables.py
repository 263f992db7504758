"""The numbers of a run as tables: one for programs, the same in Markdown and in LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tsal.audit import Audit, calibrations, changes, condition_table, is_measured, one_a_clip, source_table, step_table
from tsal.config import Config
from tsal.data import group_clips
from tsal.evaluation import NORMALISERS, STEADINESS, metrics_rows, table_errors, table_jitters, table_of_part
from tsal.figures.evaluated import refuse_former
from tsal.figures.style import open_audit, read_report, run_file, unit
from tsal.pseudo import PseudoLabeller
from tsal.run import Run
from tsal.schemes import get_scheme
from tsal.trainings import rival_config
from tsal.utils import ConfigError, InputError, markdown_table, read_arrays, write_text

TAU = 0.08  # of AUC and FR, a share of the normaliser
NAMED = 8  # faces that got worse, by name
SCORES = {"landmark": "landmark's disagreement", "frame": "frame's mean disagreement", "flow": "forward-backward error"}
STEADY = {  # of the table
    "jitter": "jitter %",
    "flow_jitter": "flow jitter %",
    "flow_left_out": "left out %",
    "error_jitter": "error jitter %",
    "label_jitter": "labels' jitter %",
    "lag": "lag, frames",
}
Tables = Mapping[str, pd.DataFrame | str]  # title -> cells that are text, or a sentence where there is nothing to show
AFTER_INIT = {"init": [], "supervised": ["supervised"], "teacher": ["semi"], "student": ["semi"]}  # trainings, by model


def table(run: Run, scheme: str = "") -> pd.DataFrame:
    """The run's numbers, a row for each list, model and source; NME in %, FR a share.

    With ``scheme`` they are of the landmarks that this one has of the run's own: 51 or 49 of 68. What errors are
    divided by stays.

    Every method goes on from the init: ``steps`` and ``seconds`` are of all that made the model, ``init_*``,
    ``semi_*`` and ``tracker_seconds`` their parts (NaN for a part whose time the run did not keep). Numbers of
    steadiness (:mod:`tsal.evaluation.steadiness`) are NaN for a list without consecutive frames.
    """
    report = read_report(run, "metrics.json")
    data, measured = run.config.data, {row["list"] for row in report["rows"]}
    if report["normaliser"] != data.normaliser or not measured <= set(data.evaluate):
        raise InputError(
            f"{run.folder / 'metrics.json'}: is of another normaliser or of other lists than the run has now; "
            f"run 'python -m tsal evaluate --run {run.folder}'"
        )
    refuse_former(run, report)
    times = report["times"]
    columns = ("list", "model", "source", "NME", f"AUC@{TAU:.2f}", f"FR@{TAU:.2f}", "faces", "degenerate")

    def of(names, what: str) -> float:
        return sum(times.get(name, {}).get(what, np.nan) for name in names)

    rows, methods = [], _methods(run)
    for row in _rows_of_part(run, scheme) if scheme else report["rows"]:
        method, after = methods.get(row["model"]), AFTER_INIT.get(row["model"], ["rival"])
        inits = ["init", "init-2"][: method.tsal.inits if method else 1]
        tracks = method and method.tracker.flow == "learned" and PseudoLabeller(method).needs_flow
        parts = {
            "init_steps": of(["init"], "steps"),
            "semi_steps": of(after, "steps"),
            "init_seconds": of(inits, "seconds"),
            "semi_seconds": of(after, "seconds"),
            "tracker_seconds": of(["tracker"], "seconds") if tracks else 0.0,
        }
        steps = parts["init_steps"] + parts["semi_steps"]
        seconds = np.nansum([value for name, value in parts.items() if name.endswith("seconds")])
        totals = {"steps": steps, "seconds": seconds, "transductive": report.get("transductive", False)}
        steady = {name: row.get(name, np.nan) for name in (*STEADINESS, "inner_frames", "jitter_d")}
        rows.append({name: row[name] for name in columns} | totals | parts | steady)
    return pd.DataFrame(rows)


def _methods(run: Run) -> dict[str, Config]:
    """The settings that each model of the run was made with, but for those made from labels alone."""
    rival = rival_config(run.config)
    return {"teacher": run.config, "student": run.config} | ({rival.method: rival} if rival else {})


def _rows_of_part(run: Run, name: str) -> list[dict]:
    scheme = get_scheme(name)
    landmarks = {**dict(scheme.also_read), scheme.points: range(scheme.points)}.get(run.scheme.points)
    if landmarks is None:
        raise ConfigError(
            f"--scheme {name}: its file does not say which of the run's {run.scheme.points} landmarks it has"
        )
    return metrics_rows(table_of_part(read_arrays(run_file(run, "predictions.npz")), landmarks))


def clip_table(run: Run) -> pd.DataFrame:
    """A row a clip of an evaluation list that has labels and three consecutive frames, and model: mean NME and mean
    jitter of the heatmap source, in %. ``labels``: the jitter of the labels themselves.
    """
    predictions = read_arrays(run_file(run, "predictions.npz"))
    heatmap = predictions["sources"].tolist().index("heatmap")
    errors, jitters = 100 * table_errors(predictions)[:, heatmap], table_jitters(predictions)
    place = {key: i for i, key in enumerate(zip(predictions["list"].tolist(), predictions["row"].tolist()))}
    rows = []
    for name, faces in run.lists.evaluate.items() if jitters else ():
        for clip in group_clips(faces):
            indices = [place[name, face.row] for face in clip.faces]
            inner = [i for i in indices if np.isfinite(jitters["jitter"][0, heatmap, i])]
            if not inner or np.isnan(errors[:, indices]).all():
                continue
            for m, model in enumerate(predictions["models"].tolist()):
                shaken = 100 * jitters["jitter"][m, heatmap, inner].mean()
                rows.append((name, clip.name, model, float(np.nanmean(errors[m, indices])), float(shaken)))
            label_jitter = jitters["label_jitter"][inner]
            shaken = 100 * label_jitter[np.isfinite(label_jitter)].mean() if np.isfinite(label_jitter).any() else np.nan
            rows.append((name, clip.name, "labels", 0.0, float(shaken)))
    return pd.DataFrame(rows, columns=["list", "clip", "model", "NME", "jitter"])


# --- as text ---


def run_tables(run: Run) -> Tables:
    """Results, tracker, steadiness, and the audit of pseudo-labels. Errors: % of what the first title names."""
    mark = (
        ", transductive: unlabelled images of the lists may have been trained on"
        if run.config.data.transductive
        else ""
    )
    return {
        f"Results (errors in {unit(run).removesuffix(', transductive')}{mark})": _results(run),
        "Tracker": _tracker(run),
        "Steadiness of consecutive frames (heatmap source)": _steadiness(run),
    } | _pseudo_labels(run)


def _results(run: Run) -> pd.DataFrame:
    numbers, tau = table(run), f"{TAU:.2f}"
    seconds = lambda value: "not kept" if np.isnan(value) else f"{value:.0f} s"  # noqa: E731
    return pd.DataFrame(
        {
            "list": numbers.list,
            "model": numbers.model,
            "source": numbers.source,
            "NME %": numbers.NME.map(_number),
            f"AUC@{tau}": numbers[f"AUC@{tau}"].map(lambda value: _number(value, 3)),
            f"FR@{tau} %": (100 * numbers[f"FR@{tau}"]).map(lambda value: _number(value, 1)),
            "faces": numbers.faces,
            "steps": [f"{a:.0f} + {b:.0f}" for a, b in numbers[["init_steps", "semi_steps"]].values],
            "time": [f"{seconds(a)} + {seconds(b)}" for a, b in numbers[["init_seconds", "semi_seconds"]].values],
            "tracker": [seconds(value) if value != 0 else "none" for value in numbers.tracker_seconds],
        }
    )


def tracker_errors(metrics: Mapping) -> pd.DataFrame:
    """What ``tracker/metrics.json`` says, as text, a column for each number of frames apart.

    Errors of carried landmarks are mean (median), a row a method; below, of the tracker's doubt that a landmark is
    seen, the share that is right, and the share of the hidden landmarks that are doubted.
    """
    methods, kind = metrics["methods"], metrics["normaliser"]
    rows = {
        name: {n: f"{mean:.2f} ({row['median'][n]:.2f})" for n, mean in row.get("mean", {}).items()}
        for name, row in methods.items()
    }
    doubt = {"precision": "tracker's doubts that are right, %", "recall": "hidden landmarks that it doubts, %"}
    for share, title in doubt.items():
        if values := methods.get("tracker", {}).get(share):
            rows[title] = {n: f"{100 * value:.0f}" for n, value in values.items()}
    errors = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(metrics["pairs"])).fillna("-")
    unit = f"% of {NORMALISERS[kind]}" if kind else "px of the input"
    return errors.rename(columns=lambda n: f"{n} apart").rename_axis(f"error, mean (median), {unit}")


def _tracker(run: Run) -> pd.DataFrame | str:
    metrics = read_report(run, "tracker/metrics.json")
    if not metrics["methods"]:
        return "Nothing to show: no evaluation list has a labelled clip of two frames."
    return tracker_errors(metrics).reset_index()


def _steadiness(run: Run) -> pd.DataFrame | str:
    numbers = table(run)
    numbers = numbers[(numbers.source == "heatmap") & numbers.inner_frames.notna()]
    if not len(numbers):
        return "Nothing to show: no evaluation list has three consecutive frames."
    shown = pd.DataFrame({"list": numbers.list, "model": numbers.model, "frames": numbers.inner_frames.astype(int)})
    for name, title in STEADY.items():
        shown[title] = numbers[name].map(lambda value: _number(value, 3))
    return shown.assign(**{"% of": numbers.jitter_d.map({"normaliser": run.config.data.normaliser, "box": "box"})})


def _pseudo_labels(run: Run) -> dict[str, pd.DataFrame | str]:
    audit = open_audit(run)
    if audit is None:
        return {"Pseudo-labels": f"Nothing to show: {run.no_pseudo_labels}."}
    steps = step_table(audit).dropna(axis=1, how="all")
    steps = steps.rename(columns={"disagreement": "disagreement px", "flow_error": "forward-backward px"})
    texts = {name: steps[name].map(_number) for name in steps if name not in ("model", "step", "frames")}
    over = steps.assign(**texts).rename(columns=lambda name: name.replace("_", " "))
    title = "Pseudo-labels over training (medians; the same frames at every step)"
    worse = _worsened(audit, run.config.result)
    if not is_measured(audit):
        return {
            title: over,
            "Errors of pseudo-labels": "Nothing to show: data.audit_labels names no labels of the audited frames.",
        } | worse
    sources = source_table(audit)
    errors = sources.assign(
        known=(100 * sources.known).map("{:.1f}".format), source=sources.source.str.replace("_", " ")
    )
    errors = errors.assign(**{name: sources[name].map(_number) for name in ("median", "mean", "90 %")}).rename(
        columns={"known": "known, % of landmarks"}
    )
    checked = [
        (
            model,
            SCORES[score],
            f"{calibration.off:.2f}",
            f"{calibration.mean:.2f}",
            _number(calibration.rank),
            calibration.landmarks,
        )
        for (model, score), calibration in calibrations(audit).items()
    ]
    columns = ["model", "score", "calibration error", "mean error", "rank correlation", "landmarks"]
    calibrated = (
        pd.DataFrame(checked, columns=columns)
        if checked
        else "Nothing to show: two clips whose sources disagree are needed."
    )
    return {
        "Errors of pseudo-labels": errors,
        **_by_condition(audit, run.config.data.consecutive),
        "Errors that are predicted from a score (fused points; learned and checked on halves of the clips)": calibrated,
        title: over,
    } | worse


def _by_condition(audit: Audit, consecutive: bool) -> dict[str, pd.DataFrame]:
    """The mean errors by occlusion and by motion, where either is known."""
    table = condition_table(audit, consecutive)
    if not len(table):
        return {}
    texts = {source: table[source].map(_number) for source in audit.sources}
    shown = table.assign(share=(100 * table.share).map("{:.1f}".format), **texts)
    shown = shown.rename(columns={"condition": "landmarks", "share": "share %"}).rename(
        columns=lambda name: name.replace("_", " ")
    )
    return {"Errors of pseudo-labels by occlusion and by motion to the next frame (means)": shown}


def _worsened(audit: Audit, result: str) -> dict[str, pd.DataFrame | str]:
    """The frames that changed most for the worse from the init to the method's ``result``, one a clip, as the figure of
    changes numbers them.
    """
    frames = changes(audit, result)
    worse = one_a_clip(frames[frames.change > 0], NAMED)
    named = pd.DataFrame({"no.": range(1, len(worse) + 1)}, index=worse.index).join(worse[["image", "clip"]])
    named = named.assign(**{name: worse[name].map("{:.2f}".format) for name in ("init", result)})
    share = f"{100 * (frames.change > 0).mean():.1f} % of {len(frames)} frames" if len(frames) else "no frame"
    what, measure = (
        ("got worse", "fused points, NME %")
        if is_measured(audit)
        else ("agree less", "mean disagreement, px of the input")
    )
    return {f"Faces that {what}: {share}; the most, one a clip ({measure})": named if len(named) else "None."}


def _number(value: float, digits: int = 2) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def write_tables(tables: Tables, folder: Path, name: str) -> list[Path]:
    """``<name>.md`` and ``<name>.tex`` in the folder."""
    paths = [Path(folder) / f"{name}.md", Path(folder) / f"{name}.tex"]
    for path, text in zip(paths, (markdown(tables), latex(tables))):
        write_text(path, text)
    return paths


def markdown(tables: Tables) -> str:
    """A heading and a table each."""
    parts = []
    for title, content in tables.items():
        if not isinstance(content, str):
            content = markdown_table(content.columns, content.values.tolist())
        parts.append(f"# {title}\n\n{content}\n")
    return "\n".join(parts)


ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
ESCAPES |= {sign: "\\" + sign for sign in "&%$#_{}"} | {"±": r"$\pm$"}


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(ESCAPES.get(sign, sign) for sign in text)


def latex(tables: Tables) -> str:
    r"""A table environment each, for ``\usepackage{booktabs}``: text to the left, columns of numbers to the right."""
    parts = ["% needs \\usepackage{booktabs}"]
    for title, content in tables.items():
        if isinstance(content, str):
            parts.append(f"\\paragraph{{{escape(title)}}} {escape(content)}")
            continue
        lines = [
            " & ".join(escape(str(cell)) for cell in line) + r" \\"
            for line in [content.columns, *content.values.tolist()]
        ]
        sides = "".join("r" if all(_is_number(cell) for cell in content[name]) else "l" for name in content)
        rows = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        start = [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            f"\\caption{{{escape(title)}}}",
        ]
        parts.append("\n".join([*start, f"\\begin{{tabular}}{{{sides}}}", *rows, r"\end{tabular}", r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


def _is_number(cell) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True
