"""Any face recogniser in an ONNX file, as a black box through onnxruntime (CPU, no gradients)."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from opticaldr.faces.alignment import TEMPLATES, cut_chip
from opticaldr.onnx_session import open_session
from opticaldr.results import read_json
from opticaldr.types import Embedding, InputError, Photo


@dataclass(frozen=True)
class OnnxSettings:
    """How a network wants its chips; the defaults are the ArcFace convention.

    size: side of the chip [px]; 0: read it from the graph.
    colour: channel order. The network gets (x - mean) / std with x in 0..255.
    template: a key of faces.alignment.TEMPLATES.
    output: name of the output that holds the embedding; "": the first.
    """

    size: int = 0
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: float = 127.5
    std: float = 127.5
    template: str = "arcface112"
    output: str = ""


class OnnxRecogniser:
    """(b, 3, h, h) sRGB crops in [0, 1] to (b, d) unit embeddings."""

    differentiable = False

    def __init__(self, path: Path, settings: OnnxSettings) -> None:
        session = open_session(path, "recogniser")
        graph_input = session.get_inputs()[0]
        batch, *shape = graph_input.shape
        if len(shape) != 3 or 3 not in (shape[0], shape[-1]):
            raise InputError(
                f"Expected {path} to take N x 3 x H x W or N x H x W x 3 pictures, found "
                f"{graph_input.shape}."
            )
        self.name = path.stem
        self._path = path
        self._session = session
        self._input = graph_input.name
        self._outputs = [settings.output] if settings.output else [session.get_outputs()[0].name]
        self._channels_last = shape[0] != 3
        self._one_by_one = batch == 1
        self._settings = settings
        side = settings.size or shape[1]
        if not isinstance(side, int):
            raise InputError(
                f"Expected the chip size of {path}, found a free axis '{side}'; write "
                f'{{"size": 112}} into {path.name}.json beside it.'
            )
        self._size = side

    def __call__(self, photos: Photo) -> Embedding:
        chosen = self._settings
        chips = 255 * cut_chip(photos.detach(), chosen.template, size=self._size)
        if chosen.colour == "BGR":
            chips = chips.flip(1)
        array = ((chips - chosen.mean) / chosen.std).float().cpu().numpy()
        if self._channels_last:
            array = array.transpose(0, 2, 3, 1)
        array = np.ascontiguousarray(array)
        parts = [array[i : i + 1] for i in range(len(array))] if self._one_by_one else [array]
        found = np.concatenate(
            [self._session.run(self._outputs, {self._input: part})[0] for part in parts]
        )
        flat = found.reshape(len(found), -1)
        if len(found) != len(array) or flat.shape[1] != max(found.shape[1:], default=0):
            raise InputError(
                f"Expected {self._path} to return one row of numbers per face (N x D), found an "
                f"output of shape {found.shape} for {len(array)} faces; name the embedding as "
                f'"output" in {self._path.name}.json beside it.'
            )
        return F.normalize(torch.from_numpy(flat), dim=1).to(photos)


def load_onnx(path: Path) -> OnnxRecogniser:
    """Loads FILE.onnx with the settings in FILE.onnx.json beside it, if there is one."""
    beside = path.with_name(path.name + ".json")
    return OnnxRecogniser(path, _read_settings(beside) if beside.is_file() else OnnxSettings())


def _read_settings(path: Path) -> OnnxSettings:
    content = read_json(path)
    known = {field.name: type(field.default) for field in fields(OnnxSettings)}
    for key, value in content.items():
        number = known.get(key) is float and type(value) is int
        if key not in known or not (number or isinstance(value, known[key])):
            raise InputError(
                f"{path}: expected {json.dumps({k: t.__name__ for k, t in known.items()})}, "
                f"found {key} = {json.dumps(value)}."
            )
    settings = OnnxSettings(**content)
    if settings.template not in TEMPLATES or settings.colour not in ("RGB", "BGR"):
        raise InputError(
            f"{path}: expected template {' or '.join(TEMPLATES)} and colour RGB or BGR, found "
            f"{settings.template} and {settings.colour}."
        )
    return settings
