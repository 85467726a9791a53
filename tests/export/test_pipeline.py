"""`export` end to end: what it writes runs and equals the eager network; what fails is not written."""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from export import pipeline
from export.config import ExportConfig
from export.pipeline import export
from export.to_pt2 import to_pt2
from export.written import Calibration, Written
from lite.artifact import read_spec, spec_path
from lite.backends import open_backend
from lite.checkpoints import load_network, save_network
from lite.errors import CheckpointError, ConfigError, MissingExtraError, ModelError
from lite.graph import PixelGraph


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "tiny.pt2"
    assert export(ExportConfig(checkpoint=str(tiny), output=str(output), batch_max=8)) == 0
    return output


@pytest.mark.parametrize("count", [1, 3, 8])
def test_equal_to_eager_within_a_twentieth_of_a_px(exported: Path, tiny: Path, crops: np.ndarray, count: int) -> None:
    pixels = np.concatenate([crops, crops])[:count]
    found = open_backend(exported).run(pixels)
    expected = open_backend(tiny, mode="float32").run(pixels)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
    assert np.percentile(np.abs(found["keypoints"] - expected["keypoints"]), 90) < 0.05


def test_what_the_json_says(exported: Path) -> None:
    spec = read_spec(exported)
    assert (spec.format, spec.mode, spec.batch_range, spec.flip_test) == ("pt2", "float32", (1, 8), False)
    assert spec.versions["torch"] == torch.__version__ and len(spec.sha256) == 64
    assert spec.check["passed"] and spec.check["shift_max_px"] <= 0.05
    assert spec.check["runtime"] == {"backend": "pt2", "version": torch.__version__}
    assert spec.check["compared"] + sum(spec.check["left_out"].values()) == spec.check["of"]
    assert [output.name for output in spec.outputs] == ["keypoints", "scores"]
    assert left_in(exported.parent) == ["tiny.pt2", "tiny.pt2.json"]


def test_bfloat16_with_flip_test(tiny: Path, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "deep" / "x.pt2"
    config = ExportConfig(checkpoint=str(tiny), output=str(output), batch_max=4, mode="bfloat16", flip_test=True)
    assert export(config) == 0
    assert "shift_p95_px" in capsys.readouterr().out
    backend = open_backend(output)
    assert backend.spec.flip_test and backend.spec.mode == "bfloat16"
    arrays = np.load(golden / "sapiens/networks/pose_tiny.npz")
    image = np.ascontiguousarray(arrays["image_bgr_a"][:, ::-1].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(backend.run(image)["scores"], arrays["pred_scores"], atol=0.1)


def wrong(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
    graph.offset.add_(0.5)
    return to_pt2(graph, path, config, calibration)


def test_a_file_over_the_limits_is_not_written(
    exported: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "_writer", lambda name: wrong)
    output = tmp_path / "x.pt2"
    assert export(ExportConfig(checkpoint=str(tiny), output=str(output), batch_max=4)) == 1
    assert left_in(tmp_path) == []
    assert "FAILED" in capsys.readouterr().out
    before = exported.read_bytes()
    assert export(ExportConfig(checkpoint=str(tiny), output=str(exported), batch_max=4, overwrite=True)) == 1
    assert exported.read_bytes() == before and read_spec(exported).batch_range == (1, 8)


def test_nothing_is_left_when_conversion_breaks(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
        path.write_bytes(b"half")
        raise RuntimeError("no space left")

    monkeypatch.setattr(pipeline, "_writer", lambda name: broken)
    with pytest.raises(RuntimeError, match="no space"):
        export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "x.pt2")))
    assert left_in(tmp_path) == []


def test_an_interruption_leaves_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_writer", lambda name: interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "x.pt2")))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("format_name", "library"), [("onnx", "onnxscript"), ("openvino", "onnx")])
def test_a_missing_library_is_named_before_the_long_work(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, library: str
) -> None:
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None if name == library else True)
    monkeypatch.setattr(pipeline, "load_network", lambda *args, **kwargs: pytest.fail("loaded"))
    suffix = {"onnx": "onnx", "openvino": "xml"}[format_name]
    config = ExportConfig(checkpoint=str(tiny), format=format_name, output=str(tmp_path / f"x.{suffix}"))
    with pytest.raises(MissingExtraError, match=rf"needs {library}, .*pip install 'hpe-lite\[onnx\]'"):
        export(config)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named_before_the_long_work(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(pipeline, "load_network", lambda *args, **kwargs: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="device: "):
        export(ExportConfig(checkpoint=str(tiny), device=device, output=str(tmp_path / "x.pt2")))


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_a_mode_the_runtime_lacks_is_named_before_the_long_work(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """ONNX Runtime alone is installed, or asked for."""
    if backend == "auto":
        monkeypatch.setattr("lite.backends._installed", lambda name: name != "openvino")
    monkeypatch.setattr(pipeline, "load_network", lambda *args, **kwargs: pytest.fail("loaded"))
    output = str(tmp_path / "x.onnx")
    config = ExportConfig(checkpoint=str(tiny), format="onnx", mode="bfloat16", output=output, backend=backend)
    with pytest.raises(ConfigError, match=r"ONNX Runtime computes .* is bfloat16; use backend openvino"):
        export(config)


@pytest.mark.parametrize(("asked", "count"), [(None, 64), (5, 5)])
def test_crops_to_calibrate_with(tiny: Path, asked: int | None, count: int) -> None:
    config = ExportConfig(checkpoint=str(tiny), format="onnx", mode="int8", calibration_crops=asked)
    assert len(pipeline._calibration(load_network(tiny).spec, config)) == count


def test_trust_in_a_checkpoint_is_no_trust_in_the_file(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted: list[bool] = []

    def judging(*args: object, trust: bool, **kwargs: object) -> dict:
        trusted.append(trust)
        return {"passed": False}

    monkeypatch.setattr(pipeline, "judge", judging)
    assert export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "x.pt2"), trust=True)) == 1
    assert trusted == [False]


def test_the_network_is_gone_when_the_file_is_checked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref] = []
    load, judge = pipeline.load_network, pipeline.judge

    def loading(*args: object, **kwargs: object) -> torch.nn.Module:
        network = load(*args, **kwargs)
        alive.append(weakref.ref(network))
        return network

    def judging(*args: object, **kwargs: object) -> dict:
        assert alive[0]() is None
        return judge(*args, **kwargs)

    monkeypatch.setattr(pipeline, "load_network", loading)
    monkeypatch.setattr(pipeline, "judge", judging)
    assert export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "x.pt2"), batch_max=3)) == 0


def again(artifact: Path, **values: object) -> int:
    return export(ExportConfig(check_only=str(artifact), **values))


def test_check_only(exported: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in exported.parent.iterdir()}
    assert again(exported, checkpoint=str(tiny)) == 0
    out = capsys.readouterr().out
    assert "shift_max_px" in out and "passed" in out and "note" not in out
    assert "checking tiny.pt2 as its description has it: pt2, float32, without flip test" in out
    other = load_network(tiny)
    other.requires_grad_(False).head.final_layer.weight.mul_(1.05)
    assert again(exported, checkpoint=str(save_network(other, tmp_path / "other.safetensors"))) == 1
    out = capsys.readouterr().out
    assert "from another weights file" in out and "FAILED: score_shift_max" in out and "did not pass" in out
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in exported.parent.iterdir()}


def test_check_only_refuses_another_network(exported: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="of model sapiens-custom, found one of pose17-small; name the right"):
        again(exported, model="pose17-small")
    wider = load_network(tiny, input_hw=(64, 64))
    with pytest.raises(ModelError, match=r"of input_hw \[64, 48\], found one of \[64, 64\]"):
        again(exported, checkpoint=str(save_network(wider, tmp_path / "wider.safetensors")))
    with pytest.raises(ModelError, match=r"found none at .*none\.pt2"):
        again(tmp_path / "none.pt2", checkpoint=str(tiny))


@pytest.mark.parametrize("folder", ["file", "file/deeper", "/proc"])
def test_a_folder_that_cannot_be_written(tiny: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output: expected a folder that can be written, found"):
        export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / folder / "x.pt2")))


@pytest.mark.parametrize("length", [238, 300])
def test_a_name_that_is_too_long(tiny: Path, tmp_path: Path, length: int) -> None:
    output = tmp_path / f"{'x' * length}.pt2"
    with pytest.raises(ConfigError, match=r"output: .*name too long.*give another --output"):
        export(ExportConfig(checkpoint=str(tiny), output=str(output)))
    assert left_in(tmp_path) == []


def test_a_file_in_the_way(exported: Path, tiny: Path) -> None:
    with pytest.raises(ConfigError, match="--overwrite"):
        export(ExportConfig(checkpoint=str(tiny), output=str(exported)))


def test_the_default_name(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny.resolve()
    monkeypatch.chdir(tmp_path)
    assert export(ExportConfig(checkpoint=str(tiny), batch_max=3)) == 0
    assert left_in(tmp_path / "checkpoints") == ["sapiens-custom_float32.pt2", "sapiens-custom_float32.pt2.json"]


def test_a_damaged_json_value_is_refused_by_the_backend(exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / exported.name
    copy.write_bytes(exported.read_bytes())
    values = json.loads(spec_path(exported).read_text())
    values["sha256"] = "0" * 64
    spec_path(copy).write_text(json.dumps(values))
    with pytest.raises(ModelError, match="sha256"):
        open_backend(copy)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pose17-small"):
        export(ExportConfig(model="pose17-smal", output=str(tmp_path / "x.pt2")))
    with pytest.raises((CheckpointError, ModelError)):
        export(ExportConfig(checkpoint=str(tmp_path / "none.pth"), output=str(tmp_path / "x.pt2")))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "--model"),
        ({"model": "x", "batch_max": 1}, "batch_max"),
        ({"model": "x", "batch_max": 65537}, "batch_max"),
        ({"model": "x", "threads": 0}, "threads: expected 1 to"),
        ({"model": "x", "output": "x.onnx"}, r"\.pt2"),
        ({"model": "x", "format": "onnx", "compile": True}, "compile"),
        ({"model": "x", "format": "tflite"}, "format"),
        ({"model": "x", "mode": "int8"}, "mode"),
        ({"check_only": "x.pt2"}, "--model"),
        ({"model": "x", "check_only": "x.pt2", "mode": "bfloat16"}, "mode: with check_only"),
        ({"model": "x", "check_only": "x.onnx", "format": "onnx"}, "format: with check_only"),
        ({"model": "x", "check_only": "x.pt2", "overwrite": True}, "overwrite: with check_only"),
    ],
)
def test_settings_that_cannot_be_met(values: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ExportConfig(**values)
