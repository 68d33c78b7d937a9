"""The "depression" object of results.json: one network beside trivial predictors and its own limits.

Everything is counted by session where sessions exist (the mean of a session's tasks), else by
recording; recordings and tasks stand beside it. Published results are listed as claims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from opticaldr.conformal import SHOWN, measured_coverage
from opticaldr.evaluate import RecordingScore, SessionLabel, by_session, pooled
from opticaldr.group_errors import group_rows
from opticaldr.metrics import (
    BANDS,
    ClusterBootstrap,
    Scores,
    Values,
    Weights,
    auroc,
    balanced_accuracy,
    band_numbers,
    bias,
    ccc,
    error_spread,
    intercept,
    kappa,
    mae,
    pearson,
    r_squared,
    rmse,
    slope,
    spearman,
)
from opticaldr.published import claims, noise_floor
from opticaldr.results import Figure

LIMITS = 1.96
"""Bland-Altman limits of agreement in standard deviations of the error."""
CONSTANT = 0.01
"""Scores that spread less (SD, BDI-II points) are one score: a slope on them would be rounding noise."""


def depression_results(
    scores: Sequence[RecordingScore],
    *,
    train: Sequence[SessionLabel],
    dev: Sequence[SessionLabel] = (),
    protocol: str,
    seen_people: frozenset[str] = frozenset(),
    group_names: Sequence[str] = (),
    calibration: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All figures of one reading of the test set.

    Args:
        scores: one per test recording.
        train, dev: labels that training and selection had at hand; they feed the trivial predictors.
        protocol: data.protocol's name of the split.
        seen_people: test people with a session in the official train or dev set.
        group_names: names of RecordingScore.groups.
        calibration: content of calibration.json, None if the run has none.
    """
    sessions = by_session(scores)
    unit = (
        "session" if any(row.session not in ("", row.recording) for row in scores) else "recording"
    )
    rows = sessions if unit == "session" else list(scores)
    score, label, bootstrap = _arrays(rows)
    guesses = trivial_predictions(rows, train, dev)
    mean = guesses["train mean"]
    reference = float(mean[0])
    headline = unit_figures(rows, reference)
    widths = (calibration or {}).get("widths")

    def gain_over(guess: Scores) -> Figure:
        return bootstrap.figure(lambda w: mae(guess, label, w) - mae(score, label, w))

    return {
        "protocol": protocol,
        "unit": unit,
        "people": headline["people"],
        **{name: headline[name] for name in ("mae", "rmse", "ccc")},
        "train_mean_mae": bootstrap.figure(lambda w: mae(mean, label, w)).to_json(),
        "gain_over_train_mean": gain_over(mean).to_json(),
        "units": {
            "recording": unit_figures(scores, reference),
            "session": unit_figures(sessions, reference),
            "tasks": {
                task: unit_figures([row for row in scores if row.task == task], reference)
                for task in sorted({row.task for row in scores} - {""})
            },
        },
        "baselines": [
            {
                "name": name,
                "mae": bootstrap.figure(lambda w, g=guess: mae(g, label, w)).to_json(),
                "rmse": bootstrap.figure(lambda w, g=guess: rmse(g, label, w)).to_json(),
                "ccc": bootstrap.figure(lambda w, g=guess: ccc(g, label, w)).to_json(),
                "gain": gain_over(guess).to_json(),
            }
            for name, guess in guesses.items()
        ],
        "remembered": len(_remembered(rows, [*train, *dev])),
        "poolings": _poolings(scores, unit),
        "bands": {
            "names": [name for _, name in BANDS],
            "confusion": _confusion(score, label),
        },
        "groups": group_rows(
            rows, group_names, width=widths[unit][f"{SHOWN:g}"] if widths else None
        ),
        "conformal": {
            "unit": unit,
            "n": calibration["n"],
            "levels": measured_coverage(rows, calibration, unit),
        }
        if widths
        else None,
        "seen": _part([row for row in rows if row.person in seen_people], train, dev),
        "unseen": _part([row for row in rows if row.person not in seen_people], train, dev),
        "claims": claims(),
        "noise_floor": noise_floor(),
        # without ids and sorted, so that no label can be traced to a recording
        "points": sorted(
            [row.label, round(row.score, 2), row.person in seen_people] for row in rows
        ),
    }


def unit_figures(rows: Sequence[RecordingScore], reference: float) -> dict[str, Any]:
    """Every metric with its interval, n and people; null where it is undefined.

    reference: the train mean, which R^2 compares with. Fewer than two people: n and people alone.
    """
    people = len({row.person for row in rows})
    if people < 2:
        return {"n": len(rows), "people": people}
    score, label, bootstrap = _arrays(rows)
    if float(score.std()) < CONSTANT:
        score = np.full_like(score, score.mean())
    statistics: dict[str, Callable[[Weights], Values]] = {
        "mae": lambda w: mae(score, label, w),
        "rmse": lambda w: rmse(score, label, w),
        "ccc": lambda w: ccc(score, label, w),
        "pearson": lambda w: pearson(score, label, w),
        "spearman": lambda w: spearman(score, label, w),
        "r2": lambda w: r_squared(score, label, w, reference=reference),
        "bias": lambda w: bias(score, label, w),
        "limit_low": lambda w: bias(score, label, w) - LIMITS * error_spread(score, label, w),
        "limit_high": lambda w: bias(score, label, w) + LIMITS * error_spread(score, label, w),
        "calibration_slope": lambda w: slope(score, label, w),
        "calibration_intercept": lambda w: intercept(score, label, w),
        "kappa": lambda w: kappa(score, label, w),
        "balanced_accuracy": lambda w: balanced_accuracy(score, label, w),
        "auroc_14": lambda w: auroc(score, label, w, threshold=14),
        "auroc_20": lambda w: auroc(score, label, w, threshold=20),
    }
    figures = {name: bootstrap.figure(statistic) for name, statistic in statistics.items()}
    shown = {name: figure and figure.to_json() for name, figure in figures.items()}
    return {"n": len(rows), "people": people, **shown}


def trivial_predictions(
    rows: Sequence[RecordingScore], train: Sequence[SessionLabel], dev: Sequence[SessionLabel]
) -> dict[str, Scores]:
    """What needs no picture: the train mean, the train median, and remembering people.

    The identity look-up says the mean label of the same person's train and dev sessions, or the train
    median for a stranger. It beats the median only where people cross the split.
    """
    labels = np.array([known.label for known in train])
    remembered = _remembered(rows, [*train, *dev])
    median = float(np.median(labels))
    return {
        "train mean": np.full(len(rows), labels.mean()),
        "train median": np.full(len(rows), median),
        "identity look-up": np.array(
            [remembered.get(at, median) for at in range(len(rows))], dtype=float
        ),
    }


def _remembered(rows: Sequence[RecordingScore], known: Sequence[SessionLabel]) -> dict[int, float]:
    """Index of each row whose person is known -> mean of that person's known labels."""
    own: dict[str, list[float]] = {}
    for session in known:
        own.setdefault(session.person, []).append(session.label)
    return {at: float(np.mean(own[row.person])) for at, row in enumerate(rows) if row.person in own}


def _arrays(rows: Sequence[RecordingScore]) -> tuple[Scores, Scores, ClusterBootstrap]:
    score = np.array([row.score for row in rows], dtype=float)
    label = np.array([row.label for row in rows], dtype=float)
    return score, label, ClusterBootstrap(tuple(row.person for row in rows))


def _poolings(scores: Sequence[RecordingScore], unit: str) -> dict[str, Any]:
    """MAE by how frame scores become one score; the headline is the mean."""
    found = {}
    for how in ("mean", "median", "trimmed"):
        rows = pooled(scores, how)
        score, label, bootstrap = _arrays(by_session(rows) if unit == "session" else rows)
        figure = bootstrap.figure(lambda w, s=score, y=label: mae(s, y, w))
        found[how] = figure.to_json()
    return found


def _confusion(score: Scores, label: Scores) -> list[list[int]]:
    """Counts: a row per band of the label, a column per band of the score."""
    counts = np.zeros((len(BANDS), len(BANDS)), dtype=int)
    np.add.at(counts, (band_numbers(label), band_numbers(score)), 1)
    return counts.tolist()


def _part(
    rows: Sequence[RecordingScore], train: Sequence[SessionLabel], dev: Sequence[SessionLabel]
) -> dict[str, Any]:
    """A part of the test set beside the look-up and the median; n alone below two people."""
    people = len({row.person for row in rows})
    found: dict[str, Any] = {"n": len(rows), "people": people}
    if people < 2:
        return found
    score, label, bootstrap = _arrays(rows)
    guesses = trivial_predictions(rows, train, dev)
    found["mae"] = bootstrap.figure(lambda w: mae(score, label, w)).to_json()
    found["rmse"] = bootstrap.figure(lambda w: rmse(score, label, w)).to_json()
    for key, name in (("median_mae", "train median"), ("look_up_mae", "identity look-up")):
        guess = guesses[name]
        found[key] = bootstrap.figure(lambda w, g=guess: mae(g, label, w)).to_json()
    return found
