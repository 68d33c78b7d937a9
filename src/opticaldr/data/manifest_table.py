"""Lines of a manifest (see data.manifest): cells checked and turned into face records."""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import ModuleType

from opticaldr.media import kind_of, sample_times
from opticaldr.types import BDI_MAX, EMOTIONS, FaceRecord, InputError

BATCH_ROWS = 4096
"""Rows of a Parquet file that are in memory at once."""

SPLITS = ("train", "dev", "test")
SEVERITY_COLUMNS = ("bdi", "score", "severity")
LANDMARK_COLUMNS = tuple(f"lm{point}{axis}" for point in range(1, 6) for axis in "xy")
POINT_COLUMNS = tuple(f"p{point}{axis}" for point in range(1, 6) for axis in "xy")
REQUIRED_COLUMNS = ("path", "subject")
COLUMNS = (
    *REQUIRED_COLUMNS,
    *("session", "task", "split", "time"),
    *SEVERITY_COLUMNS,
    "emotion",
    *LANDMARK_COLUMNS,
    *POINT_COLUMNS,
    "captured_by",
)
ATTRIBUTE_PREFIX = "attr:"
GROUP_PREFIX = "group:"


@dataclass(frozen=True)
class Row:
    """One line of a manifest: cells by column, and where it stands for error messages."""

    file: Path
    place: str
    cells: dict[str, str]
    is_file: Callable[[Path], bool] = Path.is_file

    def error(self, expected: str, found: str, advice: str) -> InputError:
        return InputError(
            f"Expected {expected} in {self.place} of {self.file}, found {found}; {advice}."
        )

    def records(
        self, attributes: Sequence[str], groups: Sequence[str], frames_per_video: int
    ) -> list[FaceRecord]:
        """The row's image, or the frames of its video."""
        file, kind = self._image()
        subject = self.cells["subject"]
        if not subject:
            raise self.error("a subject", "an empty cell", "name the person")
        session, task = self.cells.get("session", ""), self.cells.get("task", "")
        parts = [part for part in (session, task) if part]
        if kind == "video" and not parts:
            parts = [file]
        time = self._number("time")
        emotion = self._choice("emotion", EMOTIONS)
        record = FaceRecord(
            key=file,
            person=subject,
            recording="/".join([subject, *parts]) if parts else "",
            time_s=0.0 if math.isnan(time) else time,
            split=self._choice("split", SPLITS),
            emotion=EMOTIONS.index(emotion) if emotion else -1,
            severity=self._severity(),
            attributes=tuple(
                self._number(ATTRIBUTE_PREFIX + name, low=0, high=1) for name in attributes
            ),
            landmarks=self._all_or_none(LANDMARK_COLUMNS, low=-1, high=2),
            session=_session_key(subject, session),
            task=task,
            groups=tuple(self.cells[GROUP_PREFIX + name] for name in groups),
        )
        if kind == "image":
            return [record]
        times: tuple[float, ...] = (time,)
        if math.isnan(time):
            times = sample_times(self.file.parent / file, frames_per_video)
        return [replace(record, key=f"{file}@{t}", time_s=t) for t in times]

    def points(self) -> tuple[float, ...]:
        """The five points by which the image is aligned [px]; empty if they are unknown."""
        return self._all_or_none(POINT_COLUMNS)

    def _image(self) -> tuple[str, str]:
        """The path cell and the kind of file that it names."""
        file = self.cells["path"]
        if not file:
            raise self.error("a path", "an empty cell", "name an image or a video")
        kind = kind_of(Path(file))
        if kind is None:
            raise self.error(
                "an image or a video", f"'{file}'", "use a suffix such as .jpg, .png or .mp4"
            )
        if not self.is_file(self.file.parent / file):
            raise self.error(
                f"the file {self.file.parent / file}",
                "nothing there",
                "correct the path or delete the line",
            )
        return file, kind

    def _number(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """The number in a cell; NaN if the cell is empty or the column is absent."""
        cell = self.cells.get(column, "")
        if not cell:
            return math.nan
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            wanted = f"a number in [{low:g}, {high:g}]" if low > -math.inf else "a number"
            raise self.error(
                f"{wanted} as {column}", f"'{cell}'", "leave the cell empty if it is unknown"
            )
        return value

    def _choice(self, column: str, choices: Sequence[str]) -> str:
        cell = self.cells.get(column, "")
        if cell and cell not in choices:
            raise self.error(
                f"{column} to be one of {', '.join(choices)}",
                f"'{cell}'",
                "leave the cell empty if it is unknown",
            )
        return cell

    def _severity(self) -> float:
        column = next((c for c in SEVERITY_COLUMNS if c in self.cells), SEVERITY_COLUMNS[0])
        return self._number(column, low=0, high=BDI_MAX)

    def _all_or_none(
        self, columns: Sequence[str], *, low: float = -math.inf, high: float = math.inf
    ) -> tuple[float, ...]:
        """The numbers of columns that are known together or not at all; empty if unknown.

        A landmark may lie outside the crop; a pixel coordinate lies far outside.
        """
        if columns[0] not in self.cells:
            return ()
        values = tuple(self._number(column, low=low, high=high) for column in columns)
        unknown = sum(map(math.isnan, values))
        if unknown == len(values):
            return ()
        if unknown:
            raise self.error(
                f"all of {columns[0]} .. {columns[-1]} or none",
                f"{unknown} empty",
                "fill or empty all of them",
            )
        return values


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a manifest below its header, which is checked; one at a time."""
    lines = _parquet_lines(path) if path.suffix.lower() == ".parquet" else _csv_lines(path)
    _, header = next(lines, ("", []))
    if not header:
        raise InputError(
            f"Expected a header and at least one row in {path}, found an empty file; "
            "add one line per image or video."
        )
    _check_header(header, path)
    is_file = lru_cache(maxsize=1024)(Path.is_file)  # an index names a video once for each frame
    empty = True
    for place, cells in lines:
        if len(cells) != len(header):
            raise InputError(
                f"Expected {len(header)} cells in {place} of {path}, found {len(cells)}; "
                "quote cells that contain commas."
            )
        empty = False
        yield Row(path, place, dict(zip(header, cells, strict=True)), is_file)
    if empty:
        raise InputError(
            f"Expected a header and at least one row in {path}, found only a header; "
            "add one line per image or video."
        )


def write_parquet(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    """Writes rows as a Parquet table of text; numbers keep every digit."""
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(column, arrow.string()) for column in header])
    remaining = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while chunk := [[str(cell) for cell in row] for row in islice(remaining, BATCH_ROWS)]:
            columns = [list(column) for column in zip(*chunk, strict=True)]
            writer.write_table(arrow.table(dict(zip(header, columns, strict=True)), schema))


def _csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of the header and of every line that is not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            try:
                for cells in reader:
                    if any(cells):
                        yield f"line {reader.line_num}", [cell.strip() for cell in cells]
            except csv.Error as error:
                raise InputError(
                    f"Expected comma-separated values in {path}, found '{error}' in line "
                    f"{reader.line_num}; save the table as CSV UTF-8."
                ) from None
    except UnicodeDecodeError:
        raise InputError(
            f"Expected UTF-8 text in {path}, found another encoding; save the table as CSV UTF-8."
        ) from None
    except OSError as error:
        raise InputError(
            f"Expected a manifest (CSV or Parquet) at {path}, found '{error.strerror}'; "
            "check the path."
        ) from None


def _parquet_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Column names, then place and cells of every row, as text."""
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            yield "the header", list(file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(BATCH_ROWS):
                columns = [column.to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield f"row {number}", [_as_text(cell) for cell in cells]
    except (OSError, arrow.ArrowException) as error:
        raise InputError(
            f"Expected a manifest (CSV or Parquet) at {path}, found '{error}'; check the file."
        ) from None


def _as_text(cell: object) -> str:
    if cell is None or cell != cell:
        return ""
    return str(int(cell)) if isinstance(cell, bool) else str(cell).strip()


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "Expected the package pyarrow for Parquet files, found none; run: pip install pyarrow."
        ) from None
    return pyarrow, pyarrow.parquet


def _session_key(subject: str, session: str) -> str:
    """What a label belongs to: "subject/session", or the session where it names its subject."""
    if not session or re.match(rf"{re.escape(subject)}[_/-]", session):
        return session
    return f"{subject}/{session}"


def _check_header(header: Sequence[str], path: Path) -> None:
    """Raises InputError unless all columns are known, none stands twice, none required is missing."""
    if len(header) == 1 and ";" in header[0]:
        raise InputError(
            f"Expected commas between the columns of {path}, found semicolons; "
            "save the table as CSV with commas."
        )
    for column in header:
        prefixed = [column.removeprefix(prefix) for prefix in (ATTRIBUTE_PREFIX, GROUP_PREFIX)]
        if column in COLUMNS or any(name not in ("", column) for name in prefixed):
            continue
        near = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"Expected only known columns in {path}, found '{column}'; did you mean '{near}', "
            f"or '{ATTRIBUTE_PREFIX}{column}' for an attribute, '{GROUP_PREFIX}{column}' for a group?"
        )
    for column in REQUIRED_COLUMNS:
        if column not in header:
            raise InputError(
                f"Expected a column '{column}' in {path}, found only {', '.join(header)}; add it."
            )
    severity = [column for column in header if column in SEVERITY_COLUMNS]
    twice = [column for column in header if header.count(column) > 1] or severity
    if len(twice) > 1:
        raise InputError(
            f"Expected each column once in {path}, found {' and '.join(twice)}; delete one."
        )
