"""Versions, machine and commit of a run."""

from __future__ import annotations

import platform
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version

import torch

from tsal.utils.paths import INSTALLED, REPOSITORY

PACKAGES = ("torch", "numpy", "opencv-python", "opencv-python-headless", "pandas", "matplotlib", "seaborn", "papermill")


def describe_environment() -> dict:
    """Versions, machine and commit of a run. Processors that calculate in other ways make other results of one seed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": processor(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "gpu": processor(torch.device("cuda")) if torch.cuda.is_available() else None,
        "packages": versions,
        "commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the code, with a + where the work tree differs from it; None outside a repository."""
    if INSTALLED:  # the working folder's repository is somebody else's
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (elsewhere it is slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False)) if device.type == "cpu" else False


def processor(device: torch.device) -> str:
    """What a result is rounded by: the name of a GPU, the instructions that a CPU has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability() + (", bfloat16" if has_bfloat16(device) else "")


def half_precision(amp: str, device: torch.device) -> AbstractContextManager:
    """The precision of a forward pass by ``train.amp``; losses, targets, costs and flow are always float32."""
    half = amp == "bf16" or (amp == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
