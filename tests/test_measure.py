"""Rows of the privacy card from findings of the ladder, and the eight traps of privacy.md 2.3."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.experiment import open_judges
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import CameraUnderAttack, NoiseLaw, NoLens
from opticaldr.privacy.evidence import Attempt, Identification, TraitReading
from opticaldr.privacy.intervals import require_supported
from opticaldr.privacy.measure import (
    measure,
    measure_identification,
    measure_trait,
    scores_of,
)
from opticaldr.privacy.multiplicity import max_statistic
from opticaldr.privacy.rungs.thumbnails import thumbnail_attempts
from opticaldr.privacy.tiers import TIERS
from opticaldr.types import FaceRecord, InputError

TIER = replace(TIERS["smoke"], bootstrap=60)
PEOPLE = [f"p{i // 4}" for i in range(96)]
"""The smoke tier: 24 people of four images."""


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return all_pairs(PEOPLE, max_nonmated=2000, seed=0)


def attempt(scores: np.ndarray, rank: np.ndarray | None = None, **facts: object) -> Attempt:
    rank = np.arange(1, 25) if rank is None else rank
    return Attempt("A4", "wiener, judge", 1, scores, rank, facts)


def signal(pairs: Pairs, gap: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(pairs)) + gap * pairs.same


def test_a_row_holds_every_figure_of_the_card(pairs: Pairs) -> None:
    row = measure(attempt(signal(pairs, 1.0), steps=7), pairs, PEOPLE, tier=TIER, seed=0)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["rung"], row["variant"], row["frames"]) == ("A4", "wiener, judge", 1)
    assert (row["pairs"], row["people"], row["facts"]) == (2144, 24, {"steps": 7})
    # d' 1 gives AUC .760, EER .309, FNMR .389 at FMR .1; 144 mated pairs: standard error .04
    assert row["auc"]["value"] == pytest.approx(0.76, abs=0.05)
    assert row["d_prime"]["value"] == pytest.approx(1.0, abs=0.2)
    for figure in (row["auc"], row["eer"], row["d_prime"], *row["fnmr"].values()):
        assert figure["ci95"][0] <= figure["value"] <= figure["ci95"][1]
    assert row["auc_free"]["lower95"] <= row["auc"]["value"] <= row["auc_free"]["upper95"]
    assert set(row["fnmr"]) == set(row["leak_ratio"]) == {"1e-1", "1e-2"}
    assert row["leak_ratio"]["1e-1"]["value"] == pytest.approx(
        (1 - row["fnmr"]["1e-1"]["value"]) / 0.1
    )
    assert row["leak_ratio_1e-3"] is None  # the smoke tier claims nothing there
    assert row["d_sys"]["value"] > row["d_sys"]["null_95"] > row["d_sys"]["null_mean"]
    assert row["permuted_auc"]["ci95"][0] < 0.5 < row["permuted_auc"]["ci95"][1]
    assert 0 < row["effective_pairs"] <= 2144
    assert not row["equivalence"]["shown"]


def test_rank_one_is_reported_at_the_cohort_that_the_people_allow(pairs: Pairs) -> None:
    row = measure(attempt(signal(pairs, 0)), pairs, PEOPLE, tier=TIER, seed=0)
    assert row["rank1"]["cohort"] == 10
    assert row["rank1"]["value"] == pytest.approx(0.1)  # every place of 24 once: chance
    assert row["rank1"]["chance"] == 0.1
    few = measure(attempt(signal(pairs, 0), np.ones(9, int)), pairs, PEOPLE, tier=TIER, seed=0)
    assert few["rank1"] is None
    many = attempt(signal(pairs, 0), np.ones(1500, int))
    found = measure(many, pairs, PEOPLE, tier=TIER, seed=0)
    assert found["rank1"]["cohort"] == 100  # the grades' cohort; 1000 stands under "cmc"
    assert {entry["cohort"] for entry in found["cmc"]} == {10, 100, 1000}
    assert found["rank1"]["value"] == 1
    assert found["rank1"]["ci95"][0] == pytest.approx(0.025 ** (1 / 1500))  # exact, not [1, 1]


def test_identical_pictures_are_chance_and_the_row_has_no_nan(pairs: Pairs) -> None:
    row = measure(attempt(np.ones(len(pairs))), pairs, PEOPLE, tier=TIER, seed=0)
    json.dumps(row, allow_nan=False)
    assert row["auc"] == {"value": 0.5, "ci95": [0.5, 0.5], "n": len(pairs)}
    assert row["effective_pairs"] is None
    assert row["worst_decile"]["p_worst_person"] == 1
    assert row["d_sys"]["excess"] == 0


def test_the_same_seed_gives_the_same_row(pairs: Pairs) -> None:
    rows = [measure(attempt(signal(pairs, 0.3)), pairs, PEOPLE, tier=TIER, seed=5) for _ in "ab"]
    assert rows[0] == rows[1]


def test_scores_that_do_not_fit_the_list_are_refused(pairs: Pairs) -> None:
    broken = signal(pairs, 0)
    broken[3] = np.nan
    with pytest.raises(InputError, match="finite scores, found NaN or infinity in 1 of"):
        scores_of(attempt(broken), pairs, PEOPLE)
    with pytest.raises(InputError, match="made for other records"):
        scores_of(attempt(signal(pairs, 0)), pairs, [*PEOPLE[::-1][1:], "p0"])


def test_identification_rows_state_chance_and_an_exact_interval() -> None:
    rank = np.r_[np.ones(21, int), np.full(63, 40)]
    row = measure_identification(
        Identification("A9", "three sessions", 30, 84, rank, np.arange(84), {"sessions": 3})
    )
    assert row["rank1"]["value"] == 0.25
    assert row["rank1"]["chance"] == pytest.approx(1 / 84)
    # Clopper-Pearson of 21 in 84, by binomtest
    assert row["rank1"]["ci95"] == pytest.approx([0.16189, 0.35637], abs=1e-4)
    assert row["cmc"][1]["place"] == 5
    assert row["facts"] == {"sessions": 3}


def test_trait_rows_are_zero_at_chance_and_one_bit_for_a_perfect_reader() -> None:
    person = np.repeat(np.arange(60), 3)
    truth = np.repeat(np.arange(60) % 2, 3)
    skewed = np.repeat((np.arange(60) < 6).astype(int), 3)

    def row(truth: np.ndarray, guess: np.ndarray) -> dict:
        reading = TraitReading("S", "lda", 1, "sex", ("f", "m"), truth, guess, person)
        return measure_trait(reading, tier=TIER, seed=0)

    perfect = row(truth, truth)
    assert perfect["gain"]["value"] == 0.5
    assert perfect["bits"]["value"] == pytest.approx(1)
    majority = row(skewed, np.zeros(180, int))  # 90 % right, and worth nothing
    assert majority["gain"]["value"] == 0
    assert majority["bits"]["value"] == 0
    guess = np.random.default_rng(0).integers(2, size=180)
    chance = row(truth, guess)
    assert chance["gain"]["ci95"][0] < 0 < chance["gain"]["ci95"][1]
    assert chance["bits"]["value"] < 2 * chance["bits"]["null_95"]
    json.dumps(chance, allow_nan=False)


def test_no_hit_is_no_proof_of_a_small_leak_ratio(pairs: Pairs) -> None:
    row = measure(attempt(-9.0 * pairs.same), pairs, PEOPLE, tier=TIER, seed=0)
    assert row["leak_ratio"]["1e-2"]["value"] == 0
    # 144 mated pairs: up to 3.65 of them by Clopper-Pearson, 1 - .025^(1/144), over the rate
    assert row["leak_ratio"]["1e-2"]["ci95"] == pytest.approx([0, 100 * (1 - 0.025 ** (1 / 144))])


# the eight traps of privacy.md 2.3


def test_trap_1_collapsed_scores_need_their_own_thresholds() -> None:
    """Unit vectors with one common mean: squared distances .0018 and .0036 on a grid of .01."""
    rng = np.random.default_rng(0)

    def of_length(length: float, count: int) -> np.ndarray:
        rows = rng.normal(size=(count, 512))
        return length * rows / np.linalg.norm(rows, axis=1, keepdims=True)

    people = [f"p{i // 2}" for i in range(600)]
    rows = of_length(1, 1) + np.repeat(of_length(0.03, 300), 2, axis=0) + of_length(0.03, 600)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    listed = all_pairs(people, max_nonmated=300, seed=0)
    distance = ((rows[listed.first] - rows[listed.second]) ** 2).sum(axis=1)
    assert np.median(distance[listed.same]) == pytest.approx(0.0018, abs=1e-4)
    assert np.median(distance[~listed.same]) == pytest.approx(0.0036, abs=1e-4)
    grid = max(((distance <= t) == listed.same).mean() for t in np.arange(0, 4, 0.01))
    assert grid == 0.5  # "chance"
    row = measure(attempt(-distance), listed, people, tier=TIER, seed=0)
    assert row["auc"]["value"] > 0.999
    assert row["eer"]["value"] < 0.01
    assert row["fnmr"]["1e-2"]["value"] < 0.01


def test_trap_2_a_rate_that_cannot_be_reached_is_refused_not_zero() -> None:
    people = [f"p{i // 2}" for i in range(40)]
    listed = all_pairs(people, max_nonmated=50, seed=0)
    row = measure(attempt(listed.same * 1.0), listed, people, tier=TIER, seed=0)
    assert row["fnmr"]["1e-1"]["value"] == 0  # a perfect attacker
    assert row["d_prime"] is None  # infinite: no number of JSON
    assert row["fnmr"]["1e-2"] is None  # 50 pairs say nothing about 1 %: null, not "TAR 0"
    assert row["leak_ratio"]["1e-2"] is None
    with pytest.raises(InputError, match="rule of three"):
        require_supported(1e-2, 50)


class Mean:
    """Recogniser: the picture's coarse pixels; NaN-free for a black picture."""

    name = "mean"
    differentiable = True

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(photos, 4).flatten(1)
        return torch.nn.functional.normalize(small + 1e-3, dim=1)


class LensCap(NoLens):
    """Optics that let no light through."""

    def __call__(self, scene: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(scene)


def arena_of(faces: FaceSet, people: int, optics: NoLens | None = None) -> Arena:
    """The first `people` are the test's, the others the attacker's."""
    names = [record.person for record in faces.records]
    split = [name in sorted(set(names), key=names.index)[:people] for name in names].count(True)
    return Arena(
        camera=CameraUnderAttack("test", optics or NoLens(), NoiseLaw()),
        faces=faces,
        test=all_pairs(names[:split], max_nonmated=500, seed=0),
        attacker=np.arange(split, len(names)),
        judges=(Mean(),),
        scene_size=32,
        seed=0,
        tier=TIER,
    )


def test_trap_3_failure_to_detect_is_no_privacy(draw_faces) -> None:
    """Even behind a lens cap every pair is scored; a list with gaps is refused."""
    arena = arena_of(draw_faces(range(12), 3), 8, LensCap())
    images = arena.test.images
    seen = arena.embed(arena.judges[0], images, arena.captured("test"))
    found = arena.attempt("A2", "black", seen, seen)
    people = [record.person for record in arena.faces.records]
    row = measure(found, arena.test, people, tier=TIER, seed=0)
    assert len(found.scores) == row["pairs"] == len(arena.test)
    assert row["auc"]["ci95"][0] < 0.5 < row["auc"]["ci95"][1]
    detected = replace(found, scores=found.scores[:-5])
    with pytest.raises(InputError, match=r"one score for each of .* undetected faces"):
        measure(detected, arena.test, people, tier=TIER, seed=0)


def test_trap_4_the_best_attacker_counts_not_the_average(pairs: Pairs) -> None:
    scores = [
        scores_of(attempt(signal(pairs, gap, seed)), pairs, PEOPLE)
        for seed, gap in enumerate((0, 0, 0.8, 0, 0))
    ]
    best = max_statistic(scores, replicates=200, seed=0)
    assert best.index == 2
    assert best.auc > 0.65
    assert best.p < 0.05
    assert best.null_mean > 0.5  # what the best of five is by chance


def test_trap_5_brightness_of_the_session_shows_in_the_thumbnails() -> None:
    """People told apart by their light alone: the 1 x 1 thumbnail must say so."""
    records = tuple(FaceRecord(f"{p}-{i}", f"p{p}") for p in range(30) for i in range(3))

    def read(record: FaceRecord) -> np.ndarray:
        person, image = map(int, record.key.split("-"))
        rng = np.random.default_rng([person, image])
        return (60 + 4 * person + rng.normal(0, 20, (32, 32, 3))).clip(0, 255).astype(np.uint8)

    arena = arena_of(FaceSet("lights", records, read, synthetic=True), 20)
    found = thumbnail_attempts(arena, sides=(1,))[1]
    people = [record.person for record in records]
    row = measure(found, arena.test, people, tier=TIER, seed=0)
    assert row["auc"]["value"] > 0.9  # no face, no identity: only the session


def test_trap_6_people_of_the_test_cannot_train_the_attacker(draw_faces) -> None:
    arena = arena_of(draw_faces(range(6), 3), 4)
    with pytest.raises(InputError, match="other people than the test's, found 1 in both"):
        replace(arena, attacker=np.arange(11, 18))


def test_trap_7_a_camera_without_noise_is_refused() -> None:
    with pytest.raises(InputError, match="without noise says nothing about privacy"):
        NoiseLaw(read_noise=0.0)


def test_trap_8_a_recogniser_of_the_training_loss_cannot_judge() -> None:
    with pytest.raises(InputError, match="was not trained against, found 'fr_feature'"):
        open_judges(["fr_feature"], ("fr_feature",))
