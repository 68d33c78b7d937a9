"""The command `attack`: the ladder on one camera, and the privacy card that it ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from opticaldr.errors import InputError

out = Console()
err = Console(stderr=True)


def attack(
    lens: Annotated[
        str,
        typer.Option(
            "--lens",
            help="lens.json, run folder, preset; or gaussian:W, disc:W, box:W (face widths), "
            "pixelation:N (blocks a face), psf:FILE, none.",
        ),
    ],
    data: Annotated[
        str, typer.Option("--data", help="synthetic, lfw=PATH, celeba=PATH or manifest=FILE.csv.")
    ] = "synthetic",
    tier: Annotated[
        str, typer.Option("--tier", help="smoke (minutes, no claim), standard or publication.")
    ] = "smoke",
    rungs: Annotated[
        str | None, typer.Option("--rungs", help="Such as A1,A2,A4; default: all.")
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--recogniser", help="dlib, mobilefacenet, fr_feature or FILE.onnx."),
    ] = None,
    restorer: Annotated[
        Path | None, typer.Option("--restorer", help="Restoration network FILE.onnx: adds rung A6.")
    ] = None,
    pairs: Annotated[
        str, typer.Option("--pairs", help="all mated pairs, or the set's official list.")
    ] = "all",
    read_noise: Annotated[
        float | None, typer.Option("--read-noise", help="Standard deviation, share of full scale.")
    ] = None,
    full_well: Annotated[
        float | None, typer.Option("--full-well", help="Electrons at full scale; sets shot noise.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", help="Of the converter; 0 = not rounded.")
    ] = None,
    fps: Annotated[float, typer.Option("--fps", help="Frames the camera records a second.")] = 30.0,
    depth: Annotated[
        float, typer.Option("--depth", help="Distance from lens to face in metres.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of people, pairs and noise.", min=0)] = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Folder; default: the run.")] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget the scores that are already in the folder.")
    ] = False,
) -> None:
    """Climb the attack ladder on a camera and write its privacy card.

    Example: opticaldr attack --lens runs/lfw --data lfw=lfw.tar --tier standard --out runs/lfw
    """
    from opticaldr.attack import NoiseSettings, attack_lens
    from opticaldr.cli.progress import bars
    from opticaldr.cli.tables import ladder_table

    if not 0 < depth < float("inf"):
        raise InputError(f"Expected --depth above 0 m, found {depth}; give metres, such as 1.0.")
    folder = to or (Path(lens) if Path(lens).is_dir() else None)
    if folder is None:
        raise InputError("Expected --out DIR for a lens that is not a run folder, found none.")
    if pairs not in ("all", "official"):
        raise InputError(f"Expected --pairs all or official, found '{pairs}'.")
    with bars(err, memory_s=3600) as progress:
        report = attack_lens(
            lens,
            data,
            folder,
            tier=tier,
            rungs=None if rungs is None else [name.strip().upper() for name in rungs.split(",")],
            judges=judges,
            restorer=restorer,
            official_pairs=pairs == "official",
            noise=NoiseSettings(read_noise, full_well, bits),
            frame_rate_hz=fps,
            depth_m=depth,
            seed=seed,
            restart=restart,
            on_progress=progress.on_ladder,
            on_render=progress.on_render,
        )
    if report.changed:
        out.print(f"Computed again, because these changed: {', '.join(report.changed)}.")
    out.print(ladder_table(report.card))
    out.print(f"Grade {report.card['grade']}: {report.card['wording']}", soft_wrap=True)
    out.print(f"Card: {report.page}", soft_wrap=True)
