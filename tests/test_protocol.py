"""The three protocols on a small set whose people cross the official splits, as AVEC's do."""

from __future__ import annotations

import numpy as np
import pytest

from opticaldr.data.faceset import FaceSet
from opticaldr.data.protocol import partition
from opticaldr.types import FaceRecord, InputError

# person_session -> official split. 201 tests alone; 202 trains and tests; 203 develops and tests;
# 204 trains and develops; 205 develops alone; 206 trains alone.
SESSIONS = {
    "201_1": "test", "202_1": "train", "202_2": "test", "203_1": "dev", "203_2": "test",
    "204_1": "train", "204_2": "dev", "205_1": "dev", "206_1": "train",
}  # fmt: skip


def record(name: str, task: str = "Freeform", frame: int = 0, **changes) -> FaceRecord:
    person = name.split("_")[0]
    fields = {
        "key": f"{name}/{task}/{frame}",
        "person": person,
        "recording": f"{person}/{name}/{task}",
        "session": name,
        "task": task,
        "split": SESSIONS[name],
        "severity": 10.0,
    }
    return FaceRecord(**(fields | changes))


def face_set(records) -> FaceSet:
    return FaceSet("small", tuple(records), lambda _: np.zeros((4, 4, 3), np.uint8), synthetic=True)


@pytest.fixture
def faces() -> FaceSet:
    return face_set(
        record(session, task, frame)
        for session in SESSIONS
        for task in ("Freeform", "Northwind")
        for frame in range(2)
    )


def sessions(part: FaceSet | None) -> set[str]:
    return {r.session for r in part.records} if part else set()


def test_subject_disjoint_leaves_out_and_moves(faces):
    split = partition(faces, "subject-disjoint")
    assert sessions(split.test) == {"201_1", "202_2", "203_2"}
    assert sessions(split.train) == {"204_1", "204_2", "206_1"}  # 204 trains with all sessions
    assert sessions(split.dev) == {"205_1"}
    assert set(split.left_out) == {"202/202_1", "203/203_1"}
    assert split.left_out["203/203_1"] == "official split 'dev', but person '203' is tested"
    assert split.seen_people == {"202", "203"}
    # every record says where it went, and is otherwise as it was
    assert {r.split for r in split.train.records} == {"train"}
    assert len(split.train) == 3 * 2 * 2
    assert split.train.synthetic


def test_nobody_crosses_a_subject_disjoint_split():
    # 60 people with up to 3 sessions thrown into the splits at random, as badly as can be
    rng = np.random.default_rng(0)
    records = [
        record("201_1", person=f"{p}", recording=f"{p}/{s}", session=f"{s}", key=f"{p}/{s}",
               split=str(rng.choice(["train", "dev", "test"])))
        for p in range(60) for s in range(1 + p % 3)
    ]  # fmt: skip
    faces = face_set(records)
    split = partition(faces, "subject-disjoint")
    train, dev, test = (set(part.people) for part in (split.train, split.dev, split.test))
    assert not train & dev | train & test | dev & test
    kept = len(split.train) + len(split.dev) + len(split.test)
    assert kept + len(split.left_out) == len(faces)  # one record a session: nothing lost unsaid
    assert {r.key for r in split.test.records} == {r.key for r in records if r.split == "test"}


def test_official_protocols_keep_the_splits(faces):
    dev = partition(faces, "official-dev")
    assert sessions(dev.train) == {"202_1", "204_1", "206_1"}
    assert sessions(dev.dev) == {"203_1", "204_2", "205_1"}
    both = partition(faces, "official-traindev")
    assert sessions(both.train) == sessions(dev.train) | sessions(dev.dev)
    assert both.dev is None
    for split in (dev, both):
        assert sessions(split.test) == {"201_1", "202_2", "203_2"}
        assert split.left_out == {}
        assert split.seen_people == {"202", "203"}


def test_a_set_without_dev_or_test_has_none(faces):
    train = faces.split("train")
    split = partition(train, "subject-disjoint")
    assert (split.dev, split.test) == (None, None)
    assert sessions(split.train) == {"202_1", "204_1", "206_1"}


def test_sessions_are_told_apart_by_person():
    records = [
        record("201_1", person="a", session="1", recording="a/1", split="train"),
        record("201_1", person="b", session="1", recording="b/1", split="test"),
    ]
    split = partition(face_set(records), "official-dev")
    assert (len(split.train), len(split.test)) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"severity": float("nan")}, r"label in \[0, 63\] for '206_1/Freeform/0', found nan"),
        ({"severity": 64.0}, "found 64; fill the label"),
        ({"split": ""}, r"official split .* found ''"),
        ({"recording": ""}, "found a photograph"),
    ],
)
def test_what_cannot_be_placed_is_refused(faces, changes, message):
    bad = record("206_1", **changes)
    with pytest.raises(InputError, match=message):
        partition(face_set([*faces.records, bad]), "official-dev")


def test_a_session_in_two_splits_is_refused(faces):
    bad = record("206_1", "Northwind", 9, split="dev")
    with pytest.raises(
        InputError, match=r"'206/206_1' in one split, found it in 'train' and 'dev'"
    ):
        partition(face_set([*faces.records, bad]), "subject-disjoint")


def test_nothing_to_train_on_and_unknown_protocols_are_refused(faces):
    crossing = face_set(r for r in faces.records if r.person == "202")
    with pytest.raises(InputError, match=r"train on under 'subject-disjoint', found none \(1 sess"):
        partition(crossing, "subject-disjoint")
    with pytest.raises(InputError, match="found 'random'"):
        partition(faces, "random")
