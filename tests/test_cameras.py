"""The camera under attack: optics, noise law, adapters of lenses and of measured PSFs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opticaldr.attackable import camera_under_attack, open_camera, read_psf
from opticaldr.camera import Camera, load_camera, save_camera
from opticaldr.config import load_config
from opticaldr.experiment import open_judges
from opticaldr.lens import Lens
from opticaldr.privacy.cameras import (
    CameraUnderAttack,
    NoiseLaw,
    NoLens,
    Pixelation,
    PlainBlur,
    PsfOptics,
    convolve,
    scale_psf,
)
from opticaldr.sensor import Sensor
from opticaldr.types import InputError


def random_scene(size: int, seed: int = 0, images: int = 1) -> torch.Tensor:
    return torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(seed))


def moments(psf: torch.Tensor) -> tuple[float, float, float]:
    """Sum, and centroid and standard deviation along x about the axis [px], in green."""
    kernel = psf[0, psf.shape[1] // 2].double()
    x = torch.arange(kernel.shape[-1], dtype=torch.float64) - kernel.shape[-1] // 2
    light = kernel.sum(0)
    mean = float((light * x).sum() / light.sum())
    return (
        float(kernel.sum()),
        mean,
        math.sqrt(float((light * (x - mean) ** 2).sum() / light.sum())),
    )


# Optics


@pytest.mark.parametrize("extent", [5, 6, 31, 60])
@pytest.mark.parametrize("border", ["reflect", "zero"])
def test_convolution_equals_the_sum_that_defines_it(extent: int, border: str) -> None:
    size, axis = 32, extent // 2
    scene = random_scene(size).double()
    psf = torch.rand(1, 3, extent, extent, generator=torch.Generator().manual_seed(1)).double()
    mode = "reflect" if border == "reflect" else "constant"
    around = np.pad(scene[0, 2].numpy(), extent, mode=mode)
    found = convolve(scene, psf, border)
    for p, q in ((0, 0), (7, 31), (16, 15)):
        rows = p + extent - np.arange(extent) + axis
        columns = q + extent - np.arange(extent) + axis
        expected = (psf[0, 2].numpy() * around[np.ix_(rows, columns)]).sum()
        assert float(found[0, 2, p, q]) == pytest.approx(expected, rel=1e-10)  # float64 FFT


def test_a_blur_wider_than_a_mirrored_scene_is_refused() -> None:
    with pytest.raises(InputError, match="border 'zero'"):
        convolve(random_scene(16), torch.full((1, 3, 41, 41), 1 / 41**2), "reflect")


@pytest.mark.parametrize(
    ("shape", "width", "expected"),
    [
        ("gaussian", 0.17, 0.17),  # its standard deviation
        ("disc", 0.5, 0.5 / 4),  # a disc of diameter d spreads d / 4 along one axis
        ("box", 0.5, 0.5 / math.sqrt(12)),
    ],
)
def test_plain_blurs_have_the_width_that_they_say(
    shape: str, width: float, expected: float
) -> None:
    blur = PlainBlur(shape, width, 128)
    total, mean, spread = moments(blur.psf)
    assert total == pytest.approx(1, abs=1e-6)  # float32 sum
    assert mean == pytest.approx(0, abs=1e-6)
    assert spread == pytest.approx(expected * 80, rel=0.005)  # 80 px of face; area of a pixel


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.9, 1.1, 1.7])
def test_scaled_psf_has_scaled_width_and_the_same_light(factor: float) -> None:
    psf = PlainBlur("gaussian", 0.1, 128).psf
    before, after = moments(psf), moments(scale_psf(psf, factor))
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert after[1] == pytest.approx(0, abs=1e-4)
    # bilinear sampling adds up to 1/6 px^2 to 64 f^2 px^2
    assert after[2] == pytest.approx(factor * before[2], rel=0.02)


def test_a_psf_as_small_as_a_pixel_keeps_its_light_when_shrunk() -> None:
    point = torch.zeros(1, 3, 9, 9)
    point[..., 4, 4] = 1
    assert torch.allclose(scale_psf(point, 0.25), point, atol=1e-6)  # a point stays a point


def test_pixelation_has_that_many_blocks_across_a_face() -> None:
    seen = Pixelation(10)(random_scene(128))
    assert len(torch.unique(seen[0, 0, 0])) == 16  # 10 across 0.625 of the frame
    assert torch.allclose(Pixelation(10)(torch.full((1, 3, 128, 128), 0.3)), torch.tensor(0.3))
    assert Pixelation(10).at_strength(0.25).blocks == 40


# Noise


@pytest.mark.parametrize(
    "law",
    [
        NoiseLaw(0.01),
        NoiseLaw(0.002, bits=4),
        NoiseLaw(0.02, full_well_e=500),
        NoiseLaw(0.1, bits=0),
    ],
)
def test_mean_of_many_frames_is_distributed_as_if_drawn_frame_by_frame(law: NoiseLaw) -> None:
    level = torch.tensor([0.0, 0.004, 0.35, 0.5, 0.97, 1.0])
    light = level.repeat(20_000, 1)
    generator = torch.Generator().manual_seed(0)
    frames = 40
    quick = law.record(light, generator=generator, frames=frames)
    slow = sum(law.record(light, generator=generator, frames=10) for _ in range(4)) / 4
    spread = slow.std(0)
    # means of 20,000 draws: three standard errors of a difference
    assert ((quick.mean(0) - slow.mean(0)).abs() <= 3 * spread * math.sqrt(2 / 20_000) + 1e-6).all()
    # standard deviations: relative error 1 / sqrt(2 n) each; a coarse converter is less normal
    assert torch.allclose(quick.std(0), spread, rtol=0.03, atol=2e-5)


def test_one_frame_is_on_the_levels_of_the_converter() -> None:
    law, generator = NoiseLaw(0.05, bits=3), torch.Generator().manual_seed(0)
    stored = 7 * law.record(random_scene(16), generator=generator)
    assert torch.allclose(stored, stored.round(), atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, -0.1, math.nan, math.inf])
def test_a_camera_without_noise_is_refused(noise: float) -> None:
    with pytest.raises(InputError, match="read noise above 0"):
        NoiseLaw(noise)


# Lenses


def test_the_lens_under_attack_records_what_the_camera_records() -> None:
    camera = load_camera("tiny")
    under = camera_under_attack(camera, depth_m=0.6, border="zero")
    scene = random_scene(32, images=2)
    light = camera.lens(scene, torch.tensor([0.6, 0.6]))
    assert torch.allclose(under.optics(scene), light, atol=2e-4)  # trimmed: 1e-4 of the light
    assert under.noise == NoiseLaw(read_noise=0.01, bits=8)
    stored = under.capture(scene, generator=torch.Generator().manual_seed(0))
    assert float((stored - light).std()) == pytest.approx(0.01, rel=0.05)  # 6,144 samples, clipping


def test_a_weaker_lens_has_less_blur_at_the_attacked_distance() -> None:
    out_of_focus = [0.0, 0.0, 0.0, -34.0, *[0.0] * 11]
    config = load_config("focused", [f"lens.coefficients_um={out_of_focus}"])
    lens_config = config.lens.model_copy(update={"sensor_pixels": 256})
    under = camera_under_attack(Camera(Lens(lens_config), Sensor(config.sensor)))
    full, half, quarter = (
        moments(optics.psf)[2]
        for optics in (under.optics, under.optics.at_strength(0.5), under.optics.at_strength(0.25))
    )
    assert half == pytest.approx(full / 2, rel=0.05)  # geometric optics, pixels and diffraction
    assert quarter == pytest.approx(full / 4, rel=0.15)
    assert under.at_strength(0.5).optics.describe()["strength"] == 0.5


def test_distance_changes_the_blur_of_a_lens_and_of_nothing_else() -> None:
    under = open_camera("focused", pixels=64)
    near, far = under.at_depth(0.2), under.at_depth(math.inf)
    assert near.depth_m == 0.2
    assert moments(near.psf)[2] > 2 * moments(under.psf)[2]
    assert moments(far.psf)[2] > moments(under.psf)[2]
    for spec in ("gaussian:0.2", "none", "pixelation:8"):
        assert open_camera(spec, pixels=64).at_depth(0.2) is None


def test_recognisers_that_shaped_the_lens_may_not_judge_it(tmp_path: Path) -> None:
    camera = load_camera("tiny")
    camera.trained_against = ("dlib",)
    save_camera(camera, tmp_path / "lens.json")
    under = open_camera(str(tmp_path))
    assert under.trained_against == ("dlib",)
    assert under.sha256
    assert under.name == tmp_path.name == open_camera(str(tmp_path / "lens.json")).name
    with pytest.raises(InputError, match="not trained against, found 'dlib'"):
        open_judges(["dlib"], under.trained_against)


def test_scenes_of_another_size_than_the_sensor_are_refused() -> None:
    with pytest.raises(InputError, match="32 px, the lens's sensor, found 48"):
        open_camera("tiny").optics(random_scene(48))


# Specifications


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("gaussian:0.30", PlainBlur),
        ("disc:1.0", PlainBlur),
        ("box:0.5", PlainBlur),
        ("pixelation:16", Pixelation),
        ("none", NoLens),
    ],
)
def test_plain_cameras_open_by_name(spec: str, kind: type) -> None:
    under = open_camera(spec, pixels=48, read_noise=0.02, bits=10, full_well_e=1000.0)
    assert isinstance(under, CameraUnderAttack)
    assert isinstance(under.optics, kind)
    assert under.noise == NoiseLaw(0.02, 1000.0, 10)
    assert under.capture(random_scene(48), generator=torch.Generator()).shape == (1, 3, 48, 48)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gauss:0.3", "found 'gauss:0.3'"),
        ("gaussian", "a number above 0 behind 'gaussian:'"),
        ("gaussian:wide", "found 'wide'"),
        ("disc:nan", "found 'nan'"),
        ("disc:7", "0 to 2 face widths"),
        ("psf:missing.png", "found no file"),
    ],
)
def test_what_is_no_camera_is_named(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_camera(spec, pixels=48)


def test_plain_cameras_need_the_size_of_the_scene() -> None:
    with pytest.raises(InputError, match="side of the scene"):
        open_camera("disc:1.0")


# Measured PSFs


def test_measured_psf_is_centred_on_its_light(tmp_path: Path) -> None:
    disc = PlainBlur("disc", 0.2, 64).psf[0, 0].numpy()
    picture = np.zeros((40, 50))
    picture[11 : 11 + disc.shape[0], 19 : 19 + disc.shape[1]] = disc
    np.save(tmp_path / "psf.npy", picture)
    Image.fromarray((picture / picture.max() * 255).round().astype(np.uint8)).save(
        tmp_path / "psf.png"
    )
    for name in ("psf.npy", "psf.png"):
        found = read_psf(tmp_path / name)
        total, mean, spread = moments(found)
        assert total == pytest.approx(1, abs=1e-6)
        assert mean == pytest.approx(0, abs=0.01)  # 8 bits of the picture
        assert spread == pytest.approx(moments(torch.from_numpy(disc)[None, None])[2], rel=0.01)
    opened = open_camera(f"psf:{tmp_path / 'psf.npy'}", pixels=64)
    assert isinstance(opened.optics, PsfOptics)


def spoiled(kind: str) -> np.ndarray:
    values = np.full((9, 9), 1 / 81)
    if kind == "negative":
        values[0, 0] = -values[0, 0]
    elif kind == "sum":
        values *= 1.5
    elif kind == "nan":
        values[4, 4] = np.nan
    elif kind == "shape":
        values = values.ravel()
    elif kind == "corner":
        values = np.zeros((9, 9))
        values[0, 0] = values[0, 8] = 0.5
    return values


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("negative", "without negative values"),
        ("sum", "sum to 1, found"),
        ("nan", "NaN"),
        ("shape", r"found shape \(81,\)"),
        ("corner", "loses 100% of the light"),
    ],
)
def test_spoiled_psfs_are_refused(kind: str, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", spoiled(kind))
    with pytest.raises(InputError, match=message):
        open_camera(f"psf:{tmp_path / 'psf.npy'}", pixels=32)


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "psf.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"\.npy array or a picture"):
        read_psf(tmp_path / "psf.png")


def test_psf_optics_check_what_they_are_given() -> None:
    with pytest.raises(InputError, match=r"found shape \(3, 5, 5\)"):
        PsfOptics("bad", torch.ones(3, 5, 5))
