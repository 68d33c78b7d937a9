"""Side track S: soft biometrics read from captures of people whom the reader has never seen.

Traits are the binary attributes of the face set, and skin tone, which every picture has: the
individual typology angle of the clean picture, atan((L* - 50) / b*) (Chardon et al. 1991), of the
mean colour of nose and cheeks, in thirds of the attacker's own people. It is a label of the
picture, light included, not of the person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from opticaldr.data.faceset import FaceSet
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import OnProgress, TraitReading
from opticaldr.privacy.registration import StillHead
from opticaldr.privacy.rungs.lesson import shrink
from opticaldr.privacy.rungs.recordings import Filter, embedded, filters_for, recorded
from opticaldr.types import Recogniser, Scene

SIDE = 16
"""Side of the pictures from whose pixels traits are read [px]: 5 cycles per face width."""
LEARNT, PER_PERSON = 1000, 2
"""Images of the attacker's people that are learnt from, and images of each test person, at most."""
LABELLED_PEOPLE, CLASS_PEOPLE = 20, 5
"""People with a label, and people of each class, that a trait needs on either side."""
SKIN_TONE = "skin tone of the picture"
SKIN_TONES = ("darkest third", "middle third", "lightest third")

_CHEEKS = (0.54, 0.68, 0.32, 0.68)  # top, bottom, left, right of nose and cheeks in aligned crops
_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_WHITE = (0.9505, 1.0, 1.089)  # of linear sRGB (IEC 61966-2-1, D65), as the matrix above it
_STRENGTH = 0.1
"""C of the logistic regression on standardised features: within .03 of the best of 1e-4 .. 1 for
sex from 16 x 16 pixels and from embeddings of LFW captures."""


@dataclass(frozen=True)
class _Seen:
    """Images of one side: their people, typology angles (n,), and rows by (view, frames)."""

    images: np.ndarray
    people: np.ndarray
    angle: np.ndarray
    rows: dict[tuple[str, int], np.ndarray]


def traits(arena: Arena, *, progress: OnProgress) -> Iterator[TraitReading]:
    """Each trait from each view of the capture; one with too few labelled people is left out."""
    head = StillHead(arena.camera, (1, max(arena.tier.frames)))
    filters = filters_for(arena, head)
    spread = np.linspace(0, len(arena.attacker) - 1, min(LEARNT, len(arena.attacker)))
    chosen = arena.attacker[np.unique(spread.round().astype(int))]
    learn = _look(arena, chosen, head, filters, "S learn", progress)
    test = _look(arena, probe_images(arena), head, filters, "S test", progress)
    codes = np.unique(test.people, return_inverse=True)[1]
    for trait, classes, taught, truth in _labels(arena.faces, learn, test):
        known, asked = taught >= 0, truth >= 0
        if not (
            _enough(taught[known], learn.people[known], len(classes))
            and _enough(truth[asked], test.people[asked], len(classes))
        ):
            continue
        for (view, frames), rows in learn.rows.items():
            reader = fit_reader(rows[known], taught[known])
            guess = reader.predict(test.rows[view, frames][asked])
            facts = {"learnt_from": int(known.sum())}
            person = codes[asked]
            yield TraitReading(
                "S", view, frames, trait, classes, truth[asked], guess, person, facts
            )


def fit_reader(features: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Logistic regression (n, d) -> (n,) codes that gives each class the same weight."""
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), model).fit(features, labels)


def pixels(picture: Scene) -> np.ndarray:
    """Rows (b, 3 SIDE^2) of sRGB-encoded thumbnails of the whole frame."""
    return linear_to_srgb(shrink(picture, SIDE)).flatten(1).numpy()


def attribute_codes(faces: FaceSet, images: np.ndarray, attribute: int) -> np.ndarray:
    """(n,) 0 or 1, -1 where the attribute is unknown."""
    records = (faces.records[int(i)] for i in images)
    values = np.array([r.attributes[attribute] if r.attributes else np.nan for r in records])
    return np.where(np.isnan(values), -1, values > 0.5).astype(int)


def typology_angle(scene: Scene) -> np.ndarray:
    """(b,) individual typology angle [degrees] of nose and cheeks: above 55 very light, below
    -30 dark (Chardon et al. 1991)."""
    size = scene.shape[-1]
    top, bottom, left, right = (round(edge * size) for edge in _CHEEKS)
    colour = scene[..., top:bottom, left:right].double().mean((-2, -1)).numpy()
    ratio = colour @ np.array(_TO_XYZ).T / np.array(_WHITE)
    # CIE 15: cube root, a straight line below (6/29)^3
    curve = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    lightness, yellow = 116 * curve[:, 1] - 16, 200 * (curve[:, 1] - curve[:, 2])
    return np.degrees(np.arctan2(lightness - 50, yellow))


def _look(
    arena: Arena,
    images: np.ndarray,
    head: StillHead,
    filters: dict[int, Filter],
    work: str,
    progress: OnProgress,
) -> _Seen:
    judge = arena.judges[0]
    angles: list[np.ndarray] = []
    rows: dict[tuple[str, int], list[np.ndarray]] = {}
    for scene, records in recorded(arena, images, head, work, progress=progress):
        angles.append(typology_angle(scene))
        for n, record in zip(head.takes, records, strict=True):
            for view, found in _views(judge, record, filters[n], recognise=n == 1).items():
                rows.setdefault((view, n), []).append(found)
    people = np.array(arena.people_of(images))
    joined = {view: np.concatenate(found) for view, found in rows.items()}
    return _Seen(images, people, np.concatenate(angles), joined)


def _views(
    judge: Recogniser, record: Scene, choice: Filter, *, recognise: bool
) -> dict[str, np.ndarray]:
    """Features of records; recognise: also the recogniser's of the record as it is."""
    with torch.inference_mode():
        restored = choice.restore(record)
    views = {
        "pixels": pixels(record),
        "wiener, pixels": pixels(restored),
        f"wiener, {judge.name}": embedded(judge, restored),
    }
    return views | ({f"naive, {judge.name}": embedded(judge, record)} if recognise else {})


def probe_images(arena: Arena) -> np.ndarray:
    """The first images of each test person."""
    seen: dict[str, int] = {}
    chosen = []
    for image, person in zip(arena.test.images, arena.people_of(arena.test.images), strict=True):
        seen[person] = seen.get(person, 0) + 1
        if seen[person] <= PER_PERSON:
            chosen.append(image)
    return np.array(chosen)


def _labels(
    faces: FaceSet, learn: _Seen, test: _Seen
) -> Iterator[tuple[str, tuple[str, ...], np.ndarray, np.ndarray]]:
    """(trait, classes, codes to learn, codes to guess); -1 = unknown."""
    for column, name in enumerate(faces.attribute_names):
        taught, truth = (attribute_codes(faces, s.images, column) for s in (learn, test))
        yield name, (f"not {name}", name), taught, truth
    thirds = np.quantile(learn.angle, [1 / 3, 2 / 3])
    yield SKIN_TONE, SKIN_TONES, np.digitize(learn.angle, thirds), np.digitize(test.angle, thirds)


def _enough(labels: np.ndarray, people: np.ndarray, classes: int) -> bool:
    each = [len(np.unique(people[labels == code])) for code in range(classes)]
    return len(np.unique(people)) >= LABELLED_PEOPLE and min(each) >= CLASS_PEOPLE
