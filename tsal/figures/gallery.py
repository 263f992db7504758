"""What a run shows to those who have no Python at hand: its executed notebooks as HTML, and a few of its figures."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import cv2

from tsal.run import Run
from tsal.utils import OUTPUTS, PACKAGE, InputError, replacing, write_text

PAGES = OUTPUTS / "gallery"
CHOSEN = ("samples-views", "tracker", "pseudo-error", "evaluation-ced", "history", "summary")
LIMIT = 150 * 1024  # bytes of a figure


def write_gallery(run: Run, pages: Path = PAGES, figures: Path | None = None) -> list[Path]:
    """Executed notebooks in ``pages`` with an ``index.html``, and the chosen figures in ``figures``, where a folder is
    given; their paths.
    """
    return [*write_pages(run, pages), *(write_figures(run, figures) if figures else ())]


# --- pages ---


def write_pages(run: Run, folder: Path) -> list[Path]:
    """``<notebook>.html`` of every executed notebook of the run, and an index with the question of each; the index
    first.
    """
    import nbformat
    from nbconvert import HTMLExporter

    if not (executed := executed_notebooks(run)):
        raise InputError(f"{run.folder / 'executed'}: no executed notebook; 'make reproduce' makes them")
    exporter, rows, paths = HTMLExporter(), [], []
    for path in executed:
        notebook = nbformat.read(path, 4)
        title, question = heading(notebook)
        notebook.metadata["title"] = title
        paths.append(folder / f"{path.stem}.html")
        write_text(paths[-1], exporter.from_notebook_node(notebook)[0])
        rows.append(
            f'<li><a href="{path.stem}.html">{html.escape(title)}</a>' + f"<br>{html.escape(question)}" * bool(question)
        )
    index = (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(run.folder.name)}</title>\n"
        "<style>body { font: 16px/1.5 sans-serif; margin: 3em auto; max-width: 42em } li { margin: 0.8em 0 }</style>\n"
        f"<h1>{html.escape(run.folder.name)}</h1>\n<p>The executed notebooks of this run.</p>\n<ul>\n"
        + "\n".join(rows)
        + "\n</ul>\n</html>\n"
    )
    write_text(folder / "index.html", index)
    return [folder / "index.html", *paths]


def executed_notebooks(run: Run) -> list[Path]:
    """Those that did not fail, in their order."""
    return [
        path for path in sorted((run.folder / "executed").glob("*.ipynb")) if re.fullmatch(r"\w+\.ipynb", path.name)
    ]


def former_notebooks(run: Run) -> str:
    """A line on the executed notebooks that are older than the code that draws their figures; "" where none is."""
    changed = max(path.stat().st_mtime for name in ("figures", "explorer") for path in (PACKAGE / name).glob("*.py"))
    if not (former := [path.stem for path in executed_notebooks(run) if path.stat().st_mtime < changed]):
        return ""
    return (
        f"{', '.join(former)}: executed before a file of tsal/figures or tsal/explorer changed: figures may be of "
        f"former code; anew, each: python -m tsal notebook notebooks/{former[0]}.ipynb --run {run.folder}"
    )


def heading(notebook) -> tuple[str, str]:
    """A notebook's title, and its first question in plain text; "" where there is none."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.M)
    question = re.search(r"\*\*Question\.?\*\*[.:]?\s*(.+?)(?=\n\n|\Z)", text, re.S)
    plain = re.sub(r"\s+", " ", question[1]).replace("`", "").replace("*", "") if question else ""
    return title[1] if title else "notebook", plain


# --- figures ---


def write_figures(run: Run, folder: Path, limit: int = LIMIT) -> list[Path]:
    """The chosen figures that the run has, as PNG of at most ``limit`` bytes each: smaller ones where they need to be.
    Without labels to measure by, errors are not drawn.
    """
    sources = [run.folder / "figures" / f"{name}.png" for name in CHOSEN]
    paths = [path for path in sources if path.exists()]
    if not paths:
        raise InputError(f"{run.folder / 'figures'}: none drawn yet; run 'python -m tsal figures --run {run.folder}'")
    return [_write_within(path, folder / path.name, limit) for path in paths]


def _write_within(source: Path, target: Path, limit: int) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_size <= limit:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
        return target
    image = cv2.imread(str(source))
    content, share = source.read_bytes(), 1.0
    while len(content) > limit:
        share *= min(0.95, (limit / len(content)) ** 0.5)  # bytes go roughly with the area
        size = [max(1, round(share * side)) for side in image.shape[1::-1]]
        smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".png", smaller, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    with replacing(target) as temporary:
        temporary.write_bytes(content)
    return target
