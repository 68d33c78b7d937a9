"""OpticalDR: a camera you can train, and the tools to attack it honestly.

    import opticaldr

    lens = opticaldr.Lens.load("focused")
    captured = lens.capture("face.jpg", depth_m=1.0)

Everything listed in __all__ is the public interface (opticaldr.api); the rest may change. A name is
loaded when it is first used, so that `import opticaldr` needs no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opticaldr.api import (
        Estimate,
        Lens,
        Predictor,
        attack,
        evaluate,
        load_card,
        synthetic_person,
        train,
    )
    from opticaldr.errors import InputError
    from opticaldr.notices import DISCLAIMER

__all__ = [
    "DISCLAIMER",
    "Estimate",
    "InputError",
    "Lens",
    "Predictor",
    "__version__",
    "attack",
    "evaluate",
    "load_card",
    "synthetic_person",
    "train",
]

__version__ = "0.1.0"

_ELSEWHERE = {"DISCLAIMER": "notices", "InputError": "errors"}
"""Public names that need nothing of api.py, and where they live."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `opticaldr.train` the function when the file train.py is imported.

    Python binds a submodule in its package as soon as anybody imports it; without this rule the
    meaning of `attack`, `evaluate` and `train` would depend on what was imported before.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
