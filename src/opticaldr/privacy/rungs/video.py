"""Rung A7: many frames of one face (privacy.md 5.1, 6), against clean gallery pictures.

Still head: the mean of n frames, restored with the known optics. Moving head: the frames averaged
in register, which undoes the sampling of a camera that pixelates. Fusion: the mean of the
embeddings of single frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from opticaldr.privacy import statistics
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.registration import (
    MovingHead,
    StillHead,
    estimate_shift,
    head_path,
    shift,
    sway_px,
)
from opticaldr.privacy.rungs.known_psf import usual_method
from opticaldr.privacy.rungs.recordings import Filter, embedded, filters_for, recorded
from opticaldr.privacy.verification import pair_scores
from opticaldr.types import Recogniser

FUSED_FRAMES, FUSED_EMBEDDINGS = 5, 4000
"""Frames of one face whose embeddings are fused, and embeddings in all, at most."""
PLACES, PLACES_SAMPLED = 4, 16
"""Positions of the moving head. They tell nothing new about a convolution, which commutes with
motion; a camera that pixelates samples the face anew at each."""
IDENTIFIED_AUC = 0.6
"""Lower 95 % limit of the AUC above which the people count as identified (privacy.md 5.1)."""
_CURVE_BOOTSTRAP = 200  # sets of people for a point of the curve; the card's intervals use more
_REGISTERED = 16  # faces on which registration without an oracle is measured


@dataclass(frozen=True)
class _Curve:
    """Restored embeddings (m, d) of the test images against the number of frames."""

    what: str
    head: StillHead | MovingHead
    filters: Mapping[int, Filter]
    rows: Mapping[int, np.ndarray] = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)


def video(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Every n of the tier with the first judge; the others see the strongest mean of all frames."""
    judge, *others = arena.judges
    images, frames = arena.test.images, tuple(sorted({1, *arena.tier.frames}))
    last, clean = frames[-1], arena.embed(judge, images)
    method = usual_method(arena.camera.psf, arena.camera.optics.border)

    filters = filters_for(arena, StillHead(arena.camera, frames), judge=judge)
    singles = min(last, FUSED_FRAMES, max(1, FUSED_EMBEDDINGS // len(images)))
    head = StillHead(arena.camera, (1,) * singles + tuple(n for n in frames if n > 1))
    restored, naive = _embed(arena, judge, head, filters, progress, naive=(1, last))
    still = _Curve("mean", head, filters, {n: restored[head.takes.index(n)] for n in frames})
    moving = _follow(arena, judge, progress)
    strongest = moving if arena.camera.psf is None else still
    identified = time_to_identify(arena, clean, {**still.rows, **strongest.rows})

    def attempt(what: str, probe: np.ndarray, n: int, facts: Mapping[str, Any]) -> Attempt:
        return arena.attempt("A7", f"{what}, {judge.name}", clean, probe, frames=n, **facts)

    for curve in (still, moving):
        for n, probe in curve.rows.items():
            facts = {**curve.filters[n].facts, **curve.facts}
            if curve is strongest and n == last:
                facts |= identified
            yield attempt(f"{curve.what}, {method}", probe, n, facts)
    yield attempt("mean, naive", naive[head.takes.index(last)], last, {})
    if singles > 1:
        for how, rows in ((method, restored), ("naive", naive)):
            yield attempt(f"fused, {how}", _unit(sum(rows[:singles])), singles, {})
    final = replace(strongest.head, takes=(last,))
    for other in others:
        (probe,), _ = _embed(arena, other, final, strongest.filters, progress)
        what, facts = f"{strongest.what}, {method}, {other.name}", strongest.filters[last].facts
        yield arena.attempt("A7", what, arena.embed(other, images), probe, frames=last, **facts)


def _follow(arena: Arena, judge: Recogniser, progress: OnProgress) -> _Curve:
    """The moving head: every n for a camera that samples, the largest for a convolution."""
    frames = sorted(arena.tier.frames)
    if arena.camera.psf is None:
        head = MovingHead(arena.camera, tuple(frames), PLACES_SAMPLED)
    else:
        head = MovingHead(arena.camera, (frames[-1],), PLACES)
    filters = filters_for(arena, head, judge=judge)
    rows, _ = _embed(arena, judge, head, filters, progress)
    facts = {
        "places": head.positions,
        "sway_px": round(sway_px(arena.scene_size), 2),
        "blind_registration_rms_px": round(_blind_registration(arena, frames[-1]), 3),
    }
    return _Curve("moving", head, filters, dict(zip(head.takes, rows, strict=True)), facts)


def _embed(
    arena: Arena,
    judge: Recogniser,
    head: StillHead | MovingHead,
    filters: Mapping[int, Filter],
    progress: OnProgress,
    *,
    naive: tuple[int, ...] = (),
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Unit rows (m, d) of each take: restored, and as recorded where its n is in `naive`."""
    restored: list[list[np.ndarray]] = [[] for _ in head.takes]
    bare: list[list[np.ndarray]] = [[] for _ in head.takes]
    work = f"A7 {type(head).__name__}"
    for _, records in recorded(arena, arena.test.images, head, work, progress=progress):
        for take, (n, record) in enumerate(zip(head.takes, records, strict=True)):
            with torch.inference_mode():
                restored[take].append(embedded(judge, filters[n].restore(record)))
            if n in naive:
                bare[take].append(embedded(judge, record))
    return (
        [np.concatenate(rows) for rows in restored],
        [np.concatenate(rows) if rows else None for rows in bare],
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def time_to_identify(
    arena: Arena, gallery: np.ndarray, curve: Mapping[int, np.ndarray]
) -> dict[str, float | None]:
    """The first n of the curve, frames and seconds, at which people are identified; None: never."""
    images, pairs = arena.test.images, arena.test
    first, second = np.searchsorted(images, pairs.first), np.searchsorted(images, pairs.second)
    replicates = min(_CURVE_BOOTSTRAP, arena.tier.bootstrap)
    for n in sorted(curve):
        scores = pair_scores(gallery[first], curve[n][second], arena.faces, pairs)
        area = statistics.bootstrap(statistics.auc, scores, replicates=replicates, seed=arena.seed)
        if area.ci95[0] > IDENTIFIED_AUC:
            seconds = round(n / arena.camera.frame_rate_hz, 3)
            return {"time_to_identify_frames": n, "time_to_identify_s": seconds}
    return {"time_to_identify_frames": None, "time_to_identify_s": None}


def _blind_registration(arena: Arena, frames: int) -> float:
    """Root mean square error [px] of shifts estimated from the records alone.

    Between the means of the frames at two places of the head; an attacker without the oracle.
    """
    camera, generator = arena.camera, arena.generator("A7", "registration")
    _, scene = next(arena.scenes(arena.validation.images[:_REGISTERED]))
    path = head_path(len(scene), 2, sway=sway_px(arena.scene_size), generator=generator)
    offsets = path[:, 1] - path[:, 0]
    each = max(1, frames // PLACES_SAMPLED)
    with torch.inference_mode():
        light = camera.optics(scene)
        moved = (
            camera.optics(shift(scene, offsets)) if camera.psf is None else shift(light, offsets)
        )
        here, there = (
            camera.noise.record(irradiance, generator=generator, frames=each)
            for irradiance in (light, moved)
        )
        error = estimate_shift(here, there) - offsets
    return float(error.square().mean().sqrt())
