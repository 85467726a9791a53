"""The Lite-HRNet rows of the zoo; imports no torch, so listing models is quick."""

from lite.models.rows import ZooRow, lazily

ZOO_ROWS = [
    ZooRow(
        name="pose17-small",
        task="pose",
        family="lite-hrnet",
        size="small",
        licence="Apache-2.0",
        source="this project, initialised from PP-TinyPose 256x192 of PaddleDetection",
        weights="pose17-small.safetensors",
        accuracy={"AP (135 val photographs)": 55.5},
        default=True,
        build=lazily("lite.models.lite_hrnet:pose17_small"),
    )
]
