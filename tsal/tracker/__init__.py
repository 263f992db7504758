"""The optical-flow tracker: network, tracked points, Lucas-Kanade, losses, training."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    dis="dis_flow",
    frozen="FrozenTracker PairFlows",
    losses="FlowWeights",
    lucas_kanade="LucasKanade",
    network="FlowEstimate FlowNet both_directions track_frames",
    points="forward_backward_error occlusion_mask reconstruct_next track_points",
    training=(
        "UNTUNED final_trackers freeze_tracker initial_tracker load_tracker make_tracker measuring_tracker "
        "open_tracker train_tracker tune_tracker tuned_trackers"
    ),
)
