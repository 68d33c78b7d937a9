"""CelebA's label files and what a complete copy of the set has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from opticaldr.data.celeba_files import PICTURE, refuse_web_page, stem
from opticaldr.types import FaceRecord, InputError

IMAGES, PEOPLE = 202_599, 10_177
IMAGES_OF_SPLIT = {"train": 162_770, "dev": 19_867, "test": 19_962}
"""What a complete copy has (depression.md 3.1)."""

SPLITS = {"0": "train", "1": "dev", "2": "test"}
"""Values of list_eval_partition."""

LABEL_FILES = {
    "list_attr_celeba": "attributes",
    "identity_celeba": "identities",
    "list_eval_partition": "partition",
    "list_landmarks_align_celeba": "landmarks",
}
"""Name of a label file in lower case -> what it holds."""

WITHOUT = {
    "attributes": "no list_attr_celeba: the attribute loss has nothing to read",
    "identities": "no identity_CelebA.txt: nobody can be told apart, so no lens can be trained or "
    "attacked with this copy (copies without it: Kaggle's)",
    "partition": "no list_eval_partition: no split is known",
    "landmarks": "no list_landmarks_align_celeba: the centre square is cut instead of a crop "
    "aligned to the five points, which recognisers expect",
}


@dataclass(frozen=True)
class Labels:
    """One label file: names of its columns and the cells of each picture, by stem ("000001")."""

    columns: tuple[str, ...] = ()
    rows: dict[str, list[str]] = field(default_factory=dict)


def parse_labels(content: bytes, name: str, *, named: bool = False) -> Labels:
    """Cells of a .txt (spaces, a count and column names first) or a .csv (commas, a header).

    named: whether the columns must have names, as attributes must.
    """
    refuse_web_page(content, name)
    columns: tuple[str, ...] = ()
    rows: dict[str, list[str]] = {}
    width = 0
    same: dict[str, str] = {}  # eight million cells hold a few thousand different texts
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), start=1):
        first, *cells = line.replace(",", " ").split() or [""]
        if PICTURE.fullmatch(first):
            width = width or len(cells)
            if len(cells) != width or not cells:
                raise InputError(
                    f"Expected {width or 'some'} values in line {number} of {name}, found "
                    f"{len(cells)}; the file is cut short: download it again."
                )
            rows[stem(first)] = [same.setdefault(cell, cell) for cell in cells]
        elif first and not rows:
            columns = tuple(cells) if first.lower() == "image_id" else (first, *cells)
    if not rows:
        raise InputError(
            f"Expected lines such as '000001.jpg 2880' in {name}, found none; download it again."
        )
    if named and len(columns) != width:
        raise InputError(
            f"Expected the names of {width} attributes above the lines of {name}, found "
            f"{len(columns)}; download it again."
        )
    return Labels(columns, rows)


def consistency(records: Sequence[FaceRecord], *, identities: bool) -> list[str]:
    """Sentences about counts that differ from a complete copy, and people in two splits."""
    found = []

    def compare(what: str, there: int, complete: int) -> None:
        if there != complete:
            found.append(f"{there:,} {what}; a complete copy has {complete:,}")

    compare("pictures", len(records), IMAGES)
    splits_of: dict[str, set[str]] = {}
    for record in records:
        splits_of.setdefault(record.person, set()).add(record.split)
    if identities:
        compare("people", len(splits_of), PEOPLE)
    for split, complete in IMAGES_OF_SPLIT.items():
        compare(f"pictures in {split}", sum(r.split == split for r in records), complete)
    crossing = sum(len(splits) > 1 for splits in splits_of.values())
    if crossing:
        found.append(f"{crossing:,} people stand in two splits; training leaves them out")
    return found


def points_of(landmarks: Labels, present: Sequence[str]) -> tuple[np.ndarray, dict[str, int]]:
    """(n, 10) float32 points [px], and the row of each picture that has them."""
    row = {name: i for i, name in enumerate(n for n in present if n in landmarks.rows)}
    try:
        points = np.array([landmarks.rows[name] for name in row], dtype=np.float32)
        return points.reshape(len(row), 10), row
    except ValueError as error:
        raise InputError(
            f"Expected ten numbers a line in list_landmarks_align_celeba, found others ({error}); "
            "download it again."
        ) from None


_VALUES = {"1": 1.0, "-1": 0.0, "0": 0.0}


def attributes_of(name: str, cells: list[str] | None) -> tuple[float, ...]:
    try:
        return tuple([_VALUES[cell] for cell in cells or ()])
    except KeyError as error:
        raise InputError(
            f"Expected -1 or 1 for each attribute of {name} in list_attr_celeba, found {error}; "
            "download it again."
        ) from None


def split_named(cell: str) -> str:
    if cell and cell not in SPLITS:
        raise InputError(
            f"Expected 0, 1 or 2 in list_eval_partition, found '{cell}'; download it again."
        )
    return SPLITS.get(cell, "")
