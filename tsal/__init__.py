"""TSAL: semi-supervised facial-landmark detection in video (arXiv 2012.06711)."""

from typing import TYPE_CHECKING

from tsal.utils.lazy import exports

if TYPE_CHECKING:  # type checkers do not see through lazy names
    from tsal.config import Config as Config
    from tsal.inference import Landmarker as Landmarker
    from tsal.run import Run as Run

__version__ = "0.2.0"

# subpackages (stages, figures, prepare, explorer ...) are imported by their names
__getattr__, __dir__, __all__ = exports(__name__, config="Config", inference="Landmarker", run="Run")
