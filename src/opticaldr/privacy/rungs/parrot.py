"""Rung A2: the same blur on both sides, or on the gallery's alone."""

from __future__ import annotations

from collections.abc import Iterator

from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.rungs.known_psf import embed_each


def parrot(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Captured against captured, captured gallery against clean probe, re-blurred gallery.

    Re-blurred: clean photos sent through the known optics, without noise.
    """
    images, optics = arena.test.images, arena.camera.optics
    record = arena.captured("A2")
    captured = embed_each(arena, images, record, what="A2 captures", progress=progress)
    blurred = embed_each(
        arena, images, lambda _, scene: optics(scene), what="A2 re-blurred", progress=progress
    )
    for judge in arena.judges:
        clean, stored = arena.embed(judge, images), captured[judge.name]
        yield arena.attempt("A2", f"captured gallery, {judge.name}", stored, stored)
        yield arena.attempt("A2", f"reverse, {judge.name}", stored, clean)
        yield arena.attempt("A2", f"re-blurred gallery, {judge.name}", blurred[judge.name], stored)
