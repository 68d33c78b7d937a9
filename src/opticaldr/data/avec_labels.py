"""BDI-II labels of AVEC: one file per session, or one table of paths. Never by the order of rows.

| layout (depression.md 1.2) | content |
|---|---|
| `.../203_1_Depression.csv` | one integer; {Training,Development}_DepressionLabels/ names a split |
| any other .csv with columns `path,label` | a path that holds an AVEC name, and an integer |

Loaders of other projects cut such a table by row number ([:100] [100:200] [200:]). Here a split
comes from the folder in a path, and a table of that length must agree with it row by row.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from opticaldr.data.recordings import parse_name
from opticaldr.media import shown
from opticaldr.types import BDI_MAX

SPLIT_OF_FOLDER = {
    "training": "train",
    "train": "train",
    "development": "dev",
    "dev": "dev",
    "testing": "test",
    "test": "test",
}
"""Partition folders, official and re-packed, in lower case."""

ROWS_PER_SPLIT = {300: 100, 150: 50}
"""Length of a table that others cut by row number -> rows of each split (depression.md 1.2)."""

_LABEL_FILE = re.compile(r"(\d+_\d+)_Depression\.csv", re.IGNORECASE)
_LABEL_FOLDER = "_depressionlabels"


@dataclass
class Labels:
    """What the label files say; collected while they are read.

    severity: session -> score, and source: session -> the file that says so.
    splits: session -> split that a label's path names -> that path.
    slices: (session, split by row number, table) of tables that others cut by row number.
    problems: sentences about what contradicts itself or is no score.
    """

    severity: dict[str, int] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    splits: dict[str, dict[str, str]] = field(default_factory=dict)
    slices: list[tuple[str, str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, session: str, cell: str, path: PurePosixPath, source: str) -> None:
        """Notes one label; `path` may name a split, `source` is what an error message names."""
        if split := split_of(path):
            self.splits.setdefault(session, {}).setdefault(split, source)
        score = _score(cell)
        if score is None:
            self.problems.append(
                f"Expected a whole number from 0 to {BDI_MAX:.0f} in {source}, found "
                f"'{shown(cell)}'; correct the label, or delete it if it is unknown."
            )
        elif self.severity.setdefault(session, score) != score:
            self.problems.append(
                f"Expected one label for session {session}, found {self.severity[session]} in "
                f"{self.source[session]} and {score} in {source}; keep the right one."
            )
        else:
            self.source.setdefault(session, source)


def split_of(path: PurePosixPath | Path) -> str:
    """The split that the innermost partition folder in a path names; "" if there is none."""
    for part in reversed(path.parts):
        split = SPLIT_OF_FOLDER.get(part.lower().removesuffix(_LABEL_FOLDER))
        if split:
            return split
    return ""


def read_labels(root: Path, files: Iterable[Path]) -> Labels:
    """The labels in those of the .csv files below `root` that hold labels."""
    labels = Labels()
    for file in sorted(files):
        name = file.relative_to(root)
        match = _LABEL_FILE.fullmatch(file.name)
        if match:
            labels.add(match[1], _text(file).strip(), PurePosixPath(name), shown(name))
        elif table := list(_table(file)):
            size = ROWS_PER_SPLIT.get(len(table))
            for number, (path, cell) in enumerate(table):
                _add_row(labels, path, cell, f"row {number + 1} of {shown(name)}")
                parsed = _name_in(path)
                if size and parsed:
                    split = ("train", "dev", "test")[number // size]
                    labels.slices.append((parsed, split, f"row {number + 1} of {shown(name)}"))
    return labels


def _add_row(labels: Labels, path: PurePosixPath, cell: str, source: str) -> None:
    session = _name_in(path)
    if session is None:
        labels.problems.append(
            f"Expected an AVEC name such as 203_1_Freeform_video as path in {source}, found "
            f"'{shown(str(path))}'; correct the path."
        )
    else:
        labels.add(session, cell, path, source)


def _name_in(path: PurePosixPath) -> str | None:
    """The session key that a path's innermost AVEC name holds."""
    for part in reversed(path.parts):
        for stem in (part, part.rpartition(".")[0]):
            if found := parse_name(stem):
                return found.session
    return None


def _table(file: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Path and label of each row; nothing if the file is no such table."""
    with file.open("rb") as opened:
        first = opened.readline(1000).decode("utf-8-sig", "surrogateescape")
    header = [cell.strip().lower() for cell in first.split(",")]
    if not {"path", "label"} <= set(header):
        return
    where, what = header.index("path"), header.index("label")
    for row in list(csv.reader(io.StringIO(_text(file))))[1:]:
        if any(row):
            cells = [cell.strip() for cell in row] + [""] * len(header)
            yield PurePosixPath(cells[where].replace("\\", "/")), cells[what]


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8-sig", "surrogateescape")


def _score(cell: str) -> int | None:
    """The whole number in [0, 63] that a cell holds ("13" or "13.0")."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value <= BDI_MAX else None
