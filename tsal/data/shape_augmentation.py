"""New labelled faces from few: one that wears the shape of another, and one that another shows through, landmark on
landmark.

Both are warps by a thin-plate spline between the landmarks of two faces. The label follows the image, to a quarter
of a pixel at worst, however near the spline comes to the other shape. Fifty photographs have 2450 pairs of shape and
look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tsal.geometry import inside, pixel_grid, sample, warp

CELL = 4  # px between the places where the spline is worked out; between them the flow is bilinear
SMOOTH = 1e-2  # of the spline: landmarks are drawn to their places, not torn there (closed lips to an open mouth)
ITERATIONS = 20
TOLERANCE = 0.25  # px by which a landmark may miss its place before the image is left as it was


def align_shapes(shapes: Tensor, to: Tensor, known: Tensor) -> Tensor:
    """``shapes`` (N, K, 2) moved, turned and scaled to lie nearest (least squares) to ``to`` (N, K, 2) px over
    landmarks ``known`` (N, K).
    """
    weight = known.to(shapes.dtype)[..., None]
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
    to = torch.where(known[..., None], to, 0.0)
    middle, centre = (weight * shapes).sum(1, keepdim=True), (weight * to).sum(1, keepdim=True)
    (x, y), (u, v) = (shapes - middle).unbind(-1), (to - centre).unbind(-1)
    weight = weight[..., 0]
    power = (weight * (x * x + y * y)).sum(1, keepdim=True).clamp_min(1e-12)
    cos, sin = ((weight * part).sum(1, keepdim=True) / power for part in (x * u + y * v, x * v - y * u))
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1) + centre


def spline_flow(before: Tensor, after: Tensor, known: Tensor, side: int, *, hold_border: bool = True) -> Tensor:
    """The flow (N, 2, S, S) px of a thin-plate spline (Bookstein, 1989), for :func:`tsal.geometry.warp`.

    The image that is warped by it has near ``after`` what it had at ``before`` (N, K, 2) px, for landmarks ``known``
    (N, K). Its border is held by eight points, or goes along. Worked out every 4 px.
    """
    edge = torch.tensor([0.0, 0.5, 1.0], device=before.device, dtype=torch.float64)
    anchors = torch.cartesian_prod(edge, edge)[[0, 1, 2, 3, 5, 6, 7, 8] if hold_border else []].expand(
        len(before), -1, -1
    )
    # (N, M, 2), in shares of the side
    places = torch.cat([torch.where(known[..., None], after, 0.0).double() / (side - 1), anchors], 1)
    moves = torch.cat([torch.where(known[..., None], before - after, 0.0).double(), torch.zeros_like(anchors)], 1)
    held = torch.cat([known, known.new_ones(anchors.shape[:2])], 1).double()
    count = places.shape[1]
    plane = torch.cat([torch.ones_like(places[..., :1]), places], -1)  # 1, x, y
    system = places.new_zeros((len(places), count + 3, count + 3))
    # a landmark that is not known has the equation "weight = 0"
    pairs = held[:, :, None] * held[:, None, :]
    system[:, :count, :count] = _kernel(places, places) * pairs + torch.diag_embed(torch.where(held > 0, SMOOTH, 1.0))
    system[:, :count, count:] = plane * held[..., None]
    system[:, count:, :count] = (plane * held[..., None]).transpose(1, 2)
    # solvable by two landmarks, one or none
    system[:, count:, count:] = -1e-6 * torch.eye(3, device=before.device, dtype=torch.float64)
    weights = torch.linalg.solve(system, F.pad(moves, (0, 0, 0, 3)))
    nodes = side // CELL + 1
    grid = pixel_grid(nodes, nodes, device=before.device).flatten(1).T.div(nodes - 1).expand(len(before), -1, -1)
    weights, places = weights.float(), places.float()  # only solving needs the double precision
    flow = _kernel(grid, places) @ weights[:, :count] + weights[:, count : count + 1] + grid @ weights[:, count + 1 :]
    flow = flow.transpose(1, 2).unflatten(-1, (nodes, nodes))
    return F.interpolate(flow, (side, side), mode="bilinear", align_corners=True)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    """r^2 log r^2 between places (N, A, 2) and (N, B, 2) -> (N, A, B)."""
    across, down = (first[:, :, None, axis] - second[:, None, :, axis] for axis in (0, 1))
    square = across * across + down * down
    return square * square.clamp_min(1e-20).log()


def follow(before: Tensor, targets: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where landmarks at ``before`` (N, K, 2) px lie in the image that is warped by ``flow`` (N, 2, S, S), near
    ``targets``, and how many px (N, K) that is from the truth: the place whose flow leads back to them, by fixed-point
    iteration.
    """
    after = targets
    for _ in range(ITERATIONS):
        after = before - sample(flow, after).transpose(1, 2)
    return after, (after + sample(flow, after).transpose(1, 2) - before).norm(dim=-1)


def folds(flow: Tensor) -> Tensor:
    """Whether an image warped by the flow (N, 2, S, S) would lie on itself somewhere -> (N,) bool."""
    place = pixel_grid(*flow.shape[-2:], device=flow.device, dtype=flow.dtype) + flow
    across, down = place.diff(dim=3)[:, :, :-1], place.diff(dim=2)[..., :-1]
    return (across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]).flatten(1).amin(1) <= 0


def transfer_shapes(
    images: Tensor, points: Tensor, visible: Tensor, shapes: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A share of the faces goes part of the way, from none to all of it, to a shape drawn from others -> images and
    their points.

    Args:
        images: (N, C, S, S) float.
        points, visible: (N, K, 2) px and (N, K); a landmark that is not visible is not looked at, and stays.
        shapes: (D, K, 2) px of D other faces, anywhere and of any size.
        share: of the faces, in [0, 1]; a face that would fold stays as it is.
    """
    count, device, side = len(images), images.device, images.shape[-1]
    chosen = torch.rand(count, generator=generator, device=device) < share
    drawn = _draw(len(shapes), count, generator)
    far = torch.rand(count, generator=generator, device=device)[:, None, None]
    rows = chosen.nonzero()[:, 0]
    if not len(rows) or not len(shapes):
        return images, points
    before = points[rows]
    known = visible[rows] & inside(before, side, side)  # the border is held, and with it those outside
    targets = torch.where(
        known[..., None], before + far[rows] * (align_shapes(shapes[drawn[rows]], before, known) - before), before
    )
    flow = spline_flow(before, targets, known, side)
    after, missed = follow(before, targets, flow)
    good = ~folds(flow) & (torch.where(known, missed, 0.0).amax(1) <= TOLERANCE)
    images, points = images.clone(), points.clone()
    images[rows[good]] = warp(images[rows[good]], flow[good])
    points[rows[good]] = torch.where(known[..., None], after, before)[good]
    return images, points


def aligned_mixup(
    images: Tensor,
    points: Tensor,
    visible: Tensor,
    others: Tensor,
    shapes: Tensor,
    most: float,
    generator: torch.Generator,
) -> Tensor:
    """Through each face shows another one, drawn from ``others``, with its landmarks on the face's own -> images (N,
    C, S, S).

    Args:
        images: (N, C, S, S) float.
        points, visible: (N, K, 2) px and (N, K); landmarks that are not visible are not laid on each other.
        others, shapes: (D, C, S, S) and (D, K, 2) px of D faces.
        most: largest share of the other face, in [0, 1]; each face draws its own between none and this.
    """
    count, side = len(images), images.shape[-1]
    drawn = _draw(len(others), count, generator)
    much = most * torch.rand(count, generator=generator, device=images.device)[:, None, None, None]
    if not count or not len(others):
        return images
    flow = spline_flow(shapes[drawn], points, visible & inside(points, side, side), side, hold_border=False)
    return torch.lerp(images, warp(others[drawn], flow), much)


def _draw(pool: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` indices below ``pool``, with repetition."""
    return torch.randint(max(1, pool), (count,), generator=generator, device=generator.device)
