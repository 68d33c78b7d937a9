"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real development faces, which lies beside the repository, never inside it."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("OPTICALDR_DATA", beside))
    if not path.is_dir():
        pytest.skip("no development faces: ../shared/data is absent and OPTICALDR_DATA is not set")
    return path
