"""`lens tolerance` for a whole camera: its depths, its noise, and the scores of its network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opticaldr.camera import Camera
from opticaldr.config import load_config
from opticaldr.data import synthetic
from opticaldr.data.batches import GroupedFaces, load_batch
from opticaldr.model import load_model
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.optics.imaging import convolve
from opticaldr.optics.manufacture import Errors
from opticaldr.optics.off_axis import Sag, psf_off_axis
from opticaldr.optics.tolerance import OnProgress, run_tolerance
from opticaldr.types import BDI_MAX, InputError, Psf

FIRST_PERSON = 600_000
"""Rendered people that no training and no test has seen (data.sources uses lower numbers)."""
FRAMES = 4
CONSTANT = 0.01
"""Scores that differ by less tell nobody from anybody [BDI-II points]."""


class ScoreTask:
    """Scores embedded synthetic recordings through any PSF; the first call is the reference.

    Returns per call: score_change, mean absolute change of the BDI-II score of a recording against
    the reference, and score_mae, against the labels.
    """

    def __init__(
        self,
        run: Path,
        *,
        depth_index: int,
        people: int,
        seed: int,
        on_render: Callable[[int, int], None] | None = None,
    ) -> None:
        """depth_index: which of the PSFs the faces are seen through. seed: of the sensor noise."""
        if people < 1:
            raise InputError(f"Expected at least 1 recording, found {people}; give --people 12.")
        config = load_config(run)
        self.model = load_model(run)
        faces = synthetic.recordings(
            range(FIRST_PERSON, FIRST_PERSON + people),
            FRAMES,
            seed=config.seed,
            size=config.synthetic.size,
            cue_gain=config.synthetic.cue_gain,
            progress=on_render,
        )
        groups = GroupedFaces.of(faces, "recordings").groups
        members = [index for group in groups for index in group]
        numbers = [number for number, group in enumerate(groups) for _ in group]
        size = self.model.camera.lens.config.sensor_pixels
        batch = load_batch(faces, members, numbers, size=size)
        self.scenes = srgb_to_linear(batch.photos)
        self.recordings, self.times = batch.group, batch.time_s
        self.labels = torch.tensor([faces.records[group[0]].severity for group in groups])
        self.depth_index, self.seed = depth_index, seed
        self.reference: Tensor | None = None

    @torch.no_grad()
    def scores(self, psf: Psf) -> Tensor:
        """BDI-II score of each recording through these PSFs, (recordings,)."""
        camera = self.model.camera
        generator = torch.Generator().manual_seed(self.seed)
        which = torch.full((len(self.scenes),), self.depth_index)
        irradiance = convolve(self.scenes, psf, which, border=camera.lens.config.border)
        capture = camera.sensor(irradiance, generator=generator)
        severity = self.model.network(capture, self.recordings, self.times).severity
        counts = torch.bincount(self.recordings)
        total = torch.zeros(len(counts)).index_add_(0, self.recordings, severity.float())
        return (total / counts).clamp(0, BDI_MAX)

    def __call__(self, psf: Psf) -> dict[str, float]:
        scores = self.scores(psf)
        if self.reference is None:
            self.reference = scores
        return {
            "score_change": float((scores - self.reference).abs().mean()),
            "score_mae": float((scores - self.labels).abs().mean()),
        }


def tolerance_of(
    camera: Camera,
    errors: Errors,
    *,
    draws: int,
    seed: int,
    run: Path | None = None,
    people: int = 12,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """run_tolerance at the ends and the geometric middle of the camera's depth range.

    run: folder of a trained run; `people` rendered recordings are then scored through every camera
    at the middle depth (none if 0).

    Returns: that of run_tolerance, and "task": on what the effect was measured, or why not.
    """
    near, far = camera.lens.config.depth_range_m
    depths = torch.tensor([near, math.sqrt(near * far), far])
    system = camera.lens.system
    sag = Sag.of(camera.lens.coefficients, system)
    task, words = None, "not measured: this lens comes without a network"
    if run is not None and not people:
        words = "not measured: --people 0"
    elif run is not None:

        def on_render(done: int, total: int) -> None:
            if on_progress:
                on_progress("rendering synthetic people", done, total)

        task = ScoreTask(run, depth_index=1, people=people, seed=seed, on_render=on_render)
        words = f"scores of {people} rendered recordings at {float(depths[1]):.2f} m"
        if people > 1 and task.scores(psf_off_axis(sag, depths, system)).std() < CONSTANT:
            task, words = None, "not measured: the network of this run scores everybody alike"
    result = run_tolerance(
        sag,
        depths,
        system,
        errors=errors,
        draws=draws,
        seed=seed,
        noise=camera.sensor.config.read_noise_test,
        task=task,
        on_progress=on_progress,
    )
    return result | {"task": words}
