"""Two MobileFaceNets as plain torch modules: MobileFaceNet-192 and fr_feature (512-d).

The same family with three differences, told apart by `Variant`. The layers stand in the order of
the published files, so that a converter fills them one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from opticaldr.faces.alignment import cut_chip
from opticaldr.types import Embedding, Photo

# (expansion, outputs, stride) of the inverted bottlenecks; maps of 56, 28, 14, 7 pixels.
_BLOCKS = (
    (128, 64, 2),
    *[(128, 64, 1)] * 4,
    (256, 128, 2),
    *[(256, 128, 1)] * 6,
    (512, 128, 2),
    *[(256, 128, 1)] * 2,
)


@dataclass(frozen=True)
class Variant:
    """What tells the two networks apart.

    tensorflow_padding: at stride 2 pad one row below and one column right (SAME), not around.
    linear_stem: one more 1x1 convolution behind the first depthwise layer.
    outputs: width of one more 1x1 convolution at the end; None: stop at 512.
    bgr: the network expects blue, green, red.
    """

    name: str
    tensorflow_padding: bool
    linear_stem: bool
    outputs: int | None
    bgr: bool


MOBILEFACENET_192 = Variant("mobilefacenet", True, True, 192, bgr=False)
FR_FEATURE = Variant("fr_feature", False, False, None, bgr=True)


class _Bottleneck(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1; at stride 1 the input is added."""

    def __init__(self, *layers: nn.Module, residual: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileFaceNet(nn.Module):
    """(b, 3, h, h) sRGB crops in [0, 1] to (b, 192 or 512) unit embeddings."""

    differentiable = True

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.name = variant.name
        self.bgr = variant.bgr

        def conv(
            inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
        ) -> nn.Module:
            if stride == 2 and variant.tensorflow_padding:
                unpadded = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
                return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), unpadded)
            return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

        def bottleneck(inputs: int, expansion: int, outputs: int, stride: int) -> nn.Module:
            return _Bottleneck(
                conv(inputs, expansion),
                nn.PReLU(expansion),
                conv(expansion, expansion, 3, stride, groups=expansion),
                nn.PReLU(expansion),
                conv(expansion, outputs),
                residual=stride == 1,
            )

        layers = [conv(3, 64, 3, 2), nn.PReLU(64), conv(64, 64, 3, groups=64), nn.PReLU(64)]
        if variant.linear_stem:
            layers.append(conv(64, 64))
        inputs = 64
        for expansion, outputs, stride in _BLOCKS:
            layers.append(bottleneck(inputs, expansion, outputs, stride))
            inputs = outputs
        layers += [conv(128, 512), nn.PReLU(512)]
        layers += [nn.Conv2d(512, 512, 7, groups=512), conv(512, 512)]
        if variant.outputs:
            layers.append(conv(512, variant.outputs))
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def weighted_layers(self) -> Iterator[nn.Conv2d | nn.PReLU]:
        """The layers with weights, in the order in which they run."""
        return (layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.PReLU))

    def describe(self, chips: Tensor) -> Tensor:
        """(b, 3, 112, 112) RGB chips in 0..255 to (b, d) raw descriptors."""
        if self.bgr:
            chips = chips.flip(1)
        return self.layers((chips - 127.5) / 128)

    def forward(self, photos: Photo) -> Embedding:
        return F.normalize(self.describe(255 * cut_chip(photos, "arcface112")), dim=1)
