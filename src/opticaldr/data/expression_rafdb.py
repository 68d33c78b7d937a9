"""RAF-DB, basic emotions (Li, Deng & Du, CVPR 2017): aligned pictures of 100 px and seven classes.

Layout (depression.md 3.2): EmoLabel/list_patition_label.txt (spelt so) with lines
"train_00001.jpg 5", and Image/aligned/train_00001_aligned.jpg. There is no validation split; a
tenth of the training pictures, chosen by a hash of the file name, is the dev split, so that nothing
is selected on the test pictures.
"""

from __future__ import annotations

import os
from pathlib import Path

from opticaldr.data.expression_labels import RAFDB_CLASSES, emotion_numbers, train_or_dev
from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader
from opticaldr.data.survey import Survey
from opticaldr.media import shown
from opticaldr.types import FaceRecord, InputError

EXPECTED = """\
ROOT/
  EmoLabel/list_patition_label.txt         (lines such as "train_00001.jpg 5")
  Image/aligned/train_00001_aligned.jpg"""

COMPLETE = {"train": 12_271, "test": 3_068}
"""Pictures of a complete copy (depression.md 3.2)."""

NUMBERS = emotion_numbers(RAFDB_CLASSES)


def survey_rafdb(path: Path, *, size: int | None = None) -> Survey:
    """RAF-DB's aligned faces, and what is listed but absent.

    Args:
        path: the folder above EmoLabel and Image.
        size: side to which pictures are resized [px]; None keeps 100.
    """
    lists = [
        f for depth in ("", "*/", "*/*/") for f in path.glob(depth + "list_pa*ition_label.txt")
    ]
    if not lists:
        raise InputError(
            f"Expected RAF-DB below {shown(path)}, found no list_patition_label.txt; arrange the "
            f"folder as follows.\n{EXPECTED}"
        )
    root = lists[0].parent.parent
    counts = dict.fromkeys(COMPLETE, 0)
    records, absent = [], []
    for line, text in enumerate(lists[0].read_text("utf-8-sig").splitlines(), start=1):
        if not text.strip():
            continue
        name, _, label = text.strip().rpartition(" ")
        part = name.partition("_")[0]
        if part not in COMPLETE or label not in tuple("1234567"):
            raise InputError(
                f"Expected lines such as 'train_00001.jpg 5' with labels 1 to 7 in {shown(lists[0])}"
                f", found '{shown(text)}' in line {line}; take the file as published."
            )
        counts[part] += 1
        file = Path(name.strip())
        key = f"Image/aligned/{file.stem}_aligned{file.suffix}"
        if not (root / key).is_file():
            absent.append(key)
            continue
        split = part if part == "test" else train_or_dev(os.fsencode(file.name))
        emotion = NUMBERS[int(label) - 1]
        records.append(FaceRecord(key, person=key, split=split, emotion=emotion))
    if not records:
        raise InputError(
            f"Expected pictures Image/aligned/train_00001_aligned.jpg below {shown(root)}, found "
            f"none of the {len(absent)} listed; arrange the folder as follows.\n{EXPECTED}"
        )
    faces = FaceSet("rafdb", tuple(records), FrameReader(root, size))
    findings = tuple(
        f"{counts[part]:,} pictures are listed in {part}; a complete copy has {complete:,}"
        for part, complete in COMPLETE.items()
        if counts[part] != complete
    )
    left_out = {"listed, but the picture is absent": tuple(absent)} if absent else {}
    return Survey(faces, left_out, findings)
