"""Stage evaluate: predict the evaluation lists with every model, and compute the metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tsal.config import result_settings
from tsal.evaluation import metrics_rows, predictions_table, read_ground_truth
from tsal.model_files import load_model
from tsal.run import Run
from tsal.stages.alone import alone
from tsal.tracker import measuring_tracker
from tsal.trainings import model_files_of
from tsal.utils import file_hash, use_free_cores, write_arrays, write_text


@alone
def evaluate_models(run: Run) -> list[dict]:
    """Predict every evaluation list with every model; keeps ``predictions.npz`` and ``metrics.json``."""
    use_free_cores()
    files, manifest, data = model_files_of(run), run.manifest(), run.config.data
    table = predict_lists(run, files)
    write_arrays(run.folder / "predictions.npz", **table)
    rows = metrics_rows(table)
    unscored = [f"{table['list'][i]}:{table['row'][i]} {table['path'][i]}" for i in np.flatnonzero(table["degenerate"])]
    times = {path.parent.name: json.loads(path.read_text()) for path in sorted(run.folder.glob("*/time.json"))}
    report = {
        "settings": result_settings(run.config),
        "scheme": run.scheme.to_dict(),
        "models": {str(path.relative_to(run.folder)): file_hash(path) for path, _ in files.values()},
        "fingerprint": manifest["fingerprint"],
        "evaluate_fingerprint": manifest.get("evaluate_fingerprint"),
        "normaliser": data.normaliser,
        "transductive": data.transductive,
        "rows": rows,
        "degenerate": unscored,
        "times": times,
    }
    write_text(run.folder / "metrics.json", json.dumps(report, indent=1) + "\n")
    return rows


def predict_lists(run: Run, files: Mapping[str, tuple[Path, str | None]]) -> dict[str, np.ndarray]:
    """What every model says of every face of the evaluation lists, see :func:`tsal.evaluation.predictions_table`.

    Args:
        files: file and name of each model, as :func:`tsal.trainings.model_files_of` has them.
    """
    data = run.config.data
    faces = [face for faces in run.lists.evaluate.values() for face in faces]
    truth = read_ground_truth(run.store, faces, data.normaliser, run.scheme)
    models = {name: load_model(*place, device=run.device)[0] for name, place in files.items()}
    how = {"workers": data.workers, "consecutive": data.consecutive, "sparse": data.sparse}
    return predictions_table(models, run.store, truth, faces, run.device, tracker=measuring_tracker(run), **how)
