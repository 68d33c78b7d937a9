"""Rung A1: off-the-shelf recognisers, clean gallery against the record, as it is or sharpened."""

from __future__ import annotations

from collections.abc import Iterator

from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import PlainBlur
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.rungs.known_psf import embed_each
from opticaldr.types import Capture, Scene

SHARPEN_WIDTH, SHARPEN_AMOUNT = 0.12, 2.0
"""Unsharp mask: standard deviation [face widths] and gain of what it takes away.

Of eight settings the best on 40 people of LFW, dlib, 96 px: AUC of Gaussian blur .15 from .560 to
.609, of Gaussian .075 from .798 to .837, of a disc .5 from .563 to .589, of a disc .25 from .774 to
.769.
"""


def naive(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Every judge; contrast is stretched and mirror images are averaged (Arena.embed)."""
    images, record = arena.test.images, arena.captured("A1")
    soft = PlainBlur("gaussian", SHARPEN_WIDTH, arena.scene_size)

    def sharpen(capture: Capture) -> Scene:
        return capture + SHARPEN_AMOUNT * (capture - soft(capture))

    seen = {
        "": embed_each(arena, images, record, what="A1 captures", progress=progress),
        "sharpened, ": embed_each(
            arena,
            images,
            lambda i, scene: sharpen(record(i, scene)),
            what="A1 sharpened captures",
            progress=progress,
        ),
    }
    for how, probe in seen.items():
        for judge in arena.judges:
            clean = arena.embed(judge, images)
            yield arena.attempt("A1", f"{how}{judge.name}", clean, probe[judge.name])
