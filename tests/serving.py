"""Pictures, videos, a trained run and clients for tests of the web service."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from opticaldr.serve.app import Settings, create_app

BASE = "http://127.0.0.1:8000"


def picture(side: int = 48) -> np.ndarray:
    """(side, side, 3) uint8 with detail of every size."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
    return (smooth * 0.8 + rng.normal(20, 12, smooth.shape)).clip(0, 255).astype(np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def video(frames: int = 40, *, side: int = 48, rate: int = 30, container: str = "mp4") -> bytes:
    """A video whose frames fade; H.264."""
    buffer = io.BytesIO()
    image = picture(side)
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            faded = (image * (1 - number / frames)).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(faded, format="rgb24")))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def client(settings: Settings | None = None) -> TestClient:
    """A client in this process; what the service does not catch fails the test."""
    return TestClient(create_app(settings or Settings()), base_url=BASE)


def file(data: bytes, name: str = "face.png") -> dict[str, Any]:
    """The form of an upload."""
    return {"file": (name, data)}


def refused(answer: Any, status: int, code: str) -> str:
    """The message of a refusal, after its shape was checked."""
    assert answer.status_code == status, answer.text[:300]
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "status"}
    assert (body["error"]["status"], body["error"]["code"]) == (status, code)
    message = body["error"]["message"]
    assert message.startswith("Expected ")
    assert "found " in message
    return message


@dataclass(frozen=True)
class Service:
    """A running service. home: its working, home and temporary folder."""

    process: subprocess.Popen
    port: int
    home: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=30)

    def post(self, path: str, data: bytes) -> httpx2.Response:
        return httpx2.post(self.url + path, files=file(data), timeout=60)

    def written(self) -> list[Path]:
        return [path for path in self.home.rglob("*") if path.is_file()]


def nothing_can_be_written() -> None:
    """Every write to a file fails, as on a full disk or a read-only one (root may write those)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@contextmanager
def started(home: Path, *arguments: object, port: int = 0) -> Iterator[Service]:
    """`opticaldr serve` in an empty folder on whose disk nothing can be written."""
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1"}
    command = "from opticaldr.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", "--port", str(port), *map(str, arguments)],
        **{"cwd": home, "env": environment, "text": True},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        preexec_fn=nothing_can_be_written,
    )
    try:
        line = process.stdout.readline()
        if not line.startswith("Ready: http://127.0.0.1:"):
            pytest.fail(line + process.stderr.read())
        yield Service(process, int(line.strip().rpartition(":")[2]), home)
    finally:
        process.kill()
        process.communicate()


_opened: list[str] = []
_watching: list[bool] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event.startswith("tempfile.") or event in ("os.mkdir", "os.rename", "os.truncate"):
        _opened.append(f"{event} {arguments}")
    elif event == "open":
        path, _, flags = arguments
        # as a device: the null device is opened for writing by sub-processes
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not str(path).startswith("/dev/"):
            _opened.append(str(path))


sys.addaudithook(_audit)


@contextmanager
def watched_writes(*folders: Path) -> Iterator[None]:
    """Fails if Python opens a file for writing in the block, or if a folder does not stay empty."""
    _opened.clear()
    _watching.append(True)
    try:
        yield
    finally:
        _watching.clear()
    assert _opened == []
    assert [path for folder in folders for path in folder.rglob("*")] == []
