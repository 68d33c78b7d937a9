"""Facial expression sets without an adapter of their own: arrays, FER2013, a folder per class."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from opticaldr.data.expression_arrays import from_arrays
from opticaldr.data.expression_fer import load_fer2013
from opticaldr.data.expression_labels import FER2013_CLASSES, emotion_of, split_by_hash
from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader
from opticaldr.media import kind_of
from opticaldr.types import EMOTIONS, FaceRecord, InputError

SPLIT_OF_FOLDER = {
    "train": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


def load_expression(path: Path, *, size: int | None = None) -> FaceSet:
    """An expression set with emotion labels in the order of types.EMOTIONS.

    Three layouts: an .npz file with x (n, h, w) uint8, y (n,) and classes (names of the values of
    y; FER2013's if absent); the original fer2013.csv (emotion, pixels, Usage); a folder with one
    folder of images per class, below train / val / test folders or not. Grey images become three
    equal channels.

    These sets name no identities, so each image is a person of its own: person = key. A set
    without a split gets one of 80 % train, 10 % dev, 10 % test by a hash: of the pixels for
    arrays, so that FER2013's duplicates fall on one side, and of the file name for folders. It
    depends on nothing else, and is the same on every machine.

    Args:
        path: the .npz file, the .csv file or the folder.
        size: side to which the centre square is resized [px]; None keeps images as stored.
    """
    if path.is_dir():
        return _load_folders(path, size)
    if not path.exists():
        raise InputError(f"Expected an expression set at {path}, found nothing; check the path.")
    if path.suffix.lower() == ".npz":
        return _load_npz(path, size)
    if path.suffix.lower() == ".csv":
        return load_fer2013(path, size=size)
    raise InputError(
        f"Expected an expression set as .npz, .csv or a folder per class, found {path}; "
        "choose one of these."
    )


def _load_npz(path: Path, size: int | None) -> FaceSet:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected arrays in {path}, found a file that does not load ({error}); "
            "copy it again or save it with numpy.savez without objects."
        ) from None
    missing = sorted({"x", "y"} - set(arrays))
    if missing:
        raise InputError(
            f"Expected arrays x and y in {path}, found {', '.join(sorted(arrays)) or 'none'}; "
            "save images as x (n, h, w) uint8 and labels as y (n,)."
        )
    images, labels = arrays["x"], arrays["y"]
    whole = np.issubdtype(labels.dtype, np.integer)
    if (
        images.ndim != 3
        or images.dtype != np.uint8
        or labels.shape != images.shape[:1]
        or not whole
    ):
        raise InputError(
            f"Expected x (n, h, w) uint8 and y (n,) integers in {path}, found x {images.shape} "
            f"{images.dtype} and y {labels.shape} {labels.dtype}; save them in that form."
        )
    emotions = [emotion_of(str(name), path) for name in arrays.get("classes", FER2013_CLASSES)]
    return from_arrays(path, images, labels, emotions=emotions, splits=None, size=size)


def _load_folders(path: Path, size: int | None) -> FaceSet:
    records = []
    for file in sorted(path.rglob("*")):
        key = file.relative_to(path)
        if kind_of(file) != "image" or any(part.startswith(".") for part in key.parts):
            continue
        above = [SPLIT_OF_FOLDER.get(part.lower(), "") for part in key.parts[:-2]]
        split = "".join(above[-1:]) or split_by_hash(os.fsencode(file.name))
        records.append(
            FaceRecord(
                key=key.as_posix(),
                person=key.as_posix(),
                split=split,
                emotion=emotion_of(file.parent.name, path),
            )
        )
    if not records:
        raise InputError(
            f"Expected a folder of images per class in {path}, found no image; "
            f"name the folders {', '.join(EMOTIONS)}."
        )
    return FaceSet(path.name, tuple(records), FrameReader(path, size))
