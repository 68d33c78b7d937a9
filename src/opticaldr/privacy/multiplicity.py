"""Many attackers, one claim: the best of k null attacks is above chance by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opticaldr.privacy.curve import Curve
from opticaldr.privacy.intervals import estimates
from opticaldr.privacy.statistics import Scores
from opticaldr.types import InputError


@dataclass(frozen=True)
class BestAttack:
    """The largest AUC of several attempts on the same pairs, beside what chance makes of it.

    index: of the best attempt. null_mean, null_95: of the largest AUC if all were at chance.
    p: probability that chance alone reaches `auc`.
    """

    index: int
    auc: float
    null_mean: float
    null_95: float
    p: float


def max_statistic(attempts: Sequence[Scores], *, replicates: int, seed: int) -> BestAttack:
    """Tests "an attack works": max-statistic over attempts, with their dependence and the people's.

    The null is the joint bootstrap over people, each attempt shifted to AUC 0.5 (Westfall & Young
    1993). Dealing labels to pairs at random would take pairs that share a person for independent
    and call chance an attack (measured: experiments/calibration.py). A claim of privacy needs no
    such correction: "every attack is below the margin" holds if each of the tests says so.
    """
    if not attempts:
        raise InputError("Expected at least one attempt, found none; run a rung first.")
    areas, nulls = [], []
    for scores in attempts:
        curve = Curve(scores)
        area = estimates(curve.auc, curve.scores, replicates=replicates, seed=seed)[0]
        areas.append(area.value)
        nulls.append(0.5 + np.sqrt(area.dyadic) * (area.replicates - area.value))
    shortest = min(map(len, nulls))
    largest = np.max([null[:shortest] for null in nulls], axis=0)
    best = int(np.argmax(areas))
    return BestAttack(
        best,
        areas[best],
        float(largest.mean()),
        float(np.quantile(largest, 0.95)),
        float((1 + np.sum(largest >= areas[best])) / (1 + shortest)),
    )
