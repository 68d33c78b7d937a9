"""Whether a data set on disk shows rendered people: `data synth` marks what it writes.

Rendered people may stand under AVEC's names, and their results must never pass for real ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader, split_key
from opticaldr.data.synthetic.export import MARK, is_marked_synthetic

DEPTH = 6
"""A mark counts for so many folders below it."""


def is_rendered(path: Path) -> bool:
    """True if a folder, or one of those above it, is marked as rendered."""
    whole = path.absolute()
    return any(is_marked_synthetic(folder) for folder in (whole, *whole.parents[:DEPTH]))


def marked(faces: FaceSet, path: Path) -> FaceSet:
    """The set, synthetic if it was loaded from a marked folder or its first image lies in one."""
    places = [path]
    if isinstance(faces.read, FrameReader) and faces.records:
        places.append(faces.read.root / split_key(faces.records[0].key)[0])
    return replace(faces, synthetic=faces.synthetic or any(map(is_rendered, places)))


def mark(folder: Path) -> None:
    """Marks a folder whose content was made from rendered people."""
    (folder / "README.txt").write_text(
        f"{MARK} people: made from rendered recordings. A result on them says nothing about "
        "patients.\n",
        encoding="utf-8",
    )
