"""D_sys, the linkability of ISO/IEC 24745 as Gomez-Barrero et al. (2018) define it, less its bias.

A score s links two records locally by D(s) = 2 LR / (1 + LR) - 1 where the likelihood ratio LR of
mated to non-mated exceeds 1, else by 0 (prior odds 1); D_sys is its mean over mated scores. Every
estimate is biased up, so that labels dealt at random say what zero looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from opticaldr.privacy.statistics import Scores

PERMUTATIONS = 200
"""Deals of labels: the 95th percentile is then the mean of about 10 values above it."""


@dataclass(frozen=True)
class Linkability:
    """D_sys, its mean and 95th percentile under labels dealt at random, and the excess over the mean."""

    value: float
    null_mean: float
    null_95: float

    @property
    def excess(self) -> float:
        return self.value - self.null_mean


def linkage(mated: np.ndarray, posterior: np.ndarray) -> float:
    """D_sys of cells with shares `mated` (c,) of the mated scores and P(mated | cell) at odds 1."""
    return float(mated @ np.maximum(2 * posterior - 1, 0))


def linkability(scores: Scores, *, seed: int) -> Linkability:
    """D_sys with an isotonic likelihood ratio, rising or falling with the score (the larger one)."""
    ranked, place = np.unique(np.concatenate([scores.mated, scores.nonmated]), return_inverse=True)
    rng = np.random.default_rng(seed)
    label = np.arange(len(scores)) < len(scores.mated)

    def of(label: np.ndarray) -> float:
        mated = np.bincount(place[label], minlength=len(ranked)) / len(scores.mated)
        nonmated = np.bincount(place[~label], minlength=len(ranked)) / len(scores.nonmated)
        both = mated + nonmated
        return max(
            linkage(mated, isotonic_regression(mated / both, weights=both, increasing=rising).x)
            for rising in (True, False)
        )

    null = [of(rng.permutation(label)) for _ in range(PERMUTATIONS)]
    return Linkability(of(label), float(np.mean(null)), float(np.quantile(null, 0.95)))
