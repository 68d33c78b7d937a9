"""Figures of merit of a lens against closed forms, and the geometry of a face."""

import math
from dataclasses import replace

import pytest
import torch

from lenses import coefficients
from opticaldr.optics import analysis, bands
from opticaldr.optics.geometry import FaceGeometry
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.system import OpticalSystem, focus_coefficient_um
from opticaldr.optics.zernike import zernike_basis
from opticaldr.types import InputError

SYSTEM = OpticalSystem()
GREEN = 1


def clear_pupil(samples, radius):
    """A disc with a grey edge on samples x samples cells, radius in cells, float64."""
    sub = (torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5
    fine = (torch.arange(samples, dtype=torch.float64)[:, None] - samples // 2 + sub).flatten()
    inside = (fine[:, None] ** 2 + fine**2 < radius**2).double()
    return torch.nn.functional.avg_pool2d(inside[None, None], 8)[0, 0]


def perfect_psf(samples=512, radius=100.0):
    """PSF of an aberration-free pupil; its OTF ends at 2 radius / samples cycles per sample."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(clear_pupil(samples, radius))))
    psf = spectrum.abs().square()
    return psf / psf.sum()


# --- transfer, Strehl, encircled energy -------------------------------------------------------


def test_mtf_of_a_clear_pupil_is_the_closed_form():
    psf = perfect_psf()
    frequency, modulation = analysis.mtf(psf, pitch_m=1e-6)
    v = (frequency / (2 * 100.0 / 512 / 1e-6)).clamp(max=1)
    closed = 2 / math.pi * (v.acos() - v * (1 - v**2).sqrt())
    # cells on the rim count with the square of their grey: 1 / (3 radius) of the light is missing
    torch.testing.assert_close(modulation, closed, atol=3.4e-3, rtol=0)


def test_filling_up_with_zeros_only_adds_frequencies():
    psf = perfect_psf(128, 20.0)
    coarse, first = analysis.mtf(psf, pitch_m=1e-6)
    fine, second = analysis.mtf(psf, pitch_m=1e-6, size=512)
    assert len(fine) == 4 * len(coarse)
    at = torch.tensor([0, 40, 80])  # rings average slightly different directions
    torch.testing.assert_close(second[at], first[at // 4], atol=0.02, rtol=0)


@pytest.mark.parametrize("j", range(5, 16))
def test_a_fourteenth_of_a_wave_gives_marechals_strehl(j):
    # optics.md 5: 0.817-0.822 for every term from Z5 to Z15
    axis = torch.linspace(-1, 1, 257, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = (x**2 + y**2 <= 1).double()
    phase = 2 * math.pi / 14 * zernike_basis(15, x, y)[j - 1]
    assert 0.807 < float(analysis.axial_strehl(inside, phase)) < 0.832


@pytest.mark.parametrize(
    ("waves", "expected"), [(0.25, 0.81057), (0.5, 0.40528), (0.75, 0.09006), (1.0, 0.0)]
)
def test_defocus_on_the_axis_is_a_squared_sinc(waves, expected):
    # optics.md 5; uniform samples of r^2 make the mean over the disc a mean over samples
    r2 = ((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)[None, :]
    phase = 2 * math.pi * waves * r2
    assert float(analysis.axial_strehl(torch.ones_like(r2), phase)) == pytest.approx(
        expected, abs=1e-4
    )


def test_a_lens_in_focus_has_the_strehl_of_its_spherical_aberration():
    # 0.065 wave peak to valley of r^4 (optics.md finding 4) costs about 1.5 %; the peak falls on a
    # sample; chromatic defocus lowers red and blue
    fine = analysis.fine_system(SYSTEM)
    lens = coefficients(z4=focus_coefficient_um(SYSTEM, 1.0))
    red, green, blue = analysis.strehl(psf_direct(lens, torch.tensor([1.0]), fine), fine)[0]
    assert 0.95 < float(green) < 1.005
    assert max(float(red), float(blue)) < 0.3


def test_the_first_dark_ring_holds_838_permille():
    # Airy: 1 - J0(3.8317)^2 = 0.8378; the grey rim, as above, is worth 1 / (3 radius)
    psf = perfect_psf(512, 100.0)
    radius = 1.2197 * 512 / 200.0 * 1e-6
    share = analysis.encircled_energy(psf, torch.tensor([radius]), pitch_m=1e-6)
    assert float(share) == pytest.approx(0.8378, abs=3.4e-3)


def test_encircled_energy_does_not_care_where_the_light_is():
    psf = perfect_psf(256, 50.0)
    radii = torch.tensor([2e-6, 5e-6, 20e-6])
    here = analysis.encircled_energy(psf, radii, pitch_m=1e-6)
    there = analysis.encircled_energy(psf.roll((5, -9), (0, 1)), radii, pitch_m=1e-6)
    # the far rings wrap round the window and pull the centroid by a hundredth of a sample
    torch.testing.assert_close(here, there, atol=2e-3, rtol=0)
    assert (here.diff() > 0).all()


# --- recoverable band ------------------------------------------------------------------------


def frequencies(geometry):
    return bands.face_frequencies(geometry.system.sensor_pixels, geometry.face_pixels)


def signal_to_noise(psf, geometry, **settings):
    power = bands.face_power(geometry.system.sensor_pixels, geometry.face_pixels)
    return bands.signal_to_noise(psf, power, **settings)


def gaussian_psf(geometry, sigma_faces):
    """Gaussian blur, standard deviation in face widths, in sensor pixels."""
    size = geometry.system.sensor_pixels
    sigma = sigma_faces * geometry.face_pixels
    index = torch.arange(size, dtype=torch.float64) - size // 2
    profile = torch.exp(-(index**2) / (2 * sigma**2))
    return (profile[:, None] * profile) / profile.sum() ** 2


@pytest.mark.parametrize("sigma", [0.02, 0.03, 0.05, 0.083])
@pytest.mark.parametrize("frames", [1, 1800])
def test_the_band_of_a_gaussian_ends_where_its_snr_crosses_one(sigma, frames):
    geometry, noise = FaceGeometry(SYSTEM), 0.01

    def snr(k):
        spectrum = float(bands.face_spectrum(torch.tensor(k))) * geometry.face_pixels**2
        return frames * math.exp(-4 * math.pi**2 * sigma**2 * k**2) * spectrum / noise**2

    low, high = 0.1, 80.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if snr(middle) > 1 else (low, middle)
    found = signal_to_noise(gaussian_psf(geometry, sigma), geometry, noise=noise, frames=frames)
    band = int(bands.recoverable_band(found, frequencies(geometry)))
    # a ring counts while its median frequency, close to k, lies below the crossing; frequencies
    # are 0.625 cycles per face apart
    assert abs(band - low) < 1.1


def test_more_light_in_the_detail_means_more_band():
    geometry = FaceGeometry(SYSTEM)
    cycles = frequencies(geometry)
    found = [
        int(bands.recoverable_band(signal_to_noise(psf, geometry, noise=0.01, frames=n), cycles))
        for psf in (gaussian_psf(geometry, 0.1), gaussian_psf(geometry, 0.05))
        for n in (1, 30, 1800)
    ]
    assert found[:3] == sorted(found[:3])
    assert found[3:] == sorted(found[3:])
    assert all(wide < narrow for wide, narrow in zip(found[:3], found[3:], strict=True))


def test_a_hole_in_the_transfer_ends_the_band_even_if_detail_returns_beyond():
    cycles = frequencies(FaceGeometry(SYSTEM))
    snr = torch.full((256, 256), 100.0, dtype=torch.float64)
    snr[(cycles >= 9.5) & (cycles < 10.5)] = 0.5
    assert int(bands.recoverable_band(snr, cycles)) == 9


def test_a_psf_wider_than_the_frame_is_sampled_at_the_frames_frequencies():
    geometry = FaceGeometry(replace(SYSTEM, sensor_pixels=64))
    psf = torch.zeros(96, 96, dtype=torch.float64)
    psf[48 + 40, 48] = 1.0  # 40 px off the axis: beyond the frame, the modulus stays 1
    snr = signal_to_noise(psf, geometry, noise=0.01)
    point = torch.ones(1, 1, dtype=torch.float64)
    still = signal_to_noise(point, geometry, noise=0.01)
    torch.testing.assert_close(snr, still, rtol=1e-9, atol=0)


def test_no_noise_is_refused():
    geometry = FaceGeometry(SYSTEM)
    with pytest.raises(InputError, match="noise above 0"):
        signal_to_noise(gaussian_psf(geometry, 0.1), geometry, noise=0.0)


# --- geometry --------------------------------------------------------------------------------


def test_a_face_in_millimetres_and_cycles():
    geometry = FaceGeometry(SYSTEM)
    assert geometry.face_pixels == pytest.approx(160)
    assert geometry.face_on_sensor_m == pytest.approx(2.3616e-3)
    assert math.degrees(geometry.field_angle_rad) == pytest.approx(6.1, abs=0.01)
    assert geometry.field_width_m(1.0) == pytest.approx(0.106, abs=5e-4)  # optics.md finding 8
    assert geometry.field_width_m(geometry.matched_distance_m) * 100 / 160 == pytest.approx(0.16)
    assert geometry.per_face(1 / geometry.face_on_sensor_m) == pytest.approx(1.0)


def test_a_crop_as_wide_as_a_face_is_right_at_one_and_a_half_metres():
    # optics.md finding 8
    geometry = FaceGeometry(SYSTEM, face_share=1.0)
    assert geometry.matched_distance_m == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("bad", "match"),
    [({"face_width_m": 0.0}, "face width above 0"), ({"face_share": 1.5}, "0 to 1 of the frame")],
)
def test_impossible_faces_are_refused(bad, match):
    with pytest.raises(InputError, match=match):
        FaceGeometry(SYSTEM, **bad)
