"""The ladder: every rung on the camera and on weaker copies of it, with controls, resumable."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from opticaldr.privacy import controls
from opticaldr.privacy.arena import Arena, RungFn
from opticaldr.privacy.evidence import Attempt, Finding, Identification, OnProgress
from opticaldr.privacy.ledger import Ledger, Row
from opticaldr.privacy.measure import measure, measure_identification, measure_trait

RUNGS = {
    "A1": "naive.naive",
    "A2": "parrot.parrot",
    "A3": "adaptive.adaptive",
    "A4": "known_psf.known_psf",
    "A5": "restoration.restoration",
    "A7": "video.video",
    "A8": "physics.physics",
    "A9": "insider.insider",
    "S": "traits.traits",
}
"""Where each rung lives below privacy.rungs. A6 is made from a restorer that the user supplies."""

UNGRADED = ("S",)
"""Rungs that run on the camera alone: how well traits are read is reported beside its own null."""
IDENTIFYING = ("A9",)
"""Rungs that name people instead of comparing pairs; they run once more on wrong names."""


@dataclass(frozen=True)
class Ladder:
    """What all rungs found.

    rows: one per variant at full strength, with its "controls". thumbnails: AUC figure of the
    k x k thumbnails, by str(k). ceiling: AUC figure on clean pictures, by recogniser.
    untested: rungs that do not apply to the camera, and why.
    """

    rows: list[Row]
    thumbnails: dict[str, Any]
    ceiling: dict[str, Any]
    untested: tuple[str, ...]


def open_rungs(names: Iterable[str]) -> dict[str, RungFn]:
    """The rungs of these names, in the order of the ladder."""
    chosen, found = set(names), {}
    for name, place in RUNGS.items():
        if name in chosen:
            module, _, function = place.partition(".")
            found[name] = getattr(import_module(f"opticaldr.privacy.rungs.{module}"), function)
    return found


def climb(
    arena: Arena, rungs: Mapping[str, RungFn], *, ledger: Ledger, progress: OnProgress
) -> Ladder:
    """Runs each rung on the camera and on weaker copies; finished units come from the ledger.

    progress: called with ("ladder", units done, units in all), and for the steps of a unit.
    """
    tier = arena.tier
    weaker = {name: controls.strengths(name, tier) for name in rungs if name not in UNGRADED}
    weak_arenas = {  # one for all rungs: a camera keeps its point spread function
        strength: _weaker(arena, strength)
        for strength in {strength for each in weaker.values() for strength in each}
    }
    ledger.keep_pairs("pairs", arena)
    if weak_arenas:  # all have the same pairs
        ledger.keep_pairs("control_pairs", next(iter(weak_arenas.values())))
    common = {"clean": controls.clean_ceiling, "thumbnails": controls.thumbnails}
    total = len(common) + len(rungs) + sum(map(len, weaker.values()))
    total += sum(name in IDENTIFYING for name in rungs)
    units = iter(range(1, total + 1))

    def unit(key: str, rung: RungFn, where: Arena, strength: float = 1.0) -> list[Row]:
        rows = ledger.rows(key)
        if rows is None:
            rows = _work(key, rung, where, strength, ledger, progress)
        progress("ladder", next(units), total)
        return rows

    progress("ladder", 0, total)
    clean, thumbnails = (unit(key, rung, arena) for key, rung in common.items())
    rows, untested = [], []
    for name, rung in rungs.items():
        found = unit(name, rung, arena)
        if not found:
            untested.append(f"{name}: does not apply to {arena.camera.name}")
        if name in UNGRADED:
            rows += found
            continue
        permuted = []
        if name in IDENTIFYING:
            permuted = unit(f"{name}-permuted", rung, controls.permuted_people(arena))
        weak = {
            strength: unit(f"{name}-{round(100 * strength)}", rung, weak_arenas[strength], strength)
            for strength in weaker[name]
        }
        people = min(arena.tier.control_people, len(set(arena.people_of(arena.test.images))))
        rows += [_with_controls(row, weak, permuted, people) for row in found]
    return Ladder(
        rows=rows,
        thumbnails={str(row["facts"]["side"]): row["auc"] for row in thumbnails},
        ceiling={row["facts"]["recogniser"]: row["auc"] for row in clean},
        untested=tuple(untested),
    )


def _weaker(arena: Arena, strength: float) -> Arena:
    """The arena of a control: fewer people, and no second try, which makes it no easier to pass."""
    there = arena.against(arena.camera.at_strength(strength), people=arena.tier.control_people)
    return replace(there, tier=replace(arena.tier, restarts=1))


def _work(
    key: str, rung: RungFn, arena: Arena, strength: float, ledger: Ledger, progress: OnProgress
) -> list[Row]:
    """Runs one rung at one strength, measures what it found, and keeps both."""
    started = time.perf_counter()

    def report(what: str, done: int, total: int) -> None:
        progress(f"{key}: {what}", done, total)

    findings = list(rung(arena, progress=report))
    if strength == 1:
        rows = [_measure(finding, arena) for finding in findings]
    else:
        rows = controls.weak_rows(findings, arena.test)
    seconds = time.perf_counter() - started
    ledger.keep(key, findings, rows, strength=strength, seconds=seconds)
    return rows


def _measure(finding: Finding, arena: Arena) -> Row:
    """One line of the ladder table."""
    tier, seed = arena.tier, arena.seed
    if isinstance(finding, Attempt):
        people = [record.person for record in arena.faces.records]
        return measure(finding, arena.test, people, tier=tier, seed=seed)
    if isinstance(finding, Identification):
        return measure_identification(finding)
    return measure_trait(finding, tier=tier, seed=seed)


def _with_controls(
    row: Row, weak: Mapping[float, Sequence[Row]], permuted: Sequence[Row], people: int
) -> Row:
    """The row, the outcome of its controls, and how far this variant got on weaker lenses."""
    outcome: Row = {
        "negative": controls.negative(row, permuted),
        "positive": controls.positive(weak, people=people),
    }
    for strength, others in weak.items():
        same = (o for o in others if (o["variant"], o["frames"]) == (row["variant"], row["frames"]))
        outcome[f"auc_at_{round(100 * strength)}"] = next(same, {}).get("auc")
    return {**row, "controls": outcome}
