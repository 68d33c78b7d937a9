"""The whole system: camera and network in one module, its parameter groups, its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from opticaldr.camera import Camera, load_camera, save_camera
from opticaldr.config import Config, Group, load_config, save_config
from opticaldr.lens import Lens
from opticaldr.networks.face_reader import FaceReader
from opticaldr.sensor import Sensor
from opticaldr.tensors import save_tensors
from opticaldr.types import InputError, Prediction, Scene


class OpticalDR(nn.Module):
    """A camera that can be trained together with the network that reads its captures."""

    def __init__(self, camera: Camera, network: FaceReader) -> None:
        super().__init__()
        self.camera = camera
        self.network = network

    def forward(
        self,
        scene: Scene,
        depth: Float[Tensor, "b"],
        recordings: Int[Tensor, "b"] | None = None,
        times: Float[Tensor, "b"] | None = None,
        *,
        generator: torch.Generator,
    ) -> Prediction:
        """What the network reads from the captures of scenes at depth [m].

        recordings: number of the recording that each image belongs to; None = each on its own.
        times: of each image in its recording [s]; None = not known.
        """
        return self.network(self.camera(scene, depth, generator=generator), recordings, times)

    def group(self, name: Group) -> nn.Module:
        """The module of a parameter group."""
        groups = {
            "lens": self.camera.lens,
            "emotion": self.network.emotion,
            "depression": self.network.depression,
        }
        return groups[name]


def build_model(config: Config) -> OpticalDR:
    """A new model; the network's initial weights depend on config.seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = FaceReader(config.network)
    return OpticalDR(Camera(Lens(config.lens), Sensor(config.sensor)), network)


def save_model(model: OpticalDR, config: Config, run: Path) -> None:
    """Writes config.toml, lens.json and weights.safetensors into the run directory."""
    run.mkdir(parents=True, exist_ok=True)
    save_config(config, run / "config.toml")
    save_camera(model.camera, run / "lens.json")
    save_tensors(model.network.state_dict(), run / "weights.safetensors")


def load_model(run: Path) -> OpticalDR:
    """The frozen model of a run; the lens comes from lens.json, the network from the weights."""
    config = load_config(run)
    network = FaceReader(config.network)
    load_weights(network, run / "weights.safetensors")
    return OpticalDR(load_camera(run), network).requires_grad_(False).eval()


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads safetensors into a network; InputError if missing, damaged or of another shape."""
    try:
        found = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise InputError(
            f"Expected network weights at {path}, found none that can be read ({error}); "
            "train the run again or restore the file."
        ) from None
    expected = network.state_dict()
    for name in [*expected, *found]:
        own = tuple(expected[name].shape) if name in expected else "nothing"
        shape = tuple(found[name].shape) if name in found else "nothing"
        if shape != own:
            raise InputError(
                f"Expected '{name}' of shape {own} in {path}, found {shape}; "
                "the checkpoint belongs to another [network] configuration."
            )
    network.load_state_dict(found)
