"""Every kind of surface behind one interface, and the optics against closed forms."""

import dataclasses
import hashlib
import itertools
import json
import math

import pytest
import torch

from lenses import misplaced
from opticaldr.camera import Camera, describe_camera, load_camera, save_camera
from opticaldr.config import LensConfig, LossConfig, SensorConfig, load_config
from opticaldr.lens import Lens
from opticaldr.model import build_model
from opticaldr.optics import propagation
from opticaldr.optics.diffusers import EngineeredDiffuser, RandomDiffuser
from opticaldr.optics.materials import refractive_index
from opticaldr.optics.penalties import manufacturing_penalties
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.surfaces import (
    EvenAsphere,
    FreeForm,
    RadialSpline,
    SurfaceSum,
    ZernikeSurface,
)
from opticaldr.optics.system import (
    OpticalSystem,
    focus_coefficient_um,
    focus_curvature_per_m,
    focused_depth_m,
)
from opticaldr.optics.transfer import psf_angular_spectrum, psf_two_fft
from opticaldr.results import read_json, write_json
from opticaldr.sensor import Sensor
from opticaldr.train import StageLoss
from opticaldr.types import InputError

SYSTEM = OpticalSystem()
RADIUS = SYSTEM.normalisation_radius_m
SPHERE = focus_curvature_per_m(SYSTEM, 1.0)
GREEN = 1
ONE_METRE = torch.tensor([1.0], dtype=torch.float64)

# a small eye with everything in a few samples, for finite differences
TINY = OpticalSystem(grid=16, pitch_m=30e-6, sensor_pixels=16)
TINY_RADIUS = TINY.normalisation_radius_m


def kinds(radius, curvature, grain):
    """One of each, with few parameters."""
    zernikes = ZernikeSurface(11, radius)
    return {
        "zernike": zernikes,
        "peak": ZernikeSurface(28, radius, "peak"),
        "asphere": EvenAsphere(3, radius, curvature),
        "spline": RadialSpline(6, radius),
        "freeform": FreeForm(7, radius),
        "random": SurfaceSum((zernikes, RandomDiffuser(0.004, grain, radius, 1))),
        "engineered": SurfaceSum((zernikes, EngineeredDiffuser(0.004, grain, radius, 1))),
        "sum": SurfaceSum((EvenAsphere(1, radius, curvature), FreeForm(4, radius))),
    }


KINDS = kinds(RADIUS, SPHERE, 200e-6)
TINY_KINDS = kinds(TINY_RADIUS, focus_curvature_per_m(TINY, 1.0), 200e-6)


def start(surface, curvature=SPHERE, dtype=torch.float64):
    return torch.tensor(surface.like_parabola(curvature), dtype=dtype)


def with_surface(surface, system=SYSTEM, **changes):
    return dataclasses.replace(system, surface=surface, **changes)


def moments(psf):
    """Mean and covariance (x, y) of one (m, m) PSF [px]."""
    index = torch.arange(psf.shape[-1], dtype=psf.dtype) - psf.shape[-1] // 2
    weight = psf / psf.sum()
    x, y = (weight.sum(0) * index).sum(), (weight.sum(1) * index).sum()
    dx, dy = index - x, index - y
    xx, yy = (weight.sum(0) * dx**2).sum(), (weight.sum(1) * dy**2).sum()
    xy = (weight * dy[:, None] * dx).sum()
    return float(x), float(y), float(xx), float(yy), float(xy)


# --- the interface ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_gradient_of_every_surface(kind):
    surface = TINY_KINDS[kind]
    system = with_surface(surface, TINY)
    generator = torch.Generator().manual_seed(4)
    parameters = start(surface, focus_curvature_per_m(TINY, 1.0))
    parameters = parameters + 0.2 * torch.rand(len(parameters), generator=generator).double()
    depths = torch.tensor([0.5, 2.0], dtype=torch.float64)
    weight = torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    assert propagation.samples_per_pixel(system) == 1

    def loss(values):
        return (psf_direct(values, depths, system, window=32) * weight).sum()

    # central differences of step 1e-5 um in float64 are right to about 1e-8
    assert torch.autograd.gradcheck(loss, (parameters.requires_grad_(),), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("q", [1, 4])
def test_the_written_out_gradient_is_that_of_each_step(q):
    generator = torch.Generator().manual_seed(1)
    phase = 9 * torch.rand(2, 3, 12, 12, generator=generator, dtype=torch.float64)
    amplitude = torch.randn(3, 12, 12, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 3, 16 // q, 16 // q, generator=generator, dtype=torch.float64)
    phase.requires_grad_()
    ours = propagation._Diffraction.apply(phase, amplitude, 16, q)
    field = amplitude * torch.exp(1j * phase)
    plain = propagation.box_sum(torch.fft.fft2(field, s=(16, 16)).abs().square(), q)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((p * weight).sum(), phase)[0] for p in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_surface_makes_the_same_parabola(kind):
    # B-splines and conics hold r^2 exactly, so rounding is all that differs from Zernike Z4
    surface = KINDS[kind]
    x = torch.linspace(-0.7, 0.7, 15, dtype=torch.float64) * RADIUS
    y = 0.6 * x.flip(0) + 1e-5
    height = surface.height(start(surface), x, y)
    expected = SPHERE * (x**2 + y**2) / 2
    torch.testing.assert_close(height - height[7], expected - expected[7], atol=1e-15, rtol=0)
    focused = torch.zeros(15, dtype=torch.float64)
    focused[3] = focus_coefficient_um(SYSTEM, 1.0)
    zernike = psf_direct(focused, ONE_METRE, SYSTEM, window=256)
    ours = psf_direct(start(surface), ONE_METRE, with_surface(surface), window=256)
    assert misplaced(zernike, ours) < 1e-9  # float64


@pytest.mark.parametrize(
    "surface", [RadialSpline(12, RADIUS), FreeForm(16, RADIUS), ZernikeSurface(37, RADIUS)]
)
def test_fitted_to_a_sphere_it_is_the_sphere(surface):
    sphere = EvenAsphere(1, RADIUS, SPHERE)
    same = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    axis = torch.linspace(-RADIUS, RADIUS, 61, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = torch.hypot(x, y) <= RADIUS
    x, y = x[inside], y[inside]
    columns = torch.stack(
        [surface.height(unit, x, y) for unit in torch.eye(surface.count, dtype=torch.float64)], 1
    )
    wanted = sphere.height(same, x, y)[:, None]
    fitted = torch.linalg.lstsq(1e6 * columns, 1e6 * wanted, driver="gelsd").solution[:, 0]
    exact = psf_direct(same, ONE_METRE, with_surface(sphere), window=256)
    ours = psf_direct(fitted, ONE_METRE, with_surface(surface), window=256)
    # a cubic net of 0.2 mm holds the quartic part (0.3 um at the rim) to under a nanometre
    assert misplaced(exact, ours) < 1e-3


def test_lenses_in_contact_add_their_coefficients():
    one, two = ZernikeSurface(15, RADIUS), ZernikeSurface(6, RADIUS)
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.rand(n, generator=generator, dtype=torch.float64) - 0.5 for n in (15, 6))
    a[3] = -30.4
    total = a.clone()
    total[:6] += b
    plain = dataclasses.replace(SYSTEM, grid=256, pitch_m=4 * SYSTEM.pitch_m, sensor_pixels=64)
    radius = plain.normalisation_radius_m
    one, two = (dataclasses.replace(lens, radius_m=radius) for lens in (one, two))
    pair = with_surface(SurfaceSum((one, two)), plain)
    both = torch.cat([a, b])
    apart = [e(both, ONE_METRE, pair) for e in (psf_direct, psf_two_fft)]
    joined = [e(total, ONE_METRE, plain) for e in (psf_direct, psf_two_fft)]
    for ours, expected in zip(apart, joined, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-11, rtol=0)  # float64 rounding


@pytest.mark.parametrize("kind", ["asphere", "spline", "freeform", "random"])
def test_every_surface_agrees_with_the_angular_spectrum(kind):
    surface = KINDS[kind]
    system = with_surface(surface, sensor_pixels=1024)
    parameters = start(surface, 1.02 * SPHERE, torch.float32)  # a blur of 20 px
    if kind == "random":
        parameters[-1] = 0.3
    cut = []
    for psf in (
        psf_direct(parameters, ONE_METRE.float(), system, window=512),
        psf_angular_spectrum(parameters, ONE_METRE.float(), system),
    ):
        middle = slice(psf.shape[-1] // 2 - 128, psf.shape[-1] // 2 + 128)
        cut.append(psf[..., middle, middle])
    direct, reference = (p / p.sum((-2, -1), keepdim=True) for p in cut)
    assert misplaced(direct, reference) < 2.5e-3  # optics.md 4: 1.9e-3 at 3.69 um, W = 512


def test_the_asphere_is_finite_past_its_equator():
    surface = EvenAsphere(1, RADIUS, SPHERE)
    wild = torch.tensor([1.0, 400.0, 0.0], dtype=torch.float64, requires_grad=True)
    height = surface.height(wild, torch.tensor([0.0, RADIUS]), torch.zeros(2))
    (gradient,) = torch.autograd.grad(height.sum(), wild)
    assert bool(torch.isfinite(height).all() and torch.isfinite(gradient).all())


# --- closed forms -----------------------------------------------------------------------------


def perfect_lens(system, colour):
    """Parabola and r^4, r^6 terms whose path is equal for all rays: 1/z + 1/d and their powers."""
    z, radius, n = system.sensor_distance_m, RADIUS, system.indices[colour]
    surface = EvenAsphere(3, radius, focus_curvature_per_m(system, 1.0, colour=colour))
    series = [(z**-p + 1.0) * f for p, f in ((3, 1 / 8), (5, -1 / 16), (7, 5 / 128))]
    rim = [1e6 * s * radius ** (4 + 2 * i) / (n - 1) for i, s in enumerate(series)]
    return surface, torch.tensor([1.0, 0.0, *rim], dtype=torch.float64)


@pytest.mark.parametrize("obstruction", [0.0, 0.35])
@pytest.mark.parametrize("colour", [0, 1, 2])
def test_airy_and_annular_patterns(colour, obstruction):
    radius = SYSTEM.aperture_radius_m
    fine = dataclasses.replace(
        SYSTEM, sensor_pixels=4096, obstruction_diameter_m=2 * radius * obstruction
    )
    surface, parameters = perfect_lens(fine, colour)
    window = 1024
    psf = psf_direct(parameters, ONE_METRE, with_surface(surface, fine), window=window)
    profile = psf[0, colour, window // 2, window // 2 : window // 2 + 60]
    wavelength, pitch = fine.wavelengths_m[colour], fine.sensor_pitch_m
    outer, inner = (
        r / math.hypot(r, fine.sensor_distance_m) for r in (radius, radius * obstruction)
    )

    def jinc(s):
        v = 2 * math.pi * s * pitch * torch.arange(60, dtype=torch.float64) / wavelength
        return torch.where(v > 0, 2 * torch.special.bessel_j1(v) / v, 1.0)

    field = outer**2 * jinc(outer) - (inner**2 * jinc(inner) if inner else 0.0)
    expected = (field / field[0]) ** 2
    # the first zero, two rings and more; the grey edge of 180 cells across makes 1e-4
    assert float((profile / profile[0] - expected).abs().max()) < 1e-3
    # all light of the pupil is in the window by definition, and 0.4 % of it belongs outside
    peak = math.pi * (outer**2 - inner**2) * (pitch / wavelength) ** 2
    assert float(profile[0]) == pytest.approx(peak, rel=0.01)


@pytest.mark.parametrize("depth", [0.33, 0.5, 1.0, 2.0])
def test_thin_lens_focus_at_each_depth(depth):
    expected = focus_coefficient_um(SYSTEM, depth)
    assert focused_depth_m(SYSTEM, expected) == pytest.approx(depth, rel=1e-9)
    assert focus_curvature_per_m(SYSTEM, depth) == pytest.approx(-(1 / 35.5e-3 + 1 / depth) / 0.493)
    scan = expected * (1 + torch.linspace(-0.015, 0.015, 25))
    lens = torch.zeros(4)
    peaks = []
    for a4 in scan.tolist():
        lens[3] = a4
        peaks.append(float(psf_direct(lens, torch.tensor([depth]), SYSTEM)[0, GREEN].max()))
    peaks = torch.tensor(peaks)
    lit = peaks > 0.8 * peaks.max()  # the centre of the peak: pooling flattens its top
    best = float((scan[lit] * peaks[lit]).sum() / peaks[lit].sum())
    # spherical aberration of the parabola moves best focus by 0.07 um (0.2 %)
    assert best == pytest.approx(expected, rel=0.005)


def test_astigmatism_draws_lines_where_the_surface_says():
    # Z6 ~ x^2 - y^2 and Z5 ~ 2 x y; a4 makes up for it along one axis, the other stays blurred
    focus = focus_coefficient_um(SYSTEM, 1.0)
    lens = torch.zeros(6, dtype=torch.float64)
    lens[3], lens[5] = focus - 1.0 / math.sqrt(2), 1.0
    _, _, xx, yy, xy = moments(psf_direct(lens, ONE_METRE, SYSTEM)[0, GREEN])
    assert yy > 5 * xx
    assert abs(xy) < 1e-3 * yy
    for sign in (1, -1):
        lens[3], lens[5], lens[4] = focus + 1.0 / math.sqrt(2), 0.0, sign
        _, _, xx, yy, xy = moments(psf_direct(lens, ONE_METRE, SYSTEM)[0, GREEN])
        assert sign * xy > 0.6 * xx  # gradient (x + y)(1, 1): a line towards +x +y
        assert xx == pytest.approx(yy, rel=1e-6)


def test_coma_points_where_the_surface_says():
    # rays go along +grad h; of Z8 ~ 3 rho^2 x - 2 x the rim adds (3 rho^2 + 6 x^2, 6 x y): a tail
    # towards +x, and of Z7 towards +y
    focus = focus_coefficient_um(SYSTEM, 1.0)
    index = torch.arange(-32, 32, dtype=torch.float64)
    psfs = {}
    for term in (7, 8):
        lens = torch.zeros(8, dtype=torch.float64)
        lens[3], lens[term - 1] = focus, 1.0
        psf = psf_direct(lens, ONE_METRE, SYSTEM, window=256)[0, GREEN]
        along, across = (psf.sum(0), psf.sum(1)) if term == 8 else (psf.sum(1), psf.sum(0))
        x, y, *_ = moments(psf)
        skew = float((along * (index - (x if term == 8 else y)) ** 3).sum())
        assert skew > 10  # sensor pixels^3; 0 for a symmetric blur
        torch.testing.assert_close(across[1:], across[1:].flip(0), atol=1e-12, rtol=0)  # no skew
        psfs[term] = psf
    torch.testing.assert_close(psfs[7].T, psfs[8], atol=1e-12, rtol=0)  # float64 rounding


def test_light_twice_as_long_in_an_eye_twice_as_big_is_the_same():
    double = dataclasses.replace(
        SYSTEM,
        pitch_m=2 * SYSTEM.pitch_m,
        sensor_distance_m=2 * SYSTEM.sensor_distance_m,
        wavelengths_m=tuple(2 * w for w in SYSTEM.wavelengths_m),
    )
    lens = torch.zeros(15, dtype=torch.float64)
    lens[3], lens[7], lens[10] = -30.9, 0.4, 0.3
    once = psf_direct(lens, ONE_METRE, SYSTEM, window=256)
    twice = psf_direct(2 * lens, 2 * ONE_METRE, double, window=256)
    torch.testing.assert_close(once, twice, atol=1e-10, rtol=0)  # float64 rounding


def test_half_the_stop_is_twice_the_airy_disc():
    fine = dataclasses.replace(SYSTEM, sensor_pixels=4096)
    peaks = []
    for diameter in (0.0, SYSTEM.aperture_radius_m):
        surface, parameters = perfect_lens(fine, GREEN)
        system = with_surface(surface, fine, stop_diameter_m=diameter)
        psf = psf_direct(parameters, ONE_METRE, system, window=1024)
        peaks.append(float(psf[0, GREEN].max()))
    # half the stop: twice the width of the Airy disc, each with all its light; 0.5 % of light
    # that belongs outside the window stays in it
    assert peaks[0] / peaks[1] == pytest.approx(4.0, rel=0.01)
    assert SYSTEM.aperture_radius_m == pytest.approx(511 * 3.69e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_all_light_arrives(kind):
    surface = KINDS[kind]
    parameters = start(surface, 1.05 * SPHERE)
    psf = psf_direct(parameters, ONE_METRE, with_surface(surface), window=512)
    torch.testing.assert_close(  # Parseval, float64
        psf.sum((-2, -1)), torch.ones(1, 3, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_twice_the_window_a_quarter_of_the_error():
    # the grey edge makes the shape of a PSF second order in the spacing of the pupil
    fine = dataclasses.replace(SYSTEM, sensor_pixels=1024)
    lens = torch.zeros(15, dtype=torch.float64)
    lens[3], lens[6], lens[10] = focus_coefficient_um(fine, 1.0), 0.4, 0.3
    near = torch.tensor([0.5], dtype=torch.float64)
    cut = []
    for window in (128, 256, 512, 1024):
        psf = psf_direct(lens, near, fine, window=window)
        middle = slice(psf.shape[-1] // 2 - 40, psf.shape[-1] // 2 + 40)
        cut.append(psf[..., middle, middle] / psf[..., middle, middle].sum((-2, -1), keepdim=True))
    changes = [misplaced(a, b) for a, b in itertools.pairwise(cut)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(changes)]
    assert changes[1] < 4e-3
    assert orders == pytest.approx([2.0, 2.0], abs=0.4)


# --- diffusers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plate",
    [RandomDiffuser(0.008, 150e-6, RADIUS, 3), EngineeredDiffuser(0.02, 400e-6, RADIUS, 3)],
)
def test_diffuser_makes_the_gaussian_of_its_slopes(plate):
    strength = 0.75
    surface = SurfaceSum((ZernikeSurface(4, RADIUS), plate))
    parameters = start(surface)
    parameters[-1] = strength
    system = with_surface(surface)
    psf = psf_direct(parameters, ONE_METRE, system)[0]
    for colour in range(3):
        x, y, *_ = moments(psf[colour])
        sigma = 35.5e-3 * (system.indices[colour] - 1) * strength * plate.slope_rms
        sigma = sigma / system.sensor_pitch_m
        assert math.hypot(x, y) < 0.15 * sigma
        index = torch.arange(psf.shape[-1], dtype=psf.dtype) - psf.shape[-1] // 2
        r2 = (index - x) ** 2 + (index[:, None] - y) ** 2
        # within four sigma: the rings of the aperture fall so slowly that their r^4 has no limit
        light = psf[colour] * (r2 < (4 * sigma) ** 2)
        light = light / light.sum()
        second, fourth = float((light * r2).sum()), float((light * r2**2).sum())
        # rings and the chromatic blur of 13 px add 1-2 %; lenslets diffract light past four sigma
        assert math.sqrt(second / 2) == pytest.approx(sigma, rel=0.06)
        # <r^4> / <r^2>^2 is 2 for a Gaussian disc, 4/3 for a uniform one and, with a phase of f rad
        # RMS, 2 + 2 / f^2 for ground glass (its PSF is the transform of exp(-f^2 (1 - correlation)))
        expected = 2.0
        if isinstance(plate, RandomDiffuser):
            height = strength * plate.slope_rms * plate.correlation_m / math.sqrt(2)
            expected += (
                2
                / (
                    2
                    * math.pi
                    / system.wavelengths_m[colour]
                    * height
                    * (system.indices[colour] - 1)
                )
                ** 2
            )
        # some 500 grains: the kurtosis of their slopes scatters by 0.1
        assert fourth / second**2 == pytest.approx(expected, abs=0.25)


def test_diffuser_is_one_plate_at_every_sampling():
    plate = RandomDiffuser(0.005, 150e-6, RADIUS, 7)
    one = torch.ones(1, dtype=torch.float64)
    axis = torch.linspace(-RADIUS, RADIUS, 401, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    height = plate.height(one, x, y)
    torch.testing.assert_close(height[::2, ::2], plate.height(one, x[::2, ::2], y[::2, ::2]))
    inside = torch.hypot(x, y)[1:-1, 1:-1] < RADIUS
    step = 2 * float(axis[1] - axis[0])
    gx = ((height[1:-1, 2:] - height[1:-1, :-2]) / step)[inside]
    gy = ((height[2:, 1:-1] - height[:-2, 1:-1]) / step)[inside]
    spread = float(((gx**2).mean() + (gy**2).mean()) / 2) ** 0.5
    assert spread == pytest.approx(0.005, rel=0.01)  # finite differences over 1/8 of a grain
    assert abs(float(gx.mean())) < 1e-5
    other = dataclasses.replace(plate, seed=8).height(one, x, y)
    assert float((other - height).abs().max()) > 1e-7


def test_impossible_diffusers_are_refused():
    with pytest.raises(InputError, match="slope RMS between 0 and 1"):
        RandomDiffuser(0.0, 100e-6, RADIUS)
    with pytest.raises(InputError, match="length above 0 m"):
        EngineeredDiffuser(0.005, -1.0, RADIUS)


# --- what can be cut ---------------------------------------------------------------------------

LIMITS = {"sag_limit_m": 150e-6, "slope_limit": 0.2, "curvature_limit_per_m": 500.0}


def penalties(**changes):
    lens = torch.zeros(37, dtype=torch.float64)
    lens[3] = -30.4
    limits = {**LIMITS, **{k: v for k, v in changes.items() if k in LIMITS}}
    for name, value in changes.items():
        if name.startswith("z"):
            lens[int(name[1:]) - 1] = value
    lens.requires_grad_()
    found = manufacturing_penalties(lens, SYSTEM, **limits)
    return {k: float(v.detach()) for k, v in found.items()}, found, lens


def test_a_plain_lens_costs_nothing():
    found, terms, lens = penalties()
    assert [found[k] for k in ("sag_range", "slope", "feature")] == [0.0, 0.0, 0.0]
    assert found["smoothness"] < 1e-12  # a parabola has one curvature
    (gradient,) = torch.autograd.grad(sum(terms.values()), lens)
    assert bool(torch.isfinite(gradient).all())


def test_each_limit_costs_what_its_formula_says():
    # Z4 = -30.4 um: range 2 sqrt(3) 30.4 = 105 um, rim slope 4 sqrt(3) a / R = 0.1116, k = 59.1
    sag, terms, lens = penalties(sag_limit_m=70e-6)
    scale = (511 / 511.5) ** 2
    assert sag["sag_range"] == pytest.approx((105.3 * scale / 70 - 1) ** 2, rel=0.02)
    assert torch.autograd.grad(terms["sag_range"], lens)[0][3] < 0  # flatter is cheaper
    curved, _, _ = penalties(curvature_limit_per_m=40.0)
    assert curved["feature"] == pytest.approx((59.14 / 40 - 1) ** 2, rel=0.01)
    steep, _, _ = penalties(slope_limit=0.05)
    # mean over the disc of (s rho - 1)^2 beyond rho = 1/s, with s = 0.1115 / 0.05
    s = 0.1115 / 0.05
    primitive = s**2 / 4 - 2 * s / 3 + 1 / 2 - (1 / 4 - 2 / 3 + 1 / 2) / s**2
    assert steep["slope"] == pytest.approx(2 * primitive, rel=0.02)
    rough, _, _ = penalties(z37=1.0)
    assert rough["smoothness"] > 1e-3


def test_weights_decide_which_penalties_count():
    lens = Lens(LensConfig(sensor_pixels=32))
    assert lens.penalties(LossConfig()) == {}
    found = lens.penalties(LossConfig(slope=1.0, slope_limit=0.05))
    assert set(found) == {"slope"}
    found["slope"].backward()
    assert float(lens.coefficients.grad[3]) != 0
    assert float(lens.coefficients.grad[:3].abs().max()) == 0  # they never learn


def test_training_adds_penalties_once_and_only_where_the_lens_learns():
    config = load_config("tiny", ["losses.slope=2.0", "losses.slope_limit=0.05"])
    model = build_model(config)
    weights = config.losses
    expected = model.camera.lens.penalties(weights)["slope"]
    stage = config.stages.step1.model_copy(update={"losses": ()})
    terms = StageLoss(model, stage, weights, None)({}, {}, torch.Generator())
    torch.testing.assert_close(terms, {"slope": expected, "loss": 2 * expected})
    frozen = stage.model_copy(update={"optimisers": {}})
    batchless = StageLoss(model, frozen, weights, None)
    with pytest.raises(RuntimeError):  # no term at all: nothing was added
        batchless({}, {}, torch.Generator())


# --- the lens that owns them --------------------------------------------------------------------


def configured(**surface):
    return LensConfig(sensor_pixels=32, surface=surface, max_window=512)


SURFACES = [
    {"kind": "asphere"},
    {"kind": "spline", "size": 8},
    {"kind": "freeform", "size": 9},
    {"diffuser": "random", "slope_rms": 0.002},
    {"kind": "asphere", "diffuser": "engineered", "slope_rms": 0.002, "grain_m": 400e-6},
]


@pytest.mark.parametrize("surface", SURFACES)
def test_lens_json_describes_every_surface(surface, tmp_path):
    lens = Lens(configured(**surface))
    with torch.no_grad():
        lens.coefficients[-1] += 0.25
    save_camera(Camera(lens, Sensor(SensorConfig())), tmp_path / "lens.json")
    again = load_camera(tmp_path).lens
    assert torch.equal(again.coefficients, lens.coefficients)
    assert again.system == lens.system
    depth = torch.tensor([0.7])
    torch.testing.assert_close(again.psf(depth), lens.psf(depth).detach(), atol=0, rtol=0)
    if "kind" in surface:
        found = lens.defocus_um()
        assert found == pytest.approx(-30.42, rel=0.02)  # in focus at 1 m, and a little off it
    parameters = lens.coefficients.detach().double()
    x = torch.tensor([0.0, 1e-3], dtype=torch.float64)
    expected = lens.system.shape(len(parameters)).height(parameters, x, x)
    torch.testing.assert_close(lens.surface_height(x, x), expected)


def test_a_lens_json_without_a_surface_is_zernike(tmp_path):
    save_camera(
        Camera(Lens(LensConfig(sensor_pixels=32)), Sensor(SensorConfig())), tmp_path / "lens.json"
    )
    content = read_json(tmp_path / "lens.json")
    for new in ("surface", "stop_diameter_m", "material", "sha256"):
        del content[new]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    write_json(tmp_path / "lens.json", content)
    lens = load_camera(tmp_path).lens
    assert lens.system == OpticalSystem(sensor_pixels=32)
    assert float(lens.coefficients[3]) == -30.5


@pytest.mark.parametrize("surface", SURFACES)
def test_training_moves_every_surface(surface):
    lens = Lens(configured(**surface))
    scene = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = lens.coefficients.detach().clone()
    optimiser = torch.optim.Adam(lens.parameters(), lr=0.05)
    lens(scene, torch.tensor([0.5])).var().backward()
    optimiser.step()
    moved = lens.coefficients.detach() != before
    assert int(moved.sum()) >= 3
    if surface.get("kind") != "freeform":  # the corners of its net lie outside the pupil
        assert bool(moved[-1])


@pytest.mark.parametrize("surface", SURFACES)
def test_a_lens_that_blurs_too_much_is_pulled_back(surface):
    lens = Lens(configured(**surface))
    focus = lens.coefficients.detach().clone()
    with torch.no_grad():
        if lens.config.surface.diffuser != "none":
            lens.coefficients[-1] = 40.0
        if surface.get("kind") == "asphere":
            lens.coefficients[:3] = torch.tensor([60.0, 3.0, 20.0])
        else:
            lens.coefficients *= 1.8
    with pytest.raises(InputError, match=r"window 512.*window of \d+ samples"):
        lens.psf(torch.tensor([1.0]))
    assert lens.pull_into_window()
    assert not torch.equal(lens.coefficients, focus)
    assert bool(torch.isfinite(lens.psf(torch.tensor([0.33, 2.0]))).all())
    assert not lens.pull_into_window()


def test_a_plastic_gives_its_indices():
    lens = Lens(LensConfig(material="PMMA"))
    # refractiveindex.info, Sultanova 2009: 1.4884 / 1.4926 / 1.4996 (optics.md finding 9)
    assert lens.system.indices == pytest.approx((1.4884, 1.4926, 1.4996), abs=2e-4)
    assert describe_camera(Camera(lens, Sensor(SensorConfig())))["indices"] == list(
        lens.system.indices
    )


def test_any_number_of_noll_terms():
    lens = Lens(LensConfig(coefficients_um=(0, 0, 0, -30.4, *(0,) * 62), trainable=(4, 66)))
    lens.psf(torch.tensor([1.0]))[0, 1, 32, 32].backward()
    learned = (lens.coefficients.grad != 0).nonzero().flatten().tolist()
    assert learned == [3, 65]


# --- refusals ----------------------------------------------------------------------------------


def test_a_blur_too_wide_names_the_window_that_would_do():
    lens = torch.zeros(15)
    lens[3] = -45.0
    with pytest.raises(InputError, match=r"fits 192 samples of 3\.69 um \(window 256\)") as caught:
        propagation.choose_window(lens, torch.tensor([1.0]), SYSTEM, largest=256)
    assert "a window of 1024 samples would do" in str(caught.value)
    lens[3] = -200.0
    with pytest.raises(InputError, match=r"window of \d+ samples would be needed and 2048 is"):
        psf_direct(lens, torch.tensor([1.0]), SYSTEM)


def test_a_surface_too_fine_for_every_window_is_refused():
    system = with_surface(RandomDiffuser(0.005, 5e-6, RADIUS))
    with pytest.raises(InputError, match=r"features of at least 12 um, found 5 um.*8192 samples"):
        psf_direct(torch.ones(1), torch.tensor([1.0]), system)


@pytest.mark.parametrize("engine", [psf_direct, psf_two_fft, psf_angular_spectrum])
@pytest.mark.parametrize("kind", ["asphere", "freeform"])
def test_impossible_parameters_are_refused(engine, kind):
    system = with_surface(KINDS[kind])
    parameters = start(KINDS[kind], dtype=torch.float32)
    depth = torch.tensor([1.0])
    for value, sentence in ((math.nan, r"at parameter \[2\]"), (1e30, r"1e\+30 at parameter 2")):
        bad = parameters.clone()
        bad[1] = value
        with pytest.raises(InputError, match=sentence):
            engine(bad, depth, system)
    with pytest.raises(InputError, match=f"Expected {len(parameters)} parameters"):
        engine(parameters[:-1], depth, system)
    for distance in (0.0, -0.5, math.nan):
        with pytest.raises(InputError, match="depths above 0 m"):
            engine(parameters, torch.tensor([distance]), system)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"grid": (1024, 768)}, "square grid"),
        ({"grid": 1023}, "even number"),
        ({"sensor_distance_m": 0.0}, "sensor_distance_m above 0 m"),
        ({"sensor_distance_m": -0.1}, "sensor_distance_m above 0 m"),
        ({"pitch_m": math.nan}, "pitch_m above 0 m"),
        ({"stop_diameter_m": 5e-3}, "stop_diameter_m of at most 3.771e-03 m"),
        ({"obstruction_diameter_m": 4e-3}, "below the stop's"),
    ],
)
def test_impossible_geometry_is_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        OpticalSystem(**changes)


def test_impossible_surfaces_are_refused():
    with pytest.raises(InputError, match="at least 4 x 4"):
        FreeForm(3, RADIUS)
    with pytest.raises(InputError, match="at least 4 control heights"):
        RadialSpline(2, RADIUS)
    with pytest.raises(InputError, match="Expected 81 parameters"):  # a net must be square
        Lens(configured(kind="freeform", size=9, parameters=(0.0,) * 80))
    with pytest.raises(InputError, match=r"surface\.kind"):
        load_config("tiny", ["lens.surface.kind=fresnel"])


def test_wavelengths_outside_the_table_are_refused():
    with pytest.raises(InputError, match=r"between 437 and 1052 nm.*found 300 nm"):
        refractive_index("PMMA", 300e-9)
    with pytest.raises(InputError, match="found material 'glass'"):
        refractive_index("glass", 550e-9)
    with pytest.raises(InputError, match="found 1550 nm"):
        Lens(LensConfig(material="polycarbonate", wavelengths_m=(640e-9, 550e-9, 1550e-9)))


def test_focus_beyond_infinity_is_refused():
    infinity = focus_coefficient_um(SYSTEM, math.inf)
    assert focused_depth_m(SYSTEM, infinity * 1.0001) > 100
    with pytest.raises(InputError, match="no distance is in focus"):
        focused_depth_m(SYSTEM, infinity)
    with pytest.raises(InputError, match="depth above 0 m"):
        focus_coefficient_um(SYSTEM, 0.0)
