"""Rung A9: who of our patients is this? An insider's closed cohort (privacy.md 5.1).

Everyone of the cohort is enrolled with all other pictures of theirs, clean and as recorded by the
same camera. The insider compares recorded faces, restored faces, pixels, the colours of the whole
frame, and what a record tells of lasting traits such as sex, and weighs them by logistic regression
on people of his own. Cohorts are dealt at random; every picture of everyone is tried once in a
cohort of each size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Identification, OnProgress
from opticaldr.privacy.registration import StillHead
from opticaldr.privacy.rungs.lesson import as_photo, shrink, study
from opticaldr.privacy.rungs.linear import Project, fit_lda
from opticaldr.privacy.rungs.recordings import Filter, embedded, filters_for, recorded
from opticaldr.privacy.rungs.traits import attribute_codes, fit_reader
from opticaldr.types import Capture

COHORTS = (20, 84, 100)
"""Sizes of closed cohorts: a ward, AVEC 2014, a clinic (privacy.md 2.1, 5.1)."""
FACE_SIDE, FRAME_SIDE = 32, 8
"""Pixels that LDA compares: of the contrast-stretched record at a quarter of its usual size
(privacy.md 7.6), and of its colours as they are, which show hair, clothes and light."""
LEARNT = 1500
"""Captures on which LDA and the readers of traits are fitted, at most."""
LASTING = 0.95
"""Share of a person's pictures that must agree for an attribute to be a trait of the person."""

Evidence = dict[tuple[str, int], np.ndarray]
"""(comparison, frames) -> how alike each of n probes and each of p people are, (n, p)."""

TRAITS = ("lasting traits", 1)


def insider(arena: Arena, *, progress: OnProgress) -> Iterator[Identification]:
    """Each comparison alone, and all of them together, in cohorts of each size.

    Traits such as sex name nobody alone; they only count in the fusion.
    """
    head = StillHead(arena.camera, tuple(sorted({1, max(arena.tier.frames)})))
    insight = _Insight.of(arena, head, progress)
    trusted = np.isin(arena.people_of(arena.attacker), arena.people_of(study(arena).tune.images))
    own, images = (_with_others(arena, i) for i in (arena.attacker[trusted], arena.test.images))
    practice = insight.compare(own, "A9 own people", progress)
    found = insight.compare(images, "A9 cohort", progress)
    person = _codes(arena, images)
    people = int(person.max()) + 1
    ways = {way: {way: 1.0} for way in found if way != TRAITS}
    for frames in head.takes:
        used = [way for way in practice if way[1] <= frames]
        weights = _weigh(np.stack([practice[way] for way in used]), _codes(arena, own))
        ways["fusion", frames] = dict(zip(used, weights.tolist(), strict=True))
    enrolled = {"people": people, "enrolled_each": round(len(person) / people - 1, 1)}
    for size in sorted({min(size, people) for size in COHORTS}):
        cohorts = deal(people, size, arena.generator("A9", size))
        for (what, frames), weights in ways.items():
            stack = np.stack([found[way] for way in weights])
            rank, tried = ranks_in(cohorts, stack, np.array(list(weights.values())), person)
            facts: dict[str, object] = dict(enrolled)
            if what == "fusion":
                facts["weights"] = {f"{a}, {n}": round(w, 2) for (a, n), w in weights.items()}
            yield Identification("A9", f"{what}, {size} people", frames, size, rank, tried, facts)


def deal(people: int, size: int, generator: torch.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random cohorts of `size` as (members, those of them who are tried); everyone is tried once.

    The cohorts are disjoint; the last one is filled up with members of the one before.
    """
    order = torch.randperm(people, generator=generator).numpy()
    ends = [min(start + size, people) for start in range(0, people, size)]
    return [
        (order[end - size : end], order[start:end])
        for start, end in zip(range(0, people, size), ends, strict=True)
    ]


def ranks_in(
    cohorts: list[tuple[np.ndarray, np.ndarray]],
    stack: np.ndarray,
    weights: np.ndarray,
    person: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Place of the true person among each cohort, and who it was: (t,) each.

    Args:
        stack: (k, n, p) evidence of k kinds. weights: (k,). person: (n,) code of each probe's.
    """
    ranks, people = [], []
    for members, tried in cohorts:
        probes = np.flatnonzero(np.isin(person, tried))
        score = np.tensordot(weights, _normal(stack[:, probes][:, :, members]), 1).round(10)
        own = score[person[probes][:, None] == members][:, None]
        better, equal = (score > own).sum(axis=1), (score == own).sum(axis=1) - 1
        ranks.append(1 + better + (equal + 1) // 2)
        people.append(person[probes])
    return np.concatenate(ranks), np.concatenate(people)


def likeness(probe: np.ndarray, enrolled: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(n, p) mean cosine of each probe to the enrolled pictures of each person but its own.

    Args:
        probe, enrolled: (n, d) unit rows of the same n pictures. person: (n,) codes from 0.
    """
    belongs = np.eye(person.max() + 1)[person]
    total, count = probe @ (belongs.T @ enrolled).T, belongs.sum(axis=0)
    own = np.einsum("nd,nd->n", probe, enrolled)[:, None]
    return (total - belongs * own) / (count - belongs)


def _normal(stack: np.ndarray) -> np.ndarray:
    """(k, n, p) with mean 0 and standard deviation 1 over the people that each probe is held to."""
    centred = stack - stack.mean(axis=2, keepdims=True)
    # equal scores for all, of a black record, stay equal
    return centred / np.maximum(centred.std(axis=2, keepdims=True), 1e-9)


def _weigh(stack: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(k,) weights of the k kinds of evidence (k, n, p) that tell own people apart best."""
    same = person[:, None] == np.arange(stack.shape[2])
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    return model.fit(_normal(stack).reshape(len(stack), -1).T, same.ravel()).coef_[0]


def _with_others(arena: Arena, images: np.ndarray) -> np.ndarray:
    """The images of people who have several."""
    people = np.array(arena.people_of(images))
    names, counts = np.unique(people, return_counts=True)
    return images[np.isin(people, names[counts >= 2])]


def _codes(arena: Arena, images: np.ndarray) -> np.ndarray:
    return np.unique(arena.people_of(images), return_inverse=True)[1]


@dataclass(frozen=True)
class _Insight:
    """What the insider learnt from people who are in no cohort.

    face, frame: LDA of pixels. traits: readers of lasting attributes, by column.
    """

    arena: Arena
    head: StillHead
    filters: dict[int, Filter]
    face: Project
    frame: Project
    traits: dict[int, Pipeline]

    @classmethod
    def of(cls, arena: Arena, head: StillHead, progress: OnProgress) -> _Insight:
        images = study(arena).learn[:LEARNT]
        single = StillHead(arena.camera, (1,))
        faces, frames = [], []
        for _, (record,) in recorded(arena, images, single, "A9 learn", progress=progress):
            faces.append(_face_pixels(record))
            frames.append(_frame_pixels(record))
        faces, frames = np.concatenate(faces), np.concatenate(frames)
        people = _codes(arena, images)
        readers = {}
        for column in range(len(arena.faces.attribute_names)):
            codes = attribute_codes(arena.faces, images, column)
            known = codes >= 0
            if len(np.unique(codes[known])) == 2 and _lasts(codes[known], people[known]):
                readers[column] = fit_reader(faces[known], codes[known])
        face, frame = fit_lda(faces, people), fit_lda(frames, people)
        filters = filters_for(arena, head)
        return cls(arena, head, filters, face, frame, readers)

    def compare(self, images: np.ndarray, work: str, progress: OnProgress) -> Evidence:
        """All comparisons of these images with the other images of the people in them."""
        arena, judge = self.arena, self.arena.judges[0]
        rows: dict[tuple[str, int], list[np.ndarray]] = {}
        for _, records in recorded(arena, images, self.head, work, progress=progress):
            for n, record in zip(self.head.takes, records, strict=True):
                with torch.inference_mode():
                    seen = {"restored": embedded(judge, self.filters[n].restore(record))}
                if n == 1:
                    seen["recorded"] = embedded(judge, record)
                    seen["face"], seen["frame"] = _face_pixels(record), _frame_pixels(record)
                for view, found in seen.items():
                    rows.setdefault((view, n), []).append(found)
        table = {view: np.concatenate(found) for view, found in rows.items()}
        person, clean = _codes(arena, images), arena.embed(judge, images)
        pixels = table["face", 1]
        evidence = {
            (f"recorded faces, {judge.name}", 1): _alike(table["recorded", 1], person),
            ("pixels, LDA", 1): _alike(self.face(pixels), person),
            ("colours of the frame, LDA", 1): _alike(self.frame(table["frame", 1]), person),
        }
        for n in self.head.takes:
            what = f"restored against clean faces, {judge.name}"
            evidence[what, n] = likeness(table["restored", n], clean, person)
        if self.traits:
            evidence[TRAITS] = self._trait_likeness(images, pixels, person)
        return evidence

    def _trait_likeness(
        self, images: np.ndarray, pixels: np.ndarray, person: np.ndarray
    ) -> np.ndarray:
        """(n, p) log-probability that each record shows somebody with the traits of each person."""
        total = np.zeros((len(images), person.max() + 1))
        for column, reader in self.traits.items():
            codes = attribute_codes(self.arena.faces, images, column)
            known = np.bincount(person, codes >= 0)
            share = np.bincount(person, codes == 1) / np.maximum(known, 1)
            share = np.where(known > 0, share, 0.5)  # an unknown trait speaks for nobody
            read = reader.predict_proba(pixels)[:, 1:]
            total += np.log(read * share + (1 - read) * (1 - share) + 1e-6)
        return total


def _lasts(codes: np.ndarray, people: np.ndarray) -> bool:
    """Whether the attribute tells people apart rather than pictures of one person."""
    known = np.bincount(people)
    share = np.bincount(people, codes)[people] / known[people]
    several = known[people] >= 2
    return bool(several.any() and np.maximum(share, 1 - share)[several].mean() >= LASTING)


def _alike(rows: np.ndarray, person: np.ndarray) -> np.ndarray:
    return likeness(rows, rows, person)


def _face_pixels(record: Capture) -> np.ndarray:
    return as_photo(shrink(record, FACE_SIDE)).flatten(1).numpy()


def _frame_pixels(record: Capture) -> np.ndarray:
    return linear_to_srgb(shrink(record, FRAME_SIDE)).flatten(1).numpy()
