"""HRNet: parallel resolutions that exchange after every module; the trunk of HigherHRNet, and with a head a classifier.

Names, order and shapes of the tensors are those of pytorch-human-pose; files of the original HRNet and of mmpose are
renamed in hrnet_names.py.
Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", 2019, section 3.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from lite.artifact import ArtifactSpec, FrameRule, OutputSpec
from lite.label_sets.imagenet import imagenet_names
from lite.models.vit import MEAN, STD

MODULES = (1, 1, 4, 3)  # of each stage
UNITS = 4  # of each branch of a module
STEM = 64
STAGE1 = 256
HEAD = (128, 256, 512, 1024)  # of the classifier, whatever the width of the trunk
FEATURES = 2048
LICENCE = "MIT"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(y)).add_(x).relu_()


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, a quarter as wide inside, and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(y)).relu_()
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn3(self.conv3(y)).add_(shortcut).relu_()


def conv_unit(in_channels: int, out_channels: int, stride: int, bias: bool = False, relu: bool = True) -> nn.Sequential:
    """A 3x3 convolution, its norm and, unless it ends a chain, a rectifier."""
    layers = [nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Branches(nn.Module):
    """Four units on each resolution, apart from one another."""

    def __init__(self, branches: list[list[nn.Module]]) -> None:
        super().__init__()
        self.scales_blocks = nn.ModuleList(nn.Sequential(*units) for units in branches)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [branch(y) for branch, y in zip(self.scales_blocks, x)]


class Fusion(nn.Module):
    """Every resolution receives every other, brought to its size.

    Args:
        channels: of the branches.
        num_out: how many of them, from the finest, are wanted.
    """

    def __init__(self, channels: tuple[int, ...], num_out: int) -> None:
        super().__init__()
        self.scales_fusion_layers = nn.ModuleList(
            nn.ModuleList(_path(channels, i, j) for j in range(len(channels))) for i in range(num_out)
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        out = []
        for i, row in enumerate(self.scales_fusion_layers):
            y = None
            for j in range(len(x) - 1, i, -1):  # coarse to fine, so that only the last doubling is of full size
                y = row[j](x[j]) if y is None else doubled(y).add_(row[j](x[j]))
            y = None if y is None else doubled(y).add_(x[i])
            for j in range(i):
                z = row[j](x[j])
                y = z.add_(x[i]) if y is None else y.add_(z)
            out.append(y.relu_())
        return out


def _path(channels: tuple[int, ...], i: int, j: int) -> nn.Module:
    """From branch j to branch i: 1x1 to a finer one (doubled later), halvings to a coarser one, the last widens."""
    if j == i:
        return nn.Identity()
    if j > i:
        return nn.Sequential(nn.Conv2d(channels[j], channels[i], 1, bias=False), nn.BatchNorm2d(channels[i]))
    steps = (conv_unit(channels[j], channels[j], 2) for _ in range(i - j - 1))
    return nn.Sequential(*steps, conv_unit(channels[j], channels[i], 2, relu=False))


def doubled(x: Tensor) -> Tensor:
    """(B, c, h, w) -> (B, c, 2h, 2w), each value four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Transition(nn.Module):
    """One more branch, halved from the coarsest; after stage 1 the finest branch gets its width, too."""

    def __init__(self, channels: tuple[int, ...], next_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.transition_blocks = nn.ModuleList(
            conv_unit(channels[min(i, len(channels) - 1)], wide, 1 if i < len(channels) else 2)
            if i == len(channels) or channels[i] != wide or len(channels) == 1
            else nn.Identity()
            for i, wide in enumerate(next_channels)
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [block(x[min(i, len(x) - 1)]) for i, block in enumerate(self.transition_blocks)]


class Stage(nn.Module):
    """Modules of branches and fusion, then the transition to the next stage."""

    def __init__(self, blocks: list[nn.Module], transition: Transition | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.transition_layer = transition

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = self.blocks(x)
        return x if self.transition_layer is None else self.transition_layer(x)


class HRNet(nn.Module):
    """Normalised pictures (B, 3, h, w) to `num_out` maps (B, C * 2^i, h / 2^(i+2), w / 2^(i+2)).

    Args:
        width: C, channels of the finest branch.
        num_out: 4, or 1 for the finest alone; then the last fusion has no tensors for the others.
    """

    def __init__(self, width: int, num_out: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM)
        widths = tuple(width * 2**i for i in range(4))
        first = [Bottleneck(STEM if n == 0 else STAGE1, STAGE1) for n in range(UNITS)]
        stages = [Stage([Branches([first])], Transition((STAGE1,), widths[:2]))]
        for s in (1, 2, 3):
            channels = widths[: s + 1]
            blocks: list[nn.Module] = []
            for m in range(MODULES[s]):
                last = s == 3 and m == MODULES[s] - 1
                blocks += [
                    Branches([[BasicBlock(wide) for _ in range(UNITS)] for wide in channels]),
                    Fusion(channels, num_out if last else s + 1),
                ]
            stages.append(Stage(blocks, Transition(channels, widths[: s + 2]) if s < 3 else None))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()  # (B, 64, h/4, w/4)
        return self.stages([x])


class ClassificationHead(nn.Module):
    """The four maps, widened, gathered from fine to coarse, and averaged over the picture."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.chann_incr_blocks = nn.ModuleList(Bottleneck(width * 2**i, wide) for i, wide in enumerate(HEAD))
        self.downsample_blocks = nn.ModuleList(conv_unit(HEAD[i], HEAD[i + 1], 2, bias=True) for i in range(3))
        self.final_conv = nn.Sequential(
            nn.Conv2d(HEAD[-1], FEATURES, 1), nn.BatchNorm2d(FEATURES), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(FEATURES, num_classes)

    def forward(self, x: list[Tensor]) -> Tensor:
        y = self.chann_incr_blocks[0](x[0])
        for i, down in enumerate(self.downsample_blocks, start=1):
            y = self.chann_incr_blocks[i](x[i]) + down(y)
        return self.classifier(self.final_conv(y).mean((2, 3)))  # (B, num_classes)


class ClassificationHRNet(nn.Module):
    """Normalised pictures (B, 3, h, w) to `logits` (B, num_classes)."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = HRNet(width)
        self.classification_head = ClassificationHead(width, num_classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.classification_head(self.backbone(x))}


def classification_hrnet(width: int, name: str, input_hw: tuple[int, int] = (224, 224)) -> ClassificationHRNet:
    """A published ImageNet network with random weights."""
    network = ClassificationHRNet(width, 1000)
    network.spec = classes_spec(name, input_hw, 1000)
    return network


def classes_spec(model: str, input_hw: tuple[int, int], num_classes: int) -> ArtifactSpec:
    """What a classifier takes and gives: the middle of a frame whose short side becomes `short_side_px`."""
    names = imagenet_names() if num_classes == 1000 else ()
    return ArtifactSpec(
        task="classify",
        model=model,
        input_hw=tuple(input_hw),
        mean=MEAN,
        std=STD,
        frame=FrameRule(kind="center-crop", short_side=short_side_px(min(input_hw))),
        outputs=(OutputSpec(name="probabilities", shape=("N", num_classes), dtype="float32", unit="0..1"),),
        codec={"name": "softmax"},
        labels=names,
        licence=LICENCE,
    )


def short_side_px(input_side: int) -> int:
    """Of a resized frame, from the shorter side of the input: 256 for 224, as trained, and 8/7 for other sizes.

    For 256 it is 256, too: pytorch-human-pose trains at 224 and then shows the network 256 px of 256.
    """
    return 256 if 224 <= input_side <= 256 else int(input_side / 0.875)
