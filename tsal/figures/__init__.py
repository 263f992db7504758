"""Figures and tables, from the files of a run."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    breakdown="draw_breakdown",
    colours="MODELS",
    compare="compare_runs draw_comparison",
    comparison="Comparison",
    evaluated="read_audit",
    dataset="draw_dataset list_table manifest_table read_lists",
    evaluation="draw_evaluation draw_summary",
    gallery="former_notebooks write_gallery",
    parts="draw_parts",
    step="one_step draw_views draw_sources draw_flow draw_target sources_table losses_table",
    pseudo_labels="draw_pseudo_labels",
    report="comparison_tables tracker_table run_report",
    run="draw_all draw_samples draw_tracker draw_history",
    style=(
        "NamedFigure SOURCES SOURCE_DASHES TRUTH draw_face draw_landmarks flow_colours image_grid row_name save "
        "styled under_name unit"
    ),
    tables="table tracker_errors",
    votes="draw_votes",
    windows="draw_windows",
)
