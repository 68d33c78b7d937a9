"""Who is attacked and who teaches the attacker: people of a data set, dealt into disjoint roles.

Test people are shown to nobody before the test; an attacker learns and tunes on other people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opticaldr.data import synthetic
from opticaldr.data.celeba import load_celeba
from opticaldr.data.faceset import FaceSet
from opticaldr.data.lfw import load_lfw, load_pairs, people_outside
from opticaldr.data.manifest import load_manifest
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.types import InputError

OnRender = Callable[[int, int], None]

FIRST_SYNTHETIC = 700_000
"""Number of the first rendered person; training and the demo's attack use smaller ones."""
ATTACKER_PHOTOS = 20
"""At most so many images of one person teach an attacker, so that a few do not outweigh all."""


@dataclass(frozen=True)
class Sizes:
    """How much of a set is used, at most: test people and photos of each, pairs, attacker images."""

    people: int
    photos: int
    nonmated: int
    attacker_images: int


@dataclass(frozen=True)
class AttackSet:
    """Faces to attack. test: the pairs. attacker: (a,) images of other people.

    lens_people: people on whom a lens may have been trained that saw this set; None: unknown.
    sessions_disjoint: whether mated pairs come from different recording occasions; None: unknown.
    notes: what a reader of the result must know about the choice.
    """

    faces: FaceSet
    test: Pairs
    attacker: np.ndarray
    lens_people: int | None = None
    sessions_disjoint: bool | None = None
    notes: tuple[str, ...] = ()

    def people(self, images: np.ndarray) -> int:
        """Number of people in these images."""
        return len({self.faces.records[int(i)].person for i in images})


def open_attack(
    spec: str,
    sizes: Sizes,
    *,
    image_size: int,
    seed: int,
    official_pairs: bool = False,
    on_render: OnRender | None = None,
) -> AttackSet:
    """Opens `synthetic`, `lfw=PATH`, `celeba=PATH` or `manifest=FILE.csv` for an attack.

    Args:
        image_size: side of rendered faces [px].
        seed: of the choice of people and pairs, and of rendered people.
        official_pairs: take the set's own pair list (LFW's View 2) instead of all mated pairs.
    """
    name, separator, path = spec.partition("=")
    if spec != "synthetic" and (name not in ("lfw", "celeba", "manifest") or not separator):
        raise InputError(
            "Expected --data synthetic, lfw=PATH, celeba=PATH or manifest=FILE.csv to attack, "
            f"found '{spec}'; other sets do not say who is who."
        )
    if official_pairs and name != "lfw":
        raise InputError(f"Expected --pairs official with lfw=PATH, found '{spec}'; leave it out.")
    if name == "lfw":
        return _lfw(Path(path), sizes, seed, official_pairs)
    if name == "celeba":
        return _celeba(Path(path), sizes, seed)
    if name == "manifest":
        return _manifest(Path(path), sizes, seed)
    return _synthetic(sizes, image_size, seed, on_render)


def _synthetic(sizes: Sizes, image_size: int, seed: int, on_render: OnRender | None) -> AttackSet:
    attackers = -(-sizes.attacker_images // sizes.photos)
    faces = synthetic.photos(
        range(FIRST_SYNTHETIC, FIRST_SYNTHETIC + sizes.people + attackers),
        sizes.photos, seed=seed, size=image_size, progress=on_render,
    )  # fmt: skip
    images = np.arange(len(faces))
    first = sizes.people * sizes.photos
    test = _pairs(faces, images[:first], sizes, seed)
    return AttackSet(faces, test, images[first:], sessions_disjoint=True)


def _lfw(path: Path, sizes: Sizes, seed: int, official: bool) -> AttackSet:
    """Lenses train on people outside View 2; test and attacker people come from inside."""
    faces = load_lfw(path)
    listed = load_pairs(path, faces)
    outside = {record.person for record in people_outside(faces, listed).records}
    lens_side = [i for i, record in enumerate(faces.records) if record.person in outside]
    if official:
        attacker = _attacker(faces, np.array(lens_side, dtype=int), sizes, seed)
        note = "attackers learn on the people on whom a lens trained with this set has trained"
        return AttackSet(faces, listed, attacker, len(outside), notes=(note,))
    inside = np.setdiff1d(np.arange(len(faces)), lens_side)
    test, attacker, notes = _deal(faces, inside, inside, sizes, seed)
    return AttackSet(faces, test, attacker, len(outside), notes=notes)


def _celeba(path: Path, sizes: Sizes, seed: int) -> AttackSet:
    """The official partition: test people are attacked, an attacker learns on validation people."""
    faces = load_celeba(path)
    splits = np.array([record.split for record in faces.records])
    sides = (np.flatnonzero(splits == split) for split in ("test", "dev"))
    test, attacker, notes = _deal(faces, *sides, sizes, seed)
    trained = {record.person for record in faces.records if record.split == "train"}
    return AttackSet(faces, test, attacker, lens_people=len(trained), notes=notes)


def _manifest(path: Path, sizes: Sizes, seed: int) -> AttackSet:
    """Test people have split test, where there is one; attackers have dev, or whatever is left."""
    faces = load_manifest(path, frames_per_video=sizes.photos)
    splits = np.array([record.split for record in faces.records])
    images = np.arange(len(faces))
    test_side = images[splits == "test"] if (splits == "test").any() else images
    others = images[splits == "dev"] if (splits == "dev").any() else images
    test, attacker, notes = _deal(faces, test_side, others, sizes, seed)
    sessions = [_session(faces, i) for i in range(len(faces))]
    mated = [(sessions[a], sessions[b]) for a, b in zip(
        test.first[test.same], test.second[test.same], strict=True
    )]  # fmt: skip
    known = all(a and b for a, b in mated)
    apart = [a != b for a, b in mated]
    if known and any(apart):  # compare sessions only, never two frames of one
        kept = np.ones(len(test), dtype=bool)
        kept[test.same] = apart
        test = Pairs(test.first[kept], test.second[kept], test.same[kept])
    trained = {record.person for record in faces.records if record.split == "train"}
    return AttackSet(
        faces, test, attacker,
        lens_people=len(trained) if trained else None,
        sessions_disjoint=any(apart) if known else None,
        notes=notes,
    )  # fmt: skip


def _session(faces: FaceSet, image: int) -> str:
    """subject/session of a record: tasks of one session share light, clothes and room."""
    return "/".join(faces.records[image].recording.split("/")[:2])


def _deal(
    faces: FaceSet, test_side: np.ndarray, attacker_side: np.ndarray, sizes: Sizes, seed: int
) -> tuple[Pairs, np.ndarray, tuple[str, ...]]:
    """Test pairs and attacker images of different people; people with many photos are tested.

    Where both come from one side, at least half of its people with two images stay with the
    attacker.
    """
    rng = np.random.default_rng(seed)
    groups = _by_person(faces, test_side)
    several = [person for person in sorted(groups) if len(groups[person]) >= 2]
    shared = len(np.intersect1d(test_side, attacker_side)) > 0
    limit = min(sizes.people, len(several) // 2) if shared else sizes.people
    if len(several) < (4 if shared else 2):
        raise InputError(
            f"{faces.name}: expected at least {4 if shared else 2} people with two images each"
            f"{' (half to test, half to teach the attacker)' if shared else ' to test'}, found "
            f"{len(several)} of {len(groups)} people; add images."
        )
    order = [several[i] for i in rng.permutation(len(several))]
    order.sort(key=lambda person: len(groups[person]) < sizes.photos)  # stable: full ones first
    chosen, twins, seen = [], 0, set()
    for person in order:
        images = []
        for image in groups[person][rng.permutation(len(groups[person]))]:
            digest = hashlib.sha256(faces.image(int(image)).tobytes()).digest()
            if digest in seen:  # a copy of a picture is recognised through any lens
                twins += 1
            elif len(images) < sizes.photos:
                images.append(image)
                seen.add(digest)
            if len(images) == sizes.photos:
                break
        if len(images) >= 2:
            chosen += images
            limit -= 1
        if not limit:
            break
    if len(_by_person(faces, np.array(chosen, dtype=int))) < 2:
        raise InputError(
            f"{faces.name}: expected at least two people with two different images each, found "
            f"{twins} copies of one picture or another; remove copies and add images."
        )
    tested = {faces.records[i].person for i in chosen}
    others = [i for i in attacker_side if faces.records[i].person not in tested]
    attacker = _attacker(faces, np.array(others, dtype=int), sizes, seed)
    notes = (f"{twins} identical pictures left out",) if twins else ()
    return _pairs(faces, np.sort(chosen), sizes, seed), attacker, notes


def _attacker(faces: FaceSet, images: np.ndarray, sizes: Sizes, seed: int) -> np.ndarray:
    """Images for the attacker: people in random order, those with two images or more first."""
    rng = np.random.default_rng(seed + 1)
    groups = _by_person(faces, images)
    people = sorted(groups)
    order = [people[i] for i in rng.permutation(len(people))]
    order.sort(key=lambda person: len(groups[person]) < 2)
    chosen = [groups[person][:ATTACKER_PHOTOS] for person in order]
    return np.sort(np.concatenate([*chosen, np.empty(0, dtype=int)])[: sizes.attacker_images])


def _by_person(faces: FaceSet, images: np.ndarray) -> dict[str, np.ndarray]:
    groups: dict[str, list[int]] = {}
    for image in images:
        groups.setdefault(faces.records[int(image)].person, []).append(int(image))
    return {person: np.array(members) for person, members in groups.items()}


def _pairs(faces: FaceSet, images: Sequence[int] | np.ndarray, sizes: Sizes, seed: int) -> Pairs:
    """All mated pairs of these images and at most `sizes.nonmated` others, as indices into faces."""
    images = np.asarray(images)
    people = [faces.records[int(i)].person for i in images]
    local = all_pairs(people, max_nonmated=sizes.nonmated, seed=seed)
    return Pairs(images[local.first], images[local.second], local.same)
