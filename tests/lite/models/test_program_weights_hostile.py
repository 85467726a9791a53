"""Programs with hostile or damaged parts: nothing of them runs, and each is answered in one sentence."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lite.checkpoints import read_state_dict
from lite.errors import CheckpointError, ModelError, UnsafeFileError
from tests.program_files import archive_2_8, changed, old_program, one_sentence, saved, write, zipped

LAYOUTS = ["torchscript", "torchscript half", "written here", "torch 2.8", "torch 2.4", "torch 2.2"]


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def bombs(marker: Path) -> dict[str, bytes]:
    """Pickles that leave a mark when they are run."""
    calls = (
        Call(os.system, f"touch {marker}"),
        Call(open, str(marker), "w"),
        Call(eval, f"open({str(marker)!r}, 'w')"),
    )
    named = {f"protocol {n}": pickle.dumps({"w": calls[0]}, n) for n in (0, 2, 4)}
    script = b"\x80\x02c__torch__.m\nNet\n)\x81}X\x01\x00\x00\x00w" + pickle.dumps(calls[1], 2)[2:-1] + b"sb."
    return {**named, "eval": pickle.dumps(calls[2], 2), "in a module": script}


BOMBS = ["protocol 0", "protocol 2", "protocol 4", "eval", "in a module"]
HIDEOUTS: dict[str, Callable[[bytes, bytes, bytes], bytes]] = {
    "data.pkl": lambda script, program, bomb: changed(script, lambda m: m.update({"data.pkl": bomb})),
    "constants.pkl": lambda script, program, bomb: changed(script, lambda m: m.update({"constants.pkl": bomb})),
    "serialized_state_dict.pt": lambda script, program, bomb: old_program(zipped({"archive/data.pkl": bomb})),
    "serialized_state_dict.json": lambda script, program, bomb: old_program(
        zipped({"archive/data.pkl": bomb}), "serialized_state_dict.json"
    ),
    "data/weights/model.pt": lambda script, program, bomb: archive_2_8(zipped({"archive/data.pkl": bomb})),
}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("hideout", HIDEOUTS)
def test_bombs_do_not_go_off_and_are_refused(
    tmp_path: Path, torchscript: bytes, exported: bytes, hideout: str, bomb: str, trust: bool
) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path, HIDEOUTS[hideout](torchscript, exported, bombs(marker)[bomb]))
    with pytest.raises(UnsafeFileError) as caught:
        read_state_dict(path, trust)
    assert one_sentence(caught.value) and not marker.exists()


def test_the_bombs_are_real(tmp_path: Path) -> None:
    for name in BOMBS[:-1]:
        marker = tmp_path / name.replace(" ", "")
        result = pickle.loads(bombs(marker)[name])
        if hasattr(result, "close"):
            result.close()
        assert marker.exists()


@pytest.mark.parametrize(
    "member",
    [
        "code/__torch__/x.py", "code/__torch__/x.py.debug_pkl", "traced_inputs.pkl", "extra/x", "bytecode.pkl",
        "data/sample_inputs/model.pt", "data/constants/tensor_0", "models/model.json", "extra/run.py",
    ],
)  # fmt: skip
def test_what_is_not_needed_is_not_opened(
    tmp_path: Path, torchscript: bytes, exported: bytes, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    bomb = bombs(marker)["protocol 2"]
    data = exported if member.startswith(("data/", "models/", "extra/run")) else torchscript
    path = write(tmp_path, changed(data, lambda members: members.update({member: bomb})))
    for name in ("load", "jit.load", "export.load", "_C.PyTorchFileReader"):
        monkeypatch.setattr(f"torch.{name}", lambda *a, **k: pytest.fail("opened by torch"))
    state, _ = read_state_dict(path, trust=True)
    assert "backbone.pos_embed" in state and not marker.exists()


def edited(data: bytes, **meta: Any) -> bytes:
    """The description of every weight changed."""

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["data/weights/model_weights_config.json"])
        for payload in config["config"].values():
            for key, value in meta.items():
                (payload if key in payload else payload["tensor_meta"])[key] = value
        members["data/weights/model_weights_config.json"] = json.dumps(config).encode()

    return changed(data, change)


def without(data: bytes, *names: str) -> bytes:
    return changed(data, lambda members: [members.pop(name) for name in names])


def compressed(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    return buffer.getvalue()


CONFIG = "data/weights/model_weights_config.json"
NESTED = b"\x80\x02c__torch__.m\nNet\n)\x81q\x00"  # a module, remembered as 0
DAMAGED: dict[str, Callable[[bytes, bytes], bytes]] = {
    "weights as pickles": lambda script, program: edited(program, use_pickle=True),
    "weights outside the archive": lambda script, program: edited(program, path_name="../../../etc/passwd"),
    "weights beyond the member": lambda script, program: edited(program, storage_offset={"as_int": 2**40}),
    "negative sizes": lambda script, program: edited(program, sizes=[{"as_int": -1}]),
    "sizes that are expressions": lambda script, program: edited(program, sizes=[{"as_expr": {"expr_str": "s0"}}]),
    "a huge shape": lambda script, program: edited(
        program, sizes=[{"as_int": 2**60}], strides=[{"as_int": 0}], storage_offset={"as_int": 0}
    ),
    "unknown numbers": lambda script, program: edited(program, dtype=29),
    "no weights": lambda script, program: without(program, "data/weights/weight_0"),
    "no description of weights": lambda script, program: without(program, CONFIG),
    "two descriptions": lambda script, program: changed(
        program, lambda m: m.update({"data/weights/other_weights_config.json": m[CONFIG]})
    ),
    "deep JSON": lambda script, program: changed(program, lambda m: m.update({CONFIG: b"[" * 100_000})),
    "JSON of another kind": lambda script, program: changed(program, lambda m: m.update({CONFIG: b"[1, 2]"})),
    "compressed": lambda script, program: compressed(program),
    "compressed script": lambda script, program: compressed(script),
    "frozen": lambda script, program: changed(script, lambda m: m.update({"data.pkl": NESTED + b"}b."})),
    "no module": lambda script, program: changed(script, lambda m: m.update({"data.pkl": b"]."})),
    "a module in itself": lambda script, program: changed(
        script, lambda m: m.update({"data.pkl": NESTED + b"}X\x01\x00\x00\x00ah\x00sb."})
    ),
    "modules that double": lambda script, program: changed(script, lambda m: m.update({"data.pkl": doubling(40)})),
    "weights that are not there": lambda script, program: without(script, "data/3"),
    "no data.pkl": lambda script, program: without(script, "data.pkl"),
    "old and empty": lambda script, program: old_program(b""),
    "old and no zip": lambda script, program: old_program(pickle.dumps({})),
    "old and a list": lambda script, program: old_program(saved([torch.zeros(1)])),
    "old and without tensors": lambda script, program: old_program(saved({})),
    "old and with other things": lambda script, program: old_program(saved({"w": torch.zeros(1), "lr": 1})),
    "old and without weights": lambda script, program: zipped({"serialized_exported_program.json": b"{}"}),
    "torch 1.0": lambda script, program: zipped({"x/model.json": b"{}", "x/tensors/0": b""}),
}


def doubling(depth: int) -> bytes:
    """Modules that each hold the next one twice."""
    lines = [NESTED + b"}b"]
    for level in range(1, depth):
        attributes = b"".join(b"X\x01\x00\x00\x00" + name + b"h" + bytes([level - 1]) for name in (b"a", b"b"))
        lines.append(b"c__torch__.m\nNet\n)\x81q" + bytes([level]) + b"}(" + attributes + b"ub")
    return b"".join(lines) + b"."


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_and_strange_files_are_answered_in_one_sentence(
    tmp_path: Path, torchscript: bytes, exported: bytes, kind: str
) -> None:
    path = write(tmp_path, DAMAGED[kind](torchscript, exported))
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path, trust=True)
    assert one_sentence(caught.value) and str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cut_short_anywhere(tmp_path: Path, files: dict[str, bytes], layout: str) -> None:
    data = files[layout]
    for length in range(1, len(data), len(data) // 40):
        path = write(tmp_path, data[:length])
        with pytest.raises(CheckpointError) as caught:
            read_state_dict(path, trust=True)
        assert one_sentence(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_bytes_give_an_answer(tmp_path: Path, files: dict[str, bytes], layout: str) -> None:
    random = np.random.default_rng(0)
    data = bytearray(files[layout])
    tail = len(data) - 12_000  # descriptions and directories; flips in the weights change numbers only
    for place in random.integers(max(tail, 0), len(data), 60):
        before, data[place] = data[place], data[place] ^ int(random.integers(1, 256))
        try:
            read_state_dict(write(tmp_path, bytes(data)), trust=True)
        except ModelError as problem:
            assert one_sentence(problem)
        data[place] = before
