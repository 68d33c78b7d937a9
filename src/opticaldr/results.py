"""The JSON files of a run: figures with intervals, schemas, atomic writing. No tensors."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from opticaldr.types import InputError

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class Figure:
    """A reported number: value, 95 % interval [low, high], and the n that it rests on."""

    value: float
    ci95: tuple[float, float]
    n: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ci95": list(self.ci95)}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; InputError if the file is missing or broken."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"Expected a JSON file at {path}, found nothing; check the path."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"Expected JSON in {path}, found text that does not parse ({error}); "
            "write the file again or restore it from a backup."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"Expected a JSON object in {path}, found {type(content).__name__}.")
    return content


def validate(content: dict[str, Any], schema: str) -> None:
    """Checks content against a schema that ships with the package ("results", "lens", ...)."""
    from jsonschema import Draft202012Validator

    text = files("opticaldr").joinpath(f"schemas/{schema}.schema.json").read_text()
    validator = Draft202012Validator(json.loads(text))
    error = next(iter(validator.iter_errors(content)), None)
    if error is not None:
        raise InputError(
            f"Expected {schema}.json to follow schema {SCHEMA_VERSION}, found a problem at "
            f"'{error.json_path}': {error.message}."
        )


def update_results(run: Path, **sections: Any) -> None:
    """Replaces sections of results.json, starting from an empty one; checked before writing."""
    path = run / "results.json"
    content = {
        "schema_version": SCHEMA_VERSION,
        "synthetic": False,
        "seed": 0,
        "depression": None,
        "privacy": {"attacks": []},
        "lens": {"sha256": ""},
        "seconds": {},
    }
    if path.exists():
        content = read_json(path)
    if content["synthetic"]:  # once a part rests on rendered people, the whole file says so
        sections["synthetic"] = True
    content.update(sections)
    validate(content, "results")
    write_json(path, content)
