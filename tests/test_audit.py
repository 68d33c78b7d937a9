"""`lens check`: the audit against the published defects of the two engines, and its exit codes."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from opticaldr.camera import Camera, save_camera
from opticaldr.config import LensConfig, SensorConfig
from opticaldr.lens import Lens
from opticaldr.optics.audit import audit, edge_fringe, misplaced, summary
from opticaldr.optics.system import OpticalSystem
from opticaldr.sensor import Sensor
from opticaldr.types import InputError

SYSTEM = OpticalSystem()
SMALL = OpticalSystem(grid=256, sensor_pixels=64)
"""A quarter of the aperture: the same checks in a second; focus at 1 m is Z4 = -1.9 um."""
RANGE = (0.33, 2.0)


def lens(z4, terms=15):
    values = torch.zeros(terms)
    values[3] = z4
    return values


def by_name(checks):
    return {check.name: check for check in checks}


def test_the_rim_of_the_literal_lens_turns_faster_than_its_grid():
    # paper.md finding B: 1.03 / 1.21 / 1.47 x Nyquist for R / G / B at 1 m
    found = edge_fringe(lens(-51.0), torch.tensor([1.0]), SYSTEM)
    assert found == pytest.approx((1.03, 1.21, 1.47), abs=0.008)  # printed with two digits
    assert max(edge_fringe(lens(-30.5), torch.tensor([0.33, 2.0]), SYSTEM)) < 0.9


def test_the_direct_engine_passes_on_the_focused_lens():
    checks = audit(lens(-30.5), SYSTEM, engine="direct", depth_range_m=RANGE)
    assert [check.name for check in checks] == [
        "fill of the window",
        "light outside the window",
        "N against 2N samples",
        "paraxial error",
    ]
    assert all(check.passed and check.reason for check in checks)
    # optics.md 4: 36 samples a dioptre, so 71 px (green) to 82 px (red) of 256 at 0.33 m
    assert 0.2 < checks[0].value < 0.4
    # optics.md 4: at most 2e-3 misplaced against the angular spectrum
    assert checks[3].value < 2e-3
    assert summary(checks) == "The simulation samples this lens."


def test_the_two_fft_engine_fails_on_a_lens_like_the_literal_one():
    # a quarter of the aperture with the same slope at its rim: the same fringe, fewer samples
    slope = SMALL.normalisation_radius_m / SYSTEM.normalisation_radius_m
    seen = []
    checks = audit(
        lens(-51.0 * slope),
        SMALL,
        engine="two_fft",
        depth_range_m=RANGE,
        on_progress=lambda *report: seen.append(report),
    )
    found = by_name(checks)
    assert not found["edge fringe"].passed
    assert found["edge fringe"].value == pytest.approx(1.45, abs=0.05)
    assert "times as fast as 256 samples" in found["edge fringe"].reason
    assert found["light outside the window"].value > 0.2
    assert found["N against 2N samples"].value > 0.1
    assert summary(checks).startswith("Do not trust this simulation: edge fringe")
    assert seen == [("auditing", n, 4) for n in (1, 2, 3, 4)]


def test_the_two_fft_engine_converges_where_it_samples():
    found = by_name(audit(lens(-1.9), SMALL, engine="two_fft", depth_range_m=(1.0, 1.0)))
    assert found["edge fringe"].value < 0.5
    # hard-edged pixel apertures of 254 and 508 samples differ by some tenths of a percent
    assert found["N against 2N samples"].value < 0.01
    # the paraxial error falls with the fourth power of the aperture
    assert found["paraxial error"].passed


def test_the_direct_engine_passes_on_a_small_aperture_too():
    checks = by_name(audit(lens(-1.9), SMALL, engine="direct", depth_range_m=(1.0, 1.0)))
    assert checks["N against 2N samples"].passed
    # the reference's rim is a staircase of 254 samples, which costs some tenths of a percent
    assert checks["paraxial error"].value < 1e-2


def test_a_blur_that_no_window_holds_fails_with_the_engines_own_words():
    checks = audit(lens(-36.0), SYSTEM, engine="direct", depth_range_m=RANGE, max_window=256)
    assert len(checks) == 1
    assert not checks[0].passed
    assert checks[0].value > 0.75
    assert "window 256" in checks[0].reason


def test_misplaced_light():
    a = torch.zeros(1, 3, 4, 4)
    b = torch.zeros(1, 3, 4, 4)
    a[..., 0, 0], b[..., 3, 3] = 1.0, 1.0
    assert misplaced(a, b) == 1.0
    assert misplaced(a, a) == 0.0


def test_a_value_that_is_no_number_does_not_pass():
    check = audit(lens(-1.9), SMALL, engine="direct", depth_range_m=(1.0, 1.0))[0]
    assert not replace(check, value=float("nan")).passed


@pytest.mark.parametrize(
    ("z4", "depths", "engine", "match"),
    [
        (float("nan"), RANGE, "direct", r"Noll index \[4\]"),
        (1e7, RANGE, "direct", "at most 10000 um"),
        (-30.5, (0.0, 2.0), "two_fft", "depths above 0 m"),
        (-30.5, RANGE, "ray_trace", "engine direct or two_fft, found 'ray_trace'"),
    ],
)
def test_impossible_input_is_one_sentence(z4, depths, engine, match):
    with pytest.raises(InputError, match=match):
        audit(lens(z4), SYSTEM, engine=engine, depth_range_m=depths)


def run(*arguments):
    script = "from opticaldr.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def stored(tmp_path):
    """stored(engine): path of a small lens.json with the slopes of the literal lens."""

    def save(engine, z4):
        config = LensConfig(
            grid=256, sensor_pixels=64, engine=engine, coefficients_um=tuple(lens(z4).tolist())
        )
        save_camera(Camera(Lens(config), Sensor(SensorConfig())), tmp_path / "lens.json")
        return str(tmp_path / "lens.json")

    return save


def test_check_on_the_command_line_passes_by_exit_code_0(stored):
    passed = run("lens", "check", stored("direct", -1.9))
    assert passed.returncode == 0, passed.stderr
    assert passed.stdout.count("pass") == 4


def test_check_on_the_command_line_fails_by_exit_code_1(stored):
    failed = run("lens", "check", stored("two_fft", -12.8))
    assert failed.returncode == 1
    assert "fail" in failed.stdout
    assert "Do not trust this simulation" in failed.stdout


def test_an_unknown_lens_is_one_sentence():
    unknown = run("lens", "check", "focussed")
    assert unknown.returncode == 2
    assert "'focussed'" in unknown.stderr
    assert "Traceback" not in unknown.stderr
