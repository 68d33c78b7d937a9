"""A service in a process of its own, for experiments/serve_load.py and serve_fuzz.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from opticaldr.config import load_config
from opticaldr.model import build_model, save_model


@dataclass(frozen=True)
class Service:
    """A running service; `home` is its working, home and temporary folder, empty at the start."""

    url: str
    home: Path
    process: subprocess.Popen

    @property
    def rss_mib(self) -> float:
        """Memory of the process [MiB]."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def files(self) -> list[str]:
        """What the service has left on disk."""
        return [str(path.relative_to(self.home)) for path in self.home.rglob("*")]


@contextmanager
def running(run: Path | None, preset: str) -> Iterator[Service]:
    """`opticaldr serve` on a free port of the loopback address.

    run: a trained run; None builds an untrained network for `preset`, so that every path answers.
    """
    with TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        if run is None:
            run = Path(folder, "run")
            config = load_config(preset)
            save_model(build_model(config), config, run)
        command = "from opticaldr.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", "--model", str(run.resolve()), "--port", "0"],
            cwd=home,
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            first = process.stdout.readline()
            if not first.startswith("Ready: "):
                raise SystemExit("The service did not start.")
            yield Service(first.removeprefix("Ready: ").strip(), home, process)
        finally:
            process.terminate()
            process.wait(20)
