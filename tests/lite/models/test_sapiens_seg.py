"""Sapiens segmentation against the original: key listings of every published size and set, and tiny networks."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lite.backends import open_backend
from lite.checkpoints import load_network, read_state_dict, save_network
from lite.errors import CheckpointError
from lite.label_sets import load_label_set
from lite.models.listing import file_facts
from lite.models.sapiens import SIZES, TrunkSizes, sapiens_from_state_dict
from lite.models.sapiens_seg import SETS, SapiensSegmenter, sapiens_segmenter
from lite.models.zoo import ZOO

# Origin and tolerances: tests/golden/sapiens/segmentation/README.md
FEATURES, LOGITS = 5e-5, 2e-4
LISTINGS = {"goliath28": "seg_goliath", "face19": "seg_face", "lip20": "seg_lip", "cihp20": "seg_cihp"}


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "sapiens" / "segmentation"


def close(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=tolerance, rtol=0)


def listing(size: str, label_set: str) -> tuple[list[list[Any]], SapiensSegmenter]:
    with torch.device("meta"):
        network = sapiens_segmenter(size, label_set)
    return [[name, list(value.shape), str(value.dtype)[6:]] for name, value in network.state_dict().items()], network


@pytest.mark.parametrize("label_set", LISTINGS)
@pytest.mark.parametrize("size", SIZES)
def test_full_size_equals_its_listing(shared: Path, size: str, label_set: str) -> None:
    path = shared / f"reference/sapiens/manifests/{LISTINGS[label_set]}_{size}.json"
    assert listing(size, label_set)[0] == json.loads(path.read_text())["state_dict"]


@pytest.mark.parametrize("label_set", LISTINGS)
@pytest.mark.parametrize("size", SIZES)
def test_full_size_has_the_digest_of_its_listing(folder: Path, size: str, label_set: str) -> None:
    expected = json.loads((folder / "listings.json").read_text())[f"{LISTINGS[label_set]}_{size}"]
    found, network = listing(size, label_set)
    assert len(found) == expected["tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == expected["parameters"]
    assert hashlib.sha256(json.dumps(found, separators=(",", ":")).encode()).hexdigest() == expected["sha256"]
    assert network.backbone.patch_embed.padding == SETS[label_set][1]
    assert network.spec.outputs[0].shape == ("N", len(load_label_set(label_set)), 512, 384)


@pytest.mark.parametrize("resized_at_load", [False, True])
@pytest.mark.parametrize(("tag", "input_hw"), [("a", (64, 48)), ("b", (96, 64))])
@torch.inference_mode()
def test_tiny_without_padding(folder: Path, tag: str, input_hw: tuple[int, int], resized_at_load: bool) -> None:
    network = load_network(folder / "seg_tiny.pth", input_hw=input_hw if resized_at_load else None)
    with np.load(folder / "seg_tiny.npz") as golden:
        x = torch.from_numpy(golden[f"input_{tag}"])
        if tag == "a":
            close(network.backbone(x), golden["feat_a"], FEATURES)
        close(network(x)["logits"], golden[f"logits_{tag}"], LOGITS)


@pytest.mark.parametrize("tag", ["a", "b"])
@pytest.mark.parametrize("name", ["seg_tiny", "seg_tiny_pad2"])
@torch.inference_mode()
def test_both_tiny_networks(shared: Path, name: str, tag: str) -> None:
    path = shared / "reference/sapiens/golden" / name
    network = load_network(path.with_suffix(".pth"))
    with np.load(path.with_suffix(".npz")) as golden:
        x = torch.from_numpy(golden[f"input_{tag}"])
        close(network.backbone(x), golden[f"feat_{tag}"], FEATURES)
        close(network(x)["logits"], golden[f"logits_{tag}"], LOGITS)


def test_tiny_is_described(folder: Path) -> None:
    spec = load_network(folder / "seg_tiny.pth", input_hw=(96, 64)).spec
    labels = load_label_set("goliath28")
    assert (spec.task, spec.model, spec.skeleton, spec.input_hw) == ("segment", "sapiens-custom", None, (96, 64))
    assert (spec.labels, spec.palette, spec.label_swaps) == (labels.names, labels.palette, labels.swaps)
    assert spec.crop.padding == 1.25 and spec.crop.affine == "udp" and spec.frame.kind == "stretch"
    assert spec.outputs[0].shape == ("N", 28, 48, 32) and spec.codec == {"name": "logits"}


def tiny_state(channels: int, padding: int = 0, deconv: tuple[int, ...] = (8, 6, 4)) -> dict[str, torch.Tensor]:
    torch.manual_seed(channels)
    sizes = TrunkSizes(width=16, depth=1, num_heads=2, hidden=16, grid_hw=(4, 3), patch_padding=padding)
    return SapiensSegmenter(sizes, channels, deconv, (5, 4)).state_dict()


def named(count: int, **more: Any) -> dict[str, Any]:
    return {"classes": [f"part {n}" for n in range(count)], **more}


@pytest.mark.parametrize(
    ("channels", "meta", "model", "first_names", "padding", "notes"),
    [
        (28, {}, None, ("Background", "Apparel"), 0, 0),
        (19, {}, None, ("Background", "Skin"), 0, 0),
        (20, {}, None, ("Background", "Hat"), 2, 1),
        (20, {}, "sapiens-1b-cihp20", ("Background", "Hat"), 2, 0),
        (20, {"experiment_name": "sapiens_1b_cihp-1024x768"}, None, ("Background", "Hat"), 2, 0),
        (20, {"cfg": "dataset_type = 'LIPDataset'\nflip=0.5"}, None, ("Background", "Hat"), 2, 0),
        (20, {"dataset_meta": named(20)}, None, ("part 0", "part 1"), 0, 0),
        (28, {"dataset_meta": named(28, palette=np.full((28, 3), 7))}, None, ("part 0", "part 1"), 0, 0),
        (7, {"dataset_meta": named(7), "cfg": "patch_cfg=dict(padding=2),"}, None, ("part 0", "part 1"), 2, 0),
        (7, {"dataset_meta": named(6)}, None, ("background", "class_1"), 0, 1),
        (7, {}, None, ("background", "class_1"), 0, 1),
        (1, {}, None, ("background", "class_1"), 0, 1),
        (3, {"dataset_meta": named(3)}, None, ("part 0", "part 1"), 0, 0),
    ],
)
def test_classes_and_padding_that_no_tensor_shows(
    channels: int, meta: dict, model: str | None, first_names: tuple, padding: int, notes: int
) -> None:
    network = sapiens_from_state_dict(tiny_state(channels), meta, model)
    assert network.spec.labels[:2] == first_names and len(network.spec.labels) == max(channels, 2)
    assert network.backbone.patch_embed.padding == padding and len(network.notes) == notes
    assert len(network.spec.palette) == len(network.spec.labels)


@pytest.mark.parametrize(
    ("meta", "ending"),
    [
        ({"cfg": "data_root = 'data/lip'"}, "lip20"),
        ({"cfg": "RandomFlip, clip_grad, Upper_Lip"}, "lip20"),
        ({"cfg": "dataset_type='CIHPSegDataset'"}, "cihp20"),
    ],
)
def test_lip_and_cihp_are_told_apart_by_the_configuration(meta: dict, ending: str) -> None:
    with torch.device("meta"):
        state = sapiens_segmenter("0.3b", "cihp20").state_dict()
    network = sapiens_from_state_dict(state, meta)
    assert network.spec.model == f"sapiens-0.3b-{ending}"
    assert bool(network.notes) == ("Upper" in meta["cfg"])


@pytest.mark.parametrize(
    ("size", "label_set", "model"),
    [
        ("1b", "face19", "sapiens-1b-face19"),
        ("0.3b", "face19", "sapiens-custom"),
        ("2b", "goliath28", "sapiens-2b-seg28"),
    ],
)
def test_full_sizes_are_recognised(size: str, label_set: str, model: str) -> None:
    state = {name: torch.empty(shape, device="meta") for name, shape, _ in listing(size, label_set)[0]}
    network = sapiens_from_state_dict(state, {})
    assert network.spec.model == model and network.spec.input_hw == (1024, 768)
    assert (model in ZOO) == (model != "sapiens-custom")


@pytest.mark.parametrize(("channels", "padding", "size"), [(28, 0, None), (20, 2, (96, 64)), (5, 0, (32, 48))])
@torch.inference_mode()
def test_saved_and_read_again(tmp_path: Path, channels: int, padding: int, size: tuple[int, int] | None) -> None:
    meta = {"dataset_meta": named(5), "cfg": f"patch_cfg=dict(padding={padding})"} if channels == 5 else {}
    network = sapiens_from_state_dict(tiny_state(channels), meta)
    path = save_network(network, tmp_path / "x.safetensors")
    again = load_network(path, input_hw=size)
    assert again.backbone.patch_embed.padding == padding
    assert again.spec.labels == network.spec.labels and again.spec.palette == network.spec.palette
    assert again.spec.label_swaps == network.spec.label_swaps and again.spec.input_hw == (size or (64, 48))
    if size is None:
        x = torch.randn(2, 3, 64, 48)
        torch.testing.assert_close(again(x)["logits"], network(x)["logits"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tiny_state(1, deconv=(4, 4, 4, 4)), "depth head"),
        (lambda: tiny_state(3), "surface normal head"),
        (lambda: {n: t for n, t in tiny_state(28).items() if "conv_seg" not in n}, "decode_head.conv_seg.weight"),
        (lambda: tiny_state(28) | {"decode_head.more": torch.zeros(1)}, "1 left over: decode_head.more"),
        (lambda: {n: t for n, t in tiny_state(28).items() if n != "decode_head.conv_seg.bias"}, "1 missing"),
    ],
)
def test_other_heads_are_refused(make: Callable[[], dict], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        sapiens_from_state_dict(make(), {})


@pytest.mark.parametrize("batch", [0, 1, 3])
@torch.inference_mode()
def test_pictures_of_a_batch_do_not_touch_each_other(folder: Path, batch: int) -> None:
    network = load_network(folder / "seg_tiny.pth")
    x = torch.randn(batch, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    logits = network(x)["logits"]
    assert logits.shape == (batch, 28, 32, 24) and logits.isfinite().all()
    for i in range(batch):
        torch.testing.assert_close(network(x[i : i + 1])["logits"][0], logits[i], atol=1e-4, rtol=1e-4)


def test_rows_say_what_is_published() -> None:
    rows = {name: row for name, row in ZOO.items() if row.task == "segment" and row.family == "sapiens"}
    assert len(rows) == 13
    assert rows["sapiens-0.6b-seg28"].weights == "sapiens_0.6b_goliath_best_goliath_mIoU_7777_epoch_178.pth"
    assert rows["sapiens-1b-seg28"].accuracy == {"mIoU": 79.94}
    unpublished = [row for row in rows.values() if row.weights is None]
    assert len(unpublished) == 10 and all(not row.accuracy and "published" in row.source for row in unpublished)


def test_meta_survives_reading(folder: Path) -> None:
    _, meta = read_state_dict(folder / "seg_tiny.pth")
    assert meta["experiment_name"] == "tiny_fixture"


def endless() -> list:
    """Lists that hold one another twice, 60 levels deep: a small file and more entries than can be visited."""
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    return nested


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset_meta": named(7, palette=endless())},
        {"dataset_meta": {"classes": endless()}},
        {"dataset_meta": {"classes": [1, 2, 3, 4, 5, 6, 7]}},
        {"dataset_meta": {"classes": {"a": 1}}},
        {"dataset_meta": ["a"], "cfg": endless(), "experiment_name": 7},
    ],
)
def test_useless_meta_is_passed_over(meta: dict) -> None:
    network = sapiens_from_state_dict(tiny_state(7), meta)
    assert network.spec.labels[1] == "class_1" and network.backbone.patch_embed.padding == 0


def test_inspect_says_what_was_decided_without_the_file(tmp_path: Path) -> None:
    torch.save({"state_dict": tiny_state(20), "meta": {}}, tmp_path / "x.pth")
    facts = file_facts(tmp_path / "x.pth")
    assert (facts["task"], facts["head"], facts["labels"]) == ("segment", "SapiensLabelHead", 20)
    assert "LIP or CIHP" in facts["notes"][0] and facts["problems"] == []


def test_the_pixel_graph_gives_float32_logits(folder: Path) -> None:
    """Also in bfloat16, where the processor's quick layers stand in for those of the head."""
    pixels = torch.randint(0, 256, (2, 64, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {}
    for mode in ("float32", "bfloat16"):
        backend = open_backend(folder / "seg_tiny.pth", device="cpu", mode=mode)
        found[mode] = torch.as_tensor(backend.run(pixels.numpy())["logits"])
        assert found[mode].dtype == torch.float32 and found[mode].shape == (2, 28, 32, 24)
        backend.close()
    agreeing = (found["float32"].argmax(1) == found["bfloat16"].argmax(1)).float().mean()
    assert agreeing > 0.9
