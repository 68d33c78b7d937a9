"""The figures of one reading: trivial predictors by hand, leakage made visible, groups found."""

from __future__ import annotations

import numpy as np
import pytest

from opticaldr.conformal import calibrate
from opticaldr.depression_report import depression_results, trivial_predictions
from opticaldr.evaluate import RecordingScore, SessionLabel, by_session
from opticaldr.group_errors import group_rows
from opticaldr.published import CLAIMS, noise_floor
from opticaldr.results import SCHEMA_VERSION, validate


def rows(scores, labels, people=None, **changes) -> list[RecordingScore]:
    people = people or [f"p{i}" for i in range(len(scores))]
    return [
        RecordingScore(f"r{i}", person, float(label), float(score), 1, **changes)
        for i, (person, score, label) in enumerate(zip(people, scores, labels, strict=True))
    ]


def named(found: dict, name: str) -> dict:
    return next(row for row in found["baselines"] if row["name"] == name)


TRAIN = [SessionLabel("a", 10), SessionLabel("a", 14), SessionLabel("x", 20), SessionLabel("y", 44)]
DEV = [SessionLabel("a", 18), SessionLabel("b", 2)]
TEST = rows([15, 15, 15, 15], [16, 12, 5, 30], ["a", "a", "b", "c"])


def test_identity_look_up_by_hand():
    # a: mean of 10, 14, 18; b: only in dev; c: unknown, so the train median of 10, 14, 20, 44
    found = trivial_predictions(TEST, TRAIN, DEV)
    assert found["identity look-up"].tolist() == [14, 14, 2, 17]
    assert found["train median"].tolist() == [17] * 4
    assert found["train mean"].tolist() == [22] * 4  # dev is for selection, not for the mean
    assert trivial_predictions(TEST, TRAIN, [])["identity look-up"].tolist() == [12, 12, 17, 17]


def test_leakage_is_visible_and_closed_by_people_who_do_not_cross():
    found = depression_results(
        TEST, train=TRAIN, dev=DEV, protocol="official-dev", seen_people=frozenset("ab")
    )
    # |14-16| |14-12| |2-5| |17-30| beside |17-16| |17-12| |17-5| |17-30|
    assert named(found, "identity look-up")["mae"]["value"] == pytest.approx(20 / 4)
    assert named(found, "train median")["mae"]["value"] == pytest.approx(31 / 4)
    assert found["remembered"] == 3
    assert found["seen"]["look_up_mae"]["value"] == pytest.approx(7 / 3)
    assert found["seen"]["mae"]["value"] == pytest.approx((1 + 3 + 10) / 3)
    assert found["unseen"] == {"n": 1, "people": 1}  # one person has no interval
    strangers = [SessionLabel("x", 20), SessionLabel("y", 14)]
    closed = depression_results(TEST, train=strangers, protocol="subject-disjoint")
    look_up, median = named(closed, "identity look-up"), named(closed, "train median")
    assert look_up["mae"] == median["mae"]
    assert closed["remembered"] == 0


def test_gain_over_the_train_mean_is_paired_and_excludes_zero_when_real():
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 40, 80)
    train = [SessionLabel("x", 15.0), SessionLabel("y", 25.0)]
    test = rows(labels + rng.normal(0, 3, 80), labels)
    found = depression_results(test, train=train, protocol="subject-disjoint")
    gain = found["gain_over_train_mean"]
    assert gain["value"] == pytest.approx(found["train_mean_mae"]["value"] - found["mae"]["value"])
    assert gain["ci95"][0] > 0
    assert gain == named(found, "train mean")["gain"]
    constant = depression_results(
        rows(np.full(80, 20.0), labels), train=train, protocol="subject-disjoint"
    )
    assert constant["gain_over_train_mean"]["ci95"] == [0.0, 0.0]
    assert constant["ccc"]["value"] == 0.0
    assert constant["units"]["recording"]["pearson"] is None
    nearly = depression_results(
        rows(20.0 + 1e-6 * labels, labels), train=train, protocol="subject-disjoint"
    )
    assert nearly["units"]["recording"]["calibration_slope"] is None  # else 1e6, of rounding


def benchmark(people: int, *, gains: dict[str, float], seed: int) -> list[RecordingScore]:
    """Two sessions of two tasks a person; a score follows severity by the gain of the person's sex."""
    rng = np.random.default_rng(seed)
    found = []
    for person in range(people):
        sex = ("f", "m")[person % 2]
        own = rng.normal(0, 2)
        for session in range(2):
            label = float(rng.integers(0, 46))
            for task in ("Freeform", "Northwind"):
                score = 15 + gains[sex] * (label - 15) + own + rng.normal(0, 3)
                name = f"{person}/{person}_{session}"
                found.append(
                    RecordingScore(
                        f"{name}/{task}", str(person), label, float(np.clip(score, 0, 63)), 9,
                        name, task, (sex, "rare" if person < 6 else "common"), (score,) * 9,
                    )
                )  # fmt: skip
    return found


def test_units_count_recordings_sessions_and_tasks():
    test = benchmark(30, gains={"f": 0.8, "m": 0.8}, seed=0)
    found = depression_results(test, train=TRAIN, protocol="subject-disjoint")
    units = found["units"]
    assert found["unit"] == "session"
    assert (units["recording"]["n"], units["session"]["n"]) == (120, 60)
    assert {task: unit["n"] for task, unit in units["tasks"].items()} == {
        "Freeform": 60, "Northwind": 60,
    }  # fmt: skip
    assert found["mae"] == units["session"]["mae"]
    assert units["recording"]["people"] == 30
    # the mean of two tasks averages their noise away, so a session errs less than its recordings
    assert units["session"]["mae"]["value"] < units["recording"]["mae"]["value"]
    # Bland-Altman: bias +- 1.96 population standard deviations of the error
    errors = np.array([row.score - row.label for row in test])
    limits = units["recording"]["limit_low"]["value"], units["recording"]["limit_high"]["value"]
    expected = errors.mean() + np.array([-1.96, 1.96]) * errors.std()
    assert limits == pytest.approx(tuple(expected))
    counts = np.array(found["bands"]["confusion"])
    assert counts.sum() == 60
    labels = [row.label for row in test[::2]]
    assert counts.sum(1)[0] == sum(label <= 13 for label in labels)


def test_the_planted_group_is_found_and_no_other():
    groups = ("sex", "skin")
    planted = depression_results(
        benchmark(100, gains={"f": 0.35, "m": 0.7}, seed=1),
        train=TRAIN, protocol="subject-disjoint", group_names=groups,
    )  # fmt: skip
    by_value = {row["value"]: row for row in planted["groups"]}
    assert set(by_value["f"]["worse"]) == {"mae", "gain"}
    assert by_value["m"]["worse"] == []
    # two measures of one comparison (skin is not compared): each at 1 - .05 / 2
    assert by_value["f"]["differences"]["mae"]["level"] == pytest.approx(0.975)
    difference = by_value["f"]["differences"]["gain"]["value"]
    assert difference == pytest.approx(0.35 - 0.7, abs=0.08)  # about 3 SE of two slopes of n 100
    assert by_value["f"]["people"] == 50
    # six people are too few for any number
    assert by_value["rare"]["estimable"] is False
    assert by_value["rare"]["worse"] == []
    assert "mae" not in by_value["rare"]
    assert by_value["common"]["estimable"] is True
    assert "differences" not in by_value["common"]


def test_equal_groups_are_rarely_flagged():
    flagged = 0
    for seed in range(40):
        sessions = by_session(benchmark(60, gains={"f": 0.6, "m": 0.6}, seed=seed))
        flagged += any(row["worse"] for row in group_rows(sessions, ("sex", "skin"), width=None))
    # 5 % of 40 is 2; a percentile interval of 30 people a group is a little short, so up to 6
    assert flagged <= 6


def test_everything_follows_the_schema():
    gains = {"f": 0.5, "m": 0.7}
    found = depression_results(
        benchmark(60, gains=gains, seed=0), train=TRAIN, dev=DEV, protocol="official-dev",
        seen_people=frozenset(str(p) for p in range(20)), group_names=("sex", "skin"),
        calibration=calibrate(benchmark(30, gains=gains, seed=5)),
    )  # fmt: skip
    assert found["conformal"]["n"] == 30
    assert [level["level"] for level in found["conformal"]["levels"]] == [0.8, 0.9]
    assert found["groups"][0]["coverage"]["n"] == found["groups"][0]["n"]
    assert len(found["points"]) == 120
    assert found["points"] == sorted(found["points"])  # in no order that names a recording
    empty = {"privacy": {"attacks": []}, "lens": {"sha256": "0" * 64}, "seconds": {}}
    validate(
        {"schema_version": SCHEMA_VERSION, "synthetic": True, "seed": 0, "depression": found}
        | empty,
        "results",
    )


def test_claims_are_the_authors_and_the_floor_is_derived():
    claimed = {(c.method, c.data): (c.mae, c.rmse, c.source) for c in CLAIMS}
    assert claimed["OpticalDR", "AVEC 2013"] == (7.53, 8.48, "V")
    assert claimed["OpticalDR", "AVEC 2014"] == (7.89, 8.82, "V")
    assert ("ERBMA-Net", "AVEC 2013") not in claimed  # no number was given
    # a squared error of less than the absolute one cannot be
    assert all(c.mae < c.rmse for c in CLAIMS if c.mae and c.rmse)
    floor = noise_floor()
    # 12 sqrt(1 - .89) = 3.98; times sqrt(2 / pi) = 3.18
    assert (floor["sem"], floor["mae"]) == (3.98, 3.18)
