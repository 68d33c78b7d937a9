"""Losses from the theory: what a lens leaves to any linear attacker, not to one recogniser.

All are differentiable in the point spread function, hence in the lens (privacy.md 4.0, 4.4, 4.7).
They fall without bound as the blur grows: they make sense only beside a task that needs detail, or
under a limit on the blur (lens.max_window). SNR_f = n |H_f|^2 S_f / s^2, n frames, noise s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from opticaldr.config import LossConfig
from opticaldr.optics import bands
from opticaldr.types import FACE_SHARE, Psf, Scene

DIRECTIONS = 16
"""Principal directions between people, and as many within, that describe faces."""


# --- what comes back: spectrum ----------------------------------------------------------------


def soft_recoverable_band(
    snr: Float[Tensor, "*k s s"], cycles_per_face: Float[Tensor, "s s"]
) -> Float[Tensor, "*k"]:
    """Smooth k*: number of rings, from the lowest on, whose detail comes back [cycles per face].

    R_j = mean over ring j of SNR / (1 + SNR) is the share of its detail that the best linear
    attacker restores; k* = sum_k R_1 R_2 .. R_k. Where each ring is wholly restored or wholly lost
    it is bands.recoverable_band; for Gaussian blurs the two agree to a ring. A ring with zeros,
    which the hard count takes whole if half of it has SNR > 1, counts here by its share: defocus
    discs come out up to 40 % lower. As any count it hardly changes while all detail is restored.
    """
    share = snr / (1 + snr)
    return bands.ring_shares(share, cycles_per_face).cumprod(-1).sum(-1)


def leaked_bits(snr: Float[Tensor, "*k c s s"], *, known_thumbnail: int = 0) -> Float[Tensor, "*k"]:
    """Bits about the scene in a record: 1/2 sum over colours and frequencies of log2(1 + SNR_f).

    An upper bound for every distribution of faces with the spectrum S_f (Hadamard); the colours
    count as if they were independent. known_thumbnail: k; frequencies that a k x k thumbnail of
    the frame shows anyway, up to k/2 cycles per frame, do not count. Brightness never does.
    """
    size = snr.shape[-1]
    index = torch.fft.fftfreq(size, 1 / size, device=snr.device).abs()
    finer = torch.maximum(index[:, None], index) > known_thumbnail / 2
    return (torch.log1p(snr) * finer).sum((-3, -2, -1)) / (2 * math.log(2))


# --- what comes back: people ------------------------------------------------------------------


def effective_information(
    identity: Float[Tensor, "q p"],
    nuisance: Float[Tensor, "w p"],
    *,
    noise: float,
    frames: int = 1,
    nuisance_precision: float = 1.0,
) -> Float[Tensor, "q q"]:
    """Fisher information on identity once the nuisance is unknown: I_tt - I_tz (I_zz + L)^-1 I_zt.

    Args:
        identity: rows J_t = H x change of the scene per unit of each identity coordinate.
        nuisance: rows J_z, the same for pose, light and expression.
        noise: s per sample and frame [full scale]. frames: n; I = n J^T J / s^2.
        nuisance_precision: L, what the attacker knows of the nuisance beforehand: 1 = its
            distribution, if rows are one standard deviation; 0 = nothing (privacy.md 4.7).
    """
    scale = frames / noise**2
    within = scale * nuisance @ nuisance.T
    within = within + nuisance_precision * torch.eye(len(nuisance)).to(within)
    between = scale * identity @ nuisance.T
    explained = between @ torch.linalg.solve(within, between.T)
    return scale * identity @ identity.T - explained


def identity_bits(information: Float[Tensor, "q q"]) -> Float[Tensor, ""]:
    """1/2 log2 det(I + I_eff), identity coordinates in units of their spread between people.

    With nuisance_precision 1 it is the mutual information of identity and record in the linear
    Gaussian model: an estimate, not a bound.
    """
    return torch.logdet(torch.eye(len(information)).to(information) + information) / math.log(4)


def two_covariance_d2(
    difference: Float[Tensor, "m p"],
    within: Float[Tensor, "w p"],
    *,
    noise: float,
    frames: int = 1,
) -> Float[Tensor, "m"]:
    """d^2 = dm^T (Sw + s^2 I / n)^-1 dm of each blurred difference dm of two people, Sw = W^T W.

    Separation by linear discriminant analysis: a prediction, no bound for other attackers.
    """
    return effective_information(difference, within, noise=noise, frames=frames).diagonal()


@dataclass(frozen=True)
class Appearance:
    """How faces differ, in linear light: directions times their standard deviation.

    identity: (q, 3, s, s) between people. nuisance: (w, 3, s, s) within a person.
    """

    identity: Tensor
    nuisance: Tensor

    @property
    def scenes(self) -> Scene:
        """All directions as one batch for the lens, which is linear: (q + w, 3, s, s)."""
        return torch.cat([self.identity, self.nuisance])

    def bits(self, seen: Tensor, *, noise: float, frames: int) -> Float[Tensor, ""]:
        """identity_bits of a camera, from its blurred `scenes` (q + w, 3, s, s)."""
        rows = seen.flatten(1).double()
        between, within = rows.split([len(self.identity), len(self.nuisance)])
        return identity_bits(effective_information(between, within, noise=noise, frames=frames))


def fit_appearance(scenes: Scene, people: Int[Tensor, "b"]) -> Appearance:
    """Principal directions of the scatter between and within people.

    scenes: (b, 3, s, s) linear light, several of each person.
    """
    _, which, count = torch.unique(people, return_inverse=True, return_counts=True)
    flat = scenes.flatten(1)
    means = flat.new_zeros(len(count), flat.shape[1]).index_add_(0, which, flat) / count[:, None]
    between = _directions(means - flat.mean(0), len(count) - 1)
    within = _directions(flat - means[which], len(flat) - len(count))
    shape = scenes.shape[1:]
    return Appearance(between.to(scenes).view(-1, *shape), within.to(scenes).view(-1, *shape))


def _directions(rows: Tensor, freedom: int) -> Tensor:
    """The DIRECTIONS widest principal directions of (n, p) rows, each times its deviation."""
    _, left = torch.linalg.eigh(rows @ rows.T)
    kept = left[:, -min(DIRECTIONS, freedom) :]
    return kept.T @ rows / math.sqrt(freedom)


# --- for the trainer --------------------------------------------------------------------------


def wanted_terms(weights: LossConfig) -> list[str]:
    """Names of these losses that have a weight."""
    names = ("leaked_bits", "recoverable_band", "fisher_bits")
    return [name for name in names if getattr(weights, name) > 0]


def spectral_losses(
    psf: Psf, weights: LossConfig, *, pixels: int, noise: float
) -> dict[str, Float[Tensor, ""]]:
    """leaked_bits and recoverable_band at the sharpest of the depths, as far as they are wanted.

    pixels: of the sensor [px]. noise: of the sensor per sample and frame [full scale].
    """
    power = bands.face_power(pixels, FACE_SHARE * pixels).to(psf.device)
    snr = bands.signal_to_noise(psf, power, noise=noise, frames=weights.attacker_frames)
    found = {}
    if weights.leaked_bits > 0:
        found["leaked_bits"] = leaked_bits(snr, known_thumbnail=weights.known_thumbnail).max()
    if weights.recoverable_band > 0:
        cycles = bands.face_frequencies(pixels, FACE_SHARE * pixels)
        found["recoverable_band"] = soft_recoverable_band(snr.sum(1), cycles).max()
    return {name: value.to(psf) for name, value in found.items()}
