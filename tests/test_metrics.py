"""Depression metrics against their definitions, and the interval against its promise."""

import numpy as np
import pytest

from opticaldr.config import load_config
from opticaldr.evaluate import RecordingScore, depression_results
from opticaldr.experiment import calibrate, shrink_scores
from opticaldr.metrics import ClusterBootstrap, ccc, mae, rmse
from opticaldr.model import build_model


def test_errors_by_hand():
    scores, labels = np.array([10.0, 20.0, 33.0]), np.array([13.0, 20.0, 29.0])
    assert mae(scores, labels) == pytest.approx(7 / 3)
    assert rmse(scores, labels) == pytest.approx((25 / 3) ** 0.5)


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


def test_interval_covers_the_truth_with_clustered_people():
    # 120 data sets of 30 people x 4 recordings with a person effect. Nominal 95 % coverage is a
    # little less at 30 clusters (about 93 %); fewer than 85 % of 120 would be 3.5 standard errors.
    rng = np.random.default_rng(1)
    covered = 0
    people = tuple(str(i // 4) for i in range(120))
    for number in range(120):
        values = rng.normal(size=30).repeat(4) + 0.5 * rng.normal(size=120)
        bootstrap = ClusterBootstrap(people, resamples=300, seed=number)
        low, high = bootstrap.figure(lambda i, v=values: float(v[i].mean())).ci95
        covered += low <= 0.0 <= high
    assert covered >= 0.85 * 120


def rows(scores, labels):
    return [
        RecordingScore(f"r{i}", f"p{i}", label, score, 1)
        for i, (score, label) in enumerate(zip(scores, labels, strict=True))
    ]


def test_gain_over_the_train_mean_is_paired_and_excludes_zero_when_real():
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 40, 80)
    found = depression_results(rows(labels + rng.normal(0, 3, 80), labels), np.array([15.0, 25.0]))
    gain = found["gain_over_train_mean"]
    assert gain["value"] == pytest.approx(found["train_mean_mae"]["value"] - found["mae"]["value"])
    assert gain["ci95"][0] > 0
    nothing = depression_results(rows(np.full(80, 20.0), labels), np.array([15.0, 25.0]))
    assert nothing["gain_over_train_mean"]["ci95"] == [0.0, 0.0]


def test_conformal_half_width():
    # 9 errors of 1..9 at 90 %: rank ceil(10 * .9) = 9 -> 9; 8 errors: rank 9 > 8 -> whole range
    assert calibrate(rows(range(1, 10), [0] * 9))["half_width"] == 9
    assert calibrate(rows(range(1, 9), [0] * 8))["half_width"] == 63.0


def test_shrinking_folds_the_least_squares_line_into_the_last_layer():
    # scores 0, 20, 40 for labels 10, 15, 20: slope 1/4, intercept 10
    model = build_model(load_config("tiny", ['network.attribute_names=["a"]']))
    model.requires_grad_(False)
    last = model.network.depression.head[-1]
    last.weight.fill_(0.5)
    last.bias.fill_(0.2)
    shrink_scores(model, rows([0.0, 20.0, 40.0], [10.0, 15.0, 20.0]))
    assert float(last.weight[0, 0]) == pytest.approx(0.5 / 4)
    assert float(last.bias) == pytest.approx(0.2 / 4 + 10 / 63)
    # scores that rise against the labels say nothing: the mean label remains
    shrink_scores(model, rows([0.0, 20.0, 40.0], [20.0, 15.0, 10.0]))
    assert float(last.weight.abs().max()) == 0.0
    assert float(last.bias) == pytest.approx(15 / 63)
