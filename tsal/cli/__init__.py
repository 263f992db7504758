"""The command line."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    commands="asked_settings config_from main make_settings_parser",
)
