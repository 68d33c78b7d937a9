"""Wall time of a piece of work, and the memory that it takes in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

Work = Callable[[], object]

SHORTEST_S = 0.25
"""Work is repeated until this long has passed, so that quick work is not timed by one call."""
MIB = 2**20


def seconds_per_call(work: Work, device: torch.device) -> float:
    """Mean wall time of as many calls as fill SHORTEST_S, at least one [s]."""
    _wait(device)
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < SHORTEST_S:
        work()
        _wait(device)
        calls += 1
    return (time.perf_counter() - start) / calls


def peak_mib(
    prepare: Callable[..., Work], *arguments: object, device: torch.device
) -> float | None:
    """Most memory [MiB] that prepare(*arguments) and one call of its work hold above the start.

    On a CPU the work runs in a new process, so caches that the first call fills are included, and
    resident memory is read from /proc; None where the system has no such files. On a GPU it is
    what the allocator hands out, without caches that earlier calls have filled.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        prepare(*arguments)()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    if not Path("/proc/self/status").exists():
        return None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_rise, prepare, arguments, torch.get_num_threads()).result()


def _rise(prepare: Callable[..., Work], arguments: tuple[object, ...], threads: int) -> float:
    torch.set_num_threads(threads)
    tiny = torch.ones(8, 8, requires_grad=True)  # loads the libraries of FFT and differentiation
    torch.fft.ifft2(torch.fft.fft2(tiny)).abs().sum().backward()
    before = _resident_mib("VmRSS")
    prepare(*arguments)()
    return max(0.0, _resident_mib("VmHWM") - before)


def _resident_mib(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else 0.0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
