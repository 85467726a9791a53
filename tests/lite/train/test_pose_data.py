"""Training crops: labels move with the pixels, draws repeat, epochs and held-out people are fixed."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

from lite.errors import ConfigError
from lite.models.lite_hrnet import pose_spec
from lite.train.config import AugmentConfig, DataConfig, TrainConfig
from lite.train.loaders import EpochSampler, held_out_ids
from lite.train.pose_data import PoseData, PoseDataset, read_entries

SPEC = pose_spec("pose17-small", (256, 192))
POINTS = [[40 + 6 * (i % 5), 30 + 10 * (i // 5)] for i in range(17)]


def written(folder, num_images, people_each=1):
    """Black pictures with a white dot at one keypoint per person: the k-th picture shows keypoint k."""
    images, people = [], []
    for i in range(num_images):
        pixels = np.zeros((120, 110, 3), np.uint8)
        x, y = POINTS[i % 17]
        pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
        cv2.imwrite(str(folder / f"{i}.png"), pixels)
        images.append({"id": i, "file_name": f"{i}.png", "width": 110, "height": 120})
        for _ in range(people_each):
            keypoints = [value for point in POINTS for value in (*point, 2)]
            box = [30, 20, 50, 60]
            people.append({"id": len(people), "image_id": i, "bbox": box, "keypoints": keypoints, "area": 1500})
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": people}))
    return DataConfig(annotations=str(folder / "annotations.json"), images=str(folder))


def recipe(data, **changes):
    return TrainConfig(task="pose", model="pose17-small", data=[data], output="unused", **changes)


@pytest.mark.parametrize("flipped", [False, True])
def test_labels_move_with_the_pixels(tmp_path, flipped):
    data = written(tmp_path, 17)
    augment = AugmentConfig(
        flip_prob=float(flipped), rotation_prob=1.0, shift_prob=1.0, half_body_prob=0.0, colour=0.0, blur_prob=0.0
    )
    dataset = PoseDataset(read_entries(data, "coco17")[0], SPEC, recipe(data, augment=augment))
    seen = 0
    for k in range(17):
        sample = dataset[k, 5]
        crop = sample["pixels"].numpy().astype(float).mean(2)
        joint = dataset.skeleton.flip_indices[k] if flipped else k
        if not sample["weights"][joint]:
            continue  # turned out of the crop
        ys, xs = np.nonzero(crop > 60)
        weights = crop[ys, xs]
        dot = np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()
        assert np.linalg.norm(dot - sample["keypoints"][joint].numpy()) < 1.5
        seen += 1
    assert seen > 10


def test_draws_repeat_and_differ_between_epochs(tmp_path):
    data = written(tmp_path, 1)
    dataset = PoseDataset(read_entries(data, "coco17")[0], SPEC, recipe(data))
    first, same, other = dataset[0, 1], dataset[0, 1], dataset[0, 2]
    assert torch.equal(first["pixels"], same["pixels"])
    assert not torch.equal(first["keypoints"], other["keypoints"])


def test_validation_crops_are_plain(tmp_path):
    data = written(tmp_path, 1)
    sample = PoseDataset(read_entries(data, "coco17")[0], SPEC, None)[0]
    # box 50 x 60 at (30, 20): padded 62.5 x 75, widened to 62.5 x 83.3; its corner pixel centres are the crop's
    width, height = 62.5, 62.5 * 256 / 192
    expected = (np.array(POINTS) - (55 - width / 2, 50 - height / 2)) / (width, height) * (191, 255)
    np.testing.assert_allclose(sample["keypoints"].numpy(), expected, atol=1e-2)
    assert float(sample["oks_scale"]) == pytest.approx(1500 * (192 / width) * (256 / height), rel=1e-4)


def test_held_out_people_are_fixed_and_share_no_picture(tmp_path):
    data = dataclasses.replace(written(tmp_path, 20, people_each=2), hold_out=0.2)
    learn, keep = read_entries(data, "coco17")
    assert (len(learn), len(keep)) == (32, 8)
    assert {e.file_name for e in learn}.isdisjoint(e.file_name for e in keep)
    assert held_out_ids(list(range(20)), 0.2) == held_out_ids(list(range(19, -1, -1)), 0.2)


def test_an_epoch_sees_each_set_as_often_as_asked():
    sampler = EpochSampler([10, 8], [1.0, 0.5], seed=3)
    first = list(sampler)
    assert len(first) == len(sampler) == 14
    assert sorted(i for i, _ in first if i < 10) == list(range(10))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert {i for i, _ in EpochSampler([3], [2.0], 0)} == {0, 1, 2}
    assert len({tuple(pair) for pair in EpochSampler([3], [2.0], 0)}) == 6  # the second time drawn anew
    assert list(EpochSampler([0], [1.0], 0)) == []


def test_batches_of_one_and_many_and_nobody(tmp_path):
    data = written(tmp_path, 5)
    loader = PoseData(recipe(data, batch_size=2, num_workers=0), SPEC).train_dataloader()
    shapes = [tuple(batch["pixels"].shape) for batch in loader]
    assert shapes == [(2, 256, 192, 3)] * 2  # a short last batch is left out
    one = PoseData(recipe(written(tmp_path, 1), batch_size=8, num_workers=0), SPEC)
    assert [len(batch["weights"]) for batch in one.train_dataloader()] == [1]
    assert list(one.val_dataloader()) == []
    with pytest.raises(ConfigError, match="found none"):
        PoseData(recipe(written(tmp_path, 0)), SPEC)
