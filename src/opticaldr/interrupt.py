"""Ctrl-C that waits for the end of a training step, so that no checkpoint holds half of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType


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
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed since the block began."""
        if self.pending:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            self.cut = True
            raise KeyboardInterrupt
        self.pending = True
