"""Metrics, intervals and nulls of the attack ladder against closed forms, scikit-learn and counting."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.special import gammaln
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from opticaldr.data.pairs import Pairs
from opticaldr.privacy import statistics
from opticaldr.privacy.curve import Curve
from opticaldr.privacy.det import det_curve
from opticaldr.privacy.identification import match_rate, match_rates
from opticaldr.privacy.intervals import (
    Estimate,
    effective_pairs,
    equivalence,
    estimates,
    free_direction,
    independent_variance,
    proportion_interval,
    require_supported,
    supports,
)
from opticaldr.privacy.multiplicity import max_statistic
from opticaldr.privacy.per_person import per_person, without_picture_effects
from opticaldr.privacy.statistics import Scores
from opticaldr.privacy.unlinkability import linkability, linkage
from opticaldr.types import InputError

RATES = (1e-1, 1e-2)


def strangers(mated: np.ndarray, nonmated: np.ndarray) -> Scores:
    """Scores whose pairs share nobody."""
    m, n = len(mated), len(nonmated)
    people = m + np.arange(2 * n).reshape(n, 2)
    return Scores(np.asarray(mated, float), np.asarray(nonmated, float), np.arange(m), people)


def binormal(gap: float, count: int) -> Scores:
    """Exact normal quantiles, `gap` standard deviations apart, of 60 people."""
    grid = norm.ppf((np.arange(count) + 0.5) / count)
    rng = np.random.default_rng(0)
    first = rng.integers(60, size=count)
    people = np.stack([first, (first + rng.integers(1, 60, size=count)) % 60], axis=1)
    return Scores(grid + gap, grid, rng.integers(60, size=count), people)


def named(scores: Scores, **options) -> dict[str, float]:
    curve = Curve(scores, rates=RATES, **options)
    ones = np.ones((1, len(scores.mated))), np.ones((1, len(scores.nonmated)))
    return dict(zip(curve.names, curve(*ones)[0].tolist(), strict=True))


@pytest.fixture(scope="module")
def calibration():
    """The experiment's simulated designs, whose truth is known."""
    path = Path(__file__).parents[1] / "experiments" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # dataclasses look their module up by name
        patch.setitem(__import__("sys").modules, "calibration", module)
        spec.loader.exec_module(module)
        yield module


# metrics


def test_the_shared_curve_equals_each_metric_on_its_own_under_any_weights() -> None:
    rng = np.random.default_rng(0)
    scores = strangers(rng.integers(2, 40, 300), rng.integers(0, 35, 500))  # many ties
    curve = Curve(scores, rates=RATES)
    weights = rng.poisson(1.0, (5, 300)), rng.poisson(1.0, (5, 500))
    found = curve(*weights)
    for column, statistic in (
        (0, statistics.auc),
        (1, statistics.equal_error_rate),
        (4, statistics.true_positive_rate(1e-1)),
        (5, statistics.true_positive_rate(1e-2)),
    ):
        expected = statistic(curve.scores, *weights)
        expected = 1 - expected if column >= 4 else expected
        np.testing.assert_allclose(found[:, column], expected, atol=1e-12)  # float64 sums


def test_binormal_scores_give_the_textbook_values() -> None:
    """AUC = Phi(d'/root 2), EER = Phi(-d'/2); privacy.md 7.4: accuracy .70 is d' 1.049, AUC .771."""
    gap = 2 * norm.ppf(0.70)
    found = named(binormal(gap, 20_000))
    assert gap == pytest.approx(1.049, abs=5e-4)  # as printed there
    # quantiles instead of an integral: errors of the order 1/20,000
    assert found["auc"] == pytest.approx(0.771, abs=5e-4)
    assert found["eer"] == pytest.approx(0.30, abs=1e-3)
    assert found["d_prime"] == pytest.approx(gap, abs=1e-3)
    assert found["fnmr@0.01"] == pytest.approx(norm.cdf(norm.isf(0.01) - gap), abs=1e-3)
    # picked on 30 people, judged on 30: within sampling error of 2 Phi(d'/2) - 1
    assert found["advantage"] == pytest.approx(0.40, abs=0.02)
    assert 1 - named(binormal(0.545, 20_000))["fnmr@0.01"] == pytest.approx(0.0374, abs=5e-4)


def test_advantage_is_not_biased_up_at_chance_and_knows_both_directions() -> None:
    rng = np.random.default_rng(0)
    found, greedy = [], []
    for seed in range(40):
        scores = replace(binormal(0, 400), mated=rng.normal(size=400))
        found.append(named(scores, seed=seed)["advantage"])
        fall, rise = np.sort(scores.mated), np.sort(scores.nonmated)
        at = np.concatenate([fall, rise])
        gap = np.searchsorted(fall, at) / 400 - np.searchsorted(rise, at) / 400
        greedy.append(np.abs(gap).max())
    assert np.mean(greedy) > 0.04  # what the threshold that fits the scores best claims
    assert abs(np.mean(found)) < 0.02  # standard deviation .05 of one, /root 40, times 2.5
    assert named(binormal(-1.0, 2000))["advantage"] > 0.3  # AUC .24: the attacker turns it round


def test_constant_scores_are_chance_and_no_error() -> None:
    scores = strangers(np.ones(70), np.ones(90))
    found = named(scores)
    assert (found["auc"], found["eer"], found["d_prime"], found["advantage"]) == (0.5, 0.5, 0, 0)
    assert found["fnmr@0.01"] == pytest.approx(0.99)
    area = estimates(Curve(scores).auc, scores, replicates=50, seed=0)[0]
    assert (area.limit(0.025), area.limit(0.975)) == (0.5, 0.5)
    assert math.isnan(effective_pairs(scores, area))
    assert linkability(scores, seed=0).value == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match="Expected finite scores, found NaN or infinity in 1 of 5"):
        strangers(np.array([0.1, wrong]), np.zeros(3))


def test_one_kind_of_pair_alone_is_refused() -> None:
    with pytest.raises(InputError, match="mated and non-mated scores, found 3 and 0"):
        strangers(np.ones(3), np.ones(0))


# intervals


def test_pairs_without_common_people_get_the_independent_interval() -> None:
    """Where nobody is shared the corrected bootstrap must equal DeLong; the plain one is root 2 wider."""
    rng = np.random.default_rng(4)
    scores = strangers(rng.normal(0.545, 1, 3000), rng.normal(0, 1, 3000))
    curve = Curve(scores)
    area = estimates(curve.auc, curve.scores, replicates=1000, seed=0)[0]
    # variance of 1,000 replicates: 4 %, and the subtraction of 2/4 of it doubles that
    assert area.variance == pytest.approx(independent_variance(scores), rel=0.2)
    assert np.var(area.replicates) == pytest.approx(2 * independent_variance(scores), rel=0.15)
    assert effective_pairs(scores, area) == pytest.approx(6000, rel=0.2)


def test_independent_variance_is_the_table_of_2_4() -> None:
    """SE at chance = root((2m + 1) / 12 m^2): .0075 at LFW size; .51 observed is .522 one-sided."""
    rng = np.random.default_rng(0)
    error = math.sqrt(independent_variance(strangers(rng.normal(size=3000), rng.normal(size=3000))))
    assert error == pytest.approx(math.sqrt(6001 / 12) / 3000, rel=0.02)  # sampled, not at .5
    assert 0.51 + 1.645 * error == pytest.approx(0.522, abs=5e-4)
    assert 0.5 + 2.486 * error == pytest.approx(0.519, abs=1e-3)


def test_people_that_run_high_together_cost_effective_pairs(calibration) -> None:
    design = calibration.Design(84, 10, 1.0)
    pairs = design.pairs
    scores = design.scores(design.draw(np.random.default_rng(0), pairs), pairs)
    curve = Curve(scores)
    area = estimates(curve.auc, curve.scores, replicates=300, seed=0)[0]
    # DeLong covers .42 there: its standard error is about 3.5 times too small, so n is 12 times less
    assert 300 < effective_pairs(scores, area) < 1200


def test_the_same_seed_draws_the_same_people_for_any_number_of_pairs() -> None:
    scores = binormal(0.5, 3000)
    twice = Scores(*(np.concatenate([part, part]) for part in vars(scores).values()))
    once, doubled = (
        estimates(Curve(s).auc, Curve(s).scores, replicates=300, seed=3)[0] for s in (scores, twice)
    )
    np.testing.assert_allclose(once.replicates, doubled.replicates, atol=1e-12)  # float64 sums


def test_intervals_cover_at_their_rate_and_private_is_rarely_wrong(calibration) -> None:
    """The experiment with fewer sets; it has 200 of each design and the wider tolerances here 60."""
    for design in (calibration.Design(84, 10, 0.5), calibration.Design(50, 8, 1.0)):
        found = calibration.auc_calibration(design, sets=60, seed=2, replicates=200)
        # of 60 at a true .95, 51 or fewer happen with probability .006
        assert found["corrected"] * 60 > 51
        # as if pairs were independent: .6 and .48; 50 or more of 60 have probability 1e-4 at .63
        assert found["pairs"] * 60 < 50
        # of 60 at a true .05, 9 or more happen with probability .005
        assert found["private"] * 60 < 9
        assert found["leaks"] * 60 < 9


def test_both_directions_of_a_leak_have_the_same_limits() -> None:
    rng = np.random.default_rng(1)
    scores = strangers(rng.normal(0.2, 1, 500), rng.normal(size=500))
    turned = replace(scores, mated=-scores.mated, nonmated=-scores.nonmated)
    up, down = (
        free_direction(estimates(Curve(s).auc, s, replicates=200, seed=0)[0])
        for s in (scores, turned)
    )
    # the turned scores are sorted the other way round: other people get the same weights
    assert down.value == pytest.approx(up.value, abs=1e-12)
    assert down.upper95 == pytest.approx(up.upper95, abs=0.01)
    assert up.lower95 <= up.value <= up.upper95


def test_a_fold_at_chance_never_hides_the_uncertainty() -> None:
    """At AUC exactly .5 the folded value cannot fall, but its upper limit must stay above."""
    area = Estimate(0.5, np.linspace(0.4, 0.6, 201), 1.0, 200, 1000, (0.0, 1.0))
    free = free_direction(area)
    assert (free.value, free.lower95) == (0.5, 0.5)
    assert free.upper95 == pytest.approx(0.59, abs=0.002)  # its 95 % quantile, t and 200 people


def test_equivalence_is_said_with_its_limit_and_never_as_not_significant() -> None:
    close, wide = (
        free_direction(Estimate(0.51, 0.51 + width * np.linspace(-1, 1, 99), 1.0, 500, 9000))
        for width in (0.01, 0.08)
    )
    yes, no = (equivalence(free, margin=0.05) for free in (close, wide))
    assert yes.shown
    assert "equivalent to chance within the margin of 0.05" in yes.sentence
    assert f"{close.upper95:.3f}" in yes.sentence
    assert not no.shown
    assert "is not shown" in no.sentence
    assert "significant" not in (yes.sentence + no.sentence)


def test_the_rule_of_three_refuses_rates_that_the_pairs_cannot_support() -> None:
    assert supports(1e-4, 30_000)
    assert not supports(1e-4, 29_999)
    assert supports(1e-1, 30)
    with pytest.raises(InputError, match=r"at least 30000 non-mated pairs .* found 20000"):
        require_supported(1e-4, 20_000)


def test_proportions_are_exact_for_one_try_a_person_and_wider_for_clusters() -> None:
    hit = np.r_[np.ones(3), np.zeros(81)]
    exact = binomtest(3, 84).proportion_ci(method="exact")
    assert proportion_interval(hit, np.arange(84)) == pytest.approx((exact.low, exact.high))
    # five tries a person that agree with one another are worth one try
    low, high = proportion_interval(np.repeat(hit, 5), np.repeat(np.arange(84), 5))
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.003)  # K/(K-1) = 1.2 %
    low, high = proportion_interval(np.zeros(420), np.repeat(np.arange(84), 5))
    assert (low, high) == pytest.approx((0, 1 - 0.025 ** (1 / 84)))  # never of width 0


def test_a_rate_without_any_hit_still_has_an_interval() -> None:
    """No mated pair of 144 above the threshold: the rate may be up to 3.69 / 144, not 0."""
    scores = replace(binormal(0, 144), mated=np.full(144, -9.0))
    curve = Curve(scores, rates=RATES)
    found = estimates(curve, curve.scores, replicates=50, seed=0, rates=2)[-1]
    assert found.value == 1
    assert found.figure.ci95 == pytest.approx((0.025 ** (1 / 144), 1))


# identification


def test_rank_one_in_a_smaller_cohort_is_the_binomial_quotient() -> None:
    rank, enrolled, cohort = np.arange(1, 21), 500, 100

    def log_choose(n: np.ndarray, k: int) -> np.ndarray:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    expected = np.exp(
        log_choose(enrolled - rank, cohort - 1) - log_choose(enrolled - 1, cohort - 1)
    )
    for place, chance in zip(rank, expected, strict=True):
        found = match_rate(np.array([place]), enrolled=enrolled, cohort=cohort).rate.value
        assert found == pytest.approx(chance, rel=1e-9)  # log-gamma of 500


def test_match_rates_equal_drawing_every_cohort() -> None:
    better = 2  # of 6 others; cohorts of 4 = the probe's person and 3 others
    for place in (1, 2, 3):
        cohorts = list(combinations(range(6), 3))
        hits = sum(sum(other < better for other in c) < place for c in cohorts) / len(cohorts)
        found = match_rate(np.array([better + 1]), enrolled=7, cohort=4, place=place)
        assert found.rate.value == pytest.approx(hits)
        assert found.chance == place / 4


def test_guessing_is_chance_at_every_cohort() -> None:
    for rate in match_rates(np.arange(1, 1201)):  # every place once
        assert rate.rate.value == pytest.approx(rate.chance)
        assert rate.rate.ci95[0] < rate.chance < rate.rate.ci95[1]
    assert {rate.cohort for rate in match_rates(np.arange(1, 1201))} == {10, 100, 1000}
    assert match_rates(np.ones(5, dtype=int)) == []


# unlinkability


@pytest.mark.parametrize(
    ("count", "bins", "mean", "high"),
    [(300, 30, 0.095, 0.124), (1000, 100, 0.094, 0.110), (3000, 100, 0.048, 0.058)],
)
def test_the_histogram_null_of_7_4_is_not_zero(count, bins, mean, high) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        both = rng.normal(size=(2, count))
        edges = np.histogram_bin_edges(both, bins)
        mated, nonmated = (np.histogram(side, edges)[0] / count for side in both)
        posterior = mated / np.maximum(mated + nonmated, 1e-300)
        found.append(linkage(mated, posterior))
    assert np.mean(found) == pytest.approx(mean, abs=0.006)  # Monte Carlo; their last bins
    assert np.quantile(found, 0.95) == pytest.approx(high, abs=0.006)


def test_isotonic_linkability_is_right_for_a_signal_and_zero_without() -> None:
    grid = np.linspace(-8, 10, 20_001)
    mated, nonmated = norm.pdf(grid - 1.5), norm.pdf(grid)
    # D_sys at d' 1.5: integral of the mated density times max(0, (m - n) / (m + n))
    truth = trapezoid(mated * np.maximum((mated - nonmated) / (mated + nonmated), 0), grid)
    found = linkability(binormal(1.5, 4000), seed=0)
    assert found.value == pytest.approx(truth, abs=0.01)  # steps of the isotonic fit
    turned = linkability(binormal(-1.5, 4000), seed=0)
    assert turned.value == pytest.approx(truth, abs=0.01)
    rng = np.random.default_rng(0)
    null = linkability(strangers(rng.normal(size=1000), rng.normal(size=1000)), seed=0)
    assert null.null_mean < 0.04  # the histogram's is .094 at this size
    assert abs(null.excess) < 0.03
    assert null.null_mean < null.null_95


# single people


def listed(people: int, images: int, nonmated: int, seed: int = 0) -> tuple[Pairs, np.ndarray]:
    """Every mated pair and random non-mated ones; the person of each image."""
    person = np.arange(people * images) // images
    a, b = np.triu_indices(images, 1)
    start = np.arange(people)[:, None] * images
    other = np.random.default_rng(seed).integers(len(person), size=(2 * nonmated, 2))
    other = other[person[other[:, 0]] != person[other[:, 1]]][:nonmated]
    first = np.concatenate([(start + a).ravel(), other[:, 0]])
    second = np.concatenate([(start + b).ravel(), other[:, 1]])
    return Pairs(first, second, np.arange(len(first)) < len(first) - len(other)), person


def test_the_auc_of_each_person_is_scikit_learns() -> None:
    pairs, person = listed(12, 4, 400)
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 15, len(pairs)) / 3.0  # many ties
    scores, _ = without_picture_effects(scores, pairs, person)
    scores = scores.round(1)
    found = per_person(scores, pairs, person, seed=0, permutations=20)
    residual, _ = without_picture_effects(scores, pairs, person)
    for code, area in zip(found.person, found.auc, strict=True):
        own = (person[pairs.first] == code) | (person[pairs.second] == code)
        assert area == pytest.approx(roc_auc_score(pairs.same[own], residual[own]), abs=1e-12)


def test_one_exposed_person_is_found_and_nobody_else() -> None:
    pairs, person = listed(100, 4, 5000)
    scores = np.random.default_rng(0).normal(size=len(pairs))
    scores[pairs.same & (person[pairs.first] == 17)] += 4.0
    found = per_person(scores, pairs, person, seed=0, permutations=300)
    assert found.person[np.argmin(found.p)] == 17
    assert found.p.min() <= 2 / 301
    assert np.sort(found.p)[1] > 0.05
    assert roc_auc_score(pairs.same, scores) < 0.53  # the average hides it


def test_pictures_that_resemble_everybodys_expose_nobody() -> None:
    """Quality of person and picture without any identity: dealt labels alone raise an alarm."""
    pairs, person = listed(200, 4, 8000)
    alarms, plain = 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        of_person = 0.7 * rng.normal(size=200)
        quality = of_person[person] + 0.5 * rng.normal(size=len(person))
        scores = rng.normal(size=len(pairs)) + quality[pairs.first] + quality[pairs.second]
        alarms += per_person(scores, pairs, person, seed=seed, permutations=100).p.min() <= 0.05
        best = np.argmax(of_person)
        own = (person[pairs.first] == best) | (person[pairs.second] == best)
        plain.append(roc_auc_score(pairs.same[own], scores[own]))
    assert np.mean(plain) > 0.8  # "the worst person is recognisable"
    assert alarms < 4  # 4 or more of 12 at a true .05 happen with probability .002


def test_the_worst_tenth_is_high_by_chance_and_its_null_says_so() -> None:
    pairs, person = listed(200, 4, 4000)
    scores = np.random.default_rng(3).normal(size=len(pairs))
    found = per_person(scores, pairs, person, seed=0, permutations=200)
    assert found.worst_decile > 0.65  # six mated pairs each: "somebody is recognisable" by chance
    assert found.worst_decile < found.null_95 + 0.02
    assert found.p.min() > 0.05


# curves and families


def test_the_det_curve_meets_the_single_rates_and_its_band_holds_them() -> None:
    scores = binormal(1.0, 2000)
    det = det_curve(scores, replicates=200, seed=0)
    assert np.all(np.diff(det.fnmr) <= 1e-12)
    truth = norm.cdf(norm.isf(det.fmr) - 1.0)
    np.testing.assert_allclose(det.fnmr, truth, atol=0.006)  # 2,000 scores; steepest at 3/2000
    assert np.all((det.low <= det.fnmr) & (det.fnmr <= det.high))
    drawn = det.to_json()["probit"]
    # equal variances: a straight line of slope -1 on probit axes
    slope = np.polyfit(drawn["fmr"], drawn["fnmr"], 1)[0]
    assert slope == pytest.approx(-1, abs=0.02)
    assert np.isfinite([drawn[name] for name in ("fmr", "fnmr", "low", "high")]).all()


def test_a_perfect_attack_can_still_be_drawn_on_probit_axes() -> None:
    det = det_curve(strangers(np.ones(50), np.zeros(200)), replicates=20, seed=0)
    assert (det.fnmr == 0).all()
    assert np.isfinite(det.to_json()["probit"]["fnmr"]).all()


def test_the_best_of_ten_null_attacks_is_judged_as_the_best_of_ten() -> None:
    """7.4: the largest of ten null AUCs of LFW size (SE .0075) is .512 in the mean."""
    rng = np.random.default_rng(0)
    null = [strangers(rng.normal(size=3000), rng.normal(size=3000)) for _ in range(10)]
    best = max_statistic(null, replicates=300, seed=0)
    assert best.null_mean == pytest.approx(0.512, abs=0.0015)  # SE of replicates and of the SE
    assert best.p > 0.05
    assert best.auc == max(statistics.value(statistics.auc, scores) for scores in null)
    works = strangers(rng.normal(0.15, 1, 3000), rng.normal(size=3000))
    found = max_statistic([*null, works], replicates=300, seed=0)
    assert (found.index, found.p < 0.05) == (10, True)
    with pytest.raises(InputError, match="at least one attempt"):
        max_statistic([], replicates=10, seed=0)
