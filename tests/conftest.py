"""Shared fixtures: real faces if present, drawn faces, the smallest configuration, a run on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opticaldr.config import Config, load_config
from opticaldr.data.faceset import FaceSet
from opticaldr.data.sources import Sources, open_sources
from opticaldr.data.synthetic import photos
from opticaldr.model import build_model, save_model
from opticaldr.results import write_json
from opticaldr.types import FaceRecord

# The tests' tensors are small: a second thread costs more than it gains, most of all on busy cores.
torch.set_num_threads(1)

DrawFaces = Callable[..., FaceSet]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real development faces, which lies beside the repository, never inside it."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("OPTICALDR_DATA", beside))
    if not path.is_dir():
        pytest.skip("no development faces: ../shared/data is absent and OPTICALDR_DATA is not set")
    return path


@pytest.fixture(scope="session")
def synthetic_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session for rendered people (120 small pictures, rendered once)."""
    folder = tmp_path_factory.mktemp("synthetic")
    patch = pytest.MonkeyPatch()
    patch.setenv("OPTICALDR_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def tiny_sources(synthetic_cache: Path) -> Sources:
    """The synthetic people of the tiny preset."""
    return open_sources(["synthetic"], load_config("tiny"))


@pytest.fixture(scope="session")
def rendered_faces(synthetic_cache: Path) -> FaceSet:
    """Six photographs of three rendered people, 160 px, in which a face detector finds faces."""
    return photos(range(3), 2, seed=0, size=160)


def draw_face(person: int, photo: int, size: int = 32) -> tuple[np.ndarray, tuple[float, ...], int]:
    """A drawn 'face': (image, five landmarks as fractions, emotion 0 or 1).

    Identity is a fine texture, which a blur removes; landmarks are five dark dots that move
    together and emotion is the light on the lower half, which both survive a blur.
    """
    texture = np.random.default_rng([1, person]).choice([-45.0, 45.0], (size, size, 1))
    rng = np.random.default_rng([2, person, photo])
    emotion = int(rng.integers(2))
    shift = rng.uniform(-0.12, 0.12, 2)
    image = 130.0 + texture + rng.normal(0, 5, (size, size, 3))
    image[size // 2 :] += 50.0 * emotion - 25.0
    points = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)]) + shift
    x, y = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size)
    for px, py in points:
        image[np.hypot(x - px, y - py) < 0.08] = 15.0
    landmarks = tuple(float(value) for value in points.ravel())
    return image.clip(0, 255).astype(np.uint8), landmarks, emotion


def make_faces(people: range, each: int, *, split: str = "", recordings: bool = False) -> FaceSet:
    """A set of drawn faces; person p's severity is 7 p mod 64."""
    records, images = [], {}
    for person in people:
        for photo in range(each):
            key = f"p{person}/{photo}"
            images[key], landmarks, emotion = draw_face(person, photo)
            records.append(
                FaceRecord(
                    key=key,
                    person=f"p{person}",
                    recording=f"p{person}-s1" if recordings else "",
                    time_s=float(photo),
                    split=split,
                    emotion=emotion,
                    severity=float(7 * person % 64) if recordings else float("nan"),
                    attributes=(float(emotion),),
                    landmarks=landmarks,
                )
            )
    return FaceSet("drawn", tuple(records), lambda r: images[r.key], ("light",), True)


@pytest.fixture(scope="session")
def draw_faces() -> DrawFaces:
    """draw_faces(people, each): a set of drawn faces, see make_faces."""
    return make_faces


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """The tiny preset for the drawn faces, which have one attribute."""
    return load_config("tiny", ['network.attribute_names=["light"]'])


@pytest.fixture
def run_folder(tmp_path: Path, tiny_config: Config) -> Path:
    """A run directory with a model whose score depends on the capture, and a calibration."""
    model = build_model(tiny_config)
    with torch.no_grad():
        head = model.network.depression.head[-1]
        head.weight.copy_(torch.linspace(-0.2, 0.3, head.weight.numel()))
        head.bias.fill_(0.3)
    folder = tmp_path / "run"
    save_model(model, tiny_config, folder)
    write_json(folder / "calibration.json", {"coverage": 0.9, "half_width": 25.0, "n": 40})
    return folder


@pytest.fixture
def small_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke tier that renders 20 pictures."""
    from opticaldr.privacy import tiers

    small = {"people": 4, "photos": 2, "control_people": 3, "validation_people": 3}
    small |= {"attacker_images": 12, "bootstrap": 20, "steps": 2, "depths": 2}
    monkeypatch.setitem(tiers.TIERS, "smoke", replace(tiers.TIERS["smoke"], **small))
