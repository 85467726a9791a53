"""The rows of HRNet networks in the zoo: bottom-up pose and ImageNet classification. Importing this loads no torch."""

from lite.models.rows import ZooRow, lazily

_HIGHER = "github.com/HRNet/HigherHRNet-Human-Pose-Estimation"
_CLASSES = "github.com/HRNet/HRNet-Image-Classification"
_MMPOSE = "github.com/open-mmlab/mmpose"


def _pose_row(
    family: str, width: int, size_px: int, source: str, licence: str, weights: str | None, accuracy: dict[str, float]
) -> ZooRow:
    name = f"{family}-w{width}-coco17"
    higher = family == "higherhrnet"
    sizes = {"higher": higher, "input_hw": (size_px, size_px)}
    return ZooRow(
        name=name,
        task="pose-bottom-up",
        family="hrnet",
        size=f"w{width}",
        licence=licence,
        source=source,
        weights=weights,
        accuracy=accuracy,
        build=lazily("lite.models.higher_hrnet:higher_hrnet", width, "coco17", name=name, **sizes),
    )


def _classes_row(width: int, accuracy: dict[str, float]) -> ZooRow:
    name = f"hrnet-w{width}-imagenet1000"
    return ZooRow(
        name=name,
        task="classify",
        family="hrnet",
        size=f"w{width}",
        licence="MIT",
        source=_CLASSES,
        weights=f"hrnetv2_w{width}_imagenet_pretrained.pth",
        accuracy=accuracy,
        build=lazily("lite.models.hrnet:classification_hrnet", width, name),
    )


# Pose: COCO val2017, flip test, one scale, all 5000 pictures. Classes: 224 px, one crop, of the W32-C and W48-C.
ZOO_ROWS = [
    _pose_row(
        "higherhrnet",
        32,
        512,
        _HIGHER,
        "MIT",
        "pose_higher_hrnet_w32_512.pth",
        {"AP": 67.1, "AP50": 86.2, "AP75": 73.0, "AP (M)": 61.5, "AP (L)": 76.1},
    ),
    _pose_row("higherhrnet", 48, 640, _HIGHER, "MIT", "pose_higher_hrnet_w48_640.pth", {"AP": 69.9}),
    _pose_row("ae-hrnet", 32, 512, _MMPOSE, "Apache-2.0", None, {"AP": 65.6}),
    _classes_row(32, {"top-1": 78.5, "top-5": 94.2}),
    _classes_row(48, {"top-1": 79.3, "top-5": 94.5}),
]
