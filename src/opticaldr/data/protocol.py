"""Who trains, who selects and who is tested: the three protocols for recordings as values.

The official AVEC partitions share people (depression.md 0, finding 1): 19 of 50 test sessions show
somebody who is in training or development too. Every result therefore names its protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from opticaldr.config import Protocol
from opticaldr.data.faceset import FaceSet
from opticaldr.types import BDI_MAX, FaceRecord, InputError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Partition:
    """Recordings of one data set, split by one protocol; `split` of every record says where it went.

    dev: None where nothing is left to select on (always so under official-traindev). test: None if
    the set has none. left_out: sessions that the protocol drops, each with the reason.
    seen_people: people of the test set who have a session in the official training or development
    set, too. "subject-disjoint" leaves those sessions out; the other protocols train on them.
    """

    protocol: Protocol
    train: FaceSet
    dev: FaceSet | None
    test: FaceSet | None
    left_out: dict[str, str]
    seen_people: frozenset[str]


def partition(faces: FaceSet, protocol: Protocol) -> Partition:
    """Splits the recordings of a set by their official split and the protocol.

    Under "subject-disjoint" a test person has no session elsewhere, and all sessions of a person
    who is in both train and dev train, so that dev keeps people who are only in dev. The test set is
    the official one under every protocol.

    Raises:
        InputError: a record without recording, BDI-II label or official split, a session in two
            splits, or nothing left to train on.
    """
    if protocol not in get_args(Protocol):
        raise InputError(
            f"Expected a protocol ({', '.join(get_args(Protocol))}), found '{protocol}'; choose one."
        )
    official = _official_splits(faces)
    people = {
        split: {record.person for record in faces.records if record.split == split}
        for split in SPLITS
    }
    chosen: list[FaceRecord] = []
    left_out: dict[str, str] = {}
    for record in faces.records:
        split = official[session_of(record)]
        if protocol == "subject-disjoint" and split != "test":
            if record.person in people["test"]:
                left_out[session_of(record)] = (
                    f"official split '{split}', but person '{record.person}' is tested"
                )
                continue
            if record.person in people["train"]:
                split = "train"
        elif protocol == "official-traindev" and split == "dev":
            split = "train"
        chosen.append(replace(record, split=split))
    parts = {split: tuple(record for record in chosen if record.split == split) for split in SPLITS}
    if not parts["train"]:
        raise InputError(
            f"{faces.name}: expected recordings to train on under '{protocol}', found none "
            f"({len(left_out)} sessions are left out); add people or choose another protocol."
        )
    train, dev, test = (
        replace(faces, records=records) if records else None for records in parts.values()
    )
    seen = people["test"] & (people["train"] | people["dev"])
    return Partition(protocol, train, dev, test, left_out, frozenset(seen))


def session_of(record: FaceRecord) -> str:
    """What the label belongs to: "person/session", or the recording where no session is named."""
    return f"{record.person}/{record.session}" if record.session else record.recording


def _official_splits(faces: FaceSet) -> dict[str, str]:
    """Official split of each session; InputError for a record that cannot be placed."""
    found: dict[str, str] = {}
    for record in faces.records:
        if not record.recording:
            raise InputError(
                f"{faces.name}: expected a recording for '{record.key}', found a photograph; "
                "a protocol splits recordings: leave the image out."
            )
        if not 0 <= record.severity <= BDI_MAX:
            raise InputError(
                f"{faces.name}: expected a BDI-II label in [0, 63] for '{record.key}', found "
                f"{record.severity:g}; fill the label or leave the recording out."
            )
        if record.split not in SPLITS:
            raise InputError(
                f"{faces.name}: expected an official split (train, dev or test) for "
                f"'{record.key}', found '{record.split}'; fill the split."
            )
        session = session_of(record)
        if found.setdefault(session, record.split) != record.split:
            raise InputError(
                f"{faces.name}: expected session '{session}' in one split, found it in "
                f"'{found[session]}' and '{record.split}'; move all of it to one of them."
            )
    return found
