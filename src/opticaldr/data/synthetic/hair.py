"""Geometry that is added to the bare head: hair shells and glasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.synthetic.head import AXIS_Z, Head
from opticaldr.data.synthetic.person import Glasses, Hair
from opticaldr.data.synthetic.texture import hairline

HAIR, GLASSES = 4, 5
"""Kinds of triangles beside those of head.py."""


@dataclass(frozen=True)
class Part:
    """Extra surface: vertices (n, 3) [dm], triangles (t, 3), texture coordinates (n,) each."""

    vertices: np.ndarray
    triangles: np.ndarray
    kind: int
    theta: np.ndarray
    height: np.ndarray


def raise_cap(head: Head, vertices: np.ndarray, hair: Hair) -> np.ndarray:
    """Lifts the scalp where hair covers it: (V, 3) displacement [dm]."""
    # A gentle slope behind the hairline; a step would tear the texture of single triangles.
    above = head.height - hairline(hair, head.theta)
    cover = np.clip(above / (0.06 + 0.9 * hair.thickness) + 0.25, 0, 1) * (1 - head.ears)
    cover[(head.height < -1.2) | (hair.style == "bald")] = 0
    centre = np.array([0.0, 0.15, -0.72], dtype=np.float32)
    outward = vertices - centre
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    lift = hair.thickness * np.ones_like(cover)
    if hair.style == "quiff":
        top = np.exp(-np.square((head.theta - hair.parting) / 0.8)) * (head.height > 0.4)
        lift *= 0.45 + 1.0 * top
    elif hair.style in ("short", "fringe"):
        lift *= np.interp(head.height, [-0.2, 0.4, 0.9], [0.35, 0.7, 1.0]).astype(np.float32)
    if hair.style in ("bob", "long"):
        # A parting: a groove from the forehead to the crown.
        groove = np.exp(-np.square((vertices[:, 0] - 0.35 * hair.parting) / 0.05))
        lift *= 1 - 0.5 * groove * (head.height > 0.5)
    return outward * (lift * cover)[:, None]


def hair_parts(head: Head, vertices: np.ndarray, hair: Hair) -> list[Part]:
    """Shells that hang from or sit on the cap; vertices are those of the head with its cap."""
    if hair.style in ("bob", "long"):
        return [_curtain(head, vertices, hair)]
    if hair.style == "bun":
        return [_ball(vertices, hair)]
    return []


def _curtain(head: Head, vertices: np.ndarray, hair: Hair) -> Part:
    """Hair that falls from the top of the head around the back and sides."""
    top, columns, rows = 0.8, 49, 26
    height = np.linspace(top, hair.length, rows, dtype=np.float32)[:, None]
    opening = np.interp(
        height, [-2.0, -1.0, -0.3, 0.15, 0.45, 0.8], [0.95, 1.0, 1.12, 1.12, 0.95, 0.55]
    )
    across = np.linspace(0, 1, columns, dtype=np.float32)[None]
    theta = opening + across * (2 * np.pi - 2 * opening)
    theta = (theta + np.pi) % (2 * np.pi) - np.pi
    radius = _outline(vertices[head.height > -1.05], theta, height)
    # The front edge lies on the skin and bulges outwards, so that hair frames the face.
    behind = np.clip(np.minimum(across, 1 - across) * 2 * (np.pi - opening) / 0.5, 0, 1)
    bulge = behind * (2 - behind)
    fall = np.clip((0.6 - height) / 1.2, 0, 1)
    radius = radius - 0.02 + bulge * (0.03 + hair.thickness * (0.5 + 1.3 * fall))
    radius = radius + bulge * 0.012 * np.sin(theta * 23 + 4 * height)
    shell = np.stack(
        [radius * np.sin(theta), height + 0 * theta, radius * np.cos(theta) + AXIS_Z], axis=2
    )
    return Part(
        shell.reshape(-1, 3).astype(np.float32),
        _grid(rows, columns),
        HAIR,
        theta.ravel().astype(np.float32),
        (height + 0 * theta).ravel().astype(np.float32),
    )


def _outline(vertices: np.ndarray, theta: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Radius about the axis of what lies at or above each height, in each direction."""
    bins, levels = 36, height[::-1, 0]
    from_axis = vertices - np.array([0, 0, AXIS_Z], dtype=np.float32)
    angle = np.arctan2(from_axis[:, 0], from_axis[:, 2])
    sector = ((angle + np.pi) / (2 * np.pi) * bins).astype(int) % bins
    level = np.clip(np.searchsorted(levels, vertices[:, 1]), 0, len(levels) - 1)
    widest = np.zeros((len(levels), bins), dtype=np.float32)
    np.maximum.at(widest, (level, sector), np.hypot(from_axis[:, 0], from_axis[:, 2]))
    widest = np.maximum.accumulate(widest[::-1], axis=0)
    for _ in range(2):
        widest = np.maximum(widest, (np.roll(widest, 1, 1) + np.roll(widest, -1, 1)) / 2)
        widest = (np.roll(widest, 1, 1) + 2 * widest + np.roll(widest, -1, 1)) / 4
    at = ((theta + np.pi) / (2 * np.pi) * bins - 0.5) % bins
    low = at.astype(int) % bins
    part = at - np.floor(at)
    row = np.arange(len(levels))[:, None]
    return widest[row, low] * (1 - part) + widest[row, (low + 1) % bins] * part


def _ball(vertices: np.ndarray, hair: Hair) -> Part:
    crown = vertices[vertices[:, 1].argmax()]
    rows, columns = 9, 17
    polar = np.linspace(0.05, np.pi - 0.05, rows)[:, None]
    around = np.linspace(0, 2 * np.pi, columns)[None]
    radius = 0.26 + 0.12 * hair.fringe + 0.5 * hair.thickness
    unit = np.stack(
        [
            np.sin(polar) * np.sin(around),
            np.cos(polar) + 0 * around,
            np.sin(polar) * np.cos(around),
        ],
        axis=2,
    )
    shell = unit.reshape(-1, 3) * radius + crown + [0, 0.12, -0.1]
    return Part(
        shell.astype(np.float32),
        _grid(rows, columns),
        HAIR,
        np.broadcast_to((around - np.pi) / 2, (rows, columns)).ravel().astype(np.float32),
        np.broadcast_to(polar, (rows, columns)).ravel().astype(np.float32) / 3,
    )


def glasses_parts(head: Head, vertices: np.ndarray, glasses: Glasses) -> list[Part]:
    """Two rims, a bridge and two temples."""
    eyes = [vertices[eye].mean(0) for eye in head.eyes]
    near = (np.abs(vertices[:, 1]) < 0.2) & (np.abs(np.abs(vertices[:, 0]) - 0.32) < 0.22)
    depth = vertices[near, 2].max() + 0.04
    turn = np.linspace(0, 2 * np.pi, 33)[:-1]
    power = 2 / glasses.roundness
    circle = np.stack(
        [np.sign(f) * np.abs(f) ** power for f in (np.cos(turn), np.sin(turn))], axis=1
    )
    extent = np.array([glasses.half_width, glasses.half_height])
    parts = []
    for eye in eyes:
        inner, outer = circle * extent, circle * (extent + glasses.rim)
        centre = np.array([eye[0] * 1.03, eye[1] - 0.03])
        flat = np.concatenate([outer, inner]) + centre
        ring = np.arange(32)
        following = (ring + 1) % 32
        quads = np.stack([ring, following, following + 32, ring + 32], axis=1)
        parts.append(_flat(flat, depth, quads))
    gap = eyes[0][0] * 1.03 - glasses.half_width
    bridge = np.array([[-gap, 0.05], [gap, 0.05], [gap, 0.09], [-gap, 0.09]])
    parts.append(_flat(bridge, depth, np.array([[0, 1, 2, 3]])))
    for sign in (1, -1):
        start = sign * (eyes[0][0] * 1.03 + glasses.half_width + glasses.rim * 0.5)
        end = sign * (np.abs(vertices[head.ears > 0.5, 0]).max() - 0.06)
        strip = np.array(
            [[start, 0.03, depth], [end, 0.03, -0.75], [end, 0.075, -0.75], [start, 0.075, depth]]
        )
        order = [0, 1, 2, 3] if sign > 0 else [3, 2, 1, 0]
        parts.append(_frame(strip, np.array([order])))
    return parts


def _flat(points: np.ndarray, depth: float, quads: np.ndarray) -> Part:
    """A front piece, bent back a little towards the temples."""
    z = depth - 0.12 * np.square(points[:, :1])
    return _frame(np.concatenate([points, z], axis=1), quads)


def _frame(vertices: np.ndarray, quads: np.ndarray) -> Part:
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    zero = np.zeros(len(vertices), dtype=np.float32)
    return Part(vertices.astype(np.float32), triangles, GLASSES, zero, zero)


def _grid(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid whose rows run downwards and whose columns run to +theta."""
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    c, d = number[1:, 1:].ravel(), number[1:, :-1].ravel()
    return np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
