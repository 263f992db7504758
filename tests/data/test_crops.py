"""Crops on disk come back bit for bit or not at all, stay within their bound, and never stop a run."""

from __future__ import annotations

import errno
import multiprocessing
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from tsal.data.crops import CropFolder, crop_key

SIDE = 20
ENTRY = SIDE * SIDE * 3 + 4  # bytes


def crop(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def key(number: int) -> str:
    return crop_key(bytes([number]))


def folder(path: Path, entries: float = 100) -> CropFolder:
    """With room for so many entries."""
    return CropFolder(path, entries * ENTRY / 2**20)


def read(crops: CropFolder, number: int) -> np.ndarray | None:
    return crops.read(key(number), (SIDE, SIDE, 3))


def there(crops: CropFolder, numbers) -> list[int]:
    return [number for number in numbers if crops._path(key(number)).exists()]


def age(crops: CropFolder, number: int, seconds: float) -> None:
    path = crops._path(key(number))
    os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def test_a_crop_comes_back_bit_for_bit_here_and_where_the_folder_is_opened_again(tmp_path):
    crops = folder(tmp_path / "made" / "when needed")
    assert read(crops, 1) is None
    crops.write(key(1), crop(1))
    for reader in (crops, folder(crops.folder)):
        image = read(reader, 1)
        assert np.array_equal(image, crop(1)) and image.dtype == np.uint8 and image.shape == (SIDE, SIDE, 3)
    assert read(crops, 2) is None


def test_a_part_of_an_image_is_kept_as_the_part(tmp_path):
    crops, whole = folder(tmp_path), np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    crops.write(key(1), whole[5:25, 10:30])  # not contiguous in memory
    assert np.array_equal(read(crops, 1), whole[5:25, 10:30])


def test_every_part_of_what_a_crop_is_made_from_makes_another_key():
    keys = [
        crop_key(b"image", "code", (1.0, 2.0, 3.0, 4.0), 168, 1.36),
        crop_key(b"imagE", "code", (1.0, 2.0, 3.0, 4.0), 168, 1.36),
        crop_key(b"image", "Code", (1.0, 2.0, 3.0, 4.0), 168, 1.36),
        crop_key(b"image", "code", (1.0, 2.0, 3.0, 4.0000001), 168, 1.36),
        crop_key(b"image", "code", (1.0, 2.0, 3.0, 4.0), 169, 1.36),
        crop_key(b"image", "code", (1.0, 2.0, 3.0, 4.0), 168, 1.360000001),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == crop_key(b"image", "code", (1.0, 2.0, 3.0, 4.0), 168, 1.36)


DAMAGE = {
    "empty": lambda content: b"",
    "three bytes": lambda content: content[:3],
    "truncated": lambda content: content[:-50],
    "too long": lambda content: content + b"\0",
    "one bit flipped": lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
    "zeros, as after a power cut": lambda content: bytes(len(content)),
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "an image": lambda content: b"\x89PNG\r\n\x1a\n" + content,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_removed_and_made_anew(tmp_path, damage):
    crops = folder(tmp_path)
    crops.write(key(1), crop(1))
    path = crops._path(key(1))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert read(crops, 1) is None and not path.exists()
    crops.write(key(1), crop(1))
    assert np.array_equal(read(crops, 1), crop(1))


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(tmp_path):
    crops = folder(tmp_path)
    crops.write(key(1), crop(1))
    os.rename(crops._path(key(1)), crops._path(key(2)))
    assert read(crops, 2) is None


def test_an_entry_of_another_size_is_not_taken(tmp_path):
    crops = folder(tmp_path)
    crops.write(key(1), crop(1))
    assert crops.read(key(1), (SIDE + 1, SIDE, 3)) is None


# --- the bound ---


def test_the_folder_never_exceeds_its_bound_and_stays_in_use(tmp_path):
    crops = folder(tmp_path, 20)
    for number in range(100):
        crops.write(key(number), crop(number))
        assert size(tmp_path) <= 20 * ENTRY
        assert np.array_equal(read(crops, number), crop(number))
    assert size(tmp_path) >= 17 * ENTRY  # an eighth goes at a time, not everything


def test_what_was_used_longest_ago_goes_first_and_reading_is_using(tmp_path):
    crops = folder(tmp_path, 8)
    for number in range(8):
        crops.write(key(number), crop(number))
        age(crops, number, 1000 - 100 * number)  # 0 is the oldest
    read(crops, 0)
    crops.write(key(8), crop(8))
    assert there(crops, range(9)) == [0, 3, 4, 5, 6, 7, 8]  # room for seven of eight: 1 and 2 went


def test_entries_of_former_runs_count_too(tmp_path):
    former = folder(tmp_path, 50)
    for number in range(50):
        former.write(key(number), crop(number))
        age(former, number, 100)
    now = folder(tmp_path, 10)
    now.write(key(60), crop(60))
    assert size(tmp_path) <= 10 * ENTRY and there(now, [60]) == [60]


def test_two_writers_that_take_turns_exceed_the_bound_by_a_sixteenth_each_at_most(tmp_path):
    first, second = folder(tmp_path, 64), folder(tmp_path, 64)
    for number in range(250):
        (first, second)[number % 2].write(key(number), crop(number))
        assert size(tmp_path) <= 64 * (1 + 2 / 16) * ENTRY + 2 * ENTRY


def test_a_crop_larger_than_the_bound_is_not_kept_and_removes_nothing(tmp_path):
    crops = folder(tmp_path, 1)
    crops.write(key(1), crop(1))
    crops.write(key(2), np.zeros((SIDE, SIDE + 1, 3), np.uint8))
    assert there(crops, [1, 2]) == [1]


def test_what_a_killed_process_left_goes_and_files_of_others_stay(tmp_path):
    (tmp_path / "README.md").write_text("a note " * 1000)
    left = tmp_path / f".{key(1)}.crop.4711.tmp.crop"
    left.write_bytes(bytes(ENTRY))
    os.utime(left, (0, 0))
    crops = folder(tmp_path, 3)
    for number in range(3):
        crops.write(key(number), crop(number))
    assert not left.exists() and (tmp_path / "README.md").exists() and there(crops, range(3))


# --- disks that cannot be written to ---


def test_a_folder_that_cannot_be_made_is_warned_of_once(tmp_path):
    (tmp_path / "file").write_text("no folder")
    crops = folder(tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="cannot keep crops.*anew") as warned:
        for number in range(5):
            crops.write(key(number), crop(number))
            assert read(crops, number) is None
    assert len(warned) == 1


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_a_full_or_read_only_disk_is_warned_of_once_and_what_is_kept_is_still_read(tmp_path, monkeypatch, problem):
    crops = folder(tmp_path)
    crops.write(key(1), crop(1))
    age(crops, 1, 1000)

    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(problem, os.strerror(problem))

    def reject(*_, **__):
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(Path, "write_bytes", half)
    monkeypatch.setattr(os, "utime", reject)
    with pytest.warns(RuntimeWarning, match=os.strerror(problem)) as warned:
        crops.write(key(2), crop(2))
        crops.write(key(3), crop(3))
    assert len(warned) == 1
    assert np.array_equal(read(crops, 1), crop(1)) and read(crops, 2) is None
    assert [file.name for file in tmp_path.iterdir()] == [f"{key(1)}.crop"]  # nothing half-written is left


def test_a_race_for_one_entry_is_no_reason_to_stop_keeping_crops(tmp_path, monkeypatch):
    crops = folder(tmp_path)
    with monkeypatch.context() as patch:
        # another process has removed it before it is renamed
        patch.setattr(Path, "write_bytes", lambda path, content: None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            crops.write(key(1), crop(1))
    crops.write(key(1), crop(1))
    assert np.array_equal(read(crops, 1), crop(1))


def use_at_random(path: Path, seed: int, wrong: multiprocessing.Queue) -> None:
    """Read and write as a run would, with room for a third of the crops."""
    warnings.simplefilter("error")
    crops, rng = folder(path, 10), np.random.default_rng(seed)
    hits, mistakes = 0, 0
    for number in rng.integers(0, 30, 600).tolist():
        image = read(crops, number)
        if image is None:
            crops.write(key(number), crop(number))
        else:
            hits += 1
            mistakes += not np.array_equal(image, crop(number))
    wrong.put((hits, mistakes))


def test_processes_that_write_and_evict_at_once_read_no_wrong_crop(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=use_at_random, args=(tmp_path, seed, results)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    counts = [results.get(timeout=10) for _ in processes]
    assert all(hits > 50 and mistakes == 0 for hits, mistakes in counts)
    assert all(file.suffix == ".crop" and ".tmp." not in file.name for file in tmp_path.iterdir())
    assert size(tmp_path) <= 10 * (1 + 3 / 16) * ENTRY + 3 * ENTRY
