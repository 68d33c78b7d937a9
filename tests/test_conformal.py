"""Prediction intervals keep their promise for new people, also when recordings cluster."""

import numpy as np
import pytest

from opticaldr.config import load_config
from opticaldr.conformal import calibrate, coverage_figure, covered, half_width, measured_coverage
from opticaldr.evaluate import RecordingScore
from opticaldr.model import build_model
from opticaldr.shrinkage import fit_line, fold_in, without_own_person


def rows(scores, labels, people=None):
    people = people or [f"p{i}" for i in range(len(scores))]
    return [
        RecordingScore(f"r{i}", person, float(label), float(score), 1)
        for i, (person, score, label) in enumerate(zip(people, scores, labels, strict=True))
    ]


def test_half_width_with_one_recording_a_person():
    # 9 errors of 1..9 at 90 %: rank ceil(10 * .9) = 9 -> 9; 8 errors: rank 9 > 8 -> whole range
    people = list("abcdefghi")
    assert half_width(people, np.arange(1.0, 10.0), 0.9) == 9
    assert half_width(people[:8], np.arange(1.0, 9.0), 0.9) == 63.0
    assert half_width(people[:8], np.arange(1.0, 9.0), 0.8) == 8  # rank ceil(9 * .8) = 8


def test_recordings_of_a_person_share_one_vote():
    # a has errors 1 and 10 (weight 1/8 each), b 2 and c 5 (1/4 each): in order 1, 2, 5, 10 the
    # weights add up to .125, .375, .625, .75
    people, errors = ["a", "a", "b", "c"], np.array([1.0, 10.0, 2.0, 5.0])
    assert half_width(people, errors, 0.3) == 2
    assert half_width(people, errors, 0.6) == 5
    assert half_width(people, errors, 0.75) == 10
    assert half_width(people, errors, 0.8) == 63.0


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_coverage_of_a_new_person_is_what_was_promised(level):
    """People with many recordings err less here, so counting recordings would promise too much."""
    rng = np.random.default_rng(3)
    found, naive = [], []
    for _ in range(400):
        count = rng.choice([1, 8], size=60)
        scale = np.where(count == 1, 8.0, 2.0) * rng.uniform(0.5, 1.5, 60)
        errors = [np.abs(rng.normal(0, s, c)) for s, c in zip(scale, count, strict=True)]
        people = [str(p) for p, c in enumerate(count[:30]) for _ in range(c)]
        known = np.concatenate(errors[:30])
        width = half_width(people, known, level)
        pooled = np.quantile(known, level)
        found += [float((new <= width).mean()) for new in errors[30:]]
        naive += [float((new <= pooled).mean()) for new in errors[30:]]
    # 400 calibrations of 30 people: the mean coverage has a standard error of about
    # sqrt(.8 * .2 / 30 / 400) = .4 %; the promise is at least `level` and at most 1/31 more, plus
    # the share of a vote (1/8 of 1/31)
    assert level - 0.012 <= np.mean(found) <= level + 1 / 31 + 0.012
    assert np.mean(naive) < level - 0.05


def test_calibration_counts_people_and_knows_sessions():
    scores = [
        RecordingScore(f"{p}/{p}_1/{task}", str(p), 10.0, 10.0 + p + shift, 4, f"{p}/{p}_1", task)
        for p in range(1, 13)
        for task, shift in (("Freeform", -1.0), ("Northwind", 1.0))
    ]
    found = calibrate(scores)
    assert (found["coverage"], found["n"], found["recordings"]) == (0.9, 12, 24)
    # session errors are 1..12; rank ceil(13 * .8) = 11, ceil(13 * .9) = 12
    assert found["widths"]["session"] == {"0.8": 11.0, "0.9": 12.0}
    # recording errors p-1 and p+1 with weight 1/26: .9 needs 24 of them, so the largest
    assert found["half_width"] == found["widths"]["recording"]["0.9"] == 13.0


def test_measured_coverage_by_hand():
    test = rows([10, 10, 10, 60], [12, 16, 40, 50])
    (level,) = measured_coverage(test, {"widths": {"recording": {"0.8": 6.0}}}, "recording")
    assert covered(test, 6.0).tolist() == [1, 1, 0, 0]
    assert level["coverage"]["value"] == 0.5
    assert level["mean_width"] == pytest.approx((12 * 3 + (63 - 54)) / 4)  # clamped to the scale
    bands = {row["band"]: (row["n"], row["coverage"]) for row in level["bands"]}
    assert bands == {"minimal": (1, 1.0), "mild": (1, 1.0), "moderate": (0, None), "severe": (2, 0)}


def test_full_coverage_is_not_certainty():
    figure = coverage_figure(rows([10] * 20, [10] * 20), 1.0)
    # exact binomial: all of 20 covered leaves .025^(1/20) = .832 possible
    assert figure.ci95 == (pytest.approx(0.832, abs=0.001), 1.0)


def test_the_line_is_folded_into_the_last_layer():
    # scores 0, 20, 40 for labels 10, 15, 20: slope 1/4, intercept 10
    model = build_model(load_config("tiny", ['network.attribute_names=["a"]'])).requires_grad_(
        False
    )
    last = model.network.depression.head[-1]
    last.weight.data.fill_(0.5)
    last.bias.data.fill_(0.2)
    fold_in(fit_line(rows([0, 20, 40], [10, 15, 20])), model)
    assert float(last.weight[0, 0]) == pytest.approx(0.5 / 4)
    assert float(last.bias[0]) == pytest.approx(0.2 / 4 + 10 / 63)
    # scores that rise against the labels say nothing: the mean label remains
    fold_in(fit_line(rows([0, 20, 40], [20, 15, 10])), model)
    assert float(last.weight.abs().max()) == 0.0
    assert float(last.bias[0]) == pytest.approx(15 / 63)


def test_a_persons_own_label_does_not_draw_the_line():
    # without c, labels equal scores; without a or b the line through the others is flat or steep
    scores = rows([10, 20, 30, 31], [10, 20, 40, 40], ["a", "b", "c", "c"])
    found = without_own_person(scores)
    assert [row.score for row in found[2:]] == pytest.approx([30, 31])
    # the errors of c are what a new person would meet, larger than those of a line fitted to c
    line = fit_line(scores)
    fitted = abs(line.intercept + line.slope * 30 - 40)
    assert abs(found[2].score - 40) > fitted
