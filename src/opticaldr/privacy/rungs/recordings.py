"""Records of many frames and the filters that restore them (rungs A7, A9 and S)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.deconvolution import mirror
from opticaldr.privacy.evidence import OnProgress
from opticaldr.privacy.registration import MovingHead, StillHead
from opticaldr.privacy.rungs.known_psf import NOISE_SCALES, Restorer, prior_of, restorer_for
from opticaldr.privacy.verification import attack_embedding
from opticaldr.types import Capture, Recogniser, Scene

FITTED_FACES = 300
"""The attacker's own faces on which the filter of a camera without a PSF is fitted, at most."""


@dataclass(frozen=True)
class Filter:
    """A restorer of the mean of some number of frames, and how it was chosen."""

    restore: Restorer
    facts: Mapping[str, Any] = field(default_factory=dict)


def recorded(
    arena: Arena,
    images: np.ndarray,
    head: StillHead | MovingHead,
    work: str,
    *,
    progress: OnProgress | None = None,
) -> Iterator[tuple[Scene, list[Capture]]]:
    """Batches of clean scenes (b, 3, s, s) and one record (b, 3, s, s) for each of head.takes.

    Args:
        work: names the stream of noise and motion, and what is reported to `progress`.
    """
    generator, done = arena.generator("recorded", work, type(head).__name__), 0
    for chosen, scene in arena.scenes(images):
        with torch.inference_mode():
            records = head(scene, generator)
        yield scene, records
        done += len(chosen)
        if progress:
            progress(work, done, len(images))


def embedded(judge: Recogniser, picture: Scene) -> np.ndarray:
    """Unit rows (b, d) of linear pictures, which may leave [0, 1]."""
    with torch.inference_mode():
        return attack_embedding(judge, linear_to_srgb(picture)).cpu().numpy()


def filters_for(
    arena: Arena, head: StillHead | MovingHead, *, judge: Recogniser | None = None
) -> dict[int, Filter]:
    """A filter for each number of frames in head.takes: Wiener, or fitted without a PSF.

    Args:
        judge: by whom the regulariser is tuned; None: as is right for Gaussian scenes.
    """
    if arena.camera.psf is None:
        return _fitted(arena, head)
    prior, scales = prior_of(arena), NOISE_SCALES if judge else (1.0,)
    tried = {
        (n, scale): restorer_for(arena, frames=n, noise_scale=scale, prior=prior)
        for n in head.takes
        for scale in scales
    }
    if judge:
        return _tuned(arena, judge, head, tried)
    return {n: Filter(restore, {"noise_scale": 1.0}) for (n, _), restore in tried.items()}


def _tuned(
    arena: Arena,
    judge: Recogniser,
    head: StillHead | MovingHead,
    tried: Mapping[tuple[int, float], Restorer],
) -> dict[int, Filter]:
    """Of the (frames, regulariser) tried, those that identify the attacker's own people best.

    As known_psf.tune, for all numbers of frames in one pass: the optics take most of the time.
    """
    pairs = arena.validation
    rows: dict[tuple[int, float], list[np.ndarray]] = {setting: [] for setting in tried}
    for _, records in recorded(arena, pairs.images, head, "tune"):
        record_of = dict(zip(head.takes, records, strict=True))
        for (n, scale), restore in tried.items():
            with torch.inference_mode():
                rows[n, scale].append(embedded(judge, restore(record_of[n])))
    gallery = arena.embed(judge, pairs.images)
    auc = {
        setting: float(
            roc_auc_score(pairs.same, arena.compare(gallery, np.concatenate(found), pairs))
        )
        for setting, found in rows.items()
    }
    filters = {}
    for n in head.takes:
        best = max(NOISE_SCALES, key=lambda scale: auc[n, scale])
        facts = {"noise_scale": best, "validation_auc": round(auc[n, best], 4)}
        filters[n] = Filter(tried[n, best], facts)
    return filters


def _fitted(arena: Arena, head: StillHead | MovingHead) -> dict[int, Filter]:
    """The linear filter that best maps records of the attacker's own faces to the clean faces.

    One gain for each frequency: a Wiener filter whose spectra are measured, aliasing included,
    where no PSF tells them.
    """
    spread = np.linspace(0, len(arena.attacker) - 1, min(FITTED_FACES, len(arena.attacker)))
    images = arena.attacker[np.unique(spread.round().astype(int))]
    batches = list(recorded(arena, images, head, "fit"))
    scenes = torch.cat([scene for scene, _ in batches])
    return {
        n: Filter(_fit(scenes, torch.cat([records[take] for _, records in batches])))
        for take, n in enumerate(head.takes)
    }


def _fit(scenes: Scene, records: Capture) -> Restorer:
    clean, blurred = scenes.mean(0, keepdim=True), records.mean(0, keepdim=True)
    across, power = _spectra(scenes - clean, records - blurred)
    gain = across / power.clamp_min(1e-12)
    size = scenes.shape[-1]
    canvas = 2 * size - 2

    def restore(capture: Capture) -> Scene:
        spectrum = torch.fft.rfft2(mirror(capture - blurred))
        found = torch.fft.irfft2(gain * spectrum, s=(canvas, canvas))
        return clean + found[..., :size, :size]

    return restore


def _spectra(scenes: Tensor, records: Tensor) -> tuple[Tensor, Tensor]:
    """Cross and power spectrum of mirrored pictures (n, 3, s, s), summed over n and colours."""
    across = power = torch.zeros(())
    for scene, record in zip(scenes.split(32), records.split(32), strict=True):
        x, y = torch.fft.rfft2(mirror(scene)), torch.fft.rfft2(mirror(record))
        across = across + (x * y.conj()).real.sum((0, 1))
        power = power + y.abs().square().sum((0, 1))
    return across, power
