"""Does an ONNX graph give PyTorch's numbers? Compared on random pictures, in batches of several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from opticaldr.model import OpticalDR
from opticaldr.onnx_graphs import HeadOnly, WithLens
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.types import BDI_MAX, InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-4
"""Largest difference to PyTorch: of light, of scores as a share of 63, of logits and landmarks."""
BATCHES = (1, 3, 16)
"""Frames of a call; a graph must take any number of them."""


def open_graph(contents: bytes) -> InferenceSession:
    """An onnxruntime session on the CPU with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])


def example_inputs(
    graph: HeadOnly | WithLens, *, frames: int, size: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Random pictures with coarse and fine detail, noise, and times at about 10 frames/s."""
    draw = {"generator": generator}
    coarse = torch.rand(frames, 3, 6, 6, **draw)
    fine = torch.rand(frames, 3, size, size, **draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    inputs = {
        "picture": 0.8 * smooth + 0.2 * fine,
        "noise": torch.randn(frames, 3, size, size, **draw),
        "times_s": (torch.arange(frames) + 0.5 * torch.rand(frames, **draw)).double() / 10,
    }
    return {name: inputs[name] for name in graph.inputs}


@torch.no_grad()
def compare(
    graph: HeadOnly | WithLens,
    session: InferenceSession,
    model: OpticalDR,
    *,
    depth_m: float,
    batches: tuple[int, ...] = BATCHES,
    seed: int = 0,
) -> dict[str, float]:
    """Largest difference between onnxruntime and the model itself over batches of random pictures.

    Readings are compared on the same capture, the graph's: where light lies between two levels of
    the sensor, rounding may fall either way. "capture" is how far light must differ before rounding
    to explain the level that was found.
    """
    generator = torch.Generator().manual_seed(seed)
    size = model.camera.lens.config.sensor_pixels
    worst = dict.fromkeys(graph.outputs, 0.0)
    for frames in batches:
        inputs = example_inputs(graph, frames=frames, size=size, generator=generator)
        for name, found in differences_of(graph, session, model, inputs, depth_m=depth_m).items():
            worst[name] = float(np.maximum(worst[name], found))  # NaN stays NaN
    return worst


def differences_of(
    graph: HeadOnly | WithLens,
    session: InferenceSession,
    model: OpticalDR,
    inputs: dict[str, Tensor],
    *,
    depth_m: float,
) -> dict[str, float]:
    """As compare, for the inputs of one call."""
    answers = session.run(graph.outputs, {name: value.numpy() for name, value in inputs.items()})
    found = dict(zip(graph.outputs, map(torch.from_numpy, answers), strict=True))
    scene = srgb_to_linear(inputs["picture"])
    differences = {}
    if isinstance(graph, WithLens):
        light = model.camera.lens(scene, torch.full((len(scene),), depth_m))
        light = graph.before_rounding(light, inputs["noise"])
        beyond = (found["capture"] - light).abs() - 0.5 / graph.levels
        differences["capture"] = _largest(beyond.clamp_min(0.0))
        scene = found["capture"]
    window = torch.zeros(len(scene), dtype=torch.long)
    expected = model.network(scene, window, inputs.get("times_s"))
    for name in graph.readings.names:
        scale = BDI_MAX if name == "severity" else 1.0
        differences[name] = _largest((found[name] - getattr(expected, name)).abs() / scale)
    return differences


def refuse_difference(name: str, differences: dict[str, float]) -> None:
    """InputError if an output of graph `name` differs by more than TOLERANCE, or is NaN."""
    for output, found in differences.items():
        if not found <= TOLERANCE:
            raise InputError(
                f"Expected {name}.onnx to agree with PyTorch within {TOLERANCE:g}, found a "
                f"difference of {found:.2g} in '{output}'; nothing was written: check the weights "
                "of the run and the versions of torch and onnxruntime."
            )


def _largest(values: Tensor) -> float:
    return float(values.max())
