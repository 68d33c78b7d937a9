"""What the page of a privacy card draws beyond its numbers: error curves, detail, reconstructions."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import torch

from opticaldr.card_page import Band, Pictures
from opticaldr.figures_privacy import DetCurve
from opticaldr.optics import bands
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy import grades
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.det import det_curve
from opticaldr.privacy.evidence import Attempt
from opticaldr.privacy.ledger import Ledger
from opticaldr.privacy.measure import scores_of
from opticaldr.privacy.rungs.known_psf import restorer_for
from opticaldr.types import FACE_SHARE, Scene

CURVES = 4
"""Error curves on a page: the strongest attempts of as many rungs."""
_CURVE_BOOTSTRAP = 500
SHOWN_PEOPLE = 3


class Drawings(TypedDict):
    """Keyword arguments of card_page.write_card_page."""

    det: list[DetCurve]
    band: Band | None
    pictures: Pictures | None


def drawings(card: dict[str, Any], arena: Arena, ledger: Ledger) -> Drawings:
    """Everything that the page of this card can show."""
    return {
        "det": _error_curves(card, arena, ledger),
        "band": _band(card, arena),
        "pictures": _reconstructions(arena) if arena.faces.synthetic else None,
    }


def _error_curves(card: dict[str, Any], arena: Arena, ledger: Ledger) -> list[DetCurve]:
    """DET curves of the strongest valid attempt of each rung, the strongest rungs first."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(card["rungs"], key=lambda row: -row["auc_free"]["value"]):
        if grades.is_valid(row):
            best.setdefault(row["rung"], row)
    people = [record.person for record in arena.faces.records]
    curves = []
    for rung, row in list(best.items())[:CURVES]:
        scores = ledger.scores(rung, row["variant"], row["frames"])
        attempt = Attempt(row["rung"], row["variant"], row["frames"], scores, np.empty(0, int))
        curve = det_curve(
            scores_of(attempt, arena.test, people),
            replicates=min(arena.tier.bootstrap, _CURVE_BOOTSTRAP),
            seed=arena.seed,
        )
        label = f"{rung} {row['variant']}"
        curves.append(DetCurve(label, curve.fmr, curve.fnmr, curve.low, curve.high))
    return curves


def _band(card: dict[str, Any], arena: Arena) -> Band | None:
    """SNR of the model face (bands.face_spectrum), the three colours together; k* measured."""
    found = card["certificate"].get("recoverable_band") or {}
    if arena.camera.psf is None or not found.get("by_frames"):
        return None
    size, law = arena.scene_size, arena.camera.noise
    level = float(np.mean([scene.mean() for _, scene in arena.scenes(arena.attacker[:32])]))
    cycles = bands.face_frequencies(size, FACE_SHARE * size)
    snr = bands.signal_to_noise(
        arena.camera.psf[0],
        bands.face_power(size, FACE_SHARE * size),
        noise=float(law.std(torch.tensor(level))),
    )
    rings, median = bands.ring_snr(snr.sum(0), cycles)
    k_star = {int(n): float(k) for n, k in found["by_frames"].items()}
    by_frames = {n: (n * median).tolist() for n in (min(k_star), max(k_star))}
    return Band(rings.tolist(), by_frames, k_star)


def _reconstructions(arena: Arena) -> Pictures:
    """Rendered people, their captures, what rung A4 restores, and the same from somebody else.

    The last column is the control: a restorer that invents faces makes one of it as well.
    """
    people, first = np.unique(arena.people_of(arena.test.images), return_index=True)
    images = arena.test.images[first[: min(SHOWN_PEOPLE, len(people))]]
    _, scene = next(arena.scenes(images))
    most = max(arena.tier.frames)
    with torch.inference_mode():
        restored = {}
        for frames in (1, most):
            record = arena.captured("page", frames=frames)(images, scene)
            restored[frames] = record, restorer_for(arena, frames=frames)(record)
        shown = {
            "scene": scene,
            "capture": restored[1][0],
            "restored from 1 frame": restored[1][1],
            f"restored from {most:,} frames": restored[most][1],
            "restored from another person": restored[most][1].roll(-1, 0),
        }
    columns = [_pictures(scenes) for scenes in shown.values()]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Pictures(list(shown), rows, "The people are rendered.")


def _pictures(scenes: Scene) -> list[np.ndarray]:
    encoded = linear_to_srgb(scenes.clamp(0, 1)).permute(0, 2, 3, 1)
    return list((encoded * 255).round().to(torch.uint8).numpy())
