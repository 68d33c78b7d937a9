"""Paths that take a picture: capture, restore.

Annotations are real objects here (no `from __future__ import annotations`): the sizes on offer
depend on the lens, and FastAPI reads them from the signatures.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from opticaldr.serve.errors import refusals
from opticaldr.serve.media_in import picture
from opticaldr.serve.optics import Shot
from opticaldr.serve.parameters import Depth, Noise, Png, Seed, Strength, form, one_of, png_or
from opticaldr.serve.parts import Parts
from opticaldr.serve.pictures import png
from opticaldr.serve.uploads import Upload

Frames = one_of((1, 10, 100), "Records of the still scene that are averaged.")
FORM = form("A JPEG, PNG, WebP or BMP; its centre square is taken.")


def routes(parts: Parts) -> APIRouter:
    """The paths, bound to the parts of one service."""
    router = APIRouter(prefix="/api")
    camera, limits = parts.camera, parts.limits
    answers = png_or(refusals(408, 413, 415, 422, 429))
    Size = one_of(camera.sizes, "Side of the sensor and of the answer [px].")

    async def taken(
        depth_m: Depth = 1.0,
        noise: Noise = None,
        strength: Strength = 1.0,
        seed: Seed = 0,
        size: Size = camera.pixels,
    ) -> Shot:
        return Shot(size, depth_m, strength, noise, seed)

    Taken = Annotated[Shot, Depends(taken)]

    @router.post("/capture", response_class=Response, responses=answers, openapi_extra=FORM)
    async def capture(request: Request, shot: Taken) -> Response:
        """What the camera stores of a picture."""

        def work(upload: Upload) -> bytes:
            return png(camera.capture(picture(upload, limits), shot))

        return Png(await parts.worked_on(request, work))

    @router.post("/restore", response_class=Response, responses=answers, openapi_extra=FORM)
    async def restore(request: Request, shot: Taken, frames: Frames = 1) -> Response:
        """What an attacker who knows the lens brings back (Wiener) from the mean of some captures.

        X-Similarity: cosine between the clear and the restored face by a recogniser, if installed.
        """

        def work(upload: Upload) -> tuple[bytes, float | None]:
            restored, similarity = camera.restore(picture(upload, limits), shot, frames)
            return png(restored), similarity

        image, similarity = await parts.worked_on(request, work)
        known = {} if similarity is None else {"X-Similarity": f"{similarity:.3f}"}
        return Png(image, headers=known)

    return router
