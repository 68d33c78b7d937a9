"""`opticaldr data index`: finds the faces of a set of videos once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from opticaldr.errors import InputError

out = Console()
err = Console(stderr=True)


def index(
    spec: Annotated[
        str, typer.Argument(metavar="NAME=PATH", help="avec2013, avec2014, or videos=FOLDER.")
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder of the index.")],
    through: Annotated[
        str | None,
        typer.Option("--through", help="Store captures of this lens (lens.json, run, preset)."),
    ] = None,
    crops: Annotated[bool, typer.Option("--crops", help="Store clear aligned faces.")] = False,
    step_s: Annotated[float, typer.Option("--step", help="Time between frames in seconds.")] = 0.2,
    detect_every: Annotated[
        int, typer.Option("--detect-every", help="Look for faces in every so-many-th.", min=1)
    ] = 5,
    min_valid: Annotated[
        int, typer.Option("--min-valid", help="Fewest frames with a face.", min=1)
    ] = 10,
    depth: Annotated[
        float, typer.Option("--depth", help="Distance from lens to face in metres, with --through.")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the sensor's noise, with --through.", min=0)
    ] = 0,
) -> None:
    """Find and align the faces of videos once; write the manifest that training streams from.

    The videos stay as they are, and no face is stored. With --through, what a camera records of the
    faces is stored and the manifest lists that: the videos are no longer needed.

    Example: opticaldr data index avec2014=/data/avec2014 --out index --through runs/lens
    """
    from opticaldr.camera import load_camera
    from opticaldr.capture import FaceRecorder
    from opticaldr.cli.progress import bars
    from opticaldr.data.index import Note, index_recordings
    from opticaldr.data.rendered import is_rendered, mark
    from opticaldr.faces.detection import DlibDetector

    if not 0 < step_s < float("inf"):
        raise InputError(f"Expected --step above 0 s, found {step_s}; such as 0.2.")
    if not 0 < depth < float("inf"):
        raise InputError(f"Expected --depth above 0 m, found {depth}; give metres, such as 1.0.")
    recordings, left_out = _recordings(spec)
    recorder = FaceRecorder(load_camera(through), depth_m=depth, seed=seed) if through else None
    if recorder and recorder.is_sharp:
        err.print(
            f"Careful: the lens {through} is nearly in focus at {depth:g} m, so its captures are "
            "clear faces. Choose a trained lens or another --depth.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    with bars(err, memory_s=600) as progress:
        report = index_recordings(
            recordings,
            to,
            detector=DlibDetector(),
            step_s=step_s,
            detect_every=detect_every,
            through=recorder,
            crops=crops,
            min_valid=min_valid,
            on_progress=progress.on_progress,
        )
    if any(is_rendered(recording.path) for recording in recordings):
        mark(to)

    def say(mark: str, note: Note) -> None:
        err.print(f"{mark} {note.recording}: {note.reason}", markup=False, soft_wrap=True)

    for reason, items in left_out.items():
        err.print(f"not indexed ({reason}): {', '.join(items)}", markup=False, soft_wrap=True)
    for note in report.flags:
        say("flagged", note)
    for note in report.errors:
        say("left out", note)
    out.print(
        f"Indexed {report.used} of {len(recordings)} recordings, {report.rows} frames "
        f"({report.reused} recordings were done before): {report.manifest}\n"
        f"Next: opticaldr train --data manifest={report.manifest} ...",
        markup=False,
        soft_wrap=True,
    )


def _recordings(spec: str) -> tuple[list, dict[str, tuple[str, ...]]]:
    """The recordings that NAME=PATH names, and what cannot be used, by reason."""
    from opticaldr.data.avec import find_recordings, scan
    from opticaldr.data.index import recordings_in_folder

    name, _, path = spec.partition("=")
    if name == "videos" and path:
        return recordings_in_folder(Path(path)), {}
    if name in ("avec2013", "avec2014") and path:
        return find_recordings(Path(path), name), scan(Path(path), name).left_out
    raise InputError(
        "Expected NAME=PATH with NAME one of avec2013, avec2014, videos, found "
        f"'{spec}'; videos=FOLDER takes any videos."
    )
