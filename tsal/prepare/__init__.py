"""What writes lists: a builder for each dataset, and for videos and photographs."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    builder="describe read_rejected",
    registry="BUILDERS SOURCES build option_names",
)
