"""Which device, which mode is worth using on it, and whether machine code made elsewhere runs on it."""

import platform

import torch

from lite.artifact import ArtifactSpec
from lite.errors import ArtifactError, ConfigError

# What a processor of each kind adds to the ones before it; machine code for one runs on the later ones of its row.
CPU_LEVELS = {
    "x86_64": ("default", "avx2", "avx512", "avx512_bf16", "amx_bf16"),
    "aarch64": ("default", "sve", "sve128", "sve256"),
}


def choose_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: not a device name, or a device this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}") from None
    count = torch.cuda.device_count()
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ConfigError(f"device: {device} is not there, torch sees {count} CUDA devices; use cpu or auto")
    if chosen.type not in ("cpu", "cuda") or (chosen.type == "cpu" and chosen.index is not None):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}")
    return chosen


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware (CPU: AMX or AVX512-BF16; CUDA: Ampere or newer)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def exact_float32() -> None:
    """Have float32 products on CUDA computed in float32, for the whole process.

    By torch's default convolutions round their factors to the ten bits of TF32, which moves keypoints as much as
    bfloat16 does and would do so in the mode that promises not to.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def device_tag(device: torch.device, *, with_name: bool = False) -> str:
    """What machine code for this device is tied to: "cuda sm_90", "cpu x86_64 amx_bf16".

    Args:
        device: of this machine.
        with_name: add the GPU's name, "cuda sm_90 NVIDIA H200", for files tuned for one model of GPU.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = f" {torch.cuda.get_device_name(device)}" if with_name else ""
        return f"cuda sm_{major}{minor}{name}"
    capability = torch.backends.cpu.get_cpu_capability()
    return cpu_tag(
        platform.machine(), capability, torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
    )


def cpu_tag(machine: str, capability: str, avx512_bf16: bool, amx: bool) -> str:
    """The tag of a processor.

    Args:
        machine: as `platform.machine` says it.
        capability: as torch says it, "AVX2", "AVX512", "SVE256"; the environment can lower it.
        avx512_bf16, amx: whether those instructions are there.
    """
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())
    level = capability.lower().replace(" ", "_")
    if level == "avx512":
        level = "amx_bf16" if amx else "avx512_bf16" if avx512_bf16 else level
    return f"cpu {machine} {level}"


def runs_on(built_for: str, here: str) -> bool:
    """Whether machine code with the tag `built_for` runs on a device with the tag `here` (made `with_name`).

    CUDA code runs on its own capability alone, and on its own model of GPU where the tag names one. CPU code runs on
    the same and newer processors of its kind; levels that are not known must be equal.
    """
    kind, _, rest = built_for.partition(" ")
    kind_here, _, rest_here = here.partition(" ")
    if kind != kind_here:
        return False
    if kind == "cuda":
        capability, _, name = rest.partition(" ")
        capability_here, _, name_here = rest_here.partition(" ")
        return capability == capability_here and name in ("", name_here)
    machine, _, level = rest.partition(" ")
    machine_here, _, level_here = rest_here.partition(" ")
    levels = CPU_LEVELS.get(machine, ())
    if level not in levels or level_here not in levels:
        return rest == rest_here
    return machine == machine_here and levels.index(level) <= levels.index(level_here)


def check_built_for(spec: ArtifactSpec, device: torch.device, path: object = None) -> None:
    """A file with machine code runs on the kind of device it was built for.

    Args:
        spec: of the file. device: where it shall run. path: for the message; the model's name without it.

    Raises:
        ArtifactError: it was built for another.
    """
    if spec.device == "any":
        return
    here = device_tag(device, with_name=True)
    if not runs_on(spec.device, here):
        raise ArtifactError(
            f"{path or spec.model}: built for {spec.device}, this is {here}; export the model again on this machine"
        )
