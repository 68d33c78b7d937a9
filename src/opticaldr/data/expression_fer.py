"""FER2013 (Goodfellow et al., ICONIP 2013) and the votes of FER+ (Barsoum et al., ICMI 2016)."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from opticaldr.data.expression_arrays import from_arrays
from opticaldr.data.expression_labels import (
    FER2013_CLASSES,
    FERPLUS_CLASSES,
    emotion_numbers,
)
from opticaldr.data.faceset import FaceSet
from opticaldr.data.survey import Survey
from opticaldr.media import shown
from opticaldr.types import InputError

FER2013_SPLITS = {"Training": "train", "PublicTest": "dev", "PrivateTest": "test"}
"""Values of the Usage column of fer2013.csv."""

FER2013_SIDE = 48
"""Side of a FER2013 image [px]."""

FERPLUS_FILE = "fer2013new.csv"


def load_fer2013(path: Path, *, size: int | None = None) -> FaceSet:
    """The images of fer2013.csv (emotion, pixels, Usage) with its own labels."""
    images, labels, splits = [], [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = {"emotion", "pixels", "Usage"}
            if not columns <= set(reader.fieldnames or ()):
                raise InputError(
                    f"Expected columns emotion, pixels, Usage in {path}, found "
                    f"{', '.join(reader.fieldnames or ['none'])}; choose the original fer2013.csv."
                )
            for row in reader:
                labels.append(int(row["emotion"]))
                splits.append(FER2013_SPLITS[row["Usage"]])
                pixels = bytes(map(int, row["pixels"].split()))  # ValueError beyond 0 .. 255
                images.append(np.frombuffer(pixels, np.uint8).reshape(FER2013_SIDE, FER2013_SIDE))
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"Expected a label, {FER2013_SIDE**2} grey values and a Usage in line "
            f"{len(images) + 2} of {path}, found something else ({error}); copy the file again."
        ) from None
    if not images:
        raise InputError(
            f"Expected images in {path}, found only a header; choose the original fer2013.csv."
        )
    return from_arrays(
        path,
        np.stack(images),
        np.array(labels),
        emotions=emotion_numbers(FER2013_CLASSES),
        splits=splits,
        size=size,
    )


def survey_ferplus(path: Path, *, size: int | None = None) -> Survey:
    """FER2013's images with the class that most of FER+'s ten voters chose.

    Left out: images for which contempt, unknown or NF (not a face) has most votes, and ties. Rows
    of the two files belong together by their order alone, so each pair must name the same Usage.

    Args:
        path: the folder with fer2013.csv and fer2013new.csv, or one of the two files.
        size: side to which images are resized [px]; None keeps 48.
    """
    if not path.exists():
        raise InputError(f"Expected FER+ at {shown(path)}, found nothing; check the path.")
    folder = path if path.is_dir() else path.parent
    for name in ("fer2013.csv", FERPLUS_FILE):
        if not (folder / name).is_file():
            raise InputError(
                f"Expected fer2013.csv and {FERPLUS_FILE} in {shown(folder)}, found no {name}; "
                "put the images of FER2013 and the votes of FER+ side by side."
            )
    images = load_fer2013(folder / "fer2013.csv", size=size)
    votes, usages = _votes(folder / FERPLUS_FILE)
    if len(votes) != len(images):
        raise InputError(
            f"Expected as many rows in {FERPLUS_FILE} as in fer2013.csv ({len(images)}), found "
            f"{len(votes)}; take both files as published."
        )
    numbers = emotion_numbers(FERPLUS_CLASSES)
    records = []
    left_out: dict[str, list[str]] = {}
    for row, record in enumerate(images.records):
        if FER2013_SPLITS.get(usages[row]) != record.split:
            raise InputError(
                f"Expected the same Usage in row {row + 1} of fer2013.csv and {FERPLUS_FILE}, "
                f"found '{record.split}' and '{usages[row]}'; take both files as published."
            )
        winners = np.flatnonzero(votes[row] == votes[row].max())
        emotion = numbers[winners[0]]
        if len(winners) > 1:
            left_out.setdefault("votes are tied", []).append(record.key)
        elif emotion < 0:
            reason = f"most votes for {FERPLUS_CLASSES[winners[0]]}"
            left_out.setdefault(reason, []).append(record.key)
        else:
            records.append(replace(record, emotion=emotion))
    faces = replace(images, name="ferplus", records=tuple(records))
    return Survey(faces, {reason: tuple(keys) for reason, keys in left_out.items()})


def _votes(path: Path) -> tuple[np.ndarray, list[str]]:
    """(n, 10) votes in the order of FERPLUS_CLASSES, and the Usage of each row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
        missing = [name for name in ("usage", *FERPLUS_CLASSES) if name.lower() not in columns]
        if missing:
            raise InputError(
                f"Expected columns Usage, {', '.join(FERPLUS_CLASSES)} in {shown(path)}, found no "
                f"{', '.join(missing)}; take the file as published."
            )
        votes, usages = [], []
        for row in reader:
            usages.append((row[columns["usage"]] or "").strip())
            try:
                votes.append([int(row[columns[name.lower()]]) for name in FERPLUS_CLASSES])
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"Expected ten whole numbers of votes in line {reader.line_num} of "
                    f"{shown(path)}, found others ({error}); take the file as published."
                ) from None
    return np.array(votes).reshape(len(votes), len(FERPLUS_CLASSES)), usages
