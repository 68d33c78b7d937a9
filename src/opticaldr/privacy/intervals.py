"""How sure a metric is: intervals over resampled people, equivalence to chance, least sizes.

People are resampled with replacement; a person drawn w_i times weighs w_i in mated and w_i w_j in
non-mated pairs. For pairs that share people this product has one flaw: the noise of each single
non-mated pair enters the variance three times (E[w^2]^2 - 1 = 3), so that intervals of sets with few
images a person are up to 1.7 times too wide. With P the variance that the non-mated pairs have on
their own (measured by resampling them alone), the bootstrap's variance is V = D + 2 P, where D is
the dyadic cluster-robust variance (Fafchamps & Gubert 2007; Aronow, Samii & Assenova 2015). Reported
95 % intervals are the percentile interval scaled to D, and by Student's t for few people. The limits
that a claim of privacy rests on keep V: with a wrong claim on one side, too wide is the safe side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import beta, norm, t

from opticaldr.privacy.statistics import Scores, codes, direction_free
from opticaldr.results import Figure
from opticaldr.types import InputError

Metrics = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(mated weights (b, m), non-mated weights (b, n)) -> (b, s) values; NaN where undefined."""

_CHUNK = 600_000
"""Replicates times pairs worked on at once: 5 MB of float64 weights per array."""


@dataclass(frozen=True)
class Estimate:
    """One metric with its bootstrap distribution.

    value: of the scores as they are. replicates: (b,), finite. dyadic: D / V, the share of the
    replicates' variance that is real, in [1/3, 1]. people, pairs: that it rests on.
    bounds: least and largest possible value. trials: mated pairs behind a rate of error, else 0.
    """

    value: float
    replicates: np.ndarray = field(repr=False)
    dyadic: float
    people: int
    pairs: int
    bounds: tuple[float, float] = (-np.inf, np.inf)
    trials: int = 0

    @property
    def variance(self) -> float:
        """Dyadic cluster-robust variance."""
        return float(np.var(self.replicates) * self.dyadic) if len(self.replicates) else np.nan

    def limit(self, level: float, *, cautious: bool = False) -> float:
        """The quantile `level` of where the truth may lie; cautious: never too narrow.

        Resampling cannot produce an error, or a hit, that was never seen: limits of a rate are
        never inside those of an exact binomial (Clopper & Pearson 1934).
        """
        if not len(self.replicates) or not np.isfinite(self.value):
            return np.nan
        few = t.ppf(0.975, self.people - 1) / norm.ppf(0.975)
        scale = few * np.sqrt(self.people / (self.people - 1))
        if not cautious:
            scale *= np.sqrt(self.dyadic)
        offset = np.quantile(self.replicates, level) - self.value
        limit = float(np.clip(self.value + scale * offset, *self.bounds))
        if not self.trials:
            return limit
        seen = self.value * self.trials
        if level < 0.5:
            return min(limit, binomial_limit(level, seen, self.trials))
        return max(limit, binomial_limit(level, seen, self.trials))

    @property
    def figure(self) -> Figure:
        """Value and 95 % interval; n = number of pairs."""
        return Figure(self.value, (self.limit(0.025), self.limit(0.975)), self.pairs)


def estimates(
    metrics: Metrics,
    scores: Scores,
    *,
    replicates: int,
    seed: int,
    bounds: Sequence[tuple[float, float]] = (),
    rates: int = 0,
) -> list[Estimate]:
    """Each metric with its distribution over `replicates` resampled sets of people.

    Args:
        scores: whose people are resampled; `metrics` gets weights in their order.
        seed: of the draw; the same seed draws the same people for every metric and attempt.
        bounds: least and largest value of each metric.
        rates: how many of the metrics, the last ones, are shares of the mated pairs.
    """
    coded, people = codes(scores)
    mated, nonmated = coded.mated_person, coded.nonmated_people
    of_people, of_pairs = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])

    def draw_people(count: int) -> np.ndarray:
        drawn = of_people.multinomial(people, np.full(people, 1 / people), size=count).astype(float)
        weight = np.take(drawn, nonmated[:, 0], axis=1)
        weight *= np.take(drawn, nonmated[:, 1], axis=1)
        return metrics(np.take(drawn, mated, axis=1), weight)

    def draw_pairs(count: int) -> np.ndarray:
        # exponential weights (the Bayesian bootstrap): mean 1, variance 1, quick to draw
        return metrics(
            np.ones((count, len(mated))), of_pairs.standard_exponential((count, len(nonmated)))
        )

    step = max(1, _CHUNK // len(scores))
    counts = [min(step, replicates - start) for start in range(0, replicates, step)]
    value = metrics(np.ones((1, len(mated))), np.ones((1, len(nonmated))))[0]
    by_people = np.concatenate([draw_people(count) for count in counts])
    by_pairs = np.concatenate([draw_pairs(count) for count in counts])
    found = []
    for column, middle in enumerate(value):
        samples, singles = (
            drawn[np.isfinite(drawn[:, column]), column] for drawn in (by_people, by_pairs)
        )
        total, alone = (float(np.var(part)) if len(part) else 0.0 for part in (samples, singles))
        dyadic = np.clip((total - 2 * alone) / total, 1 / 3, 1) if total > 0 else 1.0
        limits = bounds[column] if bounds else (-np.inf, np.inf)
        trials = len(mated) if column >= len(value) - rates else 0
        found.append(
            Estimate(float(middle), samples, float(dyadic), people, len(scores), limits, trials)
        )
    return found


@dataclass(frozen=True)
class FreeDirection:
    """max(AUC, 1 - AUC) with one-sided 95 % limits, each valid for either direction of the leak."""

    value: float
    lower95: float
    upper95: float


def free_direction(area: Estimate) -> FreeDirection:
    """Folds an AUC at 0.5.

    The upper limit is the larger one of the 95 % limits of AUC and of 1 - AUC (two one-sided tests:
    the truth lies on one side, and its limit holds with 95 %). The lower limit takes 97.5 % limits:
    at chance either side may err.
    """
    return FreeDirection(
        direction_free(area.value),
        max(0.5, area.limit(0.025), 1 - area.limit(0.975)),
        max(area.limit(0.95, cautious=True), 1 - area.limit(0.05, cautious=True)),
    )


@dataclass(frozen=True)
class Equivalence:
    """Whether an attack is shown to be no better than chance within a margin, and the sentence."""

    shown: bool
    sentence: str


def equivalence(area: FreeDirection, *, margin: float) -> Equivalence:
    """One-sided: the upper 95 % limit of max(AUC, 1 - AUC) lies below 0.5 + margin."""
    if area.upper95 < 0.5 + margin:
        return Equivalence(
            True,
            f"With 95 % confidence the AUC of this attack, in either direction, lies below "
            f"{area.upper95:.3f}: equivalent to chance within the margin of {margin:g}.",
        )
    return Equivalence(
        False,
        f"Equivalence to chance within the margin of {margin:g} is not shown: the upper 95 % limit "
        f"of the AUC, in either direction, is {area.upper95:.3f}.",
    )


def supports(rate: float, nonmated: int) -> bool:
    """Whether so many non-mated pairs can say anything at an FMR: rule of three, n >= 3 / rate."""
    return nonmated * rate >= 3 - 1e-9


def require_supported(rate: float, nonmated: int) -> None:
    """InputError where a claim at an FMR rests on too few non-mated pairs."""
    if not supports(rate, nonmated):
        raise InputError(
            f"Expected at least {round(3 / rate)} non-mated pairs for a claim at FMR {rate:g} (rule "
            f"of three), found {nonmated}; list more pairs or claim at a higher rate."
        )


def independent_variance(scores: Scores) -> float:
    """Variance of the AUC if no two pairs shared a person (DeLong, DeLong & Clarke-Pearson 1988)."""

    def beaten(by: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Share of `of` below each score of `by`, ties half."""
        ranked = np.sort(of)
        sides = (np.searchsorted(ranked, by, side=side) for side in ("left", "right"))
        return sum(sides) / (2 * len(of))

    parts = beaten(scores.mated, scores.nonmated), beaten(scores.nonmated, scores.mated)
    return float(sum(part.var() / len(part) for part in parts))


def effective_pairs(scores: Scores, area: Estimate) -> float:
    """Number of independent pairs with the same uncertainty: pairs / design effect; at most all."""
    if not area.variance > 0:
        return np.nan
    return float(min(1.0, independent_variance(scores) / area.variance) * len(scores))


def proportion_interval(hit: np.ndarray, person: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean of values in [0, 1], with several per person.

    Clopper-Pearson at the effective sample size (Korn & Graubard 1998): exact binomial for one 0/1
    value a person, and never of width 0. hit, person: (t,).
    """
    names, code = np.unique(person, return_inverse=True)
    share, people = float(hit.mean()), len(names)
    size = float(people)
    if people < len(hit) or not np.isin(hit, (0, 1)).all():
        residual = np.bincount(code, hit - share) / len(hit)
        variance = float((residual**2).sum()) * people / max(people - 1, 1)
        if variance > 1e-12:
            size = share * (1 - share) / variance
    return binomial_limit(0.025, share * size, size), binomial_limit(0.975, share * size, size)


def binomial_limit(level: float, hits: float, trials: float) -> float:
    """Clopper-Pearson limit of a share at `level` (0.025: lower, 0.975: upper)."""
    if level < 0.5:
        return float(beta.ppf(level, hits, trials - hits + 1)) if hits > 0 else 0.0
    return float(beta.ppf(level, hits + 1, trials - hits)) if hits < trials else 1.0
