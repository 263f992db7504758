"""Faces found in images and followed through video."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    boxes_file="GivenBox read_boxes",
    checked="checked_boxes",
    detect="MIN_FACE faces_in find_boxes largest_face",
    follow="SEARCHES_A_SECOND SETTLED Followed follow_video",
    linking="MIN_SEARCHES NO_FACE SURE_SEARCHES Look Track",
    shots="VIDEO_SUFFIXES cuts_and_repeats read_frames read_header",
    smooth="gaussian_lines smooth_boxes",
    yunet="YuNet named_finder",
)
