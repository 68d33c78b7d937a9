"""The grades of the privacy card: every threshold in one table, and the one way to reach a grade.

Source of all thresholds: privacy.md section 5.5. They are policy, not a standard: .55 is an equal
error rate of 46.5 %, .52 one of 48.6 %. A claim of privacy rests on limits, never on values: it is
an intersection-union test, so each attack is tested at 95 % without correction. "This attack
works" is a claim about the best of many attacks and is corrected for their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import norm

from opticaldr.privacy.ledger import Row
from opticaldr.privacy.words import above, share

Grade = Literal["P0", "P1", "P2", "P3", "P4", "FAIL", "inconclusive"]
BEST_LAST = ("FAIL", "inconclusive", "P0", "P1", "P2", "P3", "P4")

LADDER = ("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9")
"""The rungs that a grade can rest on; S (soft biometrics) is reported beside them."""


@dataclass(frozen=True)
class Requirement:
    """What a grade asks of its rungs; None = nothing.

    auc: most that the one-sided upper 95 % limit of max(AUC, 1 - AUC) may be.
    leak_ratio: the same for TAR / FMR at FMR 1e-3. rank1: for rank-1 among 100 people.
    worst_decile: most that the AUC of the worst tenth of people may be.
    one_frame: judged on attacks that use a single frame. sessions: pairs must be session-disjoint.
    """

    grade: Grade
    rungs: tuple[str, ...]
    auc: float = 0.55
    leak_ratio: float | None = 3.0
    rank1: float | None = 0.03
    worst_decile: float | None = None
    one_frame: bool = True
    sessions: bool = True


STEPS = (
    Requirement("P0", LADDER[:1], leak_ratio=None, rank1=None, sessions=False),
    Requirement("P1", LADDER[:3]),
    Requirement("P2", (*LADDER[:5], "A8")),
    Requirement("P3", LADDER, worst_decile=0.60, one_frame=False),
)
"""Each grade needs those before it too."""

FAIL_AUC, FAIL_LEAK_RATIO, FAIL_P = 0.60, 10.0, 0.05
"""FAIL if a lower limit is above these, or if the p value of any single person is below FAIL_P."""
CERTIFIED_DELTA, CERTIFIED_THUMBNAIL_AUC, CERTIFIED_BITS = 0.02, 0.60, 1.0
"""P4: delta at a k whose thumbnails are themselves at most this recognisable, or so few bits."""
CHANCE_AUC = 0.52
"""Up to this upper limit (and from P3 on) the card may say "chance"."""
COHORT = 100
"""Size of the group that the limit on rank-1 is meant for. In larger groups the limit shrinks with
chance (1 / people), which is the stricter reading; smaller ones support no claim."""


@dataclass(frozen=True)
class Breach:
    """An attack that works: `size` is the lower limit (or p value) that says so."""

    row: Row
    kind: Literal["auc", "identification", "leak ratio", "person"]
    size: float


@dataclass(frozen=True)
class Judgement:
    """A grade, what broke it (FAIL only), and what stands between it and the next one."""

    grade: Grade
    broken_by: tuple[Breach, ...] = ()
    obstacles: tuple[str, ...] = ()


def judge(
    rows: Sequence[Row],
    *,
    claims: bool,
    sessions_disjoint: bool,
    session_frames: int,
    certificate: Mapping[str, Any] | None,
    thumbnails: Mapping[str, Any],
) -> Judgement:
    """The grade of a camera (privacy.md 5.5).

    Args:
        rows: attempts and identifications of every rung that was run.
        claims: False where the tier is too small for any claim (FAIL is still possible).
        session_frames: frames of a whole session, which P3 and P4 are about.
        thumbnails: AUC figure of the k x k thumbnails, by str(k).
    """
    rows = [row for row in rows if is_attempt(row) or is_identification(row)]
    valid = [row for row in rows if is_valid(row)]
    breaches = breaches_of(valid)
    if breaches:
        return Judgement("FAIL", broken_by=breaches)
    if not claims:
        return Judgement("inconclusive", obstacles=("the smoke tier makes no claim",))
    broken = sorted({row["rung"] for row in rows} - {row["rung"] for row in valid})
    if broken:
        names = " and ".join(broken)
        reason = f"attack broken: no variant of {names} passed its controls"
        return Judgement("inconclusive", obstacles=(reason,))
    grade: Grade = "inconclusive"
    for step in STEPS:
        obstacles = _obstacles(step, valid, sessions_disjoint, session_frames)
        if obstacles:
            return Judgement(grade, obstacles=tuple(obstacles))
        grade = step.grade
    reason = _not_certified(certificate or {}, thumbnails, session_frames)
    return Judgement("P3", obstacles=(reason,)) if reason else Judgement("P4")


def is_valid(row: Row) -> bool:
    """An attack counts if it broke a weak lens and found nothing in permuted labels."""
    return all(row.get("controls", {}).get(key) == "pass" for key in ("negative", "positive"))


def is_attempt(row: Row) -> bool:
    """True for scores of pairs on a rung of the ladder."""
    return row["rung"] in LADDER and "auc_free" in row


def is_identification(row: Row) -> bool:
    """True for naming a person out of a closed group."""
    return row["rung"] in LADDER and "auc_free" not in row and "rank1" in row


def breaches_of(valid: Sequence[Row]) -> tuple[Breach, ...]:
    """What fails the camera among valid rows, the strongest first."""
    limits, persons = [], []
    attempts = [row for row in valid if is_attempt(row)]
    p = holm([(row.get("worst_decile") or {}).get("p_worst_person") for row in attempts])
    for row, p_person in zip(attempts, p, strict=True):
        if row["auc_free"]["lower95"] > FAIL_AUC:
            limits.append(Breach(row, "auc", row["auc_free"]["lower95"]))
        leak = row.get("leak_ratio_1e-3")
        if leak and leak["ci95"][0] > FAIL_LEAK_RATIO:
            limits.append(Breach(row, "leak ratio", leak["ci95"][0]))
        if p_person < FAIL_P:
            persons.append(Breach(row, "person", p_person))
    for row in valid:
        if not is_attempt(row) and _over_chance(row["rank1"], 0) > FAIL_LEAK_RATIO:
            limits.append(Breach(row, "identification", row["rank1"]["ci95"][0]))
    kinds = ("auc", "identification", "leak ratio")
    limits.sort(key=lambda breach: (kinds.index(breach.kind), -breach.size))
    persons.sort(key=lambda breach: breach.size)
    return (*limits, *persons)


def holm(p: Sequence[float | None]) -> list[float]:
    """p values of one family, corrected by Holm's (1979) step-down rule; None counts as 1."""
    given = [1.0 if value is None else value for value in p]
    order = sorted(range(len(given)), key=given.__getitem__)
    corrected, largest = [1.0] * len(given), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(given) - place) * given[index]))
        corrected[index] = largest
    return corrected


def corrected_lower(row: Row, attempts: int) -> float:
    """Lower limit of max(AUC, 1 - AUC) that holds for the best of so many attempts together.

    Bonferroni: the one-sided 95 % distance is stretched to the level .05 / attempts, as for a
    normal estimate; it holds however the attempts depend on each other.
    """
    value, lower = row["auc_free"]["value"], row["auc_free"]["lower95"]
    stretch = norm.isf(0.05 / max(attempts, 1)) / norm.isf(0.05)
    return max(0.5, value - stretch * (value - lower))


def _obstacles(
    step: Requirement, valid: Sequence[Row], sessions_disjoint: bool, session_frames: int
) -> list[str]:
    """Why the camera does not reach this grade; empty if it does."""
    found = []
    if step.sessions and not sessions_disjoint:
        found.append(f"{step.grade} needs pairs from different sessions")
    for rung in step.rungs:
        rows = [row for row in valid if row["rung"] == rung]
        rows = [row for row in rows if row["frames"] == 1 or not step.one_frame]
        if not rows:
            found.append(f"{rung} was not run" + (" on one frame" if step.one_frame else ""))
        elif rung == "A7" and max(row["frames"] for row in rows) < session_frames:
            found.append(f"A7 was not run on a whole session ({session_frames} frames)")
        elif rung == "A9" and not any(is_attempt(r) or _is_large(r) for r in rows):
            found.append(f"A9 was not run in a group of {COHORT} people or more")
        else:
            found += _first_of(_excess(step, row) for row in _worst_first(rows))
    return found


def _excess(step: Requirement, row: Row) -> str | None:
    """By what one valid row misses the grade; None if it does not."""
    name = f"{row['rung']} ({row['variant']})"
    if not is_attempt(row):
        return _rank1_excess(step, row, name) if _is_large(row) else None
    upper = row["auc_free"]["upper95"]
    if not upper <= step.auc:
        return f"{name}: upper 95 % limit of the AUC is {above(upper)}, above {share(step.auc)}"
    if step.leak_ratio is not None:
        leak = row.get("leak_ratio_1e-3")
        if leak is None:
            return f"{name}: too few pairs to measure the leak ratio at FMR 1e-3"
        if not leak["ci95"][1] <= step.leak_ratio:
            return (
                f"{name}: upper limit of the leak ratio at FMR 1e-3 is {leak['ci95'][1]:.1f}, "
                f"above {step.leak_ratio:g}"
            )
    decile = row.get("worst_decile")
    if step.worst_decile is not None and not decile:
        return f"{name}: too few pairs to measure the worst tenth of people"
    if step.worst_decile is not None and not decile["auc"] <= step.worst_decile:
        return (
            f"{name}: AUC of the worst tenth of people is {share(decile['auc'])}, above "
            f"{share(step.worst_decile)} (chance alone reaches {share(decile['null_95'])})"
        )
    return _rank1_excess(step, row, name)


def _rank1_excess(step: Requirement, row: Row, name: str) -> str | None:
    if step.rank1 is None:
        return None
    if not row.get("rank1") or not _is_large(row):
        return f"{name}: fewer than {COHORT} people to measure rank-1 among"
    if not _over_chance(row["rank1"], 1) <= step.rank1 * COHORT:
        return (
            f"{name}: upper limit of rank-1 is {100 * row['rank1']['ci95'][1]:.1f} % among "
            f"{row['rank1']['cohort']} people, more than {step.rank1 * COHORT:g} times chance"
        )
    return None


def _is_large(row: Row) -> bool:
    return row["rank1"]["cohort"] >= COHORT


def _over_chance(rank1: Mapping[str, Any], side: int) -> float:
    """A limit of rank-1 as a multiple of chance: 0 = lower, 1 = upper."""
    return rank1["ci95"][side] / rank1["chance"]


def _worst_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: -r["auc_free"]["upper95"] if is_attempt(r) else 0.0)


def _first_of(found: Iterable[str | None]) -> list[str]:
    return [reason for reason in found if reason][:1]


def _not_certified(
    certificate: Mapping[str, Any], thumbnails: Mapping[str, Any], frames: int
) -> str | None:
    """Why there is no certificate for a session of so many frames; None if there is one."""
    bits = [row["bits"] for row in certificate.get("bits", ()) if row["frames"] >= frames]
    if bits and max(bits) <= CERTIFIED_BITS:
        return None
    for row in certificate.get("simulator", ()):
        oracle = thumbnails.get(str(row["k"]))
        hidden = oracle and oracle["ci95"][1] <= CERTIFIED_THUMBNAIL_AUC
        if hidden and row["frames"] >= frames and row["delta_upper95"] <= CERTIFIED_DELTA:
            return None
    return (
        f"no certificate for {frames} frames: none with delta of at most {CERTIFIED_DELTA:g} at a "
        f"thumbnail that is itself hidden, and more than {CERTIFIED_BITS:g} bit may leak"
    )
