"""One step of a trained run by hand, for notebook 00: what each part of the method says of a batch.

:func:`one_step` goes through :func:`tsal.trainer.asynchronous_step` part by part, by the same functions, and keeps what
it sees. It works on copies of the trained models: the run's files stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsal.averaging import average_models, distance
from tsal.data import Batch, spread
from tsal.figures.pseudo_labels import empty
from tsal.figures.run import view_grid, view_rows
from tsal.figures.style import (
    MODELS,
    SOURCES,
    TEXT,
    TRUTH,
    NamedFigure,
    draw_face,
    draw_landmarks,
    flow_colours,
    flow_wheel,
    image_grid,
    row_name,
    styled,
    under_name,
)
from tsal.geometry import cell_to_pixel, to_view
from tsal.model import Detection, Detector
from tsal.model_files import load_model
from tsal.optimiser import make_optimiser, rate_at
from tsal.pseudo import LabellerOutput, PseudoLabeller
from tsal.run import Run
from tsal.tracker import PairFlows, final_trackers, forward_backward_error, reconstruct_next
from tsal.trainer import (
    Context,
    Learner,
    Pass,
    TeacherStudent,
    Views,
    add,
    loss_factors,
    make_views,
    measure,
    student_half,
    student_terms,
    teacher_half,
    teacher_terms,
)
from tsal.trainings import batch_maker, batches_after_init, images_a_step, model_files_of
from tsal.utils import InputError

HALFWAY = 0.5  # of the training: the unlabelled losses have their full weight there
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """What one step saw and did."""

    run: Run
    detector: Detector  # whose codecs read the outputs
    batch: Batch
    views: Views
    flows: tuple[Tensor, Tensor]  # forward and backward (R, 2, S, S) px of the weak view, from each frame to the next
    tracks: PairFlows  # of all pairs of frames that vote for each other
    teacher: Pass  # on the weak views
    student: Pass  # on the strong views
    labels: LabellerOutput  # of the weak views: what the student learns from
    losses: pd.DataFrame  # a row a term
    weights: pd.DataFrame  # a row a moment of the step
    after: TeacherStudent  # the models at its end
    loss: float

    @property
    def next(self) -> Tensor:
        """Frames t + 1 (R,), of those that have a frame t before them."""
        return next_frames(self.batch)

    @property
    def rebuilt(self) -> Tensor:
        """Frames t + 1 (R, 3, S, S), out of frames t."""
        return reconstruct_next(self.views.weak[self.next - 1], self.flows[1])


def next_frames(batch: Batch) -> Tensor:
    """Frames (R,) of the batch whose previous frame is in it too."""
    return batch.following[batch.following - batch.previous == 1]


def trained_pair(run: Run) -> TeacherStudent:
    """Teacher and student at the end of their training, with fresh optimisers: copies, on the CPU."""
    files, config = model_files_of(run), run.config
    detectors = [load_model(*files[name])[0].to(memory_format=torch.channels_last) for name in ("teacher", "student")]
    rates = (config.semi.lr * config.tsal.teacher_lr, config.semi.lr)
    learners = [Learner(d, make_optimiser(d, config.train, rate)) for d, rate in zip(detectors, rates)]
    return TeacherStudent(*learners, final_trackers(run, CPU))


def training_batch(run: Run, step: int) -> Batch:
    """The batch of a step, as training saw it."""
    semi = run.config.semi
    sizes = {"labelled": semi.batch, "clips": semi.clips, "images": images_a_step(run), "frames": semi.frames}
    window = PseudoLabeller(run.config).window
    seed = run.config.seed + batches_after_init(run.config)
    return batch_maker(run, seed, **sizes, window=window, pairs=True)(step)


def one_step(run: Run, step: int = 0) -> Step:
    """The batch of ``step``, and what a step halfway through the training makes of it with the trained models.

    Raises:
        InputError: the run is not trained, was trained with other settings, scheme or faces than it has now, or learns
            from no pseudo-labels.
    """
    if run.no_pseudo_labels:
        raise InputError(f"{run.no_pseudo_labels}: there is no step to show that learns from unlabelled faces")
    pair, batch, context = trained_pair(run), training_batch(run, step), Context(run.config, run.scheme, CPU)
    context.labeller = PseudoLabeller(run.config, context.precision, everything=True)  # sources to look at
    tsal, semi, train = run.config.tsal, run.config.semi, run.config.train
    rate, factors = rate_at(HALFWAY, train), loss_factors(run.config, HALFWAY)
    before = [copy.deepcopy(learner.detector) for learner in (pair.teacher, pair.student)]
    moments = {"before the step": _weights(pair, before)}

    views = make_views(batch, context)
    teacher, by_teacher = teacher_half(pair, views, batch, context)
    student, by_student = student_half(pair, views, batch, context)
    labels = {"teacher": by_teacher, "self": by_student}[tsal.targets_from]
    of_teacher = teacher_terms(pair, teacher, by_teacher, views, batch, context)
    of_student = student_terms(pair, student, labels.fused, batch, context)
    teacher_loss = add(teacher.loss, of_teacher, factors)
    labels_count = HALFWAY >= tsal.labels_after
    student_loss = add(student.loss * labels_count, of_student, factors)

    if tsal.teacher_lr > 0:
        pair.teacher.learn(teacher_loss, rate, train.clip_norm)
    pair.student.learn(student_loss, rate, train.clip_norm)
    moments["after both optimisers"] = _weights(pair, before)
    average_models(pair.teacher.detector, pair.student.detector, semi.ema_decay, tsal.ema_direction, tsal.bn_stats)
    moments["after the moving average"] = _weights(pair, before)

    terms = [("teacher", "labels", teacher.loss, float(tsal.teacher_lr > 0))]
    terms += [("teacher", name, value, factors[name]) for name, value in of_teacher.items()]
    terms += [("student", "labels", student.loss, float(labels_count))]
    terms += [("student", name, value, factors[name]) for name, value in of_student.items()]
    tracks = pair.trackers["student" if tsal.targets_from == "self" else "teacher"](batch.pairs)
    flows = tracks.in_view(batch.following - batch.previous == 1)
    losses, weights = losses_table(terms), pd.DataFrame(moments).T
    loss = float((teacher_loss + student_loss).detach())
    return Step(run, before[0], batch, views, flows, tracks, teacher, student, labels, losses, weights, pair, loss)


# --- tables ---


def _weights(pair: TeacherStudent, before: list[Detector]) -> dict[str, float]:
    """How far apart the weights are, in % of their norm."""
    moved = {
        f"{name} from its start": 100 * distance(old, learner.detector)
        for name, old, learner in zip(("teacher", "student"), before, (pair.teacher, pair.student))
    }
    return {"model distance": 100 * pair.distance()["model_distance"]} | moved


def losses_table(terms: Iterable[tuple[str, str, Tensor, float]]) -> pd.DataFrame:
    """A row a term of (learner, term, value, factor), and what it adds to the loss."""
    rows = [(learner, name, float(value.detach()), factor) for learner, name, value, factor in terms]
    table = pd.DataFrame(rows, columns=["model", "term", "value", "factor"]).set_index(["model", "term"])
    return table.assign(adds=table.value * table.factor)


def sources_table(step: Step) -> pd.DataFrame:
    """A row a source: share of valid points, and mean error in % of the face's size where the batch has labels."""
    errors = measure(step.labels, step.batch)
    valid = {name: source.valid.float().mean() for name, source in step.labels.sources.items()}
    valid["fused"] = (step.labels.fused.weight > 0).float().mean()
    rows = {
        name: {"valid": float(share), "error (% of the face's size)": float(errors.get(f"error_{name}", torch.nan))}
        for name, share in valid.items()
    }
    return pd.DataFrame(rows).T


# --- figures ---


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).clamp(0, 1).numpy()


def _pairs(step: Step, count: int) -> list[int]:
    """Pairs of frames to look at."""
    return spread(range(len(step.next)), count)


def _width(columns: int) -> float:
    """Inches of a grid with names of rows."""
    return min(TEXT, 0.3 + 1.6 * columns)


def _nothing(name: str) -> NamedFigure:
    figure = NamedFigure(name, TEXT, 1.0)
    empty(figure.subplots(), "nothing to show: the batch has no clip of two frames or more")
    return figure


@styled
def draw_views(step: Step) -> NamedFigure:
    """The batch as the detectors see it: labelled faces, and the weak and the strong view of unlabelled frames."""
    views = step.views
    return view_grid("step-views", view_rows(views), views.points, step.batch.visible, step.run.scheme)


def _shade(axes, maps: np.ndarray, side: int) -> None:
    """A map (h, w) over an image of ``side`` px."""
    edges = (-0.5, side - 0.5, side - 0.5, -0.5)
    axes.imshow(maps / max(float(maps.max()), 1e-9), cmap="inferno", alpha=0.55, extent=edges, vmin=0, vmax=1)


def _centre_cell(detector: Detector, detection: Detection) -> np.ndarray:
    """The best centre (N, 2) px, at its cell."""
    index = detection.centre.float().flatten(1).argmax(1)
    size = detector.map_size
    return cell_to_pixel(torch.stack([index % size, index // size], -1).float(), detector.stride).numpy()


def _draw_heads(axes: np.ndarray, step: Step, frame: int, image: Tensor, detection: Detection, prefix: str) -> None:
    """Both heads' outputs of one row of a detection over its image, with the points that the sources read there."""
    side, sources = step.run.config.model.input, step.labels.sources
    heat, centre = step.detector.maps(detection)[0].amax(0), detection.centre[0, 0].float().sigmoid()
    for place, head, shade in zip(axes, ("heatmap", "centre"), (heat.numpy(), centre.numpy())):
        draw_face(place, _array(image))
        _shade(place, shade, side)
        if head == "centre":
            start, ends = _centre_cell(step.detector, detection)[0], step.detector.centre(detection)[0][0, 0].numpy()
            gaps = np.full((len(ends), 1), np.nan)
            spokes = [
                np.concatenate([np.full_like(gaps, start[axis]), ends[:, axis : axis + 1], gaps], 1).ravel()
                for axis in (0, 1)
            ]
            place.plot(*spokes, color="white", linewidth=0.3, alpha=0.8)
        source = sources[f"{prefix}{head}"]
        points = torch.where(source.valid[frame][:, None], source.points[frame], torch.nan).numpy()
        draw_landmarks(place, points, step.run.scheme, SOURCES[f"{prefix}{head}"], width=0.7)
        under_name(place, f"{int(source.valid[frame].sum())} of {len(points)} points valid")


@styled
def draw_sources(step: Step) -> NamedFigure:
    """What both heads say on frame t + 1 (left) and on frame t + 1 as the flow reconstructs it from frame t (right).

    Colour: the heatmap head's largest value over landmarks, or the centre's heatmap, with the offsets from the best
    centre as thin lines. Points: the sources.
    """
    pairs, tracked = _pairs(step, 3), "tracked_heatmap" in step.labels.sources
    frames = [int(step.next[pair]) for pair in pairs] or list(range(min(3, len(step.views.weak))))
    names = ["heatmap head,\nframe t + 1", "centre and offsets,\nframe t + 1"]
    names += ["heatmap head,\nreconstructed t + 1", "centre and offsets,\nreconstructed t + 1"] * tracked
    figure, axes = image_grid("step-sources", max(1, len(frames)), len(names), top=0.32, under=0.16)
    # a teacher that is asked for nothing sees nothing in a step
    detection, rebuilt = (step.teacher.detection or step.detector.eval()(step.views.weak)).detach(), step.rebuilt
    for number, (frame, row) in enumerate(zip(frames, axes)):
        _draw_heads(row[:2], step, frame, step.views.weak[frame], detection.rows(slice(frame, frame + 1)), "")
        if tracked and pairs:
            pair = pairs[number]
            rebuilt_detection = step.labels.rebuilt.detection.rows(slice(pair, pair + 1))
            _draw_heads(row[2:], step, frame, rebuilt[pair], rebuilt_detection, "tracked_")
    for name, place in zip(names, axes[0]):
        place.set_title(name, pad=3)
    return figure


@styled
def draw_flow(step: Step) -> NamedFigure:
    """Two frames, the flow between them, frame t + 1 reconstructed from frame t, and where the flow does not return."""
    pairs = _pairs(step, 3)
    if not pairs:
        return _nothing("step-flow")
    names = ("frame t", "frame t + 1", "flow from t to t + 1", "reconstructed t + 1", "there and back\n(yellow: 2 px)")
    figure, axes = image_grid("step-flow", len(pairs), len(names), top=0.32, under=0.16)
    forward, backward = step.flows
    error = forward_backward_error(backward, forward).numpy()
    rebuilt, gate = step.rebuilt, PseudoLabeller(step.run.config).max_fb_error
    for pair, row in zip(pairs, axes):
        flow, weak = forward[pair].numpy(), step.views.weak
        longest = float(np.hypot(*flow).max())
        frames = [weak[step.next[pair] - 1], weak[step.next[pair]]]
        first, second, third = map(_array, (*frames, rebuilt[pair]))
        for place, image in zip(row, (first, second, flow_colours(flow, longest), third)):
            draw_face(place, image)
        flow_wheel(row[2], longest)
        row[4].imshow(error[pair], cmap="inferno", vmin=0, vmax=2)
        trusted = f"{100 * np.mean(error[pair] <= gate):.0f} % within {gate:g} px" if gate > 0 else "no gate"
        under_name(row[4], trusted)
    for place, name in zip(axes[0], names):
        place.set_title(name, pad=3)
    return figure


@styled
def draw_target(step: Step) -> NamedFigure:
    """The fused target on the weak view, with the labels where the batch has any to measure by; the same target on the
    student's strong view; and what the student said there.
    """
    frames = step.next.tolist() or list(range(len(step.views.weak)))
    frames, scheme, batch = spread(frames, 6), step.run.scheme, step.batch
    columns = max(1, len(frames))
    names = ("fused target,\nweak view", "the target,\nstrong view", "student,\nstrong view")
    figure, axes = image_grid("step-target", 3, columns, width=_width(columns), left=0.3, top=0.02)
    fused = step.labels.fused
    target = torch.where(fused.weight[..., None] > 0, fused.points, torch.nan)
    moved = to_view(target, batch.to_strong, batch.flipped, scheme.flip)
    said = step.detector.heatmap(step.student.detection.detach())[0]
    for column, frame in zip(axes.T, frames):
        for place, image in zip(column, (step.views.weak, step.views.strong, step.views.strong)):
            draw_face(place, _array(image[frame]))
        if batch.truth is not None:
            draw_landmarks(column[0], batch.truth[frame].numpy(), scheme, TRUTH)
        draw_landmarks(column[0], target[frame].numpy(), scheme, SOURCES["fused"], width=0.7)
        draw_landmarks(column[1], moved[frame].numpy(), scheme, SOURCES["fused"], width=0.7)
        draw_landmarks(column[2], said[frame].numpy(), scheme, MODELS["student"], width=0.7)
    for name, place in zip(names, axes[:, 0]):
        row_name(place, name)
    return figure
