"""Rung A9, the closed cohort, and side track S, soft biometrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from attackers import Correlation, Darkness
from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import all_pairs
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import CameraUnderAttack, NoiseLaw, Optics, PlainBlur
from opticaldr.privacy.evidence import TraitReading
from opticaldr.privacy.rungs.insider import deal, insider, likeness, ranks_in
from opticaldr.privacy.rungs.traits import SKIN_TONE, probe_images, traits, typology_angle
from opticaldr.privacy.tiers import TIERS
from opticaldr.privacy.traits import accuracy_gain, balanced_accuracy

SIZE = 32


@pytest.fixture(scope="module")
def people(draw_faces: Callable[..., FaceSet]) -> FaceSet:
    """70 drawn people, four photos each; 'light' belongs to the photo, 'odd' to the person."""
    faces = draw_faces(range(70), 4)
    records = tuple(
        replace(r, attributes=(*r.attributes, float(int(r.person[1:]) % 2))) for r in faces.records
    )
    return replace(faces, records=records, attribute_names=("light", "odd"))


def arena_of(faces: FaceSet, optics: Optics, *, seed: int = 0, noise: float = 0.03) -> Arena:
    """The first 40 people are for the test, 30 are the attacker's."""
    pairs = all_pairs([r.person for r in faces.records[:160]], max_nonmated=2000, seed=0)
    return Arena(
        camera=CameraUnderAttack(optics.label, optics, NoiseLaw(noise)),
        faces=faces,
        test=pairs,
        attacker=np.arange(160, 280),
        judges=(Correlation(),),
        scene_size=SIZE,
        seed=seed,
        tier=replace(TIERS["smoke"], frames=(1, 30)),
    )


def silent(what: str, done: int, total: int) -> None:
    pass


# A9


@pytest.mark.parametrize(("people", "size"), [(100, 20), (47, 20), (24, 24), (41, 20)])
def test_everyone_is_tried_once_in_a_full_cohort(people: int, size: int) -> None:
    cohorts = deal(people, size, torch.Generator().manual_seed(0))
    assert all(len(set(members.tolist())) == size for members, _ in cohorts)
    assert all(set(tried.tolist()) <= set(members.tolist()) for members, tried in cohorts)
    assert sorted(np.concatenate([tried for _, tried in cohorts]).tolist()) == list(range(people))


def test_likeness_is_the_mean_over_the_other_pictures() -> None:
    rng = np.random.default_rng(0)
    probe, enrolled = rng.standard_normal((2, 9, 5))
    person = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2])
    found = likeness(probe, enrolled, person)
    for i in range(9):
        for p in range(3):
            others = [j for j in range(9) if person[j] == p and j != i]
            expected = np.mean([probe[i] @ enrolled[j] for j in others])
            assert found[i, p] == pytest.approx(expected, abs=1e-12)


def test_ranks_count_better_people_and_half_of_the_ties() -> None:
    stack = np.array([[[0.9, 0.1, 0.5], [0.2, 0.2, 0.2], [0.3, 0.8, 0.1]]])
    cohorts = [(np.array([2, 0, 1]), np.array([2, 0, 1]))]
    rank, tried = ranks_in(cohorts, stack, np.ones(1), np.array([0, 1, 2]))
    assert tried.tolist() == [0, 1, 2]
    assert rank.tolist() == [1, 2, 3]  # alone in front; one of three equals; behind two


def test_an_insider_finds_people_behind_a_weak_blur(people: FaceSet) -> None:
    arena = arena_of(people, PlainBlur("gaussian", 0.05, SIZE))
    found = {(f.variant, f.frames): f for f in insider(arena, progress=silent)}
    assert {f.cohort for f in found.values()} == {20, 40}  # 84 and 100 shrink to all there are
    for finding in found.values():
        assert len(finding.rank) == 160  # every picture of everyone
        assert np.bincount(finding.person).tolist() == [4] * 40
        assert finding.rank.min() >= 1
        assert finding.rank.max() <= finding.cohort
    fusion = found["fusion, 40 people", 30]
    assert np.mean(fusion.rank == 1) > 0.9
    assert fusion.facts["enrolled_each"] == 3.0
    assert (
        len(fusion.facts["weights"]) == 6
    )  # of which one, the trait of the person, acts here only
    assert not any("traits" in variant for variant, _ in found)


def test_fusion_is_no_worse_than_most_of_what_it_fuses(people: FaceSet) -> None:
    arena = arena_of(people, PlainBlur("disc", 0.4, SIZE), noise=0.05)
    found = {(f.variant, f.frames): f for f in insider(arena, progress=silent)}
    single = [
        np.mean(f.rank == 1) for (v, n), f in found.items() if "40" in v and "fusion" not in v
    ]
    fused = np.mean(found["fusion, 40 people", 30].rank == 1)
    assert fused > np.median(single)
    assert fused > 5 / 40  # five times chance


def test_a_black_record_ranks_at_random(people: FaceSet) -> None:
    for finding in insider(arena_of(people, Darkness()), progress=silent):
        places = (np.arange(finding.cohort) + 0.5) / finding.cohort
        mean = np.mean((finding.rank - 0.5) / finding.cohort)
        # 160 uniform places have a mean of 0.5 +- 0.023; pictures of one person go together
        # (design effect of up to 4), hence 3.5 times twice that
        assert abs(mean - places.mean()) < 0.16, finding.variant
        assert np.mean(finding.rank == 1) < 1 / finding.cohort + 0.08


def test_insider_and_traits_depend_on_the_seed_alone(people: FaceSet) -> None:
    arena = arena_of(people, PlainBlur("disc", 0.4, SIZE))
    for rung in (insider, traits):
        once, again = (list(rung(arena, progress=silent)) for _ in range(2))
        assert len(once) == len(again) > 0
        for a, b in zip(once, again, strict=True):
            assert (a.variant, a.frames) == (b.variant, b.frames)
            kind = "guess" if isinstance(a, TraitReading) else "rank"
            assert (getattr(a, kind) == getattr(b, kind)).all()
    other = list(insider(replace(arena, seed=1), progress=silent))
    first = list(insider(arena, progress=silent))
    assert any((a.rank != b.rank).any() for a, b in zip(first, other, strict=True))


# S


def test_traits_that_a_blur_keeps_are_read(people: FaceSet) -> None:
    arena = arena_of(people, PlainBlur("gaussian", 0.3, SIZE))
    found = {(f.trait, f.variant, f.frames): f for f in traits(arena, progress=silent)}
    light = found["light", "pixels", 1]
    assert light.classes == ("not light", "light")
    assert len(light.truth) == 80  # two photos of 40 people
    gain = accuracy_gain(light, replicates=200, seed=0)
    assert gain.ci95[0] > 0.2  # a half of the face is 50 of 255 levels brighter
    # whether a person's number is odd stands in no picture
    odd = [accuracy_gain(f, replicates=200, seed=0) for (t, _, _), f in found.items() if t == "odd"]
    assert len(odd) == 7
    assert all(gain.ci95[0] < 0.05 for gain in odd)


def test_permuted_labels_give_no_gain(people: FaceSet) -> None:
    """Means over permutations: a single 95 % interval misses 0 once in twenty times."""
    means = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(people))
        records = tuple(
            replace(record, attributes=people.records[other].attributes)
            for record, other in zip(people.records, order, strict=True)
        )
        arena = arena_of(replace(people, records=records), PlainBlur("gaussian", 0.3, SIZE))
        (found,) = [
            f
            for f in traits(arena, progress=silent)
            if (f.trait, f.variant, f.frames) == ("light", "pixels", 1)
        ]
        means.append(accuracy_gain(found, replicates=50, seed=0).value)
    # 80 readings: standard deviation .056 each, .028 of the mean of four
    assert abs(np.mean(means)) < 0.085


def test_traits_known_of_few_people_are_left_out(people: FaceSet) -> None:
    def shown(known: int) -> set[str]:
        records = tuple(
            replace(r, attributes=r.attributes if int(r.person[1:]) % 35 < known else ())
            for r in people.records
        )
        arena = arena_of(replace(people, records=records), PlainBlur("gaussian", 0.3, SIZE))
        return {f.trait for f in traits(arena, progress=silent)}

    assert shown(35) == {"light", "odd", SKIN_TONE}
    assert shown(15) == {SKIN_TONE}  # 20 of the 40 test people, but only 10 of the attacker's


def test_typology_angle_of_known_colours() -> None:
    """L* = 70, b* = 15 is 53.1 degrees: light skin; L* = 35, b* = 15 is -45: dark skin."""

    def linear(lightness: float, yellow: float) -> list[float]:
        f = (lightness + 16) / 116
        cube = np.array([f, f, f - yellow / 200])  # a* = 0
        xyz = cube**3 * (0.9505, 1.0, 1.089)
        to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        return np.linalg.solve(to_xyz, xyz).tolist()

    scene = torch.tensor([linear(70, 15), linear(35, 15)])[:, :, None, None].expand(2, 3, 40, 40)
    assert typology_angle(scene) == pytest.approx([53.13, -45.0], abs=0.01)


def test_the_thirds_of_skin_tone_are_the_attackers(people: FaceSet) -> None:
    arena = arena_of(people, PlainBlur("gaussian", 0.05, SIZE))
    (found,) = [
        f
        for f in traits(arena, progress=silent)
        if (f.trait, f.variant, f.frames) == (SKIN_TONE, "pixels", 30)
    ]
    counts = np.bincount(found.truth, minlength=3)
    assert counts.min() > 5  # drawn faces differ in light alone, in both parts alike
    table = np.zeros((3, 3))
    np.add.at(table, (found.truth, found.guess), 1)
    assert balanced_accuracy(table) > 0.5  # the label is visible in a sharp picture; chance .33
    assert found.classes[0].startswith("darkest")
    brightness = [
        float(linear_to_srgb(scene).mean())
        for i in (0, 2)
        for scene in [_mean_scene(arena, found, i)]
    ]
    assert brightness[0] < brightness[1]


def _mean_scene(arena: Arena, found: TraitReading, code: int) -> torch.Tensor:
    """Mean cheek of the test pictures in one third."""
    images = probe_images(arena)[found.truth == code]
    scenes = torch.cat([scene for _, scene in arena.scenes(images)])
    return scenes[..., 17:22, 10:22]
