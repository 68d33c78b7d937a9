"""The rows of the privacy card: what one finding of the ladder amounts to, as JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from opticaldr.data.pairs import Pairs
from opticaldr.privacy.curve import Curve
from opticaldr.privacy.evidence import Attempt, Identification, TraitReading
from opticaldr.privacy.identification import CARD_COHORT, MatchRate, match_rate, match_rates
from opticaldr.privacy.intervals import (
    Estimate,
    effective_pairs,
    equivalence,
    estimates,
    free_direction,
    supports,
)
from opticaldr.privacy.per_person import per_person
from opticaldr.privacy.statistics import Scores, permuted
from opticaldr.privacy.tiers import Tier
from opticaldr.privacy.traits import accuracy_gain, leaked_bits
from opticaldr.privacy.unlinkability import linkability
from opticaldr.types import InputError


def scores_of(attempt: Attempt, pairs: Pairs, people: Sequence[str]) -> Scores:
    """The attempt's scores by kind of pair; people: the person of each record of the face set.

    Every pair of the list must have a score: a face that nobody detects is no privacy.
    """
    if attempt.scores.shape != (len(pairs),):
        raise InputError(
            f"{attempt.rung}, {attempt.variant}: expected one score for each of {len(pairs)} pairs, "
            f"found {attempt.scores.shape}; score every pair, undetected faces by the oracle crop."
        )
    if not np.isfinite(attempt.scores).all():
        raise InputError(
            f"{attempt.rung}, {attempt.variant}: expected finite scores, found NaN or infinity in "
            f"{int((~np.isfinite(attempt.scores)).sum())} of {len(pairs)} pairs; check the camera's "
            "output and the recogniser."
        )
    both = _codes(people)[np.stack([pairs.first, pairs.second], axis=1)]
    if ((both[:, 0] == both[:, 1]) != pairs.same).any():
        raise InputError(
            "Expected mated pairs within and non-mated pairs across people, found a list that was "
            "made for other records; give the person of each record of the same face set."
        )
    return Scores(
        mated=attempt.scores[pairs.same].astype(float),
        nonmated=attempt.scores[~pairs.same].astype(float),
        mated_person=both[pairs.same, 0],
        nonmated_people=both[~pairs.same],
    )


def measure(
    attempt: Attempt, pairs: Pairs, people: Sequence[str], *, tier: Tier, seed: int
) -> dict[str, Any]:
    """One row of the card. Undefined numbers are null; so are claims that too few pairs support.

    Args:
        people: the person of each record of the face set that `pairs` indexes.
        seed: of the resampling and the permutations; the same people are drawn for every attempt.
    """
    scores = scores_of(attempt, pairs, people)
    rates = [rate for rate in tier.fmr if supports(rate, len(scores.nonmated))]
    curve = Curve(scores, rates=rates, seed=seed)
    draw = {"replicates": tier.bootstrap, "seed": seed}
    bounds = [curve.bounds(name) for name in curve.names]
    found = estimates(curve, curve.scores, bounds=bounds, rates=len(rates), **draw)
    named = dict(zip(curve.names, found, strict=True))
    missed = {rate: named[f"fnmr@{rate:g}"] for rate in rates}
    fnmr = {rate_name(rate): _figure(missed.get(rate)) for rate in tier.fmr}
    leak = {rate_name(rate): _leak_ratio(missed.get(rate), rate) for rate in tier.fmr}
    free = free_direction(named["auc"])
    claim = equivalence(free, margin=tier.margin)
    control = Curve(permuted(scores, seed=seed))
    control_auc = estimates(control.auc, control.scores, bounds=[(0.0, 1.0)], **draw)[0]
    linked = linkability(scores, seed=seed)
    single = per_person(attempt.scores, pairs, _codes(people), seed=seed)
    return finite(
        {
            **_heading(attempt),
            "auc": _figure(named["auc"]),
            "auc_free": asdict(free),
            "equivalence": {"margin": tier.margin, **asdict(claim)},
            "eer": _figure(named["eer"]),
            "fnmr": fnmr,
            "leak_ratio": leak,
            "leak_ratio_1e-3": leak.get("1e-3"),
            "rank1": _rank1(attempt.rank),
            "cmc": [_match(rate) for rate in match_rates(attempt.rank)],
            "d_prime": _figure(named["d_prime"]),
            "d_sys": {**asdict(linked), "excess": linked.excess},
            "advantage": _figure(named["advantage"]),
            "worst_decile": {
                "auc": single.worst_decile,
                "null_mean": single.null_mean,
                "null_95": single.null_95,
                "p_worst_person": single.p.min(),
                "significant_people": int((single.p <= 0.05).sum()),
            },
            "permuted_auc": _figure(control_auc),
            "pairs": len(pairs),
            "people": scores.people,
            "effective_pairs": effective_pairs(scores, named["auc"]),
            "facts": attempt.facts,
        }
    )


def measure_identification(identification: Identification) -> dict[str, Any]:
    """Row of a closed cohort: rank-1 with an exact binomial interval (over people), and chance."""
    cohort = identification.cohort
    rates = [
        match_rate(
            identification.rank,
            enrolled=cohort,
            cohort=cohort,
            place=place,
            person=identification.person,
        )
        for place in (1, 5)
        if place < cohort
    ]
    return finite(
        {
            **_heading(identification),
            "rank1": _match(rates[0]),
            "cmc": [_match(rate) for rate in rates],
            "people": len(np.unique(identification.person)),
            "facts": identification.facts,
        }
    )


def measure_trait(reading: TraitReading, *, tier: Tier, seed: int) -> dict[str, Any]:
    """Row of a soft biometric: accuracy above the majority's, and bits above chance."""
    gain = accuracy_gain(reading, replicates=tier.bootstrap, seed=seed)
    bits = leaked_bits(reading, seed=seed)
    return finite(
        {
            **_heading(reading),
            "trait": reading.trait,
            "classes": list(reading.classes),
            "gain": gain.to_json(),
            "bits": {**asdict(bits), "excess": bits.excess},
            "people": len(np.unique(reading.person)),
            "facts": reading.facts,
        }
    )


def rate_name(rate: float) -> str:
    """0.001 -> "1e-3", the key of a false match rate."""
    return f"{rate:.0e}".replace("e-0", "e-")


def finite(value: Any) -> Any:
    """JSON values with plain numbers; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _heading(finding: Attempt | Identification | TraitReading) -> dict[str, Any]:
    return {"rung": finding.rung, "variant": finding.variant, "frames": finding.frames}


def _codes(people: Sequence[str]) -> np.ndarray:
    return np.unique(np.asarray(people), return_inverse=True)[1]


def _figure(estimate: Estimate | None) -> dict[str, Any] | None:
    """Value and 95 % interval; None where either is undefined."""
    if estimate is None or not np.isfinite([estimate.value, *estimate.figure.ci95]).all():
        return None
    return estimate.figure.to_json()


def _leak_ratio(missed: Estimate | None, rate: float) -> dict[str, Any] | None:
    """(1 - FNMR) / FMR with its interval."""
    figure = _figure(missed)
    if figure is None:
        return None
    value, low, high = ((1 - x) / rate for x in (figure["value"], *figure["ci95"]))
    return {**figure, "value": value, "ci95": [high, low]}


def _match(rate: MatchRate) -> dict[str, Any]:
    named = {"cohort": rate.cohort, "place": rate.place, "chance": rate.chance}
    return {**rate.rate.to_json(), **named}


def _rank1(rank: np.ndarray) -> dict[str, Any] | None:
    """At the card's cohort, or the largest reported one that the people allow."""
    first = [rate for rate in match_rates(rank) if rate.place == 1 and rate.cohort <= CARD_COHORT]
    return _match(first[-1]) if first else None
