"""The cases of `bench predict`: the network part through ONNX Runtime and through PyTorch.

Both read the same sRGB captures with the same number of threads; weights are untrained, since speed
does not depend on them. "ours" is the exported head_only graph.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from opticaldr.bench.rounds import OnProgress, case_row, interleaved
from opticaldr.capture import FRAMES_PER_BATCH
from opticaldr.config import Config
from opticaldr.export import require_packages, to_onnx
from opticaldr.model import build_model
from opticaldr.onnx_check import example_inputs, open_graph
from opticaldr.onnx_graphs import HeadOnly

OURS, PYTORCH = "ONNX Runtime", "PyTorch"
BATCHES = (1, FRAMES_PER_BATCH)
"""Frames of a call: a live camera's, and those that `predict` takes together."""


@torch.no_grad()
def bench_predict(
    config: Config,
    *,
    rounds: int,
    on_progress: OnProgress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Times the network of a configuration at its resolution.

    rounds: of the interleaved run. on_progress: called with (what, done, total).
    """
    require_packages()
    size = config.lens.sensor_pixels
    graph = HeadOnly(build_model(config).requires_grad_(False).network).eval()
    on_progress("exporting the graph", 0, 1)
    session = open_graph(to_onnx(graph, size=size).SerializeToString())
    on_progress("exporting the graph", 1, 1)
    cases = []
    for frames in BATCHES:
        title = f"{config.preset}, network part, {frames} frames of {size} px"
        generator = torch.Generator().manual_seed(0)
        inputs = example_inputs(graph, frames=frames, size=size, generator=generator)
        cases.append(_case(title, graph, session, inputs, rounds, on_progress))
    return {
        "benchmark": "predict",
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "rounds": rounds,
        "torch": torch.__version__,
        "packages": {name: metadata.version(name) for name in ("onnx", "onnxruntime")},
        "cases": cases,
    }


def _case(
    title: str,
    graph: HeadOnly,
    session: Any,
    inputs: dict[str, Tensor],
    rounds: int,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """One batch size."""
    tensors = tuple(inputs.values())
    arrays = {name: value.numpy() for name, value in inputs.items()}
    works = {
        OURS: lambda: session.run(graph.outputs, arrays),
        PYTORCH: lambda: graph(*tensors),
    }
    for work in works.values():
        work()  # the first call plans memory
    times = interleaved(works, rounds, torch.device("cpu"), title, on_progress)
    nothing: dict[str, float | None] = {"error_tv": None, "peak_mib": None}
    return case_row(title, OURS, len(tensors[0]), times, dict.fromkeys(works, nothing), {})
