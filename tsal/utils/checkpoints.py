"""Checkpoints: tensors and plain types only, written whole or not at all, read without executing anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch

from tsal.utils.errors import InputError
from tsal.utils.files import first_line, refuse_bomb, replacing


def save_checkpoint(path: Path, content: dict) -> None:
    """Tensors and plain types, written whole or not at all, and on the disk once this returns.

    Raises:
        OSError: as of any other file: a full disk, no right to write.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # of the file that is now too short, which says nothing of why
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        file.flush()
        os.fsync(file.fileno())  # else a machine that stops keeps the name of a file without its content


def load_checkpoint(path: Path, device: torch.device | str = "cpu", *, what: str = "checkpoint") -> dict:
    """A file of named tensors and plain types, such as :func:`save_checkpoint` writes; never executes what the file
    holds.

    Raises:
        InputError: there is no such file, it is damaged, holds other things, or would unpack to far more than weights.
    """
    refuse_bomb(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}") from None
    except pickle.UnpicklingError as error:  # torch advises to let the file run code
        kinds = "it is no file of this program, or holds more than tensors and plain types"
        raise InputError(f"{path}: not a readable {what}: {kinds}") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path}: not a readable {what} ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a readable {what} (holds a {type(content).__name__}, not names)")
    return content
