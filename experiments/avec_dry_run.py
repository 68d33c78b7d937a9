"""The whole AVEC path on rendered people: 300 recordings under AVEC 2014's names, all four steps and
three protocols, one command. It shows that nothing breaks on the way, not how well anything works.

    python experiments/avec_dry_run.py --out dry-run

Folders: avec/ (the tree), index/ (manifest, aligned crops), PROTOCOL/ (a run with its report).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

from opticaldr.config import Protocol

SHORT = (
    *("lens.sensor_pixels=64", "network.width=8", "surrogate.name=small", "surrogate.steps=60"),
    *("synthetic.size=64", "synthetic.train_people=40", "synthetic.attack_people=10"),
    *(f"stages.step{n}.steps={steps}" for n, steps in enumerate((40, 40, 120, 20), start=1)),
    *(f"stages.step{n}.validate_every=40" for n in (1, 2, 3, 4)),
)
"""Of the avec2014 preset: small pictures and few steps, so that two cores need minutes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--persons", type=int, default=83, help="83 = 150 sessions, 300 recordings")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seconds: dict[str, float] = {}

    def run(what: str, *arguments: str | Path) -> None:
        started = time.perf_counter()
        command = [sys.executable, "-m", "opticaldr", *map(str, arguments)]
        subprocess.run(command, check=True)
        seconds[what] = round(time.perf_counter() - started, 1)

    tree, index = options.out / "avec", options.out / "index"
    size = ("--size", "128", "--frames", options.frames, "--step", "0.2", "--seed", options.seed)
    rendered = ("--preset", "behaviour-only", "--persons", options.persons, "--video")
    shared = ("--set", "overlap=true")  # the official partitions share people, so do these
    run("synth", "data", "synth", *rendered, "--layout", "avec2014", *shared, "--out", tree, *size)
    run("check", "data", "check", f"avec2014={tree}")
    run("index", "data", "index", f"avec2014={tree}", "--out", index, "--crops", "--min-valid", "4")
    figures = {}
    for protocol in get_args(Protocol):
        folder, data = options.out / protocol, ("--data", f"manifest={index / 'manifest.csv'}")
        settings = [f"protocol={protocol}", f"seed={options.seed}", *SHORT]
        chosen = [part for setting in settings for part in ("--set", setting)]
        others = ("--data", "synthetic")  # photographs and expressions of steps 1, 2 and 4
        run(f"train {protocol}", "train", "--config", "avec2014", *data, *others, *chosen,
            "--out", folder)  # fmt: skip
        run(f"evaluate {protocol}", "evaluate", "--model", folder, *data, "--protocol", protocol)
        run(f"report {protocol}", "report", folder)
        results = json.loads((folder / "results.json").read_text())
        named = ("mae", "train_mean_mae", "people")
        figures[protocol] = {
            "synthetic": results["synthetic"],
            **{name: results["depression"][name] for name in named},
            "left_out": len(results["depression"].get("left_out", {})),
        }
    summary = {"figures": figures, "seconds": seconds, "seed": options.seed}
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
