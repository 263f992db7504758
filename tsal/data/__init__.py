"""What training reads: lists, images, crops and their cache, views, batches, augmentation, leaks."""

from tsal.utils.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    batches="Batch BatchMaker Part PointPairs neighbours positions prefetch",
    crops="CropFolder",
    gaps="gap_warnings split_at_gaps",
    images="IMAGE_SUFFIXES decode_image describe_image is_turned look_at_image over_the_bound read_image",
    leaks="LOOK_ALIKE check_files",
    lists=(
        "SAME_FACE Clip Face FaceLists face_problems find_list from_root group_clips list_root load_lists read_list "
        "spread write_list"
    ),
    near="near_dataset",
    origins="Origin read_origins read_prepared read_json",
    pairs="FramePairs frame_pairs",
    placement="box_fault in_percent reflected",
    photometric="photometric_augmentation to_float",
    points="read_points write_points",
    shape_augmentation="aligned_mixup transfer_shapes",
    views="FaceStore beyond_crop clip_box cut_crop plain_affine plain_views random_affine",
)
