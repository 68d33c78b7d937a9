"""The privacy card: what was attacked, what held, what did not, in numbers and in plain words.

build_card assembles privacy_card.json (keys: privacy.md 5.4) from rows that
were measured elsewhere. Grades come from privacy.grades; sentences are made here, from numbers.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from opticaldr.privacy import grades
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.controls import safety_margin
from opticaldr.privacy.grades import LADDER, Breach, Judgement
from opticaldr.privacy.ledger import LADDER_VERSION, Row
from opticaldr.privacy.statements import (
    MEANINGS,
    breach_words,
    direction_free,
    strongest,
    verdict,
    warnings,
    wording,
)
from opticaldr.privacy.tiers import Tier
from opticaldr.privacy.words import check_words, scrub
from opticaldr.results import SCHEMA_VERSION, Figure, validate

CARD_VERSION = "1.0"
VALID_MONTHS = 12  # privacy.md 5.4: a card expires after a year, or with the next ladder
MULTIPLICITY = {
    "privacy_claim": "Intersection-union test: each attack of each required rung must pass by "
    "itself at 95 %, the worst variant decides, no correction is needed.",
    "attack_claim": "The strongest of many attacks is picked after the fact: its corrected lower "
    "limit is Bonferroni's over all attempts; p values of single people are corrected for all "
    "people of an attempt (maximum statistic) and for all attempts (Holm).",
}


def build_card(
    *,
    camera: CameraUnderAttack,
    tier: Tier,
    rows: Sequence[Row],
    controls: Mapping[str, Any],
    certificate: Mapping[str, Any] | None,
    data: Mapping[str, Any],
    versions: Mapping[str, str],
    seed: int,
    not_tested: Sequence[str],
    today: datetime.date,
) -> dict[str, Any]:
    """Content of privacy_card.json, validated.

    Args:
        rows: one dict per attempt, identification and soft biometric (privacy.measure).
        controls: {"thumbnails": {k: AUC figure}, "ceiling": {judge: AUC figure}}.
        certificate: of privacy.certify; None where none can be computed.
        data: {"set", "synthetic", "ids": {"lens", "attacker", "test"}, "pairs", "pair_sha256",
            "sessions_disjoint"}.
        not_tested: what was left out, beyond the rungs without a row.

    Raises:
        InputError: a value is missing or impossible, or a text promises too much.
    """
    rows = [scrub(_json(row)) for row in rows]
    data, controls = scrub(_json(data)), scrub(_json(controls))
    certificate = None if certificate is None else _json(certificate)
    thumbnails = controls.get("thumbnails", {})
    judgement = grades.judge(
        rows,
        claims=tier.claims,
        sessions_disjoint=data["sessions_disjoint"] is True,
        session_frames=max(tier.frames),
        certificate=certificate,
        thumbnails=thumbnails,
    )
    attempts = [row for row in rows if grades.is_attempt(row)]
    groups = [row for row in rows if grades.is_identification(row)]
    valid = [row for row in attempts if grades.is_valid(row)]
    traits = [row for row in rows if "trait" in row]
    by_strength = _by_strength(attempts)
    card = {
        "schema_version": SCHEMA_VERSION,
        "card_version": CARD_VERSION,
        "ladder_version": LADDER_VERSION,
        "made": today.isoformat(),
        "expires": {
            "on": _months_later(today, VALID_MONTHS).isoformat(),
            "or_with": f"the next ladder version after {LADDER_VERSION}",
        },
        "grade": judgement.grade,
        "meaning": MEANINGS[judgement.grade],
        "wording": wording(judgement, valid, data, tier),
        "reasons": list(judgement.obstacles),
        "broken_by": [_breach(breach) for breach in judgement.broken_by],
        "warnings": warnings(valid, thumbnails, certificate, data),
        "tier": tier.name,
        "lens": _lens(camera),
        "sensor": _sensor(camera),
        "data": data,
        "strongest_attack": _strongest_attack(valid),
        "bracket": _bracket(valid, certificate),
        "certificate": certificate or {},
        "auc_by_strength": by_strength,
        "safety_margin": _safety_margin(by_strength),
        "soft_bio_bits": _soft_bits(traits),
        "soft_biometrics": traits,
        "controls": {**_control_summary(attempts), **controls},
        "ladder": [_summary(rung, (*attempts, *groups), judgement) for rung in LADDER],
        "rungs": [_rung(row, judgement) for row in attempts],
        "identification": [_rung(row, judgement) for row in groups],
        "not_tested": _not_tested((*attempts, *groups), scrub(list(not_tested))),
        "multiplicity": MULTIPLICITY,
        "seed": seed,
        "versions": scrub(dict(versions)),
    }
    check_card(card)
    return card


def check_card(card: dict[str, Any]) -> None:
    """InputError unless the card follows its schema and promises nothing."""
    validate(card, "privacy_card")
    check_words(card)


# --- what was attacked ------------------------------------------------------------------------


def _lens(camera: CameraUnderAttack) -> dict[str, Any]:
    """Name, description and sha256: of lens.json, or of description, noise and PSF without one."""
    described = scrub(_json(camera.optics.describe()))
    told = {**described, "noise": _sensor(camera)}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    if camera.psf is not None:
        digest.update(camera.psf.detach().float().cpu().contiguous().numpy().tobytes())
    return {
        "name": scrub(camera.name),
        "sha256": camera.sha256 or digest.hexdigest(),
        "sha256_of": "lens.json" if camera.sha256 else "description and point spread function",
        "depth_m": camera.depth_m,
        **{key: value for key, value in described.items() if key not in ("name", "sha256")},
    }


def _sensor(camera: CameraUnderAttack) -> dict[str, Any]:
    """The noise law of one frame; full_well_e null = no shot noise, bits 0 = not rounded."""
    noise = camera.noise
    return {
        "read_noise": noise.read_noise,
        "full_well_e": noise.full_well_e if math.isfinite(noise.full_well_e) else None,
        "bits": noise.bits,
        "frame_rate_hz": camera.frame_rate_hz,
    }


# --- what was found ---------------------------------------------------------------------------


def _rung(row: Row, judgement: Judgement) -> dict[str, Any]:
    return {**row, "verdict": verdict(row, judgement)}


def _breach(breach: Breach) -> dict[str, Any]:
    named = {key: breach.row[key] for key in ("rung", "variant", "frames")}
    return {**named, "by": breach_words(breach)}


def _summary(rung: str, rows: Sequence[Row], judgement: Judgement) -> dict[str, Any]:
    """One line of the ladder: the strongest valid attempt of a rung, which decides for it."""
    tried = [row for row in rows if row["rung"] == rung]
    if not tried:
        return {"rung": rung, "attempts": 0, "void": 0, "verdict": "not run"}
    valid = [row for row in tried if grades.is_valid(row)]
    worst = strongest(valid or tried)
    kept = ("variant", "frames", "auc", "auc_free", "leak_ratio_1e-3", "rank1", "controls")
    by = [breach.row for breach in judgement.broken_by if breach.row["rung"] == rung]
    return {
        "rung": rung,
        "attempts": len(tried),
        "void": len(tried) - len(valid),
        **{key: worst.get(key) for key in kept},
        "verdict": verdict(by[0] if by else worst, judgement),
    }


def _not_tested(tried: Sequence[Row], named: Sequence[str]) -> list[str]:
    """Rungs without a row and what else was left out; "A6: why" stands for "A6"."""
    found = {row["rung"] for row in tried} | {name.partition(":")[0] for name in named}
    return sorted([*(rung for rung in LADDER if rung not in found), *named])


def _strongest_attack(valid: Sequence[Row]) -> dict[str, Any] | None:
    if not valid:
        return None
    row = strongest(valid)
    return {
        **{key: row[key] for key in ("rung", "variant", "frames", "rank1") if key in row},
        "auc": direction_free(row["auc"]),
        "leak_ratio_1e-3": row.get("leak_ratio_1e-3"),
        "attempts": len(valid),
        "corrected_lower95": grades.corrected_lower(row, len(valid)),
    }


def _bracket(valid: Sequence[Row], certificate: Mapping[str, Any] | None) -> dict[str, Any]:
    """From the strongest attack found to what no attack can exceed (1 without a certificate)."""
    attack = _strongest_attack(valid)
    cap = (certificate or {}).get("auc_cap")
    return {"attack_auc": attack and attack["auc"], "certificate_auc": 1.0 if cap is None else cap}


def _by_strength(attempts: Sequence[Row]) -> dict[str, list[dict[str, float]]]:
    """By rung: the strongest AUC on weaker copies of the lens (share of its blur) and on itself."""
    found: dict[str, dict[float, float]] = {}
    for row in attempts:
        if grades.is_valid(row):
            points = {1.0: row["auc_free"]["value"]}
            for key, value in row["controls"].items():
                if key.startswith("auc_at_") and value is not None:
                    points[int(key.removeprefix("auc_at_")) / 100] = value
            best = found.setdefault(row["rung"], {})
            best |= {at: max(auc, best.get(at, 0.0)) for at, auc in points.items()}
    return {
        rung: [{"strength": at, "auc": best[at]} for at in sorted(best)]
        for rung, best in sorted(found.items())
    }


def _safety_margin(by_strength: Mapping[str, Sequence[Row]]) -> dict[str, float | None]:
    """By rung: the least share of the lens's blur from which on its attacks fail; null = never."""
    return {
        rung: safety_margin(
            {point["strength"]: point["auc"] for point in points}, grades.STEPS[0].auc - 0.5
        )
        for rung, points in by_strength.items()
    }


def _soft_bits(traits: Sequence[Row]) -> dict[str, float]:
    """By trait: bits above chance that the best reading of it gives away, at least 0."""
    bits: dict[str, float] = {}
    for row in traits:
        bits[row["trait"]] = max(row["bits"]["excess"], bits.get(row["trait"], 0.0))
    return bits


def _control_summary(attempts: Sequence[Row]) -> dict[str, Any]:
    """How many attempts passed each control; "pass" only if all did."""
    if not attempts:
        return {"negative": "not run", "positive": "not run"}
    outcome = {}
    for key in ("negative", "positive"):
        passed = sum(row.get("controls", {}).get(key) == "pass" for row in attempts)
        outcome[key] = "pass" if passed == len(attempts) else "fail"
        outcome[f"{key}_passed"] = f"{passed} of {len(attempts)}"
    return outcome


# --- plain values -----------------------------------------------------------------------------


def _json(value: Any) -> Any:
    """JSON values only: figures and numpy numbers become plain, what is not finite becomes null."""
    if isinstance(value, Figure):
        value = value.to_json()
    if isinstance(value, Mapping):
        plain = {str(key): _json(item) for key, item in value.items()}
        undefined = "value" in plain and plain["value"] is None
        return None if undefined else plain
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if hasattr(value, "tolist"):
        return _json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _months_later(day: datetime.date, months: int) -> datetime.date:
    """The same day so many months on; the 28th where that month is shorter."""
    years, month = divmod(day.month - 1 + months, 12)
    try:
        return day.replace(year=day.year + years, month=month + 1)
    except ValueError:
        return day.replace(year=day.year + years, month=month + 1, day=28)
