"""The camera: lens and sensor together, and lens.json, the one description of a camera on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor, nn

from opticaldr import __version__
from opticaldr.config import PRESETS, LensConfig, SensorConfig, load_config
from opticaldr.lens import Lens
from opticaldr.results import SCHEMA_VERSION, read_json, validate, write_json
from opticaldr.sensor import Sensor
from opticaldr.types import Capture, InputError, Scene


class Camera(nn.Module):
    """scene -> lens -> irradiance -> sensor -> capture.

    trained_against: names of the recognisers in the loss that shaped the lens; never its judges.
    """

    def __init__(self, lens: Lens, sensor: Sensor, trained_against: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.lens = lens
        self.sensor = sensor
        self.trained_against = trained_against

    def forward(
        self, scene: Scene, depth: Float[Tensor, "b"], *, generator: torch.Generator
    ) -> Capture:
        """What the camera stores of a flat scene at depth [m], one depth per image."""
        return self.sensor(self.lens(scene, depth), generator=generator)


def describe_camera(camera: Camera) -> dict[str, Any]:
    """The content of lens.json; sha256 covers the canonical JSON of every other key."""
    config = camera.lens.described().model_dump(mode="json")
    content = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        **config,
        "sensor": camera.sensor.config.model_dump(mode="json"),
        "trained_against": list(camera.trained_against),
    }
    if not bool(torch.isfinite(camera.lens.coefficients).all()):
        raise InputError("Expected finite lens coefficients, found NaN or infinity; nothing saved.")
    content["aperture_radius_m"] = camera.lens.system.aperture_radius_m
    return {**content, "sha256": _digest(content)}


def save_camera(camera: Camera, path: Path) -> None:
    """Writes lens.json."""
    write_json(path, describe_camera(camera))


def load_camera(source: str | Path, *, sensor_pixels: int | None = None) -> Camera:
    """A frozen camera from a lens.json, a run directory that holds one, or a preset name.

    sensor_pixels: another sensor resolution [px] for the same surface; the stored one if None.
    """
    path = Path(source)
    trained_against: tuple[str, ...] = ()
    if not path.exists() and str(source) in PRESETS:
        config = load_config(source)
        lens_config, sensor_config = config.lens, config.sensor
    elif not path.exists():
        raise InputError(
            f"Expected a lens.json, a run folder or a preset ({', '.join(PRESETS)}), found "
            f"'{source}'; check the spelling or the path."
        )
    else:
        content = read_json(path / "lens.json" if path.is_dir() else path)
        lens_config, sensor_config = _parse(content, path)
        trained_against = tuple(content.get("trained_against", ()))
    if sensor_pixels is not None:
        lens_config = lens_config.model_copy(update={"sensor_pixels": sensor_pixels})
    camera = Camera(Lens(lens_config), Sensor(sensor_config), trained_against)
    return camera.requires_grad_(False).eval()


def _parse(content: dict[str, Any], path: Path) -> tuple[LensConfig, SensorConfig]:
    validate(content, "lens")
    found = content["sha256"]
    if found != _digest({key: value for key, value in content.items() if key != "sha256"}):
        raise InputError(
            f"Expected {path} to match its sha256 {found[:12]}..., found other content; it was "
            "edited or damaged: restore it, or remove the change."
        )
    own = {key: content[key] for key in LensConfig.model_fields if key in content}
    try:
        return LensConfig(**own), SensorConfig(**content["sensor"])
    except ValidationError as error:
        raise InputError(
            f"Expected a physical lens in {path}: {error.errors()[0]['msg']}."
        ) from None


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
