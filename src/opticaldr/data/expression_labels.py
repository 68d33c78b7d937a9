"""Which number or name of each expression set means what: one map per set to types.EMOTIONS.

The orders differ in every set (depression.md 3.2); a wrong one trains a network without any error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from opticaldr.types import EMOTIONS, InputError

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's own order of labels 0 to 6."""

FERPLUS_CLASSES = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear"),
    *("contempt", "unknown", "NF"),
)
"""Columns of votes in fer2013new.csv, in its order; NF: not a face."""

AFFECTNET_CLASSES = (
    *("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"),
    *("none", "uncertain", "no face"),
)
"""AffectNet's own order of labels 0 to 10."""

RAFDB_CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's own order of labels 1 to 7."""

WITHOUT_EMOTION = ("contempt", "none", "uncertain", "no face", "unknown", "NF")
"""Classes that types.EMOTIONS does not have: such images are left out and counted."""

EMOTION_OF_NAME = {
    "neutral": "neutral",
    "happy": "happy",
    "happiness": "happy",
    "sad": "sad",
    "sadness": "sad",
    "surprise": "surprise",
    "surprised": "surprise",
    "fear": "fear",
    "fearful": "fear",
    "disgust": "disgust",
    "disgusted": "disgust",
    "angry": "anger",
    "anger": "anger",
}
"""Class names of expression sets -> types.EMOTIONS."""

SPLIT_SHARES = (("train", 0.8), ("dev", 0.9), ("test", 1.0))
"""Cumulative shares of the split of a set that has none."""

DEV_SHARE = 0.1
"""Share of the training images that select, in sets without a split for that."""


def emotion_of(name: str, path: Path) -> int:
    """Index into EMOTIONS of a class name; an unknown one is an InputError about `path`."""
    emotion = EMOTION_OF_NAME.get(name.lower())
    if emotion is None:
        raise InputError(
            f"Expected a class of expression in {path}, found '{name}'; "
            f"use one of {', '.join(EMOTION_OF_NAME)}."
        )
    return EMOTIONS.index(emotion)


def emotion_numbers(classes: Sequence[str]) -> tuple[int, ...]:
    """Index into EMOTIONS of each class of a set; -1 for those of WITHOUT_EMOTION."""
    return tuple(
        -1 if name in WITHOUT_EMOTION else EMOTIONS.index(EMOTION_OF_NAME[name]) for name in classes
    )


def split_by_hash(content: bytes) -> str:
    """The split that a hash of the content chooses, of a set that has none."""
    return next(split for split, limit in SPLIT_SHARES if _share(content) < limit)


def train_or_dev(content: bytes) -> str:
    """ "dev" for DEV_SHARE of all contents, by a hash."""
    return "dev" if _share(content) < DEV_SHARE else "train"


def _share(content: bytes) -> float:
    return int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64
