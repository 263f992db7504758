"""Run one notebook by papermill: parameters checked, progress shown live, the executed copy kept whole or marked as
failed.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsal.utils import REPOSITORY, ConfigError, DataError, InputError, RunError, Stopped, StopSignals, nearest

KERNEL = "python3"


class NotebookError(RunError):
    """A cell failed for a reason that is no :class:`InputError`; the text ends with where the failed notebook is."""


def notebook_parameters(notebook: Path) -> list[str]:
    """Names that the notebook's parameters cell assigns."""
    if not notebook.is_file():
        raise InputError(f"{notebook}: no such notebook")
    cells = json.loads(notebook.read_text())["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    lines = [line for source in tagged for line in ast.parse(source).body if isinstance(line, ast.Assign)]
    return [target.id for line in lines for target in line.targets if isinstance(target, ast.Name)]


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Papermill only warns of a parameter that a notebook does not know; here it is an error."""
    names = notebook_parameters(notebook)
    for name in parameters:
        if name not in names:
            raise ConfigError(
                f"{notebook}: no parameter {name!r}{nearest(name, names)}; it has {', '.join(names) or 'none'}"
            )


def execute(notebook: Path, run: Path, parameters: Mapping[str, Any]) -> Path:
    """Execute with ``parameters`` (and ``run``) and keep the result as ``<run>/executed/<name>``; returns that path.

    Raises:
        InputError: a parameter is unknown, or a cell raised an InputError (the same text).
        NotebookError: a cell failed otherwise. Either way the notebook as it failed is kept as ``<name>.failed.ipynb``.
        Stopped: a signal came, here or to the kernel.
    """
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    parameters = {"run": str(run), **parameters}
    check_parameters(notebook, parameters)
    use_this_interpreter()
    target = run / "executed" / notebook.name
    failed = target.with_suffix(".failed.ipynb")
    temporary = target.with_name(f".{notebook.stem}.{os.getpid()}.tmp.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    kernels: list[AsyncKernelManager] = []

    class Kernel(AsyncKernelManager):
        def __init__(self, **options: Any):
            super().__init__(**options)
            kernels.append(self)

    def interrupt() -> None:
        """As a notebook's stop button does: the cell ends with what it says of it."""
        for kernel in kernels:
            if process := getattr(kernel.provisioner, "pid", None):
                os.kill(process, signal.SIGINT)

    signals = StopSignals(then=interrupt)
    try:
        with signals:
            papermill.execute_notebook(
                str(notebook),
                str(temporary),
                parameters=parameters,
                kernel_name=KERNEL,
                kernel_manager_class=Kernel,
                cwd=str(REPOSITORY),
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                extra_arguments=["--log-level=CRITICAL"],  # else the kernel logs its ports at each start, and its end
                coalesce_streams=True,  # keeps the last state of a progress bar, not each
            )
    except PapermillExecutionError as error:
        os.replace(temporary, failed)
        raise _cause(error, failed, signals.asked) from None
    except DeadKernelError:
        if signals.asked:
            raise Stopped(number=signals.asked) from None
        where = _last_cell(temporary)
        os.replace(temporary, failed)
        raise NotebookError(
            f"{notebook}: its kernel died in {where}: as a rule the system ended it, because no memory was left; free "
            f"some, and the same command goes on from what is done; the notebook as it failed: {failed}"
        ) from None
    else:
        os.replace(temporary, target)
        failed.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _last_cell(executed: Path) -> str:
    """The cell that was begun last, as its number among the notebook's cells of code and its first line."""
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    own = [cell for cell in cells if "injected-parameters" not in cell["metadata"].get("tags", ())]
    number = max(
        (n for n, cell in enumerate(own, 1) if cell["metadata"].get("papermill", {}).get("start_time")), default=1
    )
    first = "".join(own[number - 1]["source"]).partition("\n")[0]
    return f"code cell {number} ({first})"


def use_this_interpreter() -> None:
    """Make ``python3`` the kernel of the running interpreter, whatever kernels the user or the system has installed."""
    own = str(Path(sys.prefix) / "share" / "jupyter")
    others = [path for path in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if path and path != own]
    os.environ["JUPYTER_PATH"] = os.pathsep.join([own, *others])
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a debugger's warning at each start of a kernel


def _cause(error: Any, failed: Path, signal_number: int) -> BaseException:
    """The InputError that a cell raised, or what can be said of another failure."""
    kinds = {kind.__name__: kind for kind in (InputError, ConfigError, DataError)}
    if error.ename == "DataError":
        return DataError(error.evalue.splitlines())
    if error.ename in kinds:
        return kinds[error.ename](error.evalue)
    if error.ename in ("Stopped", "KeyboardInterrupt"):
        return Stopped(error.evalue, signal_number or signal.SIGINT)
    if error.ename == "RunError" or issubclass(getattr(builtins, error.ename, object), OSError):
        trace = error.evalue  # says all
    else:
        trace = "\n".join(map(str, error.traceback[-2:]))
    trace = re.sub(r"\x1b\[[0-9;]*m", "", trace)  # without colours
    return NotebookError(f"{trace}\nthe notebook as it failed: {failed}")
