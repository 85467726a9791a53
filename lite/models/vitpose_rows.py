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
# Networks trained on several data sets at once, on three (multi) and with CrowdPose on four (multi4, whose training
# pictures may overlap the validation's, its authors say): COCO AP, AR, OCHuman AP, AR (ground-truth boxes), MPII PCKh,
# AIC AP, AR, CrowdPose AP, AP of the hard third. The largest, G, is left out: its sizes are not published.
_MULTI = {
    ("b", "multi"): (77.1, 82.2, 88.0, 89.6, 93.3, 32.0, 36.3, None, None),
    ("l", "multi"): (78.7, 83.8, 90.9, 92.2, 94.0, 34.5, 39.0, None, None),
    ("h", "multi"): (79.5, 84.5, 90.9, 92.3, 94.1, 35.4, 39.9, None, None),
    ("b", "multi4"): (77.5, 82.6, 88.2, 90.0, 93.4, 31.9, 36.3, 74.7, 63.3),
    ("l", "multi4"): (79.1, 84.1, 91.5, 92.8, 93.9, 34.6, 39.0, 76.6, 65.9),
    ("h", "multi4"): (79.8, 84.8, 91.6, 92.8, 94.1, 35.3, 39.8, 76.3, 65.6),
}
# ViTPose+ with six experts: COCO AP, AR, OCHuman AP, AR, MPII PCKh, AIC AP, AR, AP-10K, APT-36K, WholeBody AP.
_PLUS = {
    "s": (75.8, 82.6, 78.4, 80.6, 92.7, 29.7, 34.3, 71.4, 74.2, 54.4),
    "b": (77.0, 82.6, 82.6, 84.8, 92.8, 31.8, 36.3, 74.5, 75.9, 57.4),
    "l": (78.6, 84.1, 85.7, 87.5, 94.0, 34.3, 38.9, 80.4, 80.8, 60.6),
    "h": (79.4, 84.8, 85.7, 87.4, 94.2, 34.8, 39.1, 82.4, 82.3, 61.2),
}
_HAP = "github.com/junkunyuan/HAP"
# data set -> metric, then 256 x 192 and 384 x 288 trained on it alone, and both trained on the three together
_HAP_SCORES = {
    "coco17": ("AP", 75.9, 77.2, 77.0, 78.2),
    "mpii16": ("PCKh", 91.8, 92.6, 93.4, 93.6),
    "aic14": ("AP", 31.5, 37.7, 32.2, 38.1),
}


def _vitpose_row(size: str, dataset: str, accuracy: dict[str, float], kind: str = "") -> ZooRow:
    """`kind` is what stands in the name before the data set: "simple-", "multi-", "multi4-", or "" for neither."""
    plus = kind == "plus-"
    name = f"vitpose-plus-{size}-{dataset}" if plus else f"vitpose-{size}-{kind}{dataset}"
    return ZooRow(
        name=name,
        task="pose",
        family="vitpose",
        size=size,
        licence="Apache-2.0",
        source=_VITPOSE,
        accuracy=accuracy,
        build=lazily("lite.models.vitpose:vitpose", size, dataset, name=name, simple=kind == "simple-"),
    )


def _multi_rows() -> list[ZooRow]:
    """What the published multi-task files hold; a row without "multi" in its name is the one trained on three, too."""
    rows = []
    for (size, kind), (ap, ar, oc_ap, oc_ar, pckh, aic_ap, aic_ar, crowd, hard) in _MULTI.items():
        on_coco = {"AP": ap, "AR": ar, "OCHuman AP": oc_ap, "OCHuman AR": oc_ar}
        rows.append(_vitpose_row(size, "coco17", on_coco, f"{kind}-"))
        short = "" if kind == "multi" else f"{kind}-"
        rows.append(_vitpose_row(size, "mpii16", {"PCKh": pckh}, short))
        rows.append(_vitpose_row(size, "aic14", {"AP": aic_ap, "AR": aic_ar}, short))
        if crowd is not None and hard is not None:
            rows.append(_vitpose_row(size, "crowdpose14", {"AP": crowd, "AP (H)": hard}))
    return rows


def _plus_rows() -> list[ZooRow]:
    rows = []
    for size, (ap, ar, oc_ap, oc_ar, pckh, aic_ap, aic_ar, ap10k, apt36k, whole) in _PLUS.items():
        scores = {
            "coco17": {"AP": ap, "AR": ar, "OCHuman AP": oc_ap, "OCHuman AR": oc_ar},
            "aic14": {"AP": aic_ap, "AR": aic_ar},
            "mpii16": {"PCKh": pckh},
            "ap10k17": {"AP": ap10k},
            "apt36k17": {"AP": apt36k},
            "wholebody133": {"AP": whole},
        }
        rows += [_vitpose_row(size, dataset, accuracy, "plus-") for dataset, accuracy in scores.items()]
    return rows


def _hap_rows() -> list[ZooRow]:
    rows = []
    for dataset, (metric, *scores) in _HAP_SCORES.items():
        for i, (size, input_hw) in enumerate(
            (("b", (256, 192)), ("b-384x288", (384, 288)), ("b-multi", (256, 192)), ("b-384x288-multi", (384, 288)))
        ):
            name = f"hap-{size}-{dataset}"
            rows.append(
                ZooRow(
                    name=name,
                    task="pose",
                    family="hap",
                    size=size.removesuffix("-multi"),
                    licence="see source",
                    source=_HAP,
                    accuracy={metric: scores[i]},
                    build=lazily("lite.models.vitpose:vitpose", "b", dataset, name=name, input_hw=input_hw),
                )
            )
    return rows


ZOO_ROWS = [
    *(
        _vitpose_row(size, "coco17", {"AP": ap, "AR": ar}, "simple-" if simple else "")
        for (size, simple), (ap, ar) in _VITPOSE_COCO.items()
    ),
    *_multi_rows(),
    *_plus_rows(),
    *_hap_rows(),
]
