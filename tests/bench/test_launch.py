"""A sweep's commands run each once, a seed's base before its runs, wherever they run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tsal.bench.launch import LAUNCHERS, Group, threads_of
from tsal.utils.errors import ConfigError, InputError
from tsal.utils.signals import Stopped

# sbatch of a cluster that runs each task of an array at once, one after the other
SBATCH = """#!/bin/sh
for last; do :; done
echo "$@" >> "$TSAL_LOG.sbatch"
count=$(sed -n 's/.*--array=1-\\([0-9]*\\).*/\\1/p' "$last")
echo "17;cluster"
for i in $(seq "$count"); do SLURM_ARRAY_TASK_ID=$i bash "$last" >&2 || exit 1; done
"""


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TSAL_LOG", str(tmp_path / "log"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "log"


def says(word: str) -> tuple[str, ...]:
    """A command that appends a word, and the threads that it may use, to the log."""
    code = (
        "import os, sys; open(os.environ['TSAL_LOG'], 'a').write(sys.argv[1] + os.environ['OMP_NUM_THREADS'] + '\\n')"
    )
    return (sys.executable, "-c", code, word)


GROUPS = [Group(says("base 0 "), (says("a 0 "), says("it's 0 "))), Group(says("base 1 "), (says("a 1 "),))]


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_every_command_runs_once_and_after_its_base(launcher, log, tmp_path):
    if launcher == "ray":
        pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'tsal[ray]'")
    LAUNCHERS[launcher](GROUPS, 2, 3, tmp_path / "a folder")
    lines = log.read_text().splitlines()
    assert sorted(lines) == ["a 0 3", "a 1 3", "base 0 3", "base 1 3", "it's 0 3"]
    for seed in "01":
        of_seed = [line for line in lines if line.endswith(f"{seed} 3")]
        assert of_seed[0] == f"base {seed} 3"


def test_the_runs_of_a_slurm_sweep_wait_for_the_bases(log, tmp_path):
    LAUNCHERS["slurm"](GROUPS, 2, 3, tmp_path)
    bases, runs = Path(f"{log}.sbatch").read_text().splitlines()
    assert "--dependency" not in bases and "--dependency=afterok:17" in runs and "--wait" in runs
    script = (tmp_path / "slurm-runs.sh").read_text()
    assert "--array=1-3%2" in script and "--cpus-per-task=3" in script


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_a_command_that_fails_is_one_line(launcher, log, tmp_path):
    if launcher == "ray":
        pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'tsal[ray]'")
    wrong = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(InputError, match="failed") as caught:
        LAUNCHERS[launcher]([Group(says("base 0 "), (wrong,))], 1, 1, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_base_that_fails_ends_the_runs_of_its_own_seed_alone(log, tmp_path):
    wrong = (sys.executable, "-c", "raise SystemExit(3)", "base 0")
    with pytest.raises(InputError, match="'base 0': failed"):
        LAUNCHERS["local"]([Group(wrong, (says("a 0 "),)), GROUPS[1]], 1, 1, tmp_path)
    assert log.read_text().splitlines() == ["base 1 1", "a 1 1"]


def test_a_signal_ends_the_run_that_is_on_and_begins_no_other(log, tmp_path):
    wait = "import os, sys, time; open(os.environ['TSAL_LOG'], 'a').write(sys.argv[1]); time.sleep(60)"
    code = (
        "import sys; from pathlib import Path; from tsal.bench.launch import Group, run_local\n"
        "from tsal.utils import StopSignals\n"
        "runs = tuple((sys.executable, '-c', sys.argv[1], word) for word in 'ab')\n"
        "with StopSignals(at_once=True): run_local([Group((sys.executable, '-c', ''), runs)], 1, 1, Path('.'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, wait], stderr=subprocess.PIPE, text=True)
    while not log.exists() or not log.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert "Stopped" in process.communicate(timeout=30)[1] and log.read_text() == "a"


def test_a_slurm_array_keeps_its_commands_when_the_next_sweep_is_written(log, tmp_path):
    """Slurm copies the script at its submission, and starts a task when a node is free."""
    LAUNCHERS["slurm"](GROUPS, 2, 3, tmp_path)
    copy = (tmp_path / "slurm-runs.sh").read_text()
    LAUNCHERS["slurm"]([Group(says("base 2 "), (says("a 2 "),))], 2, 3, tmp_path)
    log.unlink()
    for task in "23":
        subprocess.run(["bash", "-c", copy], env=os.environ | {"SLURM_ARRAY_TASK_ID": task}, check=True)
    assert log.read_text().splitlines() == ["it's 0 3", "a 1 3"]


def test_a_stopped_slurm_sweep_says_how_to_end_its_jobs(log, tmp_path, monkeypatch):
    submit = subprocess.run

    def stopped(command, **options):
        if "--wait" in command:
            raise KeyboardInterrupt
        return submit(command, **options)

    monkeypatch.setattr(subprocess, "run", stopped)
    with pytest.raises(Stopped, match="to end them: scancel --name=tsal-") as raised:
        LAUNCHERS["slurm"](GROUPS, 2, 3, tmp_path)
    job = str(raised.value).rpartition("=")[2]
    assert raised.value.status == 130 and "\n" not in str(raised.value)
    assert all(f"--job-name={job} " in (tmp_path / f"slurm-{name}.sh").read_text() for name in ("base", "runs"))


def test_the_cores_of_this_machine_are_not_taken_for_those_of_slurm_s_nodes(monkeypatch):
    monkeypatch.setattr("tsal.bench.launch.allowed_cores", lambda: [*range(8)])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads_of("local", 2), threads_of("slurm", 2)) == (4, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (threads_of("local", 2), threads_of("slurm", 2)) == (3, 3)


def test_without_sbatch_the_launcher_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch on this machine"):
        LAUNCHERS["slurm"](GROUPS, 1, 1, tmp_path)


def test_make_j_is_the_number_of_runs_side_by_side():
    from tsal.utils.paths import REPOSITORY

    process = subprocess.run(
        ["make", "-n", "-j3", "bench-methods", "PYTHON=python3"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert "--jobs 3" in process.stdout
