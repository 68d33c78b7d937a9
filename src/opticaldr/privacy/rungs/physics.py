"""Rung A8: attackers who are not given the PSF, or who choose the physics (privacy.md 4.8, 5.1).

The PSF is stolen from the picture of a star, guessed from the spectrum of many records, or 10 % off;
one colour is used alone; the face stands where the lens is sharpest; the light is bright.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from opticaldr.optics.bands import face_frequencies, fold, otf
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import CameraUnderAttack, PlainBlur, scale_psf
from opticaldr.privacy.deconvolution import ScenePrior, ring_means, scene_prior, transfer, trim
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.rungs.known_psf import (
    NOISE_SCALES,
    Restorer,
    noise_variance,
    prior_of,
    restorer_for,
    tune,
)
from opticaldr.types import FACE_SHARE, Capture, InputError, Psf, Recogniser, Scene

STAR_FRAMES = 100
"""Frames of the star and of the dark that are averaged: three seconds of video."""
STAR_PEAK = 0.9
"""Brightness of the star's picture at its peak [full scale]: the attacker sets the LED so."""
NEAREST_M = 0.05
"""Where the sweep over distances starts (privacy.md 4.8)."""
BAND = (2.0, 16.0)
"""Detail that the sweep over distances looks for [cycles per face]."""
WIDTH_ERROR = 0.1
LIGHT = 4.0
"""Of the bright scene, times the usual: at a quarter of the gain, so with a quarter of the noise."""
BLIND_SCENES = 300
"""Records whose spectra the blind attacker averages."""
GUESSES = tuple(np.geomspace(0.02, 1.5, 28).tolist())
"""Widths of blurs that the blind attacker tries first [face widths], 17 % apart."""
OFF_AXIS = "off-axis: the camera gives one PSF for the whole field"


@dataclass(frozen=True)
class Trick:
    """One way to attack: where, with which PSF (None: the true one), and what is looked at.

    restored: False = the record as it is. colour: the only channel used, None = all.
    """

    name: str
    arena: Arena
    psf: Psf | None = None
    restored: bool = True
    colour: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def physics(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Every trick with the first judge; the one that went furthest with the others too."""
    prior = prior_of(arena)
    tricks = list(_tricks(arena, prior))
    first, *others = arena.judges
    found = []
    for done, trick in enumerate(tricks):
        found.append(_attack(arena, trick, first, prior))
        progress("A8", done + 1, len(tricks) + len(others))
    yield from found
    areas = [roc_auc_score(arena.test.same, attempt.scores) for attempt in found]
    for done, judge in enumerate(others):
        yield _attack(arena, tricks[int(np.argmax(areas))], judge, prior)
        progress("A8", len(tricks) + done + 1, len(tricks) + len(others))


def _attack(arena: Arena, trick: Trick, judge: Recogniser, prior: ScenePrior) -> Attempt:
    facts, there = dict(trick.facts), trick.arena
    make = partial(_make, trick, prior)
    setting = NOISE_SCALES[len(NOISE_SCALES) // 2]
    if trick.restored and arena.tier.claims:
        setting = tune(there, make, judge).best
    if trick.restored:
        facts["noise_scale"] = setting
    look, record = make(setting), there.captured("A8", trick.name)
    probe = there.embed(judge, arena.test.images, lambda i, scene: look(record(i, scene)))
    clean = arena.embed(judge, arena.test.images)
    return arena.attempt("A8", f"{trick.name}, {judge.name}", clean, probe, **facts)


def _make(trick: Trick, prior: ScenePrior, scale: float) -> Restorer:
    """What the attacker looks at, given a record."""
    look: Restorer = _as_it_is
    if trick.restored:
        look = restorer_for(trick.arena, psf=trick.psf, noise_scale=scale, prior=prior)
    if trick.colour is None:
        return look
    chosen = slice(trick.colour, trick.colour + 1)
    return lambda capture: look(capture)[:, chosen].expand(-1, 3, -1, -1)


def _as_it_is(capture: Capture) -> Scene:
    return capture


def _tricks(arena: Arena, prior: ScenePrior) -> Iterator[Trick]:
    camera, psf = arena.camera, arena.camera.psf
    noise = camera.noise
    bright = replace(
        noise, read_noise=noise.read_noise / LIGHT, full_well_e=noise.full_well_e * LIGHT
    )
    yield Trick("bright scene", arena.against(replace(camera, noise=bright)))
    if psf is None:
        return
    stolen = stolen_psf(camera, arena.scene_size, generator=arena.generator("star"))
    facts = {"frames_of_star": STAR_FRAMES, "wrong_light": wrong_light(stolen, psf)}
    yield Trick("stolen PSF", arena, stolen, facts={**facts, "skipped": OFF_AXIS})
    guess = blind_blur(arena, prior)
    facts = {
        "guess": f"{guess.shape} {guess.width:.3f}",
        "wrong_light": wrong_light(guess.psf, psf),
    }
    yield Trick("blind PSF", arena, guess.psf, facts=facts)
    for factor in (1 - WIDTH_ERROR, 1 + WIDTH_ERROR):
        wrong = trim(scale_psf(psf, factor), largest=2 * arena.scene_size - 1)
        yield Trick(f"PSF {factor - 1:+.0%}", arena, wrong)
    detail = [float(value) for value in colour_detail(psf, arena.scene_size)]
    best = int(np.argmax(detail))
    yield Trick(f"{('red', 'green', 'blue')[best]} alone", arena, colour=best)
    sharpest = sharpest_distance(camera, arena.scene_size, arena.tier.depths)
    if sharpest is not None:
        there, facts = arena.against(sharpest), {"distance_m": round(sharpest.depth_m or 0, 4)}
        yield Trick("in focus", there, restored=False, facts=facts)
        yield Trick("in focus, wiener", there, facts=facts)


# --- the PSF, stolen or guessed -----------------------------------------------------------------


def stolen_psf(
    camera: CameraUnderAttack,
    size: int,
    *,
    generator: torch.Generator,
    frames: int = STAR_FRAMES,
) -> Psf:
    """The PSF (1, 3, m, m) from the mean picture of a point source, the mean dark picture removed.

    The star stands in the middle of a dark room; what its noise cannot explain is kept (3 standard
    deviations of the mean). Light outside the frame stays unknown.
    """
    star = torch.zeros(1, 3, size, size)
    middle = size // 2
    star[..., middle, middle] = 1
    light = replace(camera.optics, border="zero")(star).clamp_min(0)
    light = light * (STAR_PEAK / light.amax((-2, -1), keepdim=True))
    dark = torch.zeros_like(light)
    seen, unlit = (
        camera.noise.record(picture, generator=generator, frames=frames)
        for picture in (light, dark)
    )
    found = seen - unlit.mean((-2, -1), keepdim=True)
    limit = 3 * float(camera.noise.std(torch.zeros(()))) / math.sqrt(frames)
    found = torch.where(found > limit, found, 0.0)
    if size % 2 == 0:  # the star's pixel has one more neighbour above and on the left
        found = found[..., 1:, 1:]
    return found / found.sum((-2, -1), keepdim=True)


def blind_blur(arena: Arena, prior: ScenePrior) -> PlainBlur:
    """The plain blur that turns the spectrum of clean faces into that of the records.

    The mean power of many records over that of the attacker's clean faces is |OTF|^2; its sign,
    which power does not show, comes with the family of blurs.
    """
    images = arena.test.images[:BLIND_SCENES]
    record = arena.captured("blind")
    with torch.inference_mode():
        records = torch.cat([record(i, scene) for i, scene in arena.scenes(images)])
    seen = scene_prior(records).curve.log()
    size = prior.mean.shape[-1]
    variance = noise_variance(arena, level=float(prior.mean.mean()), frames=1)

    def misfit(blur: PlainBlur) -> float:
        passed = ring_means(transfer(blur.psf, 2 * size - 2).abs().square())
        expected = (passed * prior.curve + variance).log()
        return float((seen - expected).square().sum())

    shapes = ("gaussian", "disc")
    guesses = [PlainBlur(shape, width, size) for shape in shapes for width in GUESSES]
    best = min(guesses, key=misfit)
    for apart in (GUESSES[1] / GUESSES[0], 1.03):
        near = (best.width * np.geomspace(1 / apart, apart, 11)).tolist()
        best = min((replace(best, width=width) for width in near), key=misfit)
    return best


def wrong_light(found: Psf, true: Psf) -> float:
    """Share of light in the wrong place: half the summed difference, mean over the colours."""
    size = max(found.shape[-1], true.shape[-1]) + 1  # one more than either, so that nothing wraps
    difference = (fold(found[0].double(), size) - fold(true[0].double(), size)).abs()
    return round(float(difference.sum((-2, -1)).mean()) / 2, 4)


# --- what the optics let through ----------------------------------------------------------------


def colour_detail(psf: Psf, size: int) -> Float[Tensor, "3"]:
    """Mean |OTF|^2 of each colour over BAND, on a frame of `size` pixels."""
    cycles = face_frequencies(size, FACE_SHARE * size)
    inside = (cycles >= BAND[0]) & (cycles <= BAND[1])
    return otf(fold(psf[0].double(), size)).abs().square()[:, inside].mean(1)


def sharpest_distance(
    camera: CameraUnderAttack, size: int, depths: int
) -> CameraUnderAttack | None:
    """The camera with the face where it shows most detail; None if distance is no part of it.

    Sweeps from NEAREST_M to infinity in equal steps of vergence, then twice between the neighbours
    of the best: a lens that is out of focus is a lens in focus elsewhere.
    """
    best, low, high = None, 0.0, 1 / NEAREST_M
    for _ in range(3):
        steps = np.linspace(low, high, max(3, depths))
        seen = [_detail_at(camera, float(v), size) for v in steps]
        place = int(np.argmax([detail for detail, _ in seen]))
        best = seen[place][1] or best
        low, high = steps[max(0, place - 1)], steps[min(len(steps) - 1, place + 1)]
    return best


def _detail_at(
    camera: CameraUnderAttack, vergence: float, size: int
) -> tuple[float, CameraUnderAttack | None]:
    there = camera.at_depth(1 / vergence if vergence else math.inf)
    if there is None:
        return 0.0, None
    try:
        return float(colour_detail(there.psf, size).sum()), there
    except InputError:  # too wide to be computed: there is nothing to be seen
        return 0.0, None
