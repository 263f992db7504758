"""TSAL: semi-supervised facial-landmark detection in video (arXiv 2012.06711)."""

from tsal.utils.lazy import exports

__version__ = "0.2.0"

# subpackages (stages, figures, prepare, explorer ...) are imported by their names
__getattr__, __dir__, __all__ = exports(__name__, config="Config", inference="steady", run="Run")
