"""Pictures, videos, a trained run and clients for tests of the web service."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
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
