"""AVEC 2013 and AVEC 2014 (Valstar et al. 2013, 2014): recordings, splits and labels in a folder.

Both sets show the same sessions of the same people (depression.md 0, finding 2). All layouts of
depression.md 1.2 are read; EXPECTED shows them. The data stay under their licence: nothing of
them comes with this package.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from opticaldr.data.avec_labels import Labels, read_labels, split_of
from opticaldr.data.recordings import (
    AvecName,
    Edition,
    Recording,
    faces_of,
    frame_number,
    parse_name,
)
from opticaldr.data.survey import Survey
from opticaldr.media import kind_of, shown
from opticaldr.types import InputError

SOUND_SUFFIXES = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".wma")

TITLES: dict[Edition, str] = {"avec2013": "AVEC 2013", "avec2014": "AVEC 2014"}

EXPECTED: dict[Edition, str] = {
    "avec2014": """\
ROOT/
  {Training,Development,Testing}/{Freeform,Northwind}/203_1_Freeform_video.mp4
      (or train, dev, test; the task folders may be missing)
  image/{Training,Development,Testing}/203_1_Freeform_video_aligned/frame_det_00_000001.bmp
      (instead of videos: frames that OpenFace aligned; .bmp or .jpg)
  label/DepressionLabels/203_1_Depression.csv
      (one integer from 0 to 63; or one table label.csv with the columns path,label)""",
    "avec2013": """\
ROOT/
  {Training,Development,Testing}/203_1_cut_combined.mp4
      (or train, dev, test)
  image/{Training,Development,Testing}/203_1_cut_combined_aligned/frame_det_00_000001.bmp
      (instead of videos: frames that OpenFace aligned; .bmp or .jpg)
  {Training,Development,Testing}_DepressionLabels/203_1_Depression.csv
      (one integer from 0 to 63; or one table label.csv with the columns path,label)""",
}
"""The tree that an error message and `data check` show."""


@dataclass(frozen=True)
class Scan:
    """Recordings that can be used, and what is wrong or missing.

    left_out: reason -> recordings or files. problems: what must be put right before anything is
    used. findings: what a user should know.
    """

    recordings: tuple[Recording, ...]
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def find_recordings(
    root: Path, edition: Edition | None = None, *, prefer: Literal["video", "frames"] = "video"
) -> list[Recording]:
    """The labelled recordings of AVEC below a folder, sorted by split and id.

    Args:
        edition: which names to take; both by default.
        prefer: what to take of a recording that is there as a video and as aligned frames.

    Raises:
        InputError: nothing usable below `root` (the message shows the expected tree), a label that
            is no whole number in [0, 63], labels or files that contradict one another, a session
            in two splits, or a table whose row order contradicts its paths.
    """
    found = scan(root, edition, prefer=prefer)
    _refuse_problems(root, edition or "avec2014", found)
    return list(found.recordings)


def survey_avec(root: Path, edition: Edition, *, frames: int, size: int | None = None) -> Survey:
    """The faces in `frames` frames of each recording; aligned frames come before videos.

    Args:
        size: side to which the centre square is resized [px]; None keeps frames as stored.

    Raises:
        InputError: as find_recordings, or no recording opens.
    """
    found = scan(root, edition, prefer="frames")
    _refuse_problems(root, edition, found)
    faces = faces_of(found.recordings, root, name=edition, frames=frames, size=size)
    if not faces.faces.records:
        raise InputError(
            f"Expected recordings that open below {shown(root)}, found {len(found.recordings)} "
            f"that do not, such as {faces.left_out['does not open'][0]}"
        )
    findings = (*found.findings, _crop(found.recordings))
    return Survey(faces.faces, {**found.left_out, **faces.left_out}, findings)


def scan(
    root: Path, edition: Edition | None = None, *, prefer: Literal["video", "frames"] = "video"
) -> Scan:
    """Looks at every name below `root`; opens label files only, no video."""
    if not root.is_dir():
        raise InputError(
            f"Expected the folder of {TITLES[edition or 'avec2014']} at {shown(root)}, found "
            f"{'a file' if root.exists() else 'nothing'}; check the path."
        )
    media, tables, sounds, others = _media(root)
    left_out: dict[str, list[str]] = {}
    for path in others:
        left_out.setdefault("its name is none of AVEC's", []).append(shown(path.relative_to(root)))
    wanted: dict[str, list[tuple[Path, AvecName]]] = {}
    for path, name in media:
        if edition in (None, name.edition):
            key = f"{name.edition}/{name.session}/{name.task}"
            wanted.setdefault(key, []).append((path, name))
        else:
            reason = f"an {TITLES[name.edition]} name; use {name.edition}=PATH"
            left_out.setdefault(reason, []).append(shown(path.relative_to(root)))
    labels = read_labels(root, tables)
    splits = _splits(root, wanted.values(), labels)
    problems = labels.problems + _contradictions(splits, labels)
    recordings = []
    for copies in wanted.values():
        path, name = _choose(copies, prefer)
        same_kind = [other for other, _ in copies if other.is_dir() == path.is_dir()]
        if len(same_kind) > 1:
            listed = " and ".join(shown(other.relative_to(root)) for other in sorted(same_kind))
            problems.append(
                f"Expected each recording once below {shown(root)}, found {listed}; "
                "delete or move one of them."
            )
        split = next(iter(splits.get(name.session, {})), "")
        if name.session not in labels.severity:
            left_out.setdefault("no label", []).append(shown(path.relative_to(root)))
        elif not split:
            reason = "no partition folder in its path or its label's"
            left_out.setdefault(reason, []).append(shown(path.relative_to(root)))
        else:
            recordings.append(
                Recording(
                    path=path,
                    person=name.person,
                    session=name.session,
                    task=name.task,
                    split=split,
                    severity=float(labels.severity[name.session]),
                )
            )
    order = {"train": 0, "dev": 1, "test": 2}
    recordings.sort(key=lambda r: (order[r.split], int(r.person), r.session, r.task))
    there = {name.session for _, name in media}
    return Scan(
        tuple(recordings),
        {reason: tuple(items) for reason, items in left_out.items()},
        tuple(problems),
        tuple(_findings(sounds, set(labels.severity) - there)),
    )


def _refuse_problems(root: Path, edition: Edition, found: Scan) -> None:
    if found.problems:
        more = len(found.problems) - 1
        hint = f" ({more} more of this kind: see `opticaldr data check`)" if more else ""
        raise InputError(found.problems[0] + hint)
    if not found.recordings:
        reasons = [f"{len(items)} left out ({reason})" for reason, items in found.left_out.items()]
        raise InputError(
            f"Expected {TITLES[edition]} recordings with labels below {shown(root)}, found "
            f"{', '.join(reasons) or '0 videos'}; arrange the folder as follows.\n"
            f"{EXPECTED[edition]}"
        )


def _media(root: Path) -> tuple[list[tuple[Path, AvecName]], list[Path], int, list[Path]]:
    """Recordings with their names, .csv files, the number of sound files, and other videos.

    Links are followed, since large sets are often linked in from another disk.
    """
    media, tables, others = [], [], []
    sounds, seen = 0, set()
    for folder, inside, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            inside.clear()
            continue
        seen.add(real)
        for name in sorted(inside):
            parsed = parse_name(name)
            if parsed and _holds_frames(Path(folder, name)):
                media.append((Path(folder, name), parsed))
                inside.remove(name)
            elif name.startswith("."):
                inside.remove(name)
        inside.sort()
        for file in (Path(folder, name) for name in sorted(files) if name[0] != "."):
            parsed = parse_name(file.stem)
            if file.suffix.lower() in SOUND_SUFFIXES or (parsed and parsed.sound_only):
                sounds += file.suffix.lower() != ".csv"
            elif file.suffix.lower() == ".csv":
                tables.append(file)
            elif kind_of(file) == "video":
                media.append((file, parsed)) if parsed else others.append(file)
    return media, tables, sounds, others


def _holds_frames(folder: Path) -> bool:
    """True for a folder of aligned frames, also for one that ought to hold them but is empty."""
    if folder.name.lower().endswith("_aligned"):
        return True
    return any(frame_number(file) is not None for file in folder.iterdir())


def _choose(copies: list[tuple[Path, AvecName]], prefer: str) -> tuple[Path, AvecName]:
    """The video or the folder of frames, whichever is preferred and there."""
    return min(copies, key=lambda copy: (copy[0].is_dir() != (prefer == "frames"), copy[0]))


def _splits(
    root: Path, groups: Iterable[list[tuple[Path, AvecName]]], labels: Labels
) -> dict[str, dict[str, str]]:
    """Session -> split -> the first path that says so; media before labels."""
    splits: dict[str, dict[str, str]] = {}
    for copies in groups:
        for path, name in copies:
            relative = path.relative_to(root)
            if split := split_of(relative):
                splits.setdefault(name.session, {}).setdefault(split, shown(relative))
    for session, named in labels.splits.items():
        for split, source in named.items():
            splits.setdefault(session, {}).setdefault(split, source)
    return splits


def _contradictions(splits: dict[str, dict[str, str]], labels: Labels) -> list[str]:
    """Sessions in two splits, and tables whose order disagrees with the paths."""
    problems = []
    for session, named in splits.items():
        if len(named) > 1:
            listed = " and ".join(f"'{split}' by {path}" for split, path in named.items())
            problems.append(
                f"Expected session {session} in one split, found {listed}; keep it in one."
            )
    for session, by_row, source in labels.slices:
        split = next(iter(splits.get(session, {})), by_row)
        if split != by_row:
            problems.append(
                f"Expected {source} in the slice of '{split}', to which its path belongs, found "
                f"it in that of '{by_row}'; others cut this table by row number, so put the rows "
                "in the order train, dev, test."
            )
    return problems


def _findings(sounds: int, without_recording: set[str]) -> Iterator[str]:
    if sounds:
        yield f"{sounds} sound files are ignored: only faces are read."
    if without_recording:
        yield (
            f"{len(without_recording)} labels have no recording, such as that of session "
            f"{min(without_recording)}."
        )


def _crop(recordings: Sequence[Recording]) -> str:
    """What the frames of these recordings show, and what would be better."""
    kinds = Counter(recording.path.is_dir() for recording in recordings)
    if not kinds[False]:
        return (
            "Frames are aligned by another tool, at another scale than this package's crop: "
            "recognisers and models trained on its own crops see faces of another size. With the "
            "videos, `opticaldr data index` aligns them."
        )
    return (
        f"{kinds[False]} videos are read as the centre square of the frame, where a face is small "
        "and off centre: run `opticaldr data index` once and use its manifest."
    )
