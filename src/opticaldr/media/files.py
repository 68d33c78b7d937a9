"""Finding input files, and writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opticaldr.types import InputError

Kind = Literal["image", "video"]

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg"),
}


@dataclass(frozen=True)
class Input:
    """One file to work on, and what its suffix says it is."""

    kind: Kind
    path: Path


def shown(name: str | Path) -> str:
    """A file name as text that every terminal and JSON file takes: bytes outside UTF-8 as \\xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def kind_of(path: Path) -> Kind | None:
    """What a file's suffix says it is; None for neither an image nor a video."""
    for kind, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return kind
    return None


def find_inputs(paths: Iterable[Path]) -> list[Input]:
    """The images and videos among files and folders, in a fixed order.

    Folders are searched recursively and sorted; in them, hidden files and files of other kinds
    are passed over. A file that is named must be an image or a video.

    Raises:
        InputError: a path is missing, a folder holds no image or video, a suffix is unknown.
    """
    found: list[Input] = []
    for path in paths:
        if path.is_dir():
            inside = [Input(kind, file) for file in _visible(path) if (kind := kind_of(file))]
            if not inside:
                raise InputError(
                    f"Expected images or videos in folder {shown(path)}, found none; "
                    f"put files with one of these suffixes there: {_suffix_list()}."
                )
            found += inside
        elif not path.exists():
            raise InputError(
                f"Expected a file or folder at {shown(path)}, found nothing; check the path."
            )
        elif (kind := kind_of(path)) is None:
            raise InputError(
                f"Expected an image or a video, found {shown(path)} with suffix '{path.suffix}'; "
                f"use one of {_suffix_list()}."
            )
        else:
            found.append(Input(kind, path))
    return found


def partial_path(path: Path) -> Path:
    """Where the content of `path` is collected before it is moved there: hidden, same folder."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def cannot_write(path: Path, reason: object) -> InputError:
    """The one sentence for a full disk, a read-only folder or a missing permission."""
    return InputError(
        f"Expected to write {shown(path)}, found '{reason}'; "
        "free some space or choose a folder that can be written."
    )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to: it becomes `path` if the block succeeds and vanishes if it fails.

    Missing parent folders are made.

    Raises:
        InputError: for any OSError in the block (disk full, read-only folder, no permission).
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error.strerror or error) from None
    finally:
        with suppress(OSError):
            partial.unlink()


def _visible(folder: Path) -> list[Path]:
    """Files under a folder, sorted, without those that have a hidden part below the folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(f for f in files if not any(p[0] == "." for p in f.relative_to(folder).parts))


def _suffix_list() -> str:
    return " ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
