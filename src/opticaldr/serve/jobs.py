"""Videos are scored in the background: a short line, progress, cancel, results that are forgotten."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from opticaldr.serve.errors import ErrorBody, ServiceError
from opticaldr.serve.limits import Limits
from opticaldr.types import InputError

State = Literal["queued", "running", "done", "cancelled", "failed"]
ENDED: tuple[State, ...] = ("done", "cancelled", "failed")

Report = Callable[[int], None]
"""Called with the number of frames done; raises Cancelled if the job is to stop."""
Work = Callable[[Report], dict[str, Any]]


class Cancelled(Exception):
    """Raised out of the work of a job that nobody wants any more."""


@dataclass(frozen=True)
class Job:
    """What is known of a job. done, total: frames; total None if the header states no number."""

    id: str
    state: State = "queued"
    done: int = 0
    total: int | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


@dataclass
class _Entry:
    """A job and its work, which holds the video; None once nobody needs it any more."""

    job: Job
    work: Work | None
    cancel: threading.Event = field(default_factory=threading.Event)
    ended_s: float = 0.0


class Jobs:
    """One thread works; jobs and results live in memory and go after a time or a count."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._unfinished = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job")

    @property
    def unfinished(self) -> int:
        """Jobs that run or wait; one cancelled while it runs counts until its batch is over."""
        return self._unfinished

    def check_room(self) -> None:
        """ServiceError 429 if no further job is taken now."""
        if self._unfinished >= self._limits.jobs:
            raise ServiceError(
                429,
                "too_many",
                f"Expected at most {self._limits.jobs} videos at once, found one more; wait until "
                "one is done or cancel it.",
            )

    def submit(self, work: Work, total: int | None) -> Job:
        """Puts work in line."""
        with self._lock:
            self.check_room()
            self._forget_old()
            entry = _Entry(Job(secrets.token_urlsafe(16), total=total), work)
            self._entries[entry.job.id] = entry
            self._unfinished += 1
        self._thread.submit(self._run, entry)
        return entry.job

    def get(self, id: str) -> Job:
        """The job; ServiceError 404 if unknown or forgotten."""
        with self._lock:
            self._forget_old()
            return self._entry(id).job

    def cancel(self, id: str) -> Job:
        """Cancels within a batch of frames, and forgets; what is returned is the last of it."""
        with self._lock:
            entry = self._entry(id)
            del self._entries[id]
            entry.cancel.set()
            if entry.work is not None:  # it waits: its video and its place are free at once
                entry.work = None
                self._unfinished -= 1
            ended = entry.job.state in ENDED
            return entry.job if ended else replace(entry.job, state="cancelled")

    def close(self) -> None:
        """Cancels everything and waits for the batch in work."""
        with self._lock:
            for entry in self._entries.values():
                entry.cancel.set()
        self._thread.shutdown(wait=True)

    def _entry(self, id: str) -> _Entry:
        if id not in self._entries:
            raise ServiceError(
                404, "no_job", "Expected a job, found none of that id; it was deleted or is over."
            )
        return self._entries[id]

    def _run(self, entry: _Entry) -> None:
        with self._lock:
            work, entry.work = entry.work, None
        if work is None:
            return

        def report(done: int) -> None:
            if entry.cancel.is_set():
                raise Cancelled
            entry.job = replace(entry.job, state="running", done=done)

        try:
            report(0)
            result = work(report)
            last = replace(entry.job, state="done", result=result)
        except Cancelled:
            last = replace(entry.job, state="cancelled")
        except ServiceError as error:
            last = replace(entry.job, state="failed", error=_error(error))
        except InputError as error:
            found = ServiceError(415, "not_a_video", str(error))
            last = replace(entry.job, state="failed", error=_error(found))
        except Exception as error:  # noqa: BLE001 a thread has nobody above it who could be told
            found = ServiceError(500, "internal", f"The service failed ({type(error).__name__}).")
            last = replace(entry.job, state="failed", error=_error(found))
        with self._lock:
            entry.job, entry.ended_s = last, self._clock()
            self._unfinished -= 1

    def _forget_old(self) -> None:
        ended = [e for e in self._entries.values() if e.job.state in ENDED]
        ended.sort(key=lambda entry: entry.ended_s)
        surplus = len(ended) - self._limits.kept_results
        for number, entry in enumerate(ended):
            if number < surplus or self._clock() - entry.ended_s > self._limits.kept_seconds:
                del self._entries[entry.job.id]


def _error(error: ServiceError) -> dict[str, Any]:
    return ErrorBody(code=error.code, message=error.message, status=error.status).model_dump()
