"""The best that any reader can do: Bayes-optimal errors from the generating law, without pictures.

The ideal observer sees the standardised cues of a session exactly (before the renderer cuts them
at 2.4 SD), and knows sex, task and group. Given the score z, cues are normal with mean r z and
covariance S (sessions.py), so t = r' S^-1 cues / sqrt(k), k = r' S^-1 r, says all: t ~ N(sqrt(k) z, 1).
What remains are sums over the 64 scores and one integral over t; nothing is assumed to be linear
or normal about severity, and no random numbers are drawn. Pictures show cues imperfectly: no
reader of pictures reaches this, and how close one can come depends on their number.

An observer who knows people has the labels of `known` other sessions of the person as well (not
their cues). With cues that tell nothing this is the best identity look-up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from opticaldr.data.synthetic.cues import SLOWING, severity_law, severity_moments
from opticaldr.data.synthetic.presets import Preset
from opticaldr.data.synthetic.sessions import (
    ALL_CUES,
    GROUPS,
    NODES,
    PERSON_SHARE,
    BenchmarkSession,
    label_law,
    loadings,
    person_weight,
    score_law,
    trait_correlation,
)

ASSUMPTION = (
    "The observer sees the standardised cues of the session exactly, and knows sex, task, group and "
    "the generating law; a reader of pictures sees them through rendering, sampling in time and "
    "nuisances, so it stays below. Integrated numerically over the 64 scores, no random numbers."
)
_CHUNK = 32
"""Priors that are integrated at once: a few megabytes."""
_STEP = 0.05
"""Step of the integral over t [SD]; halving it changes an MAE by 2e-4 points (the median jumps), an
RMSE by 1e-10."""


@dataclass(frozen=True)
class Optimum:
    """Errors of the best predictions of a label, in BDI-II points.

    r2, rmse: of the posterior mean. mae: of the posterior median. constant_mae: of the best
    constant, the median of all labels. sd: of the labels.
    """

    r2: float
    rmse: float
    mae: float
    constant_mae: float
    sd: float


def optimum(preset: Preset, *, known: int = 0, groups: Sequence[str] = GROUPS) -> Optimum:
    """The best possible for a session of somebody with `known` (0, 1, 2) other known sessions."""
    return _summary(preset, {known: 1}, groups)


def optimum_of(
    preset: Preset, sessions: Sequence[BenchmarkSession], *, known: bool = True
) -> Optimum:
    """The expected optimum for test sessions; `known`: labels of train and dev are known."""
    seen = Counter(s.person for s in sessions if s.split != "test")
    mix = Counter(seen[s.person] if known else 0 for s in sessions if s.split == "test")
    return _summary(preset, mix, GROUPS)


def best_predictions(
    preset: Preset, sessions: Sequence[BenchmarkSession], *, known: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and posterior median (n,) of the labels of sessions, from their true cues.

    known: the labels of the person's other sessions in train and dev are known, too.
    """
    z = _standard_scores()
    of_person: dict[int, list[BenchmarkSession]] = {}
    for session in sessions:
        if known and session.split != "test":
            of_person.setdefault(session.person, []).append(session)
    mean, median = [], []
    for session in sessions:
        weights, information = _channel(preset, session.group)
        t = weights @ np.array(session.standard)
        others = [s.label for s in of_person.get(session.person, []) if s is not session]
        posterior = _prior(preset, others) * np.exp(-0.5 * np.square(t - np.sqrt(information) * z))
        label = (posterior / posterior.sum()) @ label_law(preset.label_noise)
        mean.append(label @ np.arange(64))
        median.append(np.searchsorted(np.cumsum(label), 0.5))
    return np.array(mean), np.array(median, dtype=float)


def describe_optimum(preset: Preset, sessions: Sequence[BenchmarkSession]) -> dict[str, object]:
    """The "optimum" object of truth.json."""
    found = {
        "assumption": ASSUMPTION,
        "unknown_person": asdict(optimum(preset)),
        "one_known_session": asdict(optimum(preset, known=1)),
        "two_known_sessions": asdict(optimum(preset, known=2)),
        "this_test_split": asdict(optimum_of(preset, sessions)),
        "this_test_split_people_unknown": asdict(optimum_of(preset, sessions, known=False)),
    }
    if preset.group_gain != 1:
        found |= {f"group_{g}": asdict(optimum(preset, groups=(g,))) for g in GROUPS}
    return found


def _summary(preset: Preset, mix: Mapping[int, int], groups: Sequence[str]) -> Optimum:
    """Errors averaged over groups (half of the people each) and numbers of known sessions."""
    law = severity_law() @ label_law(preset.label_noise)
    score = np.arange(64)
    variance = float(law @ np.square(score - law @ score))
    middle = np.searchsorted(np.cumsum(law), 0.5)
    squared = absolute = 0.0
    total = sum(mix.values()) * len(groups)
    for known, times in mix.items():
        for group in groups:
            one = _risk(preset, group, known)
            squared, absolute = squared + times / total * one[0], absolute + times / total * one[1]
    return Optimum(
        r2=1 - squared / variance,
        rmse=squared**0.5,
        mae=absolute,
        constant_mae=float(law @ np.abs(score - middle)),
        sd=variance**0.5,
    )


def _risk(preset: Preset, group: str, known: int) -> tuple[float, float]:
    """Expected squared error of the posterior mean, absolute error of the posterior median."""
    _, information = _channel(preset, group)
    z = np.sqrt(information) * _standard_scores()
    t = np.arange(z.min() - 6, z.max() + 6, _STEP) if information > 0 else np.zeros(1)
    density = np.exp(-0.5 * np.square(t[:, None] - z))
    density /= density.sum(0)
    to_label = label_law(preset.label_noise)
    score = np.arange(64)
    squared = absolute = 0.0
    priors = _priors(preset, known)  # joint with what is known: they sum to 1
    for some in np.split(priors, range(_CHUNK, len(priors), _CHUNK)):
        joint = (some[:, None] * density).reshape(-1, 64) @ to_label
        mass = joint.sum(1)
        first, second = (joint * score).sum(1), (joint * np.square(score)).sum(1)
        squared += float((second - np.square(first) / np.maximum(mass, 1e-300)).sum())
        middle = (np.cumsum(joint, axis=1) < 0.5 * mass[:, None]).sum(1)
        absolute += float((joint * np.abs(score - middle[:, None])).sum())
    return squared, absolute


def _priors(preset: Preset, known: int) -> np.ndarray:
    """(m, 64) P(score, labels of the known sessions) for every set of such labels."""
    if known == 0:
        return severity_law()[None]
    labels = np.array(list(combinations_with_replacement(range(64), known)))
    weight, law, seen = _person_laws(preset.icc, preset.label_noise)
    found = (weight[:, None] * seen[:, labels].prod(2)).T @ law
    if known == 2:  # both orders
        found[labels[:, 0] != labels[:, 1]] *= 2
    return found[found.sum(1) > 1e-9]


def _prior(preset: Preset, labels: Sequence[int]) -> np.ndarray:
    """(64,) P(score, labels of other sessions of the person)."""
    if not labels:
        return severity_law()
    weight, law, seen = _person_laws(preset.icc, preset.label_noise)
    return (weight * seen[:, list(labels)].prod(1)) @ law


@lru_cache
def _person_laws(icc: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of people at NODES: their probability, laws of scores and of labels (len(NODES), 64)."""
    weight = np.exp(-np.square(NODES) / 2)
    law = score_law(person_weight(icc))
    return weight / weight.sum(), law, law @ label_law(noise)


def _channel(preset: Preset, group: str) -> tuple[np.ndarray, float]:
    """Weights w and information k of t = w . cues ~ N(sqrt(k) z, 1)."""
    loading = loadings(preset, group)
    spread = np.sqrt(1 - np.square(loading))
    rest = PERSON_SHARE * trait_correlation() + (1 - PERSON_SHARE) * np.eye(len(ALL_CUES))
    covariance = (1 - SLOWING**2) * np.outer(loading, loading)
    covariance += rest * np.outer(spread, spread)
    r = SLOWING * loading
    solved = np.linalg.solve(covariance, r)
    information = float(r @ solved)
    return solved / np.sqrt(information) if information > 0 else solved, information


def _standard_scores() -> np.ndarray:
    mean, sd = severity_moments()
    return (np.arange(64) - mean) / sd
