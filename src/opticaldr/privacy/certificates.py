"""What no attacker can exceed: bounds from optics and noise alone (privacy.md section 4).

The record is y = Hx + n with n white Gaussian of standard deviation s per sample and frame; all
that is computed from y (converter, compression, any network) can only know less (data processing
inequality). Attackers know H, s and both candidates. `distance` is always ||H(x1 - x0)||, all
pixels and colours together [full scale]; `noise` is s [full scale]; `frames` is n, independent
frames of a still scene. Arrays broadcast.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import xlogy
from scipy.stats import norm

from opticaldr.optics.bands import FACE_WIDTH_M
from opticaldr.types import InputError

MOST_FRAMES = 10**12
"""Where counting ends: a thousand years at 30 frames a second."""


# --- two known candidates (Theorem 1) --------------------------------------------------------


def d_pair(distance: ArrayLike, noise: float, *, frames: int = 1) -> np.ndarray:
    """d = sqrt(n) ||H(x1 - x0)|| / s: separation of two candidates in standard deviations."""
    if not (noise > 0 and frames >= 1):
        raise InputError(
            f"Expected noise above 0 and at least 1 frame, found {noise} and {frames}; without "
            "noise there is no limit to what an attacker can tell."
        )
    return np.sqrt(frames) * np.asarray(distance, dtype=float) / noise


def tv(d: ArrayLike) -> np.ndarray:
    """Largest TPR - FPR of any attacker: total variation 2 Phi(d/2) - 1, attained."""
    return 2 * norm.cdf(np.asarray(d) / 2) - 1


def auc_pair(d: ArrayLike) -> np.ndarray:
    """Largest AUC of any attacker: Phi(d / sqrt 2), attained."""
    return norm.cdf(np.asarray(d) / np.sqrt(2))


def tpr_cap(fpr: ArrayLike, d: ArrayLike) -> np.ndarray:
    """Largest TPR at a false-positive rate: Phi(Phi^-1(fpr) + d), attained (Neyman and Pearson)."""
    return norm.cdf(norm.ppf(fpr) + np.asarray(d))


def eps_delta(mu: float, eps: float) -> float:
    """delta of (eps, delta) local differential privacy of faces at most mu apart (d <= mu).

    delta = Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2)    (Dong, Roth and Su 2022, GDP)
    """
    inside, outside = norm.cdf(-eps / mu + mu / 2), norm.logcdf(-eps / mu - mu / 2)
    return float(inside - np.exp(eps + outside))


# --- noise that depends on the signal --------------------------------------------------------


def tv_poisson(electrons0: ArrayLike, electrons1: ArrayLike, *, frames: int = 1) -> float:
    """Bound for shot noise: sqrt(1 - exp(-n sum (sqrt l0 - sqrt l1)^2)), l = mean electrons.

    Read noise on top is processing, so the bound stays valid with it.
    """
    apart = np.sqrt(np.asarray(electrons0, float)) - np.sqrt(np.asarray(electrons1, float))
    return float(tv_from_affinity(frames * np.square(apart).sum() / 2))


def tv_gauss_hetero(
    mean0: ArrayLike,
    variance0: ArrayLike,
    mean1: ArrayLike,
    variance1: ArrayLike,
    *,
    frames: int = 1,
) -> float:
    """Bound for Gaussian noise whose variance differs between the candidates: sqrt(1 - BC^2n).

    Using the smaller variance for both would be wrong: the variance itself tells them apart.
    """
    lost = hetero_affinity(*(np.asarray(a, float) for a in (mean0, variance0, mean1, variance1)))
    return float(tv_from_affinity(frames * lost.sum()))


def hetero_affinity(
    mean0: np.ndarray, variance0: np.ndarray, mean1: np.ndarray, variance1: np.ndarray
) -> np.ndarray:
    """-ln of the Bhattacharyya coefficient of each sample; samples and frames add up.

    ln BC = 1/2 ln(2 s0 s1 / (s0^2 + s1^2)) - (m0 - m1)^2 / (4 (s0^2 + s1^2))
    """
    total = variance0 + variance1
    overlap = np.log(total / (2 * np.sqrt(variance0 * variance1))) / 2
    return overlap + np.square(mean0 - mean1) / (4 * total)


def tv_from_affinity(lost: ArrayLike) -> np.ndarray:
    """TV <= sqrt(1 - BC^2) from lost = -ln BC."""
    return np.sqrt(-np.expm1(-2 * np.asarray(lost, dtype=float)))


# --- verification and identification (Theorems 2 and 3) --------------------------------------


def auc_from_v(v: ArrayLike) -> np.ndarray:
    """Largest AUC of verification if TPR <= FPR + V at every FPR: 1/2 + V - V^2/2.

    V = mean of tv over any coupling of mated and non-mated scenes (independent ones are valid).
    """
    v = np.asarray(v, dtype=float)
    return 0.5 + v - v**2 / 2


def rank1_tv(distances: ArrayLike, noise: float, *, frames: int = 1) -> float:
    """Largest rank-1 rate among M known, equally likely candidates.

    1/M + mean_j [2 Phi(sqrt(n) ||H(x_j - mean x)|| / 2s) - 1]; distances: (M,) to the mean.
    """
    return rank1_from_v(tv(d_pair(distances, noise, frames=frames)))


def rank1_from_v(spread: np.ndarray) -> float:
    """1/M + mean_j TV(P_j, Q), at most 1; spread: (M,) total variation to one reference law Q."""
    return min(1.0, 1 / spread.size + float(spread.mean()))


def rank1_bits(bits: float, candidates: int) -> float:
    """Largest rank-1 rate among M equally likely candidates if the record leaks so many bits.

    The P >= 1/M at which D_bin(P || 1/M) = bits (Fano's inequality, exact form).
    """

    def divergence(p: float) -> float:
        chance = 1 / candidates
        nats = xlogy(p, p / chance) + xlogy(1 - p, (1 - p) / (1 - chance))
        return float(nats) / np.log(2)

    if bits >= np.log2(candidates):
        return 1.0
    return float(brentq(lambda p: divergence(p) - bits, 1 / candidates, 1.0, xtol=1e-12))


def bits_hadamard(power: ArrayLike, noise: float, *, frames: int = 1) -> float:
    """Bits that a record can hold about its scene: 1/2 sum_f log2(1 + n P_f / s^2).

    power: P_f, variance of each coefficient of the blurred scenes in any orthonormal basis, or
    |H_f|^2 S_f where H is diagonal in it. True for every distribution of scenes with that power;
    lighting and hair count as if they were identity.
    """
    snr = np.square(d_pair(np.sqrt(power), noise, frames=frames))
    return float(np.log1p(snr).sum() / (2 * np.log(2)))


# --- thumbnail equivalence (Theorem 4) -------------------------------------------------------


def simulator_delta(residual: ArrayLike, noise: float, *, frames: int = 1) -> np.ndarray:
    """How far a record is from one simulated out of the thumbnail: 2 Phi(sqrt(n) r / 2s) - 1.

    residual: r = ||Hx - H R(T(x))||, R any predictor of the scene from its thumbnail T(x).
    """
    return tv(d_pair(residual, noise, frames=frames))


def auc_cap_simulator(thumbnail_auc: float, delta_mated: float, delta_nonmated: float) -> float:
    """AUC of any attacker <= best AUC on the noise-free thumbnail + both mean deltas, at most 1."""
    return min(1.0, thumbnail_auc + delta_mated + delta_nonmated)


def frames_until(residuals: ArrayLike, noise: float, target: float) -> int:
    """Lifetime: largest n with mean delta <= target, 0 if one frame exceeds it, at most MOST_FRAMES.

    For one residual n = floor((2 Phi^-1((1 + target) / 2) s / r)^2).
    """
    return last_frame(lambda n: float(np.mean(simulator_delta(residuals, noise, frames=n))), target)


def last_frame(delta: Callable[[int], float], target: float) -> int:
    """Largest n <= MOST_FRAMES with delta(n) <= target, for a delta that grows with n."""
    low, high = 0, 1
    while high <= MOST_FRAMES and delta(high) <= target:
        low, high = high, 2 * high
    high = min(high, MOST_FRAMES + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if delta(middle) <= target else (low, middle)
    return low


# --- a band limit that needs no noise --------------------------------------------------------


def aperture_for_band(
    cycles_per_face: float,
    distance_m: float,
    *,
    wavelength_m: float = 550e-9,
    face_width_m: float = FACE_WIDTH_M,
) -> float:
    """Largest aperture D [m] that passes no finer detail: D = wavelength c z / face width.

    Incoherent cut-off D / wavelength (cycles/rad). The only zero of the transfer function that
    video cannot fill: pixels are undone by motion, rings of a blur disc are isolated.
    """
    return wavelength_m * cycles_per_face * distance_m / face_width_m
