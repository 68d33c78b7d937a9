"""Many clients at once against the web service on the loopback address.

    python experiments/serve_load.py [--clients 50] [--seconds 120] [--model RUN] [--out FILE]

Every client posts a rendered picture and asks again as soon as it has its answer: mostly captures at
changing distances, now and then a restoration, a score, a point spread function or the health. One
video runs as a job beside them. Prints JSON: requests a second, milliseconds at the median and at
95 %, answers by status, memory before, after a warm-up of a tenth of the time, and at the end; and
captures a second of one client alone at 256 px, before the load.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import av
import httpx2
import numpy as np
from PIL import Image

from opticaldr.serve.optics import person
from service_process import Service, running

SEED, SIDE = 0, 256
PATHS = {"/api/capture": 0.8, "/api/restore": 0.05, "/api/predict": 0.05, "/api/psf.png": 0.05}
"""Share of the requests; the rest asks for the health."""


def face(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(person(1, SIDE)).save(buffer, format=kind)
    return buffer.getvalue()


def clip(frames: int = 300) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            moved = np.roll(person(1, SIDE), number % 9, axis=1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def question(rng: random.Random) -> tuple[str, str]:
    """Method and address of the next request."""
    depth = f"depth_m={rng.randint(20, 300) / 100}"
    place = rng.random()
    for path, share in PATHS.items():
        place -= share
        if place < 0:
            method = "GET" if path.endswith(".png") else "POST"
            more = "&detect=false" if path == "/api/predict" else ""
            return method, f"{path}?{depth}{more}"
    return "GET", "/api/health"


async def ask(
    client: httpx2.AsyncClient, rng: random.Random, data: bytes
) -> tuple[str, str, float]:
    """Path, status and seconds of one request."""
    method, address = question(rng)
    files = {"file": ("face.jpg", data)} if method == "POST" else None
    started = time.perf_counter()
    try:
        status = str((await client.request(method, address, files=files)).status_code)
    except httpx2.HTTPError as error:
        status = type(error).__name__
    return address.partition("?")[0], status, time.perf_counter() - started


async def load(url: str, clients: int, seconds: float) -> list[tuple[str, str, float]]:
    """Every client asks until the time is over."""
    data, end = face("JPEG"), time.perf_counter() + seconds
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def one(number: int, client: httpx2.AsyncClient) -> list[tuple[str, str, float]]:
        rng, found = random.Random(1000 * SEED + number), []
        while time.perf_counter() < end:
            found.append(await ask(client, rng, data))
        return found

    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        each = await asyncio.gather(*(one(number, client) for number in range(clients)))
    return [answer for answers in each for answer in answers]


def captures_per_second(url: str, seconds: float = 5.0) -> dict[str, float]:
    """One client, one connection, as a slider that is moved: every capture at another distance."""
    data, taken = face("PNG"), []
    with httpx2.Client(base_url=url, timeout=60) as client:
        end = time.perf_counter() + seconds
        number = 0
        while time.perf_counter() < end:
            depth = 0.2 + 0.01 * (number % 280)
            started = time.perf_counter()
            answer = client.post(f"/api/capture?depth_m={depth:.2f}", files={"file": ("a", data)})
            answer.raise_for_status()
            taken.append(time.perf_counter() - started)
            number += 1
    return {
        "captures_per_s": round(len(taken) / sum(taken), 1),
        "p50_ms": milliseconds(taken, 50),
        "p95_ms": milliseconds(taken, 95),
    }


def milliseconds(taken: list[float], percent: float) -> float:
    return round(1000 * float(np.percentile(taken, percent)), 1)


def measure(service: Service, clients: int, seconds: float) -> dict[str, object]:
    """The whole experiment against one service."""
    before = service.rss_mib
    alone = captures_per_second(service.url)
    job = httpx2.post(
        f"{service.url}/api/jobs?detect=false", files={"file": ("clip.mp4", clip())}, timeout=60
    ).json()
    asyncio.run(load(service.url, clients, seconds / 10))
    warm = service.rss_mib
    answers = asyncio.run(load(service.url, clients, seconds))
    taken = {
        path: [t for p, _, t in answers if p == path] for path in sorted({a[0] for a in answers})
    }
    every = [t for _, _, t in answers]
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": len(answers),
        "requests_per_s": round(len(answers) / seconds, 1),
        "p50_ms": milliseconds(every, 50),
        "p95_ms": milliseconds(every, 95),
        "p95_ms_by_path": {path: milliseconds(times, 95) for path, times in taken.items()},
        "statuses": dict(Counter(status for _, status, _ in answers)),
        "one_client": alone,
        "job": httpx2.get(f"{service.url}/api/jobs/{job['id']}").json()["state"],
        "rss_mib": {"before": before, "warm": warm, "after": service.rss_mib},
        "alive": service.alive,
        "files_left": service.files(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with running(options.model, "focused") as service:
        found = json.dumps(measure(service, options.clients, options.seconds), indent=2)
    sys.stdout.write(found + "\n")
    if options.out:
        options.out.write_text(found + "\n")


if __name__ == "__main__":
    main()
