"""Grey images in memory as a face set: what the small expression sets come down to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opticaldr.data.expression_labels import split_by_hash
from opticaldr.data.faceset import FaceSet
from opticaldr.media import square_crop
from opticaldr.types import FaceRecord, InputError


def from_arrays(
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
        split = splits[index] if splits else split_by_hash(image.tobytes())
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
