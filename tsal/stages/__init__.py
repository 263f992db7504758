"""The stages of a run: one file is one notebook, one make target and one command."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    data="is_unchecked prepare_data",
    evaluate="evaluate_models predict_lists",
    figures="draw_figures",
    notebook="NotebookError execute notebook_parameters",
    pseudo="audit_pseudo_labels",
    table="STAGES",
    tracker="train_tracker measure_tracker",
    train="train_models",
)
