"""The geometry of one person, built once and posed for every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.synthetic.hair import HAIR, glasses_parts, hair_parts, raise_cap
from opticaldr.data.synthetic.head import TEETH, Head, load_head
from opticaldr.data.synthetic.person import Person
from opticaldr.data.synthetic.texture import draw_texture

PIVOT = np.array([0.0, -1.0, -0.85], dtype=np.float32)
"""Where the head turns on the neck [dm]: just below the skull base."""
EYE_RADIUS = 0.166
"""Radius of an eyeball [dm] (measured on head.npz)."""


@dataclass(frozen=True)
class Mesh:
    """A person's surface; n vertices, of which the first V are those of the head.

    vertices: (n, 3) neutral [dm]. attributes: (n, 6) what a pixel interpolates beside the normal:
    theta and height (for eyeballs: x and y on the unit ball), lips, mouth, hair, openness.
    turn: (n, 1) share of the head's rotation, 0 on the shoulders. neighbours: (n, m) triangles
    around each vertex, padded with the number of triangles.
    """

    person: Person
    texture: np.ndarray
    vertices: np.ndarray
    triangles: np.ndarray
    kind: np.ndarray
    attributes: np.ndarray
    turn: np.ndarray
    neighbours: np.ndarray


def build_mesh(person: Person) -> Mesh:
    """All that does not change between the images of a person; about 0.1 s."""
    head, texture = load_head(), draw_texture(person)
    bare = shape_head(head, person)
    # Lips are thin: teeth a little further back do not pierce them when the mouth moves.
    bare[np.unique(head.triangles[head.kind == TEETH]), 2] -= 0.05
    capped = bare + raise_cap(head, bare, person.hair)
    parts = hair_parts(head, capped, person.hair)
    if person.glasses is not None:
        parts += glasses_parts(head, bare, person.glasses)

    vertices, triangles, kinds = [capped], [head.triangles], [head.kind]
    attributes = [_attributes(head)]
    count = len(capped)
    for part in parts:
        vertices.append(part.vertices)
        triangles.append(part.triangles + count)
        kinds.append(np.full(len(part.triangles), part.kind, dtype=head.kind.dtype))
        rest = np.zeros((len(part.vertices), 4), dtype=np.float32)
        rest[:, 2] = part.kind == HAIR
        rest[:, 3] = 1  # open to the sky
        attributes.append(np.concatenate([part.theta[:, None], part.height[:, None], rest], 1))
        count += len(part.vertices)
    joined = np.concatenate(vertices).astype(np.float32)
    all_triangles = np.concatenate(triangles)
    around = _neighbours(all_triangles, count)
    described = np.concatenate(attributes).astype(np.float32)
    described[: len(capped), 5] = _openness(bare, head)
    low = np.clip((joined[:, 1] + 1.95) / 0.8, 0, 1)
    return Mesh(
        person=person,
        texture=texture,
        vertices=joined,
        triangles=all_triangles,
        kind=np.concatenate(kinds),
        attributes=described,
        turn=(low * low * (3 - 2 * low))[:, None],
        neighbours=around,
    )


def shape_head(head: Head, person: Person) -> np.ndarray:
    """(V, 3) neutral bare head: phenotype corners mixed, sliders added."""
    age = (person.age_years - 20) / 55
    mixes = [(person.male, not person.male), (1 - age, age), (1 - person.weight, person.weight)]
    mixed = head.bases
    for mix in [*mixes, person.ethnicity]:
        mixed = np.tensordot(np.array(mix, dtype=np.float32), mixed, axes=1)
    value = np.array(person.shape, dtype=np.float32)
    mixed = mixed + np.tensordot(np.maximum(value, 0), head.raised, axes=1)
    return mixed + np.tensordot(np.maximum(-value, 0), head.lowered, axes=1)


def pose(
    mesh: Mesh, coefficients: np.ndarray, yaw: float, pitch: float, roll: float
) -> tuple[np.ndarray, np.ndarray]:
    """Moves face and head.

    Args:
        mesh: the person.
        coefficients: (A,) facial actions, 0 rest .. 1 full.
        yaw, pitch, roll: rotation of the head [rad]: to the person's left, down, and with the
            crown towards the right shoulder.

    Returns:
        vertices (n, 3) and the five landmarks (5, 3) [dm]: eye openings, nose tip, mouth corners,
        image left first.
    """
    head = load_head()
    vertices = mesh.vertices.copy()
    active = np.flatnonzero(np.abs(coefficients) > 1e-4)
    amount = coefficients[active].astype(np.float32)
    vertices[: len(head.template)] += np.tensordot(amount, head.actions[active], axes=1)
    rotation = _rotation(yaw, pitch, roll)

    def turned(points: np.ndarray) -> np.ndarray:
        return (points - PIVOT) @ rotation.T + PIVOT

    vertices += mesh.turn * (turned(vertices) - vertices)
    # The eye landmark is the front of the ball at rest: gaze does not move it.
    left, right = (mesh.vertices[eye].mean(0) for eye in head.eyes)
    eyes = np.stack([right, left]) + np.array([0, 0, EYE_RADIUS])
    return vertices, np.concatenate([turned(eyes), vertices[[*head.landmarks]]])


def vertex_normals(mesh: Mesh, vertices: np.ndarray) -> np.ndarray:
    """(n, 3) unit normals, weighted by triangle area."""
    return _normals(vertices, mesh.triangles, mesh.neighbours)


def _normals(vertices: np.ndarray, triangles: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    normal = np.zeros((len(triangles) + 1, 3), dtype=np.float32)
    normal[:-1] = _cross(b - a, c - a)
    summed = sum(normal[column] for column in neighbours.T)
    return summed / (np.sqrt(np.einsum("nc,nc->n", summed, summed)) + 1e-12)[:, None]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross for (n, 3) float32, several times as fast."""
    (x, y, z), (u, v, w) = a.T, b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)


def _attributes(head: Head) -> np.ndarray:
    theta, height = head.theta.copy(), head.height.copy()
    for eye in head.eyes:
        ball = head.template[eye] - head.template[eye].mean(0)
        theta[eye], height[eye] = ball[:, 0] / EYE_RADIUS, ball[:, 1] / EYE_RADIUS
    zero = np.zeros_like(theta)
    return np.stack([theta, height, head.lips, head.mouth, zero, zero + 1], axis=1)


def _openness(vertices: np.ndarray, head: Head) -> np.ndarray:
    """(V,) how much sky a point sees: hollows (eye sockets, beside the nose) are darker."""
    around = _neighbours(head.triangles, len(vertices))
    normals = _normals(vertices, head.triangles, around)
    smooth = vertices
    for _ in range(6):
        centre = np.zeros((len(head.triangles) + 1, 3), dtype=np.float32)
        centre[:-1] = smooth[head.triangles].mean(1)
        number = (around < len(head.triangles)).sum(1, keepdims=True)
        smooth = centre[around].sum(1) / np.maximum(number, 1)
    hollow = ((smooth - vertices) * normals).sum(1)
    openness = 1 - np.clip(hollow / 0.05, 0, 0.65)
    chin_shadow = np.clip((-1.0 - head.height) / 0.25, 0, 1) * (np.abs(head.theta) < 1.6)
    openness *= 1 - 0.35 * chin_shadow * np.clip((head.height + 2.2) / 0.6, 0, 1)
    for eye in head.eyes:
        openness[eye] = 0.85
    openness[np.unique(head.triangles[head.kind == TEETH])] = 0.55  # behind the lips
    return openness.astype(np.float32)


def _neighbours(triangles: np.ndarray, count: int) -> np.ndarray:
    flat = triangles.ravel()
    order = np.argsort(flat, kind="stable")
    start = np.searchsorted(flat[order], np.arange(count))
    number = np.bincount(flat, minlength=count)
    padded = np.full((count, number.max()), len(triangles), dtype=np.int64)
    slot = np.arange(len(flat)) - np.repeat(start, number)
    padded[flat[order], slot] = order // 3
    return padded


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """First roll about z, then pitch about x, then yaw about y."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)
