"""The command `attack` from end to end: a camera and people in, the ladder, a privacy card out.

The folder keeps raw scores (scores/), privacy_card.json and its page; a stopped attack goes on with
the same command. The attacks themselves live in privacy/ and borrow nothing from the camera's code.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from opticaldr import __version__
from opticaldr.attackable import open_camera
from opticaldr.camera import load_camera
from opticaldr.card_drawings import drawings
from opticaldr.card_page import write_card_page
from opticaldr.config import PRESETS
from opticaldr.data.attack_set import AttackSet, OnRender, Sizes, open_attack
from opticaldr.experiment import (
    ATTACK_DEPTH_M,
    BESIDE,
    attack_rows,
    available_judges,
    open_judges,
    target_label,
    untrained_targets,
    update_attacks,
)
from opticaldr.privacy.arena import Arena, RungFn
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.card import build_card
from opticaldr.privacy.certify import certify
from opticaldr.privacy.evidence import OnProgress
from opticaldr.privacy.ladder import RUNGS, Ladder, climb, open_rungs
from opticaldr.privacy.ledger import Ledger, open_ledger, settings_of
from opticaldr.privacy.rungs.generative import generative, load_restorer
from opticaldr.privacy.tiers import TIERS, Tier
from opticaldr.results import read_json, write_json
from opticaldr.types import InputError, Recogniser

CERTIFIED_IMAGES, CERTIFIED_BYTES = 2000, 800 * 10**6
"""Images of either side that a certificate rests on, at most, and what their captures may take:
2,000 need 400 MB at 128 px; 800 MB hold 1,017 at 256 px."""
PLAIN_PIXELS, SMOKE_PIXELS = 128, 64
"""Side of the scene [px] where no lens sets it, and the most that the smoke tier uses."""

PACKAGES = ("opticaldr", "torch", "numpy", "scipy", "scikit-learn")
"""Whose versions the card names."""


@dataclass(frozen=True)
class NoiseSettings:
    """What replaces the camera's own noise law, see privacy.cameras.NoiseLaw; None keeps it."""

    read_noise: float | None = None
    full_well_e: float | None = None
    bits: int | None = None


@dataclass(frozen=True)
class AttackReport:
    """What an attack left. changed: settings because of which earlier scores were not reused."""

    card: dict[str, Any]
    page: Path
    changed: tuple[str, ...]


def attack_lens(
    lens: str,
    data: str,
    folder: Path,
    *,
    tier: str = "smoke",
    rungs: Sequence[str] | None = None,
    judges: Sequence[str] | None = None,
    restorer: Path | None = None,
    official_pairs: bool = False,
    noise: NoiseSettings = NoiseSettings(),
    frame_rate_hz: float = 30.0,
    depth_m: float = 1.0,
    seed: int = 0,
    restart: bool = False,
    on_progress: OnProgress,
    on_render: OnRender | None = None,
) -> AttackReport:
    """Climbs the ladder on one camera and leaves its privacy card in `folder`.

    Args:
        lens: of open_camera: run folder, lens.json, preset or plain camera.
        data: of open_attack: synthetic, lfw=PATH, celeba=PATH or manifest=FILE.csv.
        rungs: names; None = all, A6 only with a restorer.
        judges: recognisers; None = dlib in the smoke tier, all that are installed in the others.
        restorer: .onnx of a restoration network for rung A6.
    """
    sizes = _tier(tier)
    chosen = _rungs(rungs, restorer)
    camera, size = _open(lens, sizes, noise, frame_rate_hz, depth_m)
    recognisers = _judges(judges, camera, sizes)
    found = open_attack(
        data,
        Sizes(sizes.people, sizes.photos, sizes.nonmated, sizes.attacker_images),
        image_size=size,
        seed=seed,
        official_pairs=official_pairs,
        on_render=on_render,
    )
    arena = Arena(
        camera=camera,
        faces=found.faces,
        test=found.test,
        attacker=found.attacker,
        judges=tuple(recognisers),
        scene_size=size,
        seed=seed,
        tier=sizes,
    )
    digest = hashlib.sha256(restorer.read_bytes()).hexdigest() if restorer else ""
    settings = settings_of(arena, version=__version__, restorer=digest)
    ledger = open_ledger(folder / "scores", settings, restart=restart)
    ladder = climb(arena, chosen, ledger=ledger, progress=on_progress)
    card = build_card(
        camera=camera,
        tier=sizes,
        rows=ladder.rows,
        controls={"thumbnails": ladder.thumbnails, "ceiling": ladder.ceiling},
        certificate=_certificate(arena, ladder, ledger, on_progress),
        data=_data(found, trained=bool(camera.trained_against)),
        versions={name: version(name) for name in PACKAGES},
        seed=seed,
        not_tested=ladder.untested,
        today=datetime.date.today(),
    )
    write_json(folder / "privacy_card.json", card)
    page = write_card_page(card, folder, **drawings(card, arena, ledger))
    if (folder / "config.toml").exists() and Path(lens).resolve() == folder.resolve():
        _update_run(folder, lens, arena, ladder, on_progress)
    return AttackReport(card, page, ledger.changed)


def _tier(name: str) -> Tier:
    if name not in TIERS:
        raise InputError(f"Expected --tier {', '.join(TIERS)}, found '{name}'.")
    return TIERS[name]


def _rungs(names: Sequence[str] | None, restorer: Path | None) -> dict[str, RungFn]:
    """The rungs to climb, in the order of the ladder."""
    known = [*RUNGS, "A6"]
    wanted = set(known if names is None else names)
    if restorer is None and names is None:
        wanted.remove("A6")
    if not wanted <= set(known) or not wanted:
        raise InputError(
            f"Expected --rungs out of {', '.join(sorted(known))}, found '{','.join(names or ())}'."
        )
    if "A6" in wanted and restorer is None:
        raise InputError(
            "Expected --restorer FILE.onnx for rung A6, found none; give one or leave A6 out."
        )
    if restorer is not None and "A6" not in wanted:
        raise InputError("Expected rung A6 with --restorer, found it left out; add A6 to --rungs.")
    found = open_rungs(wanted)
    if restorer is not None:
        found["A6"] = generative(load_restorer(restorer), restorer.stem)
    return dict(sorted(found.items()))


def _open(
    lens: str, tier: Tier, noise: NoiseSettings, frame_rate_hz: float, depth_m: float
) -> tuple[CameraUnderAttack, int]:
    """The camera and the side of its scene [px]: a lens's own sensor, less in the smoke tier."""
    settings = {**asdict(noise), "frame_rate_hz": frame_rate_hz, "depth_m": depth_m}
    most = SMOKE_PIXELS if tier.name == "smoke" else None
    if lens in PRESETS or Path(lens).exists():
        own = load_camera(lens).lens.config.sensor_pixels
        pixels = min(own, most or own)
    else:
        pixels = most or PLAIN_PIXELS
    return open_camera(lens, pixels=pixels, **settings), pixels


def _judges(names: Sequence[str] | None, camera: CameraUnderAttack, tier: Tier) -> list[Recogniser]:
    """The recognisers named, else those installed here; the smoke tier takes the first."""
    if names is None:
        names = available_judges(camera.trained_against)[: 1 if tier.name == "smoke" else None]
    return open_judges(list(names), camera.trained_against)


def _certificate(
    arena: Arena, ladder: Ladder, ledger: Ledger, on_progress: OnProgress
) -> dict[str, Any]:
    """Every bound on the camera, once per ledger."""
    kept = ledger.rows("certificate")
    if kept is None:
        started = time.perf_counter()
        upper = {
            int(side): max(figure["ci95"][1], 1 - figure["ci95"][0])
            for side, figure in ladder.thumbnails.items()
        }
        most = min(CERTIFIED_IMAGES, CERTIFIED_BYTES // (4 * 3 * arena.scene_size**2))
        found = certify(
            arena.camera,
            arena.faces,
            arena.attacker[:most],
            arena.test.images[:most],
            scene_size=arena.scene_size,
            seed=arena.seed,
            frames=arena.tier.frames,
            thumbnail_auc=upper,
            progress=on_progress,
        )
        kept = [found]
        seconds = time.perf_counter() - started
        ledger.keep("certificate", [], kept, strength=1.0, seconds=seconds)
    return kept[0]


def _data(found: AttackSet, *, trained: bool) -> dict[str, Any]:
    """What the card says about the people; an untrained camera has seen nobody."""
    return {
        "set": found.faces.name,
        "synthetic": found.faces.synthetic,
        "ids": {
            "lens": found.lens_people if trained else 0,
            "attacker": found.people(found.attacker),
            "test": found.people(found.test.images),
        },
        "images": {"attacker": len(found.attacker), "test": len(found.test.images)},
        "pairs": len(found.test),
        "mated": int(found.test.same.sum()),
        "pair_sha256": found.test.sha256,
        "sessions_disjoint": found.sessions_disjoint,
        "notes": list(found.notes),
    }


def _update_run(
    run: Path, lens: str, arena: Arena, ladder: Ladder, on_progress: OnProgress
) -> None:
    """Rows A1 and A2 of results.json: this camera's from the ladder, untrained presets beside it."""
    camera = arena.camera
    rows = [
        row
        for judge in arena.judges
        for row in _result_rows(
            ladder, judge.name, arena, target_label(lens, camera.trained_against)
        )
    ]
    if not rows:
        return
    rows += attack_rows(
        untrained_targets(BESIDE, pixels=arena.scene_size, but=lens),
        arena.faces,
        arena.test,
        rungs=["A1", "A2"],
        judges=list(arena.judges),
        seed=arena.seed,
        bootstrap=arena.tier.bootstrap,
        depth_m=camera.depth_m or ATTACK_DEPTH_M,
        on_progress=on_progress,
    )
    update_attacks(
        run,
        rows,
        synthetic=arena.faces.synthetic,
        seed=arena.seed,
        sha256=read_json(run / "lens.json")["sha256"],
    )


def _result_rows(ladder: Ladder, judge: str, arena: Arena, lens: str) -> list[dict[str, Any]]:
    variants = {("A1", judge), ("A2", f"captured gallery, {judge}")}
    return [
        {
            "rung": row["rung"],
            "recogniser": judge,
            "lens": lens,
            "clean_auc": ladder.ceiling[judge],
            "captured_auc": row["auc"],
            **{
                f"leak_ratio_{rate}": figure
                for rate, figure in row["leak_ratio"].items()
                if figure is not None
            },
            "permuted_auc": row["permuted_auc"],
            "pairs": row["pairs"],
            "people": row["people"],
            "pair_sha256": arena.test.sha256,
            "data": arena.faces.name,
        }
        for row in ladder.rows
        if (row["rung"], row["variant"]) in variants
    ]
