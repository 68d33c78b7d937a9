"""Is anybody recognisable? The AUC of each person, its worst decile, and the worst person's p-value.

Over hundreds of people some AUC is high by chance: the null of the maximum over people says how
high. Labels dealt to pairs at random are not enough for it: a picture that resembles everybody's
(good light, a face near the mean) scores high in all its pairs, and a person with such pictures looks
recognisable. In simulations without any identity information ("quality" of
experiments/calibration.py, 500 people) somebody was then "significant" in 11 of 12 sets. So picture
effects are first estimated from non-mated pairs and taken away, as in score normalisation (z-norm,
t-norm; Auckenthaler et al. 2000), by a random-effects model, and the null is widened by what of them
remains unknown: then it was 0 of 200.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.pairs import Pairs

PERMUTATIONS = 2000
"""Deals of labels: the smallest p-value is 1/2001, below .05 after Holm's rule over 100 attempts."""

_SWEEPS = 10
"""Alternations of gallery and probe effects: converges to 1e-3 of a standard deviation."""


@dataclass(frozen=True)
class PerPerson:
    """AUC of each person with mated and non-mated pairs.

    person: (k,) codes. auc: (k,), picture effects taken away. worst_decile: mean of the largest
    tenth of them; null_mean, null_95: the same under the null. p: (k,), probability that the
    largest of all k is as extreme by chance (max-T, Westfall & Young 1993).
    """

    person: np.ndarray
    auc: np.ndarray
    worst_decile: float
    null_mean: float
    null_95: float
    p: np.ndarray


def per_person(
    scores: np.ndarray, pairs: Pairs, person: np.ndarray, *, seed: int, permutations: int = 0
) -> PerPerson:
    """Per-person AUC and its max-statistic null.

    Args:
        scores: (n,) of the pairs. person: code 0 .. of each image of the face set.
        permutations: deals of labels; 0 = PERMUTATIONS.
    """
    residual, noise = without_picture_effects(scores, pairs, person)
    ranking = _Ranking(pairs, person)
    _, place = np.unique(residual, return_inverse=True)
    auc = ranking.auc(place)
    # the spread of a person's AUC by chance, and by how much unknown picture effects widen it
    spread = np.sqrt(
        (ranking.mated + ranking.nonmated + 1) / (12 * ranking.mated * ranking.nonmated)
    )
    widen = np.sqrt(1 + noise[ranking.person] * ranking.mated)
    rng = np.random.default_rng(seed)
    deals = permutations or PERMUTATIONS
    largest, decile = np.empty(deals), np.empty(deals)
    for deal in range(deals):
        gap = ranking.auc(rng.permutation(place)) - 0.5
        largest[deal] = (gap / spread).max()
        decile[deal] = _worst_decile(np.clip(0.5 + gap * widen, 0, 1))
    observed = (auc - 0.5) / (spread * widen)
    reached = deals - np.searchsorted(np.sort(largest), observed - 1e-9)
    return PerPerson(
        ranking.person,
        auc,
        _worst_decile(auc),
        float(decile.mean()),
        float(np.quantile(decile, 0.95)),
        (1 + reached) / (1 + deals),
    )


def _worst_decile(auc: np.ndarray) -> float:
    count = max(1, len(auc) // 10)
    return float(np.sort(auc)[-count:].mean())


def without_picture_effects(
    scores: np.ndarray, pairs: Pairs, person: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n,) less the effects of both pictures; per person, what of them remains.

    Model of non-mated scores: gallery effect + probe effect + noise, all random; variances by
    moments, effects by their best linear predictor. The second result is the variance of the mean
    remaining effect in the person's mated pairs, in units of the noise variance.
    """
    images = len(person)
    gallery, probe = pairs.first[~pairs.same], pairs.second[~pairs.same]
    centred = scores[~pairs.same] - scores[~pairs.same].mean()
    effects = {"gallery": np.zeros(images), "probe": np.zeros(images)}
    unknown = {}
    for _ in range(_SWEEPS):
        for side, own, other, index in (
            ("gallery", gallery, probe, "probe"),
            ("probe", probe, gallery, "gallery"),
        ):
            effects[side], unknown[side] = _predict(centred - effects[index][other], own, images)
    noise = (centred - effects["gallery"][gallery] - effects["probe"][probe]).var()
    residual = scores - effects["gallery"][pairs.first] - effects["probe"][pairs.second]
    mated_of = person[pairs.first[pairs.same]]
    mated = np.maximum(np.bincount(mated_of, minlength=person.max() + 1), 1)
    remaining = np.zeros(len(mated))
    for side, index in (("gallery", pairs.first), ("probe", pairs.second)):
        share = np.bincount(index[pairs.same], minlength=images) / mated[person]
        remaining += np.bincount(person, share**2 * unknown[side], len(mated))
    return residual, remaining / noise if noise > 0 else remaining


def _predict(residual: np.ndarray, image: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Best linear predictor of each image's effect and the variance that it leaves unknown."""
    count = np.bincount(image, minlength=images)
    total = np.bincount(image, residual, images)
    products = max(float((total**2).sum() - (residual**2).sum()), 0.0)
    between = products / max(float((count * (count - 1)).sum()), 1.0)
    within = max(float((residual**2).mean()) - between, 1e-12 * float((residual**2).mean()), 1e-300)
    precision = count * between + within
    return total * between / precision, between * within / precision


class _Ranking:
    """AUC of every person by rank sums: their mated pairs against all their non-mated ones."""

    def __init__(self, pairs: Pairs, person: np.ndarray) -> None:
        first, second = person[pairs.first], person[pairs.second]
        mated, nonmated = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
        owner = np.concatenate([first[mated], first[nonmated], second[nonmated]])
        of_mated = np.bincount(first[mated], minlength=person.max() + 1)
        of_nonmated = np.bincount(owner[len(mated) :], minlength=person.max() + 1)
        self.person = np.flatnonzero((of_mated > 0) & (of_nonmated > 0))
        self.mated, self.nonmated = of_mated[self.person], of_nonmated[self.person]
        kept = np.isin(owner, self.person)
        self._pair = np.concatenate([mated, nonmated, nonmated])[kept]
        self._owner = np.searchsorted(self.person, owner[kept])
        self._is_mated = (np.arange(len(owner)) < len(mated))[kept].astype(np.int64)
        self._stride = 2 * len(pairs)

    def auc(self, place: np.ndarray) -> np.ndarray:
        """(k,) from the places (n,) of the pairs' scores in ascending order; equal scores share one."""
        # one integer holds person, score and label, so that one plain sort ranks all people at once
        key = np.sort(self._owner * self._stride + 2 * place[self._pair] + self._is_mated)
        score, label = key >> 1, key & 1
        starts = np.flatnonzero(np.diff(score, prepend=-1))
        ends = np.append(starts[1:], len(key))
        hits = np.add.reduceat(label, starts)
        owner = key[starts] // self._stride
        sums = np.bincount(owner, hits * (starts + ends + 1) / 2, len(self.person))
        size = self.mated + self.nonmated
        before = np.cumsum(size) - size
        ranks = sums - self.mated * before
        return (ranks - self.mated * (self.mated + 1) / 2) / (self.mated * self.nonmated)
