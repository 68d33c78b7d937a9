"""Writing safetensors files: whole or not at all, and one sentence if the disk is full."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from opticaldr.errors import InputError


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors so that a reader sees the old file or the new one, never half of one."""
    partial = path.with_name(path.name + ".partial")
    contents = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(contents, partial, metadata)
    except SafetensorError as error:  # it hides the OSError of a full disk
        partial.unlink(missing_ok=True)
        raise InputError(
            f"Expected to write {path}, found '{error}'; free some space or choose another folder."
        ) from None
    partial.replace(path)
