"""The widgets of notebook 04."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    widgets="Explorer",
)
