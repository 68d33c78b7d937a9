"""Face recognisers: the attackers' off-the-shelf tools, behind one protocol (types.Recogniser)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from opticaldr.faces.dlib_resnet import load_dlib
from opticaldr.faces.fetch import load_cached
from opticaldr.faces.onnx_model import load_onnx
from opticaldr.types import InputError, Recogniser

RECOGNISERS: dict[str, Callable[[], Recogniser]] = {
    "dlib": load_dlib,
    "mobilefacenet": lambda: load_cached("mobilefacenet"),
    "fr_feature": lambda: load_cached("fr_feature"),
}
"""The recognisers with a name; anything else is a path to an ONNX file."""


def load_recogniser(name: str) -> Recogniser:
    """A frozen recogniser by name or by the path of an .onnx file (settings in FILE.onnx.json)."""
    if name in RECOGNISERS:
        return RECOGNISERS[name]()
    if name.endswith(".onnx"):
        return load_onnx(Path(name))
    raise InputError(
        f"Expected a recogniser ({', '.join(RECOGNISERS)}) or the path of an .onnx file, found "
        f"'{name}'; dlib comes with pip install 'opticaldr[attack]', the other two with "
        "opticaldr recognisers fetch NAME."
    )
