"""A run from end to end: train, score the test recordings, attack, and keep it all in one folder.

Each function does one command's work on a run directory and updates results.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from opticaldr.camera import Camera, describe_camera, load_camera
from opticaldr.config import Config, load_config
from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs
from opticaldr.data.sources import Sources
from opticaldr.evaluate import RecordingScore, depression_results, score_recordings
from opticaldr.faces import load_recogniser
from opticaldr.faces.embedder import SmallEmbedder, train_embedder
from opticaldr.faces.fetch import SOURCES, cached_file
from opticaldr.model import OpticalDR, build_model, load_model, save_model
from opticaldr.privacy.verification import Rung, embed_all, score_rung
from opticaldr.results import SCHEMA_VERSION, read_json, validate, write_json
from opticaldr.seeds import generator_for
from opticaldr.tensors import save_tensors
from opticaldr.train import OnStep, Trainer, TrainingData, recording_labels
from opticaldr.types import BDI_MAX, Capture, CaptureFn, InputError, Recogniser, Scene

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being done, items done, items in all)."""

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
    if any("identity" in config.stages.numbered()[n].losses for n in stages):
        surrogate = open_surrogate(config, sources, run, on_progress=on_progress)
        model.camera.trained_against = (surrogate.name,)
    save_model(model, config, run)
    data = TrainingData(sources.training, sources.validation)
    trainer = Trainer(model, config, data, run, surrogate=surrogate, on_step=on_step)
    seconds = trainer.fit(stages, resume=resume)
    model.cpu().requires_grad_(False).eval()
    if "recordings" in sources.validation and {3, 4} & set(stages):
        validation = sources.validation["recordings"]
        shrink_scores(model, score_recordings(model, validation, seed=config.seed))
        scores = score_recordings(model, validation, seed=config.seed)
        write_json(run / "calibration.json", calibrate(scores))
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


def shrink_scores(model: OpticalDR, scores: list[RecordingScore]) -> None:
    """Folds score <- a + b score into the last layer; a, b by least squares on validation people.

    An over-fitted reader spreads its scores too widely; b, kept in [0, 1], takes that back. The
    checkpoint in state/ keeps the unshrunk weights, so training on continues exactly.
    """
    score = np.array([row.score for row in scores])
    label = np.array([row.label for row in scores])
    spread = float(score.var())
    covariance = float(((score - score.mean()) * (label - label.mean())).mean())
    slope = min(1.0, max(0.0, covariance / spread)) if spread > 0 else 1.0
    last = model.network.depression.head[-1]
    last.weight.mul_(slope)
    last.bias.mul_(slope).add_(float(label.mean() - slope * score.mean()) / BDI_MAX)


def calibrate(scores: list[RecordingScore], coverage: float = 0.9) -> dict[str, Any]:
    """Split-conformal half width of the score's interval from validation recordings.

    The ceil((n + 1) coverage)-th smallest absolute error; the range 63 if n is too small for it.
    Validation also chose the checkpoint, so the width is slightly optimistic.
    """
    errors = sorted(abs(row.score - row.label) for row in scores)
    rank = math.ceil((len(errors) + 1) * coverage)
    half_width = errors[rank - 1] if rank <= len(errors) else 63.0
    return {"coverage": coverage, "half_width": half_width, "n": len(errors)}


def evaluate_run(
    run: Path, sources: Sources, *, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Scores the test recordings of the sources and updates "depression" in results.json."""
    if sources.test is None or "recordings" not in sources.training:
        raise InputError(
            "Expected recordings with BDI-II labels in a train and a test split, found none; "
            "use --data synthetic or --data manifest=FILE.csv."
        )
    config, model = load_config(run), load_model(run)

    def report(done: int, total: int) -> None:
        if on_progress:
            on_progress("scoring test recordings", done, total)

    scores = score_recordings(model, sources.test, seed=config.seed, on_recording=report)
    found = depression_results(scores, recording_labels(sources.training["recordings"]))
    update_results(
        run,
        depression={
            **found,
            "data": sources.test.name,
            "cue_gain": config.synthetic.cue_gain if sources.test.synthetic else 1.0,
        },
        synthetic=sources.test.synthetic,
        seed=config.seed,
        lens={"sha256": describe_camera(model.camera)["sha256"]},
    )
    return found


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


def update_results(run: Path, **sections: Any) -> None:
    """Replaces sections of results.json, starting from an empty one; checked before writing."""
    path = run / "results.json"
    content = {
        "schema_version": SCHEMA_VERSION,
        "synthetic": False,
        "seed": 0,
        "depression": None,
        "privacy": {"attacks": []},
        "lens": {"sha256": ""},
        "seconds": {},
    }
    if path.exists():
        content = read_json(path)
    if content["synthetic"]:  # once a part rests on rendered people, the whole file says so
        sections["synthetic"] = True
    content.update(sections)
    validate(content, "results")
    write_json(path, content)
