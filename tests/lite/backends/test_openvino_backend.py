"""OpenVINO runs an exported file as the eager graph does, and every way the file can be wrong is one sentence.

What the networks here compute is exact in bfloat16 and float16, so decoded coordinates must be equal to those of the
eager float32 graph in every mode, on processors that compute in these types and on those that do not.
"""

import html
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.config import ExportConfig
from export.to_openvino import to_openvino
from lite.artifact import ArtifactSpec, CropRule, LetterboxRule, read_spec, sha256_of, spec_path, write_spec
from lite.backends import open_backend
from lite.backends.artifact_file import embedded_spec
from lite.backends.eager_backend import build_graph
from lite.backends.openvino_backend import REDUCED, OpenVINOBackend
from lite.errors import ArtifactError, ConfigError, ModelError, UnsafeFileError
from lite.graph import PixelGraph

pytest.importorskip("openvino")

CROP_HW, MAP_HW = (256, 192), (64, 48)
CANVAS_HW, STRIDES = (512, 64), (16, 32)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (4.0, 4.0, 4.0)}  # pixels become quarters, exact in 8 bits


class Maps(nn.Module):
    """Heatmaps that are every fourth pixel: six of them, two from each colour."""

    def __init__(self) -> None:
        super().__init__()
        self.pick = nn.Conv2d(3, 6, 2, stride=4, bias=False)
        self.pick.weight = nn.Parameter(torch.zeros(6, 3, 2, 2), requires_grad=False)
        for k in range(6):
            self.pick.weight[k, k % 3, 0, k // 3] = 1.0

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"heatmaps": self.pick(x)}


class Cells(nn.Module):
    """Logits and distances of a detector that are the pixels at the corners of its cells, a colour for each level."""

    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.ModuleList(nn.Conv2d(3, 1, 1, stride=stride, bias=False) for stride in STRIDES)
        self.reg = nn.ModuleList(nn.Conv2d(3, 4, 2, stride=stride, bias=False) for stride in STRIDES)
        for level in range(len(STRIDES)):
            self.cls[level].weight = nn.Parameter(torch.zeros(1, 3, 1, 1), requires_grad=False)
            self.cls[level].weight[0, level] = 0.125
            self.reg[level].weight = nn.Parameter(torch.zeros(4, 3, 2, 2), requires_grad=False)
            for side in range(4):
                self.reg[level].weight[side, side % 3, side % 2, 1] = 1.0

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        return {"cls": [conv(x) for conv in self.cls], "reg": [conv(x) for conv in self.reg]}


def graph_of(name: str, mode: str) -> PixelGraph:
    """A graph of exact arithmetic: "udp", "msra" (with a flip test) or "detect"."""
    if name == "detect":
        network = Cells()
        codec = {"name": "point_boxes", "strides": list(STRIDES), "score_thr": 0.01, "max_candidates": 100}
        network.spec = ArtifactSpec(
            task="detect", model="cells", input_hw=CANVAS_HW, letterbox=LetterboxRule(), codec=codec, **PLAIN
        )
        return build_graph(network, mode=mode)
    network = Maps()
    codec = {"name": "msra_heatmap", "refine": "unbiased"} if name == "msra" else {"name": "udp_heatmap"}
    codec |= {"input_hw": list(CROP_HW), "heatmap_hw": list(MAP_HW)}
    network.spec = ArtifactSpec(
        task="pose", model="maps", input_hw=CROP_HW, crop=CropRule(), codec=codec, skeleton=None, **PLAIN
    )
    graph = build_graph(network, mode=mode)
    if name == "msra":
        graph.spec = replace(graph.spec, flip_test=True)
        graph.merge_flip = lambda maps, mirrored: (maps + mirrored.flip(3)) * 0.5
    return graph


def pixels_of(name: str, count: int = 3) -> np.ndarray:
    """Crops with one blob a map, flat or spiky, up to 63 high; canvases whose logits are all different."""
    random = np.random.default_rng(1)
    if name == "detect":
        pixels = random.integers(0, 256, (count, *CANVAS_HW, 3), dtype=np.uint8)
        for one in pixels:
            values = iter(random.permutation(256)[:160])
            for level, stride in enumerate(STRIDES):
                cells = one[::stride, ::stride, level]
                cells[...] = np.fromiter(values, np.uint8, cells.size).reshape(cells.shape)
        return pixels
    pixels = np.zeros((count, *CROP_HW, 3), np.uint8)
    y, x = np.mgrid[: MAP_HW[0], : MAP_HW[1]]
    for one in pixels:
        for k in range(6):
            center, sigma = random.uniform(3, 44, 2), (0.4, 1.0, 2.0, 3.0, 6.0, 9.0)[k]
            blob = 252 * np.exp(-((x - center[0]) ** 2 + (y - center[1] - 16 * (k % 2)) ** 2) / (2 * sigma**2))
            one[::4, k // 3 :: 4, k % 3] = blob.astype(np.uint8)
    return pixels


def write(graph: PixelGraph, path: Path) -> Path:
    """The artifact with its JSON."""
    written = to_openvino(graph, path, ExportConfig(model="any", batch_max=8, format="openvino"), lambda: None)
    spec = replace(graph.spec, format="openvino", batch_range=(1, 8), versions=written.versions)
    weights = path.with_suffix(".bin")
    write_spec(path, replace(spec, sha256=sha256_of(path), companions={weights.name: sha256_of(weights)}))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture(scope="session")
def udp(folder: Path) -> Path:
    return write(graph_of("udp", "bfloat16"), folder / "udp.xml")


@pytest.fixture
def artifact(udp: Path, tmp_path: Path) -> Path:
    """A fresh copy that a test may spoil."""
    for file in (udp, udp.with_suffix(".bin"), spec_path(udp)):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / udp.name


def check_equal(artifact: Path, name: str) -> OpenVINOBackend:
    """All batches give the coordinates of the eager float32 graph, but for the last digits."""
    backend = open_backend(artifact)
    pixels = pixels_of(name)
    expected = {key: value.numpy() for key, value in graph_of(name, "float32")(torch.from_numpy(pixels)).items()}
    for count in (1, 3):
        found = backend.run(pixels[:count])
        assert list(found) == [output.name for output in backend.spec.outputs]
        for key, value in found.items():
            assert value.dtype == expected[key].dtype
            np.testing.assert_allclose(value, expected[key][:count], atol=2e-3, rtol=1e-5, err_msg=key)
    return backend


def test_udp_in_bfloat16_decodes_in_float32(udp: Path) -> None:
    backend = check_equal(udp, "udp")
    assert "openvino bfloat16" in backend.describe and backend.device == "cpu"
    backend.close()


@pytest.mark.parametrize(("name", "mode"), [("msra", "float16"), ("detect", "bfloat16")])
def test_every_task_decodes_in_float32(name: str, mode: str, folder: Path) -> None:
    check_equal(write(graph_of(name, mode), folder / f"{name}.xml"), name)


def test_float32_is_float32(toy_graph: PixelGraph, tmp_path: Path) -> None:
    backend = open_backend(write(toy_graph, tmp_path / "toy.xml"))
    crops = np.random.default_rng(0).integers(0, 256, (8, 32, 24, 3), dtype=np.uint8)
    found, expected = backend.run(crops), toy_graph(torch.from_numpy(crops))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name].numpy(), atol=0.02, rtol=1e-3)  # the maps are nearly flat
    np.testing.assert_allclose(found["scores"], expected["scores"].numpy(), atol=1e-5)  # bfloat16 is off by 1e-3


def test_an_onnx_file_is_run_likewise(tmp_path: Path) -> None:
    from export.to_onnx import to_onnx

    graph = graph_of("udp", "bfloat16")
    path = tmp_path / "x.onnx"
    written = to_onnx(graph, path, ExportConfig(model="any", batch_max=8, format="onnx"), lambda: None)
    spec = replace(graph.spec, format="onnx", batch_range=(1, 8), versions=written.versions)
    write_spec(path, replace(spec, sha256=sha256_of(path)))
    assert isinstance(check_equal(path, "udp"), OpenVINOBackend)


def test_no_crops_give_empty_outputs(udp: Path) -> None:
    outputs = open_backend(udp).run(np.zeros((0, *CROP_HW, 3), np.uint8))
    assert outputs["keypoints"].shape == (0, 6, 2) and outputs["scores"].shape == (0, 6)


def test_from_several_threads(udp: Path) -> None:
    """With fewer threads a run, as many run side by side, and nobody gets another's results."""
    pixels, before = pixels_of("udp", 8), torch.get_num_threads()
    backend = open_backend(udp, threads=2)
    expected = backend.run(pixels)["keypoints"]
    wrong: list[int] = []

    def work(n: int) -> None:
        torch.set_num_threads(1)
        for _ in range(20):
            if not np.allclose(backend.run(pixels[n : n + 1])["keypoints"], expected[n : n + 1], atol=1e-3):
                wrong.append(n)

    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert not wrong
    assert backend._compiled[1, None]._idle.qsize() == 2 and backend._compiled[2, None]._idle.qsize() == 1


def test_a_batch_size_in_use_is_compiled_for(udp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_backend(udp)
    pixels = pixels_of("udp", 8)
    before = backend.run(pixels)
    monkeypatch.setattr(backend, "_compile_s", 0.0)
    monkeypatch.setattr(backend, "_most_fixed", 2)
    for count in (8, 3, 3, 5, 5, 1, 8):
        after = backend.run(pixels[:count])
        for name, value in after.items():
            np.testing.assert_allclose(value, before[name][:count], atol=1e-4)
    assert sorted(batch for _, batch in backend._compiled if batch is not None) == [3, 8]


def test_a_batch_size_that_cannot_be_compiled_for_is_run_as_any_other(
    udp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend(udp)
    pixels, compile_, tried = pixels_of("udp", 4), backend._compile, []
    before = backend.run(pixels)

    def failing(threads: int, at_once: int, batch: int | None) -> object:
        tried.append(batch)
        if batch is not None:
            raise RuntimeError("no memory")
        return compile_(threads, at_once, batch)

    monkeypatch.setattr(backend, "_compile", failing)
    monkeypatch.setattr(backend, "_compile_s", 0.0)
    for _ in range(3):
        np.testing.assert_allclose(backend.run(pixels)["scores"], before["scores"], atol=1e-4)
    backend.run(pixels[:2])
    assert tried == [4], "once is enough"
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # for which there is no model yet
    try:
        backend.run(pixels)
    finally:
        torch.set_num_threads(threads)
    assert tried == [4, None]


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((9, *CROP_HW, 3), np.uint8, "at most 8"),
        ((1, 24, 32, 3), np.uint8, "256, 192, 3"),
        ((1, *CROP_HW, 3), "f4", "uint8"),
    ],
)
def test_pixels_that_do_not_fit(udp: Path, shape: tuple, dtype: type, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        open_backend(udp).run(np.zeros(shape, dtype))


def test_requests_the_file_cannot_meet(udp: Path) -> None:
    with pytest.raises(ConfigError, match="mode"):
        open_backend(udp, mode="float32")
    with pytest.raises(ConfigError, match="flip_test"):
        open_backend(udp, flip_test=True)
    with pytest.raises(ConfigError, match="device"):
        open_backend(udp, device="toaster")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("input_hw", [128, 96], "input_hw"),
        ("batch_range", [1, 64], "batch_range"),
        ("outputs", [], "outputs"),
        ("mean", [1.0, 2.0, 3.0], "mean"),
        ("mode", "float32", "mode"),
        ("format", "onnx", "format"),
        ("versions", {"openvino": "2099.0.1"}, "openvino 2099"),
        ("sha256", None, "sha256"),
        ("companions", {}, "udp.bin"),
        ("companions", {"../udp.bin": "0" * 64}, "beside it"),
    ],
)
def test_a_json_that_lies(artifact: Path, field: str, value: object, says: str) -> None:
    values = json.loads(spec_path(artifact).read_text())
    values[field] = value
    spec_path(artifact).write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=says):
        open_backend(artifact)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("mode", "float16", "mode"), ("batch_range", (1, 9), "batch range"), ("outputs", (), "outputs")],
)
def test_a_file_and_json_that_lie_alike(artifact: Path, field: str, value: object, says: str) -> None:
    spec = replace(read_spec(artifact), **{field: value})
    inside = html.escape(json.dumps(embedded_spec(spec)))
    text = re.sub('<hpe_lite_spec value="[^"]*"', f'<hpe_lite_spec value="{inside}"', artifact.read_text())
    rewrite(artifact, text, spec)
    with pytest.raises(ArtifactError, match=says):
        open_backend(artifact)


def test_a_reduced_network_that_cannot_be_cut(udp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lite.backends.openvino_parts.CONVOLUTIONS", ())
    monkeypatch.setitem(REDUCED, "bfloat16", ("bf16", "FP32"))  # every processor has that
    with pytest.raises(ArtifactError, match="a network without convolutions"):
        open_backend(udp)


def rewrite(artifact: Path, text: str, spec: ArtifactSpec | None = None) -> None:
    """Replace the graph, with a JSON that fits."""
    artifact.write_text(text)
    write_spec(artifact, replace(spec or read_spec(artifact), sha256=sha256_of(artifact)))


def test_a_changed_graph_and_changed_weights(artifact: Path) -> None:
    weights = artifact.with_suffix(".bin")
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"udp\.bin: its sha256"):
        open_backend(artifact)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"udp\.bin beside it, found none"):
        open_backend(artifact)
    elsewhere = artifact.parent / "elsewhere"
    elsewhere.write_bytes(good)
    weights.symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match=r"udp\.bin, found a link"):
        open_backend(artifact)
    weights.unlink()
    weights.write_bytes(good)
    artifact.write_bytes(artifact.read_bytes().replace(b"pixels", b"pixelz"))
    with pytest.raises(ArtifactError, match=r"udp\.xml: its sha256"):
        open_backend(artifact)


BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><net name="&b;"'
HOSTILE: dict[str, tuple[Callable[[str], str], str]] = {
    "entities": (lambda t: t.replace("<net", BOMB, 1), "document type"),
    "another file": (lambda t: t.replace("<net", '<!DOCTYPE net SYSTEM "file:///etc/passwd"><net', 1), "document type"),
    "instruction": (lambda t: t.replace("<net", "<?xml-stylesheet href='x'?><net", 1), "document type"),
    "plug-in": (lambda t: t.replace('type="Reshape"', 'type="RunProgram"', 1), "RunProgram"),
    "plug-in's operators": (lambda t: t.replace('version="opset1"', 'version="extension"', 1), "extension"),
    "loop": (lambda t: t.replace('type="Reshape"', 'type="TensorIterator"', 1), "TensorIterator"),
    "inner graph": (
        lambda t: t.replace("</output>\n\t\t</layer>", "</output><body><layers/></body></layer>", 1),
        "inside",
    ),
    "weights elsewhere": (lambda t: t.replace('offset="0"', 'offset="99999999"', 1), "the weights end"),
    "negative place": (lambda t: t.replace('offset="0"', 'offset="-8"', 1), "where a number"),
    "wrong size": (lambda t: t.replace('size="12"', 'size="16"', 1), "16 bytes"),
    "wrong shape": (lambda t: t.replace('shape="1, 3, 1, 1"', 'shape="1, 999999999, 9999, 1"', 1), "constant of size"),
    "strings": (lambda t: t.replace('element_type="f32"', 'element_type="string"', 1), "string"),
    "edge": (lambda t: t.replace('to-layer="', 'to-layer="9', 1), "damaged"),
    "missing edge": (lambda t: t[: t.index("<edge ")] + t[t.index("<edge", t.index("<edge ") + 1) :], "inputs with"),
    "two of a number": (lambda t: t.replace('layer id="1"', 'layer id="0"', 1), "two layers"),
    "truncated": (lambda t: t[: len(t) // 2], "damaged"),
    "empty": (lambda t: "", "damaged"),
    "html": (lambda t: "<html></html>", "begins with"),
    "deep": (lambda t: t.replace("<rt_info>", "<rt_info>" + "<a>" * 50 + "</a>" * 50, 1), "more elements"),
    "no description": (lambda t: t.replace("<hpe_lite_spec ", "<other ", 1), "description"),
    "wrong rank": (lambda t: t.replace('shape="1..8,256,192,3"', 'shape="1..8,256,192"', 1), "OpenVINO cannot use it"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph(name: str, artifact: Path) -> None:
    change, says = HOSTILE[name]
    before = artifact.read_text()
    text = change(before)
    assert text != before
    rewrite(artifact, text)
    with pytest.raises((UnsafeFileError, ArtifactError), match=says):
        open_backend(artifact)


def test_a_tensor_that_would_fill_the_memory(artifact: Path) -> None:
    """It is made of two small constants, so only the shapes that follow from them show it."""
    from openvino import Core, opset13, save_model

    model = Core().read_model(artifact)
    zeros = opset13.broadcast(opset13.constant(np.float32(0)), opset13.constant(np.array([2**20, 2**14])))
    scores = next(result for result in model.get_results() if result.output(0).get_any_name() == "scores")
    more = opset13.add(scores.input_value(0), opset13.reduce_max(zeros, opset13.constant(np.array([0, 1]))))
    more.output(0).set_names({"scores"})
    scores.input_value(0).set_names(set())
    scores.input(0).replace_source_output(more.output(0))
    bomb = artifact.with_name("bomb.xml")
    save_model(model, bomb, compress_to_fp16=False)
    weights = bomb.with_suffix(".bin")
    spec = replace(read_spec(artifact), sha256=sha256_of(bomb), companions={weights.name: sha256_of(weights)})
    write_spec(bomb, spec)
    with pytest.raises(UnsafeFileError, match="fill the memory"):
        open_backend(bomb)
