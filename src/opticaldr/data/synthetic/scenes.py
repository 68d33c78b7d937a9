"""Light, background, pose and expression of photographs and recordings; attribute labels."""

from __future__ import annotations

import numpy as np

from opticaldr.data.synthetic.behaviour import SPEECH_FRACTION, Motion, move
from opticaldr.data.synthetic.cues import Session
from opticaldr.data.synthetic.expression import EMOTIONS, action_matrix
from opticaldr.data.synthetic.head import load_head
from opticaldr.data.synthetic.mesh import Mesh
from opticaldr.data.synthetic.person import Person
from opticaldr.data.synthetic.render import Scene, frontal_crop

ATTRIBUTES = (
    "Male", "Young", "Smiling", "Mouth_Slightly_Open", "Narrow_Eyes", "Eyeglasses", "Black_Hair",
    "Blond_Hair", "Gray_Hair", "Bald", "Bangs", "Pale_Skin", "Bushy_Eyebrows", "No_Beard",
)  # fmt: skip
"""Names as in CelebA."""
YAW_SD, PITCH_SD, ROLL_SD = np.deg2rad([14.0, 7.0, 4.0])
"""Head pose in photographs (faces.md 5.1)."""


def photo_scene(person: Person, number: int) -> tuple[Scene, int]:
    """Scene and emotion (index into EMOTIONS) of photograph `number` of a person."""
    rng = np.random.default_rng([person.seed, person.index, 5, number])
    emotion = int(rng.integers(len(EMOTIONS)))
    coefficients = action_matrix(EMOTIONS)[emotion] * rng.uniform(0.6, 1.0)
    coefficients *= rng.uniform(0.8, 1.2, len(coefficients))
    action = load_head().action_names.index
    blink = max(person.lid_rest + rng.normal(0, 0.04), 0.0)
    for side in ("Left", "Right"):
        coefficients[action("eyeBlink" + side)] += blink
    sideways, down = rng.normal(0, 0.2, 2)
    _look(coefficients, sideways, max(down, 0.0) * 0.5)
    scene = _surroundings(
        (person.seed, person.index, 6, number),
        noise_seed=(person.seed, person.index, 7, number),
        coefficients=np.clip(coefficients, 0, 1).astype(np.float32),
        yaw=float(np.clip(rng.normal(0, YAW_SD), -0.6, 0.6)),
        pitch=float(np.clip(rng.normal(0, PITCH_SD), -0.3, 0.3)),
        roll=float(rng.normal(0, ROLL_SD)),
    )
    return scene, emotion


def recording_scenes(
    mesh: Mesh,
    session: Session,
    times_s: np.ndarray,
    *,
    visit: tuple[int, ...] = (),
    task: tuple[int, ...] = (),
    speech: float = SPEECH_FRACTION,
) -> list[Scene]:
    """One scene per time [s]; light, background, clothes and camera stay as they are.

    visit, task: numbers from 1 where a person has several recordings; those of one visit have the
    same surroundings. speech: share of the time.
    """
    person = mesh.person
    motion: Motion = move(
        session,
        times_s,
        seed=person.seed,
        index=person.index,
        lid_rest=person.lid_rest,
        take=(*visit, *task),
        speech=speech,
    )
    crop = frontal_crop(mesh)
    scenes = []
    for i, time in enumerate(times_s):
        ms = round(1000 * float(time))
        scenes.append(
            _surroundings(
                (person.seed, person.index, 8, *visit),
                noise_seed=(person.seed, person.index, 9, ms, *visit, *task),
                coefficients=motion.coefficients[i],
                yaw=float(motion.yaw[i]),
                pitch=float(motion.pitch[i]),
                roll=float(motion.roll[i]),
                crop=crop,
            )
        )
    return scenes


def attributes(person: Person, coefficients: np.ndarray) -> tuple[float, ...]:
    """0 or 1 for each of ATTRIBUTES; person and expression decide."""
    names = load_head().action_names

    def level(action: str) -> float:
        return float(coefficients[names.index(action)])

    hair = person.hair
    covered = hair.style != "bald"
    values = {
        "Male": person.male,
        "Young": person.age_years < 40,
        "Smiling": level("mouthSmileLeft") > 0.25,
        "Mouth_Slightly_Open": level("jawOpen") > 0.06 or level("mouthUpperUpLeft") > 0.3,
        "Narrow_Eyes": level("eyeBlinkLeft") + 0.5 * level("eyeSquintLeft") > 0.33,
        "Eyeglasses": person.glasses is not None,
        "Black_Hair": covered and hair.name == "black",
        "Blond_Hair": covered and hair.name == "blond",
        "Gray_Hair": covered and hair.name == "gray",
        "Bald": not covered,
        "Bangs": hair.fringe > 0 and hair.style in ("fringe", "bob", "long"),
        "Pale_Skin": person.skin[0] > 0.55,
        "Bushy_Eyebrows": person.brows.thickness * person.brows.density > 0.07,
        "No_Beard": person.beard < 0.25,
    }
    return tuple(float(values[name]) for name in ATTRIBUTES)


def _look(coefficients: np.ndarray, sideways: float, down: float) -> None:
    """Turns both eyes: sideways to the person's left, in units of the eyeLook actions."""
    action = load_head().action_names.index
    outer, inner = ("Left", "Right") if sideways > 0 else ("Right", "Left")
    coefficients[action("eyeLookOut" + outer)] += abs(sideways)
    coefficients[action("eyeLookIn" + inner)] += abs(sideways)
    for side in ("Left", "Right"):
        coefficients[action("eyeLookDown" + side)] += down


def _surroundings(
    seed: tuple[int, ...],
    *,
    noise_seed: tuple[int, ...],
    coefficients: np.ndarray,
    yaw: float,
    pitch: float,
    roll: float,
    crop: np.ndarray | None = None,
) -> Scene:
    """Draws light, background and clothes; equal seeds give equal surroundings."""
    rng = np.random.default_rng(seed)
    light = np.array([rng.normal(0, 0.5), rng.uniform(0.1, 0.8), 1.0])
    warmth = rng.normal(0, 0.08)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    exposure, contrast = np.exp(rng.normal(0, 0.18)), rng.uniform(0.3, 0.7)
    grey = rng.uniform(0.03, 0.5) * np.exp(rng.normal(0, 0.3, (2, 2, 1)))
    return Scene(
        coefficients=coefficients,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        crop=crop,
        light=(light / np.linalg.norm(light)).astype(np.float32),
        lamp=(1.5 * contrast * exposure * tint).astype(np.float32),
        sky=(1.1 * (1 - contrast) * exposure * np.array([0.96, 1.0, 1.06])).astype(np.float32),
        ground=(0.55 * (1 - contrast) * exposure * np.array([1.06, 1.0, 0.92])).astype(np.float32),
        background=(grey * np.exp(rng.normal(0, 0.15, (2, 2, 3)))).astype(np.float32),
        cloth=tuple((rng.uniform(0.02, 0.5) * np.exp(rng.normal(0, 0.3, 3))).tolist()),
        blur=float(rng.uniform(0.25, 0.6)),
        noise=float(rng.uniform(0.004, 0.02)),
        background_seed=(*seed, 1),
        noise_seed=noise_seed,
    )
