"""Verification metrics from raw scores, with intervals that respect identities.

Pairs that share a person are not independent: with 50-84 people, intervals that treat them as such
cover the truth about half of the time instead of 95 %. Here people are resampled with replacement;
a person drawn w_i times gives weight w_i to each mated pair and w_i w_j to each non-mated pair.
Every metric is therefore defined once, on weighted scores, and its value is the one with weights 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from opticaldr.results import Figure
from opticaldr.types import InputError

Statistic = Callable[["Scores", np.ndarray, np.ndarray], np.ndarray]
"""(scores, mated weights (b, m), non-mated weights (b, n)) -> (b,) values; NaN where undefined."""

_CHUNK = 600_000
"""Replicates times pairs worked on at once: 5 MB of float64 weights per array."""


@dataclass(frozen=True)
class Scores:
    """Similarity of m mated and n non-mated pairs; larger means more alike.

    mated: (m,), nonmated: (n,) float64.
    mated_person: (m,) int, the person of each mated pair.
    nonmated_people: (n, 2) int, the two people of each non-mated pair.
    """

    mated: np.ndarray
    nonmated: np.ndarray
    mated_person: np.ndarray
    nonmated_people: np.ndarray

    def __post_init__(self) -> None:
        wrong = sum(int((~np.isfinite(side)).sum()) for side in (self.mated, self.nonmated))
        if wrong:
            raise InputError(
                f"Expected finite scores, found NaN or infinity in {wrong} of {len(self)} pairs; "
                "check the embeddings that they come from."
            )
        if not len(self.mated) or not len(self.nonmated):
            raise InputError(
                f"Expected mated and non-mated scores, found {len(self.mated)} and "
                f"{len(self.nonmated)}; use at least two people and two images of one of them."
            )

    @property
    def people(self) -> int:
        """Number of distinct people."""
        return len(np.unique(np.concatenate([self.mated_person, self.nonmated_people.ravel()])))

    def __len__(self) -> int:
        return len(self.mated) + len(self.nonmated)


def auc(scores: Scores, mated_weight: np.ndarray, nonmated_weight: np.ndarray) -> np.ndarray:
    """P(mated > non-mated) + P(tie) / 2, weighted: (b,)."""
    order = np.argsort(scores.nonmated)
    ranked = scores.nonmated[order]
    below = _cumulative(nonmated_weight[:, order])
    less = below[:, np.searchsorted(ranked, scores.mated, side="left")]
    at_most = below[:, np.searchsorted(ranked, scores.mated, side="right")]
    wins = (mated_weight * (less + at_most)).sum(axis=1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (mated_weight.sum(axis=1) * below[:, -1])


def true_positive_rate(fpr: float) -> Statistic:
    """Share of mated pairs accepted at the false-positive rate `fpr`.

    Thresholds are the scores themselves, never a fixed grid: when a lens makes embeddings collapse,
    a grid sees one value and calls a perfect attacker chance. Between two thresholds the curve is
    interpolated, so that constant scores give TPR = FPR.
    """

    def statistic(
        scores: Scores, mated_weight: np.ndarray, nonmated_weight: np.ndarray
    ) -> np.ndarray:
        rates, accepted = _roc(scores, mated_weight, nonmated_weight)
        return np.array([np.interp(fpr, r, a) for r, a in zip(rates, accepted, strict=True)])

    return statistic


def leak_ratio(fpr: float) -> Statistic:
    """TPR / FPR at `fpr`: 1 at chance; finds the few exposed people whom the AUC averages away."""
    rate = true_positive_rate(fpr)
    return lambda scores, mated, nonmated: rate(scores, mated, nonmated) / fpr


def equal_error_rate(
    scores: Scores, mated_weight: np.ndarray, nonmated_weight: np.ndarray
) -> np.ndarray:
    """The rate at which false accepts equal false rejects, on the interpolated curve: (b,)."""
    rates, accepted = _roc(scores, mated_weight, nonmated_weight)
    # FPR + TPR grows from 0 to 2 along the curve; the equal error rate is FPR where it passes 1.
    return np.array([np.interp(1.0, r + a, r) for r, a in zip(rates, accepted, strict=True)])


def value(statistic: Statistic, scores: Scores) -> float:
    """The statistic of the scores as they are."""
    ones = np.ones((1, len(scores.mated))), np.ones((1, len(scores.nonmated)))
    return float(statistic(scores, *ones)[0])


def bootstrap(statistic: Statistic, scores: Scores, *, replicates: int, seed: int) -> Figure:
    """The statistic with a 95 % percentile interval over resampled people; n = number of pairs."""
    rng = np.random.default_rng(seed)
    coded, people = codes(scores)
    mated_person, nonmated_people = coded.mated_person, coded.nonmated_people
    samples = []
    step = max(1, _CHUNK // len(scores))
    for start in range(0, replicates, step):
        count = min(step, replicates - start)
        drawn = rng.multinomial(people, np.full(people, 1 / people), size=count)
        drawn = drawn.astype(float)
        nonmated_weight = drawn[:, nonmated_people[:, 0]] * drawn[:, nonmated_people[:, 1]]
        samples.append(statistic(scores, drawn[:, mated_person], nonmated_weight))
    low, high = np.nanpercentile(np.concatenate(samples), [2.5, 97.5])
    return Figure(value(statistic, scores), (float(low), float(high)), len(scores))


def codes(scores: Scores) -> tuple[Scores, int]:
    """The scores with people numbered 0 .. k - 1, and k."""
    everyone = np.concatenate([scores.mated_person, scores.nonmated_people.ravel()])
    names, code = np.unique(everyone, return_inverse=True)
    mated, nonmated = code[: len(scores.mated)], code[len(scores.mated) :].reshape(-1, 2)
    return replace(scores, mated_person=mated, nonmated_people=nonmated), len(names)


def direction_free(area: float) -> float:
    """max(AUC, 1 - AUC): an AUC of 0.45 leaks as much as one of 0.55."""
    return max(area, 1 - area)


def permuted(scores: Scores, *, seed: int) -> Scores:
    """Negative control: the same scores dealt to the pairs at random; the AUC must be chance."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(np.concatenate([scores.mated, scores.nonmated]))
    mated = len(scores.mated)
    return replace(scores, mated=shuffled[:mated], nonmated=shuffled[mated:])


def _cumulative(weight: np.ndarray) -> np.ndarray:
    """(b, n) -> (b, n + 1): total weight of the first 0, 1, .. n columns."""
    return np.pad(np.cumsum(weight, axis=1), ((0, 0), (1, 0)))


def _roc(
    scores: Scores, mated_weight: np.ndarray, nonmated_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR, each (b, t + 1), from (0, 0) to (1, 1); pairs with equal scores are one step."""
    both = np.concatenate([scores.mated, scores.nonmated])
    order = np.argsort(-both)
    ranked = both[order]
    steps = np.concatenate([[0], np.flatnonzero(np.diff(ranked)) + 1, [len(ranked)]])
    accepted_mated = np.where(order < len(scores.mated), 1.0, 0.0)
    weight = np.concatenate([mated_weight, nonmated_weight], axis=1)[:, order]
    tpr = _cumulative(weight * accepted_mated)[:, steps]
    fpr = _cumulative(weight * (1 - accepted_mated))[:, steps]
    with np.errstate(invalid="ignore", divide="ignore"):
        return fpr / fpr[:, -1:], tpr / tpr[:, -1:]
