"""One loop for all four steps, on one process or several.

Everything random in step t of stage s comes from generators seeded by (seed, s, t): the batch, the
augmentation, the depths, the noise. So a run that is stopped and resumed continues exactly, with no
generator state to keep, and any number of processes sees the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from time import perf_counter

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from opticaldr.checkpoint import (
    Best,
    Progress,
    Trackers,
    best_of,
    load_checkpoint,
    load_state,
    log_bad_files,
    save_state,
)
from opticaldr.config import Config, Group, Role, Stage, TrainingConfig
from opticaldr.data.batches import Batch, GroupedFaces, load_batch
from opticaldr.data.draws import draw_step
from opticaldr.data.loading import BadFile, Loader, Share
from opticaldr.interrupt import PatientInterrupt
from opticaldr.model import OpticalDR
from opticaldr.networks.sanet import SANet
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.parallel import as_main, from_all, on_any, processes, see_whole_batch
from opticaldr.parts import Part, parts_of, rows_for
from opticaldr.seeds import generator_for
from opticaldr.stage_loss import StageLoss
from opticaldr.stage_setup import learning_rate_factor, make_optimiser, set_trained_groups
from opticaldr.theory_losses import Appearance, fit_appearance
from opticaldr.training_data import TrainingData, recording_labels
from opticaldr.types import InputError, Recogniser
from opticaldr.validation import validate

OnStep = Callable[[int, Stage, int, dict[str, float]], None]
"""Called after every step with stage number, stage, steps done, metrics."""


APPEARANCE_PEOPLE = 48
"""People, with four pictures each, from whom the directions of fisher_bits are taken."""


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
        several = processes().num_processes > 1
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        # mixed precision is ours (SANet), so that no launcher can put the optics into bfloat16
        self.accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[unused])
        self.device = self.accelerator.device
        if several:
            see_whole_batch(model.network)
        self.model = model.to(self.device)
        self.surrogate = surrogate
        if isinstance(surrogate, nn.Module):
            surrogate.to(self.device)
        self.training = {r: GroupedFaces.of(f, r) for r, f in data.training.items()}
        validation = {r: GroupedFaces.of(f, r) for r, f in data.validation.items()}
        self.validation = Loader(validation, size=config.lens.sensor_pixels)

    def fit(self, numbers: list[int], *, resume: bool = False) -> dict[int, float]:
        """Trains the stages in order; returns the seconds of each. Ctrl-C leaves a resumable run."""
        extractors = [part for part in self.model.modules() if isinstance(part, SANet)]
        for part in extractors:
            part.in_bfloat16 = self._settings.mixed_precision == "bf16"
        try:
            return self._fit(numbers, resume=resume)
        finally:
            for part in extractors:
                part.in_bfloat16 = False

    def _fit(self, numbers: list[int], *, resume: bool) -> dict[int, float]:
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
        count = self.accelerator.num_processes * self._settings.gradient_accumulation
        self.data.check(number, stage, self.model.camera, parts=count)
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
        selects = all(role in self.data.validation for role in stage.data)
        main = self.accelerator.is_main_process
        trackers = Trackers(self.run, number, first if resumed else -1) if main else None
        loader = Loader(
            self.training,
            size=self.config.lens.sensor_pixels,
            augmented_by=(self.config.seed, number),
        )
        shares = (self._share(number, stage, step) for step in range(first, stage.steps))
        done = first
        interrupt = PatientInterrupt()

        def checked() -> dict[str, float]:
            metrics = self.validate(number, step_loss)
            if trackers:
                trackers.write("val", done, metrics)
            return metrics

        try:
            with interrupt, closing(loader.ahead(shares, self._settings.loader_workers)) as steps:
                if first == 0 and selects:  # a stage that only makes things worse changes nothing
                    best = best_of(self.model, checked()["selection"], 0)
                while done < stage.steps:
                    share, batches = self._next(steps, loader)
                    metrics = self._train_step(number, stage, share, batches, prepared, optimisers)
                    done += 1
                    if trackers:
                        trackers.write("train", done, metrics)
                    if done % stage.validate_every == 0 or done == stage.steps:
                        if selects:
                            found = checked()["selection"]
                            if best is None or found <= best.selection:
                                best = best_of(self.model, found, done)
                        self._checkpoint(number, done, optimisers, best, seconds, elapsed())
                    if self.on_step and main:
                        self.on_step(number, stage, done, metrics)
                    if on_any(interrupt.pending):
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not interrupt.cut:  # else the last checkpoint is newer than anything whole
                self._checkpoint(number, done, optimisers, best, seconds, elapsed())
            raise
        finally:
            if trackers:
                trackers.close()
            if self.accelerator.num_processes > 1:
                self.accelerator.free_memory()  # lets go of the distributed wrapper of this stage
        if best is not None:
            self.model.load_state_dict(best.weights)
        self._checkpoint(number, done, optimisers, best, seconds, elapsed(), finished=True)

    @property
    def _settings(self) -> TrainingConfig:
        return self.config.training

    def _share(self, number: int, stage: Stage, step: int) -> Share:
        """The draws of a step and the rows of this process."""
        generator = generator_for(self.config.seed, number, step)
        draws = draw_step(self.training, stage, self.config, generator=generator)
        return Share(step, draws, {r: rows_for(draw, **self._cut) for r, draw in draws.items()})

    @property
    def _cut(self) -> dict[str, int]:
        """How a batch is cut, and which part is this process's."""
        return {
            "process": self.accelerator.process_index,
            "processes": self.accelerator.num_processes,
            "pieces": self._settings.gradient_accumulation,
        }

    def _next(
        self, steps: Iterator[tuple[Share, dict[Role, Batch]]], loader: Loader
    ) -> tuple[Share, dict[Role, Batch]]:
        """The next step's batches; if one process cannot read on, all stop with its sentence."""
        loaded, problem = None, ""
        try:
            loaded = next(steps)
        except InputError as error:
            problem = str(error)
        fresh = loader.take_fresh()
        if on_any(bool(problem or fresh)):
            found, problems = from_all(fresh), [text for text in from_all([problem]) if text]
            self._log(found)
            if problems:
                raise InputError(problems[0])
        return loaded

    def _log(self, files: list[BadFile]) -> None:
        if files and self.accelerator.is_main_process:
            log_bad_files(self.run, files)

    def _train_step(
        self,
        number: int,
        stage: Stage,
        share: Share,
        batches: dict[Role, Batch],
        step_loss: nn.Module,
        optimisers: dict[Group, torch.optim.Optimizer],
    ) -> dict[str, float]:
        factor = learning_rate_factor(stage, share.step)
        for group, optimiser in optimisers.items():
            for settings in optimiser.param_groups:
                settings["lr"] = factor * stage.optimisers[group].lr
            optimiser.zero_grad()
        metrics = self._gradients(number, share, batches, step_loss)
        for group, optimiser in optimisers.items():
            parameters = list(self.model.group(group).parameters())
            norm = nn.utils.clip_grad_norm_(parameters, stage.gradient_clip)
            metrics[f"gradient_{group}"] = float(norm)
            if not math.isfinite(norm):
                raise FloatingPointError(
                    f"The gradient of '{group}' became {float(norm)} in stage {number} at step "
                    f"{share.step + 1}; lower its learning rate and resume from the last checkpoint."
                )
            optimiser.step()
            if group == "lens":
                metrics["lens_at_limit"] = float(self.model.camera.lens.pull_into_window())
        metrics["defocus_um"] = self.model.camera.lens.defocus_um()
        return metrics

    def _gradients(
        self, number: int, share: Share, batches: dict[Role, Batch], step_loss: nn.Module
    ) -> dict[str, float]:
        """Losses of the whole batch; their gradient is left in the parameters."""
        seed = generator_for(self.config.seed, number, share.step).initial_seed()
        depths = {role: draw.depths.to(self.device) for role, draw in share.draws.items()}
        pieces = self._pieces(share, batches)
        metrics: dict[str, float] = {}
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # dropout alone draws from torch's global generator
            torch.manual_seed(seed)
            for parts in pieces:
                noise = torch.Generator(self.device).manual_seed(seed)
                last = parts is pieces[-1]
                with nullcontext() if last else self.accelerator.no_sync(step_loss):
                    terms = step_loss(parts, depths, noise, len(pieces))
                    if not bool(torch.isfinite(terms["loss"])):
                        raise FloatingPointError(
                            f"The loss of stage {number} became {float(terms['loss'].detach())} at "
                            f"step {share.step + 1}; lower the learning rate of the stage and resume "
                            "from the last checkpoint."
                        )
                    terms["loss"].backward()
                for name, value in terms.items():
                    metrics[name] = metrics.get(name, 0.0) + float(value.detach())
        return metrics

    def _pieces(self, share: Share, batches: dict[Role, Batch]) -> list[dict[Role, Part]]:
        """What this process works on, one piece after the other."""
        found = {
            role: parts_of(
                batches[role].to(self.device),
                draw,
                captured=bool(self.data.training[role].captured_by),
                **self._cut,
            )
            for role, draw in share.draws.items()
        }
        count = self._settings.gradient_accumulation
        return [{role: parts[piece] for role, parts in found.items()} for piece in range(count)]

    def validate(self, number: int, step_loss: StageLoss) -> dict[str, float]:
        """What the main process measures on validation people, see validation."""
        loader = self.validation
        checked = validate(self.model, step_loss, loader, self.config, number, self.device)
        self._log(loader.take_fresh())  # every process has met the same ones
        set_trained_groups(self.model, step_loss.stage)
        return as_main(checked)

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
        done = tuple(n for n in seconds if n != number)
        progress = Progress(
            stage=number,
            step=step,
            finished=(*done, number) if finished else done,
            seconds={**seconds, number: elapsed},
        )
        if self.accelerator.is_main_process:
            save_state(self.run, self.model, optimisers, best, progress)
        self.accelerator.wait_for_everyone()  # a process that ends early would end this one
