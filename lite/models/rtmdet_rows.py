"""The RTMDet rows of the zoo and the class names of COCO; imports no torch, so listing models is quick."""

from lite.models.rows import ZooRow, lazily

COCO80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip

_MMDET = "mmdetection 3.x, configs/rtmdet"
_RTMPOSE = "mmpose, projects/rtmpose"
# size, labels, box AP on COCO val as published, origin, file as published
_PUBLISHED = [
    ("nano", "person", 40.3, _RTMPOSE, "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth"),
    ("m", "person", 62.5, _RTMPOSE, "rtmdet_m_8xb32-100e_coco-obj365-person-235e8209.pth"),
    ("tiny", "coco80", 41.1, _MMDET, "rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth"),
    ("s", "coco80", 44.6, _MMDET, "rtmdet_s_8xb32-300e_coco_20220905_161602-387a891e.pth"),
    ("m", "coco80", 49.4, _MMDET, "rtmdet_m_8xb32-300e_coco_20220719_112220-229f527c.pth"),
    ("l", "coco80", 51.5, _MMDET, "rtmdet_l_8xb32-300e_coco_20220719_112030-5a0be7c4.pth"),
    ("x", "coco80", 52.8, _MMDET, "rtmdet_x_8xb32-300e_coco_20220715_230555-cc79b9ae.pth"),
]

ZOO_ROWS = [
    *(
        ZooRow(
            name=f"rtmdet-{size}-{labels}",
            task="detect",
            family="rtmdet",
            size=size,
            licence="Apache-2.0",
            source=source,
            weights=file,
            accuracy={"person AP" if labels == "person" else "box AP": ap},
            build=lazily("lite.models.rtmdet:rtmdet", size, labels),
        )
        for size, labels, ap, source, file in _PUBLISHED
    ),
    ZooRow(
        name="person-nano",
        task="detect",
        family="rtmdet",
        size="nano",
        licence="Apache-2.0",
        source="this project, initialised from the RTMDet-nano person detector of OpenMMLab's RTMPose",
        weights="person-nano.safetensors",
        default=True,
        build=lazily("lite.models.rtmdet:rtmdet", "nano", "person", "person-nano"),
    ),
]
