"""The numbers of a run as tables: one for programs, one in Markdown."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from tsal.runs import Run
from tsal.style import run_file, unit

TAU = 0.08  # of AUC and FR, a share of the normaliser


def table(run: Run) -> pd.DataFrame:
    """The run's numbers, a row for each list, member and source; NME in %, FR a share.

    Every method goes on from the start: ``steps`` and ``seconds`` are of all that made the member, ``start_*``, ``further_*`` and
    ``tracker_seconds`` their parts (NaN for a part whose time the run did not keep).
    """
    report = json.loads(run_file(run, "metrics.json").read_text())
    times, kept = report["times"], ("list", "member", "source", "NME", f"AUC@{TAU:.2f}", f"FR@{TAU:.2f}", "faces", "degenerate")

    def of(names, what: str) -> float:
        return sum(times.get(name, {}).get(what, np.nan) for name in names)

    rows = []
    for row in report["rows"]:
        tsal = row["member"] in ("teacher", "student")
        starts = [name for name in times if name.startswith("start-")] if tsal else []
        further = [] if row["member"] == "start" else ["tsal" if tsal else "supervised"]
        parts = {
            "start_steps": of(["start"], "steps"),
            "further_steps": of(further, "steps"),
            "start_seconds": of(["start", *starts], "seconds"),
            "further_seconds": of(further, "seconds"),
            "tracker_seconds": of(["tracker"], "seconds") if tsal else 0.0,
        }
        steps = parts["start_steps"] + parts["further_steps"]
        seconds = np.nansum([value for name, value in parts.items() if name.endswith("seconds")])
        rows.append({name: row[name] for name in kept} | {"steps": steps, "seconds": seconds} | parts)
    return pd.DataFrame(rows)


def _markdown(frame: pd.DataFrame) -> str:
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def tables_text(run: Run) -> str:
    """The run's tables in Markdown."""
    numbers, tau = table(run), f"{TAU:.2f}"
    seconds = lambda value: "not kept" if np.isnan(value) else f"{value:.0f} s"  # noqa: E731
    shown = pd.DataFrame(
        {
            "list": numbers.list,
            "member": numbers.member,
            "source": numbers.source,
            f"NME ({unit(run)})": numbers.NME.map("{:.2f}".format),
            f"AUC@{tau}": numbers[f"AUC@{tau}"].map("{:.3f}".format),
            f"FR@{tau} (%)": (100 * numbers[f"FR@{tau}"]).map("{:.1f}".format),
            "faces": numbers.faces,
            "steps: start + further": [f"{a:.0f} + {b:.0f}" for a, b in numbers[["start_steps", "further_steps"]].values],
            "time: start + further": [f"{seconds(a)} + {seconds(b)}" for a, b in numbers[["start_seconds", "further_seconds"]].values],
            "time: tracker": [seconds(value) if value != 0 else "none" for value in numbers.tracker_seconds],
        }
    )
    report = json.loads(run_file(run, "tracker/metrics.json").read_text())
    flow = pd.DataFrame(report).T.map("{:.3f}".format).rename(columns=lambda kind: f"{kind.replace('_', ' ')} (px of the input)")
    flow.insert(0, "flow", flow.index)
    return f"# Results\n\n{_markdown(shown)}\n# Tracker\n\n{_markdown(flow)}"
