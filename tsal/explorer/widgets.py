"""The explorer of pseudo-labels: widgets over what ``views`` and ``panels`` draw from a run's audit.

Nothing is computed but images: labels, flow and heatmaps are the audit's, read when they are looked at.
"""

from __future__ import annotations

import gc
from functools import lru_cache
from html import escape
from pathlib import Path

import cv2
import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import display

from tsal.audit import AUDITED, LABELS, ClipViews, is_measured
from tsal.explorer import panels, views
from tsal.explorer.views import EVERY, TRUTH_NAME, State
from tsal.figures import SOURCES, NamedFigure, read_audit, unit
from tsal.run import Run
from tsal.utils import REPOSITORY, InputError, describe_os_error

OPENS_ON = ("heatmap", "centre", "fused", TRUTH_NAME)
ORDERS = {"the audit's order": "", "disagreement (px)": "disagreement", "error (%)": "error", "jitter (px)": "jitter"}
# a change of one may change what those after it offer
LEVELS = ("run", "model", "step", "group", "x", "y", "order", "clip", "frame")
KEPT_VIEWS = 4  # clips whose images stay in memory
PLAY_MS = 300
WHOLE = {"width": "calc(100% - 8px)"}


class Explorer:
    """Widgets over the audit of a run, and of the runs beside it that have one. A notebook shows it as it is.

    Every widget is an attribute; setting its ``value`` does what a hand would.

    Args:
        folder: the run that it opens on.
    """

    def __init__(self, folder: Path):
        folder = REPOSITORY / folder
        audited = {path.parent.parent for path in folder.parent.glob(f"*/audit/{LABELS}")} | {folder}
        self.run = _dropdown("run", [(path.name, path) for path in sorted(audited)], folder)
        self.model, self.step = _dropdown("model"), _dropdown("step")
        self.group, self.landmark = _dropdown("landmarks"), _dropdown("heatmap of")
        self.order, self.clip = _dropdown("clips by", ORDERS.items(), ""), _dropdown("clip", wide=True)
        self.frame = widgets.IntSlider(
            description="frame", layout={"width": "430px"}, style={"description_width": "50px"}
        )
        self.play = widgets.Play(interval=PLAY_MS, show_repeat=True)
        widgets.jslink((self.play, "value"), (self.frame, "value"))
        self.shown = {name: _toggle(name) for name in (*AUDITED, TRUTH_NAME)}
        self.x, self.y = _dropdown("across"), _dropdown("up")
        style = {"description_width": "150px"}
        self.ranges = [
            widgets.FloatRangeSlider(step=0.01, readout_format=".2f", layout=WHOLE, style=style) for _ in "xy"
        ]
        self.frames = widgets.Select(rows=9, layout=WHOLE)
        self.status, self.about, self.found = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.notes, self.images = {}, {}
        for name in ("crop", "heatmap", "flow", "occlusion", "forward-backward", "series", "scatter"):
            self.notes[name] = widgets.HTML()
            self.images[name] = widgets.Image(
                format="png", layout={"max_width": "100%", "object_fit": "contain", "align_self": "flex-start"}
            )
            self.images[name].add_class(f"explorer-{name}")
        self._opened: Path | None = None
        self._screens: dict[str, tuple[object, views.Screen]] = {}
        self._busy, self._asked = False, {}
        self._on("run")
        for level in LEVELS:
            getattr(self, level).observe(lambda change, level=level: self._on(level), "value")
        for widget in (self.landmark, *self.shown.values()):
            widget.observe(lambda change: self._on(""), "value")
        for axis, slider in zip((self.x, self.y), self.ranges):
            slider.observe(lambda change, axis=axis: self._ask(axis.value, change), "value")
        self.frames.observe(lambda change: self._on("frames"), "value")
        self.widget = self._arranged()

    def _ipython_display_(self) -> None:
        # else the collector looks through all of torch every now and then, and the display freezes for 0.3 s
        gc.freeze()
        display(self.widget)

    # --- what is looked at ---

    @property
    def state(self) -> State:
        shown = tuple(name for name, widget in self.shown.items() if widget.value)
        return State(self.model.value, self.step.value, self._row(), shown, self.group.value, self.landmark.value)

    @property
    def clips(self) -> pd.DataFrame:
        """The clips as they are sorted; see :func:`tsal.explorer.views.clip_table`."""
        return views.clip_table(self.table, self.order.value)

    @property
    def listed(self) -> pd.DataFrame:
        """The frames in the region."""
        return views.frames_within(self.table, self.region)

    @property
    def region(self) -> dict[str, tuple[float, float]]:
        return {axis.value: slider.value for axis, slider in zip((self.x, self.y), self.ranges)}

    def twins(self) -> list[NamedFigure]:
        """What is on the screen, as figures that need no kernel."""
        state = self.state
        series = views.draw_series(self.audit, self.scheme, state, self.table, self.unit)
        scatter = views.draw_scatter(self.table, self.unit, *self.region)
        views.move_scatter(scatter, self.table, self.region, state.frame)
        drawn = panels.panels(self.audit, self._view(self.clip.value), self.scheme, state)
        image = self.audit.frames.image.loc[state.frame]
        return [
            panels.draw_panels(drawn, f"{image}, {state.model} at step {state.step}"),
            series.figure,
            scatter.figure,
        ]

    def _row(self) -> int:
        """The frame's row in the audit."""
        rows = self.table.index[self.table["view"] == self.clip.value]
        return int(rows[min(self.frame.value, len(rows) - 1)])

    # --- changes ---

    def _on(self, what: str) -> None:
        """A widget has a new value: of a level, of the list of frames, or of something that is only drawn."""
        if self._busy:
            return
        try:
            self._busy = True
            self.status.value = ""
            if what == "frames":
                self._go(self.frames.value)
            else:
                self._change(what)
        except (InputError, OSError) as error:  # a callback would hide either
            if not self._opened:  # none: there is nothing to show
                raise
            text = describe_os_error(error) if isinstance(error, OSError) else str(error)
            self.status.value = f'<b style="color: #b00020">{escape(text)}</b>'
            self.run.value = self._opened
        finally:
            self._busy = False

    def _ask(self, axis: str, change: dict) -> None:
        """A range has a new value: where a hand moved it, that is kept; an end at the limit leaves out nothing."""
        if not self._busy:
            low, high = change["new"]
            self._asked[axis] = (low, np.inf if high == change["owner"].max else high)
        self._on("")

    def _change(self, level: str) -> None:
        """Offer what there is from a level on, keep what is still there, and draw."""
        changed = LEVELS[LEVELS.index(level) :] if level else ()
        if "run" in changed:
            self._open(self.run.value)
        before = None if level == "run" else self._row()
        if "model" in changed:
            steps = self.audit.steps(self.model.value)
            _offer(self.step, steps, steps[-1])
        if "group" in changed:
            landmarks = views.group_landmarks(self.scheme, self.group.value)
            _offer(self.landmark, [(views.landmark_name(self.scheme, i), i) for i in landmarks], landmarks[0])
            model, step = self.model.value, self.step.value
            self.table = views.frame_table(self.audit, model, step, landmarks, consecutive=self._consecutive)
        if "y" in changed:
            self._offer_axes(keep=level != "run")
        if "order" in changed:
            by, clips = self.order.value, self.clips
            names = [f"{row['clip']}   {row[by]:.2f}" if by else row["clip"] for _, row in clips.iterrows()]
            # a new order is asked for to see what is first in it
            _offer(self.clip, list(zip(names, clips.index)), clips.index[0], keep=level != "order")
        if "clip" in changed:
            last = int((self.table["view"] == self.clip.value).sum()) - 1
            stays = before in self.table.index
            place = int(self.audit.frames.place.loc[before]) if stays else last // 2
            for widget in (self.frame, self.play):
                widget.max, widget.disabled = max(1, last), last == 0
            self.frame.value = min(place, last)
        self._list_frames()
        self._draw()

    def _open(self, folder: Path) -> None:
        run = Run.open(folder)
        audit = read_audit(run)
        self.audit, self.scheme = audit, run.scheme
        self.unit = unit(run) if is_measured(audit) else ""
        self._opened, self._view = folder, lru_cache(KEPT_VIEWS)(ClipViews(run, audit))
        self._screens.clear()
        self._asked.clear()
        self.frames.options = ()
        _offer(self.model, audit.names, run.config.result if run.config.result in audit.names else audit.names[-1])
        _offer(self.group, views.group_names(self.scheme), EVERY)
        self._consecutive = run.config.data.consecutive
        available = {"": True, "disagreement": True, "error": bool(self.unit), "jitter": self._consecutive}
        orders = {name: by for name, by in ORDERS.items() if available[by]}
        _offer(self.order, list(orders.items()), "")
        self.shown[TRUTH_NAME].disabled = not self.unit

    def _offer_axes(self, keep: bool) -> None:
        """What frames are spread by, and ranges of it: what was asked for of this measure, as far as it reaches; else
        all that the frames have.
        """
        measures, first = views.known_measures(self.table), views.scatter_axes(self.table)
        _offer(self.x, measures, first[0], keep)
        left = [option for option in measures if option[1] != self.x.value]
        _offer(self.y, left, first[1] if first[1] != self.x.value else left[0][1], keep)
        for axis, slider in zip((self.x, self.y), self.ranges):
            top = views.range_limits(self.table[axis.value])[1]
            slider.description = axis.label
            with slider.hold_trait_notifications():
                ends = tuple(min(end, top) for end in self._asked.get(axis.value, (0, top)))
                slider.min, slider.max, slider.value = 0, top, ends

    def _list_frames(self) -> None:
        """The frames in the region, and which of them is looked at."""
        listed, (x, y), row = self.listed, self.region, self._row()
        columns = (listed[name] for name in (y, x, "clip", "place"))
        names = [f"{y_value:.2f}   {x_value:.2f}   {clip}   {place}" for y_value, x_value, clip, place in zip(*columns)]
        options = tuple(zip(names, map(int, listed.index)))
        if self.frames.options != options:
            self.frames.options = options
        self.frames.value = row if row in listed.index else None
        lost, (across, up) = int(self.table[[x, y]].isna().any(axis=1).sum()), (views.MEASURES[x], views.MEASURES[y])
        self.found.value = _text(
            f"<b>{len(listed)} of {len(self.table)} frames</b> in the region"
            + (f"; {lost} have no {across} or {up}" if lost else "")
            + f"<br>{up}, {across}, clip, frame; one that is clicked is shown"
        )

    def _go(self, row: int | None) -> None:
        """To a frame of the list."""
        if row is not None:
            clip, place = int(self.audit.frames["view"].loc[row]), int(self.audit.frames.place.loc[row])
            self.clip.value = clip
            self._change("clip")
            self.frame.value = place
            self._change("frame")

    # --- drawing ---

    def _draw(self) -> None:
        state = self.state
        part = (state.model, state.step, state.group)
        key = (*part, state.shown, self.clip.value)
        series = self._screen("series", key, views.draw_series, self.audit, self.scheme, state, self.table, self.unit)
        views.move_series(series.plot, int(self.audit.frames.place.loc[state.frame]))
        key = (*part, *self.region)
        scatter = self._screen("scatter", key, views.draw_scatter, self.table, self.unit, *self.region)
        views.move_scatter(scatter.plot, self.table, self.region, state.frame)
        for name, screen in (("series", series), ("scatter", scatter)):
            self._show(name, screen.image())
        row = self.table.loc[state.frame]
        names = [name for name in ("error", "disagreement", "gate") if np.isfinite(row[name])]
        said = [f"{views.MEASURES[name]}{views.UNITS.get(name, '')} {row[name]:.2f}" for name in names]
        self.about.value = _text(
            f"<b>{escape(self.audit.frames.image.loc[state.frame])}</b>, fused points: {', '.join(said)}"
        )
        # last: only these need the images, which may be gone
        try:
            drawn = panels.panels(self.audit, self._view(self.clip.value), self.scheme, state)
        except (InputError, OSError):
            for name in self.images.keys() - {"series", "scatter"}:  # not those of the clip before
                self.notes[name].value = _text("<b>no image</b>")
                self._show(name, np.full((views.SMALL, views.SMALL, 3), 235, np.uint8))
            raise
        for name, panel in drawn.items():
            self._show(name, panel.image)
            self.notes[name].value = _text(f"<b>{escape(panel.title)}</b><br>{escape(panel.note)}")

    def _screen(self, name: str, key: object, draw, *arguments) -> views.Screen:
        """The plot on the screen, drawn anew where the ``key`` says that it is of something else."""
        if name not in self._screens or self._screens[name][0] != key:
            self._screens[name] = key, views.Screen(draw(*arguments))
        return self._screens[name][1]

    def _show(self, name: str, image: np.ndarray) -> None:
        self.images[name].value = encode(image)

    def _arranged(self) -> widgets.Widget:
        def block(name: str, side: int) -> widgets.Widget:
            return widgets.VBox([self.notes[name], self.images[name]], layout={"width": f"{side + 4}px"})

        def row(*children: widgets.Widget) -> widgets.Widget:
            return widgets.Box(
                children, layout={"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "0 6px"}
            )

        small = [block(name, views.SMALL) for name in ("heatmap", "flow", "occlusion", "forward-backward")]
        beside = {"width": f"{2 * views.SMALL + 14}px", "flex_flow": "row wrap", "grid_gap": "2px 6px"}
        images = row(block("crop", views.LARGE), widgets.Box(small, layout=beside))
        left = [
            row(self.run, self.model, self.step),
            row(self.order, self.clip),
            row(self.play, self.frame),
            row(*self.shown.values()),
            row(self.group, self.landmark),
            self.status,
            self.about,
            images,
            self.images["series"],
        ]
        right = [row(self.x, self.y), self.images["scatter"], *self.ranges, self.found, self.frames]
        columns = ((left, views.WIDTH + 14), (right, 530))
        return row(
            *(widgets.VBox(column, layout={"width": f"{width}px", "max_width": "100%"}) for column, width in columns)
        )


def encode(image: np.ndarray) -> bytes:
    """RGB uint8 -> PNG."""
    return cv2.imencode(".png", image[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()


def _offer(widget: widgets.Dropdown, options: list, value, keep: bool = True) -> None:
    """Other options; the value stays where it is still one of them."""
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    value = widget.value if keep and widget.value in values else value
    widget.options = options
    widget.value = value


def _dropdown(name: str, options=(), value=None, wide: bool = False) -> widgets.Dropdown:
    width, style = "530px" if wide else "262px", {"description_width": "75px"}
    return widgets.Dropdown(description=name, options=list(options), value=value, layout={"width": width}, style=style)


def _toggle(name: str) -> widgets.Checkbox:
    colour = SOURCES.get(name, "#ffffff")
    chip = (
        '<span style="display: inline-block; width: 11px; height: 11px; '
        f'background: {colour}; border: 1px solid #777"></span>'
    )
    return widgets.Checkbox(
        value=name in OPENS_ON,
        description=f"{chip} {name.replace('_', ' ')}",
        description_allow_html=True,
        indent=False,
        layout={"width": "auto", "margin": "0 2px 0 0"},
    )


def _text(html: str) -> str:
    return f'<div style="line-height: 1.35; padding: 3px 0">{html}</div>'
