"""What rungs of the attack ladder return: raw scores and ranks. Statistics are computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

RungName = Literal["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "S"]

OnProgress = Callable[[str, int, int], None]
"""Called with (what, done, total) while a rung works."""


@dataclass(frozen=True)
class Attempt:
    """One variant of a rung tried on every pair of arena.test.

    variant: what the attacker did, such as "wiener, dlib". frames: recorded frames used per probe.
    scores: (n,) float64, larger = more alike, in the order of the pairs; always finite.
    rank: (p,) int, place of the true person for one probe of each of the p people of the test who
    have two images, all p enrolled with one image; ties count as the mean place, rounded up.
    facts: JSON values worth a place on the card (chosen regulariser, steps trained, PSNR, ..).
    """

    rung: RungName
    variant: str
    frames: int
    scores: np.ndarray
    rank: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identification:
    """One variant of closed-set identification: who of `cohort` people is it?

    rank: (t,) int, place of the true person among the cohort's answers, 1 = first; ties count as
    the mean place, rounded up. person: (t,) int code of the probe's person.
    """

    rung: RungName
    variant: str
    frames: int
    cohort: int
    rank: np.ndarray
    person: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TraitReading:
    """One soft biometric read from captures of unseen people: truth and guess, (t,) class codes.

    trait: "sex", "age band", .. classes: their names, by code. person: (t,) int.
    """

    rung: RungName
    variant: str
    frames: int
    trait: str
    classes: tuple[str, ...]
    truth: np.ndarray
    guess: np.ndarray
    person: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


Finding = Attempt | Identification | TraitReading
