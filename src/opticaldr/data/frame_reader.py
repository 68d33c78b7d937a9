"""The image of a record on disk: a photograph or a frame of a video, as it is, square or aligned."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from opticaldr.data.aligned_video import cut
from opticaldr.media import frames_at, kind_of, read_image, square_crop
from opticaldr.types import FaceRecord

CACHE_BYTES = 256 * 2**20
"""Frames kept per process, so that a video is not opened anew for each of its frames."""

CHUNK = 16
"""Frames of a video that are read in one go; an index of a long video has thousands of them."""

ALIGNED_SIDE = 256
"""Side of an aligned crop where no size is asked for [px] (depression.md 1.3)."""


def split_key(key: str) -> tuple[str, float | None]:
    """File and time [s] of a record's key "file@time"; the time is None for an image."""
    file, at, time = key.rpartition("@")
    if at and kind_of(Path(key)) is None and kind_of(Path(file)) == "video":
        return file, float(time)
    return key, None


@dataclass
class FrameReader:
    """Reads a record's image; a class, so that data loader processes can receive it.

    Wanted frames of a video are read CHUNK at a time and kept until CACHE_BYTES are used; the
    chunk that was used longest ago goes first.

    root: folder that keys start from.
    size: side of the result [px]; None keeps images as stored.
    times: the wanted times of each video [s], ascending.
    points: by key, five points x1, y1 .. x5, y5 [px of the upright image]; such an image is aligned
        to the five-point template, any other is cut to its centre square.
    """

    root: Path
    size: int | None
    times: dict[str, tuple[float, ...]] = field(default_factory=dict)
    points: Mapping[str, Sequence[float]] = field(default_factory=dict)
    _kept: OrderedDict[tuple[str, int], dict[float, np.ndarray]] = field(
        default_factory=OrderedDict, repr=False
    )
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)  # threads read ahead

    @classmethod
    def of(
        cls,
        records: Iterable[FaceRecord],
        root: Path,
        size: int | None,
        points: Mapping[str, Sequence[float]] | None = None,
    ) -> FrameReader:
        """A reader for these records."""
        times: dict[str, list[float]] = {}
        for record in records:
            file, time = split_key(record.key)
            if time is not None:
                times.setdefault(file, []).append(time)
        ascending = {file: tuple(sorted(wanted)) for file, wanted in times.items()}
        return cls(root, size, ascending, points or {})

    def __call__(self, record: FaceRecord) -> np.ndarray:
        """(h, w, 3) uint8 sRGB, square if a size is set or points are known."""
        file, time = split_key(record.key)
        if time is None:
            return self._cut(record.key, read_image(self.root / file))
        times = self.times[file]
        chunk = times.index(time) // CHUNK
        with self._lock:
            if (file, chunk) not in self._kept:
                self._kept[file, chunk] = self._read(
                    file, times[CHUNK * chunk : CHUNK * (chunk + 1)]
                )
                while len(self._kept) > 1 and self._kept_bytes() > CACHE_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((file, chunk))
            return self._kept[file, chunk][time]

    def _read(self, file: str, times: Sequence[float]) -> dict[float, np.ndarray]:
        frames = frames_at(self.root / file, times)
        return {
            time: self._cut(f"{file}@{time}", frame.image)
            for time, frame in zip(times, frames, strict=True)
        }

    def _cut(self, key: str, image: np.ndarray) -> np.ndarray:
        if key in self.points:
            return cut(image, self.points[key], self.size or ALIGNED_SIDE)
        return image if self.size is None else square_crop(image, self.size)

    def _kept_bytes(self) -> int:
        return sum(image.nbytes for frames in self._kept.values() for image in frames.values())
