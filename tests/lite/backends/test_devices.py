"""What machine code is tied to, and where it is refused."""

from dataclasses import replace

import pytest
import torch

from lite.artifact import ArtifactSpec
from lite.backends.devices import check_built_for, choose_device, cpu_tag, device_tag, runs_on
from lite.errors import ArtifactError, ConfigError

SPEC = ArtifactSpec(task="pose", model="toy", input_hw=(32, 24), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("built_for", "here", "runs"),
    [
        ("cuda sm_90", "cuda sm_90 NVIDIA H200", True),
        ("cuda sm_90 NVIDIA H200", "cuda sm_90 NVIDIA H200", True),
        ("cuda sm_90 NVIDIA H200", "cuda sm_90 NVIDIA H100 80GB HBM3", False),
        ("cuda sm_80", "cuda sm_90 NVIDIA H200", False),
        ("cuda sm_90", "cuda sm_80 NVIDIA A100", False),
        ("cuda sm_90", "cpu x86_64 amx_bf16", False),
        ("cpu x86_64 avx2", "cpu x86_64 amx_bf16", True),
        ("cpu x86_64 amx_bf16", "cpu x86_64 amx_bf16", True),
        ("cpu x86_64 amx_bf16", "cpu x86_64 avx512_bf16", False),
        ("cpu x86_64 avx2", "cpu aarch64 sve256", False),
        ("cpu x86_64 avx2", "cuda sm_90 NVIDIA H200", False),
        ("cpu riscv64 vector", "cpu riscv64 vector", True),
        ("cpu riscv64 vector", "cpu riscv64 other", False),
        ("cpu x86_64 avx1024", "cpu x86_64 amx_bf16", False),
        ("", "cpu x86_64 avx2", False),
        ("cpu", "cpu x86_64 avx2", False),
    ],
)
def test_machine_code_runs_on_its_own_kind_and_newer_processors(built_for: str, here: str, runs: bool) -> None:
    assert runs_on(built_for, here) is runs


@pytest.mark.parametrize(
    ("arguments", "tag"),
    [
        (("x86_64", "AVX512", True, True), "cpu x86_64 amx_bf16"),
        (("AMD64", "AVX512", True, False), "cpu x86_64 avx512_bf16"),
        (("x86_64", "AVX512", False, False), "cpu x86_64 avx512"),
        (("x86_64", "AVX2", True, True), "cpu x86_64 avx2"),
        (("x86_64", "NO AVX", False, False), "cpu x86_64 no_avx"),
        (("arm64", "SVE256", False, False), "cpu aarch64 sve256"),
    ],
)
def test_processors_are_named_by_what_torch_uses_of_them(arguments: tuple[str, str, bool, bool], tag: str) -> None:
    assert cpu_tag(*arguments) == tag


def test_this_processor_runs_what_was_built_here() -> None:
    cpu = torch.device("cpu")
    check_built_for(SPEC, cpu)
    check_built_for(replace(SPEC, device=device_tag(cpu)), cpu)


def test_a_file_of_another_device_is_refused_in_one_sentence() -> None:
    spec = replace(SPEC, device="cuda sm_90")
    with pytest.raises(ArtifactError, match=r"x\.pt2: built for cuda sm_90, this is cpu .*; export the model again"):
        check_built_for(spec, torch.device("cpu"), "x.pt2")


@pytest.mark.parametrize("name", ["cuda:99", "cpu:1", "toaster", "meta"])
def test_devices_that_are_not_there_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        choose_device(name)
