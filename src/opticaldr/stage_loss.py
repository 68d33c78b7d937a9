"""Camera, network and losses of one stage in one forward call: what Accelerate distributes.

A batch may be worked on in parts, by several processes at once and in several pieces one after the
other. Processes gather their outputs, so each computes the loss of all rows of a piece; pieces add
up to the loss of the whole batch where it is a mean over rows or recordings (docs/scale.md).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from opticaldr import losses
from opticaldr.config import LossConfig, Role, Stage
from opticaldr.model import OpticalDR
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.parallel import gather_rows
from opticaldr.parts import Part, rated_recordings
from opticaldr.theory_losses import Appearance, spectral_losses, wanted_terms
from opticaldr.types import Capture, InputError, Recogniser


class StageLoss(nn.Module):
    """Camera, network and losses of one stage.

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
        self,
        parts: dict[Role, Part],
        depths: dict[Role, Tensor],
        generator: torch.Generator,
        pieces: int = 1,
    ) -> dict[str, Tensor]:
        """Named losses and their weighted sum "loss"; over all `pieces` they add up to the batch's.

        depths: of the whole batch [m].
        """
        terms: dict[str, Tensor] = {}
        for role, part in parts.items():
            terms.update(self._task_terms(role, part, depths[role], generator))
        if "lens" in self.stage.optimisers:
            lens = self.model.camera.lens
            own = {**lens.penalties(self.weights), **self._left_to_attackers(depths)}
            terms.update({name: value / pieces for name, value in own.items()})
        weighted = [getattr(self.weights, name) * value for name, value in terms.items()]
        return {**terms, "loss": torch.stack(weighted).sum()}

    def _task_terms(
        self, role: Role, part: Part, depths: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        stage, labels, terms = self.stage, part.labels, {}
        capture = self.capture(part, depths, generator)
        order = (part.rows.group, part.rows.time_s) if role == "recordings" else (None, None)
        prediction = self.model.network(capture, *order)
        gather = partial(gather_rows, counts=part.counts)
        if role == "recordings":
            severity = gather(prediction.severity)
            loss = losses.depression_loss(severity, labels.severity, labels.group)
            terms["depression"] = part.share(rated_recordings) * loss
        if "emotion" in stage.losses:
            loss = losses.emotion_loss(gather(prediction.emotion), labels.emotion)
            terms["emotion"] = part.share(lambda batch: batch.emotion >= 0) * loss
        if role == "faces" and "utility" in stage.losses:
            attributes = losses.attribute_loss(gather(prediction.attributes), labels.attributes)
            points = losses.landmark_loss(gather(prediction.landmarks), labels.landmarks)
            attributes = part.share(lambda batch: ~batch.attributes.isnan()) * attributes
            points = part.share(lambda batch: ~batch.landmarks.isnan()) * points
            terms["utility"] = attributes + self.weights.landmarks * points
        if role == "faces" and "identity" in stage.losses:
            with torch.no_grad():
                clean = gather(self.surrogate(part.rows.photos))
            seen = losses.stretch_contrast(linear_to_srgb(capture))
            loss = losses.identity_loss(
                clean,
                gather(self.surrogate(seen)),
                labels.group,
                margin=self.weights.identity_margin,
                verification=self.weights.verification,
            )
            terms["identity"] = part.share(lambda batch: batch.group >= 0) * loss
        return terms

    def capture(self, part: Part, depths: Tensor, generator: torch.Generator) -> Capture:
        """What the camera stores of the rows of a part; depths [m] are those of the whole batch."""
        scene = srgb_to_linear(part.rows.photos)
        if part.captured:
            return scene
        camera, first, total = self.model.camera, part.first, len(depths)
        irradiance = camera.lens(scene, depths[first : first + len(scene)])
        return camera.sensor(irradiance, generator=generator, first=first, total=total)

    def _left_to_attackers(self, depths: dict[Role, Tensor]) -> dict[str, Tensor]:
        """Losses from the theory that have a weight, at the distances of the whole batch."""
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
