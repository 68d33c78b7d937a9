"""What no engine accepts: parameters and distances that describe no lens."""

from __future__ import annotations

import torch
from torch import Tensor

from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError

MAX_PARAMETER = 1e4
"""Largest surface parameter: 1e4 um = 1 cm of height, no longer a thin element."""


def check_lens(parameters: Tensor, depths_m: Tensor, system: OpticalSystem | None = None) -> None:
    """InputError unless parameters are finite and not huge, and depths finite and positive.

    With a system, the number of parameters must be that of its surface.
    """
    name = "Noll index"
    if system is not None and system.surface is not None:
        name = "parameter"
        system.surface.check_count(parameters)
    finite = torch.isfinite(parameters)
    if not bool(finite.all()):
        bad = [i + 1 for i, ok in enumerate(finite.tolist()) if not ok]
        raise InputError(
            f"Expected finite lens coefficients, found NaN or infinity at {name} {bad}; "
            "restore the lens from an earlier state or lower the lens learning rate."
        )
    largest = int(parameters.detach().abs().argmax())
    if float(parameters.detach()[largest].abs()) > MAX_PARAMETER:
        raise InputError(
            f"Expected lens coefficients of at most {MAX_PARAMETER:.0f} um, found "
            f"{float(parameters.detach()[largest]):.3g} at {name} {largest + 1}; a thin element is "
            "micrometres high."
        )
    if not bool((torch.isfinite(depths_m) & (depths_m > 0)).all()):
        raise InputError(
            f"Expected depths above 0 m, found {[round(d, 4) for d in depths_m.tolist()]}; "
            "give the distance from lens to face in metres."
        )
