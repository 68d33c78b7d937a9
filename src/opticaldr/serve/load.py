"""How much work is taken on at once: threads for pictures, and bytes of uploads held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

from opticaldr.serve.errors import ServiceError
from opticaldr.serve.limits import Limits

T = TypeVar("T")


class Workers:
    """A few threads for pictures, so that the event loop never computes; the rest waits in line."""

    def __init__(self, limits: Limits) -> None:
        self._threads = anyio.CapacityLimiter(limits.threads)
        self._most = limits.waiting
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in line, taken before the upload is read; ServiceError 429 if there is none."""
        if self._waiting >= self._most:
            raise ServiceError(
                429,
                "too_many",
                f"Expected at most {self._most} requests at once, found one more; try again soon.",
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, computed in a thread."""
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


class HeldBytes:
    """Counts the bytes of all uploads that are in memory; used by the event loop alone."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.held_bytes
        self._held = 0

    def take(self, count: int) -> None:
        """Counts bytes that have arrived; ServiceError 429 if all uploads are too much together."""
        self._held += count
        if self._held > self._most:
            raise ServiceError(
                429,
                "too_many",
                f"Expected at most {self._most // 2**20} MiB of uploads at once, found more; try "
                "again soon.",
            )

    def give_back(self, count: int) -> None:
        self._held -= count
