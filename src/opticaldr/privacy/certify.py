"""The certificate of one camera: every bound of privacy.md section 4 on real scenes, ready for JSON.

The attacker's own people give the face spectrum and train the simulator; the bounds are averaged
over test scenes. Only H and the noise law of the camera are used, so any camera can be certified;
clipping and rounding happen after the noise and can only help (data processing inequality).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.privacy import certificates
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.certificates_assumptions import assumptions, hard_band_limit, noise_facts
from opticaldr.privacy.certificates_scenes import SeenScenes, see_scenes
from opticaldr.privacy.certificates_simulator import (
    RecordLaw,
    fit_predictor,
    in_batches,
    mean_over_people,
)
from opticaldr.privacy.certificates_spectrum import LeakedSpectrum, leaked_bits, recoverable_bands
from opticaldr.privacy.evidence import OnProgress
from opticaldr.types import InputError

THUMBNAILS = (1, 2, 3, 4, 6, 8)
FRAMES = (1, 30, 1800)
"""A picture, a second, a minute of video at 30 frames a second."""
LIFETIME_DELTA = 0.05
"""A certificate lives as long as the mean delta stays below this (privacy.md 4.5)."""
CLOSED_COHORT = 100
"""Test people, one picture each, for the rank-1 cap from total variation."""
MOST_PAIRS = 4000
"""Pairs of scenes drawn for the pairwise bounds; every pixel of each is used."""
BOOTSTRAP = 2000


def certify(
    camera: CameraUnderAttack,
    faces: FaceSet,
    train_images: np.ndarray,
    test_images: np.ndarray,
    *,
    scene_size: int,
    seed: int,
    thumbnail_sizes: Sequence[int] = THUMBNAILS,
    frames: Sequence[int] = FRAMES,
    thumbnail_auc: Mapping[int, float] | None = None,
    noise_lower95: float | None = None,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Everything about a camera that can be bounded without attacking it.

    Args:
        train_images: indices of the attacker's people; test_images: of the people at stake.
        scene_size: side of the scene handed to the camera [px].
        thumbnail_sizes: k of the k x k colour thumbnails in linear light.
        frames: numbers of frames of a still scene that an attacker has.
        thumbnail_auc: k -> upper 95 % limit of the AUC of the best attack on noise-free k x k
            thumbnails of whole frames; without it the simulator bounds no AUC.
        noise_lower95: lower 95 % limit of a measured read noise [full scale]; None = exact.

    Returns: JSON values, no NaN; a null stands beside a sentence that says why. "auc_cap" bounds
    every attack on up to max(frames) frames.
    """
    _check_people(faces, train_images, test_images)
    frames = sorted(set(frames))
    noise = camera.noise.read_noise if noise_lower95 is None else noise_lower95
    law = RecordLaw(noise, camera.noise.full_well_e)
    images = len(train_images) + len(test_images)
    done = 0

    def watch(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress("certificate", done, images)

    see = {"scene_size": scene_size, "thumbnail_sizes": thumbnail_sizes, "watch": watch}
    train = see_scenes(camera, faces, train_images, **see)
    test = see_scenes(camera, faces, test_images, **see)
    oracle = {int(k): float(v) for k, v in (thumbnail_auc or {}).items()}
    pairwise_bounds = _pairwise(test, law, frames, seed)
    simulator, lifetime = [], []
    for k in thumbnail_sizes:
        rows, life = _simulate(train, test, k, law, frames, oracle.get(k), seed)
        simulator += rows
        lifetime.append({**life, "seconds": life["frames"] / camera.frame_rate_hz})
    caps = [_auc_cap(n, pairwise_bounds, simulator) for n in frames]
    leaked = LeakedSpectrum.of(train, law, scene_size)
    return {
        "noise": noise_facts(camera, law, noise_lower95 is not None),
        "frames": list(frames),
        "scenes": {"attacker": len(train_images), "test": len(test_images), "pixels": scene_size},
        "recoverable_band": recoverable_bands(camera, law, train, scene_size, frames),
        "bits": [leaked_bits(leaked, n) for n in frames],
        "pairwise": pairwise_bounds,
        "simulator": simulator,
        "lifetime": lifetime,
        "lifetime_delta": LIFETIME_DELTA,
        "thumbnail_auc": {str(k): v for k, v in oracle.items()} or None,
        "auc_caps": caps,
        "auc_cap": caps[-1]["auc"],
        "hard_band_limit": hard_band_limit(camera.aperture_m),
        "assumptions": assumptions(camera, law, noise_lower95 is not None, frames[-1]),
    }


def _check_people(faces: FaceSet, train: np.ndarray, test: np.ndarray) -> None:
    trained, tested = ({faces.records[int(i)].person for i in images} for images in (train, test))
    if trained & tested:
        raise InputError(
            "Expected the attacker's people and the test's to differ, found "
            f"{len(trained & tested)} in both (such as {min(trained & tested)}); split by person."
        )
    if min(len(trained), len(tested)) < 2:
        raise InputError(
            "Expected at least two people on either side of a certificate, found "
            f"{len(trained)} of the attacker's and {len(tested)} in the test; use a larger set."
        )


# --- pairs of people --------------------------------------------------------------------------


def _pairwise(test: SeenScenes, law: RecordLaw, frames: Sequence[int], seed: int) -> dict[str, Any]:
    """Theorems 1 to 3: two random scenes of different people, and a closed group."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(len(test.people), size=(2, 2 * MOST_PAIRS))
    different = np.flatnonzero(test.people[first] != test.people[second])[:MOST_PAIRS]
    first, second = first[different], second[different]
    apart = np.concatenate(
        [
            law.apart(test.records[a], test.records[b])
            for a, b in zip(in_batches(first), in_batches(second), strict=True)
        ]
    )
    _, one_each = np.unique(test.people, return_index=True)
    group = test.records[rng.permutation(one_each)[:CLOSED_COHORT]]
    centre = np.broadcast_to(group.mean(axis=0), group.shape)
    from_centre = law.apart(group, centre)
    rows = []
    for n in frames:
        spread = law.tv(apart, frames=n)
        v = float(spread.mean())
        rows.append(
            {
                "frames": n,
                "median_tv": float(np.median(spread)),
                "v": v,
                "auc_cap": float(certificates.auc_from_v(v)),
                "rank1_cap": certificates.rank1_from_v(law.tv(from_centre, frames=n)),
            }
        )
    equal_noise = math.isinf(law.full_well_e)
    median = float(np.median(np.sqrt(apart) if equal_noise else np.sqrt(8 * apart)))
    return {
        "pairs": len(first),
        "cohort": len(group),
        "median_d": median,  # with shot noise the d that has the same Bhattacharyya coefficient
        "coupling": "independent",
        "by_frames": rows,
    }


# --- thumbnails -------------------------------------------------------------------------------


def _simulate(
    train: SeenScenes,
    test: SeenScenes,
    k: int,
    law: RecordLaw,
    frames: Sequence[int],
    oracle: float | None,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Theorem 4 for one k: a row per number of frames, and the lifetime."""
    predict = fit_predictor(train.thumbnails[k], train.records, train.people)
    apart, residual = np.empty(len(test.people)), np.empty(len(test.people))
    for rows in in_batches(np.arange(len(test.people))):
        record, predicted = test.records[rows], predict(test.thumbnails[k][rows])
        apart[rows] = law.apart(record, predicted)
        residual[rows] = np.linalg.norm(record - predicted, axis=1)
    found = []
    for n in frames:
        mean, upper = mean_over_people(
            law.tv(apart, frames=n), test.people, replicates=BOOTSTRAP, seed=seed
        )
        cap = None if oracle is None else certificates.auc_cap_simulator(oracle, upper, upper)
        found.append({"k": k, "frames": n, "delta": mean, "delta_upper95": upper, "auc_cap": cap})
    alive = certificates.last_frame(lambda n: float(law.tv(apart, frames=n).mean()), LIFETIME_DELTA)
    mean_residual = float(residual.mean())
    return found, {
        "k": k, "frames": alive, "mean_residual": mean_residual, "ridge": predict.ridge
    }  # fmt: skip


def _auc_cap(
    frames: int, pairwise_bounds: Mapping[str, Any], simulator: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The smallest of all bounds on the AUC, and which one it is."""
    found = [
        (row["auc_cap"], "pairs of scenes")
        for row in pairwise_bounds["by_frames"]
        if row["frames"] == frames
    ]
    found += [
        (row["auc_cap"], f"{row['k']} x {row['k']} thumbnail")
        for row in simulator
        if row["frames"] == frames and row["auc_cap"] is not None
    ]
    cap, by = min(found)
    return {"frames": frames, "auc": cap, "by": by}
