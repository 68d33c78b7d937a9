"""What a face does in a recording: cues -> action units and head pose as functions of time.

Everything is defined in continuous time, so that a frame depends on its time and on nothing else
(not on how many frames are read). The processes are those of depression.md 6.3, except
that the head follows a smooth Gaussian process: an Ornstein-Uhlenbeck process has no finite speed.
Durations and gains are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.synthetic.cues import Session
from opticaldr.data.synthetic.expression import UNITS, action_matrix

EPISODE_S = 2.5
"""Mean length of an episode of a two-state unit (AU14, AU4, ..., gaze down) [s]."""
SMILE_HOLD_S, SMILE_FALL_S = 1.6, 0.9
TONIC_SMILE, MOVEMENT = 0.05, 0.11
"""Resting lip corners rise with the usual smile (per FACS intensity); gain of small movements."""
SPEECH_FRACTION, SPEECH_EPISODE_S = 0.5, 4.0
"""Mouth opening by speech depends on the task, not on severity: a confound."""
EPISODES = {
    "dimpler": "dimpler_fraction",
    "brow_lower": "brow_lower_fraction",
    "inner_brow": "inner_brow_fraction",
    "lip_corner": "lip_corner_fraction",
    "chin": "chin_raise_fraction",
    "lip_raise": "lip_raise_fraction",
    "look_down": "gaze_down_fraction",
}


@dataclass(frozen=True)
class Motion:
    """Face and head at n times. coefficients: (n, A); yaw, pitch (down), roll: (n,) [rad]."""

    coefficients: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray


def move(
    session: Session,
    times_s: np.ndarray,
    *,
    seed: int,
    index: int,
    lid_rest: float,
    take: tuple[int, ...] = (),
    speech: float = SPEECH_FRACTION,
) -> Motion:
    """The face of person `index` at the given times [s] of the recording.

    lid_rest: how far the lids of this person are closed at rest (coefficient of eyeBlink).
    take: numbers from 1 that tell recordings of one person apart. speech: share of the time.
    """
    cue = session.cues
    end = float(times_s.max(initial=0.0)) + 1.0
    # One stream per process: what is drawn for one never shifts another.
    streams = iter(np.random.default_rng([seed, index, 4, *take]).spawn(64))
    units = {name: np.zeros(len(times_s)) for name in UNITS}
    for unit, fraction in EPISODES.items():
        rng = next(streams)
        depth = rng.uniform(0.6, 1.0)
        units[unit] += depth * _episodes(rng, times_s, cue[fraction], EPISODE_S, end, 0.2)
    _smiles(next(streams), units, times_s, cue, end)
    talking = _episodes(next(streams), times_s, speech, SPEECH_EPISODE_S, end, 0.2)
    units["jaw"] += 0.16 * talking * np.abs(_wander(next(streams), times_s, 0.12))
    closed = lid_rest + 0.75 * (1.0 - cue["lid_aperture"])
    closed += 0.03 * _wander(next(streams), times_s, 3.0)
    closed = np.clip(closed, -0.15, 0.75)
    units["lids"] += np.maximum(closed, _blinks(next(streams), times_s, cue, end))
    # Small movements to both sides of rest: their gain, the cue "motion energy", shifts no mean.
    for unit in ("brow_lower", "inner_brow", "dimpler", "chin", "lip_raise", "smile"):
        units[unit] += MOVEMENT * cue["motion_energy"] * _wander(next(streams), times_s, 0.5)
    units["smile"] += TONIC_SMILE * cue["smile_peak"]
    coefficients = np.stack([units[name] for name in UNITS], axis=1) @ action_matrix(UNITS)

    rms = np.deg2rad(cue["head_rms_deg"])
    # A Gaussian process with this time constant has exactly the RMS speed of the cue.
    pace = cue["head_rms_deg"] / cue["head_speed_deg_s"]
    yaw, pitch, roll = (
        share * rms * _wander(next(streams), times_s, pace) for share in (0.8, 0.5, 0.33)
    )
    return Motion(
        np.clip(coefficients, -0.25, 1.0).astype(np.float32),
        yaw,
        pitch + np.deg2rad(cue["head_down_deg"]),
        roll,
    )


def _wander(rng: np.random.Generator, times_s: np.ndarray, constant_s: float) -> np.ndarray:
    """A smooth Gaussian process of unit variance with correlation exp(-(dt / constant)^2 / 2).

    Sum of random cosines (random Fourier features), so it can be read at any time.
    """
    count = 32
    speed = rng.standard_normal(count) / constant_s
    phase = rng.uniform(0, 2 * np.pi, count)
    return np.sqrt(2 / count) * np.cos(times_s[:, None] * speed + phase).sum(1)


def _episodes(
    rng: np.random.Generator,
    times_s: np.ndarray,
    fraction: float,
    mean_s: float,
    end_s: float,
    edge_s: float,
) -> np.ndarray:
    """A two-state Markov process that is on a given fraction of the time, with soft edges."""
    on = bool(rng.random() < fraction)
    gap_s = mean_s * (1 - fraction) / max(fraction, 1e-6)
    level, time = np.zeros(len(times_s)), 0.0
    while time < end_s:
        length = rng.exponential(mean_s if on else gap_s)
        if on:
            begin = time if time > 0 else -10.0
            rise = np.clip((times_s - begin) / edge_s, 0, 1)
            fall = np.clip((time + length + edge_s - times_s) / edge_s, 0, 1)
            level = np.maximum(level, np.minimum(rise, fall))
        time += length
        on = not on
    return level


def _smiles(
    rng: np.random.Generator,
    units: dict[str, np.ndarray],
    times_s: np.ndarray,
    cue: dict[str, float],
    end_s: float,
) -> None:
    """Adds smiles (Poisson in time) with cheeks and controlling movements to the units."""
    time = -5.0 + rng.exponential(60 / cue["smile_rate_per_min"])
    while time < end_s:
        peak = max(0.3, cue["smile_peak"] + rng.normal(0, 0.5)) / 5
        rise = cue["smile_rise_s"]
        hold = 0.5 + rng.exponential(SMILE_HOLD_S)
        up = np.clip((times_s - time) / rise, 0, 1)
        down = np.clip((time + rise + hold + SMILE_FALL_S - times_s) / SMILE_FALL_S, 0, 1)
        shape = np.minimum(up, down)
        shape = shape * shape * (3 - 2 * shape)
        units["smile"] = np.maximum(units["smile"], 1.3 * peak * shape)
        if rng.random() < cue["cheek_given_smile"]:
            units["cheek"] = np.maximum(units["cheek"], 1.2 * peak * shape)
        controlled, delay, which = rng.random(), rng.uniform(0.3, 1.0), rng.random()
        if controlled < cue["smile_control"]:
            begin = time + rise + delay
            late = np.clip((times_s - begin) / 0.2, 0, 1)
            late = np.minimum(late, np.clip((begin + 1.5 - times_s) / 0.3, 0, 1))
            unit = "dimpler" if which < 0.5 else "chin"
            units[unit] = np.maximum(units[unit], 0.8 * late)
        time += rise + hold + rng.exponential(60 / cue["smile_rate_per_min"])


def _blinks(
    rng: np.random.Generator, times_s: np.ndarray, cue: dict[str, float], end_s: float
) -> np.ndarray:
    """Lid closure by blinks: a raised cosine of the given duration, Poisson in time."""
    closed, time = np.zeros(len(times_s)), 0.0
    while time < end_s:
        time += 0.3 + rng.exponential(60 / max(cue["blink_rate_per_min"], 1.0))
        away = np.clip((times_s - time) / (cue["blink_duration_s"] / 2), -1, 1)
        closed = np.maximum(closed, 0.5 + 0.5 * np.cos(np.pi * away))
    return closed
