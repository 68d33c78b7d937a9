"""Sentences of the privacy card, made from numbers: a verdict for each attempt, and what is said aloud.

They say which attacks were tried and what they reached, never that no attack exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opticaldr.privacy import grades
from opticaldr.privacy.grades import Breach, Judgement
from opticaldr.privacy.ledger import LADDER_VERSION, Row
from opticaldr.privacy.tiers import Tier
from opticaldr.privacy.words import above, below, interval, share

MEANINGS = {
    "FAIL": "At least one attack tells people apart. This camera does not hide identity.",
    "inconclusive": "Nothing can be said for or against this camera from these tests.",
    "P0": "Off-the-shelf recognisers fail on single pictures. Attackers who adapt may still succeed.",
    "P1": "Recognisers fail even when trained on this camera's pictures. Attackers who know the "
    "lens and restore the pictures may still succeed.",
    "P2": "Single pictures held against attackers who know the lens, restore the pictures and "
    "choose the best distance and colour. Video may still reveal who it is.",
    "P3": "Whole sessions of video held against every rung of the ladder, insiders included.",
    "P4": "Every rung held, and a mathematical bound covers a whole session under the assumptions "
    "listed below.",
}
"""One sentence for each grade: what it means to somebody who is filmed."""

SESSION_THUMBNAILS = ("1", "2", "3")
"""Thumbnails that hardly show a face: what beats none may be brightness and background (2.3)."""


def verdict(row: Row, judgement: Judgement) -> str:
    """One attempt in a few words: broken, held, inconclusive, or itself broken."""
    controls = row.get("controls", {})
    if controls.get("negative") == "fail":
        return "attack broken: it finds identity in permuted labels"
    if not grades.is_valid(row):
        return "attack broken: it does not break a weak lens"
    for breach in judgement.broken_by:
        if breach.row is row:
            return f"broken: {breach_words(breach)}"
    if not grades.is_attempt(row):
        times = row["rank1"]["ci95"][1] / row["rank1"]["chance"]
        return f"rank-1 at most {times:.1f} times chance"
    upper, most = row["auc_free"]["upper95"], grades.STEPS[0].auc
    if not upper <= most:
        return f"inconclusive: upper limit {above(upper)}"
    leak, ratio = row.get("leak_ratio_1e-3"), grades.STEPS[1].leak_ratio
    if leak and not leak["ci95"][1] <= ratio:
        return f"held below {share(most)}, but leak ratio up to {leak['ci95'][1]:.1f}"
    return f"held below {share(most)}"


def breach_words(breach: Breach) -> str:
    return {
        "auc": f"lower limit of the AUC is {below(breach.size)}",
        "leak ratio": f"lower limit of the leak ratio is {breach.size:.1f}",
        "identification": f"lower limit of rank-1 is {100 * breach.size:.0f} %",
        "person": f"a single person stands out, p = {breach.size:.3f} after correction",
    }[breach.kind]


def strongest(rows: Sequence[Row]) -> Row:
    """The attempt with the largest max(AUC, 1 - AUC); identification only if there is no other."""
    attempts = [row for row in rows if grades.is_attempt(row)]
    if attempts:
        return max(attempts, key=lambda row: row["auc_free"]["value"])
    return max(rows, key=lambda row: row["rank1"]["value"] / row["rank1"]["chance"])


def direction_free(figure: Mapping[str, Any]) -> dict[str, Any]:
    """AUC below .5 turned over: an attacker only has to swap the answers."""
    if figure["value"] >= 0.5:
        return dict(figure)
    low, high = figure["ci95"]
    return {**figure, "value": 1 - figure["value"], "ci95": [1 - high, 1 - low]}


def wording(
    judgement: Judgement,
    valid: Sequence[Row],
    data: Mapping[str, Any],
    tier: Tier,
) -> str:
    """What the card says aloud: no attack up to rung .. exceeded .., or which one works."""
    people = f"{data['ids']['test']:,} people"
    if judgement.grade == "FAIL":
        said = [_fail_words(judgement.broken_by[0], len(valid), people)]
    elif judgement.grade == "inconclusive":
        said = [f"No statement can be made: {judgement.obstacles[0]}."]
    else:
        said = [_held_words(judgement.grade, valid, people, data["pairs"])]
        if judgement.obstacles:
            said.append(f"No higher grade: {judgement.obstacles[0]}.")
    if data["synthetic"]:
        said.append("The faces were rendered: this says nothing about real people.")
    if tier.claims and judgement.grade != "FAIL":
        said.append("Attacks that were not tried may succeed.")
    return " ".join(said)


def _fail_words(breach: Breach, attempts: int, people: str) -> str:
    row = breach.row
    start = f"Rung {row['rung']} ({row['variant']}, {_frames(row['frames'])})"
    if breach.kind == "identification":
        rank1 = row["rank1"]
        return (
            f"{start} names the right person out of {rank1['cohort']} in "
            f"{100 * rank1['value']:.0f} % of cases, where chance is {100 * rank1['chance']:.0f} %."
        )
    auc = f"AUC {interval(direction_free(row['auc']))}, {people}"
    if breach.kind == "auc":
        corrected = grades.corrected_lower(row, attempts)
        return (
            f"{start} recognises people: {auc}; corrected for all {attempts} attempts, its "
            f"lower limit is {below(corrected)}."
        )
    if breach.kind == "leak ratio":
        leak = row["leak_ratio_1e-3"]
        return (
            f"{start} recognises some people: at a false match rate of 1 in 1,000 it finds the "
            f"right person {leak['value']:.0f} times as often as chance ({auc})."
        )
    return (
        f"{start} recognises at least one person, p = {breach.size:.3f} after correction for all "
        f"people and attempts ({auc})."
    )


def _held_words(grade: str, valid: Sequence[Row], people: str, pairs: int) -> str:
    reached = next((step for step in grades.STEPS if step.grade == grade), grades.STEPS[-1])
    rows = [
        row
        for row in valid
        if row["rung"] in reached.rungs and (row["frames"] == 1 or not reached.one_frame)
    ]
    upper = max(row["auc_free"]["upper95"] for row in rows)
    rungs = {"P2": "up to rung A5, nor of rung A8,"}.get(grade, f"up to rung {reached.rungs[-1]}")
    most = max(row["frames"] for row in rows)
    frames = f"from {'1 frame' if most == 1 else f'up to {_frames(most)}'}"
    said = (
        f"No attack in ladder {LADDER_VERSION} {rungs} exceeded an AUC of {share(reached.auc)} "
        f"(largest upper 95 % limit {above(upper)}; {people}, {pairs:,} pairs, {frames})."
    )
    if not reached.one_frame and upper <= grades.CHANCE_AUC:
        said += f" All stayed within {share(grades.CHANCE_AUC - 0.5)} of chance."
    return said


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count:,} frames"


def warnings(
    valid: Sequence[Row],
    thumbnails: Mapping[str, Any],
    certificate: Mapping[str, Any] | None,
    data: Mapping[str, Any],
) -> list[str]:
    """What a reader must know before believing a number."""
    said = []
    base = [thumbnails[k]["value"] for k in SESSION_THUMBNAILS if k in thumbnails]
    both_sides = [row for row in valid if row["rung"] in ("A2", "A3")]
    if base and any(row["auc_free"]["lower95"] > 0.5 for row in both_sides):
        best = max(row["auc_free"]["value"] for row in both_sides)
        if best <= max(base):
            said.append(
                f"Captures compared with captures (A2, A3) reach {share(best)}, no more than "
                f"thumbnails of one to nine pixels do ({share(max(base))}): what links the "
                "pictures may be the recording session (light, background), not the face."
            )
    if data["sessions_disjoint"] is not True:
        said.append(
            "Pictures of a pair may come from one recording session, so light and background may "
            "link them."
        )
    cap = (certificate or {}).get("auc_cap")
    reached = strongest(valid)["auc_free"]["lower95"] if valid else 0.5
    if cap is not None and reached > cap:
        said.append(
            f"The strongest attack ({below(reached)} or more) exceeds the certificate "
            f"({above(cap)}): an assumption of the certificate does not hold."
        )
    return said
