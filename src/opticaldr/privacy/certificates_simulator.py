"""The simulator certificate: how well a k x k thumbnail predicts the record (privacy.md 4.5).

Whatever an attacker learns from the record he could have learned from the thumbnail, but for a
probability delta that is the total variation between the record and one simulated out of the
thumbnail. The better the predictor, the smaller delta; a bad predictor only loosens the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from opticaldr.privacy.certificates import d_pair, hetero_affinity, tv, tv_from_affinity

RIDGES = tuple(10.0**e for e in range(-8, 1))
"""Strengths that are tried, thumbnails in [0, 1] and summed over images (privacy.md 7.3)."""
HELD_OUT = 5
"""Every fifth of the attacker's people chooses the strength."""
ROWS = 64
"""Records compared at once: 25 MB of float64 at 128 px."""


@dataclass(frozen=True)
class RecordLaw:
    """The law of one record given its mean, per frame: Gaussian, independent between samples.

    read_noise: [full scale]. full_well_e: electrons at full scale; the variance of a sample at
    `level` is read_noise^2 + level / full_well_e.
    """

    read_noise: float
    full_well_e: float

    def variance(self, level: np.ndarray) -> np.ndarray:
        """Of one sample, [full scale^2]."""
        return self.read_noise**2 + np.maximum(level, 0) / self.full_well_e

    def apart(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """How far the records with means (n, p) are apart, row by row, (n,); adds up over frames.

        d^2 where the noise is the same everywhere, else -ln of the Bhattacharyya coefficient.
        """
        found = []
        for start in range(0, len(first), ROWS):
            a = np.asarray(first[start : start + ROWS], dtype=float)
            b = np.asarray(second[start : start + ROWS], dtype=float)
            if np.isinf(self.full_well_e):
                found.append(d_pair(np.linalg.norm(a - b, axis=1), self.read_noise) ** 2)
            else:
                found.append(hetero_affinity(a, self.variance(a), b, self.variance(b)).sum(axis=1))
        return np.concatenate(found)

    def tv(self, apart: np.ndarray, *, frames: int) -> np.ndarray:
        """Total variation, or its upper bound, from `apart`."""
        if np.isinf(self.full_well_e):
            return tv(np.sqrt(frames * apart))
        return tv_from_affinity(frames * apart)


def thumbnail(scenes: Tensor, k: int) -> Tensor:
    """Means over k x k equal parts of the frame, (b, 3, k, k); pixels on a border are shared."""
    size = scenes.shape[-1]
    edge = torch.linspace(0, size, k + 1, dtype=torch.float64)[:, None]
    pixel = torch.arange(size, dtype=torch.float64)
    share = torch.minimum(edge[1:], pixel + 1) - torch.maximum(edge[:-1], pixel)
    pool = (share.clamp_min(0) * (k / size)).to(scenes)
    return pool @ scenes @ pool.T


@dataclass(frozen=True)
class RecordPredictor:
    """Ridge regression from thumbnails (n, q) to mean records (n, p), `ridge` its strength."""

    mean_in: np.ndarray
    mean_out: np.ndarray
    right: np.ndarray
    singular: np.ndarray
    projected: np.ndarray
    ridge: float = RIDGES[0]

    def __call__(self, thumbnails: np.ndarray) -> np.ndarray:
        """(m, q) thumbnails to predicted records (m, p)."""
        gain = self.singular / (self.singular**2 + self.ridge)
        weights = ((thumbnails - self.mean_in) @ self.right.T * gain).astype(self.projected.dtype)
        return weights @ self.projected + self.mean_out


def fit_predictor(
    thumbnails: np.ndarray, records: np.ndarray, people: np.ndarray
) -> RecordPredictor:
    """The predictor of an attacker's images, with the strength that predicts held-out people best.

    Args:
        thumbnails: (n, q) and records (n, p) of the same images. people: (n,) int.
    """
    held = np.isin(people, np.unique(people)[::HELD_OUT])
    strength = RIDGES[0]
    if held.any() and not held.all():
        fit = _fit(thumbnails, records, np.flatnonzero(~held))
        total = np.zeros(len(RIDGES))
        for rows in in_batches(np.flatnonzero(held)):
            for i, ridge in enumerate(RIDGES):
                apart = replace(fit, ridge=ridge)(thumbnails[rows]) - records[rows]
                total[i] += np.linalg.norm(apart, axis=1).sum()
        strength = RIDGES[int(np.argmin(total))]
    return replace(_fit(thumbnails, records, np.arange(len(records))), ridge=strength)


def _fit(inputs: np.ndarray, outputs: np.ndarray, rows: np.ndarray) -> RecordPredictor:
    """One singular value decomposition serves every strength; no copy of the outputs is made."""
    mean_in = inputs[rows].mean(axis=0)
    left, singular, right = np.linalg.svd(inputs[rows] - mean_in, full_matrices=False)
    left = left.astype(outputs.dtype)
    total = np.zeros(outputs.shape[1])
    projected = np.zeros((len(singular), outputs.shape[1]), dtype=outputs.dtype)
    for part, few in zip(in_batches(np.arange(len(rows))), in_batches(rows), strict=True):
        total += outputs[few].sum(axis=0, dtype=float)
        # the rows of `left.T` are orthogonal to the constant, so the outputs need no centring
        projected += left[part].T @ outputs[few]
    mean_out = (total / len(rows)).astype(outputs.dtype)
    return RecordPredictor(mean_in, mean_out, right, singular, projected)


def in_batches(index: np.ndarray) -> Iterator[np.ndarray]:
    """ROWS entries of an index at a time."""
    return (index[start : start + ROWS] for start in range(0, len(index), ROWS))


def mean_over_people(
    values: np.ndarray, people: np.ndarray, *, replicates: int, seed: int
) -> tuple[float, float]:
    """Mean of (n,) values and its one-sided upper 95 % limit over resampled people."""
    _, person = np.unique(people, return_inverse=True)
    total, count = np.bincount(person, weights=values), np.bincount(person)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), size=replicates)
    upper = np.quantile((drawn @ total) / (drawn @ count), 0.95)
    return float(values.mean()), float(max(upper, values.mean()))
