"""CelebA as Parquet shards: image (struct with bytes), celeb_id and one column per attribute."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from opticaldr.data.celeba_crops import CropReader
from opticaldr.data.celeba_files import Shards, refuse_web_page
from opticaldr.data.celeba_labels import WITHOUT, consistency
from opticaldr.data.faceset import FaceSet
from opticaldr.data.survey import Survey
from opticaldr.media import shown
from opticaldr.types import FaceRecord, InputError

SPLIT_OF_SHARD = {"train": "train", "valid": "dev", "dev": "dev", "test": "test"}
"""How the name of a shard, or of a folder above it, starts -> split."""

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns",
    "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
"""CelebA's 40 attributes in its own order; a shard's other columns are not read."""


def survey_shards(shards: Sequence[Path], root: Path, size: int) -> Survey:
    """The faces in shards below `root`, cut to the centre square (shards hold no landmarks)."""
    records: list[FaceRecord] = []
    starts: dict[str, tuple[int, ...]] = {}
    columns: tuple[str, ...] | None = None
    identities = True
    for path in shards:
        shard = path.relative_to(root).as_posix()
        table, starts[shard] = _read(path)
        names = tuple(name for name in ATTRIBUTES if name in table)
        if columns is not None and names != columns:
            raise InputError(
                f"Expected the same attributes in all shards, found others in {shown(path)}; "
                "keep shards of one set in one folder."
            )
        columns = names
        split = _split(path.relative_to(root))
        identities &= "celeb_id" in table
        rows = starts[shard][-1]
        people = table.get("celeb_id", [f"{shard}#{row}" for row in range(rows)])
        values = zip(*([1.0 if v > 0 else 0.0 for v in table[name]] for name in names), strict=True)
        values = values if names else ((),) * rows
        records += [
            FaceRecord(key=f"{shard}#{row}", person=str(person), split=split, attributes=attributes)
            for row, (person, attributes) in enumerate(zip(people, values, strict=True))
        ]
    reader = CropReader(Shards(root, starts), size, np.empty((0, 10)), {})
    faces = FaceSet("celeba", tuple(records), reader, columns or ())
    missing = [WITHOUT["landmarks"]] + ([] if identities else [WITHOUT["identities"]])
    return Survey(faces, {}, (*missing, *consistency(records, identities=identities)))


def _read(path: Path) -> tuple[dict[str, Iterable[int]], tuple[int, ...]]:
    """Label columns of a shard, and the first row of each of its row groups and the end."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(
            "Expected the package pyarrow for Parquet files, found none; run: pip install pyarrow."
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "image" not in names:
                raise InputError(
                    f"Expected a column image in {shown(path)}, found {', '.join(names)}; "
                    "give the folder of CelebA's shards."
                )
            wanted = [name for name in ("celeb_id", *ATTRIBUTES) if name in names]
            table = file.read(columns=wanted).to_pydict()
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (OSError, ArrowException) as error:
        with path.open("rb") as opened:
            refuse_web_page(opened.read(200), shown(path))
        raise InputError(
            f"Expected a Parquet file at {shown(path)}, found damage ({error}); download it again."
        ) from None
    return table, (0, *(int(end) for end in np.cumsum(sizes)))


def _split(path: Path) -> str:
    """The split that the shard's name or the folders above it start with."""
    for part in reversed(path.parts):
        if match := re.match("|".join(SPLIT_OF_SHARD), part.lower()):
            return SPLIT_OF_SHARD[match[0]]
    return ""
