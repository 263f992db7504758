"""What the analysis of an audit says: hand-computed numbers, and figures that say plainly where there is nothing to
show.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from drawn_run import named, of_tracks, overhang, words_of

from tsal.audit import analysis
from tsal.audit.store import AUDITED, Audit, AuditWriter, Labels
from tsal.config import load_method
from tsal.data.lists import Clip
from tsal.evaluation.predictions import read_ground_truth
from tsal.figures import audit_window, tables
from tsal.figures import breakdown as figures_breakdown
from tsal.figures import run as figures
from tsal.schemes import Scheme, generic_scheme, get_scheme
from tsal.stages import pseudo as pseudo_stage
from tsal.synthetic.dataset import load_ground_truth

# --- what predicts the error ---


def test_the_landmarks_that_a_gate_keeps_are_counted_of_all_that_are_measured(run):
    """The first frame of a clip has no track: no gate keeps its landmarks, and they count all the same."""
    audit = Audit.open(run.folder / "audit")
    error, track = audit.errors("teacher", "fused"), audit.labels("teacher")[0].flow_error[-1]
    tracked = (np.isfinite(error) & np.isfinite(track)).sum() / np.isfinite(error).sum()
    gates = named(figures.draw_pseudo_labels(run), "pseudo-reliability").axes[2]
    assert 0.5 < tracked < 0.8 and [line.get_xdata()[-1] for line in gates.lines] == pytest.approx([100 * tracked] * 4)


def test_a_monotone_map_pools_what_falls():
    knots, fit = analysis.monotone(np.array([4.0, 2, 3, 1]), np.array([4.0, 3, 2, 1]))
    assert knots.tolist() == [1, 2, 3, 4] and fit.tolist() == [1, 2.5, 2.5, 4]
    knots, fit = analysis.monotone(np.array([1.0, 1, 2]), np.array([0.0, 2, 5]))  # equal scores have one answer
    assert knots.tolist() == [1, 2] and fit.tolist() == [1, 5]
    assert analysis.monotone(np.arange(4.0), np.array([4.0, 3, 2, 1]))[1].tolist() == [2.5] * 4


def test_a_monotone_map_is_the_least_squares_one():
    """Against its closed form: at i, the largest over a <= i of the smallest over b >= i of the mean from a to b."""
    rng = np.random.default_rng(0)
    error = rng.normal(size=12).cumsum() + rng.normal(size=12)
    means = np.array([[error[a : b + 1].mean() if a <= b else np.nan for b in range(12)] for a in range(12)])
    expected = [max(means[a, i:].min() for a in range(i + 1)) for i in range(12)]
    np.testing.assert_allclose(analysis.monotone(np.arange(12.0), error)[1], expected)


def test_calibration_learns_on_one_half_of_the_clips_and_checks_on_the_other():
    score = np.arange(1.0, 41).reshape(20, 2)
    clip = np.repeat([3, 8], 10)
    score[10:] = score[:10]
    right = analysis.calibrate(score, 2 * score, clip)
    assert right.off == pytest.approx(0) and right.rank == pytest.approx(1) and right.landmarks == 20
    # ten bins of two landmarks, whose errors are 2 and 4 ...
    assert right.predicted.tolist() == pytest.approx([3 + 4 * b for b in range(10)])
    error = np.where(clip[:, None] == 8, 2 * score + 5, 2 * score)
    wrong = analysis.calibrate(score, error, clip)
    assert wrong.off == pytest.approx(5) and wrong.mean == pytest.approx(21 + 5)
    assert (wrong.observed - wrong.predicted).tolist() == pytest.approx([5] * 10)


def test_calibration_takes_two_clips_whose_landmarks_are_known():
    score = np.ones((4, 3))
    assert analysis.calibrate(score, score, np.zeros(4, int)) is None
    assert analysis.calibrate(score * np.nan, score, np.arange(4)) is None
    calibration = analysis.calibrate(score, score, np.arange(4))  # nothing to rank
    assert calibration.off == 0 and np.isnan(calibration.rank)


def test_the_parts_of_a_clip_with_gaps_are_on_one_side_of_the_check(copied):
    """They are audited apart and show one person; photographs of a folder are others."""
    first, second = copied.clips[:2]
    parts = [Clip(first.name, first.faces[:2]), Clip(first.name, first.faces[2:])]

    def checked(clips):
        count = sum(len(clip.faces) for clip in clips)
        audit, truth = write_audit(copied, clips, [("init", 0, np.arange(count), np.arange(count) + 1.0)])
        fits = analysis.calibrations(audit)
        return {key: fit.landmarks for key, fit in fits.items() if key[1] == "landmark"}, truth.visible.sum(1)

    assert checked(parts)[0] == {}
    counts, visible = checked([*parts, second])
    assert counts == {("init", "landmark"): visible[len(first.faces) :].sum()}
    faces = first.faces[:3]
    counts, visible = checked([Clip(f"photographs/{name}", (face,)) for name, face in zip("abc", faces)])
    assert counts == {("init", "landmark"): visible[1]}


def test_the_size_of_the_error_is_told_by_a_disagreement_that_is_its_size(run):
    calibrations = analysis.calibrations(Audit.open(run.folder / "audit"))
    landmark, flow = calibrations["teacher", "landmark"], calibrations["teacher", "flow"]
    assert landmark.rank > 0.4 and abs(flow.rank) < 0.15  # the fixture's flow error is noise
    words = words_of(named(figures.draw_pseudo_labels(run), "pseudo-calibration"))
    assert f"{landmark.off:.2f} / {landmark.mean:.2f}  teacher" in words


# --- over training ---


def write_audit(run, clips, parts, disagreement=None):
    """An audit whose ``parts`` are (model, step, frames, error of every source in px); its disagreement is that, or as
    given.
    """
    faces = [dataclasses.replace(f, annotation=run.lists.truth[f.image, f.box]) for clip in clips for f in clip.faces]
    truth = read_ground_truth(run.store, faces, "ocular", run.scheme)
    writer = AuditWriter(run.folder / "audit", run.store, clips, truth)
    tracked = np.array([place > 0 for clip in clips for place in range(len(clip.faces))])
    for model, step, rows, error in parts:
        shape = (len(rows), truth.visible.shape[1])
        off = np.broadcast_to(np.asarray(error, float).reshape(-1, 1), shape)
        points = np.broadcast_to(truth.points[rows] + off[..., None] * [1.0, 0.0], (len(AUDITED), *shape, 2))
        valid = np.ones((len(AUDITED), *shape), bool)
        for index, name in enumerate(AUDITED):
            valid[index] &= (tracked[rows] | (name in ("heatmap", "centre", "fused")))[:, None]
        flow = np.where(tracked[rows][:, None], off / 2, np.nan)
        says = off if disagreement is None else np.full(shape, disagreement)
        votes = np.broadcast_to(tracked[rows][:, None], shape).astype(float)
        labels = Labels(points, np.ones(valid.shape), valid, says, of_tracks(flow), np.full(shape, 0.5), votes)
        writer.add(model, step, labels, rows)
    return writer.close(), truth


def test_every_step_is_measured_on_the_same_frames(copied):
    clips = copied.clips[:2]
    frames = np.arange(sum(len(clip.faces) for clip in clips))
    early = frames[: len(clips[0].faces)]
    error = np.where(frames < len(early), 1.0, 50.0)  # what only the init and the end see is far worse
    audit, truth = write_audit(
        copied,
        clips,
        [
            ("init", 0, frames, error),
            ("teacher", 5, early, np.full(len(early), 2.0)),
            ("teacher", 10, frames, 3 * error),
        ],
    )
    table = analysis.step_table(audit).set_index(["model", "step"])
    assert set(table.frames) == {len(early)}
    d = np.median(np.repeat(100 / truth.norm_px[early, None], truth.visible.shape[1], 1)[truth.visible[early]])
    for key, px in {("init", 0): 1, ("teacher", 5): 2, ("teacher", 10): 3}.items():
        assert table.heatmap[key] == pytest.approx(px * d, rel=1e-4)
        assert table.disagreement[key] == px and table.flow_error[key] == px / 2 and table.gate[key] == 0.5
    lines = named(figures.draw_pseudo_labels(copied), "pseudo-steps").axes[0].get_lines()
    heatmap = next(line for line in lines if line.get_label() == "heatmap")
    assert heatmap.get_xdata().tolist() == [5, 10] and heatmap.get_ydata() == pytest.approx([2 * d, 3 * d], rel=1e-4)


def test_the_faces_that_changed_most_are_named_one_a_clip_worst_first(copied):
    clips = copied.clips[:3]
    sizes = [len(clip.faces) for clip in clips]
    frames = np.arange(sum(sizes))
    after = np.concatenate([np.full(sizes[0], 2.0), np.full(sizes[1], 6.0), np.full(sizes[2], 0.5)])
    after[1] = 4.0
    audit, truth = write_audit(
        copied, clips, [("init", 0, frames, np.ones(len(frames))), ("teacher", 10, frames, after)]
    )
    table = analysis.changes(audit, "teacher")
    assert (table.change.diff().dropna() <= 0).all() and len(table) == len(frames)
    assert table.loc[1, "change"] == pytest.approx(100 * 3 / truth.norm_px[1], rel=1e-4)
    worst = analysis.one_a_clip(table[table.change > 0], 5)
    assert worst["clip"].tolist() == [clips[1].name, clips[0].name] and worst.index[1] == 1
    drawn = figures.draw_breakdown(copied)
    assert f"{100 * (sizes[0] + sizes[1]) / len(frames):.0f} % got worse" in words_of(named(drawn, "pseudo-changes"))
    faces = named(drawn, "pseudo-changed-faces")
    shown = [axes for axes in faces.axes if axes.images]
    assert len(shown) == 2 * (1 + 2)  # one improved clip, two worsened, before and after


def test_what_changed_is_told_of_the_model_that_is_the_method_s_result(copied):
    """Self-training's teacher is the init; its student is better by 1 px on one clip and worse by 3 px on the other."""
    clips = copied.clips[:2]
    sizes = [len(clip.faces) for clip in clips]
    frames = np.arange(sum(sizes))
    before, after = np.full(len(frames), 2.0), np.repeat([1.0, 5.0], sizes)
    audit, truth = write_audit(
        copied, clips, [("init", 0, frames, before), ("teacher", 10, frames, before), ("student", 10, frames, after)]
    )
    student = dataclasses.replace(copied, config=copied.config.override(load_method("self-training").settings))
    share = f"{100 * sizes[1] / len(frames):.1f} % of {len(frames)} frames"
    title, worse = next(pair for pair in tables.run_tables(student).items() if pair[0].startswith("Faces that got"))
    assert share in title and worse["clip"].tolist() == [clips[1].name]
    first = float(worse.student.iloc[0])
    assert first == pytest.approx(float(worse.init.iloc[0]) * 2.5, abs=0.02)
    drawn = figures.draw_breakdown(student)
    words = words_of(named(drawn, "pseudo-changes"))
    assert f"{100 * sizes[1] / len(frames):.0f} % got worse" in words and "student: " in words
    assert "student less init" in words_of(named(drawn, "pseudo-landmarks"))
    assert "most worsened\nstudent" in words_of(named(drawn, "pseudo-changed-faces"))


# --- under which conditions ---


def write_conditions(copied, hidden, step: float):
    """An audit of the first clip alone: labels move by ``step`` px a frame and landmark; frame t's points lie t + 1 px
    off, the landmarks of ``hidden`` (K,) 10 px more.
    """
    clip = copied.clips[0]
    count = len(clip.faces)
    faces = [dataclasses.replace(f, annotation=copied.lists.truth[f.image, f.box]) for f in clip.faces]
    truth = read_ground_truth(copied.store, faces, "ocular", copied.scheme)
    shape = (count, 68)
    way = step * np.arange(count)[:, None] * np.arange(68)
    points = np.stack([np.arange(68.0) + way, np.zeros(shape)], -1)
    truth = dataclasses.replace(truth, points=points, visible=np.ones(shape, bool), norm_px=np.full(count, 50.0))
    off = np.arange(1.0, count + 1)[:, None] + 10.0 * hidden
    said = np.stack([points + off[..., None] * [0.0, 1.0]] * len(AUDITED))
    ones, valid = np.ones(shape), np.ones((len(AUDITED), *shape), bool)
    labels = Labels(said, np.ones(valid.shape), valid, ones, of_tracks(ones), ones, ones)
    writer = AuditWriter(
        copied.folder / "audit", copied.store, [clip], truth, hidden=np.tile(hidden, (count, 1)).astype(np.int8)
    )
    for model, at in (("init", 0), ("teacher", 5), ("student", 5)):
        writer.add(model, at, labels, np.arange(count))
    return writer.close(), count


def test_errors_by_occlusion_and_by_motion_by_hand(copied):
    """Every fourth landmark is hidden; landmark k moves by k / 4 px a frame of 50 px: k / 2 %."""
    hidden = np.arange(68) % 4 == 0
    audit, count = write_conditions(copied, hidden, 0.25)
    moved = analysis.motions(audit)
    np.testing.assert_allclose(moved[:-1], np.tile(np.arange(68) / 2, (count - 1, 1)), atol=1e-4)
    assert np.isnan(moved[-1]).all() and np.isnan(analysis.motions(audit, consecutive=False)).all()
    table = analysis.condition_table(audit)
    assert set(table.model) == {"init", "teacher", "student"} and len(table) == 3 * 5
    rows = table[table.model == "teacher"].set_index("condition")
    mean = 100 * (count + 1) / 2 / 50
    assert rows.fused["shown"] == pytest.approx(mean, rel=1e-4)
    assert rows.fused["hidden"] == pytest.approx(mean + 20, rel=1e-4) and rows.share["hidden"] == 0.25
    # the last frame has no next one; of 68 landmarks 23 move by at most 11 %, 23 more by at most 22.5 %
    slow, fast = rows.loc["slow: up to 11 % a frame"], rows.loc["fast: more"]
    assert slow.share == pytest.approx(23 / 68 * (count - 1) / count)
    assert fast.share == pytest.approx(22 / 68 * (count - 1) / count)
    assert slow.heatmap == pytest.approx(100 * count / 2 / 50 + 20 * 6 / 23, rel=1e-4)  # 0, 4 .. 20 are hidden
    spread = analysis.condition_table(audit, consecutive=False)
    assert set(spread.condition) == {"shown", "hidden"}
    drawn = named(figures.draw_pseudo_labels(copied), "pseudo-conditions")
    heights = [bar.get_height() for bar in drawn.axes[0].patches]
    assert heights[:2] == pytest.approx([mean, mean + 20], rel=1e-4) and len(drawn.axes) == 2
    assert "hidden (25 %)" in words_of(drawn) and overhang(drawn) < 0.01
    contents = tables.run_tables(copied)
    shown = next(content for title, content in contents.items() if "by occlusion" in title)
    assert shown["share %"].tolist()[:2] == ["75.0", "25.0"] and shown.fused[6] == f"{mean + 20:.2f}"


def test_where_neither_occlusion_nor_motion_is_known_nothing_is_said_of_them(copied):
    write_conditions(copied, np.full(68, -1), 0.25)
    figure = named(figures.draw_pseudo_labels(copied), "pseudo-conditions")
    assert len(figure.axes) == 1 and "occlusion" not in words_of(figure)
    spread = dataclasses.replace(copied, config=copied.config.override(["data.consecutive=false"]))
    assert "pseudo-conditions" not in {figure.name for figure in figures.draw_pseudo_labels(spread)}
    assert not any("occlusion" in title for title in tables.run_tables(spread))


def test_what_rendered_frames_hide_is_taken_from_their_ground_truth(run):
    clip = run.clips[0]
    truth = load_ground_truth(run.root / "ground_truth" / f"{clip.name.removeprefix('images/')}.npz")["visible"]
    part, other = Clip(clip.name, clip.faces[1:]), Clip("images/of/others", clip.faces[:1])
    hidden = pseudo_stage._hidden(run, [part, other])
    assert hidden[:-1].tolist() == (~truth[1 : len(clip.faces)]).tolist() and set(hidden[-1]) == {-1}
    inner = pseudo_stage._hidden(dataclasses.replace(run, kept_scheme=get_scheme("51")), [part])
    assert inner.tolist() == hidden[:-1, 17:].tolist()
    plain = dataclasses.replace(run, kept_scheme=generic_scheme(5))
    assert set(pseudo_stage._hidden(plain, [part]).ravel()) == {-1}


# --- where the error is ---


def test_pose_by_hand():
    scheme = Scheme("three", 3, flip=(1, 0, 2), centre=2, ocular=(0, 1))
    points = np.array(
        [
            [[0, 0], [2, 0], [1, 1]],
            [[0, 0], [2, 0], [1.5, 1]],
            [[0, 0], [2, 2], [1, 1]],
            [[0, 0], [np.nan] * 2, [1, 1]],
        ],
        float,
    )
    roll, yaw = analysis.poses(points, scheme)
    assert roll[:3].tolist() == [0, 0, 45] and yaw[:3].tolist() == [0, 0.25, 0]
    assert np.isnan(roll[3]) and np.isnan(yaw[3])
    assert np.isnan(analysis.poses(points, dataclasses.replace(scheme, ocular=None))).all()
    roll, yaw = analysis.poses(points, dataclasses.replace(scheme, centre=-1))
    assert roll[2] == 45 and np.isnan(yaw).all()


def test_landmarks_are_told_by_the_lines_of_their_scheme():
    assert list(analysis.groups(get_scheme("68"))) == [name for name, *_ in get_scheme("68").lines]
    assert analysis.groups(get_scheme("5"))["nose"] == (2,)
    assert analysis.groups(generic_scheme(2)) == {"0": (0,), "1": (1,)}
    odd = Scheme("odd", 4, flip=(0, 1, 2, 3), lines=(("brow", (1, 2), False),))
    assert analysis.groups(odd) == {"brow": (1, 2), "other landmarks": (0, 3)}


def test_the_mean_face_takes_each_face_in_its_box():
    points = np.array([[[1.0, 1], [3, 1]], [[10, 10], [np.nan, np.nan]]])
    box = np.array([[0.0, 0, 4, 4], [0, 0, 20, 20]])
    np.testing.assert_allclose(analysis.mean_face(points, box), [[-0.125, -0.125], [0.25, -0.25]])


def test_what_is_shown_is_the_pseudo_labels_and_not_one_of_their_sources(run, monkeypatch):
    """The fused points: of each frame, of the best and worst faces, and in the words beside them."""
    drawn, audit = [], Audit.open(run.folder / "audit")
    monkeypatch.setattr(
        figures_breakdown,
        "draw_crop",
        lambda axes, store, faces, face, marks, **_: drawn.append([*marks.values()][-1][0]),
    )
    figure_of = {figure.name: figure for figure in figures.draw_breakdown(run)}
    before, after = (np.nanmean(audit.errors(model, "fused"), 1) for model in ("init", "teacher"))
    dots = figure_of["pseudo-changes"].axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(
        dots[np.argsort(dots[:, 0])], np.stack([before, after], 1)[np.argsort(before)], rtol=1e-4
    )
    improved = audit.frames.assign(change=after - before).sort_values("change").drop_duplicates("clip").index
    np.testing.assert_allclose(drawn[0], audit.labels("init")[0].points[audit.sources.index("fused"), improved[0]])
    words = {name: words_of(figure) for name, figure in figure_of.items()}
    assert all("fused error" in words[f"pseudo-{name}"] for name in ("landmarks", "poses", "changes"))
    assert "numbers: those that got worse most, see the tables" in words["pseudo-changes"]


def test_bars_are_the_mean_errors_of_the_lines(run):
    audit = Audit.open(run.folder / "audit")
    bars = named(figures.draw_breakdown(run), "pseudo-landmarks").axes[2]
    init, teacher = bars.containers
    for place, (name, indices, _) in enumerate(run.scheme.lines):
        assert bars.get_yticklabels()[place].get_text() == name
        for model, container in (("init", init), ("teacher", teacher)):
            error = np.nanmean(np.nanmean(audit.errors(model, "fused"), 0)[list(indices)])
            assert container[place].get_width() == pytest.approx(error)


@pytest.mark.filterwarnings("error")
def test_a_scheme_that_knows_nothing_shows_its_landmarks(run):
    """No lines, no eye corners: the worst landmarks by number, and in words that there is no pose."""
    plain = dataclasses.replace(run, kept_scheme=generic_scheme(68))
    drawn = figures_breakdown.draw_breakdown(plain)
    bars = named(drawn, "pseudo-landmarks").axes[2]
    widths = [bar.get_width() for bar in bars.containers[1]]
    assert len(widths) == figures_breakdown.MOST and widths == sorted(widths, reverse=True)
    assert "no frame's yaw is known" in words_of(named(drawn, "pseudo-poses"))


# --- the window ---


def write_window(copied, off, votes, near=1.0):
    """A teacher's audit of two clips whose neighbours' points lie ``off`` (N, K) px right of the labels where they have
    ``votes`` (N, K), and whose own points lie ``near`` px left of the labels.
    """
    clips = copied.clips[:2]
    faces = [
        dataclasses.replace(f, annotation=copied.lists.truth[f.image, f.box]) for clip in clips for f in clip.faces
    ]
    truth = read_ground_truth(copied.store, faces, "ocular", copied.scheme)
    shape = truth.visible.shape
    off, votes = (np.broadcast_to(np.asarray(values, float), shape) for values in (off, votes))
    points = np.stack([truth.points + off[..., None] * [1.0, 0.0]] * len(AUDITED))
    points[AUDITED.index("heatmap")] = truth.points - np.array([near, 0.0])
    valid = np.ones((len(AUDITED), *shape), bool)
    valid[AUDITED.index("propagated")] = votes > 0
    flow = np.where(votes > 0, 0.5, np.nan)
    labels = Labels(points, np.ones(valid.shape), valid, np.ones(shape), of_tracks(flow), np.ones(shape), votes)
    writer = AuditWriter(copied.folder / "audit", copied.store, clips, truth)
    for model, step in (("init", 0), ("teacher", 5), ("student", 5)):
        writer.add(model, step, labels, np.arange(shape[0]))
    return writer.close(), truth


def test_the_window_is_measured_where_neighbours_speak_and_a_gate_ends_at_their_coverage(copied):
    """Half of the landmarks have neighbours that speak: half of these with 2 votes, 2 px off, half with 1, 4 px off.

    The frame's own lie 3 px off.
    """
    count = sum(len(clip.faces) for clip in copied.clips[:2])
    votes = np.tile([2.0, 1, 0, 0], (count, 17))
    audit, truth = write_window(copied, np.tile([2.0, 4, 99, 99], (count, 17)), votes, near=3.0)
    distance = audit_window.apart(audit, "teacher")
    zoom = audit.frames.zoom.to_numpy()[:, None]
    np.testing.assert_allclose(distance[:, :2], zoom * [5.0, 7.0], rtol=1e-4)
    assert np.isnan(distance[:, 2:4]).all()
    drawn = named(figures.draw_pseudo_labels(copied), "pseudo-window")
    agreement, nearer, gates = drawn.axes
    curve = next(line for line in nearer.get_lines() if line.get_label() == "neighbours'")
    x, y = np.array(curve.get_data())
    assert (x[0], y[0], x[-1], y[-1]) == (1, 0, 2, 100)
    errors = audit.errors("teacher", "propagated")
    line = next(line for line in agreement.get_lines() if line.get_label() == "neighbours'")
    seen = np.stack([truth.visible[:, 0::4], truth.visible[:, 1::4]])
    px, by_hand = (np.array(pair)[:, None, None] for pair in ((5.0, 7.0), (2.0, 4.0)))  # apart, and off
    order = np.argsort(np.broadcast_to(px * zoom, seen.shape)[seen], kind="stable")
    off = np.broadcast_to(100 * by_hand / truth.norm_px[:, None], seen.shape)[seen][order]
    medians = [np.median(part) for part in np.array_split(off, 10)]
    np.testing.assert_allclose(line.get_ydata(), medians, rtol=1e-3)
    gate = next(line for line in gates.get_lines() if line.get_label() == "many votes")
    coverage, mean = gate.get_data()
    share = np.isfinite(errors).sum() / truth.visible.sum()
    assert coverage[-1] == pytest.approx(100 * share) and mean[-1] == pytest.approx(np.nanmean(errors), rel=1e-4)
    # those with two votes come first
    assert np.interp(50 * share, coverage, mean) == pytest.approx(np.nanmean(errors[:, 0::4]), rel=0.02)
    assert overhang(drawn) < 0.01


def test_without_neighbours_there_is_no_window_to_show(copied):
    write_window(copied, 2.0, 0.0)
    assert "pseudo-window" not in {figure.name for figure in figures.draw_pseudo_labels(copied)}


# --- nothing to show ---


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 4])
def test_photographs_alone_are_drawn_and_the_missing_flow_is_said(copied, count):
    photographs = [Clip(face.image, (face,)) for face in copied.clips[0].faces[:1] + copied.clips[1].faces][:count]
    frames = np.arange(len(photographs))
    write_audit(
        copied,
        photographs,
        [
            ("init", 0, frames, frames + 1.0),
            ("teacher", 5, frames, frames + 2.0),
            ("student", 5, frames, frames + 1.5),
        ],
    )
    drawn = figures.draw_pseudo_labels(copied) + figures.draw_breakdown(copied)
    for figure in drawn:
        figure._repr_png_()
    for name in ("pseudo-steps", "pseudo-reliability"):
        assert "no frame is tracked" in words_of(named(drawn, name))
    assert ("two clips" in words_of(named(drawn, "pseudo-calibration"))) == (count == 1)


@pytest.mark.filterwarnings("error")
def test_one_family_that_speaks_alone_has_no_disagreement_to_tell_the_error(copied):
    frames = np.arange(sum(len(clip.faces) for clip in copied.clips))
    parts = [
        (model, step, frames, np.ones(len(frames))) for model, step in (("init", 0), ("teacher", 5), ("student", 5))
    ]
    write_audit(copied, copied.clips, parts, disagreement=np.nan)
    drawn = figures.draw_pseudo_labels(copied) + figures.draw_breakdown(copied)
    assert "one family speaks alone" in words_of(named(drawn, "pseudo-steps"))
    assert "nothing to show" in words_of(named(drawn, "pseudo-calibration"))
