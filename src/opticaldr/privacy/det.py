"""The detection error trade-off: FNMR against FMR on probit axes, with a band over people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from opticaldr.privacy.curve import Curve, cumulative
from opticaldr.privacy.intervals import estimates
from opticaldr.privacy.statistics import Scores

POINTS = 41
HIGHEST_FMR = 0.9


@dataclass(frozen=True)
class Det:
    """FNMR (p,) with its pointwise 95 % band at p rates FMR, evenly spaced in probit.

    The lowest rate is 3 / number of non-mated pairs (rule of three).
    """

    fmr: np.ndarray
    fnmr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pairs: int

    def probit(self, rate: np.ndarray) -> np.ndarray:
        """The axis value of a rate; rates of 0 and 1 lie half a pair inside."""
        return norm.ppf(np.clip(rate, 0.5 / self.pairs, 1 - 0.5 / self.pairs))

    def to_json(self) -> dict[str, Any]:
        """Rates and, under "probit", where to draw them."""
        rates = {"fmr": self.fmr, "fnmr": self.fnmr, "low": self.low, "high": self.high}
        drawn = {name: self.probit(rate).round(4).tolist() for name, rate in rates.items()}
        return {**{name: rate.tolist() for name, rate in rates.items()}, "probit": drawn}


def det_curve(scores: Scores, *, replicates: int, seed: int) -> Det:
    """The curve of one attempt. replicates: resampled sets of people for the band."""
    lowest = min(3 / len(scores.nonmated), 0.5)
    fmr = norm.cdf(np.linspace(norm.ppf(lowest), norm.ppf(HIGHEST_FMR), POINTS))
    curve = Curve(scores, rates=fmr)

    def metrics(mated: np.ndarray, nonmated: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return curve.fnmr(cumulative(mated), cumulative(nonmated))

    points = estimates(
        metrics,
        curve.scores,
        replicates=replicates,
        seed=seed,
        bounds=[(0.0, 1.0)] * POINTS,
        rates=POINTS,
    )
    low, high = np.array([point.figure.ci95 for point in points]).T
    return Det(fmr, np.array([point.value for point in points]), low, high, len(scores))
