"""What a stage is judged by while it trains: losses, verification AUC and dev MAE.

Every process does all of it: the numbers do not depend on how many there are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from opticaldr import losses
from opticaldr.config import Config, Role, Stage
from opticaldr.data.draws import draw_step
from opticaldr.data.loading import Loader, Share
from opticaldr.evaluate import score_recordings
from opticaldr.model import OpticalDR
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.parts import Part
from opticaldr.seeds import generator_for
from opticaldr.stage_loss import StageLoss

BATCHES = 4
"""Fixed validation batches per check."""


@torch.no_grad()
def validate(
    model: OpticalDR,
    step_loss: StageLoss,
    loader: Loader,
    config: Config,
    number: int,
    device: torch.device,
) -> dict[str, float]:
    """Losses on fixed validation batches, verification AUC and dev MAE where they apply.

    "selection" is what the best checkpoint minimises: dev MAE for stages with a depression
    loss, else the loss; a checkpoint above stage.max_val_auc comes after all others. The model is
    left in evaluation mode. number: of the stage.
    """
    stage = step_loss.stage
    model.eval()
    sums: dict[str, list[float]] = {}
    for index in range(BATCHES):
        generator = generator_for(config.seed, number, "validation", index)
        for name, value in step_loss(*_batch(loader, stage, config, generator, device)).items():
            sums.setdefault(name, []).append(float(value))
    metrics = {name: float(np.mean(values)) for name, values in sums.items()}
    metrics["selection"] = metrics["loss"]
    if "depression" in stage.losses:
        scores = score_recordings(model, loader.sets["recordings"].faces, seed=config.seed)
        errors = [abs(row.score - row.label) for row in scores]
        metrics["mae"] = metrics["selection"] = float(np.mean(errors))
    if "identity" in stage.losses:
        generator = generator_for(config.seed, number, "auc")
        faces = stage.model_copy(update={"data": ("faces",), "groups_per_batch": 64})
        parts, depths, noise = _batch(loader, faces, config, generator, device)
        capture = step_loss.capture(parts["faces"], depths["faces"], noise)
        embeddings = step_loss.surrogate(losses.stretch_contrast(linear_to_srgb(capture)))
        metrics["auc"] = _verification_auc(embeddings, parts["faces"].rows.group)
        if metrics["auc"] > stage.max_val_auc:
            metrics["selection"] += 1e3 * (metrics["auc"] - stage.max_val_auc)
    return metrics


def _batch(
    loader: Loader,
    stage: Stage,
    config: Config,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[dict[Role, Part], dict[Role, Tensor], torch.Generator]:
    """Parts, depths and noise of a validation batch, the whole of it on every process."""
    draws = draw_step(loader.sets, stage, config, generator=generator)
    rows = {role: range(len(draw.groups)) for role, draw in draws.items()}
    parts = {
        role: Part.all_of(batch.to(device), captured=bool(loader.sets[role].faces.captured_by))
        for role, batch in loader.load(Share(0, draws, rows)).items()
    }
    depths = {role: draw.depths.to(device) for role, draw in draws.items()}
    return parts, depths, torch.Generator(device).manual_seed(generator.initial_seed())


def _verification_auc(embeddings: Tensor, people: Tensor) -> float:
    """AUC of the surrogate on captured faces, all pairs of one fixed draw."""
    from sklearn.metrics import roc_auc_score

    upper = torch.triu_indices(len(embeddings), len(embeddings), offset=1)
    same = (people[upper[0]] == people[upper[1]]).cpu().numpy()
    cosine = (embeddings @ embeddings.T)[upper[0], upper[1]].cpu().numpy()
    return float(roc_auc_score(same, cosine)) if 0 < same.sum() < len(same) else 0.5
