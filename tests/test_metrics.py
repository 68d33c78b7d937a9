"""Depression metrics against their definitions and scikit-learn; intervals against their promise."""

import numpy as np
import pytest
from scipy.stats import linregress, pearsonr, spearmanr
from sklearn.metrics import (
    balanced_accuracy_score,
    cohen_kappa_score,
    r2_score,
    roc_auc_score,
)

from opticaldr import metrics
from opticaldr.metrics import ClusterBootstrap, ccc, mae, rmse
from opticaldr.types import InputError


def data(n: int = 90):
    """Scores with ties, labels in all four bands, three recordings a person."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 45, n).astype(float)
    scores = np.round(8 + 0.6 * labels + rng.normal(0, 6, n)).clip(0, 63)
    return scores, labels, tuple(str(i // 3) for i in range(n))


def test_errors_by_hand():
    scores, labels = np.array([10.0, 20.0, 33.0]), np.array([13.0, 20.0, 29.0])
    assert mae(scores, labels) == pytest.approx(7 / 3)
    assert rmse(scores, labels) == pytest.approx((25 / 3) ** 0.5)
    assert metrics.bias(scores, labels) == pytest.approx(1 / 3)
    # errors -3, 0, 4 about 1/3: (100 + 1 + 121) / 9 / 3
    assert metrics.error_spread(scores, labels) == pytest.approx((222 / 27) ** 0.5)


def test_rmse_is_not_the_mean_of_batch_rmses():
    # Gaussian errors: pooled RMSE/MAE = 1.253; averaging over batches of 2 gives 1.11
    # (depression.md 1.5). n = 20,000: the ratio's standard error is 0.005
    errors = np.random.default_rng(0).normal(size=20_000)
    zeros = np.zeros_like(errors)
    assert rmse(errors, zeros) / mae(errors, zeros) == pytest.approx(1.253, abs=0.02)


def test_concordance():
    labels = np.array([0.0, 10.0, 20.0, 30.0])
    assert ccc(labels, labels) == pytest.approx(1.0)
    assert ccc(30 - labels, labels) == pytest.approx(-1.0)
    assert ccc(np.full(4, 15.0), labels) == 0.0
    # Lin: a shift of 5 costs 25 in the denominator: 2 * 125 / (125 + 125 + 25)
    assert ccc(labels + 5, labels) == pytest.approx(250 / 275)
    # half the spread about the same mean: 2 * 62.5 / (125 + 31.25)
    assert ccc(15 + (labels - 15) / 2, labels) == pytest.approx(125 / 156.25)


def test_metrics_agree_with_scipy_and_scikit_learn():
    scores, labels, _ = data()
    band = metrics.band_numbers
    line = linregress(scores, labels)
    expected = {
        "pearson": pearsonr(scores, labels)[0],
        "spearman": spearmanr(scores, labels)[0],
        "slope": line.slope,
        "intercept": line.intercept,
        "kappa": cohen_kappa_score(band(labels), band(scores), weights="quadratic"),
        "balanced_accuracy": balanced_accuracy_score(band(labels), band(scores)),
    }
    for name, value in expected.items():
        assert getattr(metrics, name)(scores, labels) == pytest.approx(value), name
    assert metrics.auroc(scores, labels, threshold=20) == pytest.approx(
        roc_auc_score(labels >= 20, scores)
    )
    # the reference of scikit-learn's R^2 is the mean of these labels
    assert metrics.r_squared(scores, labels, reference=labels.mean()) == pytest.approx(
        r2_score(labels, scores)
    )


EVERY = {
    **{name: getattr(metrics, name) for name in (
        "mae", "rmse", "bias", "error_spread", "ccc", "pearson", "spearman", "slope", "intercept",
        "kappa", "balanced_accuracy",
    )},
    "auroc": lambda s, y, w=None: metrics.auroc(s, y, w, threshold=14),
    "r_squared": lambda s, y, w=None: metrics.r_squared(s, y, w, reference=15.0),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_copies(name):
    """What the vectorised bootstrap rests on: a weight of 2 is the recording twice."""
    scores, labels, people = data()
    weights = ClusterBootstrap(people, resamples=5).weights
    found = EVERY[name](scores, labels, weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        copies = np.repeat(np.arange(len(scores)), row)
        assert value == pytest.approx(EVERY[name](scores[copies], labels[copies]))


def test_bands_end_where_the_manual_says():
    scores = np.array([0, 13, 13.4, 13.5, 14, 19, 20, 28, 28.5, 63])
    assert metrics.band_numbers(scores).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_what_is_undefined_has_no_figure():
    scores, labels, people = data()
    bootstrap = ClusterBootstrap(people)
    constant = np.full_like(scores, 15.0)
    assert bootstrap.figure(lambda w: metrics.pearson(constant, labels, w)) is None
    assert bootstrap.figure(lambda w: metrics.auroc(scores, labels, w, threshold=60)) is None
    assert bootstrap.figure(lambda w: ccc(constant, labels, w)).ci95 == (0.0, 0.0)
    # a single person above the threshold is missing from a third of the resamples
    one = np.where(np.array(people) == "4", 30.0, np.minimum(labels, 19))
    assert bootstrap.figure(lambda w: metrics.auroc(scores, one, w, threshold=20)) is None


def test_interval_covers_the_truth_with_clustered_people():
    # 400 data sets of 30 people x 4 recordings with a person effect. Nominal 95 % coverage is a
    # little less at 30 clusters (about 93 %, SE 1.3 %); resampling recordings instead of people
    # would cover about 72 %.
    rng = np.random.default_rng(1)
    people = tuple(str(i // 4) for i in range(120))
    covered, alone = 0, 0
    for number in range(400):
        errors = rng.normal(size=30).repeat(4) + 0.5 * rng.normal(size=120)
        zeros = np.zeros(120)
        for clusters, count in ((people, "covered"), (tuple(map(str, range(120))), "alone")):
            bootstrap = ClusterBootstrap(clusters, resamples=300, seed=number)
            low, high = bootstrap.interval(lambda w, e=errors, z=zeros: metrics.bias(e, z, w))
            covered += count == "covered" and low <= 0.0 <= high
            alone += count == "alone" and low <= 0.0 <= high
    assert 0.89 * 400 <= covered <= 0.98 * 400
    assert alone < 0.8 * 400


def test_differences_between_rows_are_paired():
    # the second row is the first plus a constant error: its difference has no spread at all
    labels = np.zeros(40)
    errors = np.random.default_rng(0).uniform(1, 9, 40)
    bootstrap = ClusterBootstrap(tuple(map(str, range(40))))
    difference = bootstrap.figure(lambda w: mae(errors + 1, labels, w) - mae(errors, labels, w))
    assert difference.ci95 == pytest.approx((1.0, 1.0))
    assert difference.n == 40


def test_one_person_has_no_interval():
    with pytest.raises(InputError, match="at least two people to score, found 1"):
        ClusterBootstrap(("p", "p")).figure(lambda w: mae(np.ones(2), np.zeros(2), w))
