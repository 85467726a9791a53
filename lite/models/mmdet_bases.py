"""The RTMDet configurations of mmdetection that detector files name as `mmdet::rtmdet/...`, as tables.

Only what inference reads is here, plus the few names that files built on them refer to.
Source: mmdetection 3.3.0, configs/rtmdet/rtmdet_{tiny,s,m,l,x}_8xb32-300e_coco.py and their bases.
"""

from typing import Any

_PRETRAINED = "https://download.openmmlab.com/mmdetection/v3.0/rtmdet/cspnext_rsb_pretrain/cspnext-{}_imagenet_600e.pth"
# size: deepen, widen, neck and head width, neck blocks, exponential distances, trunk weights named
_ROWS: dict[str, tuple[float, float, int, int, bool, bool]] = {
    "tiny": (0.167, 0.375, 96, 1, False, True),
    "s": (0.33, 0.5, 128, 1, False, True),
    "m": (0.67, 0.75, 192, 2, True, False),
    "l": (1, 1, 256, 3, True, False),
    "x": (1.33, 1.25, 320, 4, True, False),
}
BASES = {f"rtmdet/rtmdet_{size}_8xb32-300e_coco.py": size for size in _ROWS}


def rtmdet_base(size: str) -> dict[str, Any]:
    """The top-level names of one configuration; a new dict at every call."""
    deepen, widen, width, blocks, exponential, pretrained = _ROWS[size]
    layers = {"norm_cfg": {"type": "SyncBN"}, "act_cfg": {"type": "SiLU", "inplace": True}}
    dataset = {"type": "CocoDataset", "data_root": "data/coco/", "test_mode": True, "pipeline": _test_pipeline()}
    model = {
        "type": "RTMDet",
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": [103.53, 116.28, 123.675],
            "std": [57.375, 57.12, 58.395],
            "bgr_to_rgb": False,
            "batch_augments": None,
        },
        "backbone": {
            "type": "CSPNeXt",
            "arch": "P5",
            "expand_ratio": 0.5,
            "deepen_factor": deepen,
            "widen_factor": widen,
            "channel_attention": True,
            **_copy(layers),
        },
        "neck": {
            "type": "CSPNeXtPAFPN",
            "in_channels": [width, 2 * width, 4 * width],
            "out_channels": width,
            "num_csp_blocks": blocks,
            "expand_ratio": 0.5,
            **_copy(layers),
        },
        "bbox_head": {
            "type": "RTMDetSepBNHead",
            "num_classes": 80,
            "in_channels": width,
            "stacked_convs": 2,
            "feat_channels": width,
            "anchor_generator": {"type": "MlvlPointGenerator", "offset": 0, "strides": [8, 16, 32]},
            "bbox_coder": {"type": "DistancePointBBoxCoder"},
            "loss_cls": {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0},
            "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
            "with_objectness": False,
            "exp_on_reg": exponential,
            "share_conv": True,
            "pred_kernel_size": 1,
            **_copy(layers),
        },
        "train_cfg": {
            "assigner": {"type": "DynamicSoftLabelAssigner", "topk": 13},
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "test_cfg": {
            "nms_pre": 30000,
            "min_bbox_size": 0,
            "score_thr": 0.001,
            "nms": {"type": "nms", "iou_threshold": 0.65},
            "max_per_img": 300,
        },
    }
    if pretrained:
        model["backbone"]["init_cfg"] = {
            "type": "Pretrained",
            "prefix": "backbone.",
            "checkpoint": _PRETRAINED.format(size),
        }
    return {
        "default_scope": "mmdet",
        "backend_args": None,
        "dataset_type": "CocoDataset",
        "data_root": "data/coco/",
        "max_epochs": 300,
        "stage2_num_epochs": 20,
        "base_lr": 0.004,
        "interval": 10,
        "model": model,
        "test_pipeline": _test_pipeline(),
        "val_dataloader": {"dataset": _copy(dataset)},
        "test_dataloader": {"dataset": dataset},
    }


def _test_pipeline() -> list[dict[str, Any]]:
    meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return [
        {"type": "LoadImageFromFile", "backend_args": None},
        {"type": "Resize", "scale": (640, 640), "keep_ratio": True},
        {"type": "Pad", "size": (640, 640), "pad_val": {"img": (114, 114, 114)}},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "PackDetInputs", "meta_keys": meta_keys},
    ]


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}
