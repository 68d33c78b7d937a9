"""AffectNet (Mollahosseini et al., TAC 2019) in its two releases, with seven of its classes.

| release | layout (depression.md 3.2) |
|---|---|
| .npy | {train_set,val_set}/images/ID.jpg and annotations/ID_exp.npy |
| original | training.csv and validation.csv about Manually_Annotated_Images/N/HASH.jpg |

There is no public test set: the official validation images are the test split here, and a tenth of
the training images, chosen by a hash of the file name, is the dev split. Contempt, none,
uncertain and no face are left out and counted.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from opticaldr.data.expression_labels import AFFECTNET_CLASSES, emotion_numbers, train_or_dev
from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader
from opticaldr.data.lfw_labels import five_points
from opticaldr.data.survey import Survey
from opticaldr.media import kind_of, shown
from opticaldr.types import FaceRecord, InputError

EXPECTED = """\
ROOT/
  train_set/images/0.jpg        train_set/annotations/0_exp.npy
  val_set/images/0.jpg          val_set/annotations/0_exp.npy
  or, of the original release:
  training.csv, validation.csv, Manually_Annotated_Images/1/HASH.jpg"""

NUMBERS = emotion_numbers(AFFECTNET_CLASSES)
Row = tuple[str, str, str, tuple[float, ...] | None]
"""Key, official part ("train" or "test"), text of the label, five points [px] if the set has them."""


def survey_affectnet(path: Path, *, size: int | None = None) -> Survey:
    """AffectNet's faces and how many were left out for which reason.

    Faces of the original release are aligned by their landmarks; the .npy release is cropped
    already, and is cut to its centre square.

    Args:
        path: the folder above either layout.
        size: side of the result [px]; None keeps the .npy release as stored.
    """
    folders = [path, *sorted(child for child in path.glob("*") if child.is_dir())]
    root = next((folder for folder in folders if (folder / "train_set").is_dir()), None)
    if root is not None:
        return _survey(root, _npy_rows(root), size)
    lists = {
        part: next((f for pattern in ("", "*/", "*/*/") for f in path.glob(pattern + name)), None)
        for part, name in (("train", "training.csv"), ("test", "validation.csv"))
    }
    if not any(lists.values()):
        raise InputError(
            f"Expected AffectNet below {shown(path)}, found neither train_set nor training.csv; "
            f"arrange the folder as follows.\n{EXPECTED}"
        )
    return _survey(path, _csv_rows(path, lists), size)


def _survey(root: Path, rows: Iterator[Row], size: int | None) -> Survey:
    records: list[FaceRecord] = []
    points: dict[str, np.ndarray] = {}
    left_out: dict[str, list[str]] = {}
    for key, part, label, pixels in rows:
        if not label:
            left_out.setdefault("no label", []).append(shown(key))
            continue
        number = _number(label, key)
        if NUMBERS[number] < 0:
            left_out.setdefault(f"labelled {AFFECTNET_CLASSES[number]}", []).append(shown(key))
        elif pixels == ():
            left_out.setdefault("no landmarks", []).append(shown(key))
        elif pixels is not None and not (root / key).is_file():
            left_out.setdefault("listed, but the picture is absent", []).append(shown(key))
        else:
            split = part if part == "test" else train_or_dev(os.fsencode(PurePosixPath(key).name))
            records.append(FaceRecord(key, person=key, split=split, emotion=NUMBERS[number]))
            if pixels:
                points[key] = np.array(pixels, dtype=np.float32)
    if not records:
        reasons = ", ".join(f"{len(keys)} {reason}" for reason, keys in left_out.items())
        raise InputError(
            f"Expected labelled pictures of AffectNet below {shown(root)}, found none "
            f"({reasons or 'no picture'}); arrange the folder as follows.\n{EXPECTED}"
        )
    faces = FaceSet("affectnet", tuple(records), FrameReader(root, size, points=points))
    return Survey(faces, {reason: tuple(keys) for reason, keys in left_out.items()})


def _npy_rows(root: Path) -> Iterator[Row]:
    for folder, part in (("train_set", "train"), ("val_set", "test")):
        images = root / folder / "images"
        for image in sorted(images.iterdir()) if images.is_dir() else ():
            if kind_of(image) != "image":
                continue
            label = root / folder / "annotations" / f"{image.stem}_exp.npy"
            key = image.relative_to(root).as_posix()
            try:
                value = str(np.load(label, allow_pickle=False)) if label.is_file() else ""
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"Expected a label in {shown(label)}, found a file that does not load "
                    f"({error}); copy it again."
                ) from None
            yield key, part, value, None


def _csv_rows(root: Path, lists: dict[str, Path | None]) -> Iterator[Row]:
    for part, table in lists.items():
        if table is None:
            continue
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            wanted = {"subDirectory_filePath", "expression", "facial_landmarks"}
            if not wanted <= set(reader.fieldnames or ()):
                raise InputError(
                    f"Expected columns {', '.join(sorted(wanted))} in {shown(table)}, found "
                    f"{', '.join(reader.fieldnames or ['none'])}; take the file as published."
                )
            folder = None
            for row in reader:
                name = row["subDirectory_filePath"]
                folder = folder or _images_of(root, table, name)
                key = (folder / name).relative_to(root).as_posix()
                yield key, part, row["expression"] or "", _points(row["facial_landmarks"] or "")


def _images_of(root: Path, table: Path, name: str) -> Path:
    """The folder in which a listed picture lies."""
    patterns = ("Manually_Annotated_Images", "*/Manually_Annotated_Images")
    folders = [table.parent, *(folder for pattern in patterns for folder in root.glob(pattern))]
    found = next((folder for folder in folders if (folder / name).is_file()), None)
    return found or folders[-1]


def _points(cell: str) -> tuple[float, ...]:
    """Eyes, nose tip and mouth corners of 68 landmarks "x;y;x;y;..." [px]; empty if unknown."""
    try:
        marks = np.array([float(number) for number in cell.split(";")])
    except ValueError:
        return ()
    if marks.shape != (136,) or not np.isfinite(marks).all() or np.ptp(marks[::2]) < 1:
        return ()
    return tuple(five_points(marks.reshape(68, 2)).ravel().tolist())


def _number(label: str, key: str) -> int:
    try:
        number = int(float(label))
    except ValueError:
        number = -1
    if not 0 <= number < len(AFFECTNET_CLASSES):
        raise InputError(
            f"Expected a label from 0 to {len(AFFECTNET_CLASSES) - 1} for {shown(key)}, found "
            f"'{label}'; take the labels as published."
        )
    return number
