"""The zoo: every model that can be asked for by name. Importing it loads no torch; a row's `build` does."""

from lite.models.lite_hrnet_rows import ZOO_ROWS as LITE_HRNET_ROWS
from lite.models.rows import ZooRow, lazily
from lite.models.rtmdet_rows import ZOO_ROWS as RTMDET_ROWS

_SAPIENS_17 = "huggingface.co/noahcao/sapiens-pose-coco"
_SAPIENS_308 = "huggingface.co/facebook/sapiens"
# (size, skeleton) -> file as published, source, accuracy with detector boxes and flip test
_SAPIENS = {
    ("0.3b", "coco17"): ("coco_best_coco_AP_796", _SAPIENS_17, {"AP": 79.6, "AR": 83.6}),
    ("0.6b", "coco17"): ("coco_best_coco_AP_812", _SAPIENS_17, {"AP": 81.2, "AR": 84.9}),
    ("1b", "coco17"): ("coco_best_coco_AP_821", _SAPIENS_17, {"AP": 82.1, "AR": 85.9}),
    ("2b", "coco17"): ("coco_best_coco_AP_822", _SAPIENS_17, {"AP": 82.2, "AR": 86.0}),
    ("0.3b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_620", _SAPIENS_17, {"AP": 62.0, "AR": 69.4}),
    ("0.6b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_695", _SAPIENS_17, {"AP": 69.5, "AR": 76.3}),
    ("1b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_727", _SAPIENS_17, {"AP": 72.7, "AR": 79.2}),
    ("2b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_745", _SAPIENS_17, {"AP": 74.4, "AR": 81.0}),
    ("0.3b", "goliath308"): ("goliath_best_goliath_AP_573", _SAPIENS_308, {"AP": 57.3}),
    ("0.6b", "goliath308"): ("goliath_best_goliath_AP_609", _SAPIENS_308, {"AP": 60.9}),
    ("1b", "goliath308"): ("goliath_best_goliath_AP_639", _SAPIENS_308, {"AP": 63.9}),
    ("2b", "goliath308"): (None, "no file of this size is published", {}),
}
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


def _sapiens_rows() -> list[ZooRow]:
    return [
        ZooRow(
            name=f"sapiens-{size}-{skeleton}",
            task="pose",
            family="sapiens",
            size=size,
            licence="CC-BY-NC-4.0",
            source=source,
            weights=f"sapiens_{size}_{file}.pth" if file else None,
            accuracy=accuracy,
            build=lazily("lite.models.sapiens:sapiens", size, skeleton),
        )
        for (size, skeleton), (file, source, accuracy) in _SAPIENS.items()
    ]


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


def _by_name(*groups: list[ZooRow]) -> dict[str, ZooRow]:
    zoo: dict[str, ZooRow] = {}
    for row in (row for group in groups for row in group):
        if row.name in zoo:
            raise ValueError(f"two zoo rows are named {row.name}")
        zoo[row.name] = row
    return zoo


ZOO: dict[str, ZooRow] = _by_name(LITE_HRNET_ROWS, RTMDET_ROWS, _sapiens_rows(), _vitpose_rows(), _hap_rows())
