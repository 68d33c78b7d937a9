"""The public interface: a lens, a predictor, and one function for each long piece of work.

Thin adapters over what the command line calls too, so that both give the same bits. Pictures are
(h, w, 3) uint8 sRGB arrays, lengths are metres, randomness is a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opticaldr import predict
from opticaldr.attack import attack_lens
from opticaldr.camera import Camera, describe_camera, load_camera
from opticaldr.capture import capture_photos, to_images, to_photos
from opticaldr.config import load_config
from opticaldr.data.sources import open_sources
from opticaldr.data.synthetic.worker import portrait
from opticaldr.evaluation import evaluate_run
from opticaldr.experiment import refuse_occupied, train_run
from opticaldr.faces.detection import DlibDetector, detector_installed
from opticaldr.media import Frame, find_inputs, read_image
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.predict import Estimate as Estimate
from opticaldr.predict import still
from opticaldr.results import read_json, validate
from opticaldr.types import InputError


class Lens:
    """A lens and the sensor behind it: what the camera stores of a picture.

    source: what it was loaded from.
    """

    def __init__(self, camera: Camera, source: str | Path) -> None:
        self.source = source
        self._camera = camera

    @classmethod
    def load(cls, source: str | Path) -> Lens:
        """A lens from a preset ("focused", "literal", ...), a lens.json or a run folder.

        Raises:
            InputError: there is no such preset or file, or its content was changed.
        """
        return cls(load_camera(source), source)

    @property
    def pixels(self) -> int:
        """Side of the sensor, and of every captured picture [px]."""
        return self._camera.lens.config.sensor_pixels

    @property
    def sha256(self) -> str:
        """The lens's name: the digest of its description, as it stands in lens.json."""
        return describe_camera(self._camera)["sha256"]

    def capture(
        self, image: np.ndarray | str | Path, *, depth_m: float = 1.0, seed: int = 0
    ) -> np.ndarray:
        """What the camera stores of a picture, the same bits as `opticaldr capture` writes.

        Args:
            image: (h, w, 3) uint8 sRGB, or an image file; its centre square is taken.
            depth_m: distance from the lens to the face [m].
            seed: of the sensor's noise.

        Returns:
            (pixels, pixels, 3) uint8 sRGB.
        """
        picture = image if isinstance(image, np.ndarray) else read_image(Path(image))
        stored = capture_photos(
            self._camera,
            to_photos([_checked_picture(picture)], self.pixels),
            depth_m=_checked_depth(depth_m),
            generator=torch.Generator().manual_seed(seed),
        )
        return to_images(linear_to_srgb(stored))[0]

    def psf(self, depth_m: float = 1.0) -> np.ndarray:
        """The point spread function: what becomes of a point of light depth_m [m] away.

        Returns:
            (3, m, m) float32, colours R, G, B, a sensor pixel a sample, rows downwards, the axis
            in (m // 2, m // 2); each colour sums to 1.
        """
        with torch.no_grad():
            return self._camera.lens.psf(torch.tensor([_checked_depth(depth_m)]))[0].numpy()


class Predictor:
    """Severity of pictures and videos through a trained run.

    run: folder of the run. already_captured: the input comes from the camera itself, so no lens is
    simulated. depth_m: distance from lens to face [m]. detect: find and align the face, where a
    detector is installed; False takes the centre square of every frame.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        already_captured: bool = False,
        depth_m: float = 1.0,
        detect: bool = True,
    ) -> None:
        self._predictor = predict.Predictor(
            Path(run),
            already_captured=already_captured,
            depth_m=_checked_depth(depth_m),
            detector=DlibDetector() if detect and detector_installed() else None,
        )

    def predict(self, source: np.ndarray | str | Path, *, seed: int = 0) -> Estimate:
        """The BDI-II estimate (0-63) of one image or video. Not a diagnosis.

        Args:
            source: an image or video file, or an (h, w, 3) uint8 sRGB picture.
            seed: of the sensor's noise.

        Raises:
            InputError: the file cannot be read, or no frame shows a face.
        """
        if isinstance(source, np.ndarray):
            frames = still(_checked_picture(source))
            return self._predictor.predict_frames(frames, name="the picture", seed=seed)
        if Path(source).is_dir():
            raise InputError(f"Expected one image or video, found folder {source}; name its files.")
        (found,) = find_inputs([Path(source)])
        return self._predictor.predict(found, seed=seed)

    def predict_frames(
        self, frames: Iterable[np.ndarray], *, rate_hz: float, seed: int = 0
    ) -> Estimate:
        """As predict, for the frames of one recording that are already in memory, or arrive.

        Args:
            frames: (h, w, 3) uint8 sRGB pictures in order; none is kept.
            rate_hz: how many of them a second has [1/s].
            seed: of the sensor's noise.
        """
        if not 0 < rate_hz < math.inf:
            raise InputError(
                f"Expected a frame rate above 0, found {rate_hz}; give frames per second, such as 30."
            )
        tick = 1 / Fraction(rate_hz)
        seen = (Frame(_checked_picture(image), n, tick, n) for n, image in enumerate(frames))
        return self._predictor.predict_frames(seen, name="the frames", seed=seed)


def train(
    config: str | Path,
    data: str | Sequence[str],
    out: str | Path,
    *,
    stages: Sequence[int] = (1, 2, 3, 4),
    settings: Sequence[str] = (),
    resume: bool = False,
) -> Path:
    """Trains lens and network in progressive stages; minutes to days.

    Args:
        config: preset, TOML file or run folder.
        data: "synthetic" or "NAME=PATH", one or several.
        out: folder of the run.
        stages: which of 1 to 4.
        settings: changes to the configuration, such as "training.loader_workers=2".
        resume: continue the run in `out`.

    Returns:
        The folder of the run, for Lens.load, Predictor, evaluate and attack.
    """
    run = Path(out)
    chosen = load_config(config, list(settings))
    unknown = sorted(set(stages) - set(chosen.stages.numbered()))
    if unknown or not stages:
        raise InputError(f"Expected stages out of 1 to 4, found {list(stages)}.")
    refuse_occupied(run, resume=resume)  # before anything is rendered
    sources = open_sources(_several(data), chosen)
    train_run(chosen, sources, run, stages=sorted(set(stages)), resume=resume)
    return run


def evaluate(run: str | Path, data: str | Sequence[str] = "synthetic") -> dict[str, Any]:
    """Reads the test recordings once and records the reading in results.json.

    Args:
        run: folder of a trained run.
        data: "synthetic" or "NAME=PATH", one or several, split by the run's protocol.

    Returns:
        "depression" of results.json: figures {"value", "ci95", "n"} such as ["mae"], in BDI-II points.
    """
    folder = Path(run)
    sources = open_sources(_several(data), load_config(folder))
    return evaluate_run(folder, sources)


def attack(
    lens: Lens | str | Path,
    data: str,
    out: str | Path,
    *,
    tier: str = "smoke",
    rungs: Sequence[str] | None = None,
    depth_m: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Climbs the attack ladder on a lens and leaves privacy_card.json and its page in `out`.

    Args:
        lens: a Lens, or whatever `opticaldr attack --lens` takes, such as "gaussian:0.30".
        data: "synthetic", "lfw=PATH", "celeba=PATH" or "manifest=FILE.csv".
        out: folder of the card; an attack that was stopped there goes on.
        tier: "smoke" (minutes, no claim), "standard" (hours) or "publication".
        rungs: such as ["A1", "A2", "A4"]; None = all.
        depth_m: distance from lens to face [m].
        seed: of people, pairs and noise.

    Returns:
        The privacy card.
    """
    report = attack_lens(
        str(lens.source if isinstance(lens, Lens) else lens),
        data,
        Path(out),
        tier=tier,
        rungs=rungs,
        depth_m=_checked_depth(depth_m),
        seed=seed,
        on_progress=_silent,
    )
    return report.card


def load_card(path: str | Path) -> dict[str, Any]:
    """A privacy card, from the file or from the folder that holds privacy_card.json.

    Raises:
        InputError: there is none, or it does not follow the schema.
    """
    file = Path(path)
    file = file / "privacy_card.json" if file.is_dir() else file
    card = read_json(file)
    validate(card, "privacy_card")
    return card


def synthetic_person(seed: int = 0, *, size: int = 256) -> np.ndarray:
    """The face of a rendered person, who does not exist, to try a lens on.

    Args:
        seed: which person.
        size: side of the picture [px].

    Returns:
        (size, size, 3) uint8 sRGB.
    """
    return portrait(seed, size)


def _several(data: str | Sequence[str]) -> list[str]:
    return [data] if isinstance(data, str) else list(data)


def _checked_picture(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"Expected an image (h, w, 3) of uint8, found {picture.shape} of {picture.dtype}; "
            "convert it to 8-bit sRGB."
        )
    return picture


def _checked_depth(depth_m: float) -> float:
    if not 0 < depth_m < math.inf:
        raise InputError(
            f"Expected a distance above 0 m, found {depth_m}; give metres, such as 1.0."
        )
    return depth_m


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""
