"""Errors, files, paths, versions, threads and processes: what every subpackage uses."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    boxes="boxes_beside iou shared",
    checkpoints="load_checkpoint save_checkpoint",
    distributed=(
        "gather_from_processes join_processes leave_processes mean_over_processes processes rank share_gradients "
        "share_statistics sum_over_processes wait_for_all"
    ),
    drawn="MARK is_drawn",
    environment="describe_environment git_commit half_precision has_bfloat16 processor",
    errors="ConfigError DataError InputError RunError describe_os_error",
    files=(
        "file_hash files_below first_line is_hidden read_arrays read_bytes read_text remove_unfinished replacing "
        "short_name write_arrays write_text"
    ),
    locks="LOCK lock_folder",
    parallel="Together in_turn side_by_side",
    paths=(
        "CONFIG_FOLDER INSTALLED OUTPUTS PACKAGE PREPARED REPOSITORY SCHEME_FOLDER SHIPPED from_repository leads_out "
        "weights_file"
    ),
    progress="tqdm",
    signals="StopSignals Stopped",
    text="counted first_of is_utf8 means_nothing markdown_table nearest printable",
    threads="ThreadWatch allowed_cores free_cores use_free_cores",
    yaml_text="PlainLoader load_yaml",
)
