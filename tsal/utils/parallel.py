"""Two independent pieces of work at once, each on its share of the threads.

Threads of one operator wait for one another at its end, dozens of times a step, and beside a busy process each of these
waits is long. Two halves of a step meet a few times only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from tsal.utils.threads import ThreadWatch

First, Second = TypeVar("First"), TypeVar("Second")
Together = Callable[[Callable[[], First], Callable[[], Second]], tuple[First, Second]]


def in_turn(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    return first(), second()


@contextmanager
def side_by_side(enabled: bool = True, watch: ThreadWatch | None = None) -> Iterator[Together]:
    """A function that calls two others at once, with half of torch's threads each; with one thread, in turn.

    ``watch``: keeps the threads of both together at the cores that are free from now on; while one is, they take turns.
    """
    threads = torch.get_num_threads()
    if not enabled or threads < 2:
        yield in_turn
        return
    watch = watch or ThreadWatch()
    watch.sides = 2
    torch.set_num_threads(threads // 2)  # of this thread
    with ThreadPoolExecutor(1) as other:

        def together(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
            if watch.free < 2:
                return in_turn(first, second)
            share = torch.get_num_threads()  # fewer where other processes came

            def beside() -> First:
                torch.set_num_threads(share)
                return first()

            ahead = other.submit(beside)
            try:
                done = second()
            finally:
                ahead.exception()  # both have ended before anything goes on
            return ahead.result(), done

        try:
            yield together
        finally:
            torch.set_num_threads(threads)
