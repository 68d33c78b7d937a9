"""The simulator certificate: how well a k x k thumbnail predicts the record (privacy.md 4.5).

Whatever an attacker learns from the record he could have learned from the thumbnail, but for a
probability delta that is the total variation between the record and one simulated out of the
thumbnail. The better the predictor, the smaller delta; a bad predictor only loosens the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def predict_records(
    thumbnails: np.ndarray, records: np.ndarray, people: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, float]:
    """Ridge regression from thumbnails to mean records.

    Args:
        thumbnails: (n, q) and records (n, p) of the attacker's images.
        people: (n,) int; the strength is the one that predicts held-out people best.
        wanted: (m, q) thumbnails of the scenes to predict.

    Returns: predicted records (m, p) and the strength.
    """
    held = np.isin(people, np.unique(people)[::HELD_OUT])
    strength = RIDGES[0]
    if held.any() and not held.all():
        fit = _Ridge.of(thumbnails[~held], records[~held])
        errors = [
            np.linalg.norm(fit.predict(thumbnails[held], ridge) - records[held], axis=1).mean()
            for ridge in RIDGES
        ]
        strength = RIDGES[int(np.argmin(errors))]
    return _Ridge.of(thumbnails, records).predict(wanted, strength), strength


@dataclass(frozen=True)
class _Ridge:
    """One singular value decomposition serves every strength; q features, p outputs."""

    mean_in: np.ndarray
    mean_out: np.ndarray
    right: np.ndarray
    singular: np.ndarray
    projected: np.ndarray

    @classmethod
    def of(cls, inputs: np.ndarray, outputs: np.ndarray) -> _Ridge:
        mean_in, mean_out = inputs.mean(axis=0), outputs.mean(axis=0)
        left, singular, right = np.linalg.svd(inputs - mean_in, full_matrices=False)
        # the rows of `left.T` are orthogonal to the constant, so the outputs need no centring
        return cls(mean_in, mean_out, right, singular, left.T.astype(outputs.dtype) @ outputs)

    def predict(self, inputs: np.ndarray, ridge: float) -> np.ndarray:
        gain = self.singular / (self.singular**2 + ridge)
        weights = ((inputs - self.mean_in) @ self.right.T * gain).astype(self.projected.dtype)
        return weights @ self.projected + self.mean_out


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
