"""A table of face images with optional labels: the one thing that every data adapter returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from opticaldr.types import FaceRecord, InputError

ReadImage = Callable[[FaceRecord], np.ndarray]
"""Reads the image of a record: (h, w, 3) uint8 sRGB. Raises InputError naming the key if it cannot."""


@dataclass(frozen=True)
class FaceSet(Dataset):
    """Records plus a function that reads one image; images are read on demand.

    name: shown in tables and reports.
    synthetic: True if the faces are rendered; every report repeats it.
    attribute_names, group_names: of FaceRecord.attributes and FaceRecord.groups, in order.
    captured_by: sha256 of the lens.json through which the images were recorded; "" = clear faces.
    """

    name: str
    records: tuple[FaceRecord, ...]
    read: ReadImage
    attribute_names: tuple[str, ...] = ()
    synthetic: bool = False
    group_names: tuple[str, ...] = ()
    captured_by: str = ""

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> np.ndarray:
        """The image as stored: (h, w, 3) uint8 sRGB."""
        return self.read(self.records[index])

    def subset(self, indices: Sequence[int]) -> FaceSet:
        """The same set with only these records, in this order."""
        return replace(self, records=tuple(self.records[i] for i in indices))

    def split(self, split: str) -> FaceSet:
        """The records of one split ("train", "dev" or "test"); an empty split is an InputError."""
        chosen = [i for i, record in enumerate(self.records) if record.split == split]
        if not chosen:
            found = sorted({record.split or "(none)" for record in self.records})
            raise InputError(
                f"{self.name}: expected records with split '{split}', found only "
                f"{', '.join(found)}; fill the split column or choose another data set."
            )
        return self.subset(chosen)

    @property
    def people(self) -> list[str]:
        """Distinct person ids, sorted."""
        return sorted({record.person for record in self.records})

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One training example; unknown labels are NaN (or -1 for emotion).

        image (3, h, w) uint8 sRGB; index, emotion () int64; severity () float32;
        attributes (A,), landmarks (10,) float32.
        """
        record = self.records[index]
        landmarks = record.landmarks or (np.nan,) * 10
        attributes = record.attributes or (np.nan,) * len(self.attribute_names)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(self.image(index).transpose(2, 0, 1))),
            "index": torch.tensor(index),
            "emotion": torch.tensor(record.emotion),
            "severity": torch.tensor(record.severity, dtype=torch.float32),
            "attributes": torch.tensor(attributes, dtype=torch.float32),
            "landmarks": torch.tensor(landmarks, dtype=torch.float32),
        }
