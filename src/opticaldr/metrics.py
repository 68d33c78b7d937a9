"""Depression metrics, computed once over all recordings, with intervals clustered by person.

Every metric takes scores and labels (n,) and optional weights (..., n) that say how often each unit
counts; it returns one number per row of weights. So one call measures all bootstrap resamples.
Moments are population moments (divided by n). Undefined values are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from opticaldr.results import Figure
from opticaldr.types import InputError

Scores = NDArray[np.float64]
Weights = NDArray[np.float64] | None
Values = NDArray[np.float64]
"""One value per row of weights; a scalar without weights."""

BANDS = ((13, "minimal"), (19, "mild"), (28, "moderate"), (63, "severe"))
"""Upper ends of the BDI-II bands (manual; depression.md 5)."""

SPREAD_FLOOR = 1e-9
"""Variance [points squared] below which scores are constant: rounding, not variation."""

SPARE = 0.05
"""Largest share of resamples in which a reported metric may be undefined."""


def mae(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Mean absolute error in BDI-II points."""
    return _mean(np.abs(scores - labels), weights)


def rmse(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Root of the mean squared error over all recordings (never averaged over batches)."""
    return np.sqrt(_mean(np.square(scores - labels), weights))


def bias(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Mean error; above 0 the scores are too high."""
    return _mean(scores - labels, weights)


def error_spread(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Standard deviation of the error; bias +- 1.96 of it are the Bland-Altman limits."""
    return np.sqrt(_moments(scores - labels, labels, weights)[2])


def ccc(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Lin's concordance 2 cov / (var + var + (mean - mean)^2); 0 if both are one constant."""
    mean_s, mean_l, var_s, var_l, covariance = _moments(scores, labels, weights)
    spread = var_s + var_l + np.square(mean_s - mean_l)
    return 2 * covariance / np.where(spread > SPREAD_FLOOR, spread, np.inf)


def pearson(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Correlation r; NaN if scores or labels are constant."""
    _, _, var_s, var_l, covariance = _moments(scores, labels, weights)
    return covariance / np.sqrt(_or_nan(var_s) * _or_nan(var_l))


def spearman(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Correlation of ranks, ties at their middle rank; NaN if scores or labels are constant."""
    return pearson(_midranks(scores, weights), _midranks(labels, weights), weights)


def slope(x: Scores, y: Scores, weights: Weights = None) -> Values:
    """Slope of the least-squares line of y on x; NaN if x is constant.

    Of labels on scores it is the calibration slope; of scores on labels, how much of a difference in
    severity reaches the score.
    """
    _, _, var_x, _, covariance = _moments(x, y, weights)
    return covariance / _or_nan(var_x)


def intercept(x: Scores, y: Scores, weights: Weights = None) -> Values:
    """Intercept of the least-squares line of y on x; NaN if x is constant."""
    return _mean(y, weights) - slope(x, y, weights) * _mean(x, weights)


def r_squared(
    scores: Scores, labels: Scores, weights: Weights = None, *, reference: float
) -> Values:
    """1 - squared error / squared error of the constant `reference` (the train mean)."""
    constant = np.full_like(labels, reference)
    return 1 - np.square(rmse(scores, labels, weights) / _or_nan(rmse(constant, labels, weights)))


def band_numbers(scores: Scores) -> NDArray[np.int64]:
    """Index into BANDS of each score, halves rounded up (28.5 is severe)."""
    return np.searchsorted([upper for upper, _ in BANDS[:-1]], np.floor(scores + 0.5))


def kappa(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Cohen's kappa of the bands with quadratic weights: the CCC of their numbers."""
    return ccc(band_numbers(scores).astype(float), band_numbers(labels).astype(float), weights)


def balanced_accuracy(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Mean share of each band's recordings that get that band, over bands that occur."""
    given, true = band_numbers(scores), band_numbers(labels)
    recalls = []
    for band in range(len(BANDS)):
        held = _total((true == band).astype(float), weights)
        hit = _total(((true == band) & (given == band)).astype(float), weights)
        recalls.append(hit / _or_nan(held))
    return np.nanmean(np.stack(recalls), axis=0)


def auroc(scores: Scores, labels: Scores, weights: Weights = None, *, threshold: float) -> Values:
    """Chance that a label of `threshold` or more has the higher score; NaN if one side is empty."""
    above = (labels >= threshold).astype(float)
    many = _total(above, weights)
    rest = _total(1 - above, weights)
    ranks = _total(above * _midranks(scores, weights), weights)
    return (ranks - many * (many + 1) / 2) / (_or_nan(many) * _or_nan(rest))


@dataclass(frozen=True)
class ClusterBootstrap:
    """Resamples people with replacement; every recording follows its person.

    Draws are fixed by the seed, so that figures of one table use the same resamples and
    differences between rows are paired. people: the person of each unit.
    """

    people: tuple[str, ...]
    resamples: int = 2000
    seed: int = 0

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """How often each unit is drawn: (resamples, units)."""
        names, person = np.unique(np.array(self.people), return_inverse=True)
        if len(names) < 2:
            raise InputError(
                f"Expected recordings of at least two people to score, found {len(names)}; an "
                "interval over people needs more of them."
            )
        rng = np.random.default_rng(self.seed)
        drawn = rng.multinomial(len(names), [1 / len(names)] * len(names), size=self.resamples)
        return drawn[:, person].astype(float)

    def interval(
        self, statistic: Callable[[Weights], Values], *, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Percentile interval of statistic(weights); None if too many resamples leave it undefined."""
        values = np.asarray(statistic(self.weights))
        if np.isnan(values).mean() > SPARE:
            return None
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def figure(self, statistic: Callable[[Weights], Values]) -> Figure | None:
        """Value and 95 % interval; None if the statistic is undefined here."""
        value = float(statistic(None))
        limits = self.interval(statistic)
        if not np.isfinite(value) or limits is None:
            return None
        return Figure(value, limits, len(self.people))


def _total(values: NDArray[np.float64], weights: Weights) -> Values:
    return values.sum() if weights is None else np.einsum("...n,...n->...", weights, values)


def _mean(values: NDArray[np.float64], weights: Weights) -> Values:
    return values.mean() if weights is None else _total(values, weights) / _or_nan(weights.sum(-1))


def _moments(
    x: Scores, y: Scores, weights: Weights
) -> tuple[Values, Values, Values, Values, Values]:
    """Means, variances and covariance; variances of constants are exactly 0."""
    mean_x, mean_y = _mean(x, weights), _mean(y, weights)
    off_x, off_y = x - _column(mean_x), y - _column(mean_y)
    var_x, var_y = _mean(off_x**2, weights), _mean(off_y**2, weights)
    return (
        mean_x,
        mean_y,
        np.where(var_x > SPREAD_FLOOR, var_x, 0.0),
        np.where(var_y > SPREAD_FLOOR, var_y, 0.0),
        _mean(off_x * off_y, weights),
    )


def _column(values: Values) -> Values:
    """(...,) to (..., 1)."""
    return np.asarray(values)[..., None]


def _or_nan(values: Values) -> Values:
    """Zeros become NaN, so that a division by them is undefined instead of infinite."""
    return np.where(values > 0, values, np.nan)


def _midranks(values: Scores, weights: Weights) -> NDArray[np.float64]:
    """Rank of each unit among all copies, from 1, ties at their middle; the shape of weights."""
    counts = np.ones_like(values) if weights is None else weights
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    held = np.add.reduceat(counts[..., order], starts, axis=-1)
    middle = held.cumsum(-1) - held + (held + 1) / 2
    return middle[..., group]
