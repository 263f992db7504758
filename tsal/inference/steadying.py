"""Landmarks of a video made steady: those of each frame averaged with those of its neighbours, carried along the flow.

A neighbour's points are carried straight to the frame by the tracker, so the average follows the motion and does not
blur it. Its vote is that of :func:`tsal.pseudo.carried_votes`: trust in the point, times exp(-(forward-backward error /
vote_error)^2), times the chance that the point is seen. What is missing from a vote goes to the point carried with the
whole face, by the similarity that the landmarks' votes agree on: a hidden landmark moves with the head and has no flow
of its own. Votes fall evenly with the distance in time. Nothing is carried across a cut, and a frame that repeats the
one before has no vote of its own: it gets that frame's points.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from tsal.config import Config
from tsal.data import FramePairs, cut_crop
from tsal.faces import Followed, cuts_and_repeats
from tsal.geometry import crop_affine, invert_affine
from tsal.pseudo import carried_votes
from tsal.run import Run
from tsal.tracker import FrozenTracker, initial_tracker
from tsal.utils import PACKAGE, ConfigError, DataError

WINDOW = 3  # frames to either side; repeats are not counted
# Chosen on rendered clips, of 0.35, 0.5, 0.7 and 1: error jitter moves by 4 % (docs/steady.md).
VOTE_ERROR = 0.5  # px of the tracker's input: the forward-backward error at which a vote is 1/e
SURE_SHARE = 0.5  # of the landmarks' votes, from which the whole face votes fully
PAIRS = 48  # of frames, that the tracker sees at once
LEAST_TRUST = 1e-3  # in a point whose score is 0: it still has a mean with its neighbours


@cache
def shipped_tracker(device: torch.device) -> FrozenTracker:
    """The tracker of the package, bfloat16 where the device has it in hardware."""
    return FrozenTracker(initial_tracker(Config()).to(device).eval().requires_grad_(False), amp="auto")


@dataclass(eq=False)
class _Frame:
    place: int
    points: Tensor  # (K, 2) px; 0 where a point is not known
    trust: Tensor  # (K,); 0 where a point is not known
    box: np.ndarray | None  # of the known points; None: there are too few
    repeat: bool
    total: Tensor = field(init=False)  # (K,) votes so far
    summed: Tensor = field(init=False)  # (K, 2) points so far, weighted by their votes

    def __post_init__(self):
        self.total, self.summed = self.trust.clone(), self.trust[:, None] * self.points


class Steadier:
    """One face's landmarks, frame by frame: frames in, steady points out.

    Args:
        window: frames to either side that vote.
        lag: how many frames the output is late; only so many later frames vote. None: all of the window's, and frames
            come out in groups, as the tracker takes them.
        tracker: on ``device``; the package's own by default.
        device: auto (CUDA where there is one), cpu, cuda ...

    Raises:
        ConfigError: a window or lag that is no whole number, a window of 0, or no such device.
    """

    def __init__(
        self,
        *,
        window: int = WINDOW,
        lag: int | None = None,
        vote_error: float = VOTE_ERROR,
        tracker: FrozenTracker | None = None,
        device: torch.device | str = "cpu",
    ):
        for name, value, least in (("window", window, 1), ("lag", 0 if lag is None else lag, 0)):
            if not isinstance(value, Integral) or value < least:
                raise ConfigError(f"{name} = {value}: want a whole number of frames, {least} or more")
        settings = Config()
        self.side, self.box_scale = settings.model.input, settings.augment.box_scale
        self.window, self.lag, self.vote_error = int(window), lag, vote_error
        self.device = Run(PACKAGE, settings.override({"train.device": str(device)})).device
        self.tracker = tracker or shipped_tracker(self.device)
        self._count, self._landmarks = 0, 0
        self._recent: deque[tuple[_Frame, np.ndarray]] = deque(maxlen=self.window)  # with images, of this shot
        self._waiting: deque[_Frame] = deque()
        self._pairs: list[tuple[_Frame, _Frame, float, np.ndarray, np.ndarray, np.ndarray]] = []
        self._latest: np.ndarray | None = None  # that came out

    def push(
        self,
        frame: np.ndarray,
        points: np.ndarray,
        scores: np.ndarray | None = None,
        *,
        cut: bool = False,
        repeat: bool = False,
    ) -> list[np.ndarray]:
        """Take the next frame -> the points (K, 2) float32 px of the frames that are finished, in order.

        Args:
            frame: (H, W, 3) uint8 RGB; not kept longer than the window.
            points: (K, 2) px; NaN where a point is unknown; it stays NaN, except in a repeat.
            scores: (K,), how far to trust each point; None: all alike.
            cut: the frame begins a shot.
            repeat: it shows what the frame before it shows, and gets that frame's points.
        """
        current = self._read(frame, points, scores, repeat)
        if cut:
            self._recent.clear()
        former = self._recent[-1][0] if self._recent else None
        # a point that the frame before does not know cannot be taken from it
        current.repeat = repeat and former is not None and not ((current.trust > 0) & (former.trust == 0)).any()
        if not current.repeat:
            for gap, (earlier, image) in enumerate(reversed(self._recent), 1):
                if earlier.box is not None and current.box is not None:
                    weight = 1 - gap / (self.window + 1)
                    self._pairs.append((earlier, current, weight, *self._crops(earlier, image, current, frame)))
            self._recent.append((current, frame))
        self._waiting.append(current)
        self._count += 1
        if self.lag is not None or len(self._pairs) >= PAIRS:
            self._work()
        if self.lag is not None:
            return self._out(self._count - self.lag)
        return [] if self._pairs else self._out(self._recent[0][0].place)

    def flush(self) -> list[np.ndarray]:
        """The points of the frames that still wait: no frame of theirs follows."""
        self._work()
        self._recent.clear()
        return self._out(self._count)

    def _read(self, frame: np.ndarray, points: np.ndarray, scores: np.ndarray | None, repeat: bool) -> _Frame:
        _check_frame(self._count, frame)
        points = np.asarray(points, np.float32)
        scores = np.ones(len(points), np.float32) if scores is None else np.asarray(scores, np.float32)
        self._landmarks = landmarks = self._landmarks or len(points)
        if points.shape != (landmarks, 2) or scores.shape != (landmarks,) or not landmarks:
            raise DataError(
                f"frame {self._count}: points of shape {points.shape} and scores of shape {scores.shape}; want (K, 2) "
                "and (K,), with the same K in every frame"
            )
        known = np.isfinite(points).all(1) & np.isfinite(scores)
        box = np.concatenate([points[known].min(0), points[known].max(0)]) if known.sum() > 1 else None
        if box is not None and not (box[2:] > box[:2]).any():
            box = None  # all in one place: there is no crop of it
        trust = np.where(known, np.clip(scores, LEAST_TRUST, None), 0)
        points, trust = (
            torch.from_numpy(values).to(self.device) for values in (np.where(known[:, None], points, 0), trust)
        )
        return _Frame(self._count, points, trust, box, repeat)

    def _crops(
        self, earlier: _Frame, earlier_image: np.ndarray, later: _Frame, later_image: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Crops of two frames by the mean of their boxes, and the affine from the crops to the frames."""
        box = (earlier.box + later.box) / 2
        crops = [cut_crop(image, box, self.side, self.box_scale) for image in (earlier_image, later_image)]
        return *crops, invert_affine(crop_affine(box, self.side, self.box_scale))

    def _work(self) -> None:
        """Count the votes of the pairs so far."""
        for start in range(0, len(self._pairs), PAIRS):
            earlier, later, weights, *parts = zip(*self._pairs[start : start + PAIRS])
            frames = sorted({*earlier, *later}, key=lambda frame: frame.place)
            row = {frame: number for number, frame in enumerate(frames)}
            previous, following = (
                torch.tensor([row[frame] for frame in side], device=self.device) for side in (earlier, later)
            )
            first, second, to_frame = (torch.from_numpy(np.stack(part)) for part in parts)
            images = (crops.permute(0, 3, 1, 2) for crops in (first, second))
            pairs = FramePairs(("",) * len(earlier), *images, to_frame.float()).to(self.device)
            points, trust = (torch.stack([getattr(frame, name) for frame in frames]) for name in ("points", "trust"))
            with torch.no_grad():
                flows = self.tracker(pairs)
                to, votes, (carried, _) = carried_votes(points, trust, flows, previous, following, self.vote_error)
                source = torch.cat([previous, following])
                face, face_votes = carried_with_face(points[source], carried, votes, trust[source])
                weight = torch.tensor(weights, device=self.device).repeat(2)[:, None]
                votes, face_votes = weight * votes, weight * face_votes
                votes_there = votes[..., None] * carried + face_votes[..., None] * face
                total = torch.zeros_like(trust).index_add(0, to, votes + face_votes)
                summed = torch.zeros_like(points).index_add(0, to, votes_there)
            for frame, frame_total, frame_sum in zip(frames, total, summed):
                frame.total += frame_total
                frame.summed += frame_sum
        self._pairs.clear()

    def _out(self, end: int) -> list[np.ndarray]:
        """Frames before place ``end``."""
        finished = []
        while self._waiting and self._waiting[0].place < end:
            frame = self._waiting.popleft()
            if not frame.repeat:
                mean = frame.summed / frame.total.clamp_min(1e-12)[:, None]
                self._latest = mean.masked_fill(frame.trust[:, None] == 0, torch.nan).cpu().numpy()
            finished.append(self._latest.copy())
        return finished


def _check_frame(number: int, frame: np.ndarray) -> np.ndarray:
    if getattr(frame, "dtype", None) != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise DataError(f"frame {number}: want RGB of shape (height, width, 3) and type uint8")
    return frame


def carried_with_face(points: Tensor, carried: Tensor, votes: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """Points (P, K, 2) px carried by the similarity that fits the landmarks' own carried points best, weighted by votes
    (P, K); and their votes (P, K): what the landmark's own vote is short of ``trust`` (P, K), less where the landmarks
    of the pair have few votes.
    """
    weight = (votes + 1e-6 * trust).double()
    source, target = (torch.view_as_complex(each.double().contiguous()) for each in (points, carried))
    total = weight.sum(1, keepdim=True).clamp_min(1e-12)
    here, there = ((weight * each).sum(1, keepdim=True) / total for each in (source, target))
    spread = (weight * (source - here).abs().square()).sum(1, keepdim=True).clamp_min(1e-12)
    turn = (weight * (source - here).conj() * (target - there)).sum(1, keepdim=True) / spread
    sure = (votes.sum(1) / (SURE_SHARE * trust.sum(1)).clamp_min(1e-12)).clamp_max(1)
    face = torch.view_as_real(there + turn * (source - here)).to(points.dtype)
    return face, sure[:, None] * (trust - votes).clamp_min(0)


def steady(
    points: Sequence[np.ndarray] | np.ndarray,
    scores: Sequence[np.ndarray] | np.ndarray | None,
    frames: Sequence[np.ndarray],
    *,
    window: int = WINDOW,
    lag: int | None = None,
    cuts: Collection[int] | None = None,
    repeats: Collection[int] | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Landmarks of one face in T consecutive frames, from any detector -> the same with less jitter.

    Each point becomes the mean of itself and of those of the frames at most ``window`` before and after, carried along
    the optical flow and weighted by trust and nearness. The crops that flow is computed in are cut around the points.

    Args:
        points: (T, K, 2) px; NaN where a point is unknown; it stays NaN, except in a repeat.
        scores: (T, K), 0 or more, how far to trust each point; None: all alike.
        frames: T of (H, W, 3) uint8 RGB.
        window: frames to either side; repeats are not counted.
        lag: use no more than so many later frames, as a stream would that shows its points so late; see
            :class:`tsal.inference.Steadier`. None: all of the window.
        cuts: frames that begin a shot; None: they are looked for.
        repeats: frames that show what the one before shows, and get its points; None: they are looked for.
        device: of the tracker: auto (CUDA where there is one), cpu, cuda ...

    Returns:
        (T, K, 2) float32 px.

    Raises:
        DataError: arrays of other shapes, or of different lengths.
        ConfigError: a window, lag or device that is not valid.
    """
    count = len(frames)
    if len(points) != count or (scores is not None and len(scores) != count):
        lengths = f"{len(points)} frames of points and {count if scores is None else len(scores)} of scores"
        raise DataError(f"{lengths} for {count} frames: want as many of each")
    steadier = Steadier(window=window, lag=lag, device=device)
    if cuts is None or repeats is None:
        found_cuts, found_repeats = cuts_and_repeats(_check_frame(number, frame) for number, frame in enumerate(frames))
        cuts, repeats = found_cuts if cuts is None else cuts, found_repeats if repeats is None else repeats
    cuts, repeats, out = set(cuts), set(repeats), []
    for number, frame in enumerate(frames):
        trust = None if scores is None else scores[number]
        out += steadier.push(frame, points[number], trust, cut=number in cuts, repeat=number in repeats)
    out += steadier.flush()
    return np.stack(out) if out else np.zeros((0, *np.shape(points)[1:]), np.float32)


def steady_tracks(
    frames: Iterable[tuple[int, float, np.ndarray]],
    followed: Followed,
    landmarks: Sequence[np.ndarray],
    *,
    lag: int | None = None,
    device: torch.device | str = "cpu",
) -> list[np.ndarray]:
    """:func:`steady` of every track of a video, in one reading of it.

    Args:
        frames: as of :func:`tsal.faces.read_frames`: number, ms, BGR.
        landmarks: of each track, (models, frames of the track, K, 3): x, y px and score; scores stay.
    """
    out, repeats, live = [np.array(values) for values in landmarks], set(followed.repeats), {}
    # (frames, models * K, 3): flow serves all models
    flat = [values.swapaxes(0, 1).reshape(values.shape[1], -1, 3) for values in landmarks]

    def keep(number: int, finished: list[np.ndarray]) -> None:
        steadier, place = live[number]
        for points in finished:
            out[number][:, place, :, :2] = points.reshape(len(out[number]), -1, 2)
            place += 1
        live[number] = steadier, place

    for frame, _, image in frames:
        for number, track in enumerate(followed.tracks):
            if not track.first <= frame <= track.last:
                continue
            if number not in live:
                live[number] = Steadier(lag=lag, device=device), 0
            points = flat[number][frame - track.first]
            rgb, repeat = image[..., ::-1], frame in repeats and frame > track.first
            keep(number, live[number][0].push(rgb, points[:, :2], points[:, 2], repeat=repeat))
            if frame == track.last:
                keep(number, live[number][0].flush())
                live[number] = None, 0
    return out
