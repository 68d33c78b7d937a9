"""A CSV table of face images and videos with labels: any data set that has no adapter of its own.

| column | content |
|---|---|
| `path` (required) | image or video, relative to the CSV's folder or absolute |
| `subject` (required) | identity; a subject never stands in two splits |
| `session`, `task` | parts of a subject's recordings; frames of one recording share them |
| `split` | train, dev or test |
| `time` | time in the recording [s]; for a video: read only the frame at this time |
| `bdi` (or `score`, `severity`) | BDI-II score, 0 to 63 |
| `emotion` | one of types.EMOTIONS |
| `attr:NAME` | attribute NAME in [0, 1] |
| `lm1x`, `lm1y` .. `lm5x`, `lm5y` | five landmarks as fractions of the image's centre square |

The file is comma-separated UTF-8 with a header. An empty cell is an unknown label.
"""

from __future__ import annotations

import csv
import math
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.data.manifest_table import ATTRIBUTE_PREFIX, LANDMARK_COLUMNS, read_rows
from opticaldr.media import frames_at, kind_of, read_image, square_crop, written_whole
from opticaldr.types import EMOTIONS, FaceRecord

CACHE_BYTES = 256 * 2**20
"""Frames kept per process, so that a video is not opened anew for each of its frames."""


def load_manifest(
    path: Path, *, size: int | None = None, frames_per_video: int = 8, name: str = ""
) -> FaceSet:
    """The faces that a manifest lists; images and frames are read on demand.

    Args:
        path: the CSV file.
        size: side to which the centre square is resized [px]; None keeps images as stored.
        frames_per_video: frames, equally spaced in time, of a video without a time.
        name: of the data set in tables; the file's name by default.

    Raises:
        InputError: the file is no such table, a label is out of range, a file is missing, or a
            subject stands in two splits; the message names the line.
    """
    rows = read_rows(path)
    attributes = tuple(
        column.removeprefix(ATTRIBUTE_PREFIX)
        for column in rows[0].cells
        if column.startswith(ATTRIBUTE_PREFIX)
    )
    records: list[FaceRecord] = []
    line_of: dict[str, int] = {}
    split_of: dict[str, tuple[str, int]] = {}
    for row in rows:
        found = row.records(attributes, frames_per_video)
        for record in found:
            first_line = line_of.setdefault(record.key, row.line)
            if first_line != row.line:
                raise row.error(
                    "each image once",
                    f"'{record.key}' in line {first_line} as well",
                    "delete one of the lines",
                )
        person, split = found[0].person, found[0].split
        other_split, first_line = split_of.setdefault(person, (split, row.line))
        if split != other_split:
            raise row.error(
                f"subject '{person}' in one split only",
                f"'{split}' here and '{other_split}' in line {first_line}",
                "move all of a subject's lines to the same split",
            )
        records += found
    read = ManifestReader(path.parent, size, _times_of_videos(records))
    return FaceSet(name or path.stem, tuple(records), read, attributes)


def write_manifest(path: Path, faces: FaceSet, *, root: Path | None = None) -> None:
    """Writes the records of a face set as a manifest that load_manifest reads back.

    Args:
        path: the CSV file; the old file stays if writing fails.
        faces: keys must be file names (of video frames "file@seconds"), absolute or below `root`.
        root: folder that relative keys start from; the CSV's folder by default.
    """
    with_landmarks = any(record.landmarks for record in faces.records)
    header = ["path", "subject", "session", "split", "time", "bdi", "emotion"]
    header += [ATTRIBUTE_PREFIX + attribute for attribute in faces.attribute_names]
    header += LANDMARK_COLUMNS if with_landmarks else ()
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for record in faces.records:
            image, time = split_key(record.key)
            if root is not None and not Path(image).is_absolute():
                image = os.path.relpath(root / image, path.parent)
            attributes = record.attributes or [math.nan] * len(faces.attribute_names)
            landmarks = record.landmarks or [math.nan] * len(LANDMARK_COLUMNS)
            row = [
                image,
                record.person,
                record.recording.removeprefix(f"{record.person}/"),
                record.split,
                (record.time_s or "") if time is None else time,
                _cell(record.severity),
                EMOTIONS[record.emotion] if record.emotion >= 0 else "",
                *map(_cell, attributes),
                *map(_cell, landmarks if with_landmarks else ()),
            ]
            writer.writerow(row)


def split_key(key: str) -> tuple[str, float | None]:
    """File and time [s] of a record's key; the time is None for an image."""
    file, at, time = key.rpartition("@")
    if at and kind_of(Path(key)) is None and kind_of(Path(file)) == "video":
        return file, float(time)
    return key, None


@dataclass
class ManifestReader:
    """Reads a record's image; a class, so that data loader processes can receive it.

    All wanted frames of a video are read in one pass and kept until CACHE_BYTES are used; the
    video that was used longest ago goes first.

    root: folder of the manifest.
    size: side of the result [px], None for images as stored.
    times: the wanted times of each video [s], ascending.
    """

    root: Path
    size: int | None
    times: dict[str, tuple[float, ...]]
    _kept: OrderedDict[str, dict[float, np.ndarray]] = field(default_factory=OrderedDict)

    def __call__(self, record: FaceRecord) -> np.ndarray:
        """(h, w, 3) uint8 sRGB, square if a size is set."""
        file, time = split_key(record.key)
        if time is None:
            return self._sized(read_image(self.root / file))
        if file not in self._kept:
            times = self.times[file]
            frames = frames_at(self.root / file, times)
            self._kept[file] = {
                t: self._sized(frame.image) for t, frame in zip(times, frames, strict=True)
            }
            while len(self._kept) > 1 and self._kept_bytes() > CACHE_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(file)
        return self._kept[file][time]

    def _sized(self, image: np.ndarray) -> np.ndarray:
        return image if self.size is None else square_crop(image, self.size)

    def _kept_bytes(self) -> int:
        return sum(image.nbytes for frames in self._kept.values() for image in frames.values())


def _times_of_videos(records: Sequence[FaceRecord]) -> dict[str, tuple[float, ...]]:
    """The wanted times of each video [s], ascending."""
    times: dict[str, list[float]] = {}
    for record in records:
        file, time = split_key(record.key)
        if time is not None:
            times.setdefault(file, []).append(time)
    return {file: tuple(sorted(wanted)) for file, wanted in times.items()}


def _cell(value: float) -> float | str:
    return "" if math.isnan(value) else value
