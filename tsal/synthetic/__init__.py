"""Rendered heads and scenes, and their exact flow."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    dataset="VERSION render_dataset",
    flow="SyntheticFlowMaker ground_truth_flow",
)
