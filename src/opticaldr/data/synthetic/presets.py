"""The six presets of the benchmark as frozen values, and the knobs that they turn.

Each preset is a control for one way of being wrong (depression.md 6.3). The numbers are design
choices of the simulator, not measurements of patients.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from opticaldr.errors import InputError


@dataclass(frozen=True)
class Nuisances:
    """What changes a picture and says nothing about severity; drawn per session unless noted.

    exposure_sd: SD of the logarithm of the light. distance_m: nearest and farthest distance of the
    face [m], which costs resolution (nuisances.py). blur: largest extra sigma [px of 128]. noise:
    largest extra sigma in linear light. jpeg_quality: worst and best, 0 = not compressed.
    occluded: share of recordings with a hand before the face some of the time. dropped: share of
    frames that are missing. glasses_off: probability that somebody with glasses comes without.
    Direction and colour of the light, background and clothes change in any case.
    """

    exposure_sd: float = 0.2
    distance_m: tuple[float, float] = (0.33, 2.0)
    blur: float = 0.4
    noise: float = 0.01
    jpeg_quality: tuple[int, int] = (75, 95)
    occluded: float = 0.1
    dropped: float = 0.02
    glasses_off: float = 0.15

    def __post_init__(self) -> None:
        near, far = self.distance_m
        worst, best = self.jpeg_quality
        shares = (self.occluded, self.dropped, self.glasses_off)
        if not (
            0 < near <= far
            and 0 <= worst <= best <= 100
            and min(self.exposure_sd, self.blur, self.noise) >= 0
            and all(0 <= share <= 1 for share in shares)
        ):
            raise InputError(
                "Expected nuisances with 0 < near <= far [m], 0 <= worst <= best <= 100, shares "
                f"from 0 to 1 and nothing negative, found {self}."
            )


CLEAN = Nuisances(0.0, (0.33, 0.33), 0.0, 0.0, (0, 0), 0.0, 0.0, 0.0)
"""No nuisance beside light, background and clothes."""


@dataclass(frozen=True)
class Preset:
    """The generating law of one benchmark.

    cue_gain: factor on every correlation of the cue table; 0 = behaviour tells nothing.
    group_gain: further factor for people of group "B" (half of them, by chance).
    lip_corner_r: correlation of AU15 with severity, -0.15, 0 or +0.15: the contested cue.
    detail_r: correlation of the contrast of fine skin detail with severity.
    detail_cutoff: that detail has no contrast below so many cycles per face width (ear to ear).
    confound: correlation of skin blotches with severity in train and dev; none in test.
    overlap: people stand in several splits, as in the official AVEC partitions.
    icc: correlation of severity between two sessions of a person (AVEC: 0.80).
    label_noise: SD of what the questionnaire adds to severity, BDI-II points (retest SEM: 4).
    """

    name: str
    shows: str
    cue_gain: float = 1.0
    group_gain: float = 1.0
    lip_corner_r: float = 0.0
    detail_r: float = 0.0
    detail_cutoff: float = 16.0
    confound: float = 0.0
    overlap: bool = False
    icc: float = 0.80
    label_noise: float = 0.0
    nuisances: Nuisances = Nuisances()

    def __post_init__(self) -> None:
        limits = {
            "cue_gain": (0.0, 3.0),
            "group_gain": (0.0, 1.0),
            "lip_corner_r": (-0.15, 0.15),
            "detail_r": (0.0, 0.85),
            "confound": (0.0, 1.0),
            "icc": (0.0, 0.95),
            "label_noise": (0.0, 4.0),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(
                    f"Expected {name} from {low:g} to {high:g}, found {value}; change the preset."
                )


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "identity-shortcut",
            "behaviour tells nothing and people stand in several splits: any gain is remembering",
            cue_gain=0.0,
            overlap=True,
        ),
        Preset("behaviour-only", "behaviour tells severity, people stand in one split only"),
        Preset(
            "static-confound",
            "skin goes with severity in train and dev, not in test: who reads skin loses",
            confound=0.8,
        ),
        Preset(
            "spatial-frequency",
            "only skin detail finer than 16 cycles per face tells severity: what does a lens keep?",
            cue_gain=0.0,
            detail_r=0.7,
            # From further away than 1 m the camera itself would lose the detail.
            nuisances=Nuisances(distance_m=(0.33, 1.0), jpeg_quality=(90, 98)),
        ),
        Preset(
            "group-shift",
            "cues of group B are half as strong: does the table per group find it?",
            cue_gain=1.8,
            group_gain=0.5,
        ),
        Preset("null", "nothing tells severity: the interval of every gain must include 0",
               cue_gain=0.0),
    )
}  # fmt: skip
"""The benchmark's presets by name."""


def find_preset(name: str) -> Preset:
    """A preset by name; InputError names the known ones."""
    if name not in PRESETS:
        raise InputError(
            f"Expected a preset of the benchmark ({', '.join(PRESETS)}), found '{name}'; "
            "check the spelling."
        )
    return PRESETS[name]


def with_settings(preset: Preset, settings: Iterable[str]) -> Preset:
    """The preset with "knob=value" changes, such as "icc=0.5" or "nuisances.distance_m=[0.5,1]"."""
    for setting in settings:
        path, _, text = setting.partition("=")
        section, _, knob = path.rpartition(".")
        owner = preset.nuisances if section == "nuisances" else preset
        known = [name for name in asdict(owner) if name not in ("name", "shows", "nuisances")]
        if section not in ("", "nuisances") or knob not in known:
            raise InputError(
                f"Expected KNOB=VALUE with KNOB one of {', '.join(known)}, found '{setting}'."
            )
        default = getattr(owner, knob)
        changed = replace(owner, **{knob: _parse(text, default, setting)})
        preset = replace(preset, nuisances=changed) if section else changed
    return preset


def _parse(text: str, default: object, setting: str) -> object:
    """A JSON value of the kind of the default: bool, number, or a pair of numbers."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if isinstance(default, bool):
        right = isinstance(value, bool)
    elif isinstance(default, tuple):
        right = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
        value = tuple(value) if right else value
    else:
        right = _is_number(value)
    if not right:
        raise InputError(
            f"Expected a value such as {json.dumps(default)} in '{setting}', found '{text}'."
        )
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
