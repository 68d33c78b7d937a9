"""Reads the layers of the two published MobileFaceNet files (ONNX, TFLite) into torch modules.

Used once per machine by `faces.fetch`; `onnx` and `tflite` are imported here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from opticaldr.faces.mobilefacenet import MobileFaceNet
from opticaldr.types import InputError

_EXTRA = "run: pip install 'opticaldr[attack]'."


def onnx_layers(content: bytes) -> Iterator[tuple[np.ndarray, ...]]:
    """Weights of fr_feature.onnx in node order: (filters OIHW, bias) or (PReLU slope,)."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise InputError(f"Expected the package onnx to read the file, found none; {_EXTRA}") from (
            None
        )
    graph = onnx.load_from_string(content).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":
            yield weights[node.input[1]], weights[node.input[2]]
        elif node.op_type == "PRelu":
            yield (weights[node.input[1]].reshape(-1),)
        elif node.op_type not in ("Add", "Reshape"):
            raise InputError(f"fr_feature.onnx: expected Conv, PRelu, Add, found {node.op_type}.")


def tflite_layers(content: bytes) -> Iterator[tuple[np.ndarray, ...]]:
    """Weights of MobileFaceNet.tflite in operator order: (filters OIHW, bias) or (slope,)."""
    try:
        import tflite
    except ImportError:
        raise InputError(
            f"Expected the package tflite to read the file, found none; {_EXTRA}"
        ) from None
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)

    def constant(index: int) -> np.ndarray | None:
        tensor = graph.Tensors(int(index))
        raw = model.Buffers(tensor.Buffer())
        if not raw.DataLength():
            return None  # an activation
        return raw.DataAsNumpy().view("<f4").reshape(tensor.ShapeAsNumpy())

    codes = tflite.BuiltinOperator
    for step in range(graph.OperatorsLength()):
        operator = graph.Operators(step)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        inputs = [constant(index) for index in operator.InputsAsNumpy()]
        if code == codes.CONV_2D:
            yield inputs[1].transpose(0, 3, 1, 2), inputs[2]  # OHWI
        elif code == codes.DEPTHWISE_CONV_2D:
            yield inputs[1].transpose(3, 0, 1, 2), inputs[2]  # 1HWC
        elif code == codes.MUL:
            # PReLU spelt out as relu(x) + c (x - |x|): below zero that is 2 c x.
            (half,) = [values for values in inputs if values is not None]
            yield (2 * half.reshape(-1),)


def fill(model: MobileFaceNet, layers: Iterator[tuple[np.ndarray, ...]]) -> None:
    """Copies the file's layers into the model's, one to one, shapes checked."""
    targets = list(model.weighted_layers())
    sources = list(layers)
    expected = [[tuple(p.shape) for p in layer.parameters()] for layer in targets]
    found = [[values.shape for values in source] for source in sources]
    if expected != found:
        raise InputError(
            f"{model.name}: expected the {len(expected)} layers of the published file, found "
            f"{len(found)} layers of other shapes; fetch the file again."
        )
    with torch.no_grad():
        for layer, source in zip(targets, sources, strict=True):
            for parameter, values in zip(layer.parameters(), source, strict=True):
                parameter.copy_(torch.from_numpy(np.array(values)))  # a copy: theirs is read-only
