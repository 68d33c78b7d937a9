"""One reading of the test set of a run: scores, figures, and a record that it was read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opticaldr.camera import describe_camera
from opticaldr.config import Config, Protocol, load_config
from opticaldr.data.faceset import FaceSet
from opticaldr.data.sources import Sources
from opticaldr.depression_report import depression_results
from opticaldr.evaluate import score_recordings, session_labels
from opticaldr.model import load_model
from opticaldr.results import read_json, update_results
from opticaldr.types import InputError

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being done, items done, items in all)."""


def evaluate_run(
    run: Path,
    sources: Sources,
    *,
    protocol: Protocol | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Scores the test recordings, updates "depression" in results.json and records the reading.

    Args:
        run: folder of a trained run.
        sources: the data, split by the run's protocol.
        protocol: must be the one that the run was trained under; None = that one.
        on_progress: called after each recording.

    Raises:
        InputError: no test recordings, another protocol, or people or recordings of the test set
            that the protocol says training never saw, but did.
    """
    refuse_other_protocol(run, protocol)
    config = load_config(run)
    if sources.test is None or "recordings" not in sources.training:
        raise InputError(
            "Expected recordings with BDI-II labels in a train and a test split, found none; "
            "use --data synthetic or --data manifest=FILE.csv."
        )
    if sources.protocol not in (None, config.protocol):
        raise InputError(
            f"Expected data split by '{config.protocol}', as this run was trained, found data split "
            f"by '{sources.protocol}'; open it with the configuration of the run."
        )
    known = [sources.training["recordings"]]
    known += [sources.validation["recordings"]] if "recordings" in sources.validation else []
    for faces in known:
        _refuse_overlap(faces, sources.test, config)
    model = load_model(run)

    def report(done: int, total: int) -> None:
        if on_progress:
            on_progress("scoring test recordings", done, total)

    scores = score_recordings(model, sources.test, seed=config.seed, on_recording=report)
    calibration = run / "calibration.json"
    found = depression_results(
        scores,
        train=session_labels(known[0]),
        dev=[label for faces in known[1:] for label in session_labels(faces)],
        protocol=config.protocol,
        seen_people=sources.seen_people | _seen_people(sources.test, known),
        group_names=sources.test.group_names,
        calibration=read_json(calibration) if calibration.exists() else None,
    )
    depression = {
        **found,
        "data": sources.test.name,
        "cue_gain": config.synthetic.cue_gain if sources.test.synthetic else 1.0,
    }
    update_results(
        run,
        depression=depression,
        synthetic=sources.test.synthetic,
        seed=config.seed,
        lens={"sha256": describe_camera(model.camera)["sha256"]},
        test_readings=_with_this_reading(run, config.protocol, sources.test.name),
    )
    return depression


def refuse_other_protocol(run: Path, protocol: str | None) -> None:
    """InputError if a run would be tested under another protocol than it was trained under."""
    trained = load_config(run).protocol
    if protocol not in (None, trained):
        raise InputError(
            f"Expected the protocol that {run} was trained under ('{trained}'), found "
            f"'{protocol}': it splits people in another way, so this network may have learned from "
            f"what it would be tested on; train again with --set protocol={protocol}."
        )


def _refuse_overlap(known: FaceSet, test: FaceSet, config: Config) -> None:
    """InputError if the test set shares recordings with another, or people under subject-disjoint."""
    shared = {r.recording for r in known.records} & {r.recording for r in test.records}
    if shared:
        raise InputError(
            f"Expected test recordings that are in no other split, found {len(shared)} that are "
            f"(such as '{min(shared)}'); dev and test must never be pooled: correct the splits."
        )
    people = set(known.people) & set(test.people)
    if people and config.protocol == "subject-disjoint":
        raise InputError(
            f"Expected test people that occur in no other split under 'subject-disjoint', found "
            f"{len(people)} that do (such as '{min(people)}'); split by person, or train and "
            "evaluate with --set protocol=official-dev."
        )


def _seen_people(test: FaceSet, known: list[FaceSet]) -> frozenset[str]:
    """Test people whom training or selection saw."""
    return frozenset(test.people) & {person for faces in known for person in faces.people}


def _with_this_reading(run: Path, protocol: str, data: str) -> list[dict[str, Any]]:
    """All readings of test sets by this run, this one last; count: readings of this set so far."""
    path = run / "results.json"
    before = read_json(path).get("test_readings", []) if path.exists() else []
    count = 1 + sum((row["data"], row["protocol"]) == (data, protocol) for row in before)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return [*before, {"date": date, "protocol": protocol, "data": data, "count": count}]
