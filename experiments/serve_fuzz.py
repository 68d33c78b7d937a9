"""Hostile media and random requests against the web service.

    python experiments/serve_fuzz.py [--files 2000] [--examples 50] [--out FILE]

Valid JPEG, PNG, WebP, BMP, MP4, WebM and AVI files are damaged (bytes changed, cut, doubled, swapped
between files, headers overwritten with extreme numbers) and posted to the paths that take them; every
job is waited for. Then schemathesis, if installed, asks for whatever the OpenAPI document allows and
forbids. Prints JSON: answers by path and status, states of jobs, what schemathesis found, memory,
files left on disk. Exit code 1 if the service died, answered 5xx, left a file, or contradicts its
document.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import httpx2
import numpy as np
from PIL import Image

from service_process import Service, running

SEED, SIDE, FRAMES = 0, 64, 12
WAIT_S = 120.0
EXTREME = (
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\xc3\x50",
    b"\x80",
)
LEFT_OUT = "positive_data_acceptance,allow_header_conformance,ignored_auth"
"""Checks of schemathesis that do not apply: no schema tells a picture from other bytes, so bytes that it
allows are refused with 415; Allow names the methods of one route; no token is set."""


def pictures() -> dict[str, bytes]:
    image = Image.fromarray(
        np.random.default_rng(SEED).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    )
    found = {}
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        buffer = io.BytesIO()
        image.save(buffer, format=kind)
        found[kind] = buffer.getvalue()
    return found


def videos() -> dict[str, bytes]:
    rng, found = np.random.default_rng(SEED), {}
    for container, codec in (("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=container) as out:
            stream = out.add_stream(codec, rate=25)
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for _ in range(FRAMES):
                image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode(None))
        found[container] = buffer.getvalue()
    return found


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four ways of damage, half of them near the headers, where they do most harm."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        reach = min(len(found), 400) if rng.random() < 0.5 else len(found)
        at = rng.randrange(max(1, reach))
        way = rng.randrange(6)
        if way == 0:
            for _ in range(rng.randint(1, 20)):
                found[rng.randrange(at, len(found)) : at] = b""
                at = rng.randrange(max(1, len(found)))
                found[at : at + 1] = bytes([rng.randrange(256)])
        elif way == 1:
            found = found[:at]
        elif way == 2:
            extreme = rng.choice(EXTREME)
            found[at : at + len(extreme)] = extreme
        elif way == 3:
            found[at:at] = found[at : at + rng.randint(1, 2000)]
        elif way == 4:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            found[at : at + 64] = other[start : start + rng.randint(1, 500)]
        else:
            del found[at : at + rng.randint(1, 200)]
        if not found:
            break
    return bytes(found)


def fuzz_media(service: Service, files: int) -> dict[str, object]:
    """Half pictures, half videos; each to a path that takes it."""
    rng = random.Random(SEED)
    still, moving = list(pictures().values()), list(videos().values())
    answers: Counter[str] = Counter()
    states: Counter[str] = Counter()
    slowest = 0.0
    with httpx2.Client(base_url=service.url, timeout=WAIT_S) as client:
        for number in range(files):
            if number % 2:
                data, path = damaged(rng.choice(moving), still + moving, rng), "/api/jobs"
            else:
                data = damaged(rng.choice(still), still + moving, rng)
                path = rng.choice(("/api/capture", "/api/restore", "/api/predict"))
            started = time.perf_counter()
            answer = client.post(f"{path}?detect=false", files={"file": ("x", data)})
            slowest = max(slowest, time.perf_counter() - started)
            answers[f"{path} {answer.status_code}"] += 1
            if answer.status_code == 202:
                states[end_of(client, answer.json()["id"])] += 1
    return {
        "files": files,
        "answers": dict(sorted(answers.items())),
        "jobs": dict(states),
        "slowest_s": round(slowest, 2),
    }


def end_of(client: httpx2.Client, id: str) -> str:
    """The last state of a job, which is then deleted; "stuck" if there is none in time."""
    end = time.perf_counter() + WAIT_S
    while time.perf_counter() < end:
        job = client.get(f"/api/jobs/{id}").json()
        if job["state"] not in ("queued", "running"):
            client.delete(f"/api/jobs/{id}")
            failed = job["error"]
            return job["state"] if failed is None else f"failed {failed['status']}"
        time.sleep(0.01)
    return "stuck"


def fuzz_requests(service: Service, examples: int) -> dict[str, object]:
    """What schemathesis finds; it works in a folder of its own, where it leaves reports."""
    if importlib.util.find_spec("schemathesis") is None:
        return {"missing": "pip install schemathesis"}
    with TemporaryDirectory() as folder:
        command = ["-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
        command += [
            "--exclude-checks",
            LEFT_OUT,
            "--max-examples",
            str(examples),
            "--seed",
            str(SEED),
        ]
        command += ["--continue-on-failure", "--request-timeout", "60", "--no-color"]
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
        )
    return {"exit_code": done.returncode, "said": done.stdout.splitlines()[-120:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--examples", type=int, default=50, help="Of schemathesis, per path.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with running(None, "tiny") as service:
        before = service.rss_mib
        found = {"media": fuzz_media(service, options.files)}
        found["requests"] = fuzz_requests(service, options.examples)
        found["alive"] = service.alive
        found["files_left"] = service.files()
        found["rss_mib"] = {"before": before, "after": service.rss_mib}
    text = json.dumps(found, indent=2)
    sys.stdout.write(text + "\n")
    if options.out:
        options.out.write_text(text + "\n")
    bad = bool(found["requests"].get("exit_code"))
    bad |= any(key.split()[-1] >= "500" for key in found["media"]["answers"])
    stuck = any(state in ("stuck", "failed 500") for state in found["media"]["jobs"])
    return int(bad or stuck or not found["alive"] or bool(found["files_left"]))


if __name__ == "__main__":
    sys.exit(main())
