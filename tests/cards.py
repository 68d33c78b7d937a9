"""Rows of made-up attacks and the cards they give, for the tests of the card and of its page."""

from __future__ import annotations

import datetime

from opticaldr.privacy import grades
from opticaldr.privacy.cameras import CameraUnderAttack, PlainBlur
from opticaldr.privacy.card import build_card
from opticaldr.privacy.tiers import TIERS

TODAY = datetime.date(2030, 2, 28)
SESSION = max(TIERS["standard"].frames)


def figure(value: float, half: float, n: int = 20_500) -> dict:
    return {"value": value, "ci95": [value - half, value + half], "n": n}


def attempt(rung: str, auc: float = 0.51, *, half: float = 0.02, frames: int = 1, **more) -> dict:
    """A row as privacy.measure gives it; its one-sided limits are `half` away from the AUC."""
    free = max(auc, 1 - auc)
    row = {
        "rung": rung,
        "variant": "wiener, dlib",
        "frames": frames,
        "auc": figure(auc, half),
        "auc_free": {"value": free, "lower95": max(0.5, free - half), "upper95": free + half},
        "leak_ratio": {"1e-1": figure(1.1, 0.2)},
        "leak_ratio_1e-3": figure(1.2, 1.1),
        "rank1": {**figure(0.012, 0.01, 500), "cohort": 100, "chance": 0.01},
        "worst_decile": {"auc": 0.57, "null_95": 0.58, "p_worst_person": 0.4},
        "permuted_auc": figure(0.5, 0.02),
        "controls": {"negative": "pass", "positive": "pass", "auc_at_25": 0.98, "auc_at_50": 0.8},
        "pairs": 20_500,
        "people": 500,
    }
    return {**row, **more}


def insider(rank1: float = 0.012, cohort: int = 100, **more) -> dict:
    rank = {**figure(rank1, 0.01, 500), "cohort": cohort, "chance": 1 / cohort}
    controls = {"negative": "pass", "positive": "pass"}
    row = {"rung": "A9", "variant": f"{cohort} people", "frames": 30, "rank1": rank}
    return {**row, "controls": controls, **more}


def trait(name: str, excess: float, **more) -> dict:
    """A row of a soft biometric."""
    row = {"rung": "S", "variant": "LDA on 8 x 8 pixels", "frames": 1, "trait": name}
    row |= {"classes": ["a", "b"], "gain": figure(0.21, 0.04, 500), "people": 500}
    bits = {"value": excess + 0.01, "null_mean": 0.01, "null_95": 0.02, "excess": excess}
    return {**row, "bits": bits, "controls": {"negative": "pass"}, **more}


def ladder(*rungs: str) -> list[dict]:
    """Rows that hold, for the rungs named; A7 watches a whole session."""
    return [
        insider() if rung == "A9" else attempt(rung, frames=SESSION if rung == "A7" else 1)
        for rung in rungs
    ]


UP_TO = {
    "P0": ("A1",),
    "P1": ("A1", "A2", "A3"),
    "P2": ("A1", "A2", "A3", "A4", "A5", "A8"),
    "P3": grades.LADDER,
}
DATA = {
    "set": "LFW",
    "synthetic": False,
    "ids": {"lens": 2000, "attacker": 1500, "test": 500},
    "pairs": 20_500,
    "pair_sha256": "ab" * 32,
    "sessions_disjoint": True,
}
THUMBNAILS = {str(k): figure(auc, 0.02) for k, auc in ((1, 0.55), (2, 0.56), (3, 0.7), (4, 0.75))}
CERTIFICATE = {
    "frames": [1, SESSION],
    "recoverable_band": {"by_frames": {"1": 3, str(SESSION): 5}},
    "bits": [
        {"frames": 1, "bits": 9.0, "rank1_cap": {"100": 1.0}},
        {"frames": SESSION, "bits": 40.0, "rank1_cap": {"100": 1.0}},
    ],
    "simulator": [
        {"k": 2, "frames": 1, "delta": 0.004, "delta_upper95": 0.006, "auc_cap": 0.59},
        {"k": 2, "frames": SESSION, "delta": 0.012, "delta_upper95": 0.015, "auc_cap": 0.62},
    ],
    "lifetime": [{"k": 2, "frames": 17_300, "seconds": 576.7}],
    "lifetime_delta": 0.05,
    "auc_caps": [
        {"frames": 1, "auc": 0.59, "by": "2 x 2 thumbnail"},
        {"frames": SESSION, "auc": 0.62, "by": "2 x 2 thumbnail"},
    ],
    "auc_cap": 0.62,
    "hard_band_limit": {"statement": "The clear aperture was not given."},
    "assumptions": ["The sensor's noise is at least as large as stated."],
}
"""As privacy.certify gives it: bounds for one frame and for a session."""


def card_of(rows, *, tier="standard", data=DATA, camera=None, certificate=None, **more) -> dict:
    given = {"controls": {"thumbnails": THUMBNAILS, "ceiling": {"dlib": figure(0.99, 0.004)}}}
    given |= {"versions": {"opticaldr": "0.1.0"}, "seed": 7, "not_tested": [], "today": TODAY}
    return build_card(
        camera=camera or CameraUnderAttack("gaussian 0.3", PlainBlur("gaussian", 0.3, 40)),
        tier=TIERS[tier],
        rows=rows,
        data=data,
        certificate=certificate,
        **(given | more),
    )


def every_grade() -> list[dict]:
    broken = attempt("A2", controls={"negative": "pass", "positive": "fail"})
    exposed = {"worst_decile": {"auc": 0.57, "null_95": 0.6, "p_worst_person": 0.001}}
    return [
        *(card_of(ladder(*rungs)) for rungs in UP_TO.values()),
        card_of(ladder(*grades.LADDER), certificate=CERTIFICATE),
        card_of([attempt("A4", 0.9)]),
        card_of([attempt("A4", **{"leak_ratio_1e-3": figure(20, 3)})]),
        card_of([attempt("A1", **exposed)]),
        card_of([insider(0.6)]),
        card_of([attempt("A1", half=0.2)]),
        card_of([broken]),
        card_of([]),
        card_of(ladder("A1"), tier="smoke"),
        card_of(ladder("A1"), data={**DATA, "synthetic": True}),
    ]
