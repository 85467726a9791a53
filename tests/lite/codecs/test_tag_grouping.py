"""Maps to candidates, against arrays of the original; in eager, exported and ONNX form, at any size of map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from lite.codecs import build_codec
from lite.codecs.tag_grouping import MergeMirrored, TagGrouping, find_candidates, merge_mirrored, towards_higher
from lite.errors import ConfigError, ModelError
from lite.skeletons import load_skeleton

NAMES = ("keypoints", "scores", "tags", "heatmaps", "tag_maps")


def made_up(batch: int, height: int, width: int, embeddings: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Noise at both resolutions for an input of height x width, five keypoints."""
    torch.manual_seed(height + width)
    tags = torch.randn(batch, 5, embeddings, height // 4, width // 4)
    return torch.randn(batch, 5, height // 4, width // 4), torch.randn(batch, 5, height // 2, width // 2), tags


@pytest.mark.parametrize("case", ["split_person", "four_flip_tags"])
def test_candidates_are_those_of_the_original(golden: Path, case: str) -> None:
    with np.load(golden / "higherhrnet/grouping.npz") as stored:
        heat = torch.from_numpy(stored[f"{case}/heat_q"].astype(np.float32) / 16384)[None]
        places, wanted = stored[f"{case}/topk_coords"], stored[f"{case}/topk_scores"]
        counted = wanted > stored[f"{case}/params"][1]
    x, y, scores = find_candidates(heat, 30)
    assert counted.sum() >= 17
    np.testing.assert_array_equal(scores[0].numpy()[counted], wanted[counted])
    np.testing.assert_array_equal(torch.stack([x, y], dim=-1)[0].numpy()[counted], places[counted])


def test_mirrored_pass_is_merged_as_in_the_original(golden: Path) -> None:
    with np.load(golden / "higherhrnet/flip_aggregation.npz") as stored:
        values = {
            name: torch.from_numpy(stored[name]) for name in stored.files if name.startswith(("heat", "flip", "agg"))
        }
        tags = torch.from_numpy(stored["tags_4"])
    plain = {"heatmaps_4": values["heatmaps_4"], "heatmaps_2": values["heatmaps_2"], "tags": tags}
    mirrored = {
        "heatmaps_4": values["flip_heatmaps_4"],
        "heatmaps_2": values["flip_heatmaps_2"],
        "tags": values["flip_tags_4"],
    }
    order = load_skeleton("coco17").flip_indices
    for merged in (merge_mirrored(plain, mirrored, order), MergeMirrored(order)(plain, mirrored)):
        torch.testing.assert_close(merged["heatmaps_4"], values["agg_heatmaps_4"])
        torch.testing.assert_close(merged["heatmaps_2"], values["agg_heatmaps_2"])
        torch.testing.assert_close(merged["tags"][:, :, 0], values["agg_tags_0"])
        torch.testing.assert_close(merged["tags"][:, :, 1], values["agg_tags_1"])
    assert set(merge_mirrored({"heatmaps_4": tags, "tags": tags}, {"heatmaps_4": tags, "tags": tags}, order)) == {
        "heatmaps_4",
        "tags",
    }


@pytest.mark.parametrize("finer", [True, False])
def test_everything_is_read_from_the_enlarged_maps(finer: bool) -> None:
    heat_4, heat_2, tags = made_up(2, 64, 128, embeddings=2)
    keypoints, scores, found, heatmaps, tag_maps = TagGrouping(num_candidates=7)(
        heat_4, heat_2 if finer else None, tags
    )
    mean = (interpolate(heat_4, size=(32, 64), mode="bilinear") + heat_2) / 2 if finer else heat_4
    torch.testing.assert_close(heatmaps, mean)
    torch.testing.assert_close(tag_maps, tags)
    full = interpolate(mean, size=(64, 128), mode="bilinear")
    full_tags = interpolate(tags.flatten(1, 2), size=(64, 128), mode="bilinear").view(2, 5, 2, 64, 128)
    peaks = torch.where(max_pool2d(full, 5, 1, 2) == full, full, 0.0)
    torch.testing.assert_close(scores, peaks.flatten(2).topk(7).values)
    x, y = keypoints.floor().long().unbind(-1)
    for b in range(2):
        for k in range(5):
            torch.testing.assert_close(full[b, k, y[b, k], x[b, k]], scores[b, k])
            torch.testing.assert_close(full_tags[b, k, :, y[b, k], x[b, k]].T, found[b, k])
    assert keypoints.dtype == scores.dtype == found.dtype == torch.float32


def test_quarter_pixel_goes_towards_the_higher_side_and_stays_inside() -> None:
    maps = torch.arange(12.0).view(1, 1, 3, 4)  # rises to the right and down
    corners = towards_higher(maps, torch.tensor([[[0, 3, 1]]]), torch.tensor([[[0, 2, 1]]]))
    assert corners.tolist() == [[[[0.75, 0.75], [3.75, 2.75], [1.75, 1.75]]]]
    falling = towards_higher(-maps, torch.tensor([[[0, 3, 1]]]), torch.tensor([[[0, 2, 1]]]))
    assert falling.tolist() == [[[[0.25, 0.25], [3.25, 2.25], [1.25, 1.25]]]]
    flat = towards_higher(torch.zeros(1, 1, 3, 4), torch.tensor([[[1]]]), torch.tensor([[[1]]]))
    assert flat.tolist() == [[[[1.25, 1.25]]]]  # as the original, equal neighbours count as the left being higher


def test_no_peaks_and_half_precision() -> None:
    codec = build_codec({"name": "tag_grouping", "num_candidates": 4})
    _, scores, *_ = codec(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 16, 16))
    assert scores.shape == (1, 3, 4) and not scores.any()
    heat_4, heat_2, tags = (maps.half() for maps in made_up(1, 64, 64))
    exact = codec(heat_4.float(), heat_2.float(), tags.float())
    for name, value, wanted in zip(NAMES, codec(heat_4, heat_2, tags), exact, strict=True):
        assert torch.equal(value, wanted), name


def test_what_is_not_finite_shows() -> None:
    heat_4, heat_2, tags = made_up(1, 64, 64)
    heat_2[0, 1, 5, 5] = torch.nan
    scores = TagGrouping()(heat_4, heat_2, tags)[1]
    assert scores[0, 1].isnan().any() and scores[0, 0].isfinite().all()


def test_wrong_shapes_and_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="heatmaps and tags: expected"):
        TagGrouping()(torch.zeros(3, 16, 16), None, torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError, match="num_candidates: expected 1 to 1000, found 0"):
        TagGrouping(num_candidates=0)


def dynamic() -> dict:
    """Any batch and any sides that are multiples of 64 px of the input."""
    batch, rows, columns = (torch.export.Dim(name, min=1, max=32) for name in ("batch", "rows", "columns"))
    return {
        "heatmaps_4": {0: batch, 2: 16 * rows, 3: 16 * columns},
        "heatmaps_2": {0: batch, 2: 32 * rows, 3: 32 * columns},
        "tags": {0: batch, 3: 16 * rows, 4: 16 * columns},
    }


@pytest.mark.parametrize("hw", [(64, 64), (64, 256), (192, 128)])
def test_exported_program_takes_any_size(exported: torch.export.ExportedProgram, hw: tuple[int, int]) -> None:
    inputs = made_up(3, *hw, embeddings=2)
    for name, value, wanted in zip(NAMES, exported.module()(*inputs), TagGrouping()(*inputs), strict=True):
        torch.testing.assert_close(value, wanted, msg=name)


@pytest.fixture(scope="module")
def exported() -> torch.export.ExportedProgram:
    return torch.export.export(TagGrouping().eval(), made_up(2, 128, 192, embeddings=2), dynamic_shapes=dynamic())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_onnx_file_takes_any_size(exported: torch.export.ExportedProgram, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = str(tmp_path / "codec.onnx")
    torch.onnx.export(exported, f=file, input_names=["h4", "h2", "tags_4"], output_names=list(NAMES), verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for hw in ((64, 256), (192, 64)):
        inputs = made_up(1, *hw, embeddings=2)
        feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs)}
        for name, value, wanted in zip(NAMES, session.run(None, feeds), TagGrouping()(*inputs), strict=True):
            np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
