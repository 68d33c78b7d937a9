"""Controls: how well k x k thumbnails of the clean frame tell people apart (privacy.md 7.6).

Whatever a rung finds beyond its thumbnail is identity; what the thumbnail finds may be the session.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opticaldr.privacy.arena import Arena
from opticaldr.privacy.certificates_simulator import thumbnail
from opticaldr.privacy.evidence import Attempt
from opticaldr.privacy.rungs.adaptive import fit_lda

SIDES = (1, 2, 3, 4, 6, 8)


def thumbnail_attempts(arena: Arena, sides: Sequence[int] = SIDES) -> dict[int, Attempt]:
    """By k: colour thumbnails in linear light, compared as pixels.

    k = 1: the smaller the distance of the mean colours, the more alike. k > 1: mean and spread of
    each thumbnail removed, then the projection that rung A3 learns, here on the attacker's own.
    """
    test, own = (
        _thumbnails(arena, images, sides) for images in (arena.test.images, arena.attacker)
    )
    people = np.array(arena.people_of(arena.attacker))
    found = {}
    for k in sides:
        if k == 1:
            gallery, probe = _by_distance(test[k])
        else:
            gallery = probe = fit_lda(_standard(own[k]), people)(_standard(test[k]))
        found[k] = arena.attempt("A1", f"thumbnail {k}x{k}", gallery, probe, side=k)
    return found


def _thumbnails(arena: Arena, images: np.ndarray, sides: Sequence[int]) -> dict[int, np.ndarray]:
    """(n, 3 k k) float64 by k."""
    rows: dict[int, list[np.ndarray]] = {k: [] for k in sides}
    for _, scenes in arena.scenes(images):
        for k in sides:
            rows[k].append(thumbnail(scenes.double(), k).flatten(1).numpy())
    return {k: np.concatenate(parts) for k, parts in rows.items()}


def _standard(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)


def _by_distance(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose product is minus the squared distance: 2 a b - a^2 - b^2."""
    square, one = (rows**2).sum(axis=1, keepdims=True), np.ones((len(rows), 1))
    return np.hstack([2 * rows, -square, -one]), np.hstack([rows, one, square])
