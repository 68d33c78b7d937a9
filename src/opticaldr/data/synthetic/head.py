"""The baked head (head.npz) as arrays: base heads, shape sliders, facial actions, triangles.

Coordinates are decimetres, y up, face towards +z, midpoint of the eyeballs of a neutral head at 0.
"Left" in names is the person's left (x > 0, the right side of an image).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

BODY, LEFT_EYE, RIGHT_EYE, TEETH = 0, 1, 2, 3
"""Kinds of triangles; hair.py and glasses add their own."""
NOSE_TIP = np.array([0.0, -0.348, 0.438])
MOUTH_CORNER = np.array([0.244, -0.737, 0.170])
"""Where these two landmarks lie on the template head [dm] (measured on head.npz). The nose tip is
the point of the midline whose mean over people falls on the template of photographs."""
AXIS_Z = -0.6
"""Depth of the vertical axis about which the cylindrical texture coordinates turn [dm]."""


@dataclass(frozen=True)
class Head:
    """V vertices, T triangles, S sliders, A actions; floats are float32.

    template: (V, 3) average head, on which texture coordinates and masks are defined.
    bases: (2, 2, 2, 3, V, 3) heads over gender (0 male, 1 female), age, weight, ethnicity.
    raised, lowered: (S, V, 3) deltas of a slider at +1 and at -1. actions: (A, V, 3).
    kind: (T,) BODY, LEFT_EYE, ... lips, mouth, ears: (V,) region weights in [0, 1].
    theta, height: (V,) cylindrical texture coordinates [rad, dm].
    landmarks: vertex numbers of nose tip, right and left mouth corner.
    eyes: vertex numbers of the left and of the right eyeball.
    """

    template: np.ndarray
    bases: np.ndarray
    raised: np.ndarray
    lowered: np.ndarray
    actions: np.ndarray
    slider_names: tuple[str, ...]
    action_names: tuple[str, ...]
    triangles: np.ndarray
    kind: np.ndarray
    lips: np.ndarray
    mouth: np.ndarray
    ears: np.ndarray
    theta: np.ndarray
    height: np.ndarray
    landmarks: tuple[int, int, int]
    eyes: tuple[np.ndarray, np.ndarray]


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Reads head.npz of this package; about 50 ms, once per process."""
    with files(__package__).joinpath("head.npz").open("rb") as file:
        stored = dict(np.load(file, allow_pickle=False))
    unit = np.float32(stored["unit"])

    def metric(name: str) -> np.ndarray:
        return stored[name].astype(np.float32) * unit

    template, quads = metric("template")[0], stored["quads"].astype(np.int64)
    # A quad (a, b, c, d) becomes the triangles (a, b, c) and (a, c, d).
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    kind = np.tile(stored["kind"], 2)
    masks = dict(zip(stored["mask_names"].tolist(), stored["masks"] / np.float32(255), strict=True))
    body = np.unique(triangles[kind == BODY])

    def nearest(point: np.ndarray) -> int:
        return int(body[np.square(template[body] - point).sum(1).argmin()])

    mirrored = MOUTH_CORNER * [-1, 1, 1]
    return Head(
        template=template,
        bases=metric("bases").reshape(2, 2, 2, 3, *template.shape),
        raised=metric("raised"),
        lowered=metric("lowered"),
        actions=metric("actions"),
        slider_names=tuple(stored["slider_names"].tolist()),
        action_names=tuple(stored["action_names"].tolist()),
        triangles=triangles,
        kind=kind,
        **{name: masks[name] for name in ("lips", "mouth", "ears")},
        theta=np.arctan2(template[:, 0], template[:, 2] - AXIS_Z),
        height=template[:, 1],
        landmarks=(nearest(NOSE_TIP), nearest(mirrored), nearest(MOUTH_CORNER)),
        eyes=tuple(np.unique(triangles[kind == eye]) for eye in (LEFT_EYE, RIGHT_EYE)),
    )
