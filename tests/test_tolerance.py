"""`lens tolerance` and `lens show`: zero errors change nothing, seeds repeat, files are written."""

import json
import math
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from opticaldr.cli.app import app
from opticaldr.optics.manufacture import Draw, Errors, built, draw, extremes, sag_noise
from opticaldr.optics.off_axis import Sag, psf_off_axis
from opticaldr.optics.system import OpticalSystem, focus_coefficient_um, focused_depth_m
from opticaldr.optics.tolerance import run_tolerance
from opticaldr.types import InputError

SYSTEM = OpticalSystem(sensor_pixels=64)
NONE = Errors(**dict.fromkeys(asdict(Errors()), 0.0))
TWO = replace(NONE, sag_m=20e-9, sag_length_m=0.2e-3, index=1e-3)
DEPTHS = torch.tensor([0.5, 1.0])


def sag(z4=-31.0):
    values = torch.zeros(15)
    values[3] = z4
    return Sag.of(values, SYSTEM)


def run(errors, *, draws=3, seed=0, **options):
    return run_tolerance(
        sag(), DEPTHS, SYSTEM, errors=errors, draws=draws, seed=seed, noise=0.01, **options
    )


def test_no_errors_change_nothing():
    result = run(NONE, draws=2)
    assert all(row["effects"] == result["nominal"] for row in result["draws"])
    assert result["nominal"]["misplaced"] == 0.0
    assert result["nominal"]["shift_px"] == 0.0


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    first, again, other = run(TWO), run(TWO), run(TWO, seed=1)
    assert first == again
    assert first["draws"] != other["draws"]
    assert first["nominal"] == other["nominal"]
    json.dumps(first, allow_nan=False)


def test_more_draws_keep_the_first_ones():
    assert run(TWO, draws=3)["draws"][:2] == run(TWO, draws=2)["draws"]


def test_draws_stay_within_their_sizes_and_fill_them():
    errors, generator = Errors(), torch.Generator().manual_seed(0)
    cameras = [draw(errors, generator=generator) for _ in range(400)]
    for name, size in (("index", errors.index), ("tilt_x_rad", errors.tilt_rad)):
        values = torch.tensor([getattr(one, name) for one in cameras])
        assert 0.97 * size < float(values.abs().max()) <= size
        # a uniform distribution has the standard deviation size / sqrt(3), +-5 % from 400 draws
        assert float(values.std()) == pytest.approx(size / math.sqrt(3), rel=0.08)


def test_sag_noise_has_the_stated_size_and_length():
    errors = Errors(sag_m=20e-9, sag_length_m=0.4e-3)
    noise = sag_noise(errors, SYSTEM.aperture_radius_m, generator=torch.Generator().manual_seed(3))
    axis = torch.linspace(-1.8e-3, 1.8e-3, 361, dtype=torch.float64)  # 10 um apart
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    height = noise.height(x, y)
    assert float(height.abs().max()) <= 20e-9
    assert float(height.abs().max()) > 15e-9
    spread = float(height.square().mean())
    products = [
        float((height[:, : 361 - lag] * height[:, lag:]).mean()) / spread for lag in (10, 40, 80)
    ]
    # 0.1 mm apart still alike, one length apart nearly independent, two lengths apart independent
    assert products[0] > 0.75
    assert abs(products[1]) < 0.35
    assert abs(products[2]) < 0.25


def test_a_scaled_surface_is_a_refocused_lens():
    # 1 % more sag is 1 % more power: the image of 1 m moves like the one of a changed Z4
    one = Draw(sag_scale=0.01)
    camera = built(sag(-31.0), DEPTHS, SYSTEM, replace(NONE, sag_scale=0.01), one)
    expected = psf_off_axis(sag(-31.31), DEPTHS, SYSTEM)
    torch.testing.assert_close(camera.psf(), expected, atol=5e-6, rtol=0)  # float32


def test_index_distance_and_wavelength_enter_where_they_should():
    focus = focus_coefficient_um(SYSTEM, 1.0)
    sharp = sag(focus)

    def peak(one):
        return float(built(sharp, torch.tensor([1.0]), SYSTEM, NONE, one).psf()[0, 1].max())

    best = peak(Draw())
    # defocus in waves is R^2 / (2 wavelength) x change of power: 0.3 / 1.6 / 0.8 1/m
    for one in (Draw(index=0.005), Draw(sensor_m=1e-3), Draw(depth=0.5), Draw(wavelength_m=60e-9)):
        assert peak(one) < 0.999 * best


def test_decentring_moves_the_picture_by_its_own_length():
    # the axis of the lens carries the image along: shift = decentre (1 + z / d)
    one = Draw(decentre_x_m=100e-6)
    camera = built(sag(), torch.tensor([1.0]), SYSTEM, NONE, one)
    x, y = camera.centroid()
    assert x == pytest.approx(100e-6 * (1 + 35.5e-3), rel=0.03)  # 2 % defocused from 1 m
    assert abs(y) < 1e-9


def test_the_task_is_asked_about_every_camera_the_drawing_first():
    seen = []

    def task(psf):
        seen.append(psf)
        return {"score_change": float((psf - seen[0]).abs().sum())}

    result = run(TWO, draws=2, task=task)
    assert len(seen) == 1 + 4 + 2  # the drawing, both ends of two errors, the draws
    assert result["nominal"]["score_change"] == 0.0
    assert all(row["effects"]["score_change"] > 0 for row in result["draws"])
    assert result["summary"]["score_change"]["p95"] > 0


def test_each_error_alone_goes_to_both_ends():
    ends = extremes(Errors(sag_m=0.0))
    assert "sag_m" not in ends
    assert ends["index"] == (Draw(index=1e-3), Draw(index=-1e-3))
    plus, minus = ends["decentre_m"]
    assert (plus.decentre_x_m, plus.decentre_y_m, minus.decentre_y_m) == (25e-6, 25e-6, -25e-6)
    assert len(extremes(Errors())) == 8
    assert extremes(NONE) == {}


def test_of_each_error_alone_the_worse_end_is_reported():
    errors = replace(NONE, sensor_m=0.5e-3, sag_m=20e-9, sag_length_m=0.2e-3)
    seen = []
    result = run(errors, draws=1, on_progress=lambda *report: seen.append(report))
    assert seen[-1] == ("building cameras", 5, 5)
    assert set(result["alone"]) == {"sensor_m", "sag_m"}
    nominal = result["nominal"]["misplaced"]
    reference = built(sag(), DEPTHS, SYSTEM, errors, Draw()).psf()
    shares = []
    for shift in (0.5e-3, -0.5e-3):
        psf = built(sag(), DEPTHS, SYSTEM, errors, Draw(sensor_m=shift)).psf()
        shares.append(float((0.5 * (psf - reference).abs().sum((-2, -1))).mean(0).max()))
    assert nominal == 0.0
    assert result["alone"]["sensor_m"]["misplaced"] == pytest.approx(max(shares), rel=1e-6)
    # a smooth wave of 20 nm is a fiftieth of a wavelength of path: it misplaces next to nothing
    assert result["alone"]["sag_m"]["misplaced"] < 0.1 * max(shares)


def test_more_frames_have_more_band():
    nominal = run(NONE, draws=1)["nominal"]
    assert nominal["band_1"] <= nominal["band_30"] <= nominal["band_1800"]


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"sag_m": -1e-9}, "sag_m of 0 or more"),
        ({"index": math.nan}, "index of 0 or more"),
        ({"sag_length_m": 0.0}, "sag_length_m above 0"),
    ],
)
def test_impossible_errors_are_refused(bad, match):
    with pytest.raises(InputError, match=match):
        Errors(**bad)


def test_impossible_runs_are_refused():
    with pytest.raises(InputError, match="at least 1 draw"):
        run(Errors(), draws=0)
    with pytest.raises(InputError, match="sag_length_m of at least"):
        run(Errors(sag_length_m=1e-7), draws=1)
    for name, size in (
        ("wavelength_m", 900e-9),
        ("sensor_m", 0.04),
        ("depth", 1.0),
        ("index", 0.9),
    ):
        with pytest.raises(InputError, match=f"Expected an error {name} below"):
            run(replace(NONE, **{name: size}))
    with pytest.raises(InputError, match="depths above 0 m"):
        run_tolerance(sag(), torch.tensor([0.0]), SYSTEM, errors=NONE, draws=1, seed=0, noise=0.01)


# --- the pages -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_camera():
    from opticaldr.camera import load_camera

    return load_camera("tiny")


@pytest.fixture(scope="module")
def tiny_view(tiny_camera):
    from opticaldr.lens_view import view_lens

    seen = []
    view = view_lens(tiny_camera, on_progress=lambda *report: seen.append(report))
    assert seen[-1] == ("measuring the lens", 5, 5)
    return view


def test_the_page_stands_alone_and_holds_every_figure(tiny_camera, tiny_view, tmp_path):
    from opticaldr.lens_page import write_show

    page = write_show(tiny_view, tiny_camera, "tiny", tmp_path / "page.html")
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert (
        text.count("<svg") == 13
    )  # 2 surfaces, PSFs, 3 MTF, 3 encircled, focus, SNR, sweep, field
    assert "nan" not in re.findall(r"<tbody>.*?</tbody>", text, re.DOTALL)[0]
    assert list(tmp_path.iterdir()) == [page]


def test_a_folder_gets_page_numbers_and_drawings(tiny_camera, tiny_view, tmp_path):
    from opticaldr.lens_page import write_show

    write_show(tiny_view, tiny_camera, "tiny", tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "lens-view.json").read_text())
    assert numbers["geometry"]["matched_distance_m"] == pytest.approx(2.405, abs=0.01)
    assert len(list((tmp_path / "out" / "figures").glob("*.svg"))) == 13
    # 32 px leave 10 cycles per face, and the focused lens delivers all of them at 0.81 m
    assert numbers["recoverable_band"]["1"][1] == 10


def test_more_frames_never_recover_less(tiny_view):
    for row in range(3):
        assert tiny_view.bands[1][row] <= tiny_view.bands[30][row] <= tiny_view.bands[1800][row]


def test_a_lens_out_of_focus_here_is_sharp_where_nobody_looks():
    # privacy.md 4.8: plain defocus is focus at another distance, here at 16 cm
    from opticaldr.lens_view import FRAMES, bands_at
    from opticaldr.optics.geometry import FaceGeometry

    lens = torch.zeros(15)
    lens[3] = -36.0
    focus = focused_depth_m(SYSTEM, -36.0)
    assert focus == pytest.approx(0.16, abs=0.005)
    geometry = FaceGeometry(replace(SYSTEM, sensor_pixels=256))
    there, here = (bands_at(lens, distance, geometry, 0.01) for distance in (focus, 1.0))
    assert len(there) == len(FRAMES)
    assert there[0] > 60 > 20 > here[0]


def test_no_band_is_claimed_where_no_window_holds_the_blur():
    from opticaldr.lens_view import bands_at
    from opticaldr.optics.geometry import FaceGeometry

    assert bands_at(torch.zeros(15), 0.02, FaceGeometry(SYSTEM), 0.01) is None


def test_tolerance_of_a_run_scores_its_network(run_folder, synthetic_cache, tmp_path):
    from opticaldr.camera import load_camera
    from opticaldr.lens_page import write_tolerance
    from opticaldr.robustness import tolerance_of

    result = tolerance_of(
        load_camera(run_folder), Errors(), draws=2, seed=0, run=run_folder, people=2
    )
    assert result["nominal"]["score_change"] == 0.0
    assert all(0 < row["effects"]["score_change"] < 63 for row in result["draws"])
    page = write_tolerance(result, "run", tmp_path)
    assert page.read_text().count("<svg") == len(result["summary"])
    assert json.loads((tmp_path / "tolerance.json").read_text())["seed"] == 0
    assert result["task"] == "scores of 2 rendered recordings at 0.81 m"


def test_a_network_that_scores_everybody_alike_is_no_measure(
    run_folder, synthetic_cache, tiny_config
):
    from opticaldr.camera import load_camera
    from opticaldr.model import build_model, save_model
    from opticaldr.robustness import tolerance_of

    model = build_model(tiny_config)
    with torch.no_grad():
        model.network.depression.head[-1].weight.zero_()
    save_model(model, tiny_config, run_folder)
    result = tolerance_of(load_camera(run_folder), NONE, draws=1, seed=0, run=run_folder, people=2)
    assert result["task"] == "not measured: the network of this run scores everybody alike"
    assert "score_change" not in result["nominal"]


@pytest.mark.parametrize(
    "folder", ["file/out", "/proc/nothing"], ids=["below a file", "read-only for root, too"]
)
@pytest.mark.parametrize("command", ["show", "tolerance"])
def test_a_folder_that_takes_no_files_is_refused_before_the_work(tmp_path, folder, command):
    if folder.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("only Linux has /proc")
    (tmp_path / "file").write_text("in the way")
    begun = time.monotonic()
    done = CliRunner().invoke(app, ["lens", command, "tiny", "--out", str(tmp_path / folder)])
    assert isinstance(done.exception, InputError)
    assert re.match(r"Expected to write .*choose a folder", str(done.exception))
    assert time.monotonic() - begun < 3  # measuring takes longer


def test_a_disk_that_fills_up_leaves_no_half_page(tiny_camera, tiny_view, tmp_path, monkeypatch):
    from opticaldr.lens_page import write_show

    def full(self, text, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_show(tiny_view, tiny_camera, "tiny", tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


# --- the commands ----------------------------------------------------------------------------


def test_tolerance_on_the_command_line_says_which_error_matters(tmp_path):
    done = CliRunner().invoke(
        app,
        ["lens", "tolerance", "tiny", "--out", str(tmp_path), "--draws", "2", "--decentre-um", "0"],
    )
    assert done.exit_code == 0, done.output
    assert "Effect on the task: not measured: this lens comes without a network." in done.output
    assert "Refractive index" in done.output
    assert "Decentre" not in done.output  # no error of that kind
    result = json.loads((tmp_path / "tolerance.json").read_text())
    assert set(result["alone"]) == set(result["errors"]) - {"sag_length_m", "decentre_m"}


def test_show_on_the_command_line_speaks_of_the_corner(tmp_path):
    done = CliRunner().invoke(app, ["lens", "show", "tiny", "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    found = re.search(
        r"Corner of the field \(4\.3 degrees\) at 0\.81 m: ([\d.]+)% of the", done.output
    )
    # the flat thin plate's astigmatism and field curvature on 32 coarse pixels
    assert 0 < float(found[1]) < 30


@pytest.mark.parametrize(("z4", "code"), [(-30.5, 0), (-200.0, 1)])
def test_check_speaks_json_to_scripts(tmp_path, z4, code):
    from opticaldr.camera import Camera, load_camera, save_camera
    from opticaldr.lens import Lens

    tiny = load_camera("tiny")
    values = (0.0, 0.0, 0.0, z4, *(0.0,) * 11)
    lens = Lens(tiny.lens.config.model_copy(update={"coefficients_um": values}))
    save_camera(Camera(lens, tiny.sensor), tmp_path / "lens.json")
    done = CliRunner().invoke(app, ["lens", "check", str(tmp_path), "--json"])
    assert done.exit_code == code
    found = json.loads(done.stdout)
    assert found["passed"] is (code == 0)
    assert found["checks"][0]["name"] == "fill of the window"
    for check in found["checks"]:
        assert check["passed"] is (check["value"] <= check["limit"])
        assert check["reason"]
