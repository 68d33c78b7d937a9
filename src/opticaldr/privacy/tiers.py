"""How hard the ladder tries: sizes of the three tiers (privacy.md 5.2; margin: 5.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TierName = Literal["smoke", "standard", "publication"]


@dataclass(frozen=True)
class Tier:
    """Sizes of one run of the ladder.

    people, photos: test people and photos of each, at most. nonmated: non-mated pairs, at most.
    control_people: of the test people, those whom positive controls attack again.
    validation_people: the attacker's own people on whom attacks are tuned.
    attacker_images: images that trained attackers learn from, at most.
    frames: of the video rung. bootstrap: resampled sets of people for an interval.
    steps: optimiser steps of each trained attacker. restarts: seeds of each trained attacker.
    depths: distances of the sweep 5 cm .. infinity. fmr: rates at which errors are reported.
    margin: by how much an AUC may exceed .5 and still be called private. claims: False = for
    regression of the code only, no claim is allowed.
    """

    name: TierName
    people: int
    photos: int
    nonmated: int
    control_people: int
    validation_people: int
    attacker_images: int
    frames: tuple[int, ...]
    bootstrap: int
    steps: int
    restarts: int
    depths: int
    fmr: tuple[float, ...]
    margin: float = 0.05
    claims: bool = True


TIERS: dict[str, Tier] = {
    "smoke": Tier(
        "smoke", people=24, photos=4, nonmated=2000, control_people=16, validation_people=12,
        attacker_images=160, frames=(1, 30), bootstrap=200, steps=60, restarts=1, depths=4,
        fmr=(1e-1, 1e-2), claims=False,
    ),
    "standard": Tier(
        "standard", people=500, photos=4, nonmated=20_000, control_people=80,
        validation_people=100, attacker_images=4000, frames=(1, 10, 100, 1000), bootstrap=2000,
        steps=1500, restarts=3, depths=12, fmr=(1e-1, 1e-2, 1e-3),
    ),
    "publication": Tier(
        "publication", people=5000, photos=20, nonmated=1_000_000, control_people=200,
        validation_people=500, attacker_images=200_000, frames=(1, 10, 100, 1000, 1800),
        bootstrap=2000, steps=50_000, restarts=3, depths=24, fmr=(1e-1, 1e-2, 1e-3, 1e-4),
    ),
}  # fmt: skip
