"""The cases of `bench optics`: point spread functions beside the peers, and a step of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from opticaldr.bench.measure import Work, peak_mib
from opticaldr.bench.peers import ENGINES, OURS
from opticaldr.bench.reference import Reference, misplaced, reference_psfs
from opticaldr.bench.rounds import OnProgress, case_row, interleaved
from opticaldr.camera import Camera
from opticaldr.config import LensConfig, NetworkConfig, SensorConfig, load_config
from opticaldr.lens import Lens
from opticaldr.networks.sanet import SANet
from opticaldr.optics.system import OpticalSystem
from opticaldr.sensor import Sensor
from opticaldr.types import InputError

SANET = "SANet forward+backward"


@dataclass(frozen=True)
class Size:
    """How large the work is; the defaults are the sizes at which results are reported.

    grid: wavefront samples [1]. sensor_pixels: of the compared PSFs (128: 29.5 um at grid 1024).
    images, image_px: batch of the training step and side of its pictures [px]; depths_per_batch:
    different depths in it (as in stage 1 of the presets).
    """

    grid: int = 1024
    sensor_pixels: int = 128
    images: int = 64
    image_px: int = 256
    depths_per_batch: int = 4
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def lens(self, preset: str, sensor_pixels: int) -> LensConfig:
        """The lens of a preset on this grid, its surface scaled to focus as before."""
        config = load_config(preset).lens
        scale = ((self.grid - 1) / (config.grid - 1)) ** 2  # defocus goes with the radius squared
        return config.model_copy(
            update={
                "grid": self.grid,
                "sensor_pixels": sensor_pixels,
                "coefficients_um": tuple(scale * a for a in config.coefficients_um),
            }
        )


@dataclass(frozen=True)
class PsfCase:
    """PSFs of one preset at depths uniform in dioptre."""

    preset: str
    depths: int
    backward: bool
    size: Size
    device: str

    @property
    def title(self) -> str:
        """Name in the table."""
        passes = "forward+backward" if self.backward else "forward"
        return f"{self.preset}, {self.depths} depths, {passes}"

    def inputs(self) -> tuple[Tensor, Tensor, OpticalSystem]:
        """Coefficients (J,) [um], depths (k,) [m], system."""
        config = self.size.lens(self.preset, self.size.sensor_pixels)
        near, far = config.depth_range_m
        depths = 1 / torch.linspace(1 / near, 1 / far, self.depths)
        coefficients = torch.tensor(config.coefficients_um)
        return coefficients.to(self.device), depths.to(self.device), Lens(config).system


def prepare_psf(engine: str, case: PsfCase) -> Work:
    """One evaluation of an engine; the loss is a fixed ramp over the PSF, so every pixel counts."""
    coefficients, depths, system = case.inputs()
    coefficients.requires_grad_(case.backward)
    psf_of = ENGINES[engine].psf

    def work() -> None:
        psf = psf_of(coefficients, depths, system)
        if case.backward:
            ramp = torch.arange(psf.shape[-1], device=psf.device, dtype=psf.dtype)
            torch.autograd.grad((psf * ramp).sum(), coefficients)

    return work


def prepare_step(engine: str, size: Size, device: str) -> Work:
    """A training step of the optics (PSF, convolution, sensor, backward) or of the network alone."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (size.images, 3, size.image_px, size.image_px)
    scene = torch.rand(shape, generator=generator, device=device)
    if engine == SANET:
        network = size.network
        net = SANet(width=network.width, blocks=network.blocks, groups=network.groups).to(device)
        return lambda: net(scene).sum().backward()
    config = size.lens("focused", size.image_px)
    camera = Camera(Lens(config), Sensor(SensorConfig())).to(device).train()
    near, far = config.depth_range_m
    distinct = 1 / torch.linspace(1 / near, 1 / far, size.depths_per_batch, device=device)
    depth = distinct[torch.arange(size.images, device=device) % size.depths_per_batch]

    def work() -> None:
        capture = camera(scene, depth, generator=generator)
        capture.square().sum().backward()

    return work


def bench_optics(
    *,
    rounds: int,
    depths: int,
    device: str = "cpu",
    size: Size | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Times every case.

    rounds: of the interleaved run. depths: of the PSF cases, over the presets' range.
    on_progress: called with (what, done, total).
    """
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"Expected a device that is present, found '{device}'; use --device cpu.")
    if size is None:
        size = Size()
    cases = [
        PsfCase(preset, depths, backward, size, device)
        for preset, backward in (("focused", False), ("focused", True), ("literal", True))
    ]
    yardsticks = _yardsticks(cases, on_progress)
    return {
        "benchmark": "optics",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "rounds": rounds,
        "torch": torch.__version__,
        "packages": {
            e.package: metadata.version(e.package) for e in ENGINES.values() if not e.missing
        },
        "cases": [
            *(_psf_case(case, rounds, yardsticks[case.preset], on_progress) for case in cases),
            _step_case(size, device, rounds, on_progress),
        ],
    }


def _subset(depths: Tensor) -> Tensor:
    """Nearest, middle and farthest depth: where errors are measured."""
    return depths[sorted({0, len(depths) // 2, len(depths) - 1})]


def _yardsticks(cases: list[PsfCase], on_progress: OnProgress) -> dict[str, Reference]:
    """The float64 reference of each preset, at the subset of the depths."""
    found: dict[str, Reference] = {}
    presets = {case.preset: case for case in cases}
    for number, (preset, case) in enumerate(presets.items(), start=1):
        coefficients, depths, system = case.inputs()
        found[preset] = reference_psfs(coefficients.cpu(), _subset(depths.cpu()), system)
        on_progress("float64 reference", number, len(presets))
    return found


def _psf_case(
    case: PsfCase, rounds: int, reference: Reference, on_progress: OnProgress
) -> dict[str, Any]:
    installed = [name for name, engine in ENGINES.items() if not engine.missing]
    device = torch.device(case.device)
    coefficients, depths, system = case.inputs()
    rows: dict[str, dict[str, float | None]] = {}
    for number, name in enumerate(installed, start=1):
        engine = ENGINES[name]
        psf = engine.psf(coefficients, _subset(depths), system)  # also fills the caches
        rows[name] = {
            "error_tv": misplaced(psf, getattr(reference, engine.axis)),
            # the same light on another pixel grid cannot be compared with the area integral
            "error_tv_area": misplaced(psf, reference.area) if engine.axis == "pixel" else None,
            "peak_mib": peak_mib(prepare_psf, name, case, device=device),
        }
        on_progress(f"error and memory: {case.title}", number, len(installed))
    works = {name: prepare_psf(name, case) for name in installed}
    times = interleaved(works, rounds, device, case.title, on_progress)
    missing = {name: e.missing for name, e in ENGINES.items() if e.missing}
    return case_row(case.title, OURS, case.depths, times, rows, missing)


def _step_case(size: Size, device: str, rounds: int, on_progress: OnProgress) -> dict[str, Any]:
    title = (
        f"optics step, {size.images} images of {size.image_px} px, {size.depths_per_batch} depths"
    )
    works = {name: prepare_step(name, size, device) for name in (OURS, SANET)}
    rows: dict[str, dict[str, float | None]] = {}
    for number, name in enumerate(works, start=1):
        peak = peak_mib(prepare_step, name, size, device, device=torch.device(device))
        rows[name] = {"error_tv": None, "error_tv_area": None, "peak_mib": peak}
        on_progress(f"memory: {title}", number, len(works))
    works[OURS]()  # fills the caches
    times = interleaved(works, rounds, torch.device(device), title, on_progress)
    return case_row(title, OURS, size.images, times, rows, {})
