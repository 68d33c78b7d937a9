"""Sets of synthetic faces: photographs and recordings, rendered once and cached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic.scenes import ATTRIBUTES
from opticaldr.data.synthetic.worker import LABELS, Job, render_person
from opticaldr.types import FaceRecord, InputError

RENDER_VERSION = 3
"""Part of the cache key: raise it whenever an image or a label changes."""
IN_PROCESS = 64
"""Sets up to this many images are rendered without worker processes, which take a second to start."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def photos(
    people: range,
    per_person: int,
    *,
    seed: int,
    size: int = 128,
    split: str = "",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FaceSet:
    """Photographs of synthetic people, aligned to the five-point template.

    Expression (an emotion label), pose, light and background change from image to image.

    Args:
        people: numbers of the people; a person is the same in every set with the same seed.
        per_person: images of each.
        seed: of everything that is drawn.
        size: side of the images [px].
        split: written into every record.
        cache_dir: where rendered sets are kept; default $OPTICALDR_CACHE, else
            ~/.cache/opticaldr/synthetic. If it cannot be written the images stay in memory.
        progress: called with (images done, images in all).
        workers: processes; default one per core. The images do not depend on it.
    """
    jobs = [Job(seed, index, per_person, size) for index in _checked(people, per_person, size)]
    images, labels = _load("photos", jobs, cache_dir, progress, workers)
    return _face_set("synthetic photos", jobs, images, labels, split)


def recordings(
    people: range,
    frames: int,
    *,
    seed: int,
    size: int = 128,
    split: str = "",
    duration_s: float = 20.0,
    cue_gain: float = 1.0,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FaceSet:
    """One recording per synthetic person: equally spaced frames, labelled with severity.

    The crop is fixed for a recording (aligned on the neutral frontal face), so that head motion
    is seen as a fixed camera sees it. Arguments as for `photos`; duration_s in seconds; cue_gain
    above 1 exaggerates every cue of severity (see cues.draw_session).
    """
    if duration_s <= 0:
        raise InputError(f"Expected a duration above 0 s, found {duration_s}; give more seconds.")
    checked = _checked(people, frames, size)
    jobs = [Job(seed, index, frames, size, duration_s, cue_gain) for index in checked]
    images, labels = _load("recordings", jobs, cache_dir, progress, workers)
    return _face_set("synthetic recordings", jobs, images, labels, split)


@dataclass(frozen=True)
class _Rows:
    """Reads a record's image from the array; a class, so that data loaders can pickle it."""

    images: np.ndarray
    row_of: dict[str, int]

    def __call__(self, record: FaceRecord) -> np.ndarray:
        return np.array(self.images[self.row_of[record.key]])


def _checked(people: range, count: int, size: int) -> range:
    if len(people) == 0 or min(people) < 0 or count < 1 or size < 16:
        raise InputError(
            "Expected at least one person (numbers from 0), one image each and 16 pixels, found "
            f"{people}, {count} images, {size} pixels; change these numbers."
        )
    return people


def _face_set(
    name: str, jobs: list[Job], images: np.ndarray, labels: np.ndarray, split: str
) -> FaceSet:
    """Records and images of a set; `split` is written into every record."""
    records, row_of = [], {}
    for row, values in enumerate(labels.tolist()):
        job = jobs[row // jobs[0].count]
        person = f"synthetic-{job.index:05d}"
        label = dict(zip(LABELS, values, strict=True))
        recording = f"{person}-s1" if job.duration_s > 0 else ""
        key = f"{recording or person}/{row % job.count:04d}"
        row_of[key] = row
        records.append(
            FaceRecord(
                key=key,
                person=person,
                recording=recording,
                time_s=label["time_s"],
                split=split,
                emotion=int(label["emotion"]),
                severity=label["severity"],
                attributes=tuple(label[name] for name in ATTRIBUTES),
                landmarks=tuple(values[-10:]),
            )
        )

    return FaceSet(name, tuple(records), _Rows(images, row_of), ATTRIBUTES, synthetic=True)


def _load(
    kind: str,
    jobs: list[Job],
    cache_dir: Path | None,
    progress: Progress | None,
    workers: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size, 3), memory-mapped where possible, and labels of a set."""
    folder = cache_dir or _default_cache()
    first = jobs[0]
    identity = [RENDER_VERSION, kind, [job.index for job in jobs], astuple(first)]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]
    paths = folder / f"{kind}-{digest}.npy", folder / f"{kind}-{digest}-labels.npy"
    shape = (len(jobs) * first.count, first.size, first.size, 3)
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
        return images, _render_all(jobs, images, progress, workers)
    try:
        labels = _render_all(jobs, images, progress, workers)
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
    jobs: list[Job], images: np.ndarray, progress: Progress | None, workers: int | None
) -> np.ndarray:
    """Fills images and returns labels; people are shared out among processes."""
    count, total = jobs[0].count, len(images)
    labels = np.empty((total, len(LABELS)), dtype=np.float32)
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers == 1 or total <= IN_PROCESS:
        _collect(map(render_person, jobs), images, labels, count, progress)
        return labels
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    # Closing the results drops the people that wait, so that Ctrl-C ends soon.
    with pool, closing(pool.map(render_person, jobs)) as results:
        _collect(results, images, labels, count, progress)
    return labels


def _collect(
    results: Iterable[tuple[np.ndarray, np.ndarray]],
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    progress: Progress | None,
) -> None:
    for i, (pictures, table) in enumerate(results):
        rows = slice(i * count, (i + 1) * count)
        images[rows], labels[rows] = pictures, table
        if progress is not None:
            progress(rows.stop, len(images))
