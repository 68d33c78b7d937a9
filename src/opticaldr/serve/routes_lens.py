"""Paths that describe: health, lens, its pictures, privacy card, a rendered person."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Response

from opticaldr import __version__
from opticaldr.notices import DISCLAIMER, PATENTS
from opticaldr.results import read_json
from opticaldr.serve import optics
from opticaldr.serve.answers import Card, Health, JobCount, LensAnswer
from opticaldr.serve.errors import ServiceError, refusals
from opticaldr.serve.parameters import LARGEST_SEED, Depth, Png, Strength, png_or
from opticaldr.serve.parts import Parts
from opticaldr.serve.pictures import png, psf_picture, surface_picture

NO_CARD = "Expected a privacy card, found no card yet: run opticaldr attack --lens RUN."

PersonSeed = Annotated[int, Query(ge=0, le=LARGEST_SEED, description="Number of the person.")]
PersonSize = Annotated[int, Query(ge=32, le=512, description="Side [px].")]


def routes(parts: Parts) -> APIRouter:
    """The paths, bound to the parts of one service."""
    router = APIRouter(prefix="/api")
    camera, drawn = parts.camera, png_or(refusals(422, 429))

    @router.get("/health", responses=refusals())
    async def health() -> Health:
        """That the service lives, and its limits."""
        return Health(
            status="ok",
            version=__version__,
            model=parts.estimator is not None,
            card=parts.card is not None,
            lens=Path(parts.shown).name or "lens",
            lens_sha256=camera.description["sha256"],
            limits=parts.limits.to_json(),
            jobs=JobCount(running=parts.jobs.unfinished, most=parts.limits.jobs),
        )

    @router.get("/lens", responses=refusals())
    async def lens() -> LensAnswer:
        """The lens: lens.json, and what the live view offers."""
        described = camera.description
        offered = {
            "designed_depth_range_m": described["depth_range_m"],
            "depth_range_m": optics.DEPTH_RANGE_M,
            "strength_range": optics.STRENGTH_RANGE,
            "noise_range": optics.NOISE_RANGE,
            "sizes": camera.sizes,
            "notices": {"disclaimer": DISCLAIMER, "patents": PATENTS},
        }
        return LensAnswer.model_validate({**described, **offered})

    @router.get("/psf.png", response_class=Response, responses=drawn)
    async def psf(depth_m: Depth = 1.0, strength: Strength = 1.0) -> Response:
        """The point spread function at the scale of a capture, square root of the light."""
        shot = optics.Shot(camera.pixels, depth_m, strength)
        found = await parts.drawn(lambda: camera.psf(shot)[0].numpy())
        return Png(png(psf_picture(found, camera.pixels)))

    @router.get("/surface.png", response_class=Response, responses=drawn)
    async def surface(strength: Strength = 1.0) -> Response:
        """Height of the plate, low dark and high light; X-Height-Um: from lowest to highest [um]."""
        height = await parts.drawn(partial(camera.surface, strength))
        span_um = 1e6 * float(np.nanmax(height) - np.nanmin(height))
        return Png(png(surface_picture(height)), headers={"X-Height-Um": f"{span_um:.3g}"})

    @router.get("/card", responses=refusals(404))
    async def card() -> Card:
        """The privacy card of the run or lens."""
        path = parts.card
        if path is None:
            raise ServiceError(404, "no_card", NO_CARD)
        return Card.model_validate(read_json(path))

    @router.get("/person.png", response_class=Response, responses=drawn)
    async def person(seed: PersonSeed = 0, size: PersonSize = 256) -> Response:
        """A rendered person who does not exist."""
        image = await parts.drawn(partial(optics.person, seed, size))
        note = "Synthetic person, rendered by OpticalDR."
        return Png(png(image, note), headers={"X-Synthetic": "true"})

    return router
