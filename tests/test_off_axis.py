"""PSFs off the axis against plain sums of waves, and a blur that changes over the field."""

import doctest
import math
from dataclasses import replace

import pytest
import torch

from lenses import coefficients, misplaced
from opticaldr.optics import field
from opticaldr.optics.field import along_diagonal, convolve_field, field_grid, psf_field
from opticaldr.optics.imaging import convolve
from opticaldr.optics.off_axis import Sag, image_centroid, psf_off_axis
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.system import OpticalSystem, focus_coefficient_um
from opticaldr.types import InputError

SYSTEM = OpticalSystem()
GREEN = 1


@pytest.mark.parametrize(("z4", "limit"), [(-31.0, 4e-4), (-36.0, 2e-5)])
def test_on_the_axis_both_formulations_agree(z4, limit):
    lens, depths = coefficients(z4=z4, z7=0.4, z11=0.3), torch.tensor([0.33, 1.0])
    fast = psf_direct(lens, depths, SYSTEM)
    general = psf_off_axis(Sag.of(lens, SYSTEM), depths, SYSTEM)
    # float32 phases of some hundred radian against float64 ones: 5e-6; near focus the fast engine
    # leaves out a bend of the rays that moves up to 3e-4 of the light
    assert misplaced(general, fast) < limit


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


def test_from_the_axis_to_the_corner():
    system = replace(SYSTEM, sensor_pixels=64)
    lens, depths = Sag.of(coefficients(z4=-30.5), system), torch.tensor([0.5, 1.0])
    angles, psfs = along_diagonal(lens, depths, system, points=3)
    # 3.78 mm wide, 35.5 mm behind the lens: half a diagonal of 2.67 mm
    assert math.degrees(angles[2]) == pytest.approx(4.304, abs=0.001)
    assert psfs.shape[:3] == (3, 2, 3)
    middle = psfs.shape[-1] // 2
    on_axis = psf_direct(coefficients(z4=-30.5), depths, system)
    half = on_axis.shape[-1] // 2
    cut = psfs[0, ..., middle - half : middle + half, middle - half : middle + half]
    assert misplaced(cut, on_axis) < 4e-4  # as above
    share = 0.5 * (psfs - psfs[0]).abs().sum((-2, -1))
    assert float(share[0].max()) == 0.0
    assert bool((share[1] < share[2]).all())


def test_the_example_of_the_module_is_true():
    assert doctest.testmod(field).failed == 0


@pytest.mark.parametrize("call", [along_diagonal, psf_field])
def test_a_field_of_one_point_is_refused(call):
    with pytest.raises(InputError, match="at least 2 points of the field, found 1"):
        call(Sag.of(coefficients(z4=-30.5), SYSTEM), torch.tensor([1.0]), SYSTEM, points=1)


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
    fine = Sag(lambda x, y: 0 * x, feature_m=5e-6)
    with pytest.raises(InputError, match="features of at least 12 um, found 5 um"):
        psf_off_axis(fine, torch.tensor([1.0]), SYSTEM)
