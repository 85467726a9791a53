"""What a large picture costs through segmentation, merging, drawing and PNG, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path

import numpy as np

from lite.artifact import ArtifactSpec, CropRule, FrameRule, OutputSpec
from lite.draw_labels import draw_labels
from lite.engine.pipeline import Pipeline
from lite.writers.label_maps import write_label_map
from lite.writers.overlays import write_overlay

CLASSES, CELLS_HW = 28, (128, 96)


class Network:
    device, describe = "cpu", "fake"
    spec = ArtifactSpec(
        task="segment", model="fake", input_hw=(256, 192), mean=(0, 0, 0), std=(1, 1, 1), crop=CropRule(),
        frame=FrameRule(kind="stretch"), labels=tuple(f"class {n}" for n in range(CLASSES)),
        palette=((9, 9, 9),) * CLASSES,
        outputs=(OutputSpec(name="logits", shape=("N", CLASSES, *CELLS_HW), dtype="float32", unit=""),),
    )

    def run(self, pixels):
        logits = np.zeros((len(pixels), CLASSES, *CELLS_HW), np.float32)
        for n in range(CLASSES):  # stripes
            logits[:, n, :, n::CLASSES] = 5
        return {"logits": logits}

    def close(self):
        pass


def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def run(h, w):
    frame = np.zeros((h, w, 3), np.uint8)
    frame[:] = 7  # real pages
    before = peak()
    (result,) = Pipeline(Network()).results([frame])
    assert sum(result.record.areas.values()) == h * w and len(result.record.areas) == CLASSES
    write_label_map(Path(sys.argv[1]), result.label_map, Network.spec.palette)
    write_overlay(Path(sys.argv[2]), draw_labels(frame, result.label_map, Network.spec.palette))
    return peak() - before


run(128, 192)  # imports and threads
print(run(4000, 6000) / 24)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_bytes_a_pixel_of_a_large_picture(tmp_path: Path, root: Path) -> None:
    """The usual way, 28 classes resized to the picture, would take 112; of the 8 here 6 are drawing and JPEG."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.png"), str(tmp_path / "a.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=120)
    assert float(done.stdout) < 10
