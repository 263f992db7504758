"""The window of a step: which frame votes for which landmarks of its neighbours, and with what weight."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from tsal.figures.pseudo_labels import empty
from tsal.figures.step import Step
from tsal.figures.style import (
    SOURCES,
    TEXT,
    NamedFigure,
    draw_face,
    draw_landmarks,
    image_grid,
    styled,
)
from tsal.pseudo import PseudoLabeller, carried_votes

LINE = 0.11  # inches, of a line of votes


def step_votes(step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What neighbours say in a step: frames (2P,) that speak, frames (2P,) that they speak of, their votes (2P, K) and
    the points (2P, K, 2) px of the weak view that they carry there.
    """
    labeller, batch, heatmap = PseudoLabeller(step.run.config), step.batch, step.labels.sources["heatmap"]
    trust = labeller.trust(step.labels.sources)
    to, votes, (carry, _) = carried_votes(
        heatmap.points, trust, step.tracks, batch.previous, batch.following, labeller.vote_error
    )
    return torch.cat([batch.previous, batch.following]), to, votes, carry


@styled
def draw_votes(step: Step) -> NamedFigure:
    """The frames of one clip with the points read on them and those that its neighbours carry to them.

    Under each frame: the mean vote of every frame of the clip for it, a line each; its own is in brackets.
    """
    clip, count = step.batch.clip.unique(return_counts=True)
    if count.max() < 2:
        figure = NamedFigure("step-votes", TEXT, 1.0)
        empty(figure.subplots(), "nothing to show: the batch has no clip of two frames or more")
        return figure
    frames = torch.nonzero(step.batch.clip == clip[count.argmax()])[:, 0].tolist()
    origin, to, votes, carry = step_votes(step)
    own = PseudoLabeller(step.run.config).trust(step.labels.sources)
    figure, (axes,) = image_grid("step-votes", 1, len(frames), left=0.75, top=0.16, under=0.05 + LINE * len(frames))
    for number, (frame, place) in enumerate(zip(frames, axes)):
        draw_face(place, step.views.weak[frame].permute(1, 2, 0).clamp(0, 1).numpy())
        points = step.labels.sources["heatmap"].points[frame].numpy()
        draw_landmarks(place, points, step.run.scheme, SOURCES["heatmap"], width=0.5)
        text = {frame: f"({own[frame].mean():.2f})"}
        for pair in torch.nonzero(to == frame)[:, 0].tolist():
            said, strength = carry[pair].numpy(), votes[pair].numpy()
            colours = np.tile(_rgb(SOURCES["propagated"]), (len(said), 1))
            shades = np.column_stack([colours, 0.8 * strength.clip(0, 1)])
            place.scatter(*said.T, s=6, c=shades, linewidths=0, zorder=3)  # over the frame's own lines
            text[int(origin[pair])] = f"{strength.mean():.2f}"
        below = ScaledTranslation(0, -0.04, figure.dpi_scale_trans)
        for line, each in enumerate(frames):
            where = place.transAxes + below + ScaledTranslation(0, -LINE * line, figure.dpi_scale_trans)
            place.text(0.5, 0, text.get(each, "-"), transform=where, ha="center", va="top", fontsize=6.5)
            if number == 0:
                place.text(-0.04, 0, f"by frame {line}", transform=where, ha="right", va="top", fontsize=6.5)
        place.set_title(f"frame {number}", pad=3)
    return figure


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
