"""Folders with AVEC's names and label formats, of drawn people; ids and labels are made up."""

from __future__ import annotations

import shutil
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from conftest import draw_face
from opticaldr.media import VideoWriter, write_image

SESSIONS = {
    "901_1": ("Training", 3),
    "902_1": ("Training", 17),
    "903_1": ("Training", 30),
    "901_2": ("Development", 8),  # a person of Training
    "904_1": ("Development", 21),
    "902_2": ("Testing", 12),  # a person of Training
    "905_1": ("Testing", 41),
}
"""Session -> official partition and a made-up score."""

REPACKED = {"Training": "train", "Development": "dev", "Testing": "test"}
TASKS = ("Freeform", "Northwind")
FRAMES, RATE = 6, 10


@cache
def frames_of(person: int, task: int) -> tuple[np.ndarray, ...]:
    return tuple(draw_face(person, 100 * task + number)[0] for number in range(FRAMES))


def write_video(path: Path, session: str, task: int = 0) -> Path:
    """A video of FRAMES drawn frames of 32 px; sessions and tasks differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = int(session.replace("_", ""))
    with VideoWriter(path, time_base=Fraction(1, RATE), rate=Fraction(RATE)) as out:
        for index, image in enumerate(frames_of(number, task)):
            out.write(image, index)
    return path


def write_frames(folder: Path, session: str, numbers: range = range(1, 13), *, suffix: str) -> None:
    """A folder of aligned frames as OpenFace names them."""
    for number in numbers:
        image = draw_face(int(session.replace("_", "")), number)[0]
        write_image(folder / f"frame_det_00_{number:06d}{suffix}", image)


def write_labels(folder: Path, sessions: dict[str, tuple[str, object]] = SESSIONS) -> None:
    """One file per session, no header, one integer."""
    folder.mkdir(parents=True, exist_ok=True)
    for session, (_, score) in sessions.items():
        (folder / f"{session}_Depression.csv").write_text(f"{score}\n")


def avec2014(
    root: Path, *, repacked: bool = False, flat: bool = False, labels: bool = True
) -> Path:
    """{Training,...}/{Freeform,Northwind}/901_1_Freeform_video.mp4, or re-packed, or flat."""
    for session, (split, _) in SESSIONS.items():
        folder = root / (REPACKED[split] if repacked else split)
        for number, task in enumerate(TASKS):
            place = folder if flat else folder / task
            write_video(place / f"{session}_{task}_video.mp4", session, number)
    if labels:
        write_labels(root / "label" / "DepressionLabels")
    return root


def avec2013(root: Path) -> Path:
    """{Training,...}/901_1_cut_combined.mp4 and {Training,...}_DepressionLabels."""
    for session, (split, score) in SESSIONS.items():
        write_video(root / split / f"{session}_cut_combined.mp4", session)
        write_labels(root / f"{split}_DepressionLabels", {session: (split, score)})
    return root


def copy_of(root: Path, to: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(root, to))
