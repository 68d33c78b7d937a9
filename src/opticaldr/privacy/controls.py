"""Controls: what every rung must break, must not find, and is compared with (privacy.md 5.1).

Positive: the same rung on the same camera with a quarter of its blur. A rung that cannot break that
is a broken attack, and its failure on the camera says nothing. Negative: the same scores with
permuted labels. Of the whole card: k x k thumbnails, and clean pictures as the ceiling.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.stats import norm

from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.privacy import statistics
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Attempt, Finding, Identification, OnProgress
from opticaldr.privacy.ledger import Row
from opticaldr.privacy.rungs.thumbnails import thumbnail_attempts
from opticaldr.privacy.statistics import Scores
from opticaldr.privacy.tiers import Tier

CONTROL_STRENGTH = 0.25
"""Share of the blur that a rung must break."""
NAIVE_STRENGTH = 0.1
"""What counts for UNADAPTED rungs as well: an off-the-shelf recogniser adapts to no blur, so a
quarter of a very strong lens may stop it without its being broken (LFW, dlib, a defocus disc of one
face width: A1 .73 at a quarter of it and .98 at a tenth). Every other rung must break a quarter."""
UNADAPTED = ("A1", "A2")
POSITIVE_AUC = 0.9
"""What a rung must reach on the weak lens, less the sampling error of so few people: a control is
failed by what the data show, not by the luck of 80 people."""
POSITIVE_RANK1 = 5.0
"""Closed-set identification must reach this multiple of chance instead of an AUC."""

NEGATIVE_STRETCH = norm.isf(0.0005) / norm.isf(0.025)
"""Widens a 95 % interval to 99.9 %: a card has dozens of variants, and at 95 % one healthy attack in
twenty would be thrown away."""

Outcome = Literal["pass", "fail"]


def strengths(rung: str, tier: Tier) -> tuple[float, ...]:
    """Weaker lenses on which a rung runs again: controls, and points of AUC against strength."""
    control = (NAIVE_STRENGTH, CONTROL_STRENGTH) if rung in UNADAPTED else (CONTROL_STRENGTH,)
    return (*control, 0.5, 0.75) if tier.name == "publication" else (*control, 0.5)


def weak_rows(findings: Iterable[Finding], pairs: Pairs) -> list[Row]:
    """How far each variant got on a weaker lens: its AUC, or rank-1 and chance."""
    rows = []
    for found in findings:
        row: Row = {"rung": found.rung, "variant": found.variant, "frames": found.frames}
        if isinstance(found, Attempt):
            rows.append({**row, "auc": plain_auc(found.scores, pairs)})
        elif isinstance(found, Identification):
            rank1 = float(np.mean(found.rank == 1))
            rows.append({**row, "rank1": rank1, "chance": 1 / found.cohort})
    return rows


def plain_auc(scores: np.ndarray, pairs: Pairs) -> float:
    """AUC of raw scores, without an interval."""
    mated, nonmated = scores[pairs.same], scores[~pairs.same]
    nobody = np.zeros(len(mated), dtype=int), np.zeros((len(nonmated), 2), dtype=int)
    return statistics.value(statistics.auc, Scores(mated, nonmated, *nobody))


def positive(weak: Mapping[float, Sequence[Row]], *, people: int) -> Outcome:
    """Whether any variant broke the lens at CONTROL_STRENGTH or below.

    weak: rows by strength. people: of the control, whose number sets the error of an AUC.
    """
    broken = (
        row["auc"] + norm.isf(0.05) * auc_error(row["auc"], people) > POSITIVE_AUC
        if "auc" in row
        else row["rank1"] >= POSITIVE_RANK1 * row["chance"]
        for strength, rows in weak.items()
        if strength <= CONTROL_STRENGTH
        for row in rows
    )
    return "pass" if any(broken) else "fail"


def auc_error(auc: float, people: int) -> float:
    """Standard error of an AUC as if each person gave one mated and one non-mated score.

    Hanley & McNeil 1982: (A(1-A) + (n-1)(Q1 - A^2 + Q2 - A^2)) / n^2, Q1 = A/(2-A),
    Q2 = 2 A^2/(1+A).
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (people - 1) * (q1 + q2 - 2 * auc**2)
    return math.sqrt(max(spread, 0.0)) / people


def negative(row: Row, permuted: Sequence[Row] = ()) -> Outcome:
    """Whether nothing is found where there is nothing to find.

    permuted: rows of the same rung on permuted_people(); none for rungs that compare pairs, whose
    scores are dealt at random instead.
    """
    if "permuted_auc" in row:
        low, high = row["permuted_auc"]["ci95"]
        off_centre, reach = abs((low + high) / 2 - 0.5), (high - low) / 2
        return "pass" if off_centre <= NEGATIVE_STRETCH * reach else "fail"
    found = [other["rank1"] for other in permuted]
    return "pass" if found and all(r["ci95"][0] <= r["chance"] for r in found) else "fail"


def permuted_people(arena: Arena) -> Arena:
    """The same arena with wrong names: no two test images of one person share one.

    The j-th image of person a gets the name of person a + j, so that a real likeness never helps.
    """
    images = arena.test.images
    names = sorted(set(arena.people_of(images)))
    place, seen = {name: number for number, name in enumerate(names)}, Counter[str]()
    records = list(arena.faces.records)
    for image in images:
        person = records[image].person
        shifted = names[(place[person] + seen[person]) % len(names)]
        seen[person] += 1
        records[image] = replace(records[image], person=shifted)
    people = [records[image].person for image in images]
    local = all_pairs(people, max_nonmated=arena.tier.nonmated, seed=arena.seed)
    pairs = Pairs(images[local.first], images[local.second], local.same)
    return replace(arena, faces=replace(arena.faces, records=tuple(records)), test=pairs)


def safety_margin(series: Mapping[float, float], margin: float) -> float | None:
    """The smallest strength from which on the rung fails: AUC at most .5 + margin; None: never.

    Args:
        series: best AUC of the rung by strength, 1 = the camera itself.
    """
    failing = None
    for strength in sorted(series, reverse=True):
        if series[strength] > 0.5 + margin:
            break
        failing = strength
    return failing


def clean_ceiling(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Every judge on clean pictures: no attack with it can be expected to exceed that."""
    for number, judge in enumerate(arena.judges, start=1):
        clean = arena.embed(judge, arena.test.images)
        variant = f"clean pictures, {judge.name}"
        yield arena.attempt("A1", variant, clean, clean, recogniser=judge.name)
        progress("clean pictures", number, len(arena.judges))


def thumbnails(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """k x k thumbnails of the clean frame: what light and background alone give away."""
    yield from thumbnail_attempts(arena).values()
    progress("thumbnails", 1, 1)
