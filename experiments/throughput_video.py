"""How fast a video becomes a score, stage by stage, and whether memory stays flat. Prints JSON.

    python experiments/throughput_video.py clip.mp4 [--threads 2]
    python experiments/throughput_video.py clip.mp4 --minutes 30

The stages are those of `opticaldr predict`: decode, find the face in every fifth frame, follow it in
the others, align, lens and sensor, network (SANet, F = 16; untrained, its speed does not depend on
weights), at 128 px. With --minutes the clip is looped into a film of that length with small frames
at unequal times, in a scratch folder; resident memory is read on the way through `predict` and
`data index`. A PSF is computed once and belongs to no frame: its time is shown apart.
On a busy machine look at cpu_seconds with --threads 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from opticaldr.capture import FRAMES_PER_BATCH, capture_photos, to_photos
from opticaldr.config import load_config
from opticaldr.data.aligned_video import aligned_batches
from opticaldr.data.index import index_recordings
from opticaldr.data.recordings import Recording
from opticaldr.faces.detection import Box, Detection, DlibDetector
from opticaldr.faces.tracking import follow
from opticaldr.media import Input, VideoReader, VideoWriter
from opticaldr.model import OpticalDR, build_model, save_model
from opticaldr.predict import DETECT_EVERY, Predictor

SIZE = 128
SETTINGS = [f"lens.sensor_pixels={SIZE}", 'network.attribute_names=["none"]']
FILM_SIDE = 160
"""Side of the looped film's frames [px]."""
TICKS_MS = (33, 34, 33, 50, 17, 33)
"""Frame distances of the looped film: 30 a second on average."""


class Clock:
    """Seconds spent per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, stage: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **named)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        return result

    def over(self, stage: str, items: Iterable[Any]) -> Iterator[Any]:
        """The same items; the time that it takes to make them is counted."""
        iterator = iter(items)
        while (item := self.run(stage, next, iterator, None)) is not None:
            yield item


class TimedDetector(DlibDetector):
    """A detector whose looks and points are timed apart."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._looking = False

    def __call__(self, image: Any) -> list[Detection]:
        self._looking = True
        found = self._clock.run("detect", super().__call__, image)
        self._looking = False
        return found

    def points_in(self, image: Any, box: Box) -> Any:
        if self._looking:  # a part of the look
            return super().points_in(image, box)
        return self._clock.run("follow", super().points_in, image, box)


@torch.no_grad()
def measure(path: Path, model: OpticalDR) -> dict[str, Any]:
    """Frames a second and the share of every stage."""
    clock = Clock()
    detector = TimedDetector(clock)
    generator = torch.Generator().manual_seed(0)
    camera = model.camera
    clock.run("psf, once", camera.lens.psf, torch.tensor([1.0]))
    model.network(torch.zeros(1, 3, SIZE, SIZE))  # the first call allocates
    once = clock.seconds.pop("psf, once")
    frames = valid = 0
    start, busy = time.perf_counter(), time.process_time()
    with VideoReader(path) as video:
        seen = follow(clock.over("decode", video), detector, every=DETECT_EVERY)
        batches = aligned_batches(seen, size=SIZE, batch=FRAMES_PER_BATCH)
        for rows, faces in clock.over("crops", batches):
            frames, valid = frames + len(rows), valid + len(faces)
            photos = to_photos(faces, SIZE)
            capture = clock.run(
                "lens and sensor", capture_photos, camera, photos, depth_m=1.0, generator=generator
            )
            clock.run("network", model.network, capture)
    total, busy = time.perf_counter() - start, time.process_time() - busy
    stages = clock.seconds
    stages["align"] = stages.pop("crops") - sum(stages[s] for s in ("decode", "detect", "follow"))
    return {
        "frames": frames,
        "valid_frames": valid,
        "seconds": round(total, 3),
        "frames_per_s": round(frames / total, 1),
        "cpu_seconds": round(busy, 3),
        "ms_per_frame": {s: round(1e3 * t / frames, 2) for s, t in stages.items()},
        "share": {s: round(t / total, 3) for s, t in stages.items()},
        "psf_once_s": round(once, 2),
    }


def looped(source: Path, target: Path, minutes: float) -> None:
    """Writes a film of so many minutes: the clip over and over, small, at unequal times."""
    with VideoReader(source) as video:
        small = []
        for frame in video:
            image = Image.fromarray(frame.image)
            image.thumbnail((FILM_SIDE, FILM_SIDE))
            small.append(image)
    with VideoWriter(target, time_base=Fraction(1, 1000), rate=Fraction(30)) as out:
        now = 0
        for image, ticks in zip(cycle(small), cycle(TICKS_MS), strict=False):
            if now >= 60_000 * minutes:
                break
            out.write(np.asarray(image), now)
            now += ticks


def resident_mib() -> float:
    """Memory that the process holds at the moment [MiB] (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def memory(path: Path, run: Path, out: Path) -> dict[str, Any]:
    """Resident memory in thirds of a film, through predict and through index [MiB]."""
    with VideoReader(path) as video:
        length_s, frames = video.duration_s, video.frames
    found: dict[str, Any] = {"minutes": round(length_s / 60, 1), "frames": frames}
    samples: list[tuple[float, float]] = []

    def largest(first: float, last: float) -> float:
        return round(max(mib for share, mib in samples if first <= share <= last), 1)

    def thirds() -> dict[str, float]:
        return {
            "largest in the first third": largest(0.02, 1 / 3),
            "largest in the second": largest(1 / 3, 2 / 3),
            "largest in the third": largest(2 / 3, 1),
        }

    detector = DlibDetector()
    start = time.perf_counter()
    index_recordings(
        [Recording(path, "a", "a")],
        out,
        detector=detector,
        on_progress=lambda what, done, total: samples.append((done / total, resident_mib())),
    )
    found["index"] = {"seconds": round(time.perf_counter() - start, 1), **thirds()}
    samples.clear()
    start = time.perf_counter()
    Predictor(run, detector=detector).predict(
        Input("video", path), on_frame=lambda done: samples.append((done / frames, resident_mib()))
    )
    found["predict"] = {"seconds": round(time.perf_counter() - start, 1), **thirds()}
    return found


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--preset", default="focused")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0.0)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    config = load_config(chosen.preset, SETTINGS)
    model = build_model(config).requires_grad_(False).eval()
    result: dict[str, Any] = {"preset": chosen.preset, "pixels": SIZE, "threads": chosen.threads}
    if not chosen.minutes:
        result |= measure(chosen.video, model)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            looped(chosen.video, folder / "film.mp4", chosen.minutes)
            tiny = load_config("tiny", ['network.attribute_names=["none"]'])
            save_model(build_model(tiny), tiny, folder / "run")
            result |= {"preset": "tiny", "pixels": tiny.lens.sensor_pixels}
            result["memory_mib"] = memory(folder / "film.mp4", folder / "run", folder / "index")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
