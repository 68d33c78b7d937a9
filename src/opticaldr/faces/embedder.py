"""A small face recogniser that trains in about a minute: for tests, and as a stand-in in the demo.

It sees sharp and mildly degraded pictures in training, so that it still says something about faces
behind a weak lens. It is no replacement for the named recognisers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opticaldr.data.faceset import FaceSet
from opticaldr.faces.alignment import cut_chip
from opticaldr.types import Embedding, InputError, Photo

_DIMENSIONS = 128
_WIDTH = 16
_BATCH = 64
_LEARNING_RATE = 3e-3
_MAX_PHOTOS = 20_000
"""Photos that are kept in memory: half of what 600 batches draw, 250 MB at 64 px."""
_MAX_BAD_SHARE = 0.05
_MARGIN, _SCALE = 0.2, 16.0  # additive cosine margin (CosFace, Wang et al. 2018), mild: few faces


class SmallEmbedder(nn.Module):
    """(b, 3, h, h) sRGB crops in [0, 1] to (b, 128) unit embeddings.

    Args:
        size: side of the chip that it looks at [px], a multiple of 16.
    """

    name = "small"
    differentiable = True

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        if size < 16 or size % 16:
            raise InputError(f"Expected a chip size that is a multiple of 16, found {size}.")
        self.size = size
        w = _WIDTH
        self.layers = nn.Sequential(
            *_stage(3, w),
            *_stage(w, 2 * w),
            _Residual(2 * w),
            *_stage(2 * w, 4 * w),
            _Residual(4 * w),
            *_stage(4 * w, 8 * w),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(8 * w * (size // 16) ** 2, _DIMENSIONS, bias=False),
            nn.BatchNorm1d(_DIMENSIONS),
        )

    def embed_chips(self, chips: Tensor) -> Embedding:
        """(b, 3, size, size) chips in [0, 1] to (b, 128)."""
        return F.normalize(self.layers((chips - 0.5) / 0.25), dim=1)

    def forward(self, photos: Photo) -> Embedding:
        return self.embed_chips(cut_chip(photos, "arcface112", size=self.size))


def train_embedder(
    faces: FaceSet,
    *,
    steps: int,
    generator: torch.Generator,
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> SmallEmbedder:
    """Trains on the people of `faces` and returns the frozen recogniser.

    Args:
        faces: aligned crops of at least two people; several images each. Of a large set the first
            people with about 20,000 photos are used; photos that cannot be read are left out, more
            than a twentieth of them is an InputError.
        steps: batches of 64; about 0.15 s each on one core at 64 px.
        generator: CPU generator of the weights, the order and the augmentation.
        progress: called with (steps done, steps).
    """
    faces = _first_people(faces)
    people = {person: number for number, person in enumerate(faces.people)}
    if len(people) < 2:
        raise InputError(
            f"{faces.name}: expected at least two people to train a recogniser, found "
            f"{len(people)}; use a larger set."
        )
    chips, seen = _readable_chips(faces, size)
    labels = torch.tensor([people[faces.records[index].person] for index in seen])
    with torch.random.fork_rng(devices=[]):
        # Layer initialisation and dropout draw from torch's global generator; lend it ours.
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        model = SmallEmbedder(size)
        centres = nn.Parameter(torch.randn(len(people), _DIMENSIONS) * 0.1)
        _fit(model, centres, chips, labels, steps, generator, progress)
    return model.eval().requires_grad_(False)


def _fit(
    model: SmallEmbedder,
    centres: nn.Parameter,
    chips: Tensor,
    labels: Tensor,
    steps: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None,
) -> None:
    optimiser = torch.optim.AdamW(
        [*model.parameters(), centres], lr=_LEARNING_RATE, weight_decay=5e-2
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps)
    model.train()
    for step in range(steps):
        chosen = torch.randint(len(labels), (_BATCH,), generator=generator)
        batch = augment(chips[chosen].float() / 255, generator)
        cosine = model.embed_chips(batch) @ F.normalize(centres, dim=1).T
        target = F.one_hot(labels[chosen], len(centres))
        loss = F.cross_entropy(_SCALE * (cosine - _MARGIN * target), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if progress:
            progress(step + 1, steps)


def augment(chips: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, shift and turn, light and colour for each chip; blur and noise for half of them.

    Args:
        chips: (b, 3, s, s) in [0, 1].
    """
    count, _, side, _ = chips.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    turn, zoom = draw(-0.15, 0.15), draw(0.9, 1.1)
    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    cosine, sine = zoom * turn.cos(), zoom * turn.sin()
    rows = [
        torch.stack([cosine * mirror, -sine, draw(-0.1, 0.1)], dim=1),
        torch.stack([sine * mirror, cosine, draw(-0.1, 0.1)], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(chips.shape), align_corners=False)
    chips = F.grid_sample(chips, grid, padding_mode="reflection", align_corners=False)
    gain = draw(0.6, 1.4, 1, 1, 1) * draw(0.85, 1.15, 3, 1, 1)
    chips = (chips - 0.5) * gain + 0.5 + draw(-0.2, 0.2, 1, 1, 1)
    # A random reduction and enlargement is a cheap blur; one strength a batch.
    small = int(torch.randint(side // 6, side, (), generator=generator))
    blurred = F.interpolate(
        chips, size=(small, small), mode="bilinear", align_corners=False, antialias=True
    )
    blurred = F.interpolate(blurred, size=(side, side), mode="bilinear", align_corners=False)
    noise = torch.randn(chips.shape, generator=generator) * draw(0, 0.05, 1, 1, 1)
    return torch.where(draw(0, 1, 1, 1, 1) < 0.5, chips, blurred + noise).clamp(0, 1)


def _first_people(faces: FaceSet) -> FaceSet:
    """The first people of a set, in order of appearance, until there are _MAX_PHOTOS."""
    if len(faces) <= _MAX_PHOTOS:
        return faces
    chosen, photos = set(), 0
    for person, count in Counter(record.person for record in faces.records).items():
        if photos >= _MAX_PHOTOS:
            break
        chosen.add(person)
        photos += count
    return faces.subset([i for i, record in enumerate(faces.records) if record.person in chosen])


def _readable_chips(faces: FaceSet, size: int) -> tuple[Tensor, list[int]]:
    """(n, 3, size, size) uint8 and the rows that they come from."""
    chips, seen, bad = [], [], 0
    for index in range(len(faces)):
        try:
            chips.append(_chip(faces, index, size))
        except InputError:
            bad += 1
            if bad > _MAX_BAD_SHARE * len(faces):
                raise
        else:
            seen.append(index)
    return torch.cat(chips), seen


def _chip(faces: FaceSet, index: int, size: int) -> Tensor:
    """(1, 3, size, size) uint8."""
    crop = torch.from_numpy(faces.image(index)).permute(2, 0, 1)[None].float()
    return cut_chip(crop, "arcface112", size=size).round().byte()


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Halves the map."""
    conv = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.PReLU(outputs)]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
