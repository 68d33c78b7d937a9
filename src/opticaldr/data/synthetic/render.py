"""Renders one image of a person: camera, light, shading, background, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.synthetic.hair import GLASSES, HAIR
from opticaldr.data.synthetic.head import LEFT_EYE, RIGHT_EYE, TEETH
from opticaldr.data.synthetic.mesh import Mesh, pose, vertex_normals
from opticaldr.data.synthetic.person import Rgb
from opticaldr.data.synthetic.raster import visible
from opticaldr.data.synthetic.texture import look_up

TEMPLATE = np.array(
    [[61.79, 75.57], [98.03, 75.37], [80.03, 96.19], [65.14, 117.40], [95.15, 117.24]]
) / np.float64(160)
"""Five-point ArcFace template as a fraction of the crop side (112 px template x 0.72 in 160 px)."""
CAMERA_DISTANCE = 14.0
"""Camera before the eyes [dm]; gives the perspective of a portrait."""
SUPERSAMPLE = 2
TOOTH = np.array([0.50, 0.45, 0.37], dtype=np.float32)
GUM = np.array([0.09, 0.022, 0.02], dtype=np.float32)
SCLERA = np.array([0.62, 0.56, 0.53], dtype=np.float32)


@dataclass(frozen=True)
class Scene:
    """All that may change between two images of a person.

    coefficients: (A,) facial actions in [0, 1]. yaw, pitch, roll [rad]. crop: (2, 3) affine map
    from the camera plane [dm] to fractions of the crop side; None aligns this very image.
    light: unit vector towards the lamp; lamp, sky, ground: linear colours; background: (2, 2, 3)
    linear colours of the four corners; cloth: linear colour; blur: sigma [px of 128];
    noise: sigma in linear irradiance; background_seed, noise_seed: of their random patterns.
    """

    coefficients: np.ndarray
    yaw: float
    pitch: float
    roll: float
    crop: np.ndarray | None
    light: np.ndarray
    lamp: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    background: np.ndarray
    cloth: Rgb
    blur: float
    noise: float
    background_seed: tuple[int, ...]
    noise_seed: tuple[int, ...]


def render(mesh: Mesh, scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Renders one frame.

    Returns:
        image (size, size, 3) uint8 sRGB, landmarks (5, 2) as fractions of the crop side.
    """
    vertices, points = pose(mesh, scene.coefficients, scene.yaw, scene.pitch, scene.roll)
    landmarks = project(points)
    crop = similarity(landmarks, TEMPLATE) if scene.crop is None else scene.crop
    fine = size * SUPERSAMPLE
    on_screen = np.empty((len(vertices), 3), dtype=np.float32)
    on_screen[:, :2] = _apply(crop, project(vertices)) * fine
    on_screen[:, 2] = vertices[:, 2]
    pixels, triangle, weights = visible(on_screen, mesh.triangles, mesh.kind == HAIR, fine)
    image = _background(scene, fine).reshape(-1, 3)
    image[pixels] = _shade(mesh, scene, vertices, triangle, weights)
    offsets = range(SUPERSAMPLE)
    image = image.reshape(fine, fine, 3)  # .mean over blocks, but five times as fast
    image = sum(image[i::SUPERSAMPLE, j::SUPERSAMPLE] for i in offsets for j in offsets)
    image = image / np.float32(SUPERSAMPLE**2)
    return _develop(image, scene, size), _apply(crop, landmarks)


def frontal_crop(mesh: Mesh) -> np.ndarray:
    """(2, 3) crop of a fixed camera: aligned on the person's neutral frontal face."""
    _, points = pose(mesh, np.zeros(1), 0.0, 0.0, 0.0)
    return similarity(project(points), TEMPLATE)


def project(points: np.ndarray) -> np.ndarray:
    """Perspective projection to the camera plane, y down: (n, 3) [dm] -> (n, 2) [dm]."""
    scale = CAMERA_DISTANCE / (CAMERA_DISTANCE - points[:, 2])
    return np.stack([points[:, 0] * scale, -points[:, 1] * scale], axis=1)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity that maps source onto target points: (2, 3)."""
    # As complex numbers a similarity is z -> a z + b, and least squares gives a and b directly.
    z, w = source @ [1, 1j], target @ [1, 1j]
    centred = z - z.mean()
    a = (centred.conj() * (w - w.mean())).sum() / (np.abs(centred) ** 2).sum()
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ affine[:, :2].T + affine[:, 2]


def _shade(
    mesh: Mesh, scene: Scene, vertices: np.ndarray, triangle: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Linear radiance (P, 3) of the pixels hit."""
    described = np.concatenate([vertex_normals(mesh, vertices), mesh.attributes], axis=1)
    corners = mesh.triangles[triangle]
    value = weights[:, :1] * described[corners[:, 0]]
    value += weights[:, 1:2] * described[corners[:, 1]]
    value += weights[:, 2:] * described[corners[:, 2]]
    normal = value[:, :3] / (_length(value[:, :3]) + np.float32(1e-9))[:, None]
    theta, height, lips, mouth, hair, openness = value[:, 3:].T
    texel = look_up(mesh.texture, theta, height)
    albedo, gloss = _surface(mesh, scene, texel, theta, height, lips, mouth, hair)
    kind = mesh.kind[triangle]
    # The inner side of hair that hangs behind the neck lies in the shade.
    inside = np.flatnonzero((kind == HAIR) & (normal[:, 2] < -0.1))
    normal[inside] *= -1
    albedo[inside] *= 0.35
    eye = np.flatnonzero((kind == LEFT_EYE) | (kind == RIGHT_EYE))
    albedo[eye], gloss[eye] = _eye_colour(mesh, theta[eye], height[eye]), 0.5
    teeth = np.flatnonzero(kind == TEETH)
    albedo[teeth], gloss[teeth] = TOOTH, 0.3
    frame = np.flatnonzero(kind == GLASSES)
    if len(frame):
        albedo[frame], gloss[frame] = np.array(mesh.person.glasses.colour, np.float32), 0.6

    facing = normal @ scene.light
    diffuse = np.maximum((facing + 0.25) / 1.25, 0) ** 1.2
    up = (0.5 + 0.5 * normal[:, 1:2]) * openness[:, None]
    ambient = scene.ground * (openness[:, None] - up) + scene.sky * up
    halfway = scene.light + np.array([0, 0, 1], dtype=np.float32)
    halfway /= np.linalg.norm(halfway)
    shine = np.maximum(normal @ halfway, 0) ** 24 * gloss * (facing > 0)
    light = scene.lamp * (diffuse * (0.35 + 0.65 * openness))[:, None] + ambient
    return albedo * light + 0.35 * scene.lamp * shine[:, None]


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nc,nc->n", vectors, vectors))


def _surface(
    mesh: Mesh, scene: Scene, texel: np.ndarray, theta: np.ndarray, height: np.ndarray,
    lips: np.ndarray, mouth: np.ndarray, hair: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Colour (P, 3) and gloss (P,) of skin, lips, mouth, hair and clothes."""
    person = mesh.person
    albedo = texel[:, :3].copy()
    tint = np.array([0.80, 0.55 - 0.25 * person.lip_tint, 0.62 - 0.25 * person.lip_tint])
    lip = np.clip(lips * 1.4 - 0.2, 0, 1)
    albedo *= 1 - lip[:, None] * (1 - tint.astype(np.float32))
    albedo += np.clip(mouth * 1.5 - 0.5, 0, 1)[:, None] * (GUM - albedo)
    # Hair shells show strands everywhere; on the cap the texture has drawn them already.
    strand = np.array(person.hair.colour, np.float32) * texel[:, 4:5]
    albedo += hair[:, None] * (strand - albedo)
    neckline = -1.55 - 0.25 * np.exp(-np.square(theta / 0.5))
    cloth = np.clip((neckline - height) / 0.03, 0, 1) * (1 - hair)
    albedo += cloth[:, None] * (np.array(scene.cloth, np.float32) - albedo)
    bare = (1 - texel[:, 3]) * (1 - hair) * (1 - cloth)
    gloss = 0.10 * bare + 0.12 * lip + 0.05 * np.maximum(texel[:, 3], hair)
    return albedo, gloss


def _eye_colour(mesh: Mesh, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pupil, iris, white and glint (P, 3) at points x, y of the unit eyeball."""
    radius = np.sqrt(x * x + y * y)
    brightness = 0.7 + 0.9 * np.clip(radius / 0.42, 0, 1)
    iris = np.array(mesh.person.iris, np.float32) * brightness[:, None]
    colour = SCLERA * (1 - 0.5 * np.clip(radius - 0.5, 0, 0.5))[:, None]

    def disc(limit: float) -> np.ndarray:
        return np.clip((limit - radius) / 0.05 + 0.5, 0, 1)[:, None]

    colour = colour + disc(0.45) * (iris * 0.45 - colour)
    colour = colour + disc(0.40) * (iris - colour)
    colour = colour + disc(0.18) * (0.004 - colour)
    glint = np.exp(-(np.square(x - 0.12) + np.square(y - 0.16)) / 0.006)[:, None]
    # The upper lid and its lashes shade the top of the ball.
    shade = 1 - 0.6 * np.clip((y - 0.02) / 0.25, 0, 1)[:, None]
    return ((colour + 0.8 * glint) * shade).astype(np.float32)


def _background(scene: Scene, fine: int) -> np.ndarray:
    """(fine, fine, 3) gradient between four corners with soft blotches."""
    rng = np.random.default_rng(scene.background_seed)
    ramp = np.linspace(0, 1, fine, dtype=np.float32)
    ends = np.stack([1 - ramp, ramp])
    gradient = np.einsum("ay,bx,abc->yxc", ends, ends, scene.background, optimize=True)
    cells = 8
    at = ramp * cells
    low = np.minimum(at.astype(int), cells - 1)
    spread = np.zeros((fine, cells + 1), dtype=np.float32)
    spread[np.arange(fine), low] = 1 - (at - low)
    spread[np.arange(fine), low + 1] = at - low
    blotch = spread @ rng.standard_normal((cells + 1, cells + 1), dtype=np.float32) @ spread.T
    return (gradient * np.exp(0.25 * blotch)[..., None]).astype(np.float32)


def _develop(image: np.ndarray, scene: Scene, size: int) -> np.ndarray:
    """Blur, noise, clipping and the sRGB curve: (size, size, 3) uint8."""
    if scene.blur > 0:
        sigma = scene.blur * size / 128
        offset = np.arange(-2, 3)
        kernel = np.exp(-0.5 * np.square(offset / sigma))
        kernel = (kernel / kernel.sum()).astype(np.float32)
        for axis in (0, 1):
            pad = [(2, 2) if i == axis else (0, 0) for i in range(3)]
            padded = np.pad(image, pad, mode="edge")
            image = sum(
                weight * np.take(padded, range(i, i + size), axis=axis)
                for i, weight in enumerate(kernel)
            )
    rng = np.random.default_rng(scene.noise_seed)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + scene.noise * noise * np.sqrt(np.maximum(image, 0) + 0.02)
    image = np.clip(image, 0, 1)
    encoded = np.where(image <= 0.0031308, 12.92 * image, 1.055 * image ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)
