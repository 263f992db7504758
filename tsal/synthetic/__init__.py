"""Rendered heads and scenes, and where their points are in every frame."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    dataset="VERSION render_clip render_dataset",
    point_pairs="PointPairMaker rendered_visibility",
)
