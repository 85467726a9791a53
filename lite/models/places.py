"""Where the weights of zoo rows can be downloaded: `PLACES`, by name of the row. Imports no torch.

Source: tables of models in the originals' documentation and the `metafile` listings of mmdetection and mmpose.
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, kw_only=True)
class Place:
    """One published file, on the Hugging Face hub (`repository`) or at an address of its own (`url`).

    Attributes:
        file: its path in the repository, or its name at the address.
        repository: owner and name on the hub.
        revision: branch, tag or commit of the repository.
        url: https address, where it is not on the hub.
        sha256: of its content, all 64 hexadecimal digits or at least the first eight; empty where none is published.
        beside: further files of the repository that are kept in its folder.
        save_as: path under the checkpoints folder; unset keeps the file's own name.
        accuracy: published for this very file, where it is not the one that the row's numbers are of.
    """

    file: str
    repository: str | None = None
    revision: str = "main"
    url: str | None = None
    sha256: str = ""
    beside: tuple[str, ...] = ()
    save_as: str | None = None
    accuracy: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.repository is None) == (self.url is None):
            raise ValueError(f"{self.file}: expected a repository or an address, one of the two")
        if self.url is not None and not self.url.startswith("https://"):
            raise ValueError(f"{self.file}: expected an https address, found {self.url}")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"{self.file}: expected 8 to 64 hexadecimal digits, found {self.sha256!r}")
        for path in (self.file, *self.beside, self.save_as or ""):
            if path.startswith("/") or ".." in PurePosixPath(path).parts:
                raise ValueError(f"expected a path that stays in its folder, found {path}")

    @property
    def stored_name(self) -> str:
        """Path under the checkpoints folder."""
        return self.save_as or PurePosixPath(self.file).name

    @property
    def text(self) -> str:
        """In a few words: the repository, or the server."""
        return self.repository if self.repository is not None else str(self.url).split("/")[2]


_OPENMMLAB = "https://download.openmmlab.com"
_SAPIENS_COCO = "noahcao/sapiens-pose-coco"
_SAPIENS = "facebook/sapiens"


def _sapiens(repository: str, task: str, size: str, ending: str) -> Place:
    return Place(
        repository=repository, file=f"sapiens_host/{task}/checkpoints/sapiens_{size}/sapiens_{size}_{ending}.pth"
    )


def _openmmlab(path: str, accuracy: dict[str, float] | None = None) -> Place:
    """A file whose name carries the first eight digits of its SHA-256, at its end or before a date."""
    name = PurePosixPath(path).name
    digits = re.search(r"-([0-9a-f]{8})(?:_\d{8})?\.pth$", name)
    if digits is None:
        raise ValueError(f"{name}: expected eight hexadecimal digits at its end")
    return Place(file=name, url=f"{_OPENMMLAB}/{path}", sha256=digits[1], accuracy=accuracy or {})


def _sapiens_places() -> dict[str, Place]:
    coco = {"0.3b": 796, "0.6b": 812, "1b": 821, "2b": 822}
    whole = {"0.3b": 620, "0.6b": 695, "1b": 727, "2b": 745}
    goliath = {"0.3b": 573, "0.6b": 609, "1b": 639}
    parts = {"0.3b": "7673_epoch_194", "0.6b": "7777_epoch_178", "1b": "7994_epoch_151"}
    return {
        **{
            f"sapiens-{s}-coco17": _sapiens(_SAPIENS_COCO, "pose", s, f"coco_best_coco_AP_{ap}")
            for s, ap in coco.items()
        },
        **{
            f"sapiens-{s}-wholebody133": _sapiens(
                _SAPIENS_COCO, "pose", s, f"coco_wholebody_best_coco_wholebody_AP_{ap}"
            )
            for s, ap in whole.items()
        },
        **{
            f"sapiens-{s}-goliath308": _sapiens(_SAPIENS, "pose", s, f"goliath_best_goliath_AP_{ap}")
            for s, ap in goliath.items()
        },
        **{
            f"sapiens-{s}-seg28": _sapiens(_SAPIENS, "seg", s, f"goliath_best_goliath_mIoU_{ending}")
            for s, ending in parts.items()
        },
    }


def _rtmdet_places() -> dict[str, Place]:
    coco = {
        "tiny": "20220902_112414-78e30dcc",
        "s": "20220905_161602-387a891e",
        "m": "20220719_112220-229f527c",
        "l": "20220719_112030-5a0be7c4",
        "x": "20220715_230555-cc79b9ae",
    }
    person = {"nano": "05d8511e", "m": "235e8209"}
    return {
        **{
            f"rtmdet-{size}-coco80": _openmmlab(
                f"mmdetection/v3.0/rtmdet/rtmdet_{size}_8xb32-300e_coco/rtmdet_{size}_8xb32-300e_coco_{ending}.pth"
            )
            for size, ending in coco.items()
        },
        **{
            f"rtmdet-{size}-person": _openmmlab(
                f"mmpose/v1/projects/rtmpose/rtmdet_{size}_8xb32-100e_coco-obj365-person-{digits}.pth"
            )
            for size, digits in person.items()
        },
    }


def _transformers(name: str) -> Place:
    """A folder of Hugging Face's transformers, kept as a folder."""
    return Place(
        repository=f"usyd-community/{name}",
        file="model.safetensors",
        beside=("config.json",),
        save_as=f"{name}/model.safetensors",
    )


def _hrnet_places() -> dict[str, Place]:
    """The originals lie on personal drives; mmpose's networks of the same shape, trained again, have an address."""
    folder = "mmpose/bottom_up"
    return {
        "higherhrnet-w32-coco17": _openmmlab(
            f"{folder}/higher_hrnet32_coco_512x512-8ae85183_20200713.pth", {"AP": 67.7, "AR": 72.3}
        ),
        "higherhrnet-w48-coco17": _openmmlab(
            f"{folder}/higher_hrnet48_coco_512x512-60fedcbc_20200712.pth", {"AP at 512 px": 68.6, "AR at 512 px": 73.1}
        ),
        "ae-hrnet-w32-coco17": _openmmlab(f"{folder}/hrnet_w32_coco_512x512-bcb8c247_20200816.pth"),
    }


def _vitpose_places() -> dict[str, Place]:
    """Of one data set: mmpose's, trained again. Of several: the originals, in the form of transformers."""
    retrained = {
        "s": ("small", "62d7a712_20230314", 73.9, 79.2),
        "b": ("base", "216eae50_20230314", 75.7, 81.0),
        "l": ("large", "53609f55_20230314", 78.2, 83.4),
        "h": ("huge", "e32adcd4_20230314", 78.8, 83.9),
        "s-simple": ("small-simple", "4c101a76_20230314", 73.6, 79.0),
        "b-simple": ("base-simple", "0b8234ea_20230407", 75.6, 80.9),
        "l-simple": ("large-simple", "3a7ee9e1_20230314", 78.1, 83.3),
        "h-simple": ("huge-simple", "ffd48c05_20230314", 78.9, 83.9),
    }
    folder = "mmpose/v1/body_2d_keypoint/topdown_heatmap/coco"
    plus = {"s": "small", "b": "base", "l": "large", "h": "huge"}
    return {
        **{
            f"vitpose-{size}-coco17": _openmmlab(
                f"{folder}/td-hm_ViTPose-{word}_8xb64-210e_coco-256x192-{ending}.pth", {"AP": ap, "AR": ar}
            )
            for size, (word, ending, ap, ar) in retrained.items()
        },
        **{f"vitpose-plus-{size}-coco17": _transformers(f"vitpose-plus-{word}") for size, word in plus.items()},
        "vitpose-b-multi-coco17": _transformers("vitpose-base-coco-aic-mpii"),
    }


PLACES: dict[str, Place] = {**_sapiens_places(), **_rtmdet_places(), **_hrnet_places(), **_vitpose_places()}
