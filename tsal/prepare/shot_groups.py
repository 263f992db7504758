"""Labelled images that must not be parted: copies, images that look alike, and frames of one video."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tsal.data import LOOK_ALIKE

# Bits of 63 in which successive frames of a scene differ at the median; other photographs differ in half of them
ONE_SCENE = 16


def group_images(images: Sequence[str], looks: Mapping[str, dict]) -> list[list[str]]:
    """Groups of images, in their order, that are for training or for measuring as a whole.

    Together are images of the same content, images whose perceptual hashes (of one of them perhaps mirrored) are as
    near as a run would warn of, and the images of a folder that are numbered and look like one scene, in which frames
    far apart need not look alike.

    Args:
        images: names, with their folders. ``looks``: of each one that can be read, see
            :func:`tsal.data.look_at_image`.
    """
    readable = [image for image in images if image in looks]
    hashes, mirrored = (
        np.array([looks[image][kind] for image in readable], np.uint64) for kind in ("look", "mirrored")
    )
    first = {image: image for image in images}  # a tree: image -> one that it is together with

    def root(image: str) -> str:
        while first[image] != image:
            first[image] = first[first[image]]
            image = first[image]
        return image

    for row, image in enumerate(readable):
        bits = [np.bitwise_count(hashes[row + 1 :] ^ own[row]) for own in (hashes, mirrored)]
        for other in np.flatnonzero(np.minimum(*bits) <= LOOK_ALIKE):
            first[root(readable[row + 1 + int(other)])] = root(image)
    for frames in _numbered(readable):
        looked = np.array([looks[image]["look"] for image in frames], np.uint64)
        if len(frames) > 2 and np.median(np.bitwise_count(looked[1:] ^ looked[:-1])) <= ONE_SCENE:
            for image in frames[1:]:
                first[root(image)] = root(frames[0])
    groups: dict[str, list[str]] = {}
    for image in images:
        groups.setdefault(root(image), []).append(image)
    return list(groups.values())


def _numbered(images: Sequence[str]) -> list[list[str]]:
    """Images of one folder whose names differ in the number at their end alone, by that number."""
    series: dict[tuple[Path, str], list[tuple[int, str]]] = {}
    for image in images:
        path = Path(image)
        if match := re.fullmatch(r"(.*?)([0-9]{1,18})", path.stem):
            series.setdefault((path.parent, match[1]), []).append((int(match[2]), image))
    return [[image for _, image in sorted(frames)] for frames in series.values()]
