"""The explorer as a user meets it: JupyterLab in the system's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import os
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

from tsal.utils.paths import PACKAGE, REPOSITORY

playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright (pip install playwright)")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240  # seconds that anything at all may take on a machine that is shared
TOKEN = "explorer"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)")

# --- JupyterLab ---


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
        "JUPYTER_CONFIG_PATH": str(PACKAGE / "explorer/jupyter"),  # as in the Makefile
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


# --- the page ---


@pytest.fixture
def page():
    """An empty page; ``page.complaints``: errors of the console, of scripts and of the network."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, headless=True, chromium_sandbox=False, args=["--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(1000 * PATIENCE)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "assert") and page.complaints.append(f"{message.text} {message.location}")
            ),
        )
        yield page
        browser.close()


NOTEBOOK = "jupyterapp.shell.currentWidget"
KERNEL = f"{NOTEBOOK}?.sessionContext?.session?.kernel?.status"
CELLS = f"{NOTEBOOK}.content.model.sharedModel.toJSON().cells"
ERRORS = f"{CELLS}.flatMap(cell => cell.outputs || []).filter(output => output.output_type == 'error')"
OTHER_IMAGE = """
async ([name, former]) => {
  const image = document.querySelector(`img.explorer-${name}`);
  if (!image || !image.complete || !image.naturalWidth) return '';
  const content = await (await fetch(image.src)).arrayBuffer();
  const now = [...new Uint8Array(await crypto.subtle.digest('SHA-256', content))].join(' ');
  return now == former ? '' : now;
}
"""


def open_explorer(page, address: str) -> None:
    """Opens the notebook and runs all of it."""
    page.goto(f"{address}/lab/tree/explorer.ipynb?token={TOKEN}")
    page.wait_for_function(f"typeof jupyterapp != 'undefined' && {KERNEL} == 'idle'")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    done = f"{CELLS}.filter(cell => cell.cell_type == 'code').every(cell => cell.execution_count) && {KERNEL} == 'idle'"
    page.wait_for_function(f"({done}) || {ERRORS}.length")


def error_cells(page) -> list[str]:
    return page.evaluate(f"{ERRORS}.map(error => error.ename + ': ' + error.evalue)")


def changed(page, name: str, former: str) -> str:
    """The image's digest, once it is another than the former."""
    return page.wait_for_function(OTHER_IMAGE, arg=[name, former]).json_value()


def test_the_explorer_runs_in_a_browser_and_follows_slider_and_toggle(lab, page):
    open_explorer(page, lab)
    assert error_cells(page) == []
    names = ("crop", "heatmap", "flow", "occlusion", "forward-backward", "series", "scatter")
    before = {name: changed(page, name, "") for name in names}

    handle = page.locator(".jupyter-widgets .noUi-handle").first
    at = float(handle.get_attribute("aria-valuenow"))
    handle.press("ArrowRight")
    playwright.expect(handle).to_have_attribute("aria-valuenow", f"{at + 1:.1f}", timeout=1000 * PATIENCE)
    after = {name: changed(page, name, before[name]) for name in ("crop", "heatmap", "series", "scatter")}

    toggle = page.locator(".widget-checkbox", has_text="propagated").locator("input")
    assert not toggle.is_checked()
    toggle.check()
    changed(page, "crop", after["crop"])
    changed(page, "series", after["series"])

    assert error_cells(page) == [] and page.complaints == []
    # nothing has laid itself over the explorer: no question about Jupyter's news, no other notification, no dialogue
    assert page.get_by_text("Jupyter news").all_inner_texts() == []
    assert page.locator(".Toastify__toast, .jp-Dialog").all_inner_texts() == []
