"""Faces found in images and followed through video."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    boxes_file="GivenBox read_boxes",
    detect="MIN_FACE faces_in find_boxes largest_face",
    follow="SETTLED Followed follow_video",
    linking="NO_FACE Look Track",
    shots="cuts_and_repeats read_frames",
    smooth="gaussian_lines smooth_boxes",
    yunet="YuNet",
)
