"""What comes from outside while a run is at work: signals, another process, a full disk, data that vanish."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import wait_until
from toys import error_lines

from tsal.cli.commands import main
from tsal.run import Run
from tsal.utils.checkpoints import load_checkpoint
from tsal.utils.paths import REPOSITORY


@pytest.fixture
def untrained(smoke_run, tmp_path) -> Path:
    """The smoke run, of which all is done but the last training: 60 steps of it to come."""
    folder = tmp_path / "run"
    keep_away = shutil.ignore_patterns("semi", "executed", "audit", "figures", "predictions.npz", "metrics.json")
    shutil.copytree(smoke_run, folder, ignore=keep_away)
    (folder / "tracker/metrics.json").write_bytes((smoke_run / "tracker/metrics.json").read_bytes())
    return folder


def started(*command: str, **options) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command], env=environment, cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True, **options
    )


# --- signals ---


@pytest.mark.parametrize(
    "command, number", [(("train",), signal.SIGTERM), (("notebook", "notebooks/03_train.ipynb"), signal.SIGINT)]
)
def test_a_stopped_training_keeps_its_step_and_says_how_to_go_on(smoke_run, untrained, command, number):
    """From the terminal, and by a notebook's kernel, which ends too."""
    with started("-m", "tsal", *command, "--run", str(untrained)) as process:
        wait_until((untrained / "semi/last.pt").exists, process)
        process.send_signal(number)
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    last = errors.strip().splitlines()[-1]
    step = load_checkpoint(untrained / "semi/last.pt")["step"]
    assert last == f"stopped: semi: {step} of 10 steps are kept; the same command goes on from there"
    assert "Traceback" not in errors and not list(untrained.rglob(".*.tmp*"))
    assert main(["train", "--run", str(untrained)]) == 0
    resumed, whole = (load_checkpoint(folder / "semi/model.pt")["models"] for folder in (untrained, smoke_run))
    for model, weights in whole.items():
        assert all(torch.equal(value, resumed[model][name]) for name, value in weights.items())


@pytest.mark.parametrize(
    "command, action, said",
    [
        ("train", "run_stage", "the same command goes on from the last checkpoint"),
        ("run-folder", "print_run_folder", "files that were finished are kept"),
    ],
)
def test_a_signal_between_trainings_ends_the_command_at_once(capsys, monkeypatch, command, action, said):
    monkeypatch.setattr(f"tsal.cli.commands.{action}", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main([command]) == 143
    assert capsys.readouterr().err == f"\nstopped: {said}\n"


def test_renderers_end_with_the_process_that_started_them(tmp_path):
    """Else a killed run leaves processes behind that wait for ever."""
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "from tsal.synthetic import dataset\n"
        "from tsal.config import RenderConfig\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    whole = dataset._all_written\n"
        "    def killed(*arguments):\n"
        "        for result in whole(*arguments):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "            yield result\n"
        "    dataset._all_written = killed\n"
        "    settings = RenderConfig(labelled=8, clips=2, validation=1, frames=2, side=64)\n"
        "    dataset.render_dataset(Path(sys.argv[1]) / 'r', settings, workers=2, progress=False)\n"
    )
    (tmp_path / "killed.py").write_text(code)
    command = [sys.executable, str(tmp_path / "killed.py"), str(tmp_path), str(REPOSITORY)]
    # the workers have the pipe's other end: it closes when all of them are gone
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL


# --- another process ---


HOLD = "import sys; from pathlib import Path; from tsal.utils import lock_folder\n"
HOLD += "with lock_folder(Path(sys.argv[1])): print('held', flush=True); input()\n"


def test_two_processes_in_one_run_are_one_clear_error(untrained, capsys):
    with started("-c", HOLD, str(untrained), stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "held\n"
        before = (untrained / "config.json").read_bytes()
        for command in (["train"], ["evaluate"], ["data", "--profile", "smoke", "--seed", "5"]):
            assert main([*command, "--run", str(untrained)]) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"error: {untrained}: process {process.pid} works in this folder; wait until")
            assert error.count("\n") == 1
        assert (untrained / "config.json").read_bytes() == before
        process.kill()  # a lock ends with its process, however that ends
    assert main(["train", "--run", str(untrained)]) == 0


# --- disks ---


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on_when_there_is_space(untrained, small_disk, capsys):
    folder = small_disk / "run"
    shutil.copytree(untrained, folder)
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))
    assert main(["train", "--run", str(folder)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"failed: {folder}/semi/") and "No space left on device; free some space" in error
    assert not list(folder.rglob(".*.tmp*"))
    (small_disk / "filler").unlink()
    assert main(["train", "--run", str(folder)]) == 0


def test_a_folder_that_cannot_be_written_to_is_one_line(untrained, small_disk, capsys):
    shutil.copytree(untrained, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for options in (["train", "--run", str(small_disk / "run")], ["data", "--run", str(small_disk / "new")]):
        assert main([*options, "--profile", "smoke"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"failed: {small_disk}") and "Read-only file system; name a folder" in error
        assert error.count("\n") == 1


# --- data ---


def test_data_that_vanish_while_training_are_one_line_and_the_checkpoint_stays(tmp_path):
    """A folder that is unmounted: faces that are not in memory any more cannot be read."""
    run, data = tmp_path / "run", tmp_path / "faces"
    assert main(["data", "--profile", "smoke", "--run", str(tmp_path / "rendered")]) == 0
    shutil.copytree(Run.open(tmp_path / "rendered").root, data)
    options = ["--data", "mine", "--root", str(data), "--set", "data.cache_mb=0", "supervised.steps=200"]
    settings = [*options, "train.checkpoint_every=1", "tracker.synthetic_steps=0", "tracker.video_steps=1"]
    assert main(["tracker", "--profile", "smoke", "--run", str(run), *settings]) == 0
    with started("-m", "tsal", "train", "--run", str(run)) as process:
        wait_until((run / "init/last.pt").exists, process)
        data.rename(tmp_path / "elsewhere")
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    [line] = error_lines(errors)
    assert str(data) in line and line.endswith("the image does not exist")
    step = load_checkpoint(run / "init/last.pt")["step"]
    (tmp_path / "elsewhere").rename(data)
    with started("-m", "tsal", "train", "--run", str(run)) as process:
        wait_until(lambda: load_checkpoint(run / "init/last.pt")["step"] > step, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130


def test_a_run_that_was_moved_opens_reports_and_goes_on(smoke_run, untrained, tmp_path, capsys):
    assert main(["train", "--run", str(untrained), "--profile", "smoke"]) == 0
    moved = tmp_path / "another place" / "renamed"
    moved.parent.mkdir()
    untrained.rename(moved)
    stamps = {path: path.stat().st_mtime_ns for path in moved.rglob("model.pt")}
    assert main(["evaluate", "--run", str(moved)]) == 0 and main(["report", "--run", str(moved)]) == 0
    assert str(moved) in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in moved.rglob("model.pt")} == stamps  # nothing was trained again
    rows = [json.loads((folder / "metrics.json").read_text())["rows"] for folder in (smoke_run, moved)]
    assert rows[0] == rows[1]
