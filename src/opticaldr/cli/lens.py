"""The `lens` commands: everything that is done with one lens and no faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

lens = typer.Typer(no_args_is_help=True, help="Pictures, checks and workshop files of one lens.")
out = Console()
err = Console(stderr=True)

Source = Annotated[str, typer.Argument(metavar="LENS", help="lens.json, run folder or preset.")]


@lens.command()
def export(
    source: Source,
    to: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    formats: Annotated[
        str,
        typer.Option("--formats", help="all, or out of csv,npy,zernike,grid-sag,prescription,stl."),
    ] = "all",
    diameter: Annotated[
        float | None, typer.Option("--diameter-mm", help="Outer diameter; this or --rim-mm.")
    ] = None,
    thickness: Annotated[
        float, typer.Option("--thickness-mm", help="From the flat back to zero sag.")
    ] = 2.0,
    rim: Annotated[
        float | None, typer.Option("--rim-mm", help="Flat ring around the lens; default 1.")
    ] = None,
    step: Annotated[float, typer.Option("--step-um", help="Pitch of samples and facets.")] = 20.0,
) -> None:
    """Write the files from which a workshop makes the plate, and plate.json about them.

    Example: opticaldr lens export runs/lfw --out plate --diameter-mm 12.7
    """
    from opticaldr.camera import load_camera
    from opticaldr.workshop import export_plate

    plate = export_plate(
        load_camera(source),
        to,
        formats=None if formats == "all" else tuple(f.strip() for f in formats.split(",")),
        diameter_m=None if diameter is None else 1e-3 * diameter,
        thickness_m=1e-3 * thickness,
        rim_m=None if rim is None else 1e-3 * rim,
        step_m=1e-6 * step,
    )
    out.print(
        f"Plate of {plate['diameter_mm']:.3f} mm, sag {plate['sag_peak_to_valley_um']:.1f} um, "
        f"slope {plate['largest_slope_deg']:.2f} degrees, "
        f"STL right to {plate['sampling']['stl_facet_error_nm']:.1f} nm\n"
        f"{len(plate['files'])} files and plate.json: {to}",
        markup=False,
        soft_wrap=True,
    )


@lens.command()
def show(
    source: Source,
    to: Annotated[Path, typer.Option("--out", help="A page (FILE.html) or a folder.")],
) -> None:
    """Pictures and figures: surface, blur by distance and colour, what can be recovered.

    Example: opticaldr lens show focused --out focused.html
    """
    import math

    from opticaldr.camera import load_camera
    from opticaldr.cli.progress import bars
    from opticaldr.lens_page import check_writable, page_of, write_show
    from opticaldr.lens_view import FRAMES, view_lens

    camera = load_camera(source)
    check_writable(page_of(to, "lens.html").parent)
    with bars(err) as progress:
        view = view_lens(camera, on_progress=progress.on_progress)
    page = write_show(view, camera, source, to)
    first, *more = (f"{n:,}" for n in FRAMES)
    table = Table(
        "distance", f"k*, {first} frame", *(f"{n} frames" for n in more), "Strehl R / G / B"
    )
    for row, depth in enumerate(view.depths):
        strehl = " / ".join(f"{value:.3f}" for value in view.strehl[row].tolist())
        table.add_row(f"{depth:.2f} m", *(str(view.bands[n][row]) for n in FRAMES), strehl)
    out.print(table)
    distance, bands = view.best_distance
    there = f"at {distance:.2f} m" if math.isfinite(distance) else "far away"
    corner = math.degrees(view.field.angles[-1])
    share = float(view.field.misplaced[-1].max())
    out.print(
        "k*: finest detail of a face that comes back, in cycles per face; people recognise faces by "
        f"8 to 16. One frame is sharpest {there}: k* {bands[0]}.\n"
        f"Corner of the field ({corner:.1f} degrees) at {view.field.depth:.2f} m: {share:.1%} of the "
        f"light lands elsewhere than on the axis; k* {view.field.bands[-1]}, on the axis "
        f"{view.field.bands[0]}.\nPage: {page}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@lens.command()
def check(
    source: Source,
    engine: Annotated[
        str, typer.Option("--engine", help="direct or two_fft; default: the lens's own.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Audit the sampling: exit code 1 if the simulation computes its grid and not the lens.

    Example: opticaldr lens check literal --engine two_fft
    """
    import json
    import math
    from dataclasses import asdict

    from opticaldr.camera import load_camera
    from opticaldr.cli.progress import bars
    from opticaldr.optics.audit import audit, summary

    camera = load_camera(source)
    config = camera.lens.config
    with bars(err) as progress:
        checks = audit(
            camera.lens.coefficients,
            camera.lens.system,
            engine=engine or config.engine,
            depth_range_m=config.depth_range_m,
            max_window=config.max_window,
            on_progress=progress.on_progress,
        )
    passed = all(line.passed for line in checks)
    if as_json:
        rows = [asdict(line) | {"passed": line.passed} for line in checks]
        for row in rows:  # JSON knows no NaN
            row["value"] = row["value"] if math.isfinite(row["value"]) else None
        typer.echo(json.dumps({"passed": passed, "checks": rows}, indent=2))
    else:
        table = Table("", "check", "value", "limit", "reason")
        for line in checks:
            mark = "[green]pass" if line.passed else "[red]fail"
            table.add_row(mark, line.name, f"{line.value:.3g}", f"{line.limit:g}", line.reason)
        out.print(table)
        out.print(summary(checks))
    if not passed:
        raise typer.Exit(1)


@lens.command()
def tolerance(
    source: Source,
    to: Annotated[Path, typer.Option("--out", help="Folder for tolerance.json and .html.")],
    draws: Annotated[int, typer.Option("--draws", help="Cameras to build.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    people: Annotated[
        int,
        typer.Option("--people", help="Rendered recordings to score if LENS is a run; 0: none."),
    ] = 12,
    sag: Annotated[float, typer.Option("--sag-nm", help="Height noise, plus or minus.")] = 20.0,
    length: Annotated[float, typer.Option("--sag-length-mm", help="Its correlation.")] = 0.2,
    scale: Annotated[float, typer.Option("--scale-percent", help="Of the surface.")] = 0.1,
    tilt: Annotated[float, typer.Option("--tilt-deg")] = 0.25,
    decentre: Annotated[float, typer.Option("--decentre-um")] = 25.0,
    index: Annotated[float, typer.Option("--index", help="Refractive index.")] = 1e-3,
    sensor: Annotated[float, typer.Option("--sensor-um", help="Lens to sensor.")] = 50.0,
    depth: Annotated[float, typer.Option("--depth-percent", help="Distance of the face.")] = 5.0,
    wavelength: Annotated[float, typer.Option("--wavelength-nm")] = 5.0,
) -> None:
    """Build cameras with random errors and measure what they do to privacy and to the scores.

    Example: opticaldr lens tolerance demo-run --out demo-run/tolerance --draws 200
    """
    import math

    from opticaldr.camera import load_camera
    from opticaldr.cli.progress import bars
    from opticaldr.lens_page import EFFECTS, check_writable, write_tolerance
    from opticaldr.optics.manufacture import Errors
    from opticaldr.robustness import tolerance_of

    camera = load_camera(source)
    errors = Errors(
        sag_m=1e-9 * sag,
        sag_length_m=1e-3 * length,
        sag_scale=1e-2 * scale,
        tilt_rad=math.radians(tilt),
        decentre_m=1e-6 * decentre,
        index=index,
        sensor_m=1e-6 * sensor,
        depth=1e-2 * depth,
        wavelength_m=1e-9 * wavelength,
    )
    check_writable(to)
    with bars(err) as progress:
        result = tolerance_of(
            camera,
            errors,
            draws=draws,
            seed=seed,
            run=Path(source) if (Path(source) / "weights.safetensors").exists() else None,
            people=people,
            on_progress=progress.on_progress,
        )
    page = write_tolerance(result, source, to)
    table = Table("all errors together", "as drawn", "mean", "5 %", "median", "95 %")
    for name, row in result["summary"].items():
        table.add_row(EFFECTS[name], *(f"{value:.3g}" for value in row.values()))
    out.print(table)
    out.print(_alone_table(result))
    out.print(
        f"Effect on the task: {result['task']}.\n{draws} cameras, seed {seed}. Page: {page}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _alone_table(result: dict[str, Any]) -> Table:
    """Each error alone, the worse of its two ends."""
    from opticaldr.lens_page import error_in_words
    from opticaldr.optics.tolerance import FRAMES

    scored = ("score change",) if "score_change" in result["nominal"] else ()
    table = Table("each error alone", "k* 1 / 30 / 1,800", "SNR dB", "misplaced", *scored)
    rows = {"none": result["nominal"]} | {
        error_in_words(name, result["errors"][name]): found
        for name, found in result["alone"].items()
    }
    for words, found in rows.items():
        bands = " / ".join(f"{found[f'band_{n}']:.0f}" for n in FRAMES)
        cells = [words, bands, f"{found['band_snr_db']:.2f}", f"{found['misplaced']:.3f}"]
        table.add_row(*cells, *(f"{found['score_change']:.2f}" for _ in scored))
    return table
