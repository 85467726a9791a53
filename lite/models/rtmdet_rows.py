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
# size, labels, box AP on COCO val as published
_PUBLISHED = [
    ("nano", "person", 40.3, _RTMPOSE),
    ("m", "person", 62.5, _RTMPOSE),
    ("tiny", "coco80", 41.1, _MMDET),
    ("s", "coco80", 44.6, _MMDET),
    ("m", "coco80", 49.4, _MMDET),
    ("l", "coco80", 51.5, _MMDET),
    ("x", "coco80", 52.8, _MMDET),
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
            accuracy={"person AP" if labels == "person" else "box AP": ap},
            build=lazily("lite.models.rtmdet:rtmdet", size, labels),
        )
        for size, labels, ap, source in _PUBLISHED
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
