"""Settings: presets load, round trips are exact, mistakes are named."""

import pytest

from opticaldr.config import PRESETS, load_config, save_config
from opticaldr.types import InputError


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_round_trips(preset, tmp_path):
    config = load_config(preset)
    assert config.preset == preset
    save_config(config, tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml") == config
    assert load_config(tmp_path) == config  # a run folder


def test_the_paper_s_numbers():
    config = load_config("literal")
    assert config.lens.coefficients_um[3] == -51.0
    optimisers = config.stages.step1.optimisers
    assert (optimisers["lens"].kind, optimisers["lens"].lr) == ("adadelta", 1.0)
    assert (optimisers["emotion"].kind, optimisers["emotion"].lr) == ("adam", 0.01)
    assert config.lens.wavelengths_m == (640e-9, 550e-9, 460e-9)
    assert config.lens.indices == (1.488, 1.493, 1.499)


def test_overrides_change_only_what_they_name():
    base, changed = load_config("demo"), load_config("demo", ["stages.step2.steps=7", "seed=3"])
    assert changed.stages.step2.steps == 7
    assert changed.seed == 3
    assert changed.stages.step1 == base.stages.step1
    assert changed.lens == base.lens


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lens.sensor_pixel=64", r"did you mean 'lens\.sensor_pixels'"),
        ("lense.grid=64", "did you mean 'lens'"),
        ("lens.grid=0", "grid must be above 0"),
        ("lens.sensor_distance_m=-1", "sensor_distance_m must be above 0"),
        ("lens.depth_range_m=[2.0, 0.3]", "near, far"),
        ("lens.coefficients_um=[nan, 0, 0, 1]", "trainable"),
        ("stages.step1.steps=many", r"stages\.step1\.steps"),
        ("seed=-1", "seed"),
        ("seed", "KEY=VALUE"),
        ("seed.x=1", "found a section"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(InputError, match=message):
        load_config("tiny", [override])


def test_unknown_preset_and_broken_file(tmp_path):
    with pytest.raises(InputError, match="preset"):
        load_config("focussed")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = = 1")
    with pytest.raises(InputError, match="Expected TOML"):
        load_config(broken)
