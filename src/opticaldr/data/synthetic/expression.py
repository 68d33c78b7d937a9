"""Names for combinations of facial actions: action units, emotions of photographs."""

from __future__ import annotations

import numpy as np

from opticaldr.data.synthetic.head import load_head

UNITS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile": 0.85, "mouthUpperUp": 0.12},  # AU12
    "cheek": {"cheekSquint": 0.8, "eyeSquint": 0.35},  # AU6
    "dimpler": {"mouthDimple": 0.9, "mouthPress": 0.35},  # AU14
    "brow_lower": {"browDown": 0.9},  # AU4
    "inner_brow": {"browInnerUp": 0.8, "browDown": 0.2},  # AU1+4
    "lip_corner": {"mouthFrown": 0.9},  # AU15
    "chin": {"mouthShrugLower": 0.9, "mouthShrugUpper": 0.3},  # AU17
    "lip_raise": {"mouthUpperUp": 0.7, "noseSneer": 0.2},  # AU10
    "jaw": {"jawOpen": 1.0, "mouthLowerDown": 0.25},  # AU25/26
    "lids": {"eyeBlink": 1.0},
    "look_down": {"eyeLookDown": 1.0, "eyeBlink": 0.18},
}
"""Facial actions (ARKit names without side; both sides get the value) of each unit at 1."""
EMOTIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {
        "mouthSmile": 0.9,
        "cheekSquint": 0.6,
        "eyeSquint": 0.2,
        "mouthUpperUp": 0.3,
        "jawOpen": 0.12,
    },
    "sad": {
        "browInnerUp": 0.9,
        "mouthFrown": 0.8,
        "mouthShrugLower": 0.35,
        "eyeLookDown": 0.3,
        "eyeBlink": 0.15,
    },
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.9, "jawOpen": 0.6},
    "fear": {
        "browInnerUp": 0.9,
        "browOuterUp": 0.3,
        "browDown": 0.3,
        "eyeWide": 1.0,
        "mouthStretch": 0.8,
        "jawOpen": 0.25,
    },
    "disgust": {
        "noseSneer": 1.0,
        "mouthUpperUp": 0.6,
        "browDown": 0.5,
        "mouthFrown": 0.3,
        "eyeSquint": 0.5,
    },
    "anger": {
        "browDown": 1.0,
        "eyeSquint": 0.5,
        "mouthPress": 0.7,
        "mouthRollLower": 0.3,
        "noseSneer": 0.3,
        "mouthFrown": 0.2,
    },
}
"""Prototype of each label of opticaldr.types.EMOTIONS, in that order (after Ekman's EMFACS)."""


def action_matrix(combinations: dict[str, dict[str, float]]) -> np.ndarray:
    """(combinations, A) coefficients; a name without side stands for both sides."""
    names = load_head().action_names
    matrix = np.zeros((len(combinations), len(names)), dtype=np.float32)
    for row, parts in zip(matrix, combinations.values(), strict=True):
        for part, value in parts.items():
            for side in (part, part + "Left", part + "Right"):
                if side in names:
                    row[names.index(side)] = value
    return matrix
