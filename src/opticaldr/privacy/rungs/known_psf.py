"""Rung A4: the attacker knows the optics and the noise, restores the record, then recognises it.

The regulariser is tuned where it counts: by how well the attacker's own people are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.arena import Arena, See
from opticaldr.privacy.cameras import Border, PsfOptics
from opticaldr.privacy.deconvolution import (
    Forward,
    ScenePrior,
    SensorCrop,
    Through,
    mirror_suits,
    scene_prior,
    solve,
    wiener,
)
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.verification import attack_embedding
from opticaldr.types import Capture, Psf, Recogniser, Scene

Restorer = Callable[[Capture], Scene]
"""(b, 3, s, s) records to what the attacker believes the scene was, linear light."""
Method = Literal["wiener", "iterative"]

NOISE_SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Regularisers that are tried, in units of the noise variance; 1 is right for Gaussian scenes."""
PRIOR_SCENES = 300
"""Clean faces from which mean and spectrum are estimated."""


def prior_of(arena: Arena) -> ScenePrior:
    """Mean and spectrum of the attacker's own clean faces."""
    spread = np.linspace(0, len(arena.attacker) - 1, min(PRIOR_SCENES, len(arena.attacker)))
    chosen = arena.attacker[np.unique(spread.round().astype(int))]
    return scene_prior(torch.cat([scene for _, scene in arena.scenes(chosen)]))


def noise_variance(arena: Arena, *, level: float, frames: int) -> float:
    """Variance of one sample of the mean record at this level, rounding included."""
    noise = arena.camera.noise
    rounding = (2**noise.bits - 1) ** -2 / 12 if noise.bits else 0.0
    return (float(noise.std(torch.tensor(level))) ** 2 + rounding) / frames


def restorer_for(
    arena: Arena,
    *,
    frames: int = 1,
    psf: Psf | None = None,
    noise_scale: float = 1.0,
    method: Method | None = None,
    prior: ScenePrior | None = None,
) -> Restorer:
    """A restorer of records of arena.camera; use it under torch.inference_mode or no_grad.

    Args:
        frames: over which the record was averaged.
        psf: (1, 3, m, m) what the attacker takes for the PSF; the true one if None. Optics without
            any PSF (pixelation) are always restored iteratively through the optics themselves.
        noise_scale: regulariser in units of the noise variance.
        method: usual_method of the PSF if None.
        prior: of prior_of(arena), to compute it only once.
    """
    optics, size = arena.camera.optics, arena.scene_size
    prior = prior or prior_of(arena)
    level = float(prior.mean.mean())
    variance = noise_scale * noise_variance(arena, level=level, frames=frames)
    known = optics.psf if psf is None else psf
    if (method or usual_method(known, optics.border)) == "wiener" and known is not None:
        return lambda captures: wiener(
            captures, known, prior=prior, noise_variance=variance, border=optics.border
        )
    # A mirrored border is a trick of the simulation, which the Wiener filter already uses up: here
    # the scene goes on, as in a room. Darkness beyond the frame is a fact worth knowing.
    if known is not None and optics.border == "reflect":
        forward: Forward = SensorCrop(known, size)
    else:
        forward = Through(optics if psf is None else PsfOptics("assumed", psf, "zero"), size)
    return lambda captures: solve(captures, forward, prior=prior, noise_variance=variance)


def usual_method(psf: Psf | None, border: Border) -> Method:
    """What restores best without a search; "wiener" also stands for filters fitted without a PSF.

    On LFW, A4 read .67 with the filter and .91 with the iterative solver behind a lens with oblique
    astigmatism (docs/results.md).
    """
    lopsided = psf is not None and border == "reflect" and not mirror_suits(psf)
    return "iterative" if lopsided else "wiener"


@dataclass(frozen=True)
class Tuned:
    """The best setting on the attacker's own people, and the AUC of every setting tried."""

    best: float
    auc: dict[float, float]


def tune(
    arena: Arena,
    make: Callable[[float], Restorer],
    judge: Recogniser,
    *,
    grid: Sequence[float] = NOISE_SCALES,
    frames: int = 1,
) -> Tuned:
    """The setting with the largest AUC, restored probe against clean gallery, on validation pairs.

    Args:
        make: setting -> restorer; every setting sees the same records.
    """
    pairs = arena.validation
    gallery = arena.embed(judge, pairs.images)
    found = {}
    for setting in grid:
        restore, record = make(setting), arena.captured("tune", judge.name, frames=frames)
        probe = arena.embed(judge, pairs.images, lambda i, x, r=restore, c=record: r(c(i, x)))
        found[setting] = float(roc_auc_score(pairs.same, arena.compare(gallery, probe, pairs)))
    return Tuned(max(found, key=lambda setting: found[setting]), found)


def embed_each(
    arena: Arena, images: np.ndarray, see: See, *, what: str, progress: OnProgress
) -> dict[str, np.ndarray]:
    """Unit rows (n, d) by judge of what `see` makes of each image, made once for all judges."""
    found: dict[str, list[np.ndarray]] = {judge.name: [] for judge in arena.judges}
    done = 0
    with torch.inference_mode():
        for chosen, scene in arena.scenes(images):
            shown = linear_to_srgb(see(chosen, scene))
            for judge in arena.judges:
                found[judge.name].append(attack_embedding(judge, shown).cpu().numpy())
            done += len(chosen)
            progress(what, done, len(images))
    return {name: np.concatenate(rows) for name, rows in found.items()}


def known_psf(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """One frame, Wiener and iterative; restored probe against clean gallery and against restored.

    The regulariser is tuned with the first judge.
    """
    prior = prior_of(arena)
    methods: tuple[Method, ...] = ("wiener", "iterative")
    for method in methods[arena.camera.psf is None :]:
        make = partial(_make, arena, method, prior)
        tuned = tune(arena, make, arena.judges[0])
        restore, record = make(tuned.best), arena.captured("A4")
        restored = embed_each(
            arena,
            arena.test.images,
            lambda i, scene, r=restore, c=record: r(c(i, scene)),
            what=f"A4 {method}",
            progress=progress,
        )
        facts = {"noise_scale": tuned.best, "validation_auc": round(tuned.auc[tuned.best], 4)}
        for judge in arena.judges:
            clean, probe = arena.embed(judge, arena.test.images), restored[judge.name]
            yield arena.attempt("A4", f"{method}, {judge.name}", clean, probe, **facts)
            both = f"{method} both sides, {judge.name}"
            yield arena.attempt("A4", both, probe, probe, **facts)


def _make(arena: Arena, method: Method, prior: ScenePrior, scale: float) -> Restorer:
    return restorer_for(arena, noise_scale=scale, method=method, prior=prior)
