"""Renders jobs in several processes and keeps the result on disk; next time it is read from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from opticaldr.data.synthetic.worker import LABELS, Job, SessionJob
from opticaldr.types import FaceRecord

RENDER_VERSION = 3
"""Part of the cache key: raise it whenever an image or a label changes."""
IN_PROCESS = 64
"""Sets up to this many images are rendered without worker processes, which take a second to start."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""
Render = Callable[[Job | SessionJob], tuple[np.ndarray, np.ndarray]]
"""Images (n, size, size, 3) and labels (n, len(LABELS)) of a job, whose `count` is n."""


@dataclass(frozen=True)
class Rows:
    """Reads a record's image from the array; a class, so that data loaders can pickle it."""

    images: np.ndarray
    row_of: dict[str, int]

    def __call__(self, record: FaceRecord) -> np.ndarray:
        return np.array(self.images[self.row_of[record.key]])


def load(
    kind: str,
    jobs: Sequence[Job] | Sequence[SessionJob],
    render: Render,
    *,
    cache_dir: Path | None,
    progress: Progress | None,
    workers: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size, 3), memory-mapped where possible, and labels of all jobs in order."""
    folder = cache_dir or _default_cache()
    size = jobs[0].size
    identity = [RENDER_VERSION, kind, [astuple(job) for job in jobs]]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]
    paths = folder / f"{kind}-{digest}.npy", folder / f"{kind}-{digest}-labels.npy"
    shape = (sum(job.count for job in jobs), size, size, 3)
    cached = _read_cache(paths, shape)
    if cached is not None:
        if progress is not None:
            progress(shape[0], shape[0])
        return cached
    temporary = [path.with_name(f"{path.stem}.{os.getpid()}.partial") for path in paths]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        images = np.lib.format.open_memmap(temporary[0], mode="w+", dtype=np.uint8, shape=shape)
    except OSError:
        images = np.empty(shape, dtype=np.uint8)
        return images, _render_all(jobs, render, images, progress, workers)
    try:
        labels = _render_all(jobs, render, images, progress, workers)
        images.flush()
        del images
        with temporary[1].open("wb") as file:
            np.save(file, labels, allow_pickle=False)
        # Labels last: a set counts as complete only with both files.
        for source, target in zip(temporary, paths, strict=True):
            os.replace(source, target)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return np.load(paths[0], mmap_mode="r", allow_pickle=False), labels


def _default_cache() -> Path:
    given = os.environ.get("OPTICALDR_CACHE")
    return Path(given) if given else Path.home() / ".cache/opticaldr/synthetic"


def _read_cache(
    paths: tuple[Path, Path], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The stored set, or None if it is missing or broken."""
    try:
        images = np.load(paths[0], mmap_mode="r", allow_pickle=False)
        labels = np.load(paths[1], allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = images.shape == shape and images.dtype == np.uint8
    return (images, labels) if whole and labels.shape == (shape[0], len(LABELS)) else None


def _render_all(
    jobs: Sequence[Job] | Sequence[SessionJob],
    render: Render,
    images: np.ndarray,
    progress: Progress | None,
    workers: int | None,
) -> np.ndarray:
    """Fills images and returns labels; jobs are shared out among processes."""
    total = len(images)
    labels = np.empty((total, len(LABELS)), dtype=np.float32)
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers == 1 or total <= IN_PROCESS:
        _collect(map(render, jobs), images, labels, progress)
        return labels
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    # Closing the results drops the jobs that wait, so that Ctrl-C ends soon.
    with pool, closing(pool.map(render, jobs)) as results:
        _collect(results, images, labels, progress)
    return labels


def _collect(
    results: Iterable[tuple[np.ndarray, np.ndarray]],
    images: np.ndarray,
    labels: np.ndarray,
    progress: Progress | None,
) -> None:
    done = 0
    for pictures, table in results:
        rows = slice(done, done + len(pictures))
        images[rows], labels[rows] = pictures, table
        done = rows.stop
        if progress is not None:
            progress(done, len(images))
