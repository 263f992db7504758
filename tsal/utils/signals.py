"""Being asked to stop: SIGINT (Ctrl-C, a notebook's stop button) and SIGTERM (a scheduler, a shutdown)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import current_thread, main_thread
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the work. The text says what is kept and how to go on; the command's exit status is 128 + number.

    A KeyboardInterrupt, so that nothing takes it for an error that can be handled.
    """

    def __init__(self, text: str = "", number: int = signal.SIGINT):
        super().__init__(text)
        self.status = 128 + number


class StopSignals:
    """Within it a first signal is only noted, in ``asked``, so that a step can end and be kept; a second one raises
    :class:`Stopped` at once. Signals reach the main thread alone: in any other one nothing changes.

    Args:
        at_once: the first one raises it too.
        then: called at the first one.
    """

    def __init__(self, *, at_once: bool = False, then: Callable[[], None] | None = None):
        self.asked = 0  # number of the signal; 0: none
        self._at_once, self._then = at_once, then
        self._former: dict = {}

    def __enter__(self) -> StopSignals:
        if current_thread() is main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.asked or self._at_once:
            raise Stopped(number=number)
        self.asked = number
        if self._then:
            self._then()
