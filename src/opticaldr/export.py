"""ONNX graphs of a run: with the simulated lens, and for a real camera. Checked before they are kept.

A graph that does not give PyTorch's numbers is never written.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from opticaldr.camera import Camera, load_camera
from opticaldr.media.files import cannot_write, written_whole
from opticaldr.model import OpticalDR, load_model
from opticaldr.onnx_check import compare, example_inputs, open_graph, refuse_difference
from opticaldr.onnx_graphs import HeadOnly, WithLens
from opticaldr.onnx_metadata import describe_graph
from opticaldr.types import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGES = ("onnx", "onnxscript", "onnxruntime")

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Exported:
    """A graph on disk. differences: largest one to PyTorch by output (onnx_check.TOLERANCE)."""

    path: Path
    differences: dict[str, float]


def export_run(
    run: Path,
    to: Path,
    *,
    lens: str | Path | None = None,
    depth_m: float = 1.0,
    on_progress: OnProgress = lambda what, done, total: None,
) -> list[Exported]:
    """Writes with_lens.onnx and head_only.onnx of a run into a folder: both, or none.

    lens: another camera than the run's, such as the lens as it was made. depth_m: distance from
    lens to face in with_lens.onnx [m].

    Raises:
        InputError: the run holds no model or a damaged one, the lens is for another sensor, the
            extra is not installed, the folder cannot be written, or a graph differs from PyTorch.
    """
    require_packages()
    if not 0 < depth_m < float("inf"):
        raise InputError(f"Expected a depth above 0 m, found {depth_m}; give metres, such as 1.0.")
    model = _load(run, lens)
    try:
        to.mkdir(parents=True, exist_ok=True)  # found out before minutes of work
    except OSError as error:
        raise cannot_write(to, error.strerror or error) from None
    checked = []
    graphs = (WithLens(model.camera, model.network, depth_m=depth_m), HeadOnly(model.network))
    for done, graph in enumerate(graphs):
        on_progress(f"exporting {graph.name}", done, len(graphs))
        proto = to_onnx(graph, size=model.camera.lens.config.sensor_pixels)
        for key, value in describe_graph(graph, model, run, depth_m=depth_m).items():
            proto.metadata_props.add(key=key, value=value)
        contents = proto.SerializeToString()
        differences = compare(graph, open_graph(contents), model, depth_m=depth_m)
        refuse_difference(graph.name, differences)
        checked.append((to / f"{graph.name}.onnx", contents, differences))
    on_progress("exported", len(graphs), len(graphs))
    with ExitStack() as files:  # neither file takes its place before both are on the disk
        for path, contents, _ in checked:
            files.enter_context(written_whole(path)).write_bytes(contents)
    return [Exported(path, differences) for path, _, differences in checked]


def require_packages() -> None:
    """InputError unless the extra [onnx] is installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Expected the packages {', '.join(PACKAGES)} for ONNX, found no {missing[0]}; run: "
            "pip install 'opticaldr[onnx]'."
        )


def to_onnx(graph: HeadOnly | WithLens, *, size: int) -> ModelProto:
    """The ONNX form of a graph for pictures of size x size px and any number of frames."""
    inputs = example_inputs(graph, frames=2, size=size, generator=torch.Generator().manual_seed(0))
    frames = torch.export.Dim("n")
    with _quiet():
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            dynamo=True,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes=tuple({0: frames} for _ in inputs),
            verbose=False,
        )
    proto = program.model_proto
    for node in proto.graph.node:  # the exporter leaves stack traces, with paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    return proto


def _load(run: Path, lens: str | Path | None) -> OpticalDR:
    if not (run / "config.toml").is_file():
        raise InputError(
            f"Expected the folder of a trained run with config.toml, found none in {run}; train one "
            "with 'opticaldr train' or 'opticaldr demo'."
        )
    model = load_model(run)
    for name, value in model.network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"Expected finite weights in {run}, found NaN or infinity in '{name}'; "
                "train the run again."
            )
    if lens is not None:
        model.camera = _other_camera(lens, model.camera)
    return model


def _other_camera(lens: str | Path, own: Camera) -> Camera:
    camera, pixels = load_camera(lens), own.lens.config.sensor_pixels
    if camera.lens.config.sensor_pixels != pixels:
        raise InputError(
            f"Expected a lens over a sensor of {pixels} px, as in the run, found "
            f"{camera.lens.config.sensor_pixels} px in {lens}; train a run behind that lens."
        )
    return camera


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's advice to developers off the screen."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
