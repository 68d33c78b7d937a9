"""Ctrl-C that waits for the end of a training step, so that no checkpoint holds half of one.

SIGTERM, with which batch systems and launchers end a job, counts as Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PatientInterrupt:
    """While the block runs, Ctrl-C only sets `pending`; a second one interrupts at once.

    Outside the main thread, which alone receives signals, it does nothing.
    """

    def __init__(self) -> None:
        self.pending = False
        self.cut = False
        """True if a second Ctrl-C may have stopped the work half-way."""

    def __enter__(self) -> PatientInterrupt:
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        if self._active:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            self.cut = True
            raise KeyboardInterrupt
        self.pending = True
