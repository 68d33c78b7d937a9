"""Lens, sensor and camera: what is learned, what is cached, what noise does, what is on disk."""

import json
import math

import pytest
import torch

from opticaldr.camera import Camera, load_camera, save_camera
from opticaldr.config import LensConfig, SensorConfig
from opticaldr.lens import Lens
from opticaldr.optics import propagation
from opticaldr.sensor import Sensor, quantise
from opticaldr.types import InputError

SMALL = LensConfig(sensor_pixels=32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_piston_and_tilts_never_learn():
    lens = Lens(SMALL)
    scene, depth = torch.rand(2, 3, 32, 32, generator=seeded()), torch.tensor([0.5, 1.0])
    lens(scene, depth).square().mean().backward()
    gradient = lens.coefficients.grad
    assert float(gradient[:3].abs().max()) == 0.0
    assert int((gradient[3:] != 0).sum()) == 12


def test_optimiser_moves_the_lens_downhill():
    # sharper means more contrast: gradient ascent on the image's variance must reduce the blur
    lens = Lens(LensConfig(sensor_pixels=64, coefficients_um=(0, 0, 0, -33.0, *(0,) * 11)))
    stripes = (torch.arange(64) // 16 % 2).float()  # wider than the blur of 6 px
    stripes = stripes.expand(1, 3, 64, 64)
    optimiser = torch.optim.Adam(lens.parameters(), lr=0.2)
    for _ in range(8):
        optimiser.zero_grad()
        (-lens(stripes, torch.tensor([1.0])).var()).backward()
        optimiser.step()
    assert float(lens.coefficients[3].detach()) > -32.4  # focus is at -30.4


def test_each_image_gets_the_psf_of_its_own_depth():
    lens = Lens(SMALL).requires_grad_(False)
    scene = torch.rand(1, 3, 32, 32, generator=seeded()).expand(3, 3, 32, 32)
    mixed = lens(scene, torch.tensor([2.0, 0.33, 2.0]))
    near = lens(scene[:1], torch.tensor([0.33]))
    torch.testing.assert_close(mixed[1:2], near, atol=1e-6, rtol=0)  # float32 FFT
    torch.testing.assert_close(mixed[0], mixed[2], atol=0, rtol=0)
    assert float((mixed[0] - mixed[1]).abs().max()) > 0.01


def test_a_frozen_lens_computes_each_psf_once(monkeypatch):
    calls = []
    real = propagation.psf_direct

    def counted(coefficients, depths, system, *, window):
        calls.append(len(depths))
        return real(coefficients, depths, system, window=window)

    monkeypatch.setattr(propagation, "psf_direct", counted)
    lens = Lens(SMALL).requires_grad_(False)
    first = lens.psf(torch.tensor([0.5, 1.0]))
    again = lens.psf(torch.tensor([1.0, 2.0, 0.5]))
    assert calls == [2, 1]
    torch.testing.assert_close(again[2], first[0], atol=0, rtol=0)
    with torch.no_grad():
        lens.coefficients[3] -= 1.0  # another surface: nothing of the old one may be reused
    assert float((lens.psf(torch.tensor([0.5]))[0] - first[0]).abs().max()) > 1e-3


def test_two_fft_engine_is_the_same_camera():
    # in focus the lineage is right (optics.md 3): the images differ by its axis, 0.375 px of 256
    scene = torch.rand(1, 3, 8, 8, generator=seeded()).repeat_interleave(32, 2)
    scene = scene.repeat_interleave(32, 3)
    images = [
        Lens(LensConfig(engine=engine)).requires_grad_(False)(scene, torch.tensor([1.0]))
        for engine in ("direct", "two_fft")
    ]
    assert float((images[0] - images[1]).abs().mean()) < 0.02  # edges of the squares only


def test_noise_has_the_stated_mean_and_spread():
    # 3 x 256 x 256 samples: the mean's standard error is 2.3e-5 and the spread's 1.6e-5, so five
    # of them fail wrongly once in 1.7 million runs; 16 bits make quantisation noise negligible
    sensor = Sensor(SensorConfig(bits=16)).eval()
    grey = torch.full((1, 3, 256, 256), 0.5)
    noise = sensor(grey, generator=seeded()) - grey
    assert float(noise.mean()) == pytest.approx(0.0, abs=5 * 2.3e-5)
    assert float(noise.std()) == pytest.approx(0.01, abs=5 * 1.6e-5)


def test_training_draws_the_noise_level_per_image():
    sensor = Sensor(SensorConfig(bits=16)).train()
    grey = torch.full((400, 3, 24, 24), 0.5)
    levels = (sensor(grey, generator=seeded()) - grey).flatten(1).std(dim=1)
    # U(.001, .02): mean .0105, sd .00548; 400 images and 2 % estimation error
    assert float(levels.mean()) == pytest.approx(0.0105, abs=5 * 0.00548 / 20)
    assert float(levels.min()) < 0.003
    assert float(levels.max()) > 0.018


def test_same_generator_same_bits_other_generator_other_bits():
    sensor = Sensor(SensorConfig()).train()
    grey = torch.full((2, 3, 16, 16), 0.5)
    first, same, other = (sensor(grey, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_captures_are_clipped_to_256_levels_and_let_gradients_through():
    sensor = Sensor(SensorConfig()).eval()
    bright = torch.linspace(-0.2, 1.2, 3 * 64 * 64).view(1, 3, 64, 64).requires_grad_()
    capture = sensor(bright, generator=seeded())
    levels = capture.detach() * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert float(capture.detach().min()) == 0.0
    assert float(capture.detach().max()) == 1.0
    capture.sum().backward()
    inside = (capture.detach() > 0) & (capture.detach() < 1)
    assert bool((bright.grad[inside] == 1).all())
    assert float(bright.grad[0, 0, 0, 0]) == 0.0  # clipped light teaches nothing


def test_quantisation_error_is_at_most_half_a_level():
    values = torch.rand(1000, generator=seeded())
    assert float((quantise(values, 8) - values).abs().max()) <= 0.5 / 255 + 1e-7


def saved(tmp_path, **changes):
    camera = Camera(Lens(SMALL.model_copy(update=changes)), Sensor(SensorConfig()), ("small",))
    save_camera(camera, tmp_path / "lens.json")
    return tmp_path / "lens.json"


def test_lens_json_gives_the_same_camera_back(tmp_path):
    path = saved(tmp_path, coefficients_um=(0, 0, 0, -31.25, 0.5, *(0,) * 10))
    camera = load_camera(path)
    assert camera.trained_against == ("small",)
    assert camera.lens.is_frozen
    assert camera.lens.coefficients.tolist()[3:5] == [-31.25, 0.5]
    scene = torch.rand(1, 3, 32, 32, generator=seeded())
    again = load_camera(tmp_path)  # a folder that holds lens.json
    images = [c(scene, torch.tensor([1.0]), generator=seeded(5)) for c in (camera, again)]
    assert torch.equal(*images)


def test_presets_are_cameras():
    assert load_camera("literal").lens.coefficients.tolist()[3] == -51.0
    assert load_camera("focused", sensor_pixels=64).lens.config.sensor_pixels == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coefficients_um": [0.0] * 14 + [1.0]}, "edited or damaged"),
        ({"normalisation": "fringe"}, "schema"),
        ({"sensor_distance_m": -1.0}, "Expected"),
    ],
)
def test_an_edited_lens_is_refused(tmp_path, change, message):
    path = saved(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        load_camera(path)


def test_nan_is_neither_saved_nor_loaded(tmp_path):
    lens = Lens(SMALL)
    with torch.no_grad():
        lens.coefficients[4] = math.nan
    with pytest.raises(InputError, match="finite lens coefficients"):
        save_camera(Camera(lens, Sensor(SensorConfig())), tmp_path / "lens.json")
    assert not (tmp_path / "lens.json").exists()
    with pytest.raises(InputError, match="Noll index"):
        lens(torch.rand(1, 3, 32, 32), torch.tensor([1.0]))


def test_missing_lens_names_the_path(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_camera(tmp_path / "nowhere.json")


def test_a_lens_that_blurs_too_far_is_pulled_back_to_the_limit():
    config = LensConfig(sensor_pixels=64, max_window=512)
    wide = (0, 0, 0, -60.0, 2.0, *(0,) * 10)
    lens = Lens(config.model_copy(update={"coefficients_um": wide}))
    assert lens.pull_into_window()
    depths = torch.tensor(config.depth_range_m)
    fill = propagation.window_fill(lens.coefficients.detach(), depths, lens.system, window=256)
    # blur in samples of the allowed window: at the limit of 0.75, at most 3 % inside it
    assert 0.97 * 0.75 < float(fill.max()) * 256 / 512 <= 0.75
    assert float(lens.coefficients[4].detach()) > 0.1  # the direction is kept
    assert not lens.pull_into_window()
