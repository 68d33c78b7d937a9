"""How often the intervals and verdicts of part C are right, on simulated sets whose truth is known.

    python experiments/calibration.py [auc] [metrics] [alarms] [--sets 200] [--seed 0]

Each set has people with several images (privacy.md 2.4 and 7.4). "lift t": a mated score is
t u_i + e, so that some people's run high; 3,000 random non-mated scores have the same law. "quality":
people (.7) and images (.5) raise mated and non-mated scores alike. Prints Markdown tables; the
standard error of a rate near 5 % from 200 sets is 1.5 %. Each of the three tables takes about five
minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from opticaldr.data.pairs import Pairs
from opticaldr.privacy.curve import Curve
from opticaldr.privacy.intervals import equivalence, estimates, free_direction, independent_variance
from opticaldr.privacy.multiplicity import max_statistic
from opticaldr.privacy.per_person import per_person
from opticaldr.privacy.statistics import Scores

REPLICATES = 500
NONMATED = 3000
MARGIN = 0.05
RATES = (1e-1, 1e-2)


@dataclass(frozen=True)
class Design:
    """People, images of each, and what the scores depend on; lift 0 = "quality"."""

    people: int
    images: int
    lift: float

    @property
    def name(self) -> str:
        kind = f"lift {self.lift:g}" if self.lift else "quality"
        return f"{self.people} x {self.images}, {kind}"

    @property
    def pairs(self) -> Pairs:
        """Every mated pair and 3,000 random non-mated ones, the same in every set."""
        rng = np.random.default_rng(0)
        a, b = np.triu_indices(self.images, 1)
        start = np.arange(self.people)[:, None] * self.images
        other = rng.integers(self.people * self.images, size=(2 * NONMATED, 2))
        other = other[other[:, 0] // self.images != other[:, 1] // self.images][:NONMATED]
        first = np.concatenate([(start + a).ravel(), other[:, 0]])
        second = np.concatenate([(start + b).ravel(), other[:, 1]])
        return Pairs(first, second, np.arange(len(first)) < len(first) - NONMATED)

    @property
    def person(self) -> np.ndarray:
        return np.arange(self.people * self.images) // self.images

    @property
    def spread(self) -> float:
        """Standard deviation of mated minus non-mated scores, over root 2."""
        if self.lift:
            return math.hypot(self.lift, 1)
        mated, nonmated = 4 * 0.7**2 + 2 * 0.5**2 + 1, 2 * 0.7**2 + 2 * 0.5**2 + 1
        return math.sqrt((mated + nonmated) / 2)

    def draw(self, rng: np.random.Generator, pairs: Pairs, auc: float = 0.5) -> np.ndarray:
        """(n,) scores whose true AUC is `auc`."""
        shift = norm.ppf(auc) * math.sqrt(2) * self.spread * pairs.same
        noise = rng.normal(size=len(pairs))
        if self.lift:
            raised = self.lift * rng.normal(size=self.people)[self.person[pairs.first]]
            own = self.lift * rng.normal(size=len(pairs))
            return shift + noise + np.where(pairs.same, raised, own)
        quality = 0.7 * rng.normal(size=self.people)[self.person]
        quality += 0.5 * rng.normal(size=len(quality))
        return shift + noise + quality[pairs.first] + quality[pairs.second]

    def scores(self, values: np.ndarray, pairs: Pairs) -> Scores:
        first, second = self.person[pairs.first], self.person[pairs.second]
        other = ~pairs.same
        people = np.stack([first[other], second[other]], axis=1)
        return Scores(values[pairs.same], values[other], first[pairs.same], people)


SIZES = ((84, 10), (50, 8), (200, 4), (500, 4))
DESIGNS = (
    *(Design(people, images, 0.5) for people, images in SIZES),
    *(Design(people, images, 1.0) for people, images in SIZES[:2]),
    *(Design(people, images, 0.0) for people, images in (SIZES[0], SIZES[3])),
)


def auc_calibration(
    design: Design, *, sets: int, seed: int, replicates: int = REPLICATES
) -> dict[str, float]:
    """Share of sets in which each interval of the AUC covers .5, and in which a claim is wrong."""
    rng, pairs = np.random.default_rng(seed), design.pairs
    count = dict.fromkeys(("pairs", "percentile", "corrected", "private", "leaks"), 0)
    for trial in range(sets):
        noise = design.draw(rng, pairs)
        margin = norm.ppf(0.5 + MARGIN) * math.sqrt(2) * design.spread
        # the truth at chance, and at the margin on either side by turns
        null = design.scores(noise, pairs)
        side = 1 if trial % 2 else -1
        edge = design.scores(noise + side * margin * pairs.same, pairs)
        area, at_edge = (
            estimates(curve.auc, curve.scores, replicates=replicates, seed=trial)[0]
            for curve in (Curve(null), Curve(edge))
        )
        half = 1.96 * math.sqrt(independent_variance(null))
        low, high = np.quantile(area.replicates, [0.025, 0.975])
        count["pairs"] += abs(area.value - 0.5) <= half
        count["percentile"] += low <= 0.5 <= high
        count["corrected"] += area.limit(0.025) <= 0.5 <= area.limit(0.975)
        count["private"] += equivalence(free_direction(at_edge), margin=MARGIN).shown
        count["leaks"] += free_direction(area).lower95 > 0.5
    return {name: hits / sets for name, hits in count.items()}


def metric_coverage(design: Design, *, sets: int, seed: int, auc: float) -> dict[str, float]:
    """Share of sets in which the 95 % interval of each metric covers its (binormal) truth."""
    rng, pairs = np.random.default_rng(seed), design.pairs
    gap = norm.ppf(auc) * math.sqrt(2)
    truth = np.array([auc, norm.cdf(-gap / 2), gap, *(norm.cdf(norm.isf(r) - gap) for r in RATES)])
    covered, names = np.zeros(len(truth)), ()
    for trial in range(sets):
        curve = Curve(design.scores(design.draw(rng, pairs, auc), pairs), rates=RATES)
        found = dict(
            zip(
                curve.names,
                estimates(curve, curve.scores, replicates=REPLICATES, seed=trial, rates=len(RATES)),
                strict=True,
            )
        )
        del found["advantage"]  # its truth depends on the threshold that was picked
        names = tuple(found)
        limits = np.array([(e.limit(0.025), e.limit(0.975)) for e in found.values()])
        covered += (limits[:, 0] <= truth) & (truth <= limits[:, 1])
    return dict(zip(names, covered / sets, strict=True))


def family_alarms(design: Design, *, sets: int, seed: int, attempts: int = 5) -> dict[str, float]:
    """Share of null sets in which the best of several attempts is said to work."""
    rng, pairs = np.random.default_rng(seed), design.pairs
    count = dict.fromkeys(("max statistic", "labels dealt to pairs"), 0)
    for trial in range(sets):
        scores = [design.scores(design.draw(rng, pairs), pairs) for _ in range(attempts)]
        best = max_statistic(scores, replicates=REPLICATES, seed=trial)
        count["max statistic"] += best.p <= 0.05
        count["labels dealt to pairs"] += dealt_labels_p(scores, best.auc, rng) <= 0.05
    return {name: hits / sets for name, hits in count.items()}


def person_alarms(design: Design, *, sets: int, seed: int) -> dict[str, float]:
    """Share of sets without identity information in which somebody is said to be recognisable."""
    rng, pairs = np.random.default_rng(seed), design.pairs
    found = [
        per_person(design.draw(rng, pairs), pairs, design.person, seed=trial, permutations=200)
        for trial in range(sets)
    ]
    return {"a person": float(np.mean([single.p.min() <= 0.05 for single in found]))}


def dealt_labels_p(scores: list[Scores], best: float, rng: np.random.Generator) -> float:
    """The naive null of the maximum: labels dealt to pairs as if they were independent."""
    both = [np.r_[s.mated, s.nonmated].argsort().argsort() for s in scores]
    mated = len(scores[0].mated)
    nonmated = len(both[0]) - mated
    deals = [rng.permutation(len(both[0]))[:mated] for _ in range(99)]
    largest = [
        max((rank[deal].sum() - mated * (mated - 1) / 2) / (mated * nonmated) for rank in both)
        for deal in deals
    ]
    return (1 + np.sum(np.array(largest) >= best)) / 100


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n\n| design | {' | '.join(columns)} |")  # noqa: T201
    print("|---" * (len(columns) + 1) + "|")  # noqa: T201
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[c]:.3f}' for c in columns)} |", flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=["auc", "metrics", "alarms"])
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    options = {"sets": given.sets, "seed": given.seed}
    if "auc" in given.tables:
        table(
            "AUC: coverage of .5 at a nominal 95 %, as if pairs were independent, by the plain "
            "percentile bootstrap over people, and corrected as reported; wrong 'private' (truth at "
            "the margin) and wrong 'leaks' (truth at chance), nominal 5 %",
            {design.name: auc_calibration(design, **options) for design in DESIGNS},
        )
    if "metrics" in given.tables:
        table(
            "Coverage of the other metrics at a nominal 95 %",
            {
                f"{design.name}, AUC {auc:g}": metric_coverage(design, auc=auc, **options)
                for design, auc in ((DESIGNS[0], 0.5), (DESIGNS[3], 0.5), (DESIGNS[3], 0.8))
            },
        )
    if "alarms" in given.tables:
        table(
            "Best of five null attempts said to work, nominal 5 %",
            {design.name: family_alarms(design, **options) for design in (DESIGNS[0], DESIGNS[3])},
        )
        table(
            "A person said to be recognisable, nominal 5 %",
            {design.name: person_alarms(design, **options) for design in DESIGNS[-2:]},
        )


if __name__ == "__main__":
    main()
