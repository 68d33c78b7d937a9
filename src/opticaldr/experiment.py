"""A run from end to end: train, evaluate (evaluation.py), attack, and keep it all in one folder.

Each function does one command's work on a run directory and updates results.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from opticaldr.camera import Camera, describe_camera, load_camera
from opticaldr.config import Config, load_config
from opticaldr.conformal import calibrate
from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs
from opticaldr.data.sources import Sources
from opticaldr.evaluate import score_recordings
from opticaldr.evaluation import OnProgress
from opticaldr.evaluation import evaluate_run as evaluate_run
from opticaldr.faces import load_recogniser
from opticaldr.faces.embedder import SmallEmbedder, train_embedder
from opticaldr.faces.fetch import SOURCES, cached_file
from opticaldr.model import build_model, save_model
from opticaldr.parallel import is_main, main_first
from opticaldr.privacy.verification import Rung, embed_all, score_rung
from opticaldr.results import update_results, write_json
from opticaldr.seeds import generator_for
from opticaldr.shrinkage import fit_line, fold_in, without_own_person
from opticaldr.tensors import save_tensors
from opticaldr.train import OnStep, Trainer, TrainingData
from opticaldr.types import Capture, CaptureFn, InputError, Recogniser, Scene

BESIDE = ("focused", "literal")
"""Untrained lenses that stand beside the attacked one in results.json."""

ATTACK_DEPTH_M = 1.0
"""Distance of the faces in an attack unless told otherwise [m]."""


def train_run(
    config: Config,
    sources: Sources,
    run: Path,
    *,
    stages: list[int],
    resume: bool,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
) -> Config:
    """Trains the stages and leaves config.toml, lens.json, weights, calibration and results.json.

    Returns the resolved configuration (attribute names filled in from the data).
    """
    refuse_occupied(run, resume=resume)
    if resume:
        config = _resumed(config, run)
    elif "faces" in sources.training:
        names = sources.training["faces"].attribute_names
        network = config.network.model_copy(update={"attribute_names": names})
        config = config.model_copy(update={"network": network})
    run.mkdir(parents=True, exist_ok=True)
    model = build_model(config)
    surrogate = None
    begun = resume and (run / "lens.json").exists()
    if begun:
        model.camera.trained_against = load_camera(run).trained_against
    if any("identity" in config.stages.numbered()[n].losses for n in stages):
        with main_first():  # the others read what it has trained
            surrogate = open_surrogate(config, sources, run, on_progress=on_progress)
        known = model.camera.trained_against
        model.camera.trained_against = tuple(dict.fromkeys((*known, surrogate.name)))
    if is_main() and not begun:
        save_model(model, config, run)
    data = TrainingData(sources.training, sources.validation, config.protocol)
    trainer = Trainer(model, config, data, run, surrogate=surrogate, on_step=on_step)
    seconds = trainer.fit(stages, resume=resume)
    if not is_main():  # the others only lent their processors
        return config
    model.cpu().requires_grad_(False).eval()
    if "recordings" in sources.validation and {3, 4} & set(stages):
        scores = score_recordings(model, sources.validation["recordings"], seed=config.seed)
        trained = set(sources.training["recordings"].people)
        strangers = [row for row in scores if row.person not in trained]
        if strangers:  # errors on people who were trained on would promise too much
            fold_in(fit_line(strangers), model)
            write_json(run / "calibration.json", calibrate(without_own_person(strangers)))
    save_model(model, config, run)
    used = [*sources.training.values()]
    update_results(
        run,
        seed=config.seed,
        synthetic=any(faces.synthetic for faces in used),
        lens={"sha256": describe_camera(model.camera)["sha256"]},
        seconds={f"stage {number}": round(value, 2) for number, value in seconds.items()},
    )
    return config


def refuse_occupied(run: Path, *, resume: bool) -> None:
    """InputError if a new run would overwrite the checkpoint of another."""
    if (run / "state").exists() and not resume:
        raise InputError(
            f"Expected an empty run folder, found a checkpoint in {run}; add --resume to continue "
            "it or choose another --out."
        )


def _resumed(config: Config, run: Path) -> Config:
    """The configuration of an earlier run; another one is an error, not a silent change."""
    if not (run / "config.toml").exists():
        raise InputError(f"Expected a run to resume in {run}, found none; train without --resume.")
    stored = load_config(run)
    names = {"attribute_names": stored.network.attribute_names}
    given = config.model_copy(update={"network": config.network.model_copy(update=names)})
    readers = {"loader_workers": given.training.loader_workers}  # batches do not depend on them
    stored = stored.model_copy(update={"training": stored.training.model_copy(update=readers)})
    if given != stored:
        raise InputError(
            f"Expected the configuration of {run / 'config.toml'}, found another; resume with "
            f"--config {run} or choose another --out."
        )
    return stored


def open_surrogate(
    config: Config, sources: Sources, run: Path, *, on_progress: OnProgress | None = None
) -> Recogniser:
    """The frozen recogniser of the identity loss; "small" is trained on clean faces and kept."""
    if config.surrogate.name != "small":
        recogniser = load_recogniser(config.surrogate.name)
        if not recogniser.differentiable:
            raise InputError(
                f"Expected a differentiable surrogate, found '{recogniser.name}'; use small, dlib, "
                "mobilefacenet or fr_feature."
            )
        return recogniser
    kept = run / "surrogate.safetensors"
    if kept.exists():
        embedder = SmallEmbedder()
        embedder.load_state_dict(load_file(kept))
        return embedder.requires_grad_(False).eval()

    def report(done: int, total: int) -> None:
        if on_progress:
            on_progress("training the surrogate recogniser", done, total)

    embedder = train_embedder(
        sources.training["faces"],
        steps=config.surrogate.steps,
        generator=generator_for(config.seed, "surrogate"),
        progress=report,
    )
    save_tensors(embedder.state_dict(), kept)
    return embedder


@dataclass(frozen=True)
class Target:
    """A camera to attack and what to call it in the table ("trained", "untrained focused", ...)."""

    label: str
    camera: Camera


def attack_targets(lens: str | Path, *, beside: tuple[str, ...]) -> list[Target]:
    """The camera at `lens` and, for comparison, untrained presets at its sensor resolution."""
    camera = load_camera(lens)
    pixels = camera.lens.config.sensor_pixels
    label = target_label(str(lens), camera.trained_against)
    return [Target(label, camera), *untrained_targets(beside, pixels=pixels, but=str(lens))]


def untrained_targets(presets: tuple[str, ...], *, pixels: int, but: str = "") -> list[Target]:
    """Untrained presets at a sensor resolution [px], without the preset `but`."""
    return [
        Target(target_label(preset, ()), load_camera(preset, sensor_pixels=pixels))
        for preset in presets
        if preset != but
    ]


def target_label(lens: str, trained_against: tuple[str, ...]) -> str:
    """What tables call a camera."""
    return "trained" if trained_against else f"untrained {lens}"


def available_judges(trained_against: tuple[str, ...]) -> list[str]:
    """Names of the recognisers that can be loaded here and did not shape the lens."""
    names = ["dlib", *(name for name in SOURCES if cached_file(name).is_file())]
    return [name for name in names if name not in trained_against]


def open_judges(names: list[str], trained_against: tuple[str, ...]) -> list[Recogniser]:
    """The attackers' recognisers; one that shaped the lens is refused as a judge of it."""
    for name in names:
        if name in trained_against:
            raise InputError(
                f"Expected recognisers that the lens was not trained against, found '{name}', "
                "which is in its loss; choose others with --recogniser."
            )
    return [load_recogniser(name) for name in names]


def attack_rows(
    targets: list[Target],
    faces: FaceSet,
    pairs: Pairs,
    *,
    rungs: list[Rung],
    judges: list[Recogniser],
    seed: int,
    bootstrap: int,
    depth_m: float = ATTACK_DEPTH_M,
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """Rows of "attacks" in results.json for every judge, target and rung."""
    rows = []
    for judge in judges:
        clean = None  # the same for every camera
        for target in targets:

            def report(done: int, total: int, what: str = f"{target.label}, {judge.name}") -> None:
                if on_progress:
                    on_progress(f"attacking: {what}", done, total)

            embeddings = embed_all(
                faces,
                pairs.images,
                capture=_as_seen_by_an_attacker(target.camera, depth_m),
                recogniser=judge,
                scene_size=target.camera.lens.config.sensor_pixels,
                generator=generator_for(seed, "attack", target.label),
                batch_size=32,
                clean=clean,
                progress=report,
            )
            clean = embeddings.clean
            for rung in rungs:
                result = score_rung(rung, embeddings, faces, pairs, bootstrap=bootstrap, seed=seed)
                rows.append({**result.to_json(lens=target.label), "data": faces.name})
    return rows


def update_attacks(
    run: Path, rows: list[dict[str, Any]], *, synthetic: bool, seed: int, sha256: str
) -> None:
    """Replaces "attacks" in results.json. sha256: of the lens.json that was attacked."""
    update_results(
        run,
        privacy={"attacks": rows},
        synthetic=synthetic,
        seed=seed,
        lens={"sha256": sha256},
    )


def _as_seen_by_an_attacker(camera: Camera, depth_m: float) -> CaptureFn:
    def capture(scene: Scene, *, generator: torch.Generator) -> Capture:
        return camera(scene, torch.full((scene.shape[0],), depth_m), generator=generator)

    return capture
