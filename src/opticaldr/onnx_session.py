"""Opens an ONNX file with onnxruntime on the CPU; every way this fails is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opticaldr.types import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(path: Path, what: str) -> InferenceSession:
    """A session for the model in FILE.onnx. what: "recogniser" and the like, for error messages.

    Raises:
        InputError: onnxruntime is absent, nothing lies at the path, or the file is no ONNX model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"Expected the package onnxruntime to run an ONNX {what}, found none; "
            "run: pip install 'opticaldr[attack]'."
        ) from None
    if not path.is_file():
        raise InputError(f"Expected an ONNX file at {path}, found none; check the path.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: exporters leave hundreds of warnings
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(
            f"Expected an ONNX model in {path}, found a file that onnxruntime refuses "
            f"({type(error).__name__}); export it again."
        ) from error
