"""Severity and the facial cues that depend on it: the known ground truth of the benchmark.

All correlations, bases and the severity distribution are design choices of the simulator
specification (depression.md 6.3), not measurements of patients. The spreads are ours.

One factor links the cues: slowing L = SLOWING z + sqrt(1 - SLOWING^2) n, and
cue_k = (r_k / SLOWING) L + rest, all with unit variance, so that corr(cue_k, z) = r_k exactly and
the cues are correlated among each other. `ceiling()` is the best linear R^2 of z given all cues.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SLOWING = 0.9
"""Correlation of the shared latent (psychomotor slowing) with severity. Loadings r_k / 0.9 reach
0.5; a loading of 0.6 for every cue would lower the ceiling from about 0.55 to 0.3."""
BDI_SHAPE, BDI_SCALE, BDI_ZERO = 1.8, 9.5, 0.08
"""Zero-inflated gamma truncated at 63; bands 53/17/16/14 %, mean 15.4, SD 12.2, the closest of this
family to the 51/15/17/17 %, 15.1 and 12 of 6.3."""


@dataclass(frozen=True)
class Cue:
    """name; r: correlation with severity; base: typical value; spread: of one SD, as a factor
    (kind "log"), as odds ("logit") or added ("linear").

    The rest is for the benchmark (sessions.py). northwind: base in that task, None = as ever.
    women: shift of women, and of men the other way [SD]. trait: cues whose stable differences
    between people have a common part.
    """

    name: str
    r: float
    base: float
    spread: float
    kind: str
    northwind: float | None = None
    women: float = 0.0
    trait: str = ""


# r and bases are those of the table in depression.md 6.3. Women smile more by 0.4 SD (LaFrance,
# Hecht & Levy Paluck 2003, d = 0.41).
CUES = (
    Cue("smile_rate_per_min", -0.40, 4.0, 0.60, "log", 1.2, 0.2, "expressive"),
    Cue("smile_peak", -0.35, 2.5, 0.80, "linear", 1.8, 0.2, "expressive"),  # AU12, FACS 0-5
    Cue("smile_rise_s", +0.30, 0.35, 0.35, "log"),
    Cue("cheek_given_smile", -0.25, 0.55, 0.80, "logit", trait="expressive"),  # AU6
    Cue("smile_control", +0.30, 0.15, 1.00, "logit"),  # AU14/17 after a smile
    Cue("dimpler_fraction", +0.30, 0.06, 1.20, "logit"),  # AU14
    Cue("brow_lower_fraction", +0.25, 0.08, 1.20, "logit"),  # AU4
    Cue("inner_brow_fraction", +0.15, 0.03, 1.20, "logit"),  # AU1+4
    Cue("lip_corner_fraction", 0.0, 0.05, 1.00, "logit"),  # AU15: contested, 0 by default
    Cue("chin_raise_fraction", +0.15, 0.05, 1.00, "logit"),  # AU17
    Cue("lip_raise_fraction", +0.10, 0.03, 1.00, "logit"),  # AU10
    Cue("motion_energy", -0.40, 1.0, 0.40, "log", trait="expressive"),
    Cue("head_rms_deg", -0.35, 6.0, 0.35, "log", trait="head"),
    Cue("head_speed_deg_s", -0.45, 12.0, 0.35, "log", trait="head"),
    Cue("head_down_deg", +0.30, 2.0, 6.0, "linear"),
    Cue("gaze_down_fraction", +0.35, 0.10, 1.20, "logit"),
    Cue("lid_aperture", -0.25, 1.0, 0.18, "linear"),
    Cue("blink_duration_s", +0.20, 0.18, 0.25, "log"),
    Cue("blink_rate_per_min", 0.0, 17.0, 7.0, "linear"),  # nuisance
)
CUE_NAMES = tuple(cue.name for cue in CUES)


@dataclass(frozen=True)
class Session:
    """Severity (BDI-II score, integer 0-63) of one recording and its cues, named by CUE_NAMES."""

    severity: int
    cues: dict[str, float]


def draw_session(seed: int, index: int, *, cue_gain: float = 1.0) -> Session:
    """Severity and true cue values of the recording of a person; no images needed.

    cue_gain: 1 gives every cue its correlation of the table; more exaggerates them all, up to a
    loading of 0.95 on the shared factor.
    """
    rng = np.random.default_rng([seed, index, 3])
    severity = draw_severity(rng)
    mean, sd = severity_moments()
    z = (severity - mean) / sd
    slowing = SLOWING * z + np.sqrt(1 - SLOWING**2) * rng.standard_normal()
    values = {}
    for cue in CUES:
        loading = _loading(cue, cue_gain)
        standard = loading * slowing + np.sqrt(1 - loading**2) * rng.standard_normal()
        values[cue.name] = scaled(cue, standard, cue.base)
    return Session(severity, values)


def draw_severity(rng: np.random.Generator) -> int:
    """One BDI-II score."""
    if rng.random() < BDI_ZERO:
        return 0
    while True:
        score = rng.gamma(BDI_SHAPE, BDI_SCALE)
        if score < 63.5:
            return round(score)


def ceiling(cue_gain: float = 1.0) -> float:
    """Largest share of the variance of severity that a linear reader of all cues can explain."""
    loading = np.array([_loading(cue, cue_gain) for cue in CUES])
    r = SLOWING * loading
    covariance = np.outer(loading, loading)
    np.fill_diagonal(covariance, 1.0)
    return float(r @ np.linalg.solve(covariance, r))


def _loading(cue: Cue, gain: float) -> float:
    return float(np.clip(gain * cue.r / SLOWING, -0.95, 0.95))


def scaled(cue: Cue, standard: float, base: float) -> float:
    """The value of a cue that lies `standard` SDs above its base."""
    # Truncated far out: no negative lids or blink rates, no head that turns away for good.
    standard = float(np.clip(standard, -2.4, 2.4))
    if cue.kind == "log":
        return base * float(np.exp(cue.spread * standard))
    if cue.kind == "logit":
        odds = base / (1 - base) * np.exp(cue.spread * standard)
        return float(odds / (1 + odds))
    return base + cue.spread * standard


@lru_cache(maxsize=1)
def severity_law() -> np.ndarray:
    """(64,) probability of each score 0 .. 63 in draw_severity, by integration of the density."""
    fine = (np.arange(63_500) + 0.5) / 1000
    density = fine ** (BDI_SHAPE - 1) * np.exp(-fine / BDI_SCALE)
    mass = np.bincount(np.round(fine).astype(int), density, minlength=64)
    mass *= (1 - BDI_ZERO) / mass.sum()
    mass[0] += BDI_ZERO
    mass.flags.writeable = False
    return mass


@lru_cache(maxsize=1)
def severity_moments() -> tuple[float, float]:
    """Mean and SD of draw_severity."""
    mass, score = severity_law(), np.arange(64)
    mean = float(mass @ score)
    return mean, float(np.sqrt(mass @ np.square(score - mean)))
