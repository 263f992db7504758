"""Progress bars where tqdm is installed, and none where it is not: a trained detector does without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

try:
    from tqdm import tqdm
except ImportError:

    class tqdm:  # type: ignore[no-redef]
        """The part of tqdm that the package uses; it shows nothing."""

        def __init__(self, iterable: Iterable[Any] | None = None, **_: Any):
            self.iterable = iterable

        def __iter__(self) -> Iterator[Any]:
            return iter(self.iterable if self.iterable is not None else ())

        def __enter__(self) -> tqdm:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def update(self, n: float = 1) -> None:
            return None

        @staticmethod
        def write(text: str) -> None:
            print(text)

        def set_postfix(self, **_: Any) -> None:
            return None

        def close(self) -> None:
            return None
