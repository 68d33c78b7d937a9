"""Depression metrics, computed once over all recordings, with intervals clustered by person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opticaldr.results import Figure
from opticaldr.types import InputError

Scores = NDArray[np.float64]


def mae(scores: Scores, labels: Scores) -> float:
    """Mean absolute error in BDI-II points."""
    return float(np.abs(scores - labels).mean())


def rmse(scores: Scores, labels: Scores) -> float:
    """Root of the mean squared error over all recordings (never averaged over batches)."""
    return float(np.sqrt(np.square(scores - labels).mean()))


def ccc(scores: Scores, labels: Scores) -> float:
    """Lin's concordance 2 cov / (var + var + (mean - mean)^2), population moments; 0 if constant."""
    covariance = ((scores - scores.mean()) * (labels - labels.mean())).mean()
    spread = scores.var() + labels.var() + (scores.mean() - labels.mean()) ** 2
    return float(2 * covariance / spread) if spread > 0 else 0.0


@dataclass(frozen=True)
class ClusterBootstrap:
    """Resamples people with replacement; every recording follows its person.

    Draws are fixed by the seed, so that figures of one table use the same resamples and
    differences between rows are paired.
    """

    people: tuple[str, ...]
    resamples: int = 2000
    seed: int = 0

    def figure(self, statistic: Callable[[NDArray[np.intp]], float]) -> Figure:
        """Value and percentile 95 % interval of statistic(indices of recordings)."""
        n = len(self.people)
        if n == 0:
            raise InputError("Expected at least one recording to score, found none.")
        _, person = np.unique(np.array(self.people), return_inverse=True)
        members = [np.flatnonzero(person == p) for p in range(int(person.max()) + 1)]
        rng = np.random.default_rng(self.seed)
        values = []
        for _ in range(self.resamples):
            drawn = rng.integers(len(members), size=len(members))
            values.append(statistic(np.concatenate([members[p] for p in drawn])))
        low, high = np.quantile(values, [0.025, 0.975])
        return Figure(statistic(np.arange(n)), (float(low), float(high)), n)
