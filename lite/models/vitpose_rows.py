"""The rows of ViTPose and HAP networks in the zoo. Importing this loads no torch."""

from lite.models.rows import ZooRow, lazily

_VITPOSE = "github.com/ViTAE-Transformer/ViTPose"
# size, simple head -> AP, AR on COCO val with detector boxes and flip test
_VITPOSE_COCO = {
    ("s", False): (73.8, 79.2),
    ("b", False): (75.8, 81.1),
    ("l", False): (78.3, 83.5),
    ("h", False): (79.1, 84.1),
    ("s", True): (73.5, 78.9),
    ("b", True): (75.5, 80.9),
    ("l", True): (78.2, 83.4),
    ("h", True): (78.9, 84.0),
}
# Accuracy of the published multi-task networks, whose split files these rows load.
_VITPOSE_OTHER = {
    ("b", "mpii16"): {"PCKh": 93.3},
    ("l", "mpii16"): {"PCKh": 94.0},
    ("h", "mpii16"): {"PCKh": 94.1},
    ("b", "aic14"): {"AP": 32.0, "AR": 36.3},
    ("l", "aic14"): {"AP": 34.5, "AR": 39.0},
    ("h", "aic14"): {"AP": 35.4, "AR": 39.9},
    ("b", "crowdpose14"): {"AP": 74.7},
    ("l", "crowdpose14"): {"AP": 76.6},
    ("h", "crowdpose14"): {"AP": 76.3},
}
_HAP = "github.com/junkunyuan/HAP"
# skeleton -> metric, 256 x 192, 384 x 288
_HAP_SCORES = {"coco17": ("AP", 75.9, 77.2), "mpii16": ("PCKh", 91.8, 92.6), "aic14": ("AP", 31.5, 37.7)}


def _vitpose_row(size: str, skeleton: str, accuracy: dict[str, float], simple: bool = False) -> ZooRow:
    name = f"vitpose-{size}-{'simple-' if simple else ''}{skeleton}"
    return ZooRow(
        name=name,
        task="pose",
        family="vitpose",
        size=size,
        licence="Apache-2.0",
        source=_VITPOSE,
        accuracy=accuracy,
        build=lazily("lite.models.vitpose:vitpose", size, skeleton, name=name, simple=simple),
    )


def _vitpose_rows() -> list[ZooRow]:
    return [
        *(
            _vitpose_row(size, "coco17", {"AP": ap, "AR": ar}, simple)
            for (size, simple), (ap, ar) in _VITPOSE_COCO.items()
        ),
        *(_vitpose_row(size, skeleton, accuracy) for (size, skeleton), accuracy in _VITPOSE_OTHER.items()),
    ]


def _hap_rows() -> list[ZooRow]:
    rows = []
    for skeleton, (metric, *scores) in _HAP_SCORES.items():
        for size, input_hw, score in (("b", (256, 192), scores[0]), ("b-384x288", (384, 288), scores[1])):
            name = f"hap-{size}-{skeleton}"
            build = lazily("lite.models.vitpose:vitpose", "b", skeleton, name=name, input_hw=input_hw)
            rows.append(
                ZooRow(
                    name=name,
                    task="pose",
                    family="hap",
                    size=size,
                    licence="see source",
                    source=_HAP,
                    accuracy={metric: score},
                    build=build,
                )
            )
    return rows


ZOO_ROWS = [*_vitpose_rows(), *_hap_rows()]
