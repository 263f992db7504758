"""Methods compared under equal conditions; speeds."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    gpu="bench_gpu",
    methods="all_labels bench_methods comparable prepare_base refuse_other_settings run_method same_runs",
    report="rows_table",
    speed="NOTES bench",
    table="compare draw markdown other_code other_inits parts read_results write_csv",
)
