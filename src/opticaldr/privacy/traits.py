"""What a capture says about a person short of the name: sex, age band, .. in rates and bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.privacy.evidence import TraitReading
from opticaldr.results import Figure

PERMUTATIONS = 1000


@dataclass(frozen=True)
class Bits:
    """Mutual information of truth and guess [bit], beside its mean and 95th percentile at chance."""

    value: float
    null_mean: float
    null_95: float

    @property
    def excess(self) -> float:
        return self.value - self.null_mean


def balanced_accuracy(table: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that occur, from counts (.., truth, guess)."""
    occurring = table.sum(axis=-1)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(occurring > 0, hits / occurring, np.nan), axis=-1)


def mutual_information(table: np.ndarray) -> float:
    """Bits that the guess says about the truth, from counts (truth, guess)."""
    joint = table / table.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / independent[seen])).sum())


def _tables(reading: TraitReading) -> np.ndarray:
    """Counts (person, truth, guess)."""
    names, person = np.unique(reading.person, return_inverse=True)
    classes = len(reading.classes)
    tables = np.zeros((len(names), classes, classes))
    np.add.at(tables, (person, reading.truth, reading.guess), 1)
    return tables


def accuracy_gain(reading: TraitReading, *, replicates: int, seed: int) -> Figure:
    """Balanced accuracy less that of always naming the majority, which is 1 / classes present.

    The interval is the percentile interval over resampled people; n = number of readings.
    """
    tables = _tables(reading)
    people = len(tables)
    chance = 1 / np.count_nonzero(tables.sum(axis=(0, 2)))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(people, np.full(people, 1 / people), size=replicates)
    samples = balanced_accuracy(np.tensordot(drawn, tables, axes=1)) - chance
    low, high = np.quantile(samples, [0.025, 0.975])
    gain = float(balanced_accuracy(tables.sum(axis=0))) - chance
    return Figure(gain, (float(low), float(high)), len(reading.truth))


def leaked_bits(reading: TraitReading, *, seed: int) -> Bits:
    """Mutual information; the null deals the people's truths to the people at random."""
    _, first, person = np.unique(reading.person, return_index=True, return_inverse=True)
    truth, classes = reading.truth[first], len(reading.classes)
    rng = np.random.default_rng(seed)

    def bits(of_reading: np.ndarray) -> float:
        counts = np.bincount(of_reading * classes + reading.guess, minlength=classes**2)
        return mutual_information(counts.reshape(classes, classes))

    null = [bits(rng.permutation(truth)[person]) for _ in range(PERMUTATIONS)]
    return Bits(bits(reading.truth), float(np.mean(null)), float(np.quantile(null, 0.95)))
