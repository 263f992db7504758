"""TSAL: semi-supervised facial-landmark detection in video (arXiv 2012.06711)."""

import os
from typing import TYPE_CHECKING

from tsal.utils.lazy import exports

if TYPE_CHECKING:  # type checkers do not see through lazy names
    from tsal.config import Config as Config
    from tsal.inference import Landmarker as Landmarker
    from tsal.inference import Steadier as Steadier
    from tsal.inference import steady as steady
    from tsal.run import Run as Run
    from tsal.utils import InputError as InputError

# Pixels of an image that OpenCV decodes: 134 megapixels (0.4 GiB), not its own bound of 1074, since a file of a few
# bytes can declare any size. OpenCV looks when it is imported: a program that imports it first keeps its own bound.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

__version__ = "0.2.0"

# subpackages (stages, figures, prepare, explorer ...) are imported by their names
__getattr__, __dir__, __all__ = exports(
    __name__, config="Config", inference="Landmarker Steadier steady", run="Run", utils="InputError"
)
