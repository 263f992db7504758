"""The one style of all figures: sizes, colours, words, and the few things that every figure draws.

Figures are made without pyplot, so none is kept alive by it; they show themselves in a notebook. Saving the same figure
twice gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import LogLocator, NullFormatter

from tsal.audit import Audit
from tsal.data import Clip, Face, FaceStore, plain_affine
from tsal.evaluation import NORMALISERS
from tsal.figures.colours import MODEL_DASHES as MODEL_DASHES
from tsal.figures.colours import MODELS as MODELS
from tsal.figures.evaluated import read_audit
from tsal.geometry import apply_affine
from tsal.run import Run
from tsal.schemes import Scheme
from tsal.utils import InputError, replacing

COLUMN, TEXT = 3.3, 6.9  # width of a column and of the text block, inches
DPI = 200


# one a source: 20 and more apart in CIELAB for every kind of colour blindness, and as far from the skin that they are
# drawn on
SOURCES = {
    "heatmap": "#56b4e9",
    "centre": "#dc3886",
    "tracked_heatmap": "#de8f05",
    "tracked_centre": "#dcc464",
    "propagated": "#6c4fb3",
    "fused": "#222222",
}
SOURCE_DASHES = {
    "heatmap": "-",
    "centre": "-",
    "tracked_heatmap": "--",
    "tracked_centre": "--",
    "propagated": ":",
    "fused": "-",
}
TRUTH = "#ffffff"  # labels, where something is measured against them
LABELS = "#56d8b0"  # labels, shown for themselves

METHOD_TITLES = {
    "supervised": "supervised only",
    "tsal": "TSAL",
    "mean-teacher": "Mean Teacher",
    "mean-teacher-corrected": "Mean Teacher, corrected",
}
STAGES = {  # that make a run's files
    "manifest.json": "data",
    "history.csv": "train",
    "labels.parquet": "pseudo",
    "predictions.npz": "evaluate",
    "metrics.json": "evaluate",
}
CROP_SIDE = 240  # px, side of crops that are looked at rather than trained on

STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "image.interpolation": "bicubic",
    "pdf.fonttype": 42,  # whole TrueType fonts, as publishers ask
    "svg.hashsalt": "tsal",
}


class NamedFigure(Figure):
    """A figure with a file name (``name``), shown by notebooks as it is."""

    def __init__(self, name: str, width: float, height: float, **options):
        super().__init__(figsize=(width, height), **options)
        FigureCanvasAgg(self)
        self.name = name

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        with matplotlib.style.context(STYLE, after_reset=True):
            self.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        return buffer.getvalue()


def styled(draw):
    """Draw in the project's style, whatever matplotlib's settings are elsewhere."""

    @wraps(draw)
    def wrapper(*arguments, **options):
        with matplotlib.style.context(STYLE, after_reset=True):
            return draw(*arguments, **options)

    return wrapper


@styled
def save(figure: NamedFigure, folder: Path) -> list[Path]:
    """``<name>.png`` and ``<name>.pdf`` in the folder; no dates and no versions in them."""
    paths = []
    for kind, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Producer": None, "Creator": None}),
    ):
        paths.append(Path(folder) / f"{figure.name}.{kind}")
        with replacing(paths[-1]) as temporary:
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=metadata)
    return paths


def image_grid(
    name: str, rows: int, columns: int, *, width=TEXT, left=0.0, top=0.2, under=0.0, below=0.0, gap=0.04
) -> tuple[NamedFigure, np.ndarray]:
    """Axes (rows, columns) for square images, placed to the point.

    Inches: ``left`` for names of rows, ``top`` for names of columns, ``under`` each row for a line of text, ``below``
    them all.
    """
    cell = (width - left - gap * (columns - 1)) / columns
    height = top + rows * (cell + under) + gap * (rows - 1) + below
    figure, axes = NamedFigure(name, width, height), np.empty((rows, columns), object)
    for row, column in np.ndindex(rows, columns):
        x, y = left + column * (cell + gap), height - top - cell - row * (cell + under + gap)
        axes[row, column] = figure.add_axes((x / width, y / height, cell / width, cell / height))
        axes[row, column].set_axis_off()
    return figure, axes


def row_name(axes, text: str) -> None:
    """A row's name at the left of its first image, upwards."""
    axes.text(-0.04, 0.5, text, transform=axes.transAxes, rotation=90, ha="right", va="center", fontsize=7)


def under_name(axes, text: str, **options) -> None:
    axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", fontsize=6.5, **options)


def headroom(axes, share: float) -> None:
    """Leave a share of the axes' height free above what is drawn, for a legend."""
    low, high = axes.get_ylim()
    more = share / (1 - share)
    axes.set_ylim(low, high * (high / low) ** more if axes.get_yscale() == "log" else high + (high - low) * more)


def plain_log_ticks(axes) -> None:
    """Few, plainly written numbers on a logarithmic axis, be its range half a decade or many."""
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 3) if decades < 2.5 else (1,))
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_face(axes, image: np.ndarray) -> None:
    """An RGB or grey image; what is drawn later does not move its limits."""
    axes.imshow(image, cmap="gray" if image.ndim == 2 else None)
    axes.set_autoscale_on(False)


def draw_landmarks(
    axes, points: np.ndarray, scheme: Scheme, colour: str, *, width=0.9, visible: np.ndarray | None = None
) -> None:
    """Points (K, 2) px of the image: the scheme's lines, and a dot on every landmark; hidden and unknown ones break
    the line.

    A scheme without lines gets larger dots. Truth is drawn thin, to leave what is measured against it in sight.
    """
    width = 0.7 * width if colour == TRUTH else width
    outline = [
        Stroke(linewidth=width + 0.9, foreground="white" if colour == SOURCES["fused"] else "black", alpha=0.55),
        Normal(),
    ]
    gap = np.full((1, 2), np.nan)
    points = points if visible is None else np.where(visible[:, None], points, np.nan)
    parts = [part for _, indices, closed in scheme.lines for part in (points[list(indices + indices[:closed])], gap)]
    if parts:
        axes.plot(*np.concatenate(parts).T, color=colour, linewidth=width, path_effects=outline, solid_capstyle="round")
    size = 1.5 * width if parts else 4 * width
    edge = 0 if parts else 0.4
    axes.plot(
        *points.T,
        linestyle="",
        marker="o",
        markersize=size,
        color=colour,
        markeredgewidth=edge,
        markeredgecolor="black",
    )


def cumulative(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The empirical distribution of errors (N,) as the corners of its steps: x (N + 1,), shares (N + 1,) of 0 to 1."""
    return np.concatenate([[0.0], np.sort(errors)]), np.arange(len(errors) + 1) / max(1, len(errors))


def quantiles(values: np.ndarray, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """The same for very many values, thinned: values at ``count`` even shares, shares."""
    shares = np.linspace(0, 1, count)
    return np.quantile(values, shares), shares


def equal_bins(score: np.ndarray, bins: int = 10) -> list[np.ndarray]:
    """Indices of scores (N,) in bins that hold equally many, by score."""
    return [part for part in np.array_split(np.argsort(score, kind="stable"), bins) if len(part)]


def binned(
    axes, score: np.ndarray, error: np.ndarray, colour: str, dashes: str, label: str, bins: int = 10, *, band=True
) -> None:
    """Median and, in a band, quartiles of the error in bins that hold equally many landmarks."""
    use = np.isfinite(score) & np.isfinite(error)
    if not use.any():
        return
    parts = equal_bins(score[use], bins)
    x = [np.median(score[use][part]) for part in parts]
    low, middle, high = np.transpose([np.quantile(error[use][part], (0.25, 0.5, 0.75)) for part in parts])
    if band:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, middle, color=colour, linestyle=dashes, marker="o", markersize=2, label=label)


def coverage(score: np.ndarray, error: np.ndarray, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Share kept and mean error of what is kept, as a gate on the score opens."""
    means = np.cumsum(error[np.argsort(score, kind="stable")]) / np.arange(1, len(error) + 1)
    counts = np.unique(np.linspace(max(1, len(error) // 50), len(error), count).astype(int))
    return counts / len(error), means[counts - 1]


def flow_colours(flow: np.ndarray, longest: float) -> np.ndarray:
    """Flow (2, H, W) -> RGB (H, W, 3): direction as hue, length up to ``longest`` as saturation (white: no motion)."""
    length = np.minimum(np.hypot(*flow) / max(longest, 1e-6), 1)
    hue = (np.arctan2(flow[1], flow[0]) / (2 * np.pi)) % 1
    return hsv_to_rgb(np.stack([hue, length, np.ones_like(hue)], -1))


def flow_wheel(axes, longest: float) -> None:
    """The key of :func:`flow_colours`, in a corner of the image."""
    side = np.linspace(-1, 1, 61)
    x, y = np.meshgrid(side, side)
    wheel = np.dstack([flow_colours(np.stack([x, y]), 1.0), (np.hypot(x, y) <= 1).astype(float)])
    inset = axes.inset_axes((0.02, 0.02, 0.26, 0.26))
    inset.imshow(wheel)
    inset.set_axis_off()
    axes.text(0.3, 0.04, f"{longest:.1f} px", transform=axes.transAxes, fontsize=6, va="bottom")


# --- of a run ---


def run_file(run: Run, name: str) -> Path:
    """A file of the run; where it is missing, the error names the stage that makes it."""
    path = run.folder / name
    if not path.exists():
        raise InputError(f"{path}: not there yet; {_making(run, name)}")
    return path


def read_report(run: Run, name: str) -> dict:
    """A JSON file of the run; where it is missing or broken, the error names the stage that makes it."""
    path = run_file(run, name)
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path}: is broken; {_making(run, name)}") from None


def _making(run: Run, name: str) -> str:
    stage = "tracker" if name.startswith("tracker/") else STAGES[Path(name).name]
    return f"run 'python -m tsal {stage} --run {run.folder}'"


def open_audit(run: Run) -> Audit | None:
    """The run's audit, see :func:`read_audit`; None where there is nothing to audit (``run.no_pseudo_labels``)."""
    if run.no_pseudo_labels:
        return None
    run_file(run, "audit/labels.parquet")
    return read_audit(run)


def audited_faces(run: Run, audit: Audit, frames: Sequence[int]) -> dict[int, tuple[Clip, Face]]:
    """The unlabelled training faces that some of an audit's frames show, with their clips."""
    faces: dict[str, list[tuple[Clip, Face]]] = {}
    for clip in (*run.clips, *run.single_images):
        for face in clip.faces:
            faces.setdefault(face.image, []).append((clip, face))
    by_frame = {}
    for frame in frames:
        row = audit.frames.iloc[frame]
        box = row[["x1", "y1", "x2", "y2"]].to_numpy(float)
        by_frame[frame] = min(faces[row.image], key=lambda pair: np.abs(np.subtract(pair[1].box, box)).max())
    return by_frame


def unit(run: Run) -> str:
    mark = ", transductive" if run.config.data.transductive else ""
    return f"% of {NORMALISERS[run.config.data.normaliser]}{mark}"


def fine_store(run: Run) -> FaceStore:
    """Crops for people to look at, where the run's own have the few pixels of the network's input."""
    return FaceStore(run.root, run.scheme, CROP_SIDE, run.config.augment.box_scale, 50)


def draw_crop(
    axes, store: FaceStore, faces: Sequence[Face], face: Face, landmarks: dict | None = None, **options
) -> None:
    """A frame cut by the one box of ``faces``, with {colour: (points (K, 2) px of the image, visible (K,) or None)}."""
    affine = plain_affine(faces, store.side, store.box_scale)
    draw_face(axes, store.view(face, affine))
    for colour, (points, visible) in (landmarks or {}).items():
        draw_landmarks(axes, apply_affine(affine, points), store.scheme, colour, visible=visible, **options)
