"""Tasks with maps or classes: int8, the check repeated, engine files of any size, flip tests of one channel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from export import check_again, pipeline
from export.config import ExportConfig
from export.pipeline import export
from lite.artifact import read_spec
from lite.backends import open_backend
from lite.backends.eager_backend import build_graph
from lite.errors import ModelError
from lite.models.sapiens import TrunkSizes
from lite.models.sapiens_seg import SapiensSegmenter
from lite.models.zoo import ZOO
from lite.network import LARGEST_ASPECT
from tests.export.lively import enliven
from tests.export.small_rows import TRUNK, shrink

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

TASKS = ("sapiens-0.3b-seg28", "hrnet-w32-imagenet1000", "higherhrnet-w32-coco17")
PEOPLE = "higherhrnet-w32-coco17"


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
def test_int8(export_small: Callable[..., dict], name: str, format_name: str) -> None:
    if format_name == "openvino":
        pytest.importorskip("openvino")
    report = export_small(name, format=format_name, mode="int8", calibration_crops=6)
    assert report["rounding"]


@pytest.mark.parametrize("name", TASKS)
def test_check_only(
    export_small: Callable[..., dict], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the flip test where there is one; another network's weights do not pass."""
    export_small(name, format="pt2", flip_test=ZOO[name].task != "classify")
    small = shrink(ZOO[name])
    again = ExportConfig(model=name, check_only=str(tmp_path / "pt2.pt2"))
    for seed in (0, 1):
        monkeypatch.setattr(
            check_again, "load_network", lambda *args, seed=seed, **kwargs: enliven(small.build(monkeypatch), seed)
        )
        assert export(again) == seed


def test_engine_files_of_any_size(
    tensorrt: ModuleType, export_small: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = export_small(PEOPLE, format="tensorrt", device="cuda", batch_opt=2)
    assert report["sizes"] == [[128, 128], [128, 320]]
    (settings,) = tensorrt.built
    longest = 128 * LARGEST_ASPECT
    assert settings.profiles[0].shapes == {
        "pixels": ((1, 128, 128, 3), (2, 128, 128, 3), (3, longest, longest, 3)),
    }
    backend = open_backend(tmp_path / "tensorrt.engine", device="cuda")
    for height, width in ((128, 192), (256, 128)):
        found = backend.run(np.zeros((2, height, width, 3), np.uint8))
        assert found["heatmaps"].shape == (2, 17, height // 2, width // 2)
        assert found["tag_maps"].shape == (2, 17, 1, height // 4, width // 4)
        assert found["keypoints"].shape == (2, 17, 30, 2)
    with pytest.raises(ModelError, match="h and w from 128 to 512 in steps of 64"):
        backend.run(np.zeros((1, 128, 160, 3), np.uint8))


@pytest.mark.parametrize(("channels", "labels"), [(1, 2), (4, 4)])
def test_flip_test_of_labels_goes_by_channels(
    channels: int, labels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of one channel has two labels and nothing to exchange."""
    small = shrink(ZOO["sapiens-0.3b-seg28"])
    names, swaps = ("background", "a", "left b", "right b")[:labels], ((2, 3),) if labels == 4 else ()
    with torch.device("meta"):
        described = ZOO["sapiens-0.3b-seg28"].build().spec.outputs[0]
    outputs = (replace(described, shape=("N", channels, 64, 48)),)
    spec = replace(small.spec, model="sapiens-custom", labels=names, label_swaps=swaps, palette=(), outputs=outputs)

    def network() -> SapiensSegmenter:
        made = SapiensSegmenter(TrunkSizes(**TRUNK, patch_padding=0), channels, (32, 32, 32), (32, 32, 32))
        made.spec = spec
        return enliven(made)

    graph = build_graph(network(), flip_test=True)
    assert graph.merge_flip.order.tolist() == ([0] if channels == 1 else [0, 1, 3, 2])
    pixels = torch.randint(0, 256, (2, *spec.input_hw, 3), dtype=torch.uint8)
    plain = build_graph(network())
    mirrored = plain(pixels.flip(2))["logits"].flip(3)[:, graph.merge_flip.order]
    torch.testing.assert_close(graph(pixels)["logits"], (plain(pixels)["logits"] + mirrored) / 2, atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(pipeline, "load_network", lambda *args, **kwargs: network())
    output = tmp_path / "x.pt2"
    assert export(ExportConfig(model="any", output=str(output), flip_test=True, batch_max=3)) == 0
    assert read_spec(output).outputs[0].shape == ("N", channels, 64, 48)
