"""Lines of a manifest (see data.manifest): cells checked and turned into face records."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from opticaldr.media import kind_of, sample_times
from opticaldr.types import BDI_MAX, EMOTIONS, FaceRecord, InputError

SPLITS = ("train", "dev", "test")
SEVERITY_COLUMNS = ("bdi", "score", "severity")
LANDMARK_COLUMNS = tuple(f"lm{point}{axis}" for point in range(1, 6) for axis in "xy")
REQUIRED_COLUMNS = ("path", "subject")
COLUMNS = (
    *REQUIRED_COLUMNS,
    *("session", "task", "split", "time"),
    *SEVERITY_COLUMNS,
    "emotion",
    *LANDMARK_COLUMNS,
)
ATTRIBUTE_PREFIX = "attr:"


@dataclass(frozen=True)
class Row:
    """One line of a manifest: cells by column, and where it stands for error messages."""

    file: Path
    line: int
    cells: dict[str, str]

    def error(self, expected: str, found: str, advice: str) -> InputError:
        return InputError(
            f"Expected {expected} in line {self.line} of {self.file}, found {found}; {advice}."
        )

    def records(self, attributes: Sequence[str], frames_per_video: int) -> list[FaceRecord]:
        """The row's image, or the frames of its video."""
        file, kind = self._image()
        subject = self.cells["subject"]
        if not subject:
            raise self.error("a subject", "an empty cell", "name the person")
        parts = [part for column in ("session", "task") if (part := self.cells.get(column))]
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
            landmarks=self._landmarks(),
        )
        if kind == "image":
            return [record]
        times: tuple[float, ...] = (time,)
        if math.isnan(time):
            times = sample_times(self.file.parent / file, frames_per_video)
        return [replace(record, key=f"{file}@{t}", time_s=t) for t in times]

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
        if not (self.file.parent / file).is_file():
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

    def _landmarks(self) -> tuple[float, ...]:
        # A mouth may lie outside the crop, a pixel coordinate lies far outside.
        values = tuple(self._number(column, low=-1, high=2) for column in LANDMARK_COLUMNS)
        unknown = sum(map(math.isnan, values))
        if unknown == len(values):
            return ()
        if unknown:
            raise self.error(
                "all of lm1x .. lm5y or none", f"{unknown} empty", "fill or empty all of them"
            )
        return values


def read_rows(path: Path) -> list[Row]:
    """The rows of a manifest below its header, which is checked."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"Expected a manifest (CSV) at {path}, found '{error.strerror}'; check the path."
        ) from None
    except UnicodeDecodeError:
        raise InputError(
            f"Expected UTF-8 text in {path}, found another encoding; save the table as CSV UTF-8."
        ) from None
    reader = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, [c.strip() for c in cells]) for cells in reader if any(cells)]
    except csv.Error as error:
        raise InputError(
            f"Expected comma-separated values in {path}, found '{error}' in line "
            f"{reader.line_num}; save the table as CSV UTF-8."
        ) from None
    if len(lines) < 2:
        found = "only a header" if lines else "an empty file"
        raise InputError(
            f"Expected a header and at least one row in {path}, found {found}; "
            "add one line per image or video."
        )
    (_, header), *body = lines
    _check_header(header, path)
    for line, cells in body:
        if len(cells) != len(header):
            raise InputError(
                f"Expected {len(header)} cells in line {line} of {path}, found {len(cells)}; "
                "quote cells that contain commas."
            )
    return [Row(path, line, dict(zip(header, cells, strict=True))) for line, cells in body]


def _check_header(header: Sequence[str], path: Path) -> None:
    """Raises InputError unless all columns are known, none stands twice, none required is missing."""
    if len(header) == 1 and ";" in header[0]:
        raise InputError(
            f"Expected commas between the columns of {path}, found semicolons; "
            "save the table as CSV with commas."
        )
    for column in header:
        if column in COLUMNS or column.removeprefix(ATTRIBUTE_PREFIX) not in ("", column):
            continue
        near = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"Expected only known columns in {path}, found '{column}'; did you mean '{near}', "
            f"or '{ATTRIBUTE_PREFIX}{column}' for an attribute?"
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
