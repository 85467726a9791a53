"""Canvases and boxes of the detection task, from a synthetic COCO file."""

import json
import tarfile

import cv2
import numpy as np
import pytest

from lite.errors import ConfigError
from lite.models.rtmdet import detector_spec
from lite.train.config import AugmentConfig, DataConfig, TrainConfig
from lite.train.detection_data import DetectionData, DetectionDataset, Picture, collate, paste, read_pictures

SPEC = detector_spec("person-nano", (64, 64), ("person",))
STILL = AugmentConfig(flip_prob=0, scale=(1, 1), colour=0, blur_prob=0)


def drawn(height, width, box):
    """A dark picture with a bright rectangle where the box is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 255
    return pixels


@pytest.fixture
def data(tmp_path):
    """Three pictures: one person; nobody; one person, one crowd, and perhaps others."""
    images, annotations = [], []
    cases = [(1, True, [(10, 20, 50, 60)], []), (2, True, [], []), (3, False, [(0, 0, 40, 40)], [(60, 0, 80, 20)])]
    for image_id, complete, people, crowds in cases:
        name = f"{image_id}.png"
        images.append({"id": image_id, "file_name": name, "width": 80, "height": 100, "boxes_complete": complete})
        cv2.imwrite(str(tmp_path / name), drawn(100, 80, people[0] if people else (0, 0, 0, 0)))
        for crowd, (x1, y1, x2, y2) in [*((0, box) for box in people), *((1, box) for box in crowds)]:
            entry = {"id": len(annotations), "image_id": image_id, "category_id": 1, "iscrowd": crowd, "area": 1.0}
            annotations.append(entry | {"bbox": [x1, y1, x2 - x1, y2 - y1], "num_keypoints": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    return DataConfig(annotations=str(tmp_path / "a.json"), images=str(tmp_path))


def config(data, **more):
    return TrainConfig(task="detect", model="person-nano", data=[data], output="unused", num_workers=0, **more)


def test_people_and_regions_of_unknown_content(data):
    pictures, held = read_pictures(data)
    assert [len(p.boxes) for p in pictures] == [1, 0, 1] and not held
    assert [p.ignored.tolist() for p in pictures] == [[], [], [[60, 0, 80, 20], [0, 0, 80, 100]]]
    learn, held = read_pictures(DataConfig(annotations=data.annotations, images=data.images, hold_out=0.4))
    assert (len(learn), len(held)) == (2, 1)


def test_validation_canvas_is_the_one_of_inference(data):
    entry = DetectionDataset(read_pictures(data)[0], SPEC, None)[0]
    assert entry["pixels"].shape == (64, 64, 3)
    assert (entry["pixels"][:, 52:] == 114).all()  # 80 x 100 becomes 51 x 64
    assert entry["boxes"][0].tolist() == pytest.approx([10 * 51 / 80, 12.8, 50 * 51 / 80, 38.4])


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (0.5, 2.0)])
def test_boxes_follow_the_pixels(data, flip, scale):
    augment = AugmentConfig(flip_prob=flip, scale=scale, colour=0, blur_prob=0)
    dataset = DetectionDataset(read_pictures(data)[0], SPEC, config(data, augment=augment))
    for draw in range(5):
        entry = dataset[0, draw]
        bright = np.argwhere((entry["pixels"].numpy() > 180).all(2))
        if not len(entry["boxes"]):
            continue
        found = [bright[:, 1].min(), bright[:, 0].min(), bright[:, 1].max() + 1, bright[:, 0].max() + 1]
        assert np.abs(entry["boxes"][0].numpy() - found).max() <= 1.0


def test_draws_differ_and_repeat(data):
    dataset = DetectionDataset(read_pictures(data)[0], SPEC, config(data))
    first, again, other = (dataset[0, draw]["pixels"] for draw in (1, 1, 2))
    assert (first == again).all() and not (first == other).all()


def test_four_pictures_in_one(data):
    augment = AugmentConfig(flip_prob=0, scale=(1, 1), colour=0, blur_prob=0, mosaic_prob=1.0)
    dataset = DetectionDataset(read_pictures(data)[0], SPEC, config(data, augment=augment))
    counts = [len(dataset[0, draw]["boxes"]) for draw in range(20)]
    assert max(counts) >= 3 and min(counts) >= 1


def test_sliver_of_a_person_is_ignored_not_background():
    picture = Picture(
        store=None, file_name="", boxes=np.float32([[0, 0, 40, 40]]), ignored=np.zeros((0, 4), np.float32)
    )
    pixels = drawn(40, 40, (0, 0, 40, 40))
    kept = sliver = 0
    for seed in range(40):
        canvas = np.full((40, 40, 3), 114, np.uint8)
        boxes, ignored = paste(canvas, pixels, picture, (0, 0, 40, 40), (2.5, 2.5), np.random.default_rng(seed))
        kept, sliver = kept + len(boxes), sliver + len(ignored)
        assert len(boxes) + len(ignored) == 1
        assert canvas.min() > 200
    assert sliver == 40 and kept == 0  # the canvas shows 16 % of the person


def test_pictures_in_a_tar_file(data, tmp_path):
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for i in (1, 2, 3):
            tar.add(tmp_path / f"{i}.png", f"{i}.png")
    pictures, _ = read_pictures(DataConfig(annotations=data.annotations, images=str(tmp_path / "images.tar")))
    with pictures[0].store:
        found = DetectionDataset(pictures, SPEC, None)[0]["pixels"]
    assert (found == DetectionDataset(read_pictures(data)[0], SPEC, None)[0]["pixels"]).all()


def test_batches_hold_any_number_of_people(data):
    dataset = DetectionDataset(read_pictures(data)[0], SPEC, config(data, augment=STILL))
    batch = collate([dataset[i] for i in range(3)])
    assert batch["pixels"].shape == (3, 64, 64, 3)
    assert [boxes.shape for boxes in batch["boxes"]] == [(1, 4), (0, 4), (1, 4)]


def test_nothing_to_learn_from(data, tmp_path):
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"] = []
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"a\.json"):
        DetectionData(config(data), SPEC)
