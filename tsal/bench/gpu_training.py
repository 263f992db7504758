"""The real training of the GPU's bench: budget 300w-120, in a process that a time limit may stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tsal.bench.methods import base_folder, prepare_base, run_method
from tsal.bench.report import Report
from tsal.config import Config, load_budget
from tsal.utils import REPOSITORY, load_checkpoint

BUDGET, METHODS = "300w-120", ("supervised", "tsal")


def train_real(folder: str, realdata: str, device: str) -> None:
    """All that the real training makes, in a process of its own."""
    config = Config.load("real", [*load_budget(BUDGET), "data.name=real", "data.workers=12"])
    config = config.override({"data.root": realdata, "train.device": device})
    prepare_base(Path(folder), config)
    for method in METHODS:
        run_method(Path(folder), config, method, Path(folder) / "results")


def measure_training(report: Report, realdata: Path, folder: Path, device: str, end: float) -> None:
    """Train, until the report is ``end`` seconds old at most, and add what there is then."""
    code = "import sys; from tsal.bench.gpu_training import train_real; train_real(*sys.argv[1:])"
    arguments = [str(folder.resolve()), str(realdata.expanduser().resolve()), device]
    folder.mkdir(parents=True, exist_ok=True)
    log, started, note, limit = folder / "training.log", time.perf_counter(), "", end - report.elapsed
    try:
        with open(log, "w") as lines:
            subprocess.run(
                [sys.executable, "-c", code, *arguments],
                cwd=REPOSITORY,
                stdout=lines,
                stderr=subprocess.STDOUT,
                timeout=max(limit, 1e-3),
                check=True,
            )
    except subprocess.TimeoutExpired:
        note = f"stopped after {limit:.0f} s"
    except subprocess.CalledProcessError as error:
        words = log.read_text(errors="replace").replace("|", "/").strip().splitlines() or [f"exit {error.returncode}"]
        note = f"failed: {words[-1][:160]}"
        print("\n".join(words[-25:]), file=sys.stderr)
    report.add(f"real {BUDGET}, all", "reading and checking too", time.perf_counter() - started, "s", note=note)
    for row in training_rows(folder):
        report.add(**row)


def training_rows(folder: Path) -> Iterator[dict]:
    """What a folder of the methods' bench holds, a training that was stopped too."""
    base = base_folder(folder, 0)
    trained = {"tracker": base, "start": base, **{method: folder / f"{method}-s0" for method in METHODS}}
    for name, path in trained.items():
        row = {"what": f"real {BUDGET}, {name}", "setting": ""}
        done, last = path / name / "time.json", path / name / "last.pt"
        if done.exists():
            found = json.loads(done.read_text())
            yield row | {"setting": f"{found['steps']} steps", "value": float(found["seconds"]), "unit": "s"}
        elif last.exists():
            found = load_checkpoint(last)
            note = f"not finished; loss {found['history'][-1]['loss']:.4g}" if found["history"] else "not finished"
            yield row | {
                "setting": f"{found['step']} steps",
                "value": float(found["seconds"]),
                "unit": "s",
                "note": note,
            }
        else:
            yield row | {"note": "no checkpoint of it"}
    for method in METHODS:
        path = folder / "results" / f"{method}-s0.json"
        for name, members in (json.loads(path.read_text())["lists"] if path.exists() else {}).items():
            for member, numbers in members.items():
                if member != "faces":
                    what = f"real {BUDGET}, {method}: {member}"
                    yield {"what": what, "setting": name, "value": float(numbers["NME"]), "unit": "% NME"}
