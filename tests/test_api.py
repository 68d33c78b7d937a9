"""The public interface: its names and signatures stay, its answers are those of the command line."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
from PIL import Image

import opticaldr
from opticaldr.media import VideoReader, find_inputs, read_image
from opticaldr.predict import Predictor
from serving import video

SNAPSHOT = Path(__file__).with_name("api.json")


@pytest.fixture(scope="module")
def lens() -> opticaldr.Lens:
    return opticaldr.Lens.load("focused")


@pytest.fixture(scope="module")
def person() -> np.ndarray:
    return opticaldr.synthetic_person(3, size=128)


# --- names ------------------------------------------------------------------------------------


def signatures() -> dict[str, str]:
    """Public names with their signatures as text; of classes also their public members."""
    found = {}
    for name in opticaldr.__all__:
        value = getattr(opticaldr, name)
        if not callable(value):
            found[name] = type(value).__name__
        elif inspect.isclass(value) and issubclass(value, Exception):
            found[name] = value.__base__.__name__
        else:
            found[name] = str(inspect.signature(value))
        if name in ("Lens", "Predictor", "Estimate"):
            for member, part in vars(value).items():
                part = getattr(part, "__func__", part)  # a class method's own function
                if isinstance(part, property):
                    found[f"{name}.{member}"] = "property"
                elif inspect.isfunction(part) and member[0] != "_":
                    found[f"{name}.{member}"] = str(inspect.signature(part))
    return found


def test_names_and_signatures_are_those_of_the_snapshot() -> None:
    """Removing or changing one breaks somebody's script: bump the version, then write the file again."""
    assert signatures() == json.loads(SNAPSHOT.read_text())


def test_every_public_name_says_what_it_is() -> None:
    for name in signatures():
        head, _, member = name.partition(".")
        value = getattr(opticaldr, head)
        value = inspect.getattr_static(value, member) if member else value
        if callable(value) or isinstance(value, property | classmethod):
            assert value.__doc__, name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lense'"):
        _ = opticaldr.lense
    assert set(opticaldr.__all__) <= set(dir(opticaldr))


@pytest.mark.parametrize("name", ["attack", "evaluate", "train"])
def test_functions_are_not_hidden_by_files_of_the_same_name(name: str) -> None:
    """Whichever came first: Python binds a module in its package whenever it is imported."""
    module = import_module(f"opticaldr.{name}")
    setattr(opticaldr, name, module)  # what an import does
    assert isinstance(module, ModuleType)
    assert isinstance(getattr(opticaldr, name), FunctionType)
    vars(opticaldr).pop(name, None)
    setattr(opticaldr, name, module)  # before anybody has asked for the function
    assert isinstance(getattr(opticaldr, name), FunctionType)


def test_import_is_fast_and_brings_nothing_heavy() -> None:
    code = (
        "import time; t = time.process_time(); import opticaldr, sys, json;"
        "s = time.process_time() - t; opticaldr.InputError; opticaldr.DISCLAIMER;"
        "print(json.dumps([s, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, modules = json.loads(done.stdout)
    assert seconds < 0.3  # processor time; 0.03 s when measured
    loaded = {module.split(".")[0] for module in modules}
    assert not loaded & {"torch", "numpy", "scipy", "matplotlib", "sklearn", "PIL", "av", "fastapi"}


# --- lens -------------------------------------------------------------------------------------


def test_capture_is_what_the_command_line_writes(lens, person, tmp_path) -> None:
    from opticaldr.cli.app import app

    face, out = tmp_path / "face.png", tmp_path / "out.png"
    Image.fromarray(person).save(face)
    words = ["capture", "--lens", "focused", str(face), "-o", str(out), "--depth", "0.5"]
    app(args=[*words, "--seed", "4"], standalone_mode=False)
    from_array = lens.capture(person, depth_m=0.5, seed=4)
    assert np.array_equal(from_array, read_image(out))
    assert np.array_equal(from_array, lens.capture(face, depth_m=0.5, seed=4))
    assert from_array.shape == (lens.pixels, lens.pixels, 3)
    assert from_array.dtype == np.uint8
    assert not np.array_equal(from_array, lens.capture(person, depth_m=0.5, seed=5))
    assert not np.array_equal(from_array, lens.capture(person, depth_m=2.0, seed=4))


def test_psf_sums_to_one_and_is_sharp_where_the_lens_is_in_focus(lens) -> None:
    psf = lens.psf(1.0)
    assert psf.shape[0] == 3
    assert psf.dtype == np.float32
    assert psf.sum((1, 2)) == pytest.approx(1, abs=1e-3)  # light lost beyond the window
    assert psf[1].max() > 5 * lens.psf(0.33)[1].max()


def test_a_lens_knows_its_name(lens, run_folder) -> None:
    own = opticaldr.Lens.load(str(run_folder))
    assert own.sha256 == json.loads((run_folder / "lens.json").read_text())["sha256"]
    assert own.sha256 != lens.sha256


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((8, 8), np.uint8), r"\(8, 8\) of uint8"),
        (np.zeros((8, 8, 3)), "of float64"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_capture_refuses_what_is_no_picture(lens, image, found) -> None:
    with pytest.raises(opticaldr.InputError, match=found):
        lens.capture(image)


@pytest.mark.parametrize("depth_m", [0.0, -1.0, float("inf"), float("nan")])
def test_distances_are_above_zero(lens, person, depth_m) -> None:
    for call in (lens.psf, lambda d: lens.capture(person, depth_m=d)):
        with pytest.raises(opticaldr.InputError, match="distance above 0 m"):
            call(depth_m)


def test_people_differ_and_repeat(person) -> None:
    assert person.shape == (128, 128, 3)
    assert np.array_equal(person, opticaldr.synthetic_person(3, size=128))
    assert not np.array_equal(person, opticaldr.synthetic_person(4, size=128))


# --- work on runs -----------------------------------------------------------------------------


def test_prediction_is_that_of_the_command_line(run_folder, person, tmp_path) -> None:
    face = tmp_path / "face.png"
    Image.fromarray(person).save(face)
    found = opticaldr.Predictor(str(run_folder), depth_m=0.5, detect=False).predict(face, seed=2)
    inside = Predictor(run_folder, depth_m=0.5).predict(find_inputs([face])[0], seed=2)
    assert found == inside
    assert isinstance(found, opticaldr.Estimate)
    with pytest.raises(opticaldr.InputError, match="one image or video"):
        opticaldr.Predictor(run_folder).predict(tmp_path)


def test_pictures_and_frames_in_memory_are_read_as_files_are(run_folder, person, tmp_path) -> None:
    predictor = opticaldr.Predictor(run_folder, depth_m=0.5, detect=False)
    face, film = tmp_path / "face.png", tmp_path / "film.mp4"
    Image.fromarray(person).save(face)
    film.write_bytes(video(20, rate=25))
    with VideoReader(film) as reader:
        frames = [frame.image for frame in reader]
    in_memory = predictor.predict_frames(iter(frames), rate_hz=25, seed=2)
    assert replace(in_memory, source="") == replace(predictor.predict(film, seed=2), source="")
    assert in_memory.frame_times[-1] == pytest.approx(19 / 25)
    picture = predictor.predict(person, seed=2)
    assert replace(picture, source="") == replace(predictor.predict(face, seed=2), source="")


@pytest.mark.parametrize("rate_hz", [0.0, -25.0, float("nan"), float("inf")])
def test_frame_rates_are_above_zero(run_folder, person, rate_hz) -> None:
    with pytest.raises(opticaldr.InputError, match="frame rate above 0"):
        opticaldr.Predictor(run_folder).predict_frames([person], rate_hz=rate_hz)


def test_scores_and_card_of_a_run(synthetic_cache, small_tier, run_folder, tmp_path) -> None:
    """Training is run by the page your_data.md (test_docs.py)."""
    depression = opticaldr.evaluate(str(run_folder))
    stored = json.loads((run_folder / "results.json").read_text())
    assert depression["mae"] == stored["depression"]["mae"]
    lens = opticaldr.Lens.load(run_folder)
    card = opticaldr.attack(lens, "synthetic", tmp_path / "card", rungs=["A1"])
    assert opticaldr.load_card(tmp_path / "card") == card
    assert opticaldr.load_card(tmp_path / "card" / "privacy_card.json") == card
    assert card["lens"]["sha256"] == lens.sha256


def test_wrong_stages_folders_and_cards_are_refused(tmp_path) -> None:
    with pytest.raises(opticaldr.InputError, match="stages out of 1 to 4"):
        opticaldr.train("tiny", "synthetic", tmp_path / "run", stages=[5])
    (tmp_path / "run/state").mkdir(parents=True)
    with pytest.raises(opticaldr.InputError, match="resume"):
        opticaldr.train("tiny", "synthetic", tmp_path / "run")
    with pytest.raises(opticaldr.InputError, match="JSON file"):
        opticaldr.load_card(tmp_path)
    (tmp_path / "privacy_card.json").write_text('{"grade": "P4"}')
    with pytest.raises(opticaldr.InputError, match="privacy_card"):
        opticaldr.load_card(tmp_path)
