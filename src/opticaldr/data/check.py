"""Checks a data set before hours are spent on it: counts, people, labels, files, and what is wrong."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np

from opticaldr.config import Protocol
from opticaldr.data import avec, celeba, expression_affectnet, expression_rafdb
from opticaldr.data.expression import load_expression
from opticaldr.data.expression_fer import survey_ferplus
from opticaldr.data.faceset import FaceSet
from opticaldr.data.frame_reader import FrameReader, split_key
from opticaldr.data.lfw import load_lfw
from opticaldr.data.manifest import load_manifest
from opticaldr.data.protocol import partition, session_of
from opticaldr.data.rendered import marked
from opticaldr.data.survey import Survey
from opticaldr.media import shown
from opticaldr.metrics import BANDS, band_numbers
from opticaldr.types import EMOTIONS, FaceRecord, InputError

OnProgress = Callable[[str, int, int], None]

FRAMES = 3
"""Frames of each video that a deep check reads: one of each third."""

SURVEYS: dict[str, Callable[[Path], Survey]] = {
    "avec2013": lambda path: avec.survey_avec(path, "avec2013", frames=FRAMES),
    "avec2014": lambda path: avec.survey_avec(path, "avec2014", frames=FRAMES),
    "manifest": lambda path: Survey(load_manifest(path, frames_per_video=FRAMES)),
    "celeba": celeba.survey_celeba,
    "lfw": lambda path: Survey(load_lfw(path)),
    "affectnet": expression_affectnet.survey_affectnet,
    "rafdb": expression_rafdb.survey_rafdb,
    "ferplus": survey_ferplus,
    "expressions": lambda path: Survey(load_expression(path)),
}
"""Names that a check knows: those of --data."""

EXPECTED = {
    **avec.EXPECTED,
    "celeba": celeba.EXPECTED,
    "affectnet": expression_affectnet.EXPECTED,
    "rafdb": expression_rafdb.EXPECTED,
    "ferplus": "ROOT/\n  fer2013.csv\n  fer2013new.csv",
}
"""The tree of each set that has one."""

SPLITS = ("train", "dev", "test", "")


@dataclass(frozen=True)
class Check:
    """What a check found. Tables have one row a split; "" stands for no split.

    splits: people, sessions, recordings, images (FRAMES of a video that lists none).
    severity: sessions, mean, lowest and highest BDI-II score, and sessions in each band.
    shared: people in two splits, and how many sessions of each of the two show them.
    protocols: sessions in train, dev and test, and left out, by protocol.
    left_out, findings: as in Survey. unreadable: file -> why. duplicates: files of equal content.
    problems: what must be put right first.
    """

    name: str
    path: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    shared: list[dict[str, Any]] = field(default_factory=list)
    severity: dict[str, dict[str, Any]] = field(default_factory=dict)
    emotions: dict[str, dict[str, int]] = field(default_factory=dict)
    protocols: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: list[tuple[str, ...]] = field(default_factory=list)
    findings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether anything can be trained or tested on."""
        return bool(self.splits) and not self.problems

    @property
    def expected(self) -> str:
        """The tree of the set if anything is missing or wrong, else ""."""
        return EXPECTED.get(self.name, "") if self.problems or self.left_out else ""

    def to_json(self) -> dict[str, Any]:
        """Everything, for other programs."""
        return {**asdict(self), "usable": self.usable, "expected": self.expected}


def check(spec: str, *, deep: bool = False, on_progress: OnProgress | None = None) -> Check:
    """Checks the data set that NAME=PATH names.

    Opens every video of a set of recordings and one image of each split; every other picture is
    counted by name.

    Args:
        deep: read every image, and three frames of every video.

    Raises:
        InputError: the name is unknown. What is wrong with the data stands in the result.
    """
    name, separator, text = spec.partition("=")
    if name not in SURVEYS or not separator:
        raise InputError(
            f"Expected NAME=PATH with NAME one of {', '.join(SURVEYS)}, found '{shown(spec)}'."
        )
    path = Path(text)
    found = Check(name, shown(path))
    try:
        if name in avec.EXPECTED:
            scan = avec.scan(path, name)
            if scan.problems:  # all of them, where opening the set names the first
                return Check(
                    name, shown(path), left_out=scan.left_out, findings=scan.findings,
                    problems=scan.problems,
                )  # fmt: skip
        survey = SURVEYS[name](path)
    except InputError as error:
        problem = shown(str(error)).partition("\n")[0]
        return Check(name, found.path, problems=(problem,))
    faces = marked(survey.faces, path)
    unreadable, twins = _read(faces, deep, on_progress)
    rated = [i for i, record in enumerate(faces.records) if not math.isnan(record.severity)]
    protocols, findings = _protocols(faces.subset(rated)) if rated else ({}, ())
    return Check(
        name=name,
        path=shown(path),
        splits=_by_split(faces.records, _counts),
        shared=_shared(faces.records) if rated else [],
        severity=_by_split(faces.subset(rated).records, _severity),
        emotions=_by_split([r for r in faces.records if r.emotion >= 0], _emotions),
        protocols=protocols,
        left_out=survey.left_out,
        unreadable=unreadable,
        duplicates=twins + _same_videos(faces),
        findings=(*survey.findings, *findings, *_origin(faces)),
    )


def _by_split(
    records: Sequence[FaceRecord], tell: Callable[[list[FaceRecord]], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What `tell` says about the records of each split that occurs."""
    parts = {split: [r for r in records if r.split == split] for split in SPLITS}
    return {split: tell(part) for split, part in parts.items() if part}


def _counts(records: list[FaceRecord]) -> dict[str, int]:
    return {
        "people": len({record.person for record in records}),
        "sessions": len({session_of(record) for record in records if record.recording}),
        "recordings": len({record.recording for record in records if record.recording}),
        "images": len(records),
    }


def _severity(records: list[FaceRecord]) -> dict[str, Any]:
    """Of sessions, not of frames: a long recording has one label."""
    scores = np.array(list({session_of(record): record.severity for record in records}.values()))
    bands = Counter(band_numbers(scores).tolist())
    return {
        "sessions": len(scores),
        "mean": float(scores.mean()),
        "lowest": float(scores.min()),
        "highest": float(scores.max()),
        "bands": {name: bands[number] for number, (_, name) in enumerate(BANDS)},
    }


def _emotions(records: list[FaceRecord]) -> dict[str, int]:
    counts = Counter(record.emotion for record in records)
    return {name: counts[number] for number, name in enumerate(EMOTIONS)}


def _shared(records: Iterable[FaceRecord]) -> list[dict[str, Any]]:
    """People in two splits, and the sessions of either split that show them."""
    sessions: dict[str, dict[str, str]] = {split: {} for split in SPLITS[:3]}
    for record in records:
        if record.split:
            sessions[record.split][session_of(record)] = record.person
    found = []
    for first, second in combinations(sessions, 2):
        people = set(sessions[first].values()) & set(sessions[second].values())
        if people:
            showing = {
                split: sum(person in people for person in sessions[split].values())
                for split in (first, second)
            }
            found.append({"splits": [first, second], "people": len(people), "sessions": showing})
    return found


def _protocols(faces: FaceSet) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Sessions that each protocol trains on, selects on, tests and leaves out; and a warning."""
    found: dict[str, dict[str, int]] = {}
    warnings: tuple[str, ...] = ()
    for protocol in get_args(Protocol):
        try:
            parts = partition(faces, protocol)
        except InputError as error:
            return found, (*warnings, f"{protocol}: {shown(str(error))}")
        sets = {"train": parts.train, "dev": parts.dev, "test": parts.test}
        sessions = {
            split: {session_of(r): r.person for r in part.records} if part else {}
            for split, part in sets.items()
        }
        found[protocol] = {split: len(part) for split, part in sessions.items()}
        found[protocol]["left out"] = len(parts.left_out)
        if parts.seen_people and not warnings:
            seen = sum(person in parts.seen_people for person in sessions["test"].values())
            warnings = (
                f"The official splits share people: {seen} of {len(sessions['test'])} test "
                f"sessions show one of {len(parts.seen_people)} people who are in train or dev, "
                "too. The protocol subject-disjoint (the default) does not train on them.",
            )
    return found, warnings


def _origin(faces: FaceSet) -> Iterator[str]:
    if faces.captured_by:
        yield f"The images are captures of lens {faces.captured_by[:12]}: no lens is simulated."
    if faces.synthetic:
        yield "The people are rendered: a result on them says nothing about patients."


def _read(
    faces: FaceSet, deep: bool, on_progress: OnProgress | None
) -> tuple[dict[str, str], list[tuple[str, ...]]]:
    """Reads one image of each split, or of all files; unreadable files, and equal pictures."""
    by_file: dict[str, list[FaceRecord]] = {}
    for record in faces.records:
        by_file.setdefault(split_key(record.key)[0], []).append(record)
    if deep:
        chosen = {
            file: [records[i] for i in sorted({0, len(records) // 2, len(records) - 1})]
            for file, records in by_file.items()
        }
    else:
        first = {record.split: record for record in reversed(faces.records)}
        chosen = {split_key(record.key)[0]: [record] for record in first.values()}
    unreadable: dict[str, str] = {}
    same: dict[bytes, list[str]] = {}
    for number, (file, records) in enumerate(chosen.items(), start=1):
        try:
            images = [faces.read(record) for record in records]
        except InputError as error:
            unreadable[shown(file)] = shown(str(error))
        else:
            if split_key(records[0].key)[1] is None:
                same.setdefault(hashlib.sha256(images[0]).digest(), []).append(shown(file))
        if on_progress:
            on_progress("reading", number, len(chosen))
    return unreadable, [tuple(files) for files in same.values() if len(files) > 1]


def _same_videos(faces: FaceSet) -> list[tuple[str, ...]]:
    """Videos with the same bytes: sizes are compared first, so that hardly any file is read."""
    if not isinstance(faces.read, FrameReader):
        return []
    by_size: dict[int, list[Path]] = {}
    for file in faces.read.times:
        path = faces.read.root / file
        by_size.setdefault(path.stat().st_size, []).append(path)
    same: dict[str, list[str]] = {}
    for paths in by_size.values():
        for path in paths if len(paths) > 1 else ():
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            same.setdefault(digest, []).append(shown(path.relative_to(faces.read.root)))
    return [tuple(files) for files in same.values() if len(files) > 1]
