"""How much detail a record can hold: leaked bits and recoverable band (privacy.md 4.0 and 4.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import dctn

from opticaldr.optics import bands
from opticaldr.privacy import certificates
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.certificates_scenes import Moments, SeenScenes
from opticaldr.privacy.certificates_simulator import RecordLaw
from opticaldr.types import FACE_SHARE

COHORTS = (100, 1000, 10_000, 1_000_000)
"""Sizes of the groups whose rank-1 caps are shown (privacy.md 4.3)."""


def recoverable_bands(
    camera: CameraUnderAttack, law: RecordLaw, train: SeenScenes, size: int, frames: Sequence[int]
) -> dict[str, Any]:
    """k* per number of frames, all colours together; null where no PSF describes the camera."""
    if camera.psf is None:
        reason = "no point spread function describes this camera"
        return {"by_frames": None, "reason": reason, "identity_band": list(bands.IDENTITY_BAND)}
    total = sum(float(law.variance(rows).sum()) for rows in train.batches())
    noise = math.sqrt(total / train.records.size)
    snr = bands.signal_to_noise(camera.psf[0].detach().cpu(), train.power, noise=noise).sum(0)
    cycles = bands.face_frequencies(size, FACE_SHARE * size)
    return {
        "by_frames": {str(n): int(bands.recoverable_band(n * snr, cycles)) for n in frames},
        "limit": int(cycles[0].max()),
        "identity_band": list(bands.IDENTITY_BAND),
        "reason": "a design indicator, not a bound",
    }


@dataclass(frozen=True)
class LeakedSpectrum:
    """Power of blurred faces in units of the noise of one sample, and what the noise level tells.

    power: (3 s s,) upper 95 % limits in a basis of cosines. told: bits that the level of the noise
    of one frame tells beyond its mean (0 without shot noise).
    """

    power: np.ndarray
    told: float

    @classmethod
    def of(cls, train: SeenScenes, law: RecordLaw, size: int) -> LeakedSpectrum:
        """Cosines have no jump at the borders of the frame, which would look like detail.

        With shot noise the samples are first divided by their mean noise. Their covariance is then
        that of the scene plus 1, but the entropy of their noise is lower than that of noise 1 by
        sum_i E log(mean variance / variance) / 2: the bits `told`.
        """
        records, mean = train.records, train.records.mean(axis=0, dtype=float)
        noise, logs = np.zeros(mean.shape), np.zeros(mean.shape)
        for rows in train.batches():
            variance = law.variance(rows)
            noise += variance.sum(axis=0) / len(records)
            logs += np.log2(variance).sum(axis=0) / len(records)
        power = Moments()
        for rows in train.batches():
            units = ((rows - mean) / np.sqrt(noise)).reshape(-1, 3, size, size)
            power.add(np.square(dctn(units, axes=(2, 3), norm="ortho")).reshape(len(rows), -1))
        told = float((np.log2(noise) - logs).sum()) / 2 if np.isfinite(law.full_well_e) else 0.0
        return cls(power.upper(train.people), max(told, 0.0))

    def bits(self, frames: int) -> float:
        """Upper bound of what so many frames tell about the scene."""
        return certificates.bits_hadamard(self.power, 1.0, frames=frames) + frames * self.told


def leaked_bits(leaked: LeakedSpectrum, frames: int) -> dict[str, Any]:
    bits = leaked.bits(frames)
    caps = {str(people): certificates.rank1_bits(bits, people) for people in COHORTS}
    return {"frames": frames, "bits": bits, "rank1_cap": caps}
