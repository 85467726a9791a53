"""mmdetection configurations: what they resolve to, what is refused, and the network made of one."""

import json

import pytest
import torch

from lite.checkpoints import read_state_dict
from lite.errors import CheckpointError, ConfigError, ModelError
from lite.models.mmdet_bases import BASES, rtmdet_base
from lite.models.mmdet_config import read_mmdet_config, rtmdet_from_config
from lite.models.rtmdet import RTMDet, rtmdet, rtmdet_from_state_dict, scaled_sizes

CASES = ("det_416_pipeline", "det_child_no_nms", "det_delete", "det_nano_style", "det_one_class")


def plain(values):
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("name", CASES)
def test_resolves_as_mmengine_does(golden, name):
    expected = json.loads((golden / "rtmdet/configs/expected.json").read_text())[f"{name}.py"]
    values = plain(read_mmdet_config(golden / f"rtmdet/configs/{name}.py"))
    found = {
        "default_scope": values["default_scope"],
        "model": values["model"],
        "test_pipeline": values["test_dataloader"]["dataset"]["pipeline"],
    }
    assert found == expected


@pytest.mark.parametrize("file", BASES)
def test_built_in_tables_are_the_original_ones(shared, file):
    stored = json.loads((shared / "reference/rtmdet/golden/configs/resolved_upstream.json").read_text())
    expected = stored[f"mmdetection/configs/{file}"]
    found = plain(rtmdet_base(BASES[file]))
    assert {key: found[key] for key in ("default_scope", "model", "test_pipeline")} == expected


def write(folder, text, name="config.py"):
    path = folder / name
    path.write_text(text)
    return path


def test_values_named_many_times_stay_small(tmp_path):
    """Sixty levels of two copies each would be 2^60 lists."""
    values = read_mmdet_config(write(tmp_path, "x = [1]\n" + "x = [x, x]\n" * 60))
    assert values["x"][0] is values["x"][1]


def test_references_and_merging(tmp_path):
    write(tmp_path, "a = dict(x=1, y=dict(z=2))\nb = [1, 2]\nn = None", "base.py")
    child = write(
        tmp_path,
        "_base_ = ['base.py']\na = dict(y=dict(w=_base_.b), v={{_base_.a.x}})\nb = [3]\n"
        "c = '{{_base_.a}}'\nd = -b[0] + 2 * 3\ne: int = 7\nf = {'k': (1.5, True), **a}\nn = dict(_delete_=True, q=1)\n"
        "here = '{{ fileBasename }}'\n",
    )
    values = read_mmdet_config(child)
    assert values["a"] == {"x": 1, "y": {"z": 2, "w": [1, 2]}, "v": 1}
    assert (values["b"], values["c"], values["d"], values["e"]) == ([3], {"x": 1, "y": {"z": 2}}, 3, 7)
    assert values["f"]["k"] == (1.5, True) and values["f"]["v"] == 1
    assert (values["n"], values["here"]) == ({"q": 1}, "config.py")


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "x = __import__('os').system('true')",
        "x = open('/etc/passwd')",
        "from mmengine.config import read_base\nwith read_base():\n    pass",
        "x = [i for i in range(3)]",
        "x = y",
        "x = (lambda: 1)()",
        "x = ().__class__",
        "x = 'a' * 10 ** 9",
        "x = 'a' * 100000000",
        "x = '%999999999d' % 1",
        "x = 9\n" + "x = x * x\n" * 60,
        "x = 'a'\n" + "x = x + x\n" * 60,
        "x = 1 / 0",
        "x = dict(a=1)['b']",
        "def f(): pass",
        "x = (",
        "_base_ = 'mmdet::rtmdet_tta.py'",
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'",
        "_base_ = 'absent.py'",
        "_base_ = 'config.py'",
        "_base_ = 3",
        "x = {{_base_.absent}}",
        "_base_ = ['mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', 'mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py']",
        "_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'\nbackend_args = dict(a=1)",
        "x = " + "[" * 5000 + "]" * 5000,
    ],
)
def test_refused_with_the_file_named(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"\.py"):
        read_mmdet_config(path)


TINY = (
    "_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'\n"
    "model = dict(backbone=dict(widen_factor=0.0625, deepen_factor=0.167),\n"
    "    neck=dict(in_channels=[16, 32, 64], out_channels=16),\n"
    "    bbox_head=dict(in_channels=16, feat_channels=16, num_classes=2, exp_on_reg=True,\n"
    "                   norm_cfg=dict(type='BN', eps=1e-3)))\n"
)


def tiny_state(**changed):
    torch.manual_seed(0)
    sizes = {"neck_blocks": 1, "num_classes": 2, **changed}
    return RTMDet(scaled_sizes(0.0625, 0.167, **sizes)).state_dict()


def test_network_from_a_configuration(tmp_path):
    path = write(
        tmp_path,
        TINY + "side = 256\ntest_dataloader = dict(dataset=dict(metainfo=dict(classes=('cat', 'person')), pipeline=[\n"
        "    dict(type='Resize', scale=(side, side), keep_ratio=True),\n"
        "    dict(type='Pad', size=(side, side), pad_val=dict(img=(7, 7, 7)))]))\n"
        "test_cfg = dict(score_thr=0.2, nms=None, nms_pre=50, max_per_img=9)\n",
    )
    values = read_mmdet_config(path)
    values["model"]["test_cfg"] = values["test_cfg"]
    network = rtmdet_from_config(values, tiny_state())
    spec = network.spec
    assert (spec.input_hw, spec.letterbox.fill, spec.labels, spec.person_label) == ((256, 256), 7, ("cat", "person"), 1)
    assert (spec.codec["score_thr"], spec.codec["nms_thr"], spec.codec["max_per_frame"]) == (0.2, None, 9)
    assert (spec.codec["nms_pre"], spec.codec["min_box_px"], spec.codec["person_label"]) == (50, None, 1)
    assert network.sizes.exp_on_reg and network.sizes.bn_eps == (1e-5, 1e-5, 1e-3)
    assert network.bbox_head.cls_convs[1][0].bn.eps == 1e-3


def test_files_of_the_original(golden, tmp_path):
    """The exponential distances of `std.pth` are in its configuration alone."""
    model = json.loads((golden / "rtmdet/std.json").read_text())["model"]
    sections = {"type": "RTMDet", **model}
    pipeline = [
        {"type": "Resize", "scale": (320, 320), "keep_ratio": True},
        {"type": "Pad", "size": (320, 320), "pad_val": {"img": (114, 114, 114)}},
    ]
    path = write(tmp_path, f"model = {sections!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n")
    network = rtmdet_from_config(path, *read_state_dict(golden / "rtmdet/std.pth"))
    assert network.sizes.exp_on_reg and network.spec.labels == ("person",)
    assert network.spec.input_hw == (320, 320)
    assert not rtmdet_from_state_dict(network.state_dict()).sizes.exp_on_reg


@pytest.mark.parametrize(
    "file, size, labels",
    [
        ("mmpose/projects/rtmpose/rtmdet/person/rtmdet_nano_320-8xb32_coco-person.py", "nano", "person"),
        ("sapiens/pose/demo/mmdetection_cfg/rtmdet_m_640-8xb32_coco-person_no_nms.py", "m", "person"),
        ("mmdetection/configs/rtmdet/rtmdet_tiny_8xb32-300e_coco.py", "tiny", "coco80"),
    ],
)
def test_published_configurations_give_the_networks_of_the_zoo(shared, file, size, labels):
    stored = json.loads((shared / "reference/rtmdet/golden/configs/resolved_upstream.json").read_text())[file]
    with torch.device("meta"):
        own = rtmdet(size, labels)
    state = {key: torch.zeros((), dtype=t.dtype).expand(t.shape) for key, t in own.state_dict().items()}
    network = rtmdet_from_config(stored, state)
    assert network.sizes == own.sizes
    codec = dict(own.spec.codec, class_agnostic=False)
    if file.endswith("no_nms.py"):
        codec["nms_thr"] = None
    assert network.spec.codec == codec
    assert (network.spec.input_hw, network.spec.mean, network.spec.labels) == (
        own.spec.input_hw,
        own.spec.mean,
        own.spec.labels,
    )


def test_names_in_the_checkpoint_come_first(tmp_path):
    network = rtmdet_from_config(write(tmp_path, TINY), tiny_state(), {"CLASSES": ("a", "b")})
    assert (network.spec.labels, network.spec.input_hw) == (("a", "b"), (640, 640))
    assert network.spec.codec["nms_thr"] == 0.65


@pytest.mark.parametrize(
    "more, error, word",
    [
        ("model['type'] = 'FasterRCNN'", ModelError, "mmdet"),
        ("model['backbone']['arch'] = 'P6'", ConfigError, "arch"),
        ("model['neck']['use_depthwise'] = True", ConfigError, "use_depthwise"),
        ("model['bbox_head']['act_cfg'] = {'type': 'ReLU'}", ConfigError, "act_cfg"),
        ("model['bbox_head']['anchor_generator']['offset'] = 0.5", ConfigError, "anchor_generator"),
        ("model['neck']['in_channels'] = [1, 2, 3]", ConfigError, "in_channels"),
        ("model['data_preprocessor']['mean'] = [1]", ConfigError, "mean"),
        ("model['test_cfg']['nms']['type'] = 'soft_nms'", ConfigError, "soft_nms"),
        ("values['test_dataloader']['dataset']['pipeline'][1]['scale'] = (640, 480)", ConfigError, "square"),
        ("values['test_dataloader']['dataset']['pipeline'][2]['pad_val']['img'] = (1, 2, 3)", ConfigError, "grey"),
        ("model['bbox_head']['num_classes'] = 3", CheckpointError, "rtm_cls"),
    ],
)
def test_networks_that_are_not_built_in(tmp_path, more, error, word):
    values = read_mmdet_config(write(tmp_path, TINY))
    exec(more, {"values": values, "model": values["model"]})
    with pytest.raises(error, match=word):
        rtmdet_from_config(values, tiny_state())


def test_rgb_networks(tmp_path):
    values = read_mmdet_config(write(tmp_path, TINY))
    values["model"]["data_preprocessor"].update(bgr_to_rgb=True, mean=[123.675, 116.28, 103.53])
    spec = rtmdet_from_config(values, tiny_state()).spec
    assert (spec.color_order, spec.mean[0]) == ("RGB", 123.675)
