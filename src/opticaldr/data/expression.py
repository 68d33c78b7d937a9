"""Facial expression sets: 48 px arrays, the FER2013 table, or a folder per class.

FER2013: Goodfellow et al., "Challenges in representation learning", ICONIP 2013.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.media import kind_of, read_image, square_crop
from opticaldr.types import EMOTIONS, FaceRecord, InputError

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's own order of labels 0 to 6."""

FER2013_SPLITS = {"Training": "train", "PublicTest": "dev", "PrivateTest": "test"}
"""Values of the Usage column of fer2013.csv."""

FER2013_SIDE = 48
"""Side of a FER2013 image [px]."""

EMOTION_OF_NAME = {
    "neutral": "neutral",
    "happy": "happy",
    "happiness": "happy",
    "sad": "sad",
    "sadness": "sad",
    "surprise": "surprise",
    "surprised": "surprise",
    "fear": "fear",
    "fearful": "fear",
    "disgust": "disgust",
    "disgusted": "disgust",
    "angry": "anger",
    "anger": "anger",
}
"""Class names of expression sets -> types.EMOTIONS."""

SPLIT_OF_FOLDER = {
    "train": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
SPLIT_SHARES = (("train", 0.8), ("dev", 0.9), ("test", 1.0))
"""Cumulative shares of the split of a set that has none."""


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
        return _load_fer2013_csv(path, size)
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
    emotions = [_emotion(str(name), path) for name in arrays.get("classes", FER2013_CLASSES)]
    return _from_arrays(path, images, labels, emotions=emotions, splits=None, size=size)


def _load_fer2013_csv(path: Path, size: int | None) -> FaceSet:
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
    emotions = [_emotion(name, path) for name in FER2013_CLASSES]
    return _from_arrays(
        path, np.stack(images), np.array(labels), emotions=emotions, splits=splits, size=size
    )


def _load_folders(path: Path, size: int | None) -> FaceSet:
    records = []
    for file in sorted(path.rglob("*")):
        key = file.relative_to(path)
        if kind_of(file) != "image" or any(part.startswith(".") for part in key.parts):
            continue
        above = [SPLIT_OF_FOLDER.get(part.lower(), "") for part in key.parts[:-2]]
        split = "".join(above[-1:]) or _split_of(file.name.encode())
        records.append(
            FaceRecord(
                key=key.as_posix(),
                person=key.as_posix(),
                split=split,
                emotion=_emotion(file.parent.name, path),
            )
        )
    if not records:
        raise InputError(
            f"Expected a folder of images per class in {path}, found no image; "
            f"name the folders {', '.join(EMOTIONS)}."
        )
    return FaceSet(path.name, tuple(records), _FileReader(path, size))


def _from_arrays(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    emotions: Sequence[int],
    splits: Sequence[str] | None,
    size: int | None,
) -> FaceSet:
    """A face set of images (n, h, w) uint8 whose label k means emotions[k]."""
    outside = np.flatnonzero((labels < 0) | (labels >= len(emotions)))
    if len(outside):
        raise InputError(
            f"Expected labels 0 to {len(emotions) - 1} in {path}, found {labels[outside[0]]} for "
            f"image {outside[0]}; correct the label or name all classes."
        )
    records = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        key = f"{path.name}#{index}"
        split = splits[index] if splits else _split_of(image.tobytes())
        records.append(FaceRecord(key=key, person=key, split=split, emotion=emotions[int(label)]))
    return FaceSet(path.stem, tuple(records), _ArrayReader(images, size))


@dataclass(frozen=True)
class _ArrayReader:
    """Reads image i of an array (n, h, w) for a key "file#i"."""

    images: np.ndarray
    size: int | None

    def __call__(self, record: FaceRecord) -> np.ndarray:
        grey = self.images[int(record.key.rpartition("#")[2])]
        image = np.repeat(grey[..., None], 3, axis=2)
        return image if self.size is None else square_crop(image, self.size)


@dataclass(frozen=True)
class _FileReader:
    """Reads the image file that a key names below a folder."""

    root: Path
    size: int | None

    def __call__(self, record: FaceRecord) -> np.ndarray:
        image = read_image(self.root / record.key)
        return image if self.size is None else square_crop(image, self.size)


def _emotion(name: str, path: Path) -> int:
    """Index into EMOTIONS of a class name."""
    emotion = EMOTION_OF_NAME.get(name.lower())
    if emotion is None:
        raise InputError(
            f"Expected a class of expression in {path}, found '{name}'; "
            f"use one of {', '.join(EMOTION_OF_NAME)}."
        )
    return EMOTIONS.index(emotion)


def _split_of(content: bytes) -> str:
    """The split that a hash of the content chooses."""
    share = int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64
    return next(split for split, limit in SPLIT_SHARES if share < limit)
