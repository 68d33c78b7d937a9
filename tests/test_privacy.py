"""Pairs, statistics on raw scores, and rungs A1 and A2 with cameras whose answer is known."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.privacy import statistics
from opticaldr.privacy.statistics import Scores
from opticaldr.privacy.verification import embed_all, run_rung, score_rung, stretch_contrast
from opticaldr.types import FaceRecord, InputError


def scores_of(mated: np.ndarray, nonmated: np.ndarray) -> Scores:
    """Scores whose pairs share nobody: every mated pair its own person, and so on."""
    m, n = len(mated), len(nonmated)
    strangers = m + np.arange(2 * n).reshape(n, 2)
    return Scores(np.asarray(mated, float), np.asarray(nonmated, float), np.arange(m), strangers)


def labels_and_values(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    labels = np.r_[np.ones(len(scores.mated)), np.zeros(len(scores.nonmated))]
    return labels, np.r_[scores.mated, scores.nonmated]


# Pairs


def test_all_pairs_lists_every_pair_of_a_small_set() -> None:
    pairs = all_pairs(["a", "b", "a", "c", "b"], max_nonmated=100, seed=0)
    found = {(int(i), int(j)): bool(s) for i, j, s in zip(*vars(pairs).values(), strict=True)}
    people = "abacb"
    assert found == {(i, j): people[i] == people[j] for i in range(5) for j in range(i + 1, 5)}
    assert pairs.images.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("limit", [50, 5000])  # drawn with rejection, drawn from the full list
def test_nonmated_draw_is_distinct_repeatable_and_truly_nonmated(limit: int) -> None:
    people = [f"p{i // 3}" for i in range(120)]
    pairs = all_pairs(people, max_nonmated=limit, seed=3)
    other = pairs.same == 0
    assert other.sum() == limit
    assert (~other).sum() == 40 * 3
    assert len({(int(i), int(j)) for i, j in zip(pairs.first, pairs.second, strict=True)}) == len(
        pairs
    )
    assert all(
        (people[i] == people[j]) == s
        for i, j, s in zip(pairs.first, pairs.second, pairs.same, strict=True)
    )
    assert pairs.sha256 == all_pairs(people, max_nonmated=limit, seed=3).sha256
    assert pairs.sha256 != all_pairs(people, max_nonmated=limit, seed=4).sha256


@pytest.mark.parametrize("people", [["a", "b", "c"], ["a", "a"], []])
def test_sets_without_both_kinds_of_pair_are_refused(people: list[str]) -> None:
    with pytest.raises(InputError, match="mated"):
        all_pairs(people, max_nonmated=10, seed=0)


# Statistics


def test_auc_equals_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores = scores_of(rng.integers(2, 9, 300), rng.integers(0, 7, 500))
    found = statistics.value(statistics.auc, scores)
    assert found == pytest.approx(roc_auc_score(*labels_and_values(scores)), abs=1e-12)  # float64


def test_rates_equal_scikit_learns_curve() -> None:
    rng = np.random.default_rng(1)
    scores = scores_of(rng.normal(1.5, 1, 2000), rng.normal(0, 1, 1000))
    fpr, tpr, _ = roc_curve(*labels_and_values(scores), drop_intermediate=False)
    for rate in (1e-2, 1e-3):  # both are rates that 1,000 non-mated scores can meet exactly
        expected = tpr[np.flatnonzero(fpr <= rate + 1e-12)[-1]]
        found = statistics.value(statistics.true_positive_rate(rate), scores)
        assert found == pytest.approx(expected, abs=1e-9)
        ratio = statistics.value(statistics.leak_ratio(rate), scores)
        assert ratio == pytest.approx(expected / rate, rel=1e-9)
    expected = fpr[np.argmin(abs(fpr - (1 - tpr)))]
    found = statistics.value(statistics.equal_error_rate, scores)
    assert found == pytest.approx(expected, abs=1e-3)  # one step of the curve
    assert found == pytest.approx(norm.cdf(-0.75), abs=0.02)  # EER = Phi(-d'/2), sampling error


def test_collapsed_scores_are_still_told_apart() -> None:
    """Blur squeezes all cosines together; a grid of thresholds would call this chance."""
    rng = np.random.default_rng(2)
    scores = scores_of(1 - 1e-8 * rng.random(100), 1 - 1e-7 - 1e-8 * rng.random(100))
    assert statistics.value(statistics.auc, scores) == 1
    assert statistics.value(statistics.true_positive_rate(1e-3), scores) == 1
    assert statistics.value(statistics.equal_error_rate, scores) == 0


def test_constant_scores_are_chance_in_every_metric() -> None:
    scores = scores_of(np.ones(70), np.ones(90))
    assert statistics.value(statistics.auc, scores) == 0.5
    assert statistics.value(statistics.equal_error_rate, scores) == 0.5
    assert statistics.value(statistics.leak_ratio(1e-3), scores) == pytest.approx(1)


def test_leak_ratio_finds_the_few_whom_the_auc_averages_away() -> None:
    """2 % perfectly recognisable, the rest at chance: AUC 0.5 + 0.02/2, TPR at 1e-3 0.021."""
    grid = norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    exposed = np.r_[np.full(204, 9.0), grid]
    scores = scores_of(exposed, grid)
    assert statistics.value(statistics.auc, scores) == pytest.approx(0.51, abs=1e-3)  # 204/10,204
    assert statistics.value(statistics.leak_ratio(1e-3), scores) == pytest.approx(21, abs=0.5)


def independent_interval(scores: Scores) -> tuple[float, float]:
    """95 % interval of the AUC as if all pairs were independent (DeLong et al. 1988; no ties)."""
    above = np.searchsorted(np.sort(scores.nonmated), scores.mated) / len(scores.nonmated)
    below = 1 - np.searchsorted(np.sort(scores.mated), scores.nonmated) / len(scores.mated)
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    return above.mean() - 1.96 * variance**0.5, above.mean() + 1.96 * variance**0.5


def simulated(rng: np.random.Generator, *, people: int, images: int, lift: float) -> Scores:
    """True AUC 0.5, but some people's mated scores run high and others' low (std `lift`)."""
    each = images * (images - 1) // 2
    person = np.repeat(np.arange(people), each)
    mated = lift * rng.normal(size=people)[person] + rng.normal(size=len(person))
    strangers = rng.integers(people, size=(1000, 2))
    strangers = strangers[strangers[:, 0] != strangers[:, 1]]
    spread = math.hypot(lift, 1)
    return Scores(mated, spread * rng.normal(size=len(strangers)), person, strangers)


def test_identity_bootstrap_covers_the_truth_where_independent_pairs_do_not() -> None:
    rng = np.random.default_rng(0)
    covered = {"people": 0, "pairs": 0}
    for trial in range(60):
        scores = simulated(rng, people=50, images=8, lift=1.0)
        figure = statistics.bootstrap(statistics.auc, scores, replicates=200, seed=trial)
        for kind, (low, high) in (
            ("people", figure.ci95),
            ("pairs", independent_interval(scores)),
        ):
            covered[kind] += low <= 0.5 <= high
    # At a true coverage of 0.95, 50 or fewer of 60 happen with probability 3e-4; as if pairs were
    # independent the coverage is about 0.5, and 42 or more happen with probability 1e-3.
    assert covered["people"] > 50
    assert covered["pairs"] < 42


def test_planted_signal_lies_in_the_interval() -> None:
    rng = np.random.default_rng(4)
    scores = scores_of(rng.normal(0.545, 1, 3000), rng.normal(0, 1, 3000))
    figure = statistics.bootstrap(statistics.auc, scores, replicates=400, seed=0)
    assert figure.ci95[0] < norm.cdf(0.545 / math.sqrt(2)) < figure.ci95[1]  # AUC = Phi(d'/sqrt 2)
    # Standard error of 3,000 + 3,000 independent pairs: 0.0070. Non-mated pairs with two people each
    # weigh w_i w_j, which triples their half of the variance: conservative by sqrt 2.
    assert figure.ci95[1] - figure.ci95[0] == pytest.approx(2 * 1.96 * 0.0070 * 2**0.5, rel=0.15)
    assert figure.n == 6000


def test_permuted_labels_are_chance() -> None:
    rng = np.random.default_rng(5)
    scores = scores_of(rng.normal(3, 1, 400), rng.normal(0, 1, 400))
    control = statistics.permuted(scores, seed=1)
    figure = statistics.bootstrap(statistics.auc, control, replicates=300, seed=0)
    assert figure.ci95[0] < 0.5 < figure.ci95[1]
    assert sorted(np.r_[control.mated, control.nonmated]) == sorted(
        np.r_[scores.mated, scores.nonmated]
    )


def test_bootstrap_of_lfw_size_takes_seconds() -> None:
    scores = simulated(np.random.default_rng(0), people=3000, images=2, lift=0.5)
    begin = time.process_time()
    statistics.bootstrap(statistics.auc, scores, replicates=2000, seed=0)
    assert time.process_time() - begin < 10  # measured 0.4 s


# Rungs


class Thumbnail:
    """Recogniser of these tests: the centred 8x8 thumbnail, normalised."""

    name = "thumbnail"
    differentiable = True

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        small = F.adaptive_avg_pool2d(photos, 8).flatten(1)
        return F.normalize(small - small.mean(dim=1, keepdim=True), dim=1)


def identity_camera(scene: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    return scene


def grey_camera(scene: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    return torch.full_like(scene, 0.25)


def noise_camera(scene: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(scene.shape, generator=generator)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """30 people of 3 images: a random mirror-symmetric pattern each, plus noise and other light."""
    records = tuple(FaceRecord(f"{p}-{i}", f"p{p}") for p in range(30) for i in range(3))

    def read(record: FaceRecord) -> np.ndarray:
        person, image = map(int, record.key.split("-"))
        base = np.random.default_rng(person).uniform(0, 1, (8, 4, 3))
        base = np.concatenate([base, base[:, ::-1]], axis=1)
        rng = np.random.default_rng(100 + 10 * person + image)
        noisy = base + rng.normal(0, 0.5, base.shape)
        scaled = 128 + rng.uniform(20, 50) * (noisy - 0.5)
        return np.kron(scaled.clip(0, 255), np.ones((5, 5, 1))).astype(np.uint8)

    return FaceSet("patterns", records, read, synthetic=True)


@pytest.fixture(scope="module")
def pairs(faces: FaceSet) -> Pairs:
    return all_pairs([r.person for r in faces.records], max_nonmated=10_000, seed=0)


def attack(rung, camera, faces, pairs, *, seed=0, scene_size=40):
    return run_rung(
        rung,
        capture=camera,
        recogniser=Thumbnail(),
        faces=faces,
        pairs=pairs,
        scene_size=scene_size,
        generator=torch.Generator().manual_seed(seed),
        batch_size=16,
        bootstrap=200,
    )


@pytest.mark.parametrize("rung", ["A1", "A2"])
def test_a_camera_that_hides_nothing_gives_the_clean_auc(rung, faces, pairs) -> None:
    result = attack(rung, identity_camera, faces, pairs)
    assert result.captured_auc == result.clean_auc
    assert 0.8 < result.clean_auc.value < 1  # neither chance nor saturated: the test can fail
    assert (result.pairs, result.people) == (len(pairs), 30)


@pytest.mark.parametrize("rung", ["A1", "A2"])
def test_a_camera_that_shows_nothing_gives_exactly_chance(rung, faces, pairs) -> None:
    result = attack(rung, grey_camera, faces, pairs)
    assert result.captured_auc.value == 0.5
    assert result.captured_auc.ci95 == (0.5, 0.5)


@pytest.mark.parametrize("rung", ["A1", "A2"])
def test_pure_noise_and_permuted_labels_are_chance(rung, faces, pairs) -> None:
    result = attack(rung, noise_camera, faces, pairs)
    low, high = result.captured_auc.ci95
    assert low < 0.5 < high
    control = attack(rung, identity_camera, faces, pairs).permuted_auc
    assert control.ci95[0] < 0.5 < control.ci95[1]


def test_parrot_sees_through_a_camera_that_defeats_the_naive_attacker(faces, pairs) -> None:
    """A fixed shuffle of the picture keeps identity; only an attacker with two captures sees it."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))

    def shuffle(scene: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        blocks = F.unfold(scene, 5, stride=5)
        return F.fold(blocks[..., order], scene.shape[-2:], 5, stride=5)

    naive, parrot = attack("A1", shuffle, faces, pairs), attack("A2", shuffle, faces, pairs)
    assert naive.captured_auc.value < 0.6
    assert parrot.captured_auc.value > 0.75


def test_the_capture_is_repeatable_and_each_picture_has_its_own_noise(faces, pairs) -> None:
    first, again, other = (
        attack("A2", noise_camera, faces, pairs, seed=s).scores.mated for s in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.max() < 0.99  # two images with the same noise would score 1


def test_rungs_share_embeddings_and_report_progress(faces, pairs) -> None:
    seen = []
    embeddings = embed_all(
        faces,
        pairs.images,
        capture=noise_camera,
        recogniser=Thumbnail(),
        scene_size=32,
        generator=torch.Generator().manual_seed(0),
        batch_size=40,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(40, 90), (80, 90), (90, 90)]
    rows = [
        score_rung(rung, embeddings, faces, pairs, bootstrap=50, seed=0).to_json(lens="none")
        for rung in ("A1", "A2")
    ]
    assert rows[0]["clean_auc"] == rows[1]["clean_auc"]
    assert rows[0]["captured_auc"] != rows[1]["captured_auc"]
    assert json.loads(json.dumps(rows[0], allow_nan=False)) == rows[0]
    assert {"rung", "recogniser", "lens", "pairs", "people"} <= set(rows[0])
    assert set(rows[0]["captured_auc"]) == {"value", "ci95", "n"}


def test_contrast_stretch_undoes_exposure_and_survives_a_flat_picture() -> None:
    photo = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    dim = 0.1 * photo + 0.3
    # float32 of a tenfold amplified picture
    torch.testing.assert_close(stretch_contrast(dim), stretch_contrast(photo), atol=1e-5, rtol=0)
    assert stretch_contrast(photo).mean().item() == pytest.approx(0.5, abs=1e-2)  # clipping
    assert torch.equal(stretch_contrast(torch.full_like(photo, 0.5)), torch.full_like(photo, 0.5))


def test_broken_embeddings_are_named(faces, pairs) -> None:
    def broken(scene: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        return scene * math.nan

    with pytest.raises(InputError, match="Expected finite embeddings, found NaN"):
        attack("A1", broken, faces, pairs)
