"""Where the commands of a sweep run: on this machine side by side, as a Slurm array, or on Ray."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tsal.utils import REPOSITORY, ConfigError, InputError, Stopped, allowed_cores, write_text

Command = tuple[str, ...]
INTERRUPTED = 130  # exit status after Ctrl-C


@dataclass(frozen=True)
class Group:
    """The runs of one seed: ``base`` makes what they share, and must have ended before any of ``runs`` begins."""

    base: Command
    runs: tuple[Command, ...]


def threads_of(launcher: str, jobs: int) -> int:
    """Threads of a run: OMP_NUM_THREADS, or this machine's cores shared by those side by side; of Slurm's nodes nothing
    is known here, and a run has one.
    """
    return int(
        os.environ.get("OMP_NUM_THREADS") or (1 if launcher == "slurm" else max(1, len(allowed_cores()) // jobs))
    )


def run_local(groups: Sequence[Group], jobs: int, threads: int, folder: Path) -> None:
    """A process each, ``jobs`` at a time. Where one fails, the others go on, but for the runs of a base that failed. A
    signal that stops this process stops those that run (they keep what they have), and no other begins.
    """
    running, stopped = set(), threading.Event()

    def call(command: Command) -> None:
        with subprocess.Popen(command, env=_environment(threads), cwd=REPOSITORY) as process:
            running.add(process)
            if stopped.is_set():
                process.terminate()
            _check(command, process.wait())
            running.discard(process)

    pool = ThreadPoolExecutor(jobs)
    try:
        bases = {pool.submit(call, group.base): group for group in groups}
        runs = []
        for base in as_completed(bases):
            if not base.exception():
                runs += [pool.submit(call, command) for command in bases[base].runs]
        for done in (*bases, *runs):
            done.result()
    except KeyboardInterrupt as stop:
        pool.shutdown(wait=False, cancel_futures=True)
        if getattr(stop, "status", INTERRUPTED) != INTERRUPTED:  # Ctrl-C reaches them too: twice would end a step
            stopped.set()
            for process in list(running):
                process.terminate()
        raise
    finally:
        pool.shutdown()


def run_slurm(groups: Sequence[Group], jobs: int, threads: int, folder: Path) -> None:
    """Two job arrays, ``jobs`` of an array at a time: the bases, and after them the runs. Returns when all have ended.
    A signal that stops this process leaves them: its line says how to end them.

    Needs ``sbatch``, and a ``folder`` that all nodes see; options of one's own by SBATCH_PARTITION and the like.
    """
    if not shutil.which("sbatch"):
        raise ConfigError("launcher slurm: there is no sbatch on this machine; use --launcher local")
    bases, runs = [group.base for group in groups], [command for group in groups for command in group.runs]
    job = f"tsal-{secrets.token_hex(3)}"  # of both: sbatch, made to wait, keeps the second one's number to itself
    try:
        base = _submit("base", job, bases, jobs, threads, folder, ())
        after = f"--dependency=afterok:{base}", "--kill-on-invalid-dep=yes", "--wait"
        _submit("runs", job, runs, jobs, threads, folder, after)
    except KeyboardInterrupt as stop:
        said = f"the Slurm jobs named {job} go on (squeue --name={job}); to end them: scancel --name={job}"
        raise Stopped(said, getattr(stop, "status", INTERRUPTED) - 128) from None


def _submit(
    name: str, job: str, commands: Sequence[Command], jobs: int, threads: int, folder: Path, more: Sequence[str]
) -> str:
    """A job array with one command each -> its number. Slurm keeps the script as it is now, commands and all."""
    script = folder / f"slurm-{name}.sh"
    cases = "".join(f"{number}) {shlex.join(command)} ;;\n" for number, command in enumerate(commands, 1))
    write_text(
        script,
        "#!/bin/bash\n"
        f"#SBATCH --job-name={job} --array=1-{len(commands)}%{jobs} --cpus-per-task={threads}\n"
        f"#SBATCH --output={shlex.quote(str(folder / f'slurm-{name}-%a.log'))}\n"
        f"cd {shlex.quote(str(REPOSITORY))} && export OMP_NUM_THREADS={threads} || exit 1\n"
        f'case "$SLURM_ARRAY_TASK_ID" in\n{cases}esac\n',
    )
    done = subprocess.run(["sbatch", "--parsable", *more, str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"sbatch {script}: failed ({last}); logs are beside it; the same command goes on from there")
    return done.stdout.strip().splitlines()[0].partition(";")[0]


def run_ray(groups: Sequence[Group], jobs: int, threads: int, folder: Path) -> None:
    """A Ray task each, on the cluster of RAY_ADDRESS or one started here; its nodes must see the repository."""
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "launcher ray: Ray is not installed; pip install 'tsal[ray]', or use --launcher local"
        ) from None
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {"num_cpus": jobs * threads, "include_dashboard": False}
    ray.init(address=address, **here)
    if threads > max(node["Resources"].get("CPU", 0) for node in ray.nodes()):
        ray.shutdown()
        raise ConfigError(f"launcher ray: no node has {threads} cores; set OMP_NUM_THREADS to what a node has")
    task = ray.remote(_call).options(num_cpus=threads, max_retries=0)
    after = ray.remote(lambda command, threads, base: _call(command, threads)).options(num_cpus=threads, max_retries=0)
    try:
        ray.get(
            [
                after.remote(command, threads, base)
                for group in groups
                for base in [task.remote(group.base, threads)]
                for command in group.runs
            ]
        )
    except ray.exceptions.RayTaskError as error:
        raise InputError(str(error.cause)) from None
    finally:
        ray.shutdown()


LAUNCHERS: dict[str, Callable[[Sequence[Group], int, int, Path], None]] = {
    "local": run_local,
    "slurm": run_slurm,
    "ray": run_ray,
}


def _call(command: Command, threads: int) -> None:
    """Run a command with so many threads, its output where this process' goes."""
    _check(command, subprocess.run(command, env=_environment(threads), cwd=REPOSITORY, check=False).returncode)


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(threads)}


def _check(command: Command, status: int) -> None:
    if status:
        raise InputError(f"{shlex.join(command)}: failed, see above; the bench's command goes on from there")
