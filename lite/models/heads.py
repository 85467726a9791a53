"""Heads that turn a feature map at stride 16 into heatmaps at stride 4 or logits of classes at stride 2."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class SapiensHeatmapHead(nn.Module):
    """Deconvolutions (k4 s2), then 1x1 convolutions, each with InstanceNorm and SiLU, then one 1x1 to the keypoints.

    The norms have neither weights nor running statistics (eps 1e-5), so pictures of a batch do not touch each other.
    Source: sapiens pose/mmpose/models/heads/heatmap_heads/heatmap_head.py.
    """

    def __init__(
        self, width: int, num_keypoints: int, deconv_channels: Sequence[int], conv_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.deconv_layers = _instance_norm_layers(width, deconv_channels, upsample=True)
        width = [width, *deconv_channels][-1]
        self.conv_layers = _instance_norm_layers(width, conv_channels, upsample=False)
        width = [width, *conv_channels][-1]
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=1)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        x = self.deconv_layers(features)  # (B, 768, 4h, 4w)
        return self.final_layer(self.conv_layers(x))  # (B, K, 4h, 4w)


class SapiensLabelHead(nn.Module):
    """The same layers for classes, usually three of each: logits at stride 2. `conv_seg` comes first in the files.

    The original drops whole channels (10 %) before `conv_seg` in training; inference has nothing of it.
    Source: sapiens seg/mmseg/models/decode_heads/vit_head.py.
    """

    def __init__(
        self, width: int, num_channels: int, deconv_channels: Sequence[int], conv_channels: Sequence[int]
    ) -> None:
        super().__init__()
        middle = [width, *deconv_channels][-1]
        self.conv_seg = nn.Conv2d([middle, *conv_channels][-1], num_channels, kernel_size=1)
        self.deconv_layers = _instance_norm_layers(width, deconv_channels, upsample=True)
        self.conv_layers = _instance_norm_layers(middle, conv_channels, upsample=False)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        x = self.deconv_layers(features)  # (B, 768, 8h, 8w)
        return self.conv_seg(self.conv_layers(x))  # (B, C, 8h, 8w)


def _instance_norm_layers(width: int, channels: Sequence[int], upsample: bool) -> nn.Sequential:
    """For each number of channels a deconvolution x2 or a 1x1 convolution, InstanceNorm and SiLU."""
    layers: list[nn.Module] = []
    for wide in channels:
        if upsample:
            layers.append(nn.ConvTranspose2d(width, wide, kernel_size=4, stride=2, padding=1, bias=False))
        else:
            layers.append(nn.Conv2d(width, wide, kernel_size=1))
        layers += [nn.InstanceNorm2d(wide), nn.SiLU()]
        width = wide
    return nn.Sequential(*layers)


class ClassicHead(nn.Module):
    """Deconvolutions (k4 s2) with BatchNorm and ReLU, then one 1x1 to the keypoints.

    Source: ViTPose mmpose/models/heads/topdown_heatmap_simple_head.py.
    """

    def __init__(self, width: int, num_keypoints: int, deconv_channels: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in deconv_channels:
            layers += [
                nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            width = channels
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=1)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        return self.final_layer(self.deconv_layers(features))  # (B, K, 4h, 4w)


class SimpleHead(nn.Module):
    """ReLU, bilinear x4, one 3x3 convolution to the keypoints. Source: as `ClassicHead`."""

    def __init__(self, width: int, num_keypoints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=3, padding=1)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        x = F.interpolate(features.relu(), scale_factor=4, mode="bilinear", align_corners=False)
        return self.final_layer(x)  # (B, K, 4h, 4w)


def init_convolutions(module: nn.Module) -> None:
    """Normal with deviation 0.001, biases 0, as both families start their heads."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.001)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
