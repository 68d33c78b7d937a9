"""Progress bars with an estimate of the time left; silent where no one is watching."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from opticaldr.config import Config, Stage


class Bars:
    """One bar per task, made at the first report about it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Moves the bar of `what`."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def on_render(self, done: int, total: int) -> None:
        """Moves the bar of the renderer; it starts again for every set."""
        self.on_progress("rendering synthetic people", done, total)

    def on_ladder(self, what: str, done: int, total: int) -> None:
        """One bar for the ladder, and one that the steps of its rungs share."""
        if what == "ladder":
            self.on_progress(what, done, total)
            return
        shared = "step of the ladder"
        self.on_progress(shared, done, total)
        self._progress.update(self._tasks[shared], description=what)

    def on_step(self, number: int, stage: Stage, done: int, metrics: dict[str, float]) -> None:
        """Moves the bar of a training stage and shows its loss."""
        what = f"stage {number}: {stage.title}"
        self.on_progress(what, done, stage.steps)
        label = f"{what}, loss {metrics['loss']:.3f}"
        self._progress.update(self._tasks[what], description=label)


@contextmanager
def bars(console: Console, *, memory_s: float = 30, quiet: bool = False) -> Iterator[Bars]:
    """A set of bars that lives as long as the block.

    memory_s: the time left is estimated from the progress of the last so many seconds.
    quiet: never shown, as on all but one of several processes.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    shown = Progress(
        *columns,
        console=console,
        speed_estimate_period=memory_s,
        disable=quiet or not console.is_terminal,
    )
    with shown as progress:
        yield Bars(progress)


def stage_numbers(text: str, config: Config) -> list[int]:
    """ "1,2,4" as stage numbers in ascending order."""
    from opticaldr.types import InputError

    known = config.stages.numbered()
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = [0]
    if not set(numbers) <= set(known):
        raise InputError(f"Expected --stages such as 1,2,3,4, found '{text}'.")
    return numbers
