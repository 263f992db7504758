"""A trained model on images, lists and videos; drawing."""

from typing import TYPE_CHECKING

from tsal.utils.lazy import exports

if TYPE_CHECKING:  # type checkers do not see through lazy names
    from tsal.inference.landmarker import FaceLandmarks as FaceLandmarks
    from tsal.inference.landmarker import Frame as Frame
    from tsal.inference.landmarker import Landmarker as Landmarker

__getattr__, __dir__, __all__ = exports(
    __name__,
    crop_detector="CropDetector",
    demo="run_demo",
    export="export_model",
    landmarker="FaceLandmarks Frame Landmarker",
    predict="LeftOut predict_images predict_list",
    steadying="Steadier steady steady_tracks",
    tables="LandmarkTable draw_table without_faces write_table",
    tighten="tightened",
    track="track_video",
    video="detect_tracks follow_faces",
    weights="find_weights",
)
