"""Every row of the zoo: small, with lively weights, it is exported and agrees with the eager network.

Rows whose graphs differ in size alone run once; a row that fits none of them fails here until it is listed.
"""

from collections.abc import Callable

import pytest

from lite.graph import FLIPPED
from lite.models.zoo import ZOO
from lite.network import OUTPUTS
from tests.export.small_rows import shrink

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

# One row of each kind of graph.
KINDS = (
    "higherhrnet-w32-coco17",
    "ae-hrnet-w32-coco17",
    "hrnet-w32-imagenet1000",
    "pose17-small",
    "person-nano",
    "rtmdet-m-person",
    "rtmdet-tiny-coco80",
    "rtmdet-m-coco80",
    "sapiens-0.3b-coco17",
    "sapiens-0.3b-wholebody133",
    "sapiens-0.3b-goliath308",
    "sapiens-0.3b-seg28",
    "sapiens-1b-face19",
    "sapiens-0.3b-lip20",
    "vitpose-s-coco17",
    "vitpose-s-simple-coco17",
    "vitpose-b-mpii16",
    "vitpose-b-aic14",
    "vitpose-b-crowdpose14",
    "vitpose-plus-s-ap10k17",
    "vitpose-plus-s-wholebody133",
)
ONE_OF_EACH_TASK = (
    "higherhrnet-w32-coco17",
    "hrnet-w32-imagenet1000",
    "person-nano",
    "sapiens-1b-face19",
    "vitpose-s-coco17",
)
FLIPPED_ELSEWHERE = ("pose17-small",)  # with its own weights, and slow to trace twice
ExportSmall = Callable[..., dict]


def test_every_row_is_of_a_kind_that_is_exported_here() -> None:
    keys = {name: shrink(row).key for name, row in ZOO.items()}
    kinds = {keys[name] for name in KINDS}
    assert len(kinds) == len(KINDS), "two of them are alike, and one is enough"
    assert [name for name, key in keys.items() if key not in kinds] == [], "no row of KINDS is like these"
    assert {ZOO[name].task for name in ONE_OF_EACH_TASK} == {row.task for row in ZOO.values()} == set(OUTPUTS)


def test_small_rows_differ_where_graphs_do() -> None:
    def key(name: str) -> str:
        return shrink(ZOO[name]).key

    assert key("vitpose-s-coco17") == key("vitpose-h-coco17") == key("hap-b-384x288-coco17")
    assert key("vitpose-b-aic14") != key("vitpose-b-crowdpose14")  # another skeleton
    assert key("vitpose-s-coco17") != key("vitpose-s-simple-coco17")  # another head
    assert key("rtmdet-s-coco80") != key("rtmdet-m-coco80")  # distances are exponential


@pytest.mark.parametrize("name", KINDS)
def test_pt2_and_onnx_give_what_the_network_gives(export_small: ExportSmall, name: str) -> None:
    """The program with the flip test, where a task has one, and the ONNX file without."""
    export_small(name, format="pt2", flip_test=ZOO[name].task in FLIPPED and name not in FLIPPED_ELSEWHERE)
    export_small(name, format="onnx", backend="onnxruntime")


@pytest.mark.parametrize("mode", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH_TASK if ZOO[name].task != "detect"])
def test_reduced_modes(export_small: ExportSmall, name: str, mode: str) -> None:
    """Of detectors, the one with weights of its own: made-up ones with as many layers round wildly."""
    assert export_small(name, format="pt2", mode=mode)["rounding"]


@pytest.mark.parametrize("name", ONE_OF_EACH_TASK)
def test_openvino(export_small: ExportSmall, name: str) -> None:
    pytest.importorskip("openvino")
    export_small(name, format="openvino")
