"""A trained model on lists and videos; drawing."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    predict="predict_list",
    steadying="Steadier steady steady_tracks",
    track="track_video",
)
