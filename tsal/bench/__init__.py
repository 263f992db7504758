"""Methods compared under equal conditions; speeds."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    conditions="all_labels check_data comparable refuse_other_settings same_runs",
    gpu="bench_gpu",
    methods="bench_methods prepare_base run_method",
    report="rows_table",
    speed="NOTES bench",
    table="compare draw markdown other_code other_inits other_machines parts read_results write_csv",
)
