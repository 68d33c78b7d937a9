"""Who is it? Rank-1 and cumulative match rates at any cohort size, from places among all people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from opticaldr.privacy.intervals import proportion_interval
from opticaldr.results import Figure

COHORTS = (10, 100, 1000)
"""Numbers of enrolled people at which identification is reported (privacy.md 2.2)."""

CARD_COHORT = 100
"""The cohort of the grades (privacy.md 5.5)."""

PLACES = (1, 2, 5, 10)
"""Places of the cumulative match characteristic that are reported."""


@dataclass(frozen=True)
class MatchRate:
    """Share of probes whose person is among the first `place` of a cohort; chance: by guessing."""

    cohort: int
    place: int
    rate: Figure
    chance: float


def match_rate(
    rank: np.ndarray,
    *,
    enrolled: int,
    cohort: int,
    place: int = 1,
    person: np.ndarray | None = None,
) -> MatchRate:
    """Match rate of probes in a random cohort of their own person and cohort - 1 other people.

    No cohort is drawn: with r - 1 of P - 1 others better, the number of better ones among the
    cohort - 1 drawn is hypergeometric, so that rank-1 is C(P - r, M - 1) / C(P - 1, M - 1).

    Args:
        rank: (t,) places among all `enrolled` people, 1 = first.
        person: (t,) person of each probe; each its own without it. The interval is over people.
    """
    hit = hypergeom.cdf(place - 1, enrolled - 1, rank - 1, cohort - 1)
    interval = proportion_interval(hit, np.arange(len(rank)) if person is None else person)
    return MatchRate(
        cohort, place, Figure(float(hit.mean()), interval, len(rank)), min(1.0, place / cohort)
    )


def match_rates(rank: np.ndarray) -> list[MatchRate]:
    """Every cohort and place that `rank` (p,), one probe of each of p enrolled people, supports."""
    return [
        match_rate(rank, enrolled=len(rank), cohort=cohort, place=place)
        for cohort in COHORTS
        if cohort <= len(rank)
        for place in PLACES
        if place < cohort
    ]
