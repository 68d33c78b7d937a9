"""Figures of merit of a lens against closed forms, the geometry of a face, and PSFs off the axis."""

import math
from dataclasses import replace

import pytest
import torch

from opticaldr.optics import analysis
from opticaldr.optics.geometry import FaceGeometry
from opticaldr.optics.imaging import convolve
from opticaldr.optics.off_axis import (
    Sag,
    convolve_field,
    field_grid,
    image_centroid,
    psf_field,
    psf_off_axis,
)
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.system import OpticalSystem, focus_coefficient_um
from opticaldr.optics.zernike import zernike_basis
from opticaldr.types import InputError

SYSTEM = OpticalSystem()
GREEN = 1


def coefficients(**terms):
    values = torch.zeros(15)
    for name, value in terms.items():
        values[int(name[1:]) - 1] = value
    return values


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
        spectrum = float(analysis.face_spectrum(torch.tensor(k))) * geometry.face_pixels**2
        return frames * math.exp(-4 * math.pi**2 * sigma**2 * k**2) * spectrum / noise**2

    low, high = 0.1, 80.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if snr(middle) > 1 else (low, middle)
    found = analysis.signal_to_noise(
        gaussian_psf(geometry, sigma), geometry, noise=noise, frames=frames
    )
    band = int(analysis.recoverable_band(found, analysis.face_frequencies(geometry)))
    # a ring counts while its median frequency, close to k, lies below the crossing; frequencies
    # are 0.625 cycles per face apart
    assert abs(band - low) < 1.1


def test_more_light_in_the_detail_means_more_band():
    geometry = FaceGeometry(SYSTEM)
    cycles = analysis.face_frequencies(geometry)
    bands = [
        int(
            analysis.recoverable_band(
                analysis.signal_to_noise(psf, geometry, noise=0.01, frames=n), cycles
            )
        )
        for psf in (gaussian_psf(geometry, 0.1), gaussian_psf(geometry, 0.05))
        for n in (1, 30, 1800)
    ]
    assert bands[:3] == sorted(bands[:3])
    assert bands[3:] == sorted(bands[3:])
    assert all(wide < narrow for wide, narrow in zip(bands[:3], bands[3:], strict=True))


def test_a_hole_in_the_transfer_ends_the_band_even_if_detail_returns_beyond():
    cycles = analysis.face_frequencies(FaceGeometry(SYSTEM))
    snr = torch.full((256, 256), 100.0, dtype=torch.float64)
    snr[(cycles >= 9.5) & (cycles < 10.5)] = 0.5
    assert int(analysis.recoverable_band(snr, cycles)) == 9


def test_a_psf_wider_than_the_frame_is_sampled_at_the_frames_frequencies():
    geometry = FaceGeometry(replace(SYSTEM, sensor_pixels=64))
    psf = torch.zeros(96, 96, dtype=torch.float64)
    psf[48 + 40, 48] = 1.0  # 40 px off the axis: beyond the frame, the modulus stays 1
    snr = analysis.signal_to_noise(psf, geometry, noise=0.01)
    point = torch.ones(1, 1, dtype=torch.float64)
    still = analysis.signal_to_noise(point, geometry, noise=0.01)
    torch.testing.assert_close(snr, still, rtol=1e-9, atol=0)


def test_no_noise_is_refused():
    geometry = FaceGeometry(SYSTEM)
    with pytest.raises(InputError, match="noise above 0"):
        analysis.signal_to_noise(gaussian_psf(geometry, 0.1), geometry, noise=0.0)


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


# --- off the axis ----------------------------------------------------------------------------


def test_on_the_axis_both_formulations_agree():
    lens, depths = coefficients(z4=-31.0, z7=0.4, z11=0.3), torch.tensor([0.33, 1.0])
    fast = psf_direct(lens, depths, SYSTEM)
    general = psf_off_axis(Sag.of(lens, SYSTEM), depths, SYSTEM)
    # float32 phases of some hundred radian against float64 ones
    torch.testing.assert_close(general, fast, atol=5e-6, rtol=0)


def test_off_axis_psf_against_a_plain_sum_of_spherical_waves():
    # Huygens: every point of a small pupil sends exp(ik path), all paths exact
    small = OpticalSystem(grid=128, pitch_m=3.69e-6, sensor_pixels=128, sensor_distance_m=8e-3)
    lens = coefficients(z4=0.9 * focus_coefficient_um(small, 0.1), z7=0.1)
    field, depth, z = (math.radians(4.0), math.radians(-2.0)), 0.1, 8e-3
    psf = psf_off_axis(
        Sag.of(lens, small), torch.tensor([depth]), small, field_rad=field, window=256
    )[0, GREEN]
    image = (z * math.tan(field[0]), z * math.tan(field[1]))
    k = 2 * math.pi / small.wavelengths_m[GREEN]
    axis = (torch.arange(256, dtype=torch.float64) - 127.5) * small.pitch_m / 2
    uy, ux = torch.meshgrid(axis, axis, indexing="ij")
    inside = ux**2 + uy**2 < small.aperture_radius_m**2
    uy, ux = uy[inside], ux[inside]
    height = Sag.of(lens, small).height(ux[None], uy[None])[0]
    px, py = -depth / z * image[0], -depth / z * image[1]
    arrival = ((ux - px) ** 2 + (uy - py) ** 2 + depth**2).sqrt()
    phase = k * ((small.indices[GREEN] - 1) * height + arrival)
    offsets = torch.arange(-10, 11)
    summed = torch.zeros(21, 21, dtype=torch.float64)
    for row, dy in enumerate(offsets.tolist()):
        x = image[0] + offsets[:, None] * small.pitch_m
        y = image[1] + dy * small.pitch_m
        leaving = ((ux - x) ** 2 + (uy - y) ** 2 + z**2).sqrt()
        summed[row] = torch.polar(1 / leaving, phase + k * leaving).sum(1).abs().square()
    m = psf.shape[-1] // 2
    ours = psf[m - 10 : m + 11, m - 10 : m + 11].double()
    ours, summed = ours / ours.sum(), summed / summed.sum()
    # half-sample staircase of the summed pupil's rim, second-order terms of the direct kernel
    assert float(0.5 * (ours - summed).abs().sum()) < 0.01


def test_a_tilted_plate_only_shifts_the_image():
    # Z2 is a prism: it moves the PSF by z (n-1) 2c / R (optics.md 5) and leaves its shape
    lens = coefficients(z4=-31.0)
    pitch = SYSTEM.sensor_pitch_m
    slope = 2 * (SYSTEM.indices[GREEN] - 1) / SYSTEM.normalisation_radius_m
    micrometres = 1e6 * 3 * pitch / SYSTEM.sensor_distance_m / slope  # three pixels in green
    tilted = lens + coefficients(z2=micrometres)
    depth = torch.tensor([1.0])
    x, y = image_centroid(Sag.of(tilted, SYSTEM), depth, SYSTEM)
    assert (x / pitch, y / pitch) == pytest.approx((3.0, 0.0), abs=0.01)  # finite 3 mm aperture
    there = psf_off_axis(Sag.of(tilted, SYSTEM), depth, SYSTEM, window=512)[0, GREEN]
    here = psf_off_axis(Sag.of(lens, SYSTEM), depth, SYSTEM, window=512)[0, GREEN]
    # sin against tan of the 0.07 degree deviation, and the light beyond the window
    assert float(0.5 * (there - here.roll(3, -1)).abs().sum()) < 5e-3


def test_reading_elsewhere_moves_the_picture_and_nothing_else():
    lens, depth = Sag.of(coefficients(z4=-31.0, z7=0.3), SYSTEM), torch.tensor([1.0])
    here = psf_off_axis(lens, depth, SYSTEM, window=256)
    pitch = SYSTEM.sensor_pitch_m
    there = psf_off_axis(lens, depth, SYSTEM, read_at_m=(2 * pitch, -pitch), window=256)
    # a whole number of samples: the same sums, float32
    torch.testing.assert_close(there, here.roll((1, -2), (-2, -1)), atol=2e-6, rtol=0)


def test_how_far_the_axis_speaks_for_the_field():
    # what the flat thin plate does to the focused preset (astigmatism and field curvature grow
    # with the square of the angle): measured 3 %, 10 % and 22 % of the light, green at 1 m
    lens, depth = Sag.of(coefficients(z4=-30.5), SYSTEM), torch.tensor([1.0])
    axis = psf_off_axis(lens, depth, SYSTEM, window=512)
    wrong = [
        float(0.5 * (psf_off_axis(lens, depth, SYSTEM, field_rad=(math.radians(angle), 0.0),
                                  window=512) - axis)[0, GREEN].abs().sum())
        for angle in (1.0, 2.0, 3.05)
    ]  # fmt: skip
    assert wrong == pytest.approx([0.033, 0.097, 0.218], abs=0.01)


def test_field_weights_sum_to_one_and_equal_psfs_give_plain_convolution():
    system = replace(SYSTEM, sensor_pixels=64)
    generator = torch.Generator().manual_seed(0)
    scene, which = torch.rand(2, 3, 64, 64, generator=generator), torch.tensor([0, 1])
    psf = psf_direct(coefficients(z4=-33.0), torch.tensor([0.5, 1.0]), system)
    same = psf.expand(3, 3, *psf.shape)
    torch.testing.assert_close(
        convolve_field(scene, same, which), convolve(scene, psf, which), atol=1e-5, rtol=0
    )


def test_a_blur_that_changes_over_the_field():
    system = replace(SYSTEM, sensor_pixels=64)
    lens = Sag.of(coefficients(z4=-30.5), system)
    psfs = psf_field(lens, torch.tensor([1.0]), system, points=3)
    angles = field_grid(system, 3)
    assert angles[1][1] == (0.0, 0.0)
    assert math.degrees(angles[0][2][0]) == pytest.approx(3.05, abs=0.01)
    scene = torch.zeros(1, 3, 64, 64)
    scene[..., 63, 63] = 1.0
    image = convolve_field(scene, psfs, torch.tensor([0]))
    corner = convolve(scene, psfs[2, 2], torch.tensor([0]))
    torch.testing.assert_close(image, corner, atol=1e-6, rtol=0)  # a corner has its own PSF
    assert float((image - convolve(scene, psfs[1, 1], torch.tensor([0]))).abs().max()) > 0.01


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_impossible_distances_are_refused_off_the_axis_too(bad):
    with pytest.raises(InputError, match="depths above 0 m"):
        psf_off_axis(Sag.of(coefficients(z4=-30), SYSTEM), torch.tensor([bad]), SYSTEM)


def test_impossible_angles_and_surfaces_are_refused():
    with pytest.raises(InputError, match=r"below 0\.5 rad"):
        psf_off_axis(
            Sag.of(coefficients(z4=-30), SYSTEM), torch.tensor([1.0]), SYSTEM, field_rad=(1.0, 0.0)
        )
    with pytest.raises(InputError, match=r"Noll index \[7\]"):
        Sag.of(coefficients(z7=math.nan), SYSTEM)
    with pytest.raises(InputError, match="at most 10000 um"):
        Sag.of(coefficients(z4=1e9), SYSTEM)
    with pytest.raises(InputError, match="blur of at most"):
        psf_off_axis(Sag.of(coefficients(z4=-200.0), SYSTEM), torch.tensor([1.0]), SYSTEM)
