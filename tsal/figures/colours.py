"""Colours and dashes of models: apart from the other styles, which need matplotlib, as drawing on images does not."""

from __future__ import annotations


class _Or(dict):
    """A dict whose other keys, the rival's name, have one value."""

    def __init__(self, values: dict, default):
        super().__init__(values)
        self.default = default

    def __missing__(self, _):
        return self.default


# seaborn's "colorblind" palette: one colour a model, in every figure
MODELS = _Or({"init": "#949494", "supervised": "#0173b2", "teacher": "#d55e00", "student": "#029e73"}, "#cc78bc")
MODEL_DASHES = _Or({"init": ":", "supervised": "--", "teacher": "-", "student": "-."}, (0, (4, 1, 1, 1, 1, 1)))
