"""Verification pairs: which two images are compared, and whether they show the same person."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opticaldr.types import InputError


@dataclass(frozen=True)
class Pairs:
    """n comparisons as indices into FaceSet.records.

    first, second: (n,) int64. The first is the gallery picture, the second the probe.
    same: (n,) bool, True for mated pairs (one person), False for non-mated ones.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray

    def __post_init__(self) -> None:
        if not self.first.shape == self.second.shape == self.same.shape == (len(self.same),):
            raise ValueError(
                "Expected three vectors of one length, found shapes "
                f"{self.first.shape}, {self.second.shape}, {self.same.shape}."
            )
        if self.same.all() or not self.same.any():
            raise InputError(
                f"Expected mated and non-mated pairs, found {int(self.same.sum())} mated of "
                f"{len(self)}; use a set with at least two people and two images of one of them."
            )

    def __len__(self) -> int:
        return len(self.same)

    @property
    def images(self) -> np.ndarray:
        """Sorted indices of the images that occur in any pair."""
        return np.unique(np.concatenate([self.first, self.second]))

    @property
    def sha256(self) -> str:
        """Fingerprint of the list, printed beside every figure that rests on it."""
        columns = np.stack([self.first, self.second, self.same], axis=1).astype("<i8")
        return hashlib.sha256(columns.tobytes()).hexdigest()


def all_pairs(people: Sequence[str], *, max_nonmated: int, seed: int) -> Pairs:
    """Every mated pair, and all non-mated pairs or a random `max_nonmated` of them.

    Args:
        people: the person of each image.
        max_nonmated: upper limit of non-mated pairs, drawn without replacement.
        seed: of the draw; the list is a function of (people, max_nonmated, seed).
    """
    _, person = np.unique(np.asarray(people), return_inverse=True)
    images = len(person)
    members = [np.flatnonzero(person == p) for p in range(person.max(initial=-1) + 1)]
    mated = [np.stack(np.triu_indices(len(m), 1), axis=1) for m in members]
    mated = np.concatenate([m[pair] for m, pair in zip(members, mated, strict=True)] or [[]])
    mated = mated.reshape(-1, 2).astype(np.int64)
    nonmated = _nonmated(person, images * (images - 1) // 2 - len(mated), max_nonmated, seed)
    both = np.concatenate([mated, nonmated])
    same = np.arange(len(both)) < len(mated)
    return Pairs(both[:, 0], both[:, 1], same)


def _nonmated(person: np.ndarray, total: int, limit: int, seed: int) -> np.ndarray:
    """(n, 2) pairs i < j of different people; all `total` of them if they fit the limit."""
    images = len(person)
    if total <= 4 * limit:  # few enough to list, and too dense for drawing with rejection
        pairs = np.stack(np.triu_indices(images, 1), axis=1)
        pairs = pairs[person[pairs[:, 0]] != person[pairs[:, 1]]]
        if total <= limit:
            return pairs
        return pairs[np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))]
    rng = np.random.default_rng(seed)
    codes = np.empty(0, dtype=np.int64)
    while len(codes) < limit:
        i, j = np.sort(rng.integers(images, size=(2, 2 * limit)), axis=0)
        fresh = (i * images + j)[person[i] != person[j]]
        codes = np.concatenate([codes, fresh])
        codes = codes[np.sort(np.unique(codes, return_index=True)[1])]  # keep the first of each
    codes = np.sort(codes[:limit])
    return np.stack([codes // images, codes % images], axis=1)
