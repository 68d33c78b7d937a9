"""Rung A6: a restorer of the user's, such as a diffusion or GAN model, behind one small adapter.

No generative weights ship with this package: the rung runs only on a restorer that is given, and
the card lists A6 as not tested otherwise. A restorer that invents a likely face convinces people,
not recognisers; the controls of restoration.invention say how much it invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from opticaldr.onnx_session import open_session
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy.arena import Arena, RungFn
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.rungs.restoration import invention
from opticaldr.types import Capture, InputError, Scene


class Restorer(Protocol):
    """Linear captures (b, 3, s, s) in [0, 1] to linear pictures (b, 3, r, r).

    A stochastic one draws from torch's global generator, which the rung seeds.
    """

    def __call__(self, captures: Capture) -> Scene: ...


class OnnxRestorer:
    """A restorer in an ONNX file, run by onnxruntime on the CPU.

    The graph's only input is N x 3 x H x W, sRGB-encoded RGB in [0, 1], float32; its first output
    N x 3 x H' x W' likewise. Free H and W get the capture as it is, fixed ones get it resized.
    """

    def __init__(self, path: Path) -> None:
        self._session = open_session(path, "restorer")
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise InputError(
                f"Expected {path} to take one input N x 3 x H x W, found "
                f"{[entry.shape for entry in inputs]}; export the restorer with pictures alone."
            )
        self.name = path.stem
        self._path = path
        self._input = inputs[0].name
        self._one_by_one = shape[0] == 1
        self._side = [side if isinstance(side, int) else None for side in shape[2:]]

    def __call__(self, captures: Capture) -> Scene:
        pictures = linear_to_srgb(captures)
        side = [fixed or given for fixed, given in zip(self._side, pictures.shape[2:], strict=True)]
        if list(pictures.shape[2:]) != side:
            pictures = F.interpolate(
                pictures, size=side, mode="bilinear", align_corners=False, antialias=True
            )
        array = pictures.float().cpu().numpy()
        parts = np.split(array, len(array)) if self._one_by_one else [array]
        found = np.concatenate([self._session.run(None, {self._input: part})[0] for part in parts])
        if found.ndim != 4 or found.shape[:2] != array.shape[:2]:
            raise InputError(
                f"Expected {self._path} to return pictures {len(array)} x 3 x H x W, found an "
                f"output of shape {found.shape}; make the picture the first output."
            )
        return srgb_to_linear(torch.from_numpy(found).clamp(0, 1))


def load_restorer(path: Path) -> OnnxRestorer:
    """The restorer in FILE.onnx."""
    return OnnxRestorer(path)


def generative(restorer: Restorer, name: str, *, samples: int = 1) -> RungFn:
    """The rung that attacks with a restorer; the score of a pair is the best of its samples.

    Args:
        name: of the restorer, for the card. samples: restorations of each capture; 1 for a
            restorer that always answers the same.
    """
    if samples < 1:
        raise InputError(f"Expected at least one sample of each restoration, found {samples}.")

    def rung(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
        for judge in arena.judges:
            gallery = arena.embed(judge, arena.test.images)
            probes = []
            for sample in range(samples):
                generator = arena.generator("A6", name, "capture")  # one record, many restorations

                def restored(_chosen: np.ndarray, scene: Scene) -> Scene:
                    return restorer(arena.camera.capture(scene, generator=generator))  # noqa: B023

                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(arena.generator("A6", name, sample).initial_seed())
                    probes.append(arena.embed(judge, arena.test.images, restored))
                progress(f"{name}, {judge.name}", sample + 1, samples)
            mean = np.mean(probes, axis=0)
            mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
            found = arena.attempt(
                "A6", f"{name}, {judge.name}", gallery, mean,
                samples=samples, **invention(arena, gallery, mean),
            )  # fmt: skip
            best = np.max([arena.compare(gallery, probe) for probe in probes], axis=0)
            yield replace(found, scores=best)  # ranks stay those of the mean over samples

    return rung
