"""A lens trained against every linear attacker at once, beside plain defocus of the same width.

    python experiments/theory_lens.py [WIDTH] [STEPS]

There is no task here: the question is what shape leaks least at a given blur. WIDTH is the RMS width
of the blur [face widths], mean over five distances from 0.33 to 2 m. Z4 .. Z15 of the focused preset
start as plain defocus of that width and learn against losses.leaked_bits for a minute of video
(1,800 frames), with a price on more width. Prints width, k* and leaked bits for 1, 30 and 1,800
frames at the sharpest of the distances. About a minute on one core.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from opticaldr.config import LossConfig, load_config
from opticaldr.lens import Lens
from opticaldr.optics import bands
from opticaldr.theory_losses import leaked_bits, spectral_losses
from opticaldr.types import FACE_SHARE, Psf

DEPTHS_M = 1 / torch.linspace(1 / 0.33, 1 / 2.0, 5)
FRAMES = (1, 30, 1800)
SETTINGS = ["lens.sensor_pixels=128", "lens.max_window=1024"]
PIXELS, SEED, LEARNING_RATE = 128, 0, 0.02
WIDTH_PRICE = 100.0
"""Of (width / limit - 1)^2 against 1e-5 a bit: one per cent wider costs 1,000 bits."""


def rms_width(psf: Psf) -> Tensor:
    """Standard deviation of the light along one axis, mean over depths and colours [face widths]."""
    m = psf.shape[-1]
    index = torch.arange(m, dtype=torch.float64) - m // 2
    spread = [
        (light * index**2).sum(-1) / light.sum(-1) - ((light * index).sum(-1) / light.sum(-1)) ** 2
        for light in (psf.double().sum(-1), psf.double().sum(-2))
    ]
    return (torch.stack(spread).mean() ** 0.5) / (FACE_SHARE * PIXELS)


def train(lens: Lens, width: float, steps: int, noise: float) -> None:
    weights = LossConfig(leaked_bits=1.0, attacker_frames=FRAMES[-1])
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():  # by symmetry the astigmatisms have no gradient at exactly 0
        lens.coefficients[4:] += 0.02 * torch.randn(11, generator=generator)
    lens.requires_grad_(True)
    optimiser = torch.optim.Adam(lens.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        psf = lens.psf(DEPTHS_M)
        bits = spectral_losses(psf, weights, pixels=PIXELS, noise=noise)["leaked_bits"]
        excess = torch.relu(rms_width(psf) / width - 1)
        loss = 1e-5 * bits + WIDTH_PRICE * excess.square()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        lens.pull_into_window()


def defocused(sign: int, width: float) -> Lens:
    """The focused preset with Z4 moved until its mean RMS width is as given."""
    lens = Lens(load_config("focused", SETTINGS).lens).requires_grad_(False)
    start = float(lens.coefficients[3])
    near, far = 0.0, 12.0
    for _ in range(20):
        middle = (near + far) / 2
        lens.coefficients[3] = start + sign * middle
        wide = float(rms_width(lens.psf(DEPTHS_M))) > width
        near, far = (near, middle) if wide else (middle, far)
    return lens


def report(name: str, lens: Lens, noise: float) -> None:
    with torch.no_grad():
        psf = lens.psf(DEPTHS_M)
    face = PIXELS, FACE_SHARE * PIXELS
    snr = bands.signal_to_noise(psf, bands.face_power(*face), noise=noise)
    cycles = bands.face_frequencies(*face)
    band = [int(bands.recoverable_band(n * snr.sum(1), cycles).max()) for n in FRAMES]
    bits = "/".join(f"{float(leaked_bits(n * snr).max()):,.0f}" for n in FRAMES)
    print(f"{name:10} width {float(rms_width(psf)):.3f}  k* {band}  bits {bits}")  # noqa: T201


def main(width: float, steps: int) -> None:
    config = load_config("focused", SETTINGS)
    noise = config.sensor.read_noise_test
    report("in focus", Lens(config.lens), noise)
    for sign, name in ((1, "defocus +"), (-1, "defocus -")):
        lens = defocused(sign, width)
        report(name, lens, noise)
        train(lens, width, steps, noise)
        report("trained", lens, noise)
        print("  Z4 .. [um]", [round(value, 2) for value in lens.coefficients.tolist()[3:]])  # noqa: T201


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = [*sys.argv[1:], *("0.06", "120")[len(sys.argv) - 1 :]]
    main(float(given[0]), int(given[1]))
