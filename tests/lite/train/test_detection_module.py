"""The detection task learns on pictures of bright rectangles, and writes weights that load."""

import json

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from lite.checkpoints import load_network, save_network
from lite.models.rtmdet import RTMDet, detector_spec, rtmdet, scaled_sizes
from lite.train.config import AugmentConfig, DataConfig, OptimConfig, TeacherConfig, TrainConfig
from lite.train.detection_data import DetectionDataset, collate, read_pictures
from lite.train.detection_module import DetectionModule
from lite.train.fit import train


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, 7):
        pixels = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        for _ in range(image_id % 3):
            x, y = rng.integers(0, 34, 2).tolist()
            pixels[y : y + 30, x : x + 20] = 230
            entry = {"id": len(annotations), "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": 600.0}
            annotations.append(entry | {"bbox": [x, y, 20, 30], "num_keypoints": 0})
        cv2.imwrite(str(tmp_path / f"{image_id}.png"), pixels)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 64, "height": 64})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    return DataConfig(annotations=str(tmp_path / "a.json"), images=str(tmp_path))


def config(data, folder, **more):
    still = AugmentConfig(flip_prob=0, scale=(1, 1), colour=0, blur_prob=0)
    values = {"augment": still, "batch_size": 2, "num_workers": 0, "device": "cpu", "progress": False, "ema": 0.9}
    return TrainConfig(task="detect", model="person-nano", data=[data], output=str(folder), **(values | more))


def small_network():
    torch.manual_seed(0)
    network = RTMDet(scaled_sizes(0.125, 0.167, neck_blocks=1, num_classes=1, exp_on_reg=True))
    network.spec = detector_spec("small", (64, 64), ("person",))
    return network


def whole_batch(data, spec):
    dataset = DetectionDataset(read_pictures(data)[0], spec, None)
    return collate([dataset[i] for i in range(len(dataset))])


def test_loss_falls_and_boxes_are_found(data, tmp_path):
    network = small_network()
    module = DetectionModule(network, config(data, tmp_path))
    batch = whole_batch(data, network.spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    network.train()
    losses = []
    for _ in range(70):
        loss = module.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
    module.average = None
    module.on_validation_epoch_start()
    with torch.no_grad():
        module.validation_step(batch, 0)
    assert len(module._scores) == 6
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: value})
    module.on_validation_epoch_end()
    assert 0.5 < logged["val_score"] <= 1.0


def norms(network):
    return [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("init, trains", [(None, True), ("some.safetensors", False)])
def test_norms_keep_their_statistics_when_starting_from_weights(data, tmp_path, init, trains):
    network = small_network().eval()
    module = DetectionModule(network, config(data, tmp_path, init=init))
    module.on_train_epoch_start()
    before = network.backbone.stem[0].bn.running_mean.clone()
    module.loss(whole_batch(data, network.spec))
    assert network.training and all(norm.training is trains for norm in norms(network))
    assert torch.equal(network.backbone.stem[0].bn.running_mean, before) is not trains


def test_teacher_that_agrees_adds_nothing(data, tmp_path):
    """Boxes not complete, nobody labelled: with itself as its teacher a network has nothing to learn."""
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"] = []
    for image in content["images"]:
        image["boxes_complete"] = False
    (tmp_path / "a.json").write_text(json.dumps(content))
    network = small_network().eval()
    batch = whole_batch(data, network.spec)
    taught = DetectionModule(network, config(data, tmp_path), teacher=network)
    assert taught.loss(batch)["loss"].item() == pytest.approx(0, abs=1e-6)
    teacher = small_network().eval()
    torch.nn.init.constant_(teacher.bbox_head.rtm_cls[0].bias, 3.0)
    other = DetectionModule(network, config(data, tmp_path, teacher=TeacherConfig(weight=2.0)), teacher=teacher)
    assert other.loss(batch)["loss"].item() > 1
    assert not any(key.startswith("_teacher") for key in other.state_dict())


def test_run_from_recipe_to_weights(data, tmp_path, capsys):
    torch.manual_seed(0)
    start = rtmdet("nano", "person", "person-nano", canvas=64)
    path = save_network(start, tmp_path / "start.safetensors")
    held = DataConfig(annotations=data.annotations, images=data.images, hold_out=0.4)
    settings = config(held, tmp_path / "run", init=str(path), epochs=1, optim=OptimConfig(lr=1e-3, warmup_steps=1))
    assert train(settings) == 0
    written = load_network(tmp_path / "run" / "person-nano.safetensors")
    assert written.spec.model == "person-nano" and written.spec.task == "detect"
    changed = [not torch.equal(a, b) for a, b in zip(written.parameters(), start.parameters())]
    assert any(changed)
    assert "4 to learn from, 2 held out" in capsys.readouterr().out
