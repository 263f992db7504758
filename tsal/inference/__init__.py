"""A trained model on lists and videos; drawing."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    export="export_model",
    predict="predict_list",
    track="track_video",
)
