"""TSAL: semi-supervised facial-landmark detection in video (arXiv 2012.06711)."""

__version__ = "0.1.0"
