"""The optics against closed forms and the reference numbers of paper.md 7.1 and optics.md 4-5."""

import dataclasses
import math

import pytest
import torch

from lenses import coefficients, misplaced
from opticaldr.bench.reference import misplaced as misplaced_on_sensor
from opticaldr.bench.reference import reference_psfs
from opticaldr.optics import propagation
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.optics.imaging import convolve, correlate
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.system import OpticalSystem, blur_diameter_m, focus_coefficient_um
from opticaldr.optics.transfer import psf_angular_spectrum, psf_two_fft
from opticaldr.optics.zernike import noll_index, zernike, zernike_basis
from opticaldr.types import InputError

SYSTEM = OpticalSystem()
FINE = dataclasses.replace(SYSTEM, sensor_pixels=1024)
COARSE = dataclasses.replace(SYSTEM, sensor_pixels=128)
SMALL = OpticalSystem(grid=64, pitch_m=8 * 3.69e-6, sensor_pixels=16)
GREEN = 1


def centroid(psf):
    """Centre of mass relative to the axis pixel, (x, y) [px], of one (m, m) PSF."""
    index = torch.arange(psf.shape[-1], dtype=psf.dtype) - psf.shape[-1] // 2
    return float((psf.sum(0) * index).sum() / psf.sum()), float(
        (psf.sum(1) * index).sum() / psf.sum()
    )


def test_noll_order_is_the_published_one():
    # optics.md 5, checked there against poppy and prysm
    expected = [(0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3),
                (4, 0), (4, 2), (4, -2), (4, 4), (4, -4)]  # fmt: skip
    assert [noll_index(j) for j in range(1, 16)] == expected
    with pytest.raises(InputError, match="Noll counts from 1"):
        noll_index(0)


def test_closed_forms_of_the_first_fifteen_terms():
    # paper.md 2.1 lists them; the general formula must give each
    rho, t = torch.meshgrid(
        torch.linspace(0, 1, 7, dtype=torch.float64),
        torch.linspace(0, 6, 9, dtype=torch.float64),
        indexing="ij",
    )
    s3, s5, s6, s8, s10 = (math.sqrt(v) for v in (3, 5, 6, 8, 10))
    closed = [
        torch.ones_like(rho), 2 * rho * t.cos(), 2 * rho * t.sin(), s3 * (2 * rho**2 - 1),
        s6 * rho**2 * (2 * t).sin(), s6 * rho**2 * (2 * t).cos(),
        s8 * (3 * rho**3 - 2 * rho) * t.sin(), s8 * (3 * rho**3 - 2 * rho) * t.cos(),
        s8 * rho**3 * (3 * t).sin(), s8 * rho**3 * (3 * t).cos(),
        s5 * (6 * rho**4 - 6 * rho**2 + 1), s10 * (4 * rho**4 - 3 * rho**2) * (2 * t).cos(),
        s10 * (4 * rho**4 - 3 * rho**2) * (2 * t).sin(), s10 * rho**4 * (4 * t).cos(),
        s10 * rho**4 * (4 * t).sin(),
    ]  # fmt: skip
    ours = zernike_basis(15, rho * t.cos(), rho * t.sin())
    torch.testing.assert_close(ours, torch.stack(closed), atol=1e-12, rtol=0)


def test_basis_is_orthonormal_over_the_disc():
    # Gauss-Legendre in rho^2 and the trapezoid rule in angle integrate these products exactly
    nodes, weights = __import__("numpy").polynomial.legendre.leggauss(24)
    rho = torch.tensor(((nodes + 1) / 2) ** 0.5)
    angle = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
    x, y = rho[:, None] * angle.cos(), rho[:, None] * angle.sin()
    basis = zernike_basis(15, x, y)
    weight = torch.tensor(weights / 2)[:, None] / 64
    gram = torch.einsum("iab,jab,ab->ij", basis, basis, weight.expand_as(x))
    torch.testing.assert_close(gram, torch.eye(15, dtype=gram.dtype), atol=1e-12, rtol=0)


def test_peak_normalisation_has_peak_one():
    x = torch.linspace(-1, 1, 201, dtype=torch.float64)
    values = zernike(4, x, torch.zeros_like(x), normalisation="peak")
    assert float(values.max()) == pytest.approx(1.0, abs=1e-12)
    assert float(values.min()) == pytest.approx(-1.0, abs=1e-12)


def test_best_focus_is_where_the_thin_lens_formula_says():
    # paper.md 7.1: -30.5 for green at 1 m; the peak of the simulated PSF within 1 %
    predicted = focus_coefficient_um(SYSTEM, 1.0)
    assert predicted == pytest.approx(-30.42, abs=0.01)
    scan = torch.arange(-31.1, -29.8, 0.05)
    peaks = [
        float(psf_direct(coefficients(z4=a), torch.tensor([1.0]), SYSTEM)[0, GREEN].max())
        for a in scan.tolist()
    ]
    best = float(scan[int(torch.tensor(peaks).argmax())])
    assert best == pytest.approx(predicted, rel=0.01)


@pytest.mark.parametrize(("defocus", "radii"), [(-51.0, (245, 253, 201)), (-30.5, (2.2, 1.0, 5.0))])
def test_encircled_energy_radii_of_the_lineage(defocus, radii):
    # paper.md 7.1; its blue at -51 is aliased (optics.md finding 2), and the test keeps that number
    psf = psf_two_fft(coefficients(z4=defocus), torch.tensor([1.0]), FINE)[0]
    index = torch.arange(1024) - 512
    radius = torch.hypot(index[:, None].float(), index[None, :].float()).flatten()
    order = radius.argsort()
    for colour, expected in enumerate(radii):
        energy = psf[colour].flatten()[order].double().cumsum(0)
        half = radius[order][int((energy < 0.5 * energy[-1]).sum())]
        assert float(half) == pytest.approx(expected, abs=0.5 if expected > 10 else 0.1)


@pytest.mark.parametrize("engine", [psf_direct, psf_two_fft])
@pytest.mark.parametrize("defocus", [-51.0, -30.5])
def test_psf_is_a_distribution(engine, defocus):
    psf = engine(coefficients(z4=defocus, z7=0.4), torch.tensor([0.33, 2.0]), SYSTEM)
    assert float(psf.min()) >= 0
    # float32 sums over 1e6 samples
    torch.testing.assert_close(psf.sum((-2, -1)), torch.ones(2, 3), atol=1e-4, rtol=0)


def _centred_reference(depth, aberrated, window):
    """Angular spectrum, and the direct engine without pooling, cut to the same centre."""
    reference = psf_angular_spectrum(aberrated, depth, FINE)
    direct = psf_direct(aberrated, depth, FINE, window=window)
    width = min(256, direct.shape[-1])
    cut = [p[..., p.shape[-1] // 2 - width // 2 :, p.shape[-1] // 2 - width // 2 :] for p in
           (reference, direct)]  # fmt: skip
    cut = [p[..., :width, :width] for p in cut]
    return [p / p.sum((-2, -1), keepdim=True) for p in cut]


@pytest.mark.parametrize(("window", "limit"), [(256, 8e-3), (512, 2.5e-3)])
def test_direct_engine_agrees_with_the_angular_spectrum(window, limit):
    # optics.md 4, self-test values at 3.69 um: 6.8e-3 (W = 256) and 1.9e-3 (W = 512) at 0.33 m
    lens = coefficients(z4=focus_coefficient_um(FINE, 1.0), z7=0.4, z11=0.3)
    reference, direct = _centred_reference(torch.tensor([0.33]), lens, window)
    assert misplaced(reference, direct) < limit


def test_fill_of_the_window_is_the_published_one():
    lens = coefficients(z4=focus_coefficient_um(COARSE, 1.0), z7=0.4, z11=0.3)
    fills = [
        float(propagation.window_fill(lens, torch.tensor([0.33]), COARSE, window=w))
        for w in (256, 512, 1024)
    ]
    assert fills == pytest.approx([0.66, 0.33, 0.17], abs=0.006)  # printed with two digits


def test_safe_fill_holds_its_promise():
    # the widest blur that is accepted, against twice the window: at most 2e-3 misplaced
    lens, depth = coefficients(z4=-51.0), torch.tensor([2.0])
    assert 0.7 < float(propagation.window_fill(lens, depth, SYSTEM, window=1024)) < 0.75
    narrow = psf_direct(lens, depth, SYSTEM, window=1024)
    wide = psf_direct(lens, depth, SYSTEM, window=2048)
    margin = (wide.shape[-1] - narrow.shape[-1]) // 2
    assert misplaced(narrow, wide[..., margin:-margin, margin:-margin]) < 2e-3


def test_airy_first_zero():
    # 1.2197 wavelength z / D of a clear aperture in focus (optics.md 5: 7.348/6.315/5.281 um)
    lens = coefficients(dtype=torch.float64)
    for colour, wavelength in enumerate(SYSTEM.wavelengths_m):
        lens[3] = focus_coefficient_um(FINE, 1.0, colour=colour)
        # an extremely fine output grid: one sample = 0.23 um
        fine = dataclasses.replace(FINE, sensor_pixels=16384)
        psf = psf_direct(lens, torch.tensor([1.0], dtype=torch.float64), fine, window=512)
        profile = psf[0, colour, 256, 256:]
        first_zero = int((profile.diff() > 0).nonzero()[0]) * fine.sensor_pitch_m
        expected = 1.2197 * wavelength * FINE.sensor_distance_m / (2 * FINE.aperture_radius_m)
        assert first_zero == pytest.approx(expected, abs=fine.sensor_pitch_m)


@pytest.mark.parametrize("colour", range(3))
def test_phase_grows_where_the_plate_is_thick(colour):
    # phi(h) - phi(0) = 2 pi (n - 1) h / wavelength; a wedge, whose curvature is that of a flat plate
    wedge, depth = coefficients(z2=1.0).double(), torch.tensor([1.0], dtype=torch.float64)
    grid = propagation.pupil_grid(SYSTEM, 15, 256, wedge.device, wedge.dtype)
    height = grid.shape.evaluate(wedge, grid.surface[colour])
    added, before = (
        propagation.residual_phase(lens, depth, grid, colour=colour)[0]
        for lens in (wedge, 0 * wedge)
    )
    index, wavelength = SYSTEM.indices[colour], SYSTEM.wavelengths_m[colour]
    assert float(height.max()) > 1e-6
    torch.testing.assert_close(
        added - before, 2 * math.pi * (index - 1) * height / wavelength, atol=1e-9, rtol=0
    )


def test_tilt_moves_the_image_to_the_thick_side():
    # optics.md 5: 1 um of Z2 / Z3 shifts by z (n-1) 2c / R = 18.3 um (red) towards +x / +y
    lens = coefficients(z4=focus_coefficient_um(SYSTEM, 1.0))
    depth = torch.tensor([1.0])
    still = centroid(psf_direct(lens, depth, SYSTEM)[0, GREEN])
    for term, axis in (("z2", 0), ("z3", 1)):
        tilted = lens + coefficients(**{term: 4.0})
        for engine in (psf_direct, psf_two_fft):
            base = centroid(engine(lens, depth, SYSTEM)[0, GREEN])
            moved = centroid(engine(tilted, depth, SYSTEM)[0, GREEN])
            shift = (moved[axis] - base[axis]) * SYSTEM.sensor_pitch_m
            expected = 4e-6 * 0.493 * 2 * 35.5e-3 / SYSTEM.normalisation_radius_m
            assert shift == pytest.approx(expected, rel=0.02)  # rings outside the window drag it
            assert abs(moved[1 - axis] - base[1 - axis]) < 0.05
    assert still == pytest.approx((0.0, 0.0), abs=0.02)  # axis in the middle of pixel m/2


def test_coma_turns_with_its_sign():
    plus = psf_direct(coefficients(z4=-30.4, z7=0.8), torch.tensor([1.0]), FINE, window=256)
    minus = psf_direct(coefficients(z4=-30.4, z7=-0.8), torch.tensor([1.0]), FINE, window=256)
    turned = minus.flip(-1, -2).roll((1, 1), (-2, -1))  # 180 degrees about the axis pixel
    torch.testing.assert_close(plus, turned, atol=2e-6, rtol=0)  # float32


def test_blur_grows_with_wavelength_when_diffraction_rules():
    lens = coefficients(z4=-30.42)
    spread = []
    for colour in range(3):
        lens[3] = focus_coefficient_um(FINE, 1.0, colour=colour)
        psf = psf_direct(lens, torch.tensor([1.0]), FINE, window=256)[0, colour]
        spread.append(float(psf.max()))
    # the peak of an Airy pattern is proportional to 1 / wavelength^2: red < green < blue; pixel
    # integration (3.69 um on a 5-7 um core) flattens it
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("engine", [psf_direct, psf_two_fft])
def test_gradients_against_finite_differences(engine):
    torch.manual_seed(0)
    lens = coefficients(torch.float64, z4=-6.0, z5=0.3, z7=0.2, z11=-0.2).requires_grad_()
    depth = torch.tensor([0.7], dtype=torch.float64)
    size = engine(lens, depth, SMALL).shape[-1]
    weight = torch.randn(3, size, size, dtype=torch.float64)

    def loss(values):
        window = {"window": 256} if engine is psf_direct else {}
        return (engine(values, depth, SMALL, **window)[0] * weight).sum()

    if engine is psf_direct:
        weight = torch.randn_like(psf_direct(lens, depth, SMALL, window=256)[0].detach())
    # central differences of step 1e-6 um are right to about 1e-5 of the largest component
    assert torch.autograd.gradcheck(loss, (lens,), eps=1e-6, atol=1e-6, rtol=1e-3)


def test_two_fft_lineage_is_aliased_where_the_reference_says():
    # optics.md finding 2: on 29.5 um pixels blue has 39 % of its light in the wrong place at -51
    lens, depth = coefficients(z4=-51.0), torch.tensor([1.0])
    direct = psf_direct(lens, depth, COARSE)
    lineage = psf_two_fft(lens, depth, COARSE)
    wrong = [float(0.5 * (direct - lineage)[0, c].abs().sum()) for c in range(3)]
    assert wrong[2] == pytest.approx(0.39, abs=0.03)
    assert wrong[1] == pytest.approx(0.17, abs=0.03)


def test_blur_diameter_matches_the_simulated_disc():
    # paper.md 2.2: 714 px of 1024 at -51, d = 1 m (radius 357)
    diameter = blur_diameter_m(SYSTEM, -51.0, 1.0) / SYSTEM.pitch_m
    assert diameter == pytest.approx(714, abs=3)
    psf = psf_direct(coefficients(z4=-51.0), torch.tensor([1.0]), SYSTEM)[0, GREEN]
    lit = (psf > 0.2 * psf.max()).sum() * (SYSTEM.sensor_pitch_m / SYSTEM.pitch_m) ** 2
    assert 2 * math.sqrt(float(lit) / math.pi) == pytest.approx(714, rel=0.03)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_impossible_depth_is_refused(bad):
    with pytest.raises(InputError, match="depths above 0 m"):
        psf_direct(coefficients(z4=-30), torch.tensor([bad]), SYSTEM)


def test_nan_coefficient_is_refused_by_name():
    with pytest.raises(InputError, match=r"Noll index \[7\]"):
        psf_two_fft(coefficients(z7=math.nan), torch.tensor([1.0]), SMALL)


def test_unsampled_blur_is_refused_with_numbers():
    with pytest.raises(InputError, match=r"blur of \d+ samples"):
        psf_direct(coefficients(z4=-200.0), torch.tensor([1.0]), SYSTEM)


def test_a_point_source_gives_the_psf_back_without_a_shift():
    psf = psf_direct(coefficients(z4=-31.5, z7=0.5), torch.tensor([0.6]), COARSE)
    scene = torch.zeros(1, 3, 128, 128)
    scene[..., 70, 50] = 1.0
    image = convolve(scene, psf, torch.tensor([0]))
    half = psf.shape[-1] // 2
    patch = image[..., 70 - half : 70 + half, 50 - half : 50 + half]
    torch.testing.assert_close(patch, psf, atol=1e-6, rtol=0)  # float32 FFT


@pytest.mark.parametrize("size", [64, 65])
@pytest.mark.parametrize("extent", [16, 96])
def test_correlation_is_the_adjoint_of_convolution(size, extent):
    generator = torch.Generator().manual_seed(size + extent)
    draw = {"generator": generator, "dtype": torch.float64}
    x, y = torch.rand(2, 3, size, size, **draw), torch.rand(2, 3, size, size, **draw)
    psf, which = torch.rand(2, 3, extent, extent, **draw), torch.tensor([1, 0])
    forward = (convolve(x, psf, which) * y).sum()
    backward = (x * correlate(y, psf, which)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=0)


def test_convolution_matches_direct_summation():
    generator = torch.Generator().manual_seed(3)
    scene = torch.rand(1, 1, 9, 9, generator=generator, dtype=torch.float64).expand(1, 3, 9, 9)
    psf = torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64)
    ours = convolve(scene, psf, torch.tensor([0]))
    expected = torch.zeros_like(ours)
    for row in range(9):
        for column in range(9):
            for dy in range(4):
                for dx in range(4):
                    y, x = row - dy + 2, column - dx + 2
                    if 0 <= y < 9 and 0 <= x < 9:
                        expected[..., row, column] += psf[0, :, dy, dx] * scene[..., y, x]
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


def test_reflecting_border_keeps_a_grey_frame_grey():
    psf = psf_direct(coefficients(z4=-36.0), torch.tensor([1.0]), COARSE)
    grey = torch.full((1, 3, 128, 128), 0.4)
    reflected = convolve(grey, psf, torch.tensor([0]), border="reflect")
    torch.testing.assert_close(reflected, grey, atol=1e-4, rtol=0)
    assert float(convolve(grey, psf, torch.tensor([0]))[..., 0, 0].max()) < 0.3  # light is lost


def test_srgb_round_trip_and_known_value():
    levels = torch.arange(256) / 255
    back = linear_to_srgb(srgb_to_linear(levels))
    torch.testing.assert_close(back, levels, atol=1e-6, rtol=0)
    assert float(srgb_to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)


def test_a_blur_of_two_thirds_of_the_frame_lands_where_exact_propagation_puts_it():
    """2e-3 of the light is the error bound of the engine; without the last term of equation (2)
    1e-2 of it lies in the wrong pixel."""
    system = dataclasses.replace(SYSTEM, sensor_pixels=128, normalisation="peak")
    lens, depth = coefficients(z4=-51.0), torch.tensor([0.63])
    exact = reference_psfs(lens, depth, system).area
    assert misplaced_on_sensor(psf_direct(lens, depth, system), exact) < 2e-3


@pytest.mark.parametrize("z4", [-30.4, -40.0])
def test_rays_meet_the_sensor_where_thin_lens_arithmetic_says(z4):
    """beta = 1 - z / image distance: the blur's radius over the pupil's."""
    lens, depth = coefficients(z4=z4), torch.tensor([1.0])
    grid = propagation.pupil_grid(SYSTEM, 15, 256, lens.device, lens.dtype)
    beta = float(propagation.ray_scale(lens, depth, grid)[0, 1])
    blur = blur_diameter_m(SYSTEM, z4, 1.0)
    # float32 sums of heights of tens of micrometres
    assert abs(beta) == pytest.approx(blur / (2 * SYSTEM.aperture_radius_m), abs=1e-4)


def test_the_gradient_of_a_wide_blur_is_exact():
    """The term off the axis depends on the parameters: central differences in float64."""
    system = OpticalSystem(grid=64, sensor_pixels=64, sensor_distance_m=2e-3)
    lens = torch.zeros(6, dtype=torch.float64)
    lens[3:] = torch.tensor([-3.0, 0.1, 0.05])
    depth = torch.tensor([1.0], dtype=torch.float64)
    grid = propagation.pupil_grid(system, 6, 256, lens.device, lens.dtype)
    assert float(propagation.ray_scale(lens, depth, grid).abs().max()) > propagation.WIDE
    weight = torch.rand(256 // propagation.samples_per_pixel(system), dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))  # fmt: skip

    def loss(parameters):
        psf = psf_direct(parameters, depth, system, window=256)
        return (psf[0, 1] * weight * weight[:, None]).sum()

    assert torch.autograd.gradcheck(loss, lens.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_both_gradients_of_the_convolution_are_exact(border):
    """Five images of two depths in batches of two: central differences in float64."""
    draw = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    scene, psf = torch.rand(5, 3, 6, 6, **draw), torch.rand(2, 3, 4, 4, **draw)
    which = torch.tensor([0, 1, 1, 0, 1])
    inputs = (scene.requires_grad_(), psf.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, h: convolve(x, h, which, border=border), inputs)
