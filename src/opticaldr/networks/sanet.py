"""SANet-2D: a ResNet whose bottlenecks weigh groups of channels against each other in space.

Topology of the spatial-attention network of STA-DRN (Pan et al., Expert Systems with Applications
2024), in two dimensions, as specified in paper.md 3.1 and 7.2: F = 16 has 2.66 M parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPANSION = 4


class SpatialAttention(nn.Module):
    """Grouped 3x3 convolution, then a softmax over the groups at every pixel and channel.

    x = relu(bn(conv3x3_k(x)));  out = x * softmax_over_groups(conv1x1_k(x))
    """

    def __init__(self, channels: int, *, groups: int, stride: int) -> None:
        super().__init__()
        self.groups = groups
        self.conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.weigh = nn.Conv2d(channels, channels, 1, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h / stride, w / stride)."""
        features = torch.relu(self.norm(self.conv(features)))
        b, c, h, w = features.shape
        scores = self.weigh(features).view(b, self.groups, c // self.groups, h, w)
        return features * torch.softmax(scores, dim=1).view(b, c, h, w)


class Bottleneck(nn.Module):
    """1x1 -> spatial attention 3x3 -> 1x1 (x4), added to the input (a 3x3 shortcut where it shrinks)."""

    def __init__(self, channels_in: int, width: int, *, groups: int, stride: int) -> None:
        super().__init__()
        channels_out = width * EXPANSION
        self.reduce = nn.Sequential(
            nn.Conv2d(channels_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.attend = SpatialAttention(width, groups=groups, stride=stride)
        self.expand = nn.Sequential(
            nn.Conv2d(width, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, features: Tensor) -> Tensor:
        """(b, channels_in, h, w) -> (b, 4 width, h / stride, w / stride)."""
        main = self.expand(torch.relu(self.attend(self.reduce(features))))
        return torch.relu(main + self.shortcut(features))


class SANet(nn.Module):
    """Feature extractor: (b, 3, h, w) -> (b, 32 F).

    width: F. blocks: bottlenecks per stage. groups: k of the spatial attention.
    in_bfloat16: layers compute in bfloat16 under autocast; what comes out keeps its precision.
    """

    in_bfloat16 = False

    def __init__(self, *, width: int, blocks: int, groups: int) -> None:
        super().__init__()
        stem = width * EXPANSION
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 7, 2, 3, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages, channels = [], stem
        for stage in range(4):
            stage_width = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Bottleneck(channels, stage_width, groups=groups, stride=stride))
                channels = stage_width * EXPANSION
        self.stages = nn.Sequential(*stages)
        self.features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Globally averaged features, (b, 32 F)."""
        if not self.in_bfloat16:
            return self.stages(self.stem(images)).mean((-2, -1))
        with torch.autocast(images.device.type, torch.bfloat16):
            maps = self.stages(self.stem(images))
        return maps.to(images.dtype).mean((-2, -1))
