"""The error curve of one attempt, sorted once, and every headline metric of it under any weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from opticaldr.privacy.statistics import Scores, codes

BOUNDS = {"auc": (0.0, 1.0), "eer": (0.0, 1.0), "advantage": (-1.0, 1.0)}
"""Range of the metrics that have one; false non-match rates lie in (0, 1), d' anywhere."""


class Curve:
    """ROC of m mated and n non-mated scores; thresholds are the scores, equal scores one step.

    Call it with weights (b, m) and (b, n), in the order of `scores`, for the metrics (b, s) named
    in `names`: AUC, equal error rate, d', advantage, then the FNMR at each of `rates` (FMR).
    """

    def __init__(self, scores: Scores, *, rates: Sequence[float] = (), seed: int = 0) -> None:
        """Sorts the scores; seed: of the two halves of the people (advantage)."""
        mated, nonmated = np.argsort(-scores.mated), np.argsort(-scores.nonmated)
        self.scores = replace(
            scores,
            mated=scores.mated[mated],
            nonmated=scores.nonmated[nonmated],
            mated_person=scores.mated_person[mated],
            nonmated_people=scores.nonmated_people[nonmated],
        )
        self.rates = tuple(rates)
        self.names = ("auc", "eer", "d_prime", "advantage", *(f"fnmr@{r:g}" for r in rates))
        self._higher = _at_least(self.scores.mated, self.scores.nonmated, strictly=True)
        self._as_high = _at_least(self.scores.mated, self.scores.nonmated)
        self._steps = _steps(self.scores.mated, self.scores.nonmated)
        # the last step that accepts no more than 0 .. n non-mated scores
        counts = np.arange(len(scores.nonmated) + 1)
        self._step_of = np.searchsorted(self._steps[1], counts, side="right") - 1
        self._halves = _split(self.scores, seed)

    def bounds(self, name: str) -> tuple[float, float]:
        """Least and largest possible value of a metric."""
        return (0.0, 1.0) if name.startswith("fnmr") else BOUNDS.get(name, (-np.inf, np.inf))

    def __call__(self, mated_weight: np.ndarray, nonmated_weight: np.ndarray) -> np.ndarray:
        """Weighted metrics (b, s); NaN where a replicate holds no pair of one kind."""
        mated, nonmated = cumulative(mated_weight), cumulative(nonmated_weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            columns = [
                self._auc(mated, nonmated_weight),
                self._eer(mated, nonmated),
                self._d_prime(mated_weight, nonmated_weight),
                self._advantage(mated_weight, nonmated_weight),
            ]
            return np.column_stack([*columns, self.fnmr(mated, nonmated)])

    def auc(self, mated_weight: np.ndarray, nonmated_weight: np.ndarray) -> np.ndarray:
        """The AUC alone, (b, 1)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._auc(cumulative(mated_weight), nonmated_weight)[:, None]

    def fnmr(self, mated: np.ndarray, nonmated: np.ndarray) -> np.ndarray:
        """FNMR (b, r) at each of `rates`, interpolated; from cumulative weights (b, m+1), (b, n+1)."""
        found = np.empty((len(nonmated), len(self.rates)))
        wanted = np.asarray(self.rates) * nonmated[:, -1:]
        for row, (m, n, target) in enumerate(zip(mated, nonmated, wanted, strict=True)):
            # the tolerance: a rate that n pairs can meet exactly counts as met
            count = np.searchsorted(n, target * (1 + 1e-9), side="right") - 1
            step = np.minimum(self._step_of[count], len(self._steps[0]) - 2)
            low, high = ((m[self._steps[0][s]], n[self._steps[1][s]]) for s in (step, step + 1))
            share = (target - low[1]) / (high[1] - low[1])
            found[row] = 1 - (low[0] + share * (high[0] - low[0])) / m[-1]
        return found

    def _auc(self, mated: np.ndarray, nonmated_weight: np.ndarray) -> np.ndarray:
        """P(mated > non-mated) + P(tie) / 2."""
        wins = np.take(mated, self._higher, axis=1)
        if not np.array_equal(self._higher, self._as_high):
            wins = (wins + np.take(mated, self._as_high, axis=1)) / 2
        total = np.einsum("bn,bn->b", wins, nonmated_weight)
        return total / (mated[:, -1] * nonmated_weight.sum(axis=1))

    def _eer(self, mated: np.ndarray, nonmated: np.ndarray) -> np.ndarray:
        """The rate at which false accepts equal false rejects, on the interpolated curve."""
        fpr = np.take(nonmated, self._steps[1], axis=1) / nonmated[:, -1:]
        both = fpr + np.take(mated, self._steps[0], axis=1) / mated[:, -1:]
        # FPR + TPR grows from 0 to 2 along the curve; the equal error rate is FPR where it is 1
        return np.array([np.interp(1.0, b, f) for b, f in zip(both, fpr, strict=True)])

    def _d_prime(self, mated_weight: np.ndarray, nonmated_weight: np.ndarray) -> np.ndarray:
        """(mean of mated - mean of non-mated) / root mean of the two variances."""
        centre = np.mean(np.concatenate([self.scores.mated, self.scores.nonmated]))
        moments = []
        for score, weight in (
            (self.scores.mated - centre, mated_weight),
            (self.scores.nonmated - centre, nonmated_weight),
        ):
            total = weight.sum(axis=1)
            mean, square = weight @ score / total, weight @ score**2 / total
            variance = square - mean**2
            # a constant side has variance 0, but for what rounding leaves of the difference
            moments.append((mean, np.where(variance > 1e-12 * square, variance, 0)))
        (mean1, var1), (mean0, var0) = moments
        gap = mean1 - mean0
        return np.where(gap == 0, 0.0, gap / np.sqrt((var1 + var0) / 2))

    def _advantage(self, mated_weight: np.ndarray, nonmated_weight: np.ndarray) -> np.ndarray:
        """TPR - FPR at a threshold (and side) picked on one half of the people, on the other half.

        The largest difference on the same scores is biased up; people, not pairs, are halved, so
        that nobody helps to pick the threshold that judges him. Pairs across halves are left out.
        """
        found = []
        for half in self._halves:
            fpr, tpr = (
                [cumulative(np.take(weight, chosen, axis=1)) for chosen in parts]
                for weight, parts in (
                    (nonmated_weight, half.nonmated),
                    (mated_weight, half.mated),
                )
            )
            at = np.take(tpr[0], half.steps[0], axis=1) / tpr[0][:, -1:]
            at -= np.take(fpr[0], half.steps[1], axis=1) / fpr[0][:, -1:]
            best = np.argmax(np.abs(at), axis=1)
            rows = np.arange(len(at))
            unseen = tpr[1][rows, half.other_steps[0][best]] / tpr[1][:, -1]
            unseen -= fpr[1][rows, half.other_steps[1][best]] / fpr[1][:, -1]
            found.append(np.sign(at[rows, best]) * unseen)
        return np.mean(found, axis=0)


class _Half:
    """Indices of pairs within one half of the people, and within the other, with their steps."""

    def __init__(self, scores: Scores, inside: np.ndarray) -> None:
        mated = inside[scores.mated_person]
        both = inside[scores.nonmated_people]
        self.mated = np.flatnonzero(mated), np.flatnonzero(~mated)
        self.nonmated = np.flatnonzero(both.all(axis=1)), np.flatnonzero(~both.any(axis=1))
        own, other = (
            (scores.mated[m], scores.nonmated[n])
            for m, n in zip(self.mated, self.nonmated, strict=True)
        )
        thresholds = np.unique(np.concatenate(own))[::-1]
        self.steps = _steps(*own, thresholds)
        self.other_steps = _steps(*other, thresholds)


def _split(scores: Scores, seed: int) -> tuple[_Half, _Half]:
    """Two random halves of the people, each once the one that picks the threshold."""
    coded, people = codes(scores)
    inside = np.random.default_rng(seed).permutation(people) < people // 2
    return _Half(coded, inside), _Half(coded, ~inside)


def cumulative(weight: np.ndarray) -> np.ndarray:
    """(b, n) -> (b, n + 1): total weight of the first 0, 1, .. n columns."""
    total = np.zeros((weight.shape[0], weight.shape[1] + 1))
    np.cumsum(weight, axis=1, out=total[:, 1:])
    return total


def _at_least(falling: np.ndarray, limit: np.ndarray, *, strictly: bool = False) -> np.ndarray:
    """How many of the falling scores are at least (or strictly above) each limit."""
    return np.searchsorted(-falling, -limit, side="left" if strictly else "right")


def _steps(
    mated: np.ndarray, nonmated: np.ndarray, thresholds: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Counts (t + 1,) of mated and of non-mated scores accepted, from none to all."""
    if thresholds is None:
        thresholds = np.unique(np.concatenate([mated, nonmated]))[::-1]
    accepted = (_at_least(score, thresholds) for score in (mated, nonmated))
    first, second = (np.concatenate([[0], count]) for count in accepted)
    return first, second
