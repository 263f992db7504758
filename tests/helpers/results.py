"""Results of the bench, as a run leaves them, with numbers that a hand can compute."""

from __future__ import annotations

import numpy as np


def result(
    method: str, seed: int, faces: list[float], jitter: float | None = None, *, init: float = 8.0, model: str = ""
) -> dict:
    """A run's result on one list: errors of its faces (%), each of a clip of its own, its error jitter where it is
    known, its init's NME.
    """
    model = model or ("supervised" if method == "supervised" else "teacher")
    numbers = {"NME": float(np.mean(faces)), "AUC@0.08": 0.5, "FR@0.08": 0.1}
    if jitter is not None:
        numbers |= {"error_jitter": jitter, "flow_jitter": 2 * jitter}
    return {
        "method": method,
        "seed": seed,
        "result": model,
        "labelled": 40,
        "normaliser": "ocular",
        "steps": {"semi": 600},
        "seconds": {"semi": 100.0},
        "lists": {"val": {model: numbers, "init": {"NME": init}, "faces": faces, "clips": list(range(len(faces)))}},
    }
