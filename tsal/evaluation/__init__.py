"""The measurement: predictions of trained models, and pure metrics of their errors and of their steadiness."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    carried="flow_difference",
    metrics="DEGENERATE_SHARE NORMALISERS SAME_INIT auc face_nme failure_rate jitter known_mean normaliser summary",
    predictions=(
        "BATCH DETECTION_SOURCES GroundTruth metrics_rows predict predictions_table read_ground_truth table_errors "
        "table_of_part"
    ),
    steadiness="STEADINESS follows inner_frames steady_numbers table_jitters",
)
