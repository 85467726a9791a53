"""Hostile archives are refused before torch opens them, and nothing in them runs."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lite.backends.pt2_archive import _known_operator, vet_archive, vet_pickle, vet_tensors
from lite.errors import ArtifactError, UnsafeFileError

RAN = "HPE_LITE_TEST_RAN"


class Bomb:
    """Sets an environment variable when unpickled."""

    def __reduce__(self) -> tuple:
        return exec, (f"import os; os.environ[{RAN!r}] = '1'",)


@pytest.fixture(autouse=True)
def nothing_ran(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(RAN, raising=False)
    yield
    assert RAN not in os.environ


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rewrite(
    source: Path, changes: dict[str, bytes | None], extra: dict[str, bytes] | None = None, **options: int
) -> Path:
    """A copy of an archive with members replaced (None drops one) or added; names without the root folder."""
    target = source.with_name("changed.pt2")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        root = old.namelist()[0].split("/")[0]
        for entry in old.infolist():
            name = entry.filename.removeprefix(f"{root}/")
            data = changes.get(name, old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
        for name, data in (extra or {}).items():
            new.writestr(f"{root}/{name}", data)
    return target


def vet(path: Path) -> None:
    with path.open("rb") as file:
        vet_archive(file, path.name)
        assert file.tell() == 0


def edit(path: Path, member: str, change: Callable[[dict], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        document = json.loads(archive.read(f"{root}/{member}"))
    change(document)
    return rewrite(path, {member: json.dumps(document).encode()})


def test_what_export_writes_is_accepted(toy_pt2: Path) -> None:
    vet(toy_pt2)
    vet(rewrite(toy_pt2, {}))
    vet(rewrite(toy_pt2, {"data/sample_inputs/model.pt": saved(((torch.zeros(2, 3),), {}))}))


def test_no_paths_of_the_machine_in_an_archive(toy_pt2: Path) -> None:
    assert b"conftest" not in toy_pt2.read_bytes()


def test_a_bomb_in_the_sample_inputs_would_run_without_vetting(toy_pt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rewrite(toy_pt2, {"data/sample_inputs/model.pt": saved(((Bomb(),), {}))})
    with pytest.raises(Exception):  # noqa: B017  what the graph's own reader says afterwards does not matter
        torch.export.load(path)
        raise ValueError
    assert os.environ[RAN] == "1"
    monkeypatch.delenv(RAN)
    with pytest.raises(UnsafeFileError, match="exec"):
        vet(path)


@pytest.mark.parametrize("data", [saved(Bomb()), pickle.dumps(Bomb()), pickle.dumps(Bomb(), 0), saved({"a": [Bomb()]})])
def test_bombs_in_the_sample_inputs(toy_pt2: Path, data: bytes) -> None:
    with pytest.raises(UnsafeFileError, match="--trust"):
        vet(rewrite(toy_pt2, {"data/sample_inputs/model.pt": data}))


@pytest.mark.parametrize(
    ("config", "member"),
    [
        ("data/weights/model_weights_config.json", "data/weights/weight_0"),
        ("data/constants/model_constants_config.json", "data/constants/tensor_0"),
    ],
)
def test_bombs_stored_as_pickled_weights_and_constants(toy_pt2: Path, config: str, member: str) -> None:
    def pickled(document: dict) -> None:
        next(iter(document["config"].values()))["use_pickle"] = True

    path = edit(toy_pt2, config, pickled)
    with pytest.raises(UnsafeFileError, match="pickle"):
        vet(rewrite(path.rename(toy_pt2), {member: saved(Bomb())}))


@pytest.mark.parametrize(
    "name",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "extra/note.py",
    ],
)
def test_members_that_would_be_unpickled_or_do_not_belong(toy_pt2: Path, name: str) -> None:
    with pytest.raises(UnsafeFileError, match="unexpected member"):
        vet(rewrite(toy_pt2, {}, {name: pickle.dumps(Bomb())}))


def test_a_second_program_is_refused(toy_pt2: Path) -> None:
    with pytest.raises(UnsafeFileError, match="unexpected member"):
        vet(rewrite(toy_pt2, {}, {"models/other.json": b"{}"}))


@pytest.mark.parametrize("name", ["data/aotinductor/model/x.wrapper.so", "data/aotinductor/model/x.cpp"])
def test_native_code_is_refused(toy_pt2: Path, name: str) -> None:
    with pytest.raises(UnsafeFileError, match="AOTInductor"):
        vet(rewrite(toy_pt2, {}, {name: b"\x7fELF"}))


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/code/__torch__.py", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(UnsafeFileError, match="TorchScript"):
        vet(path)


@pytest.mark.parametrize("name", ["../outside", "data//weights/weight_9", "data/../../x", "c:/x", "data\\weights"])
def test_member_names_that_leave_the_archive(toy_pt2: Path, name: str) -> None:
    with pytest.raises(UnsafeFileError, match="not a plain file"):
        vet(rewrite(toy_pt2, {}, {name: b"x"}))


def test_a_link_is_refused(toy_pt2: Path) -> None:
    with zipfile.ZipFile(toy_pt2, "a") as archive:
        link = zipfile.ZipInfo("toy/data/weights/weight_99")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeFileError, match="not a plain file"):
        vet(toy_pt2)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_member_given_twice_is_refused(toy_pt2: Path) -> None:
    with pytest.raises(UnsafeFileError, match="twice"):
        vet(rewrite(toy_pt2, {}, {"models/model.json": b"{}"}))


def test_a_compressed_member_is_refused(toy_pt2: Path) -> None:
    with pytest.raises(UnsafeFileError, match="compressed"):
        vet(rewrite(toy_pt2, {}, {"data/weights/weight_99": b"0" * 10**6}, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9, -1])
def test_truncated_files(toy_pt2: Path, keep: float) -> None:
    data = toy_pt2.read_bytes()
    toy_pt2.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ArtifactError, match="export the model again"):
        vet(toy_pt2)


@pytest.mark.parametrize("where", ["before", "after"])
def test_bytes_around_the_archive(toy_pt2: Path, where: str) -> None:
    data = toy_pt2.read_bytes()
    toy_pt2.write_bytes(b"#!" + data if where == "before" else data + b"more")
    with pytest.raises((ArtifactError, UnsafeFileError)):
        vet(toy_pt2)


def test_another_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "hello")
    with pytest.raises(ArtifactError, match="another kind"):
        vet(path)


CODE = "__import__('os').environ.__setitem__('HPE_LITE_TEST_RAN', '1')"


def _target(document: dict) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"


def _file_operator(document: dict) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def _guard(document: dict) -> None:
    document["guards_code"] = [f"{CODE} is None"]


def _expression(document: dict) -> None:
    value = next(v for v in document["graph_module"]["graph"]["tensor_values"].values() if "as_expr" in v["sizes"][0])
    value["sizes"][0]["as_expr"]["expr_str"] = CODE


def _node_name(document: dict) -> None:
    nodes = document["graph_module"]["graph"]["nodes"]
    named = next(out for node in nodes for out in node["outputs"] if "as_tensor" in out)
    named["as_tensor"]["name"] = f"x = {CODE}"


def _tensor_name(document: dict) -> None:
    values = document["graph_module"]["graph"]["tensor_values"]
    values[f"x; {CODE}"] = next(iter(values.values()))


def _container(document: dict) -> None:
    document["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(
        [
            1,
            {
                "type": "collections.defaultdict",
                "context": json.dumps({"default_factory_module": "this"}),
                "children_spec": [],
            },
        ]
    )


@pytest.mark.parametrize("change", [_target, _file_operator, _guard, _expression, _node_name, _tensor_name, _container])
def test_programs_that_reach_beyond_arithmetic(toy_pt2: Path, change: Callable[[dict], None]) -> None:
    with pytest.raises(UnsafeFileError, match="--trust"):
        vet(edit(toy_pt2, "models/model.json", change))


def test_expression_check_is_quick_on_a_long_number(toy_pt2: Path) -> None:
    def change(document: dict) -> None:
        value = next(
            v for v in document["graph_module"]["graph"]["tensor_values"].values() if "as_expr" in v["sizes"][0]
        )
        value["sizes"][0]["as_expr"]["expr_str"] = "1" * 50000 + "!"

    with pytest.raises(UnsafeFileError):
        vet(edit(toy_pt2, "models/model.json", change))


@pytest.mark.parametrize("value", [[], {"config": []}, {"config": {"w": []}}, {"config": None}, 7])
def test_descriptions_of_another_form_are_damage(toy_pt2: Path, value: object) -> None:
    for member in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
        with pytest.raises(ArtifactError, match="damaged"):
            vet(rewrite(toy_pt2, {member: json.dumps(value).encode()}))


@pytest.mark.parametrize("value", [[], None, {"in_spec": "{"}, {"in_spec": '{"type": null}'}])
def test_programs_of_another_form_are_damage(toy_pt2: Path, value: object) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        vet(rewrite(toy_pt2, {"models/model.json": json.dumps(value).encode()}))


def test_operators() -> None:
    for target in (
        "aten.conv2d.default",
        "aten.conv2d.padding",
        "aten.split.Tensor",
        "aten.all.dim",
        "aten.gelu.default",
    ):
        assert _known_operator(f"torch.ops.{target}"), target
    assert _known_operator("_operator.add") and _known_operator("torch.sym_max")
    for target in (
        "torch.ops.aten.save.default", "torch.ops.aten.from_file.default", "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.resize_.default", "torch.ops.aten.warn.default", "torch.ops.aten._unsafe_index.Tensor",
        "torch.ops.aten.max_pool2d_with_indices_backward.default", "torch.ops.aten.fbgemm_linear_int8_weight.default",
        "torch.ops.aten.mkldnn_rnn_layer.default", "torch.ops.aten.quantized_gru_cell.default",
        "torch.ops.aten.nothing.default", "torch.ops.higher_order.cond", "torch.load", "torch.hub.load",
        "math.factorial",
        "_operator.call", "_operator.methodcaller", "torch.sym_sum.__globals__", "os.system", "#custom:x", "",
    ):  # fmt: skip
        assert not _known_operator(target), target


def test_plain_tensors_pass_and_other_pickles_do_not() -> None:
    vet_tensors(saved((torch.zeros(3), {"a": torch.ones(2, dtype=torch.bfloat16)})), "x")
    for value in (Bomb(), os.path.join, Path("x")):
        with pytest.raises(UnsafeFileError):
            vet_tensors(saved(value), "x")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(UnsafeFileError):
                vet_pickle(pickle.dumps(value, protocol), "x")
