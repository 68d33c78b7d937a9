"""Draws the skin of a person: a cylindrical map of colour, hair cover and hair strands.

Column = angle theta about the vertical axis of the head, row = height on the template head, so
that brows, hairline and beard are drawn in anatomical places and follow every shape.
"""

from __future__ import annotations

import numpy as np

from opticaldr.data.synthetic.person import Hair, Person

ROWS, COLUMNS = 320, 768
TOP, BOTTOM = 1.25, -1.85
"""Heights of the first and last row [dm]."""
FACE_WIDTH = 1.5
"""Between the ears of the template head [dm]."""
HEIGHT = np.linspace(TOP, BOTTOM, ROWS, dtype=np.float32)[:, None]
THETA = np.linspace(-np.pi, np.pi, COLUMNS, dtype=np.float32)[None]
SIDE = np.abs(THETA)


def draw_texture(person: Person) -> np.ndarray:
    """(ROWS, COLUMNS, 5) float32: linear reflectance R, G, B; hair cover; strand brightness."""
    rng = np.random.default_rng([person.seed, person.index, 2])
    colour = _skin(person, rng)
    strands = _strands(rng)
    hair = np.array(person.hair.colour, dtype=np.float32)
    # Brows and beard of light-haired people are darker than the hair.
    facial_hair = hair * np.float32(min(0.8, 0.1 / hair.max())) * [1.0, 0.85, 0.75]
    grain = _noise(rng, 160, 300)
    for cover in (_brows(person) * (0.75 + 0.5 * grain), _beard(person, rng)):
        colour += np.clip(cover, 0, 1)[..., None] * (facial_hair - colour)
    cover = _hair_cover(person.hair, rng)
    shaded = hair * strands[..., None]
    colour += cover[..., None] * (shaded - colour)
    return np.concatenate([colour, cover[..., None], strands[..., None]], axis=2)


def add_detail(
    texture: np.ndarray, *, contrast: float, cutoff: float, seed: tuple[int, ...]
) -> np.ndarray:
    """The texture with skin detail between one and two times a cutoff frequency.

    Multiplies the reflectance of bare skin by 1 + noise, which has no mean and no content below
    the cutoff, so that only optics that pass it can tell contrasts apart.

    Args:
        texture: of draw_texture.
        contrast: standard deviation of the noise.
        cutoff: lowest frequency [cycles per face width], seen from the front at the middle of the
            face; towards the sides foreshortening raises it.
        seed: of the noise.
    """
    noise = np.random.default_rng(seed).standard_normal((ROWS, COLUMNS), dtype=np.float32)
    # x = (FACE_WIDTH / 2) sin(theta): one radian at the middle is half a face width.
    across = np.fft.rfftfreq(COLUMNS) * 2 * (COLUMNS - 1) / (2 * np.pi)
    along = np.fft.fftfreq(ROWS) * FACE_WIDTH * (ROWS - 1) / (TOP - BOTTOM)
    frequency = np.hypot(along[:, None], across[None])
    band = (frequency >= cutoff) & (frequency <= 2 * cutoff)
    noise = np.fft.irfft2(np.fft.rfft2(noise) * band, s=noise.shape)
    factor = 1 + contrast * (1 - texture[..., 3]) * noise / noise.std()
    detailed = texture.copy()
    detailed[..., :3] *= np.maximum(factor, 0.1)[..., None]
    return detailed


def look_up(texture: np.ndarray, theta: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The nearest texel of each point: (n, 5)."""
    column = (theta + np.pi) * ((COLUMNS - 1) / (2 * np.pi)) + 0.5
    row = (TOP - height) * ((ROWS - 1) / (TOP - BOTTOM)) + 0.5
    row, column = np.clip(row, 0, ROWS - 1), np.clip(column, 0, COLUMNS - 1)
    return texture[row.astype(np.int32), column.astype(np.int32)]


def _skin(person: Person, rng: np.random.Generator) -> np.ndarray:
    tone = np.array(person.skin, dtype=np.float32)
    age = (person.age_years - 20) / 55
    patches = person.blotches * (0.10 * _noise(rng, 9, 20) + 0.07 * _noise(rng, 30, 70))
    fine = 0.05 * _noise(rng, 160, 384)
    brightness = 1 + patches + fine
    # Redder nose and cheeks, darker rings under the eyes; widths and places by eye.
    red = _blob(0.0, -0.38, 0.16, 0.13) + _blob(0.55, -0.38, 0.22, 0.18)
    ring = _blob(0.40, -0.17, 0.15, 0.05) * (0.12 + 0.2 * age * rng.random())
    socket = 0.12 * _blob(0.40, 0.06, 0.22, 0.06)
    brightness -= ring + socket
    lines = np.zeros_like(patches)
    for height in rng.uniform(0.33, 0.62, 3):
        wavy = HEIGHT - height - 0.02 * np.cos(3 * THETA + rng.uniform(0, 6))
        lines += np.exp(-np.square(wavy / 0.008)) * np.exp(-np.square(THETA / 0.4))
    fold = (SIDE - 0.27 + 0.55 * (HEIGHT + 0.55)) / 0.025
    lines += 1.6 * np.exp(-np.square(fold)) * np.exp(-np.square((HEIGHT + 0.6) / 0.13))
    brightness -= 0.22 * max(0.0, age - 0.15) * lines
    spots = np.zeros_like(patches)
    if person.freckles:
        dots = np.clip(_noise(rng, 110, 260) - 0.75, 0, 1) * 2
        spots += dots * person.freckles * np.exp(-np.square((HEIGHT + 0.2) / 0.3)) * (SIDE < 1.0)
    for _ in range(person.moles):
        theta, height = rng.uniform(-0.9, 0.9), rng.uniform(-1.0, 0.5)
        size = rng.uniform(0.012, 0.032)
        away = np.square((THETA - theta) * 0.85 / size) + np.square((HEIGHT - height) / size)
        spots += 0.75 * np.exp(-away)
    brightness = np.clip(brightness, 0.3, 1.5) * (1 - np.clip(spots, 0, 0.8))
    tint = 1 + person.blush * red[..., None] * np.array([0.04, -0.2, -0.16], dtype=np.float32)
    return (tone * brightness[..., None] * tint).astype(np.float32)


def _brows(person: Person) -> np.ndarray:
    brows = person.brows
    along = (SIDE - brows.gap) / (0.66 - brows.gap)
    inside = np.clip(along, 0, 1)
    middle = 0.185 + brows.height + brows.arch * np.sin(np.pi * np.clip(inside * 1.15, 0, 1))
    middle = middle + brows.tilt * (inside - 0.5) - 0.05 * inside**3
    half = 0.5 * brows.thickness * (1.1 - 0.7 * inside**2)
    edge = np.clip((half - np.abs(HEIGHT - middle)) / 0.014 + 0.5, 0, 1)
    ends = np.clip(along / 0.08 + 0.5, 0, 1) * np.clip((1 - along) / 0.15 + 0.3, 0, 1)
    return edge * ends * brows.density


def _beard(person: Person, rng: np.random.Generator) -> np.ndarray:
    jaw = np.interp(SIDE, [0, 0.35, 0.7, 1.1, 1.35, 1.5], [-0.86, -0.8, -0.62, -0.42, -0.1, 0.1])
    below = np.clip((jaw - HEIGHT) / 0.12 + 0.5, 0, 1) * np.clip((HEIGHT + 1.35) / 0.2, 0, 1)
    below = below * np.clip((1.5 - SIDE) / 0.1, 0, 1)
    lip = np.exp(-((np.abs(HEIGHT + 0.585) / 0.055) ** 4)) * np.clip((0.34 - SIDE) / 0.06, 0, 1)
    grain = 0.75 + 0.5 * _noise(rng, 160, 384)
    return (person.beard * below + person.moustache * lip * (1 - below)) * 0.85 * grain


def hairline(hair: Hair, theta: np.ndarray) -> np.ndarray:
    """Height [dm] above which hair grows, at each angle theta [rad]."""
    front = hair.hairline - hair.fringe * 0.33
    temple = front + hair.recession * (1 - hair.fringe)
    return np.interp(
        np.abs(theta),
        [0.0, 0.3, 0.62, 0.85, 1.05, 1.25, 1.42, 1.6, 2.0, 2.3, np.pi],
        [front, front, temple, temple - 0.08, 0.32, 0.05, -0.12, 0.1, 0.05, -0.6, -0.75],
    ).astype(np.float32)


def _hair_cover(hair: Hair, rng: np.random.Generator) -> np.ndarray:
    """(ROWS, COLUMNS) in [0, 1]: where hair covers the head, with a ragged edge."""
    if hair.style == "bald":
        return np.zeros((ROWS, COLUMNS), dtype=np.float32)
    ragged = (0.025 + 0.025 * hair.fringe) * _noise(rng, 24, 160)
    edge, density = (0.12, 0.8) if hair.style == "buzz" else (0.06, 1.0)
    return density * np.clip((HEIGHT - hairline(hair, THETA) + ragged) / edge + 0.5, 0, 1)


def _strands(rng: np.random.Generator) -> np.ndarray:
    return np.clip(1 + 0.45 * _noise(rng, 10, 250) + 0.3 * _noise(rng, 6, 60), 0.35, 2.0)


def _blob(theta: float, height: float, width: float, tall: float) -> np.ndarray:
    """A soft spot, mirrored to both sides of the face."""
    across = np.exp(-np.square((SIDE - theta) / width))
    return across * np.exp(-np.square((HEIGHT - height) / tall))


def _noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Smooth noise, SD about 2/3, on a grid of rows x columns cells: (ROWS, COLUMNS)."""
    grid = rng.standard_normal((rows + 1, columns + 1), dtype=np.float32)
    for length, cells in ((ROWS, rows), (COLUMNS, columns)):
        at = np.linspace(0, cells, length, dtype=np.float32)
        low = np.minimum(at.astype(int), cells - 1)
        part = (at - low)[:, None]
        grid = (grid[low] * (1 - part) + grid[low + 1] * part).T
    return grid
