"""The card gives no better grade than its rows allow, and never promises more than was attacked."""

from __future__ import annotations

import copy
import datetime
import json
import math

import numpy as np
import pytest

from cards import (
    CERTIFICATE,
    DATA,
    SESSION,
    THUMBNAILS,
    UP_TO,
    attempt,
    card_of,
    every_grade,
    figure,
    insider,
    ladder,
    trait,
)
from opticaldr.privacy import grades, words
from opticaldr.privacy.cameras import CameraUnderAttack, NoiseLaw, NoLens, Pixelation, PlainBlur
from opticaldr.privacy.card import check_card
from opticaldr.results import Figure, read_json, write_json
from opticaldr.types import InputError

WORDS = ("irreversible", "anonymous", "anonymised", "anonymity", "unbreakable", "guaranteed")

# --- every way to a grade ---------------------------------------------------------------------


@pytest.mark.parametrize("grade", UP_TO)
def test_a_grade_needs_its_rungs_and_no_others(grade):
    card = card_of(ladder(*UP_TO[grade]))
    assert card["grade"] == grade
    assert card["wording"].startswith("No attack in ladder v1 up to rung ")
    for missing in UP_TO[grade]:
        rest = [rung for rung in UP_TO[grade] if rung != missing]
        assert grades.BEST_LAST.index(card_of(ladder(*rest))["grade"]) < (
            grades.BEST_LAST.index(grade)
        )


def test_p4_needs_a_certificate_for_the_whole_session():
    rows = ladder(*grades.LADDER)
    assert card_of(rows, certificate=CERTIFICATE)["grade"] == "P4"
    assert card_of(rows)["grade"] == "P3"
    for change in ({"frames": SESSION - 1}, {"delta_upper95": 0.021}, {"k": 4}, {"k": 7}):
        loose = {**CERTIFICATE, "simulator": [{**CERTIFICATE["simulator"][-1], **change}]}
        assert card_of(rows, certificate=loose)["grade"] == "P3", change
    few_bits = {**CERTIFICATE, "simulator": [], "bits": [{**CERTIFICATE["bits"][-1], "bits": 0.9}]}
    assert card_of(rows, certificate=few_bits)["grade"] == "P4"
    assert card_of(ladder("A1"), certificate=CERTIFICATE)["grade"] == "P0"


def test_fail_by_auc_names_the_attack():
    rows = [*ladder(*grades.LADDER), attempt("A4", 0.93, variant="wiener 3, dlib")]
    card = card_of(rows, certificate=CERTIFICATE)
    assert card["grade"] == "FAIL"
    assert (
        "Rung A4 (wiener 3, dlib, 1 frame) recognises people: AUC .93 [.91, .95]"
        in (card["wording"])
    )
    assert card["broken_by"] == [
        {
            "rung": "A4",
            "variant": "wiener 3, dlib",
            "frames": 1,
            "by": "lower limit of the AUC is .91",
        }
    ]
    assert card["rungs"][-1]["verdict"] == "broken: lower limit of the AUC is .91"
    line = next(line for line in card["ladder"] if line["rung"] == "A4")
    assert line["variant"] == "wiener 3, dlib"
    assert line["verdict"].startswith("broken")
    assert card["strongest_attack"]["auc"]["value"] == 0.93


def test_an_auc_far_below_chance_fails_too():
    card = card_of([attempt("A1", 0.3)])
    assert card["grade"] == "FAIL"
    assert card["bracket"]["attack_auc"]["value"] == pytest.approx(0.7)  # 1 - .3
    assert card["bracket"]["attack_auc"]["ci95"] == pytest.approx([0.68, 0.72])


def test_fail_by_leak_ratio_although_the_auc_is_chance():
    row = attempt("A3", **{"leak_ratio_1e-3": figure(14, 3)})
    card = card_of([*ladder("A1", "A2"), row])
    assert card["grade"] == "FAIL"
    assert "14 times as often as chance" in card["wording"]


def test_fail_by_one_person_after_correction_for_all_attempts():
    exposed = {"worst_decile": {"auc": 0.57, "null_95": 0.6, "p_worst_person": 0.012}}
    assert card_of([attempt("A1", **exposed)])["grade"] == "FAIL"
    # .012 times five attempts is .06: one of five null attempts reaches that by itself too often
    assert card_of([attempt("A1", **exposed), *ladder("A2", "A3", "A4", "A5")])["grade"] == "P1"


def test_fail_by_an_insider_who_names_people():
    card = card_of([insider(0.6, cohort=20)])
    assert card["grade"] == "FAIL"
    assert "names the right person out of 20 in 60 % of cases" in card["wording"]
    assert card["strongest_attack"] is None


def test_too_few_people_are_inconclusive():
    card = card_of([attempt("A1", 0.51, half=0.07)])
    assert card["grade"] == "inconclusive"
    assert "upper 95 % limit of the AUC is .58, above .55" in card["wording"]
    assert card["rungs"][0]["verdict"] == "inconclusive: upper limit .58"


@pytest.mark.parametrize("control", ["positive", "negative"])
def test_a_rung_whose_control_fails_refuses_the_grade(control):
    outcome = {"negative": "pass", "positive": "pass", control: "fail"}
    void = attempt("A5", controls=outcome)
    card = card_of([*ladder("A1", "A2", "A3"), void])
    assert card["grade"] == "inconclusive"
    assert "attack broken" in card["wording"]
    assert "A5" in card["wording"]
    assert card["rungs"][-1]["verdict"].startswith("attack broken")
    assert card["controls"][control] == "fail"
    # what a broken attack "finds" fails nobody either ..
    loud = {**attempt("A5", 0.95), "controls": outcome}
    assert card_of([*ladder("A1"), loud])["grade"] == "inconclusive"
    # .. but another attack that works does
    assert card_of([attempt("A4", 0.9), void])["grade"] == "FAIL"
    # and a broken variant beside a sound one is only left out
    both = card_of([*ladder(*UP_TO["P2"]), void])
    assert both["grade"] == "P2"
    assert next(line for line in both["ladder"] if line["rung"] == "A5")["void"] == 1


def test_a_missing_positive_control_is_a_failed_one():
    row = attempt("A1")
    del row["controls"]["positive"]
    with pytest.raises(InputError, match="'positive' is a required property"):
        card_of([row])


def test_the_smoke_tier_can_fail_a_camera_but_not_grade_it():
    card = card_of(ladder(*grades.LADDER), tier="smoke", certificate=CERTIFICATE)
    assert card["grade"] == "inconclusive"
    assert "smoke tier makes no claim" in card["wording"]
    assert card_of([attempt("A1", 0.9)], tier="smoke")["grade"] == "FAIL"


@pytest.mark.parametrize("known", [False, None])
def test_pairs_of_one_session_cap_the_grade(known):
    card = card_of(ladder(*UP_TO["P2"]), data={**DATA, "sessions_disjoint": known})
    assert card["grade"] == "P0"
    assert "P1 needs pairs from different sessions" in card["reasons"]
    assert any("one recording session" in warning for warning in card["warnings"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"leak_ratio_1e-3": None}, "too few pairs to measure the leak ratio"),
        ({"leak_ratio_1e-3": figure(2, 1.5)}, "leak ratio at FMR 1e-3 is 3.5, above 3"),
        ({"rank1": None}, "fewer than 100 people"),
        ({"rank1": {**figure(0.03, 0.01), "cohort": 50, "chance": 0.02}}, "fewer than 100 people"),
        ({"rank1": {**figure(0.03, 0.01), "cohort": 100, "chance": 0.01}}, "4.0 % among 100"),
        # among 500 people chance is .2 %, and three times that is allowed
        ({"rank1": {**figure(0.005, 0.002), "cohort": 500, "chance": 0.002}}, "0.7 % among 500"),
    ],
)
def test_p1_needs_leak_ratio_and_rank1(change, reason):
    card = card_of([*ladder("A1", "A2"), attempt("A3", **change)])
    assert card["grade"] == "P0"
    assert reason in card["reasons"][0]


@pytest.mark.parametrize(
    ("rung", "row", "reason"),
    [
        ("A7", attempt("A7", frames=SESSION - 1), "whole session"),
        ("A9", insider(cohort=20), "group of 100 people"),
        ("A9", insider(0.04), "upper limit of rank-1 is 5.0 %"),
        ("A4", attempt("A4", worst_decile=None), "to measure the worst tenth"),
        (
            "A4",
            attempt("A4", worst_decile={"auc": 0.61, "null_95": 0.62, "p_worst_person": 0.3}),
            "worst tenth of people is .61, above .60 (chance alone reaches .62)",
        ),
    ],
)
def test_p3_needs_sessions_insiders_and_the_worst_tenth(rung, row, reason):
    rows = [r for r in ladder(*grades.LADDER) if r["rung"] != rung]
    card = card_of([*rows, row])
    assert card["grade"] == "P2"
    assert reason in card["reasons"][0]


def test_video_counts_from_p3_on():
    leaky = attempt("A4", 0.56, half=0.03, frames=100)
    assert card_of([*ladder(*UP_TO["P2"]), leaky])["grade"] == "P2"
    assert card_of([*ladder(*grades.LADDER), leaky])["grade"] == "P2"


# --- order ------------------------------------------------------------------------------------


def test_a_worse_row_never_improves_the_grade():
    rng = np.random.default_rng(3)
    for _ in range(300):
        chosen = [rung for rung in grades.LADDER if rng.random() < 0.85]
        rows = ladder(*chosen)
        for row in rows:
            if "auc" in row and rng.random() < 0.2:
                row |= attempt(row["rung"], rng.uniform(0.4, 0.62), half=rng.uniform(0, 0.06))
            if rng.random() < 0.1:
                row["controls"] = {"negative": "pass", "positive": "fail"}
        before = _place(rows)
        strong = attempt(str(rng.choice(grades.LADDER)), 0.8)
        assert _place([*rows, strong]) == 0
        weaker = attempt(str(rng.choice(chosen or ["A1"])), rng.uniform(0.52, 0.6), half=0.035)
        if any(grades.is_valid(row) and row["rung"] == weaker["rung"] for row in rows):
            assert _place([*rows, weaker]) <= before
        if rows:
            worse = copy.deepcopy(rows)
            victim = worse[rng.integers(len(worse))]
            if "auc_free" in victim:
                victim["auc_free"]["upper95"] += 0.05
            victim["rank1"]["ci95"][1] += 0.02
            assert _place(worse) <= before


def _place(rows) -> int:
    given = {"sessions_disjoint": True, "session_frames": SESSION}
    given |= {"certificate": CERTIFICATE, "thumbnails": THUMBNAILS}
    return grades.BEST_LAST.index(grades.judge(rows, claims=True, **given).grade)


def test_holm_matches_a_worked_example():
    # Holm (1979): .01 * 4, .02 * 3, then the running maximum
    assert grades.holm([0.04, 0.01, 0.02, None]) == pytest.approx([0.08, 0.04, 0.06, 1.0])


def test_the_corrected_limit_is_the_uncorrected_one_for_a_single_attempt():
    row = attempt("A1", 0.7)
    assert grades.corrected_lower(row, 1) == pytest.approx(0.68)
    # 20 attempts: z(.05/20) / z(.05) = 2.807 / 1.645
    assert grades.corrected_lower(row, 20) == pytest.approx(0.7 - 0.02 * 2.807 / 1.645, abs=1e-5)


# --- words ------------------------------------------------------------------------------------


def test_no_card_contains_a_forbidden_word_and_every_grade_occurs():
    cards = every_grade()
    assert {card["grade"] for card in cards} == set(grades.BEST_LAST)
    for card in cards:
        text = json.dumps(card).lower()
        assert not [word for word in (*WORDS, "irreversib", "anonym") if word in text]


@pytest.mark.parametrize("word", [*WORDS, "Anonymization", "IRREVERSIBLY", "ano\u00adnymous"])
def test_a_forbidden_word_anywhere_is_an_error(word):
    card = card_of(ladder("A1"))
    for change in ({"wording": f"This is {word}."}, {"certificate": {"assumptions": [word]}}):
        with pytest.raises(InputError, match="promises no more than was attacked"):
            check_card({**card, **change})
    with pytest.raises(InputError, match="promises"):
        words.check_words({word: 1})


def test_names_that_users_give_are_cut_instead():
    class Named(Pixelation):
        def describe(self):
            return {"kind": "pixelation", "label": "guaranteed hidden"}

    camera = CameraUnderAttack("AnonymousCam 3", Named(8))
    row = attempt("A1", variant="onnx, unbreakable.onnx")
    data = {**DATA, "set": "irreversible faces"}
    card = card_of([row], camera=camera, data=data, not_tested=["anonymity of voice"])
    assert card["lens"]["name"] == "[word removed] 3"
    assert card["lens"]["label"] == "[word removed] hidden"
    assert card["rungs"][0]["variant"] == "onnx, [word removed].onnx"


def test_limits_are_rounded_outward():
    assert words.above(0.5501) == ".551"
    assert words.above(0.55) == ".55"
    assert words.below(0.6009) == ".60"
    assert words.share(1.0) == "1.00"
    assert words.interval(figure(0.93, 0.02)) == ".93 [.91, .95]"


def test_what_thumbnails_do_as_well_may_be_the_session():
    rows = [attempt("A1"), attempt("A2", 0.68), attempt("A3", 0.7)]
    assert any("recording session" in text for text in card_of(rows)["warnings"])
    rows[-1] = attempt("A3", 0.75)  # above every small thumbnail: .55 and .70
    assert card_of(rows)["warnings"] == []


def test_an_attack_above_the_certificate_is_said():
    card = card_of([attempt("A4", 0.7)], certificate=CERTIFICATE)
    assert any("assumption of the certificate does not hold" in text for text in card["warnings"])


def test_chance_is_said_only_within_two_hundredths():
    near = [attempt(r, 0.505, half=0.01, frames=SESSION) for r in grades.LADDER]
    near += [attempt(r, 0.505, half=0.01) for r in grades.LADDER]
    assert "within .02 of chance" in card_of(near)["wording"]
    assert "of chance" not in card_of(ladder(*grades.LADDER))["wording"]


# --- the file ---------------------------------------------------------------------------------


def test_the_card_holds_what_the_design_promises():
    card = card_of([*ladder("A1"), attempt("A4", 0.93)], not_tested=["off-axis", "A6: no restorer"])
    assert card["tier"] == "standard"
    assert card["bracket"] == {"attack_auc": figure(0.93, 0.02), "certificate_auc": 1.0}
    assert card["not_tested"] == (
        ["A2", "A3", "A5", "A6: no restorer", "A7", "A8", "A9", "off-axis"]
    )
    assert card["expires"]["on"] == "2031-02-28"
    assert [line["rung"] for line in card["ladder"]] == list(grades.LADDER)
    assert card["ladder"][1]["verdict"] == "not run"
    # full strength holds for A1 only (AUC .80 at half strength); A4 not even there
    assert card["safety_margin"] == {"A1": 1.0, "A4": None}


def test_soft_biometrics_are_reported_and_not_graded():
    read = [trait("sex", 0.3), trait("sex", 0.42, rung="A4"), trait("age band", -0.01)]
    card = card_of([*ladder("A1"), *read])
    assert card["grade"] == "P0"
    assert card["soft_bio_bits"] == {"sex": 0.42, "age band": 0.0}
    assert len(card["soft_biometrics"]) == 3
    assert "A4" in card["not_tested"], "a trait read with A4's means is no attempt at identity"


def test_a_leap_day_expires_on_a_day_that_exists():
    card = card_of(ladder("A1"), today=datetime.date(2028, 2, 29))
    assert card["expires"]["on"] == "2029-02-28"


def test_numbers_of_any_kind_become_json(tmp_path):
    row = attempt("A1")
    row["auc"] = Figure(np.float64(0.51), (np.float64(0.49), 0.53), 20_500)
    row["leak_ratio_1e-3"] = Figure(math.nan, (math.nan, math.nan), 10)
    row["d_prime"], row["facts"] = math.inf, {"taps": np.arange(3)}
    card = card_of([row])
    write_json(tmp_path / "privacy_card.json", card)
    read = read_json(tmp_path / "privacy_card.json")
    assert read == card
    check_card(read)
    assert read["rungs"][0]["leak_ratio_1e-3"] is None
    assert read["rungs"][0]["facts"] == {"taps": [0, 1, 2]}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("grade",), "A+", "not one of"),
        (("bracket", "certificate_auc"), 1.2, "greater than the maximum"),
        (("rungs", 0, "auc", "value"), 7, "greater than the maximum"),
        (("rungs", 0, "rung"), "B1", "does not match"),
        (("lens", "sha256"), "", "does not match"),
        (("data", "pairs"), 0, "less than the minimum"),
    ],
)
def test_a_broken_card_is_refused(path, value, message):
    card = card_of(ladder("A1"))
    place = card
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(InputError, match=message):
        check_card(card)
    del place[path[-1]]
    with pytest.raises(InputError, match="required property"):
        check_card(card)


def test_cameras_without_a_lens_file_are_told_apart():
    def sha(optics, **noise) -> str:
        camera = CameraUnderAttack("camera", optics, NoiseLaw(**noise))
        return card_of(ladder("A1"), camera=camera)["lens"]["sha256"]

    cameras = [NoLens(), Pixelation(8), PlainBlur("disc", 0.5, 40), PlainBlur("disc", 0.6, 40)]
    assert len({*map(sha, cameras), sha(NoLens(), read_noise=0.02)}) == 5
    named = CameraUnderAttack("ours", NoLens(), sha256="cd" * 32)
    assert card_of(ladder("A1"), camera=named)["lens"]["sha256"] == "cd" * 32
