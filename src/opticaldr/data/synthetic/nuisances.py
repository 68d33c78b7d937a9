"""What changes the pictures of a session and says nothing about severity (presets.Nuisances)."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from opticaldr.data.synthetic.presets import Nuisances
from opticaldr.data.synthetic.render import Scene

CROP_PX_AT_1M = 133.0
"""Side of the face crop at 1 m in a camera with 640 px over 60 degrees: a face of 150 mm spans
83 px, and the crop is 1.6 faces wide (AVEC: 640 x 480)."""
HAND_S = 4.0
"""How long a hand stays before the face [s]."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of one session. exposure: factor on all light; distance_m; blur [px of 128];
    noise in linear light; jpeg_quality, 0 = not compressed; glasses: False = left at home."""

    exposure: float
    distance_m: float
    blur: float
    noise: float
    jpeg_quality: int
    glasses: bool


@dataclass(frozen=True)
class Hand:
    """An ellipse before the face: centre and half axes as fractions of the crop side, sRGB colour,
    and when it is there [s]."""

    centre: tuple[float, float]
    axes: tuple[float, float]
    colour: tuple[float, float, float]
    from_s: float
    to_s: float


def draw_conditions(nuisances: Nuisances, rng: np.random.Generator) -> Conditions:
    """Conditions of a session; equal generators give equal conditions."""
    near, far = nuisances.distance_m
    worst, best = nuisances.jpeg_quality
    return Conditions(
        exposure=float(np.exp(nuisances.exposure_sd * rng.standard_normal())),
        distance_m=float(rng.uniform(near, far)),
        blur=float(rng.uniform(0, nuisances.blur)),
        noise=float(rng.uniform(0, nuisances.noise)),
        jpeg_quality=int(rng.integers(worst, best + 1)),
        glasses=bool(rng.random() >= nuisances.glasses_off),
    )


def draw_hand(
    nuisances: Nuisances, skin: tuple[float, float, float], end_s: float, rng: np.random.Generator
) -> Hand | None:
    """A hand in a recording that ends at end_s, or None. skin: linear reflectance."""
    if rng.random() >= nuisances.occluded:
        return None
    start = float(rng.uniform(0, max(end_s - HAND_S, 0.0)))
    return Hand(
        # Chin, mouth or a cheek.
        centre=(float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.7, 0.95))),
        axes=(float(rng.uniform(0.10, 0.18)), float(rng.uniform(0.14, 0.26))),
        colour=tuple(float(255 * (0.7 * part) ** (1 / 2.2)) for part in skin),
        from_s=start,
        to_s=start + HAND_S,
    )


def kept_frames(nuisances: Nuisances, count: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the frames that are not dropped; the first one always stays."""
    kept = rng.random(count) >= nuisances.dropped
    kept[0] = True
    return np.flatnonzero(kept)


def disturb_scene(scene: Scene, conditions: Conditions) -> Scene:
    """The scene in the light, and with the blur and the noise, of a session."""
    lit = {
        name: (getattr(scene, name) * conditions.exposure).astype(np.float32)
        for name in ("lamp", "sky", "ground", "background")
    }
    return replace(
        scene, blur=scene.blur + conditions.blur, noise=scene.noise + conditions.noise, **lit
    )


def disturb_image(
    image: np.ndarray, conditions: Conditions, hand: Hand | None, time_s: float
) -> np.ndarray:
    """Hand, distance and compression, in this order, on one (s, s, 3) uint8 sRGB image."""
    size = len(image)
    if hand is not None and hand.from_s <= time_s < hand.to_s:
        y, x = (np.mgrid[:size, :size] + 0.5) / size
        radius = np.hypot((x - hand.centre[0]) / hand.axes[0], (y - hand.centre[1]) / hand.axes[1])
        cover = np.clip((1 - radius) / 0.1, 0, 1)[..., None]
        shade = np.array(hand.colour) * (1.1 - 0.3 * np.minimum(radius, 1))[..., None]
        image = np.round(image + cover * (shade - image)).astype(np.uint8)
    resolved = round(CROP_PX_AT_1M / conditions.distance_m)
    if resolved < size:
        small = Image.fromarray(image).resize((resolved, resolved), Image.Resampling.BOX)
        image = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    if conditions.jpeg_quality:
        stored = io.BytesIO()
        Image.fromarray(image).save(stored, "JPEG", quality=conditions.jpeg_quality)
        image = np.asarray(Image.open(stored))
    return image
