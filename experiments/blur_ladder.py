"""Blurs and lenses that naive recognition finds equal and known optics tell apart, on LFW.

    python experiments/blur_ladder.py ../shared/data/lfw/lfw_aligned160.tar --people 300 --seed 0
        [--lens literal docs/site/gaussian_lens.json]

Repeats privacy.md 6 with this package. Test people have two photos each; the
attacker's clean photos (prior, tuning) show as many others. Noise 1 % of full scale, 8 bits. Prints
a markdown table: AUC [95 % interval over people] and rank-1 among the test people, for
A1 (record against clean photo), A2 (record against record), A4 (one frame, Wiener filter with the
known PSF, against clean photo) and A7 (the same on the mean of --frames frames of a still face).
k* is the recoverable band [cycles per face] for one and for --frames frames.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from opticaldr.attackable import open_camera
from opticaldr.data.faceset import FaceSet
from opticaldr.data.lfw import load_lfw
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.faces import load_recogniser
from opticaldr.optics.bands import (
    face_frequencies,
    face_power,
    recoverable_band,
    signal_to_noise,
)
from opticaldr.privacy import statistics
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.evidence import Attempt
from opticaldr.privacy.measure import scores_of
from opticaldr.privacy.rungs.known_psf import prior_of, restorer_for, tune
from opticaldr.privacy.tiers import TIERS
from opticaldr.types import FACE_SHARE

BLURS = ("disc:1.0", "gaussian:0.30", "disc:0.5", "gaussian:0.17")
PHOTOS = 2
MAX_NONMATED = 20_000


def deal(faces: FaceSet, people: int, seed: int) -> tuple[Pairs, np.ndarray]:
    """Pairs of `people` test people, and the attacker's images of as many others."""
    photos: dict[str, list[int]] = {}
    for index, record in enumerate(faces.records):
        photos.setdefault(record.person, []).append(index)
    names = sorted(name for name, found in photos.items() if len(found) >= PHOTOS)
    if len(names) < 2 * people:
        sys.exit(f"Expected {2 * people} people with {PHOTOS} photos, found {len(names)}.")
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    test, own = (
        np.sort(np.concatenate([photos[name][:PHOTOS] for name in part]))
        for part in (names[:people], names[people : 2 * people])
    )
    local = all_pairs([faces.records[i].person for i in test], max_nonmated=MAX_NONMATED, seed=seed)
    return Pairs(test[local.first], test[local.second], local.same), own


def attacks(arena: Arena, frames: int) -> list[Attempt]:
    """A1, A2, A4 and A7 with the first judge."""
    judge, images, prior = arena.judges[0], arena.test.images, prior_of(arena)
    clean = arena.embed(judge, images)
    captured = arena.embed(judge, images, arena.captured("naive"))
    found = [
        arena.attempt("A1", "clean against clean", clean, clean),
        arena.attempt("A1", "naive", clean, captured),
        arena.attempt("A2", "parrot", captured, captured),
    ]
    for n in (1, frames):

        def make(scale: float, n: int = n):
            return restorer_for(arena, frames=n, noise_scale=scale, prior=prior)

        tuned = tune(arena, make, judge, frames=n)
        restore, record = make(tuned.best), arena.captured("restored", frames=n)
        restored = arena.embed(judge, images, lambda i, x, r=restore, c=record: r(c(i, x)))
        rung = "A4" if n == 1 else "A7"
        found.append(
            arena.attempt(rung, "wiener", clean, restored, frames=n, noise_scale=tuned.best)
        )
    return found


def band(camera: CameraUnderAttack, pixels: int, frames: int) -> int:
    """k* [cycles per face] of one colour."""
    face = FACE_SHARE * pixels
    snr = signal_to_noise(
        camera.psf[0, 1],
        face_power(pixels, face),
        noise=camera.noise.read_noise,
        frames=frames,
    )
    return int(recoverable_band(snr, face_frequencies(pixels, face)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lfw", type=Path, help="folder or tar of aligned LFW crops")
    parser.add_argument("--lens", nargs="*", default=[], help="lenses at 1 m beside the blurs")
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=128, help="side of the frame")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--bootstrap", type=int, default=2000)
    return parser.parse_args()


def main() -> None:
    given, start = parse(), time.perf_counter()
    faces = load_lfw(given.lfw)
    pairs, own = deal(faces, given.people, given.seed)
    everyone = [record.person for record in faces.records]
    tier = replace(TIERS["standard"], validation_people=min(100, given.people))
    judges, cache = (load_recogniser("dlib"),), {}
    columns: dict[str, dict[str, str]] = {}
    cameras = [open_camera(spec, pixels=given.pixels) for spec in BLURS]
    for lens in given.lens:
        opened = open_camera(lens, pixels=given.pixels)
        cameras.append(replace(opened, name=Path(lens).stem))
    for camera in cameras:
        arena = Arena(camera, faces, pairs, own, judges, given.pixels, given.seed, tier, cache)
        rows = columns[camera.name] = {}
        for attempt in attacks(arena, given.frames):
            auc = statistics.bootstrap(
                statistics.auc,
                scores_of(attempt, pairs, everyone),
                replicates=given.bootstrap,
                seed=given.seed,
            )
            low, high = auc.ci95
            rank1 = float(np.mean(attempt.rank == 1))
            name = f"{attempt.rung} {attempt.variant}, n = {attempt.frames}"
            rows[name] = f"{auc.value:.3f} [{low:.3f}, {high:.3f}], {rank1:.2f}"
            sys.stderr.write(f"{camera.name}: {name}: {rows[name]} {attempt.facts}\n")
        reach = [str(band(camera, given.pixels, n)) for n in (1, given.frames)]
        rows[f"k*, n = 1 / {given.frames}"] = " / ".join(reach)
    lines = [
        f"AUC [95 % interval over people], rank-1 of {given.people}. LFW, {len(pairs)} pairs "
        f"({pairs.sha256[:12]}), dlib, seed {given.seed}, {given.pixels} px, noise 1 %, 8 bits.",
        "",
        f"| attack | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name in next(iter(columns.values())):
        lines.append(f"| {name} | {' | '.join(rows[name] for rows in columns.values())} |")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stderr.write(f"{time.perf_counter() - start:.0f} s\n")


if __name__ == "__main__":
    main()
