"""A table of face images and videos with labels: any data set that has no adapter of its own.

| column | content |
|---|---|
| `path` (required) | image or video, relative to the table's folder or absolute |
| `subject` (required) | identity; see below about subjects in two splits |
| `session`, `task` | parts of a subject's recordings; frames of one recording share them |
| `split` | train, dev or test |
| `time` | time in the recording [s]; for a video: read only the frame at this time |
| `bdi` (or `score`, `severity`) | BDI-II score of the session, 0 to 63 |
| `emotion` | one of types.EMOTIONS |
| `attr:NAME` | attribute NAME in [0, 1] |
| `group:NAME` | group of the person for fairness tables, such as group:sex |
| `lm1x`, `lm1y` .. `lm5x`, `lm5y` | five landmarks as fractions of the image's centre square |
| `p1x`, `p1y` .. `p5x`, `p5y` | the same points in pixels of the upright image: it is aligned by them |
| `captured_by` | sha256 of the lens.json through which all images were recorded |

A .csv file is comma-separated UTF-8 with a header; a .parquet file has the same columns. An empty
cell is an unknown label. A session's key is "subject/session", or the cell itself where it starts
with the subject ("203_1" of "203").

A subject may stand in two splits if the table has rated recordings, as AVEC's official partitions
have it: data.protocol then keeps people apart. In a table of photographs that is a mistake.
"""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader, split_key
from opticaldr.data.manifest_table import (
    ATTRIBUTE_PREFIX,
    GROUP_PREFIX,
    LANDMARK_COLUMNS,
    POINT_COLUMNS,
    Row,
    read_rows,
    write_parquet,
)
from opticaldr.media import kind_of, written_whole
from opticaldr.types import EMOTIONS, FaceRecord, InputError


def load_manifest(
    path: Path, *, size: int | None = None, frames_per_video: int = 8, name: str = ""
) -> FaceSet:
    """The faces that a manifest lists; images and frames are read on demand.

    Args:
        path: the CSV or Parquet file.
        size: side to which the centre square, or the aligned crop, is resized [px]; None keeps
            images as stored.
        frames_per_video: frames, equally spaced in time, of a video without a time.
        name: of the data set in tables; the file's name by default.

    Raises:
        InputError: the file is no such table, a label is out of range, a file is missing, a
            session has two scores, or photographs of a subject stand in two splits; the message
            names the line.
    """
    rows = iter(read_rows(path))
    first = next(rows)
    attributes = _named(first, ATTRIBUTE_PREFIX)
    groups = _named(first, GROUP_PREFIX)
    checks = _Checks()
    records: list[FaceRecord] = []
    points: dict[str, Sequence[float]] = {}
    for row in _chain(first, rows):
        found = row.records(attributes, groups, frames_per_video)
        checks.see(row, found)
        records += found
        if pixels := row.points():
            points |= dict.fromkeys((record.key for record in found), array("d", pixels))
    checks.finish()
    return FaceSet(
        name or path.stem,
        tuple(records),
        FrameReader.of(records, path.parent, size, points),
        attributes,
        group_names=groups,
        captured_by=checks.captured_by,
    )


def write_manifest(
    path: Path,
    faces: FaceSet,
    *,
    root: Path | None = None,
) -> None:
    """Writes the records of a face set as a manifest that load_manifest reads back.

    Args:
        path: the .csv or .parquet file; the old file stays if writing fails.
        faces: keys must be file names (of video frames "file@seconds"), absolute or below `root`.
        root: folder that relative keys start from; the table's folder by default.
    """
    points = faces.read.points if isinstance(faces.read, FrameReader) else {}
    with_landmarks = any(record.landmarks for record in faces.records)
    header = ["path", "subject", "session", "task", "split", "time", "bdi", "emotion"]
    header += [ATTRIBUTE_PREFIX + attribute for attribute in faces.attribute_names]
    header += [GROUP_PREFIX + group for group in faces.group_names]
    header += LANDMARK_COLUMNS if with_landmarks else ()
    header += POINT_COLUMNS if points else ()
    header += ["captured_by"] if faces.captured_by else []

    def rows() -> Iterator[list[str | float]]:
        for record in faces.records:
            attributes = record.attributes or (math.nan,) * len(faces.attribute_names)
            landmarks = record.landmarks or (math.nan,) * len(LANDMARK_COLUMNS)
            pixels = points.get(record.key, (math.nan,) * len(POINT_COLUMNS))
            image, time = split_key(record.key)
            if root is not None and not Path(image).is_absolute():
                image = os.path.relpath(root / image, path.parent)
            yield [
                image,
                record.person,
                _session_cell(record),
                record.task,
                record.split,
                (record.time_s or "") if time is None else time,
                _cell(record.severity),
                EMOTIONS[record.emotion] if record.emotion >= 0 else "",
                *map(_cell, attributes),
                *(record.groups or ("",) * len(faces.group_names)),
                *map(_cell, landmarks if with_landmarks else ()),
                *map(_cell, pixels if points else ()),
                *([faces.captured_by] if faces.captured_by else []),
            ]

    try:
        with written_whole(path) as partial:
            if path.suffix.lower() == ".parquet":
                write_parquet(partial, header, rows())
            else:
                with partial.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(header)
                    writer.writerows(rows())
    except UnicodeEncodeError as error:
        raise InputError(
            f"Expected file names in UTF-8 for {path}, found {error.object!r}; rename the file."
        ) from None


@dataclass
class _Checks:
    """What no single row can tell: each image once, one score a session, people in one split."""

    captured_by: str = ""
    _place_of_key: dict[str, str] = field(default_factory=dict)
    _split_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    _score_of: dict[str, tuple[float, str, str]] = field(default_factory=dict)
    _first: bool = True
    _crossing: InputError | None = None
    _rated: bool = False

    def see(self, row: Row, records: Sequence[FaceRecord]) -> None:
        for record in records:
            place = self._place_of_key.setdefault(record.key, row.place)
            if place != row.place:
                raise row.error(
                    "each image once",
                    f"'{record.key}' in {place} as well",
                    "delete one of the lines",
                )
        record = records[0]
        self._see_split(row, record)
        if record.recording and not math.isnan(record.severity):
            self._rated = True
            self._see_score(row, record)
        lens = row.cells.get("captured_by", "")
        if not self._first and lens != self.captured_by:
            raise row.error(
                "one lens for all images as captured_by",
                f"'{lens}' after '{self.captured_by}'",
                "keep captures of each lens in a table of their own",
            )
        self._first, self.captured_by = False, lens

    def _see_split(self, row: Row, record: FaceRecord) -> None:
        split, place = self._split_of.setdefault(record.person, (record.split, row.place))
        if record.split != split and self._crossing is None:
            self._crossing = row.error(
                f"subject '{record.person}' in one split only",
                f"'{record.split}' here and '{split}' in {place}",
                "move all of a subject's lines to the same split",
            )

    def _see_score(self, row: Row, record: FaceRecord) -> None:
        unit = record.session or record.recording
        stated = (record.severity, record.split, record.person)
        known = self._score_of.setdefault(unit, (*stated, row.place))
        if known[:3] != stated:
            names = zip(("score", "split", "subject"), known[:3], stated, strict=True)
            what, before, here = next(each for each in names if each[1] != each[2])
            raise row.error(
                f"one {what} for session '{unit}'",
                f"'{here}' here and '{before}' in {known[3]}",
                "correct one of them",
            )

    def finish(self) -> None:
        """Raises the error of a subject in two splits if the table has no rated recordings."""
        if self._crossing is not None and not self._rated:
            raise self._crossing


def _named(row: Row, prefix: str) -> tuple[str, ...]:
    """Names of the columns with a prefix, in the order of the table."""
    return tuple(c.removeprefix(prefix) for c in row.cells if c.startswith(prefix))


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _session_cell(record: FaceRecord) -> str:
    """The cell from which session and recording of the record come back."""
    if record.session:
        return record.session.removeprefix(f"{record.person}/")
    if kind_of(Path(split_key(record.key)[0])) == "video" or record.task:
        return ""  # a video without a session is a recording of its own
    return record.recording.removeprefix(f"{record.person}/")


def _cell(value: float) -> float | str:
    return "" if math.isnan(value) else value
