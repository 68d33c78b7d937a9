"""Who a synthetic person is: shape, skin, hair, brows, eyes; drawn from (seed, index) alone.

Every random stream of this package is seeded by [seed, index, use, ..]; uses: 1 person, 2 texture,
3 severity and cues, 4 motion, 5-7 photographs, 8-9 recordings; of the benchmark (there 4, 8 and 9
are followed by numbers of session and task): 10 splits, 11 person, 12 session, 13 conditions, 14
hand, 15 skin detail, 16 dropped frames. Odds and spreads are by eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.synthetic.head import load_head

Rgb = tuple[float, float, float]
"""Linear reflectance of red, green and blue in [0, 1]."""

SLIDER_SD, ASYMMETRY_SD = 0.37, 0.04
"""Spread of the shape sliders; larger values give caricatures (reference: anny, looked human)."""
DAMPED = (
    "mouth-trans", "nose-trans", "head-trans", "nose-compression", "chin-jaw-drop", "head-angle",
)  # fmt: skip
"""Sliders that deform more than the others; drawn at 0.3 of the spread."""
PALE, TAN, DARK = np.array([[0.67, 0.42, 0.31], [0.48, 0.27, 0.165], [0.115, 0.058, 0.036]])
"""Anchors of skin reflectance (linear), by eye after photographs of light, medium, dark skin."""
HAIR_COLOURS: dict[str, Rgb] = {
    "black": (0.012, 0.010, 0.009),
    "brown": (0.060, 0.030, 0.016),
    "red": (0.230, 0.075, 0.026),
    "blond": (0.420, 0.270, 0.120),
    "gray": (0.380, 0.370, 0.360),
}
IRIS_COLOURS: tuple[Rgb, ...] = (
    (0.055, 0.026, 0.012),
    (0.110, 0.060, 0.025),
    (0.100, 0.120, 0.050),
    (0.110, 0.210, 0.330),
    (0.170, 0.200, 0.210),
)
HAIR_STYLES = ("bald", "buzz", "short", "quiff", "fringe", "bob", "long", "afro", "bun")


@dataclass(frozen=True)
class Hair:
    """style: one of HAIR_STYLES. thickness of the cap over the skull [dm]; hairline: height above
    the eyes at the middle of the forehead [dm]; recession: how far the temples go back [dm];
    parting: angle [rad]; length: height of the ends of long hair [dm]; fringe: 0 no, 1 yes.
    """

    style: str
    name: str
    colour: Rgb
    thickness: float
    hairline: float
    recession: float
    parting: float
    length: float
    fringe: float


@dataclass(frozen=True)
class Brows:
    """thickness and height, arch, tilt [dm]; density in [0, 1]; gap: angle of the inner end [rad]."""

    thickness: float
    height: float
    arch: float
    tilt: float
    density: float
    gap: float


@dataclass(frozen=True)
class Glasses:
    """Half width and half height of a rim, its width [dm]; roundness 2 (ellipse) .. 5 (box)."""

    half_width: float
    half_height: float
    rim: float
    roundness: float
    colour: Rgb


@dataclass(frozen=True)
class Person:
    """One synthetic identity. age_years 20-75; shape: (S,) slider values in [-1, 1]."""

    seed: int
    index: int
    male: bool
    age_years: float
    weight: float
    ethnicity: tuple[float, float, float]
    shape: tuple[float, ...]
    skin: Rgb
    lip_tint: float
    blush: float
    freckles: float
    blotches: float
    moles: int
    brows: Brows
    iris: Rgb
    hair: Hair
    beard: float
    moustache: float
    glasses: Glasses | None
    lid_rest: float


def draw_person(seed: int, index: int) -> Person:
    """The person with this number; equal arguments give equal people, on every machine."""
    rng = np.random.default_rng([seed, index, 1])
    male = bool(rng.random() < 0.5)
    age = float(np.clip(20 + 55 * rng.beta(1.2, 1.7), 20, 75))
    ethnicity = rng.dirichlet([0.5, 0.5, 0.5])
    skin = _skin(rng, ethnicity)
    hair = _hair(rng, male, age, ethnicity)
    bearded = male and rng.random() < 0.45
    beard = float(rng.uniform(0.25, 1.0)) if bearded else float(male) * rng.uniform(0, 0.22)
    iris = IRIS_COLOURS[rng.choice(5, p=_iris_odds(ethnicity[2]))]
    return Person(
        seed=seed,
        index=index,
        male=male,
        age_years=age,
        weight=float(rng.uniform(0, 1)),
        ethnicity=tuple(ethnicity.tolist()),
        shape=_shape(rng),
        skin=skin,
        lip_tint=float(rng.uniform(0, 0.35 if male else 1.0)),
        blush=float(rng.uniform(0.1, 1)),
        freckles=float(max(0.0, rng.normal(-0.2, 0.5))),
        blotches=float(rng.uniform(0.3, 1.0)),
        moles=int(rng.poisson(1.5)),
        brows=Brows(
            thickness=float(np.clip(rng.normal(0.085 if male else 0.062, 0.02), 0.03, 0.14)),
            height=float(rng.normal(0.0, 0.022)),
            arch=float(rng.normal(0.035 if male else 0.05, 0.022)),
            tilt=float(rng.normal(0.0, 0.025)),
            density=float(rng.uniform(0.6, 1.0)),
            gap=float(rng.uniform(0.09, 0.19)),
        ),
        iris=tuple((np.array(iris) * rng.uniform(0.7, 1.3)).tolist()),
        hair=hair,
        beard=beard,
        moustache=float(np.clip(beard * rng.uniform(0.5, 1.5), 0, 1)),
        glasses=_glasses(rng) if rng.random() < 0.2 else None,
        lid_rest=float(np.clip(rng.normal(0.10, 0.06), -0.05, 0.3)),
    )


def _shape(rng: np.random.Generator) -> tuple[float, ...]:
    """Left and right sliders are equal up to a little asymmetry."""
    names = load_head().slider_names
    drawn: dict[str, float] = {}
    values = []
    for name in names:
        base = name[2:] if name[:2] in ("l-", "r-") else name
        spread = SLIDER_SD * (0.3 if base.startswith(DAMPED) else 1.0)
        if base not in drawn:
            drawn[base] = rng.normal(0, spread)
        skew = rng.normal(0, ASYMMETRY_SD) if base != name else 0.0
        values.append(float(np.clip(drawn[base] + skew, -1, 1)))
    return tuple(values)


def _skin(rng: np.random.Generator, ethnicity: np.ndarray) -> Rgb:
    african, asian, caucasian = ethnicity
    tone = african * 1.0 + asian * rng.uniform(0.25, 0.55) + caucasian * rng.uniform(0.0, 0.4)
    tone = np.clip(tone + rng.normal(0, 0.08), 0, 1)
    # Interpolated in the logarithm: reflectance falls exponentially with melanin.
    anchors = np.log([PALE, TAN, DARK])
    log = [np.interp(tone, [0, 0.5, 1], anchors[:, channel]) for channel in range(3)]
    tint = rng.normal(0, [0.04, 0.05, 0.08])
    return tuple(np.exp(np.array(log) + tint).tolist())


def _hair(rng: np.random.Generator, male: bool, age: float, ethnicity: np.ndarray) -> Hair:
    light = ethnicity[2] > 0.5
    name = rng.choice(
        ["black", "brown", "red", "blond"],
        p=[0.15, 0.42, 0.11, 0.32] if light else [0.75, 0.23, 0.0, 0.02],
    )
    if rng.random() < np.clip((age - 38) / 35, 0, 0.9):
        name = "gray"
    colour = np.array(HAIR_COLOURS[name]) * np.exp(rng.normal(0, 0.25)) * rng.uniform(0.9, 1.1, 3)
    curly = ethnicity[0]
    odds = dict.fromkeys(HAIR_STYLES, 0.0)
    if male:
        odds |= {"bald": 0.08 + 0.2 * (age > 45), "buzz": 0.2, "short": 0.3, "quiff": 0.2}
        odds |= {"fringe": 0.08, "long": 0.06, "afro": 0.3 * curly}
    else:
        odds |= {"short": 0.1, "fringe": 0.12, "bob": 0.25, "long": 0.35, "bun": 0.15}
        odds |= {"afro": 0.3 * curly, "buzz": 0.03}
    weights = np.array(list(odds.values()))
    style = str(rng.choice(HAIR_STYLES, p=weights / weights.sum()))
    thickness = {"bald": 0.0, "buzz": 0.03, "short": 0.1, "quiff": 0.17, "afro": 0.36, "bun": 0.06}
    fringe = style == "fringe" or (style in ("bob", "long") and rng.random() < 0.35)
    return Hair(
        style=style,
        name=str(name),
        colour=tuple(np.clip(colour, 0.005, 0.8).tolist()),
        thickness=float(thickness.get(style, 0.12) * rng.uniform(0.8, 1.25)),
        hairline=float(rng.uniform(0.56, 0.74) + 0.06 * (male and age > 40)),
        recession=float(max(0.0, rng.normal(0.08 if male else 0.0, 0.07))),
        parting=float(rng.uniform(-0.6, 0.6)),
        length=float(rng.uniform(-0.95, -0.6) if style == "bob" else rng.uniform(-2.0, -1.2)),
        fringe=float(fringe) * float(rng.uniform(0.6, 1.0)),
    )


def _iris_odds(caucasian: float) -> list[float]:
    light = 0.75 * float(np.clip((caucasian - 0.3) / 0.5, 0, 1))
    return [(1 - light) * 0.7, (1 - light) * 0.3, light * 0.3, light * 0.45, light * 0.25]


def _glasses(rng: np.random.Generator) -> Glasses:
    dark = rng.random() < 0.6
    return Glasses(
        half_width=float(rng.uniform(0.21, 0.27)),
        half_height=float(rng.uniform(0.14, 0.21)),
        rim=float(rng.uniform(0.018, 0.04)),
        roundness=float(rng.uniform(2.0, 4.5)),
        colour=(0.02, 0.018, 0.016) if dark else tuple(rng.uniform(0.02, 0.35, 3).tolist()),
    )
