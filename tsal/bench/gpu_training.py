"""The real training of the GPU's bench: budget 300w-50, in a process that a time limit may stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tsal.bench.methods import base_folder, prepare_base, run_method
from tsal.bench.report import Report
from tsal.config import Config, load_method
from tsal.utils import REPOSITORY, load_checkpoint

PROFILE, BUDGET = "faces", "300w-50"
METHODS = ("mean-teacher-corrected", "tsal", "supervised")  # in this order, as far as time allows


def real_config(method: str, realdata: str, device: str) -> Config:
    lists = {"data.name": "realdata", "data.root": realdata}
    # a small copy of the faces has no labels of unlabelled rows; training does not see them
    options = {"data.workers": 12, "train.device": device, "data.audit_labels": []}
    return Config.resolve(PROFILE, BUDGET, method, options, lists)


def train_real(folder: str, realdata: str, device: str) -> None:
    """All that the real training makes, in a process of its own; a method's JSON as soon as it is done."""
    prepare_base(Path(folder), real_config(METHODS[0], realdata, device))
    for method in METHODS:
        run_method(Path(folder), real_config(method, realdata, device), Path(folder) / "results")


def measure_training(report: Report, realdata: Path, folder: Path, device: str, limit: float) -> None:
    """Train for ``limit`` seconds at most, and add what there is then: every method that was done counts."""
    code = "import sys; from tsal.bench.gpu_training import train_real; train_real(*sys.argv[1:])"
    arguments = [str(folder.resolve()), str(realdata.expanduser().resolve()), device]
    folder.mkdir(parents=True, exist_ok=True)
    log, started, note = folder / "training.log", time.perf_counter(), ""
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
    trained = {"tracker": base / "tracker", "init": base / "init"}
    for method in METHODS:
        part = "supervised" if load_method(method).result == "supervised" else "semi"
        trained[method] = folder / f"{method}-s0" / part
    for name, path in trained.items():
        row = {"what": f"real {BUDGET}, {name}", "setting": ""}
        done, last = path / "time.json", path / "last.pt"
        if done.exists():
            record = json.loads(done.read_text())
            yield row | {"setting": f"{record['steps']} steps", "value": float(record["seconds"]), "unit": "s"}
        elif last.exists():
            checkpoint = load_checkpoint(last)
            history = checkpoint["history"]
            note = f"not finished; loss {history[-1]['loss']:.4g}" if history else "not finished"
            yield row | {
                "setting": f"{checkpoint['step']} steps",
                "value": float(checkpoint["seconds"]),
                "unit": "s",
                "note": note,
            }
        else:
            yield row | {"note": "no checkpoint of it"}
    for method in METHODS:
        path = folder / "results" / f"{method}-s0.json"
        for name, models in (json.loads(path.read_text())["lists"] if path.exists() else {}).items():
            for model, numbers in models.items():
                if isinstance(numbers, dict):  # beside the models there are the errors of faces, and their clips
                    what = f"real {BUDGET}, {method}: {model}"
                    yield {"what": what, "setting": name, "value": float(numbers["NME"]), "unit": "% NME"}
