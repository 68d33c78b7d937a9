"""A recording on disk, the names that AVEC gives it, and the frames that are read of it.

A label belongs to a session (key person_session, such as "203_1"), identity to a person ("203");
mixing the two keys is a known class of mistakes (depression.md 1.2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader
from opticaldr.data.survey import Survey
from opticaldr.media import kind_of, sample_times, shown
from opticaldr.types import FaceRecord, InputError

Edition = Literal["avec2013", "avec2014"]

NOMINAL_RATE = 30.0
"""Frames per second of a folder of aligned frames, which does not say its rate (AVEC 2014: 30)."""

_NAME = re.compile(
    r"(?P<person>\d+)_(?P<session>\d+)_"
    r"(?:(?P<task>Freeform|Northwind)_video|cut_(?P<cut>combined|audio))(?:_aligned)?",
    re.IGNORECASE,
)
_FRAME = re.compile(r"(?:frame_det_00_)?(\d+)")
"""OpenFace numbers a frame of the first face so; STA-DRN's script writes the bare number."""


@dataclass(frozen=True)
class Recording:
    """One video file, or one folder of aligned frames, and what is known about it.

    session: the label key, such as "203_1". task: such as "Freeform", "" if there is one only.
    severity: BDI-II score in [0, 63], NaN if unknown. groups: such as the person's sex.
    """

    path: Path
    person: str
    session: str
    task: str = ""
    split: str = ""
    severity: float = math.nan
    groups: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """person/session/task without empty parts: FaceRecord.recording of its frames."""
        return "/".join(part for part in (self.person, self.session, self.task) if part)


@dataclass(frozen=True)
class AvecName:
    """What a file's name says: 203_1_Freeform_video (AVEC 2014) or 203_1_cut_combined (2013)."""

    person: str
    session: str
    task: str
    edition: Edition
    sound_only: bool


def parse_name(stem: str) -> AvecName | None:
    """The parts of a file or folder name without suffix; None for any other name."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    person, task, cut = match["person"], match["task"], match["cut"]
    return AvecName(
        person=person,
        session=f"{person}_{match['session']}",
        task=task.capitalize() if task else "",
        edition="avec2014" if task else "avec2013",
        sound_only=bool(cut) and cut.lower() == "audio",
    )


def frame_number(file: Path) -> int | None:
    """Number of a frame in a folder of aligned frames; None for any other file."""
    match = _FRAME.fullmatch(file.stem) if kind_of(file) == "image" else None
    return int(match[1]) if match else None


def faces_of(
    recordings: Iterable[Recording], root: Path, *, name: str, frames: int, size: int | None
) -> Survey:
    """The faces in `frames` frames, equally spaced in time, of each recording.

    A recording that cannot be opened is left out with its reason. A folder of aligned frames is
    dated by frame number at NOMINAL_RATE, and gives fewer frames if it holds fewer.

    Args:
        root: folder above all recordings; keys of frames start there.
        size: side to which the centre square is resized [px]; None keeps frames as stored.
    """
    records: list[FaceRecord] = []
    unreadable: list[str] = []
    for recording in recordings:
        try:
            keys = _keys_and_times(recording.path, root, frames)
        except InputError as error:
            unreadable.append(f"{recording.id}: {shown(str(error))}")
            continue
        records += [
            FaceRecord(
                key=key,
                person=recording.person,
                recording=recording.id,
                time_s=time,
                split=recording.split,
                severity=recording.severity,
                session=recording.session,
                task=recording.task,
                groups=recording.groups,
            )
            for key, time in keys
        ]
    faces = FaceSet(name, tuple(records), FrameReader.of(records, root, size))
    return Survey(faces, {"does not open": tuple(unreadable)} if unreadable else {})


def _keys_and_times(path: Path, root: Path, count: int) -> list[tuple[str, float]]:
    """Keys and times [s] of the frames to read."""
    key = path.relative_to(root).as_posix()
    if not path.is_dir():
        return [(f"{key}@{time}", time) for time in sample_times(path, count)]
    numbered = {n: file.name for file in path.iterdir() if (n := frame_number(file)) is not None}
    if not numbered:
        raise InputError(
            f"Expected frames such as frame_det_00_000001.bmp in {path}, found none; "
            "align the video again."
        )
    there = np.array(sorted(numbered))
    wanted = there[0] + (np.arange(count) + 0.5) / count * (there[-1] - there[0])
    chosen = sorted({int(there[np.abs(there - number).argmin()]) for number in wanted})
    return [(f"{key}/{numbered[n]}", n / NOMINAL_RATE) for n in chosen]
