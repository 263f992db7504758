"""Pseudo-labels recorded, stored, counted; alarms of a training that fails silently."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    alarms="find_alarms training_alarms",
    analysis=(
        "Calibration calibrations changes condition_table finite frame_means groups is_measured known_points "
        "landmark_means mean_face motions one_a_clip poses source_table step_table"
    ),
    store="AUDITED Audit AuditWriter LABELS audit_model",
    views="ClipViews",
)
