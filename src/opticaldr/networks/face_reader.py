"""The face-analysis network: an emotion branch, a depression branch, and their heads."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from opticaldr.config import NetworkConfig
from opticaldr.networks.motion import MotionSummary, average, follow
from opticaldr.networks.sanet import SANet
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.types import BDI_MAX, EMOTIONS, Capture, Prediction

MOTION_FLOOR = 1e-4
"""Variance of a feature below which motion is noise: a still picture reads log 1e-4."""


class EmotionBranch(nn.Module):
    """E_e with the heads for attributes, five landmarks and emotion (paper.md 7.2)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.extract = SANet(width=config.width, blocks=config.blocks, groups=config.groups)
        self.attributes = nn.Linear(self.extract.features, len(config.attribute_names))
        self.landmarks = nn.Linear(self.extract.features, 10)
        self.emotion = nn.Linear(self.extract.features, len(EMOTIONS))
        nn.init.zeros_(self.landmarks.weight)  # start at the middle of the crop
        nn.init.constant_(self.landmarks.bias, 0.5)


class DepressionBranch(nn.Module):
    """E_d and the head on both branches' features: (b, 64 F) -> hidden -> 1, as a share of 63.

    With config.temporal = "moments" the head sees mean and log spread over the frames of a
    recording, (b, 128 F), normalised and half of them dropped in training: there are far fewer
    recordings than features. With "dynamics" one linear layer reads the 26 speeds of a
    MotionSummary, three of ten dropped in training: 27 weights, against 528,897 for "moments" and
    262,657 for "frames" at F = 16.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.temporal = config.temporal
        self.extract = SANet(width=config.width, blocks=config.blocks, groups=config.groups)
        width = 2 * self.extract.features
        if config.temporal == "dynamics":
            self.motion = MotionSummary(width, lags_s=config.lags_s)
            self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(self.motion.width, 1))
        else:
            tamed: list[nn.Module] = []
            if config.temporal == "moments":
                width *= 2
                tamed = [nn.BatchNorm1d(width), nn.Dropout(0.5)]
            self.head = nn.Sequential(
                *tamed, nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1)
            )
        nn.init.zeros_(self.head[-1].weight)  # start at one constant score

    def score(
        self,
        features: Float[Tensor, "b f"],
        tracks: Float[Tensor, "b 10"] | None,
        recordings: Int[Tensor, "b"],
        times: Float[Tensor, "b"],
    ) -> Float[Tensor, "b"]:
        """BDI-II scores: one a frame with "frames", else one a recording, given to all its frames.

        features: both branches' of single frames. tracks (motion.follow) and times [s]: of frames,
        for "dynamics" only.
        """
        if self.temporal == "moments":
            features = moments(features, recordings)
        if self.temporal == "dynamics":  # one dropout mask per recording, not one per frame
            _, which = torch.unique(recordings, return_inverse=True)
            return BDI_MAX * self.head(self.motion(features, tracks, which, times))[which, 0]
        return BDI_MAX * self.head(features).squeeze(1)


class FaceReader(nn.Module):
    """Capture in, Prediction out. Groups "emotion" and "depression" can be frozen apart."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.emotion = EmotionBranch(config)
        self.depression = DepressionBranch(config)

    def forward(
        self,
        capture: Capture,
        recordings: Int[Tensor, "b"] | None = None,
        times: Float[Tensor, "b"] | None = None,
    ) -> Prediction:
        """Reads one capture per row; severity is on the BDI-II scale, not clamped.

        Both arguments matter for temporal = "moments" and "dynamics" only, where all frames of a
        recording get one score.

        recordings: number of the recording that each frame belongs to; None = each on its own.
        times: of each frame in its recording [s], in any order and at any rate; None = not known,
            and so is motion.
        """
        images = (linear_to_srgb(capture) - 0.5) / 0.25
        shared = self.emotion.extract(images)
        both = torch.cat([shared, self.depression.extract(images)], dim=1)
        landmarks = self.emotion.landmarks(shared)
        if recordings is None:
            recordings = torch.arange(len(capture), device=capture.device)
        if times is None:
            times = capture.new_zeros(len(capture))
        dynamic = self.config.temporal == "dynamics"
        tracks = follow(images, landmarks, recordings) if dynamic else None
        return Prediction(
            attributes=self.emotion.attributes(shared),
            landmarks=landmarks,
            emotion=self.emotion.emotion(shared),
            severity=self.depression.score(both, tracks, recordings, times),
        )


def moments(features: Float[Tensor, "b d"], recordings: Int[Tensor, "b"]) -> Tensor:
    """Mean and log variance of features over the frames of each recording, (b, 2 d).

    Motion scales the variance; its logarithm turns that into a shift that a linear layer can read.
    """
    _, which = torch.unique(recordings, return_inverse=True)
    mean = average(features, which)
    spread = average((features - mean).square(), which)
    return torch.cat([mean, (spread + MOTION_FLOOR).log()], dim=1)
