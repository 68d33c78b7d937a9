"""The severity section of the report, from a whole reading: what a reviewer must find on the page."""

from __future__ import annotations

import copy
import html
import re

import numpy as np
import pytest

from opticaldr import report
from opticaldr.conformal import calibrate
from opticaldr.depression_page import FURTHER, PROTOCOLS
from opticaldr.depression_report import depression_results
from opticaldr.evaluate import RecordingScore, SessionLabel
from opticaldr.published import CAPTION
from opticaldr.results import SCHEMA_VERSION, validate


def reading(people: range, seed: int) -> list[RecordingScore]:
    """One session of two tasks a person; women's scores follow severity half as much."""
    rng = np.random.default_rng(seed)
    found = []
    for person in people:
        label, sex = float(rng.integers(0, 46)), "fm"[person % 2]
        for task in ("Freeform", "Northwind"):
            score = float(12 + {"f": 0.2, "m": 0.8}[sex] * label + rng.normal(0, 3))
            name = f"{person}/{person}_1"
            groups = (sex, "60-75" if person < 3 else "20-39")
            found.append(RecordingScore(
                f"{name}/{task}", str(person), label, score, 3, name, task, groups, (score,) * 3
            ))  # fmt: skip
    return found


@pytest.fixture(scope="module")
def whole() -> dict:
    depression = depression_results(
        reading(range(60), 0),
        train=[SessionLabel("50", 12.0), SessionLabel("51", 20.0), SessionLabel("x", 16.0)],
        protocol="official-dev",
        seen_people=frozenset({"50", "51"}),
        group_names=("sex", "age"),
        calibration=calibrate(reading(range(100, 130), 1)),
    )
    results = {
        "schema_version": SCHEMA_VERSION,
        "synthetic": True,
        "seed": 0,
        "depression": depression | {"data": "avec2014"},
        "privacy": {"attacks": []},
        "lens": {"sha256": "3f" * 32},
        "seconds": {},
        "test_readings": [
            {"date": "2026-03-04T05:06:07+00:00", "protocol": "official-dev", "data": "avec2014",
             "count": 1}
        ],
    }  # fmt: skip
    validate(results, "results")
    return results


def page_of(results: dict) -> str:
    run = report.Run("run", config=None, titles={}, results=results, lens=None, log=None)
    return report.render(run, camera=None, faces=[])


def words(page: str) -> str:
    """Visible text of the severity section."""
    section = page[page.index('id="severity"') : page.index('id="time"')]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", section)).split())


def shown(figure: dict, digits: int) -> str:
    low, high = figure["ci95"]
    numbers = [f"{x:.{digits}f}".replace("-", "−") for x in (figure["value"], low, high)]
    return f"{numbers[0]} {numbers[1]} to {numbers[2]} n {figure['n']}"


def test_every_measure_stands_with_interval_and_n(whole):
    text, depression = words(page_of(whole)), whole["depression"]
    for row in [depression, *depression["baselines"]]:
        assert shown(row["mae"], 2) in text
        assert shown(row["ccc"], 3) in text
    for row in depression["baselines"]:
        assert f"{row['name']} " in text
        assert shown(row["gain"], 2) in text
    units = depression["units"]
    for unit in (units["recording"], units["session"], *units["tasks"].values()):
        assert shown(unit["rmse"], 2) in text
        assert shown(unit["pearson"], 3) in text
    for key, label, digits in FURTHER:
        assert f"{label} {shown(units['session'][key], digits)}" in text
    for level in depression["conformal"]["levels"]:
        assert f"{100 * level['level']:.0f} % {level['half_width']:.1f}" in text
        assert shown(level["coverage"], 3) in text
    assert "come from 30 people outside the training set" in text


def test_protocol_and_leakage_are_said(whole):
    text = words(page_of(whole))
    assert f"Protocol official-dev on avec2014. {PROTOCOLS['official-dev']}" in text
    assert "count by session (the mean of its recordings)" in text
    assert "knows 2 of 60" in text
    part = whole["depression"]["seen"]
    assert f"seen in train or dev {shown(part['mae'], 2)}" in text


def test_second_readings_are_called_out(whole):
    assert "The test set was read once by this run, last on 2026-03-04." in words(page_of(whole))
    twice = copy.deepcopy(whole)
    twice["test_readings"].append({**twice["test_readings"][0], "count": 2})
    text = words(page_of(twice))
    assert "The test set was read 2 times by this run" in text
    assert "makes the result look better than it is" in text


def test_groups_are_flagged_or_not_estimable(whole):
    text = words(page_of(whole))
    women = text[text.index("sex: f") : text.index("sex: m")]
    assert women.endswith("30 larger error , weaker response to severity ")
    men = text[text.index("sex: m") : text.index("age: 20-39")]
    assert men.strip().endswith("not shown to be")
    assert "age: 60-75 not estimable (n 3) 3 not compared" in text


def test_confusion_adds_up(whole):
    text = words(page_of(whole))
    for name, counts in zip(
        whole["depression"]["bands"]["names"], whole["depression"]["bands"]["confusion"],
        strict=True,
    ):  # fmt: skip
        assert f"{name} {' '.join(map(str, counts))} {sum(counts)}" in text


def test_claims_stand_apart_and_synthetic_is_loud(whole):
    text = words(page_of(whole))
    table = text.index(CAPTION)
    assert "cannot be compared with the rendered people above" in text
    for claim in ("6.15 / 7.98", "7.89 / 8.82", "10.88 / 13.61"):
        assert text.index(claim) > table
    assert text.startswith('id="severity">How well is severity read? Synthetic.')
    real = words(page_of(whole | {"synthetic": False}))
    assert "Synthetic" not in real
    assert "rendered" not in real


def test_the_page_stays_readable_without_seeing_it(whole):
    page = page_of(whole)
    assert page.count("<caption>") == page.count("<table>") == 9
    assert page.count('role="img"') == page.count('role="img" aria-label="') == 2
    assert all("scope=" in tag for tag in re.findall(r"<th\b[^>]*>", page))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_constant_scores_say_what_is_undefined(whole):
    constant = [
        RecordingScore(r.recording, r.person, r.label, 20.0, 1) for r in reading(range(30), 0)[::2]
    ]
    depression = depression_results(
        constant, train=[SessionLabel("x", 16.0)], protocol="subject-disjoint"
    )
    text = words(page_of(whole | {"depression": depression, "synthetic": False}))
    assert "Undefined here" in text
    assert "Pearson r; Spearman rank correlation" in text
    assert "Prediction intervals" not in text
