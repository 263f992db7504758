"""The explorer as a user meets it: JupyterLab in headless Chromium, driven over the pipe of Chrome's DevTools protocol."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

from tsal.utils.paths import REPOSITORY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240  # seconds that anything at all may take on a machine that is shared
TOKEN = "explorer"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)")


# --- Chromium
# --------------------------------------------------------------------------------------------------------------


class Browser:
    """A headless Chromium with one page. Its messages are JSON ended by a zero byte, over file descriptors 3 and 4."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 1400):
        ends = [os.pipe(), os.pipe()]
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ends[0][0], ends[1][1])]  # out of the way of 3 and 4
        command = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", *command],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for handle in (*theirs, ends[0][0], ends[1][1]):
            os.close(handle)
        self._write, self._read = ends[0][1], ends[1][0]
        self._buffer, self._count, self._session = b"", 0, None
        self.complaints: list[str] = []  # errors of the console, of scripts and of the network
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._write)  # without its pipe it ends by itself
        os.close(self._read)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def send(self, method: str, **parameters) -> dict:
        """A command -> its result; what else is heard in between is looked through for complaints."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        content = json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        while (answer := self._next()).get("id") != self._count:
            self._listen(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready = select.select([self._read], [], [], max(0, end - time.monotonic()))[0]
            piece = os.read(self._read, 1 << 20) if ready else b""
            assert piece, "Chromium says nothing more"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _listen(self, event: dict) -> None:
        method, said = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")

    def evaluate(self, script: str):
        """The value of a script; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, what: str):
        """Until a script's value is true; -> that value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"{what}: not seen within {PATIENCE} s; {self.complaints}"
            time.sleep(0.1)
        return value

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


# --- JupyterLab
# ------------------------------------------------------------------------------------------------------------


@contextmanager
def serve_notebook(run: Path, folder: Path) -> Iterator[str]:
    """JupyterLab on loopback with notebook 04, whose parameters name the run -> its address. ``folder``: for all that
    it writes.
    """
    home = folder / "home"
    notebook = nbformat.read(REPOSITORY / "notebooks/04_pseudo_labels.ipynb", 4)
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += f"\nrun = {str(run)!r}"
    (folder / "work").mkdir()
    nbformat.write(notebook, folder / "work/explorer.ipynb")
    settings = home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # cells out of sight stay in the page
    own = {
        f"{name}_DIR": str(home / name.lower())
        for name in ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_WORKSPACES")
    }
    own |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder / 'work'}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.news_url=None",
    ]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | own, cwd=folder, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + PATIENCE
        while not _answers(f"{address}/api?token={TOKEN}"):
            assert server.poll() is None and time.monotonic() < end, (folder / "lab.log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()  # ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(address: str) -> bool:
    try:
        return urlopen(address, timeout=5).status == 200
    except (URLError, OSError):
        return False


@pytest.fixture
def lab(smoke_run, tmp_path):
    shutil.copytree(smoke_run, tmp_path / "runs" / "smoke")
    with serve_notebook(tmp_path / "runs" / "smoke", tmp_path) as address:
        yield address


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path / "chromium")
    yield opened
    opened.close()


NOTEBOOK = "jupyterapp.shell.currentWidget"
KERNEL = f"{NOTEBOOK}?.sessionContext?.session?.kernel?.status"
CELLS = f"{NOTEBOOK}.content.model.sharedModel.toJSON().cells"
PICTURE = """
(async () => {
  const image = document.querySelector('img.explorer-%s');
  if (!image || !image.complete || !image.naturalWidth) return '';
  const content = await (await fetch(image.src)).arrayBuffer();
  return [...new Uint8Array(await crypto.subtle.digest('SHA-256', content))].join(' ');
})()
"""


def open_explorer(browser: Browser, address: str) -> None:
    """Opens the notebook and runs all of it."""
    browser.send("Page.navigate", url=f"{address}/lab/tree/explorer.ipynb?token={TOKEN}")
    browser.wait(f"typeof jupyterapp != 'undefined' && {KERNEL} == 'idle'", "a notebook and its kernel")
    browser.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
    done = f"{CELLS}.filter(cell => cell.cell_type == 'code').every(cell => cell.execution_count) && {KERNEL} == 'idle'"
    failed = f"{CELLS}.some(cell => (cell.outputs || []).some(output => output.output_type == 'error'))"
    browser.wait(f"({done}) || ({failed})", "every cell executed")


def error_cells(browser: Browser) -> list[str]:
    errors = f"{CELLS}.flatMap(cell => cell.outputs || []).filter(output => output.output_type == 'error')"
    return browser.evaluate(f"{errors}.map(error => error.ename + ': ' + error.evalue)")


def changed(browser: Browser, name: str, former: str) -> str:
    """The picture's digest, once it is another than the former."""
    differs = f"(async () => {{ const now = await ({PICTURE % name}); return now && now != '{former}'; }})()"
    browser.wait(differs, f"a change of the picture {name!r}")
    return browser.evaluate(PICTURE % name)


def test_the_explorer_runs_in_a_browser_and_follows_slider_and_toggle(lab, browser):
    open_explorer(browser, lab)
    assert error_cells(browser) == []
    names = ("crop", "heatmap", "flow", "occlusion", "forward-backward", "series", "scatter")
    before = {name: changed(browser, name, "") for name in names}

    # by the keyboard, as a hand would: the slider's handle, a step to the right
    handle = "document.querySelector('.jupyter-widgets .noUi-handle')"
    place = f"+{handle}.getAttribute('aria-valuenow')"
    at = browser.evaluate(place)
    browser.evaluate(f"{handle}.focus()")
    browser.press("ArrowRight", 39)
    browser.wait(f"{place} == {at + 1}", "the slider's next frame")
    after = {name: changed(browser, name, before[name]) for name in ("crop", "heatmap", "series", "scatter")}

    boxes = "[...document.querySelectorAll('.widget-checkbox')]"
    toggle = f"{boxes}.find(box => box.innerText.includes('carried')).querySelector('input')"
    assert browser.evaluate(f"({toggle}).checked") is False
    browser.evaluate(f"({toggle}).click()")
    changed(browser, "crop", after["crop"])
    changed(browser, "series", after["series"])

    assert error_cells(browser) == [] and browser.complaints == []
