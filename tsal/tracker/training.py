"""One training step of the tracker, without labels: pairs with a known flow, then pairs of real frames."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tsal.tracker.losses import FlowWeights, endpoint_error, supervised_flow_loss, unsupervised_flow_loss
from tsal.tracker.network import both_directions
from tsal.tracker.points import leaves_frame, occlusion_mask


def known_flow_loss(
    net: nn.Module, first: Tensor, second: Tensor, truth: Tensor, valid: Tensor, weights: FlowWeights = FlowWeights()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a step on pairs whose flow is known, and its detached parts.

    Args:
        first, second: frames (N, 3, H, W) in [0, 1].
        truth: flow first -> second (N, 2, H, W) px.
        valid: (N, H, W) bool, where it counts.
    """
    pyramid = net(first, second)
    loss = supervised_flow_loss(pyramid, truth, valid, weights.synthetic_levels)
    return loss, {"endpoint_error": endpoint_error(pyramid[0].detach(), truth, valid)}


def video_loss(
    net: nn.Module,
    first: Tensor,
    second: Tensor,
    weights: FlowWeights = FlowWeights(),
    *,
    use_occlusion: bool = True,
    detect: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a step on neighbouring frames (N, 3, H, W) in [0, 1], which needs no labels, and its detached parts.

    Args:
        use_occlusion: leave occluded pixels out of the photometric term; off during a warm-up, while the flow is unfit
            to tell them. Pixels that leave the frame are always left out.
        detect: frozen detector in eval mode, images -> heatmaps (N, K, h, w), for the detection consistency.
    """
    forward, backward = both_directions(net, first, second)
    if use_occlusion:
        hidden_first, hidden_second = occlusion_mask(forward[0], backward[0]), occlusion_mask(backward[0], forward[0])
    else:
        hidden_first, hidden_second = leaves_frame(forward[0].detach()), leaves_frame(backward[0].detach())
    loss, terms = unsupervised_flow_loss(
        first, second, forward, backward, ~hidden_first, ~hidden_second, weights, detect
    )
    return loss, terms | {"occluded": hidden_first.float().mean()}
