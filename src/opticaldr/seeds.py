"""Random streams by name, so that no result depends on the order in which things ran."""

from __future__ import annotations

import hashlib

import torch


def generator_for(*key: object) -> torch.Generator:
    """A CPU generator whose stream depends on the key alone, such as (seed, stage, step)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
