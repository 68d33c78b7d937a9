"""Linear attackers of rung A3: discriminants of small pictures, and regression on a recogniser.

Both look at k x k thumbnails of the capture, each brought to mean 0 and standard deviation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from torch import Tensor

from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.rungs.lesson import Lesson, unit
from opticaldr.types import InputError

Project = Callable[[np.ndarray], np.ndarray]
"""(n, d) features to (n, k) unit rows."""

SIZES = (8, 12, 16, 24)
"""Sides of the thumbnails [px]."""

_COMPONENTS = 100  # privacy.md 7.6
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Strengths that are tried, as shares of the mean variance of a pixel."""
_CURVE = 0.3
"""Share of the training people behind the first point of the learning curve; the second has all."""


def thumbnails(pictures: Tensor, k: int) -> np.ndarray:
    """(n, 3, s, s) pictures to (n, 3 k k) float64, each of mean 0 and standard deviation 1."""
    parts = [F.adaptive_avg_pool2d(part.float(), k).flatten(1) for part in pictures.split(256)]
    rows = np.concatenate([part.double().numpy() for part in parts])
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(rows.std(axis=1, keepdims=True), 1e-9)


def fit_lda(features: np.ndarray, people: np.ndarray) -> Project:
    """PCA to at most 100 components, then within-class whitening (privacy.md 7.6).

    Args:
        features: (n, d) of images of other people. people: (n,) who they are, any labels.
    """
    _, code, count = np.unique(people, return_inverse=True, return_counts=True)
    several = count[code] >= 2
    if len(count) < 2 or not several.any():
        raise InputError(
            "Expected at least two people, one of them with two images, to learn from, found "
            f"{len(count)} people with at most {count.max(initial=0)} images; give the attacker "
            "more images."
        )
    kept = min(_COMPONENTS, features.shape[1], len(features) - 1)
    pca = PCA(kept, svd_solver="randomized", random_state=0).fit(features)
    reduced = pca.transform(features)
    mean = np.zeros((len(count), kept))
    np.add.at(mean, code, reduced)
    within = (reduced - (mean / count[:, None])[code])[several]
    # n images of one person have n - 1 free deviations: scale up before shrinking the estimate
    within *= np.sqrt(len(within) / (len(within) - len(np.unique(code[several]))))
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    # a person's pictures may all be equal: no spread to whiten, 1e-30 keeps that finite
    whiten = vectors / np.sqrt(np.maximum(values, max(1e-12 * values.max(), 1e-30)))
    return lambda rows: unit(pca.transform(rows) @ whiten)


class Ridge:
    """Least squares with a penalty on the weights, solved once for every penalty."""

    def __init__(self, features: np.ndarray, targets: np.ndarray) -> None:
        """features: (n, d). targets: (n, e)."""
        self.mean, self.target_mean = features.mean(axis=0), targets.mean(axis=0)
        centred = features - self.mean
        self.values, self.vectors = np.linalg.eigh(centred.T @ centred)
        self.moment = self.vectors.T @ (centred.T @ (targets - self.target_mean))

    def predict(self, features: np.ndarray, penalty: float) -> np.ndarray:
        """(n, e) less the mean target. penalty: a share of the mean variance of a feature."""
        stiff = self.values + penalty * self.values.mean()
        return (features - self.mean) @ (self.vectors @ (self.moment / stiff[:, None]))


@dataclass(frozen=True)
class _Try:
    """One setting of an attacker and how he fares on his own people.

    auc: after learning from everyone. auc_few: after learning from a share of the people.
    test: (m, e) unit rows for the images of the test.
    """

    settings: dict[str, float]
    auc: float
    auc_few: float
    test: np.ndarray


@dataclass(frozen=True)
class _Views:
    """Thumbnails of the captures and of their mirror images, k x k; few: (n,) bool of `learn`."""

    k: int
    learn: np.ndarray
    tune: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    few: np.ndarray


def linear(lesson: Lesson, *, progress: OnProgress) -> Iterator[Attempt]:
    """Discriminants, both pictures captured; regression, against clean and captured galleries."""
    discriminants, regressions = [], {teacher.judge.name: [] for teacher in lesson.teachers}
    for done, k in enumerate(SIZES, start=1):
        views = _views(lesson, k)
        discriminants.append(_discriminant(lesson, views))
        for name, found in _regressions(lesson, views):
            regressions[name].append(found)
        progress("linear attackers", done, len(SIZES))

    def attempt(variant: str, gallery: np.ndarray, found: _Try) -> Attempt:
        curve = {"30 %": round(found.auc_few, 4), "100 %": round(found.auc, 4)}
        facts = {**found.settings, "validation_auc": curve, **lesson.study.facts}
        return lesson.arena.attempt("A3", variant, gallery, found.test, **facts)

    best = max(discriminants, key=lambda found: found.auc)
    yield attempt("lda, both captured", best.test, best)
    for teacher in lesson.teachers:
        best = max(regressions[teacher.judge.name], key=lambda found: found.auc)
        yield attempt(f"ridge, {teacher.judge.name}", teacher.test, best)
        yield attempt(f"ridge, {teacher.judge.name}, both captured", best.test, best)


def _views(lesson: Lesson, k: int) -> _Views:
    def both(pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return thumbnails(pictures[0], k), thumbnails(pictures[0].flip(-1), k)

    count = np.bincount(lesson.study.people)
    # every so many of the people in the order of their number of images: the same mix as all
    few = np.argsort(-count, kind="stable")[:: round(1 / _CURVE)]
    return _Views(
        k,
        learn=np.concatenate(both(lesson.learn)),
        tune=both(lesson.tune),
        test=both(lesson.test),
        few=np.tile(np.isin(lesson.study.people, few), 2),
    )


def _discriminant(lesson: Lesson, views: _Views) -> _Try:
    people = np.tile(lesson.study.people, 2)

    def rows(project: Project, group: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return unit(project(group[0]) + project(group[1]))

    project = fit_lda(views.learn, people)
    project_few = fit_lda(views.learn[views.few], people[views.few])
    tune, tune_few = rows(project, views.tune), rows(project_few, views.tune)
    return _Try(
        {"pixels": views.k},
        lesson.tuned_auc(tune, tune),
        lesson.tuned_auc(tune_few, tune_few),
        rows(project, views.test),
    )


def _regressions(lesson: Lesson, views: _Views) -> Iterator[tuple[str, _Try]]:
    """(name of the teacher, attacker) for each teacher and penalty."""
    targets = np.tile(np.concatenate([t.learn for t in lesson.teachers], axis=1), (2, 1))
    ridge = Ridge(views.learn, targets)
    ridge_few = Ridge(views.learn[views.few], targets[views.few])
    ends = np.cumsum([t.learn.shape[1] for t in lesson.teachers])[:-1]
    for penalty in PENALTIES:
        answers = zip(
            lesson.teachers,
            _answers(ridge, views.tune, penalty, ends),
            _answers(ridge_few, views.tune, penalty, ends),
            _answers(ridge, views.test, penalty, ends),
            strict=True,
        )
        for teacher, tune, tune_few, test in answers:
            yield (
                teacher.judge.name,
                _Try(
                    {"pixels": views.k, "penalty": penalty},
                    lesson.tuned_auc(teacher.tune, tune),
                    lesson.tuned_auc(teacher.tune, tune_few),
                    test,
                ),
            )


def _answers(
    ridge: Ridge, group: tuple[np.ndarray, np.ndarray], penalty: float, ends: np.ndarray
) -> list[np.ndarray]:
    """Unit rows for each teacher: what picture and mirror image make the regression expect."""
    expected = ridge.predict(group[0], penalty) + ridge.predict(group[1], penalty)
    return [unit(part) for part in np.split(expected, ends, axis=1)]
