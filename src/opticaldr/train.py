"""One loop for all four steps.

Everything random in step t of stage s comes from a generator seeded by (seed, s, t): the batch, the
augmentation, the depths, the noise. So a run that is stopped and resumed continues exactly, with no
generator state to keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from opticaldr import losses
from opticaldr.checkpoint import (
    Best,
    Progress,
    Trackers,
    best_of,
    load_checkpoint,
    load_state,
    save_state,
)
from opticaldr.config import Config, Group, LossConfig, OptimiserConfig, Role, Stage
from opticaldr.data.batches import Batch, GroupedFaces, augment, load_batch
from opticaldr.data.faceset import FaceSet
from opticaldr.evaluate import score_recordings
from opticaldr.interrupt import PatientInterrupt
from opticaldr.model import OpticalDR
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.seeds import generator_for
from opticaldr.theory_losses import Appearance, fit_appearance, spectral_losses, wanted_terms
from opticaldr.types import InputError, Recogniser

OnStep = Callable[[int, Stage, int, dict[str, float]], None]
"""Called after every step with stage number, stage, steps done, metrics."""


@dataclass(frozen=True)
class TrainingData:
    """Face sets per role; people of `validation` occur in no training set."""

    training: dict[Role, FaceSet]
    validation: dict[Role, FaceSet]

    def __post_init__(self) -> None:
        for role, faces in self.validation.items():
            shared = set(faces.people) & set(self.training[role].people)
            if shared:
                raise InputError(
                    f"Expected training and validation people to differ in '{role}', found "
                    f"{len(shared)} in both (such as {min(shared)}); split by person."
                )


class StageLoss(nn.Module):
    """Camera, network and losses of one stage in one forward call (what Accelerate distributes).

    appearance: how faces differ, for weights.fisher_bits.
    """

    def __init__(
        self,
        model: OpticalDR,
        stage: Stage,
        weights: LossConfig,
        surrogate: Recogniser | None,
        appearance: Appearance | None = None,
    ) -> None:
        super().__init__()
        if "identity" in stage.losses and surrogate is None:
            raise InputError("Expected a surrogate recogniser for the identity loss, found none.")
        self.model = model
        self.stage = stage
        self.weights = weights
        self.surrogate = surrogate
        self.appearance = appearance

    def forward(
        self, batches: dict[Role, Batch], depths: dict[Role, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Named losses and their weighted sum "loss"."""
        terms: dict[str, Tensor] = {}
        for role, batch in batches.items():
            scene = srgb_to_linear(batch.photos)
            capture = self.model.camera(scene, depths[role], generator=generator)
            recordings = batch.group if role == "recordings" else None
            prediction = self.model.network(capture, recordings)
            if role == "recordings":
                terms["depression"] = losses.depression_loss(
                    prediction.severity, batch.severity, batch.group
                )
            if "emotion" in self.stage.losses:
                terms["emotion"] = losses.emotion_loss(prediction.emotion, batch.emotion)
            if role == "faces" and "utility" in self.stage.losses:
                points = losses.landmark_loss(prediction.landmarks, batch.landmarks)
                attributes = losses.attribute_loss(prediction.attributes, batch.attributes)
                terms["utility"] = attributes + self.weights.landmarks * points
            if role == "faces" and "identity" in self.stage.losses:
                seen = losses.stretch_contrast(linear_to_srgb(capture))
                with torch.no_grad():
                    clean = self.surrogate(batch.photos)
                terms["identity"] = losses.identity_loss(
                    clean,
                    self.surrogate(seen),
                    batch.group,
                    margin=self.weights.identity_margin,
                    verification=self.weights.verification,
                )
        if "lens" in self.stage.optimisers:
            terms.update(self.model.camera.lens.penalties(self.weights))
            terms.update(self._left_to_attackers(depths))
        weighted = [getattr(self.weights, name) * value for name, value in terms.items()]
        return {**terms, "loss": torch.stack(weighted).sum()}

    def _left_to_attackers(self, depths: dict[Role, Tensor]) -> dict[str, Tensor]:
        """Losses from the theory that have a weight, at the distances of the batch."""
        wanted = wanted_terms(self.weights)
        if not wanted:
            return {}
        lens, noise = self.model.camera.lens, self.model.camera.sensor.config.read_noise_test
        distances, terms = torch.cat(list(depths.values())), {}
        if wanted != ["fisher_bits"]:
            psf = lens.psf(torch.unique(distances))
            pixels = lens.system.sensor_pixels
            terms = spectral_losses(psf, self.weights, pixels=pixels, noise=noise)
        if "fisher_bits" in wanted:  # one distance a step, drawn like those of the batch
            scenes = self.appearance.scenes
            seen = lens(scenes, distances[:1].expand(len(scenes)))
            frames = self.weights.attacker_frames
            terms["fisher_bits"] = self.appearance.bits(seen, noise=noise, frames=frames).to(seen)
        return terms


APPEARANCE_PEOPLE = 48
"""People, with four pictures each, from whom the directions of fisher_bits are taken."""
DEPTH_LEVELS = 64
"""Depths are drawn from this many levels, so that a frozen lens computes each PSF once."""


def draw_depths(
    batch: Batch,
    depth_range_m: tuple[float, float],
    *,
    distinct: int,
    per_group: bool,
    generator: torch.Generator,
) -> Tensor:
    """One depth per image [m], from `distinct` depths uniform over the range; (b,)."""
    near, far = depth_range_m
    levels = torch.randint(DEPTH_LEVELS, (distinct,), generator=generator)
    depths = near + (far - near) * levels / (DEPTH_LEVELS - 1)
    which = torch.arange(len(batch.group))
    if per_group:
        _, which = torch.unique(batch.group, return_inverse=True)
    pick = torch.randint(distinct, (int(which.max()) + 1,), generator=generator)
    return depths[pick[which]]


def learning_rate_factor(stage: Stage, step: int) -> float:
    """Linear warm-up, then constant or a half cosine down to 0; step counts from 0."""
    warm = min(1.0, (step + 1) / stage.warmup_steps) if stage.warmup_steps else 1.0
    if not stage.cosine:
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * step / max(1, stage.steps)))


def make_optimiser(module: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Adadelta (rho .9, eps 1e-6) or Adam on the parameters of a group."""
    kinds = {"adadelta": torch.optim.Adadelta, "adam": torch.optim.AdamW}  # AdamW at 0 is Adam
    decay = config.weight_decay
    return kinds[config.kind](module.parameters(), lr=config.lr, weight_decay=decay)


def set_trained_groups(model: OpticalDR, stage: Stage) -> None:
    """Freezes every group but the stage's; frozen networks also keep their batch statistics."""
    for name in ("lens", "emotion", "depression"):
        module, chosen = model.group(name), stage.optimisers.get(name)
        module.requires_grad_(chosen is not None).train(chosen is not None)
        if chosen is not None and chosen.head_only:
            module.extract.requires_grad_(False).eval()
        if stage.keep_batch_statistics:
            for part in module.modules():
                if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                    part.eval()
    model.camera.sensor.train()


class Trainer:
    """Runs stages over one model; owns nothing that a checkpoint does not hold."""

    def __init__(
        self,
        model: OpticalDR,
        config: Config,
        data: TrainingData,
        run: Path,
        *,
        surrogate: Recogniser | None,
        on_step: OnStep | None = None,
    ) -> None:
        self.config = config
        self.data = data
        self.run = run
        self.on_step = on_step
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = Accelerator(kwargs_handlers=[unused])
        self.device = self.accelerator.device
        self.model = model.to(self.device)
        self.surrogate = surrogate
        if isinstance(surrogate, nn.Module):
            surrogate.to(self.device)
        self.training = {r: GroupedFaces.of(f, r) for r, f in data.training.items()}
        self.validation = {r: GroupedFaces.of(f, r) for r, f in data.validation.items()}

    def fit(self, numbers: list[int], *, resume: bool = False) -> dict[int, float]:
        """Trains the stages in order; returns the seconds of each. Ctrl-C leaves a resumable run."""
        progress = Progress.read(self.run) if resume else None
        seconds: dict[int, float] = {}
        if progress:
            seconds = {n: s for n, s in progress.seconds.items() if n in progress.finished}
        if progress:
            load_checkpoint(self.run, self.model)
        for number in numbers:
            if progress and number in progress.finished:
                continue
            here = progress if progress and number == progress.stage else None
            started = perf_counter()
            before = here.seconds.get(number, 0.0) if here else 0.0
            self._fit_stage(
                number, here, lambda b=before, s=started: b + perf_counter() - s, seconds
            )
            seconds[number] = before + perf_counter() - started
        return seconds

    def _fit_stage(
        self,
        number: int,
        resumed: Progress | None,
        elapsed: Callable[[], float],
        seconds: dict[int, float],
    ) -> None:
        stage = self.config.stages.numbered()[number]
        for role in stage.data:
            if role not in self.training:
                raise InputError(
                    f"Expected data for '{role}' in stage {number} ({stage.title}), found none; "
                    "give it with --data or leave the stage out with --stages."
                )
        set_trained_groups(self.model, stage)
        if stage.start_depression_from_emotion and resumed is None:
            network = self.model.network
            network.depression.extract.load_state_dict(network.emotion.extract.state_dict())
        if "depression" in stage.losses and resumed is None and number == 3:
            self._centre_depression_head()
        step_loss = StageLoss(
            self.model, stage, self.config.losses, self.surrogate, self._appearance(number, stage)
        )
        optimisers = {
            g: make_optimiser(self.model.group(g), o) for g, o in stage.optimisers.items()
        }
        first, best = 0, None
        if resumed is not None:
            best = load_state(self.run, self.model, optimisers)
            first = resumed.step
        prepared = self.accelerator.prepare(step_loss)
        trackers = Trackers(self.run, number, first if resumed else -1)
        done = first
        interrupt = PatientInterrupt()
        try:
            if first == 0:  # a stage that only makes things worse must change nothing
                checked = self.validate(number, step_loss)
                trackers.write("val", 0, checked)
                best = best_of(self.model, checked["selection"], 0)
            with interrupt:
                for step in range(first, stage.steps):
                    metrics = self._train_step(number, stage, step, prepared, optimisers)
                    trackers.write("train", step + 1, metrics)
                    done = step + 1
                    if done % stage.validate_every == 0 or done == stage.steps:
                        checked = self.validate(number, step_loss)
                        trackers.write("val", done, checked)
                        if best is None or checked["selection"] <= best.selection:
                            best = best_of(self.model, checked["selection"], done)
                        self._checkpoint(number, done, optimisers, best, seconds, elapsed())
                    if self.on_step:
                        self.on_step(number, stage, done, metrics)
                    interrupt.check()
        except KeyboardInterrupt:
            if not interrupt.cut:  # else the last checkpoint is newer than anything whole
                self._checkpoint(number, done, optimisers, best, seconds, elapsed())
            raise
        finally:
            trackers.close()
        if best is not None:
            self.model.load_state_dict(best.weights)
        self._checkpoint(number, done, optimisers, best, seconds, elapsed(), finished=True)

    def _train_step(
        self,
        number: int,
        stage: Stage,
        step: int,
        step_loss: nn.Module,
        optimisers: dict[Group, torch.optim.Optimizer],
    ) -> dict[str, float]:
        generator = generator_for(self.config.seed, number, step)
        batches, depths = self._draw(stage, self.training, generator, augmented=True)
        factor = learning_rate_factor(stage, step)
        for group, optimiser in optimisers.items():
            for settings in optimiser.param_groups:
                settings["lr"] = factor * stage.optimisers[group].lr
            optimiser.zero_grad()
        noise = torch.Generator(self.device).manual_seed(generator.initial_seed())
        with torch.random.fork_rng():  # dropout alone draws from torch's global generator
            torch.manual_seed(generator.initial_seed())
            terms = step_loss(batches, depths, noise)
        if not bool(torch.isfinite(terms["loss"])):
            raise FloatingPointError(
                f"The loss of stage {number} became {float(terms['loss'].detach())} at step {step + 1}; "
                "lower the learning rate of the stage and resume from the last checkpoint."
            )
        self.accelerator.backward(terms["loss"])
        metrics = {name: float(value.detach()) for name, value in terms.items()}
        for group, optimiser in optimisers.items():
            parameters = list(self.model.group(group).parameters())
            norm = nn.utils.clip_grad_norm_(parameters, stage.gradient_clip)
            metrics[f"gradient_{group}"] = float(norm)
            if not math.isfinite(norm):
                raise FloatingPointError(
                    f"The gradient of '{group}' became {float(norm)} in stage {number} at step "
                    f"{step + 1}; lower its learning rate and resume from the last checkpoint."
                )
            optimiser.step()
            if group == "lens":
                metrics["lens_at_limit"] = float(self.model.camera.lens.pull_into_window())
        metrics["defocus_um"] = self.model.camera.lens.defocus_um()
        return metrics

    def _draw(
        self,
        stage: Stage,
        sets: dict[Role, GroupedFaces],
        generator: torch.Generator,
        *,
        augmented: bool,
    ) -> tuple[dict[Role, Batch], dict[Role, Tensor]]:
        lens = self.config.lens
        batches, depths = {}, {}
        for role in stage.data:
            indices, numbers = sets[role].draw(
                groups=stage.groups_per_batch, per_group=stage.per_group, generator=generator
            )
            share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
            batch = load_batch(
                sets[role].faces, indices[share], numbers[share], size=lens.sensor_pixels
            )
            per_group = role == "recordings"
            if augmented:
                batch = augment(batch, per_group=per_group, generator=generator)
            depths[role] = draw_depths(
                batch,
                lens.depth_range_m,
                distinct=stage.depths_per_batch,
                per_group=per_group,
                generator=generator,
            ).to(self.device)
            batches[role] = batch.to(self.device)
        return batches, depths

    @torch.no_grad()
    def validate(self, number: int, step_loss: StageLoss, *, batches: int = 4) -> dict[str, float]:
        """Losses on fixed validation batches, verification AUC and dev MAE where they apply.

        "selection" is what the best checkpoint minimises: dev MAE for stages with a depression
        loss, else the loss; a checkpoint above stage.max_val_auc comes after all others.
        """
        stage = step_loss.stage
        self.model.eval()
        sums: dict[str, list[float]] = {}
        for index in range(batches):
            generator = generator_for(self.config.seed, number, "validation", index)
            drawn, depths = self._draw(stage, self.validation, generator, augmented=False)
            noise = torch.Generator(self.device).manual_seed(generator.initial_seed())
            for name, value in step_loss(drawn, depths, noise).items():
                sums.setdefault(name, []).append(float(value))
        metrics = {name: float(np.mean(values)) for name, values in sums.items()}
        metrics["selection"] = metrics["loss"]
        if "depression" in stage.losses:
            scores = score_recordings(
                self.model, self.validation["recordings"].faces, seed=self.config.seed
            )
            errors = [abs(row.score - row.label) for row in scores]
            metrics["mae"] = metrics["selection"] = float(np.mean(errors))
        if "identity" in stage.losses:
            metrics["auc"] = self._verification_auc(number, stage)
            if metrics["auc"] > stage.max_val_auc:
                metrics["selection"] += 1e3 * (metrics["auc"] - stage.max_val_auc)
        set_trained_groups(self.model, stage)
        return metrics

    def _verification_auc(self, number: int, stage: Stage) -> float:
        """AUC of the surrogate on captured validation faces, all pairs of one fixed draw."""
        from sklearn.metrics import roc_auc_score

        generator = generator_for(self.config.seed, number, "auc")
        faces = stage.model_copy(update={"data": ("faces",), "groups_per_batch": 64})
        drawn, depths = self._draw(faces, self.validation, generator, augmented=False)
        batch = drawn["faces"]
        noise = torch.Generator(self.device).manual_seed(generator.initial_seed())
        capture = self.model.camera(srgb_to_linear(batch.photos), depths["faces"], generator=noise)
        embeddings = self.surrogate(losses.stretch_contrast(linear_to_srgb(capture)))
        upper = torch.triu_indices(len(embeddings), len(embeddings), offset=1)
        same = (batch.group[upper[0]] == batch.group[upper[1]]).cpu().numpy()
        cosine = (embeddings @ embeddings.T)[upper[0], upper[1]].cpu().numpy()
        return float(roc_auc_score(same, cosine)) if 0 < same.sum() < len(same) else 0.5

    def _appearance(self, number: int, stage: Stage) -> Appearance | None:
        """How the training faces differ, for a stage whose lens learns against fisher_bits."""
        if "lens" not in stage.optimisers or not self.config.losses.fisher_bits > 0:
            return None
        if "faces" not in self.training:
            raise InputError(
                f"Expected data for 'faces' in stage {number}, which losses.fisher_bits is measured "
                "on, found none; give it with --data or set the weight to 0."
            )
        faces = self.training["faces"]
        generator = generator_for(self.config.seed, "appearance")
        indices, groups = faces.draw(groups=APPEARANCE_PEOPLE, per_group=4, generator=generator)
        batch = load_batch(faces.faces, indices, groups, size=self.config.lens.sensor_pixels)
        return fit_appearance(
            srgb_to_linear(batch.photos.to(self.device)), batch.group.to(self.device)
        )

    def _centre_depression_head(self) -> None:
        """Starts the severity head at the training mean, so that the first steps do not chase it."""
        labels = recording_labels(self.data.training["recordings"])
        with torch.no_grad():
            self.model.network.depression.head[-1].bias.fill_(float(labels.mean()) / 63.0)

    def _checkpoint(
        self,
        number: int,
        step: int,
        optimisers: dict[Group, torch.optim.Optimizer],
        best: Best | None,
        seconds: dict[int, float],
        elapsed: float,
        *,
        finished: bool = False,
    ) -> None:
        if not self.accelerator.is_main_process:
            return
        done = tuple(n for n in seconds if n != number)
        progress = Progress(
            stage=number,
            step=step,
            finished=(*done, number) if finished else done,
            seconds={**seconds, number: elapsed},
        )
        save_state(self.run, self.model, optimisers, best, progress)


def recording_labels(faces: FaceSet) -> np.ndarray:
    """One BDI-II label per recording, in order of first appearance."""
    grouped = GroupedFaces.of(faces, "recordings")
    return np.array([faces.records[members[0]].severity for members in grouped.groups])
