"""Speed on this machine: loader, training steps, predict and tracker, alone, beside a busy process, and as sizes grow.

``python -m tsal bench`` (or ``make bench``) prints one Markdown table and keeps it, with the machine's facts, as JSON
and Markdown. Every number is the best of a few interleaved rounds; ratios hold between numbers of one call alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch

from tsal.bench.clock import Task, measure, peak_memory, row, rows_of
from tsal.bench.cores import growth_tasks, matrix_tasks, pass_tasks, predict_tasks, step_tasks, tracker_tasks
from tsal.bench.loader import Loader
from tsal.bench.report import rows_table
from tsal.config import Config, load_budget
from tsal.run import Run
from tsal.synthetic import render_dataset
from tsal.utils import describe_environment, write_text

LIMIT = 200.0  # seconds of measuring: two or three rounds on two idle cores
NOTES = """\
A frame is one face of a batch: one view of a labelled face, two (weak and strong) of an unlabelled frame. Cold: no crop
is kept, every image is decoded; disk, memory: every crop is there (crops no smaller than their image, as of rendered
frames, are never kept on disk). feeds: frames that the loader gives over those that a step on a batch that lies ready
takes; under 1, training waits for it; both share the cores. share: of the matrix product in the same precision. A busy
process is an endless loop of one thread."""


def bench(out: Path, realdata: Path | None, quick: bool) -> list[dict]:
    """Measure everything, write ``out`` (JSON) and the table beside it (.md) -> the table's rows.

    Raises:
        InputError: ``realdata`` lacks lists or faces.
    """
    few = [] if quick else ["render.labelled=40", "render.clips=24", "render.validation=2"]
    configs = {"rendered": Config.load("smoke" if quick else "demo", few)}
    if realdata:
        root = str(realdata.expanduser().resolve())
        overrides = load_budget("300w-120") | {"data.name": "real", "data.root": root}
        configs["real"] = configs["rendered"].override(overrides)
    facts = describe_environment() | {"cpus": os.cpu_count(), "load when started": os.getloadavg()[0], "quick": quick}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=out.parent) as folder:
        tasks: list[Task] = []
        memory: list[dict] = []
        for data, config in configs.items():
            run = Run(out.parent, config)  # nothing of it is written
            if data == "rendered":
                render_dataset(run.root, config.render)
            loader = Loader(data, run, Path(folder) / data, quick)
            if data == "rendered":
                memory += loader.memory_rows()
                tasks += [*matrix_tasks(128 if quick else 2048), *pass_tasks(config, 2 if quick else 32)]
                tasks += [*step_tasks(loader, quick), *tracker_tasks(loader)]
            tasks += [*predict_tasks(data, run, quick), *loader.tasks()]
        tasks += growth_tasks(configs["rendered"], quick)
        rates = measure(tasks, *((1, 0.0) if quick else (3, 0.3, LIMIT)))
    rows = rows_of(tasks, rates) + memory + [row("peak memory", "all of it", None, "", peak=peak_memory())]
    write_text(out, json.dumps({"environment": facts, "rows": rows}, indent=1) + "\n")
    write_text(out.with_suffix(".md"), f"# Speed\n\n{machine(facts)}\n\n{rows_table(rows)}\n")
    return rows


def machine(facts: dict) -> str:
    """The machine in a sentence."""
    threads, load = facts["threads"], facts["load when started"]
    commit = (facts["commit"] or "unknown")[:12].rstrip("+")
    busy = " Other programs were running: alone it is faster." if load > 0.5 else ""
    return (
        f"{facts['cpus']} cores ({facts['cpu']}), {threads} thread{'s' * (threads != 1)} where no number is named, "
        f"torch {torch.__version__}, commit {commit}; load when started {load:.1f}.{busy}"
    )
