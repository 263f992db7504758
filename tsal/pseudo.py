"""Sources -> fused points, weights and provenance (the targets of unlabelled frames).

Every source says where the K landmarks of U frames are. Heatmap sources and centre sources are the two families that
the fusion weighs by mu; within a family the valid sources are averaged by their votes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tsal.averaging import batch_statistics
from tsal.codecs import nearest_candidate
from tsal.config import Config
from tsal.geometry import inside, sample
from tsal.model import Detection, Detector
from tsal.tracker import PairFlows, forward_backward_error, reconstruct_next
from tsal.utils import ConfigError

HEATMAP_FAMILY = ("heatmap", "tracked_heatmap", "propagated")
CENTRE_FAMILY = ("centre", "tracked_centre")
SOURCES = HEATMAP_FAMILY + CENTRE_FAMILY
RECONSTRUCTED = ("tracked_heatmap", "tracked_centre")  # those that need a detection on reconstructed frames
TRACKING = (*RECONSTRUCTED, "propagated")  # those that need a tracker
NOMINAL_INPUT = 96  # px; of an input of this side are the px of tsal.max_fb_error, tsal.vote_error and tsal.trust
FEW = 1e-3  # votes, of 1 for each neighbour, below which a landmark of a frame has no neighbour


@dataclass(frozen=True)
class Source:
    """One source's points on U frames."""

    points: Tensor  # (U, K, 2) px
    score: Tensor  # (U, K)
    valid: Tensor  # (U, K) bool
    flow_error: Tensor | None = None  # (U, K) px forward-backward error; None for a source that needs no tracker
    votes: Tensor | None = None  # (U, K) weight in its family; None: 1 where valid


@dataclass(frozen=True)
class PseudoLabels:
    """Fused targets of U frames and why to trust them."""

    points: Tensor  # (U, K, 2) px
    weight: Tensor  # (U, K), 1 where a source is valid, else 0
    disagreement: Tensor  # (U, K) px between the families, fused or not; NaN where only one is valid
    tracked: Tensor  # (U, K) bool: a tracking source took part
    flow_error: Tensor  # (U, K) px; NaN where there is no tracking source


def check_sources(names: tuple[str, ...]) -> None:
    if (unknown := [name for name in names if name not in SOURCES]) or not names:
        raise ConfigError(f"tsal.sources: {', '.join(unknown) or 'none named'}; sources: {', '.join(SOURCES)}")


def detection_sources(detector: Detector, detection: Detection) -> dict[str, Source]:
    """Sources ``heatmap`` and ``centre`` of real frames; of the top-N centres, the one with points nearest to the
    heatmap's, and its score.
    """
    points, score = detector.heatmap(detection)
    candidates, centre_score = detector.centre(detection)
    rows, nearest = torch.arange(len(points), device=points.device), nearest_candidate(candidates, points)
    everywhere, of_nearest = torch.ones_like(score, dtype=torch.bool), centre_score[rows, nearest, None]
    return {
        "heatmap": Source(points, score, everywhere),
        "centre": Source(candidates[rows, nearest], of_nearest.expand_as(score), everywhere),
    }


def reconstructed_sources(
    detector: Detector,
    reconstruction: Detection,
    count: int,
    flow_forward: Tensor,
    flow_backward: Tensor,
    following: Tensor,
    max_fb_error: float,
) -> dict[str, Source]:
    """Sources ``tracked_heatmap`` and ``tracked_centre`` for the frames that have a previous one.

    Args:
        reconstruction: detection on frame t + 1 as reconstructed from frame t, for P pairs.
        count: U, all frames.
        flow_forward, flow_backward: (P, 2, H, W) px.
        following: (P,) indices of frames t + 1 among the U.
        max_fb_error: a point with a larger forward-backward error (px) is not valid; 0: no gate.
    """
    plain = detection_sources(detector, reconstruction)
    error_map = forward_backward_error(flow_backward, flow_forward)[:, None]  # on frame t + 1
    sources = {}
    for name in ("heatmap", "centre"):
        points = plain[name].points
        error = sample(error_map, points)[:, 0]
        stays = inside(points + sample(flow_backward, points).mT, *flow_backward.shape[-2:])
        sources[f"tracked_{name}"] = _scatter(count, following, points, plain[name].score, stays, error, max_fb_error)
    return sources


def propagated_source(
    heatmap: Source, trust: Tensor, flows: PairFlows, previous: Tensor, following: Tensor, vote_error: float
) -> Source:
    """Source ``propagated``: the points of a frame's neighbours, carried to it and averaged by their votes.

    A neighbour's vote is exp(-(forward-backward error / vote_error)^2), times the chance that the point is seen in the
    frame, times the trust in the neighbour's own point; 0 where the point leaves the crop.

    Args:
        heatmap: the heatmap source of all U frames.
        trust: (U, K) in [0, 1], in its points.
        flows: between the frames ``previous`` and ``following``, indices (P,) among the U; both ways are taken.
        vote_error: px; 0: every point that stays in the crop has its trust as its vote.
    """
    to, votes, (carry, error) = carried_votes(heatmap.points, trust, flows, previous, following, vote_error)
    total, score = torch.zeros_like(trust).index_add(0, to, votes), heatmap.score
    safe = total.clamp_min(1e-12)
    points = torch.zeros_like(heatmap.points).index_add(0, to, votes[..., None] * carry) / safe[..., None]
    mean = torch.zeros_like(score).index_add(0, to, votes * score[torch.cat([previous, following])]) / safe
    valid = total > FEW
    apart = torch.where(valid, torch.zeros_like(total).index_add(0, to, votes * error) / safe, torch.nan)
    return Source(points, mean, valid, apart, total)


def window_mean(
    points: Tensor, trust: Tensor, flows: PairFlows, previous: Tensor, following: Tensor, vote_error: float
) -> Tensor:
    """Points (U, K, 2) of frames -> their mean with those of their neighbours, carried to them; see
    :func:`propagated_source`. A frame's own point has its trust as its vote.
    """
    to, votes, (carry, _) = carried_votes(points, trust, flows, previous, following, vote_error)
    total = trust.index_add(0, to, votes)
    return (trust[..., None] * points).index_add(0, to, votes[..., None] * carry) / total.clamp_min(1e-12)[..., None]


def carried_votes(
    points: Tensor, trust: Tensor, flows: PairFlows, previous: Tensor, following: Tensor, vote_error: float
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Points (U, K, 2) carried along all P pairs, first from the previous frames to the following ones, then back.

    Returns:
        frames (2P,) that they are carried to, votes (2P, K), and the carried points (2P, K, 2) px with their
        forward-backward error (2P, K) px.
    """
    ways = flows.carry(points[previous]), flows.carry(points[following], backward=True)
    carry, error, stays, visibility = (torch.cat(parts) for parts in zip(*ways))
    votes = stays * trust[torch.cat([previous, following])]
    if vote_error > 0:
        votes = votes * visibility * torch.exp(-((error / vote_error) ** 2))
    return torch.cat([following, previous]), votes, (carry, error)


def _scatter(
    count: int, following: Tensor, points: Tensor, score: Tensor, ok: Tensor, error: Tensor, gate: float
) -> Source:
    """A source known for the frames ``following`` alone, spread over all ``count`` frames."""
    ok = ok & (error <= gate) if gate > 0 else ok

    def spread(values: Tensor, elsewhere) -> Tensor:
        whole = torch.full((count, *values.shape[1:]), elsewhere, dtype=values.dtype, device=values.device)
        whole[following] = values
        return whole

    return Source(spread(points, 0.0), spread(score, 0.0), spread(ok, False), spread(error, torch.nan))


def _family(sources: dict[str, Source], names: list[str]) -> tuple[Tensor, Tensor]:
    """Mean of a family's valid points (U, K, 2) by their votes, and where there is any (U, K)."""
    valid = torch.stack([sources[n].valid for n in names])  # (S, U, K)
    points = torch.stack([sources[n].points for n in names])
    votes = [sources[n].votes for n in names]
    weight = torch.stack([sources[n].valid.to(points.dtype) if v is None else v for n, v in zip(names, votes)]) * valid
    weighted = torch.where(valid[..., None], points * weight[..., None], 0.0).sum(0)
    return weighted / weight.sum(0).clamp_min(1e-12)[..., None], valid.any(0)


def _with_fallback(sources: dict[str, Source], names: list[str], plain: str, fallback: bool) -> tuple[Tensor, Tensor]:
    """A family's points; where none of its named sources is valid, those of ``plain``."""
    points, valid = _family(sources, names)
    if fallback and plain not in names:
        points = torch.where(valid[..., None], points, sources[plain].points)
        valid = valid | sources[plain].valid
    return points, valid


def fuse(
    sources: dict[str, Source], names: Sequence[str], heatmap_share: float, *, fallback: bool = True
) -> PseudoLabels:
    """heatmap_share * heatmap family + (1 - heatmap_share) * centre family, in px; a silent family leaves the other
    alone.

    A family of which ``names`` has none takes no part in the points. Its distance from the other family, on the real
    frame, is still measured: disagreement predicts errors.

    Args:
        names: the sources that are fused.
        fallback: where none of a family's sources is valid, the detector on the real frame.
    """
    families, named = [], []
    for family, plain in ((HEATMAP_FAMILY, "heatmap"), (CENTRE_FAMILY, "centre")):
        own = [name for name in names if name in family]
        families.append(_with_fallback(sources, own or [plain], plain, fallback))
        named.append(bool(own))
    (first, first_valid), (second, second_valid) = families
    disagreement = torch.where(first_valid & second_valid, (first - second).norm(dim=-1), torch.nan)
    if all(named):
        first_share = heatmap_share * first_valid.to(first.dtype)
        second_share = (1 - heatmap_share) * second_valid.to(first.dtype)
        total = (first_share + second_share).clamp_min(1e-12)
        points = (first * first_share[..., None] + second * second_share[..., None]) / total[..., None]
        valid = first_share + second_share > 0
    else:
        points, valid = families[named.index(True)]
    moved = [sources[name] for name in names if sources[name].flow_error is not None]
    tracked = torch.stack([s.valid for s in moved]).any(0) if moved else torch.zeros_like(valid)
    unknown = torch.full_like(disagreement, torch.nan)
    flow_error = torch.stack([s.flow_error for s in moved]).nanmean(0) if moved else unknown
    return PseudoLabels(points, valid.to(points.dtype), disagreement, tracked, flow_error)


@dataclass(frozen=True)
class Rebuilt:
    """A detector on R of U frames as they were reconstructed from those before them."""

    rows: Tensor  # (R,) long, among the U
    detection: Detection
    sources: dict[str, Source]  # ``tracked_heatmap`` and ``tracked_centre`` of the U frames


@dataclass(frozen=True)
class LabellerOutput:
    """What a labeller says of U frames: every source, their fusion, and reconstructed frames where it needed them."""

    sources: dict[str, Source]
    fused: PseudoLabels
    rebuilt: Rebuilt | None


class PseudoLabeller:
    """How a method makes pseudo-labels: a detector's sources on unlabelled frames, tracked ones too, and their fusion.

    Args:
        config: its method (``tsal.*``), and whether the data's frames are consecutive.
        precision: context of the detector's forward passes.
        everything: make every source, those too that the method does not fuse.

    Raises:
        ConfigError: a source that does not exist, or none that the data can feed.
    """

    def __init__(
        self, config: Config, precision: Callable[[], AbstractContextManager] = nullcontext, *, everything: bool = False
    ):
        tsal = self.tsal = config.tsal
        self.max_fb_error, self.vote_error, self.trust_distance = (
            px * config.model.input / NOMINAL_INPUT for px in (tsal.max_fb_error, tsal.vote_error, tsal.trust)
        )
        check_sources(tsal.sources)
        followed = config.data.consecutive or tsal.tracking == "any"
        self.names = tuple(name for name in tsal.sources if followed or name not in TRACKING)
        self.consistency = followed and tsal.teacher_consistency and tsal.teacher_lr > 0
        self.agreement = followed and tsal.agreement_weight > 0
        self.precision = precision
        if not self.names:
            raise ConfigError(
                "tsal.sources: tracking sources alone, and data.consecutive=false says that no frame follows another; "
                "set tsal.tracking=any to track all the same"
            )
        self.reconstructs = everything or any(name in RECONSTRUCTED for name in self.names)
        self.propagates = everything or "propagated" in self.names
        self.window = tsal.window if self.propagates or self.agreement else 1

    @property
    def needs_flow(self) -> bool:
        """Whether anything is learned from the tracker."""
        return self.consistency or self.agreement or any(name in TRACKING for name in self.names)

    @torch.no_grad()
    def detect(self, detector: Detector, images: Tensor) -> Detection:
        """As evaluation sees images (N, 3, S, S): with running statistics, nothing learned."""
        detector.eval()
        with self.precision():
            return detector(images)

    @torch.no_grad()
    def __call__(
        self,
        detector: Detector,
        images: Tensor,
        detection: Detection,
        flows: PairFlows | None,
        previous: Tensor,
        following: Tensor,
        labelled: Tensor | None = None,
    ) -> LabellerOutput:
        """Labels of U frames.

        Args:
            images: (U, 3, S, S) in [0, 1], and the ``detection`` on them.
            flows: between the frames ``previous`` and ``following``, indices (P,) into the U, of which those of one
                clip follow one another; None: nothing is tracked.
            labelled: images (L, 3, S, S) that the detector saw in one batch with the U, learning; None: it saw the U as
                evaluation does. Reconstructed frames are seen in the same way.
        """
        tsal, sources = self.tsal, detection_sources(detector, detection.detach())
        trust = self.trust(sources)
        if self.trust_distance > 0:
            sources["heatmap"] = replace(sources["heatmap"], votes=trust)
        rebuilt = None
        if flows is not None and self.reconstructs:
            rebuilt = self.rebuild(detector, images, flows, previous, following, labelled)
            sources |= rebuilt.sources
        if flows is not None and self.propagates:
            sources["propagated"] = propagated_source(
                sources["heatmap"], trust, flows, previous, following, self.vote_error
            )
        fused = fuse(sources, self.names, tsal.heatmap_share, fallback=tsal.fallback)
        return LabellerOutput(sources, fused, rebuilt)

    @torch.no_grad()
    def rebuild(
        self,
        detector: Detector,
        images: Tensor,
        flows: PairFlows,
        previous: Tensor,
        following: Tensor,
        labelled: Tensor | None = None,
    ) -> Rebuilt:
        """The detector on all frames t + 1 reconstructed from frames t; arguments as of the labels."""
        beside = following - previous == 1
        rows, (forward, backward) = following[beside], flows.in_view(beside)
        frames = reconstruct_next(images[rows - 1], backward)
        if labelled is None:
            reconstruction = self.detect(detector, frames)
        else:  # in the real frames' place: with other statistics, all faces would differ a little in the same way
            with batch_statistics(detector), self.precision():
                whole = detector(torch.cat([labelled, images.index_copy(0, rows, frames)]))
            reconstruction = whole.rows(len(labelled) + rows)
        sources = reconstructed_sources(
            detector, reconstruction, len(images), forward, backward, rows, self.max_fb_error
        )
        return Rebuilt(rows, reconstruction, sources)

    def trust(self, sources: dict[str, Source]) -> Tensor:
        """Trust (U, K) in the heatmap source's points, by their distance from the centre source's."""
        apart = (sources["heatmap"].points - sources["centre"].points).norm(dim=-1)
        return 1 / (1 + (apart / self.trust_distance) ** 2) if self.trust_distance > 0 else torch.ones_like(apart)
