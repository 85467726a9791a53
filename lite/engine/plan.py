"""How many threads do what on one device: decisions as pure functions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from lite.artifact import ArtifactSpec
from lite.network import any_size

# Crops of more pixels than this belong to networks whose time is in the network alone (Sapiens: 1024 x 768).
LARGE_CROP_PX = 300_000
# Crop pixels in one forward pass. A processor gains nothing from more than 16 crops of 256 x 192 or one of 1024 x 768,
# and needs memory for each; an accelerator is meant to be full with 32 times as many (not measured).
CPU_FORWARD_PX = 800_000
CUDA_FORWARD_PX = 32 * CPU_FORWARD_PX
MOST_CROPS = 64
USUAL_ASPECT = 1.5  # of photographs, which inputs that follow the frame's shape are longer by
MOST_WORKERS = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Threads of a run.

    Attributes:
        workers: threads that each take a few pictures, read them, run them and write the results.
        at_once: workers that may use the networks at the same time.
        network_threads: threads inside one forward pass on the processor.
        frame_batch: pictures a worker takes at a time.
    """

    workers: int
    at_once: int
    network_threads: int
    frame_batch: int


def forward_size(spec: ArtifactSpec, device: str, input_hw: tuple[int, int] | None = None) -> int:
    """Crops in one forward pass when nobody says otherwise; `input_hw` px where a network takes inputs of any size."""
    pixels = CPU_FORWARD_PX if device == "cpu" else CUDA_FORWARD_PX
    height, width = input_hw or spec.input_hw
    return max(1, min(MOST_CROPS, pixels // (height * width)))


def usual_input_px(spec: ArtifactSpec) -> int:
    """Pixels of a network's input."""
    return round(spec.input_hw[0] * spec.input_hw[1] * (USUAL_ASPECT if any_size(spec) else 1))


def make_plan(
    specs: Sequence[ArtifactSpec], device: str, num_pictures: int, *, threads: int | None = None, frame_batch: int = 16
) -> Plan:
    """Threads for networks, a device and a number of pictures; the largest network decides.

    A small network on the processor runs fastest as many single-threaded passes side by side: split inside, its
    hundreds of short operations wait for each other, and on a busy machine for the scheduler. A large one fills all
    cores by itself, and its activations fit in memory once; the other workers read and write meanwhile. So they do
    beside an accelerator, with one more to prepare the next crops.

    Args:
        specs: of the networks after the detector; at least one.
        device: "cpu" or an accelerator.
        num_pictures: pictures of the run.
        threads: processor threads of the networks altogether; None takes all cores this process may use.
        frame_batch: pictures handled together at most.
    """
    threads = threads or usable_cores()
    large = max(map(usual_input_px, specs)) > LARGE_CROP_PX
    if device != "cpu":
        workers, at_once, per_pass, pictures = min(threads, MOST_WORKERS), 2, threads, frame_batch
    elif large:
        workers, at_once, per_pass, pictures = 2, 1, threads, 2
    else:
        workers = at_once = min(threads, MOST_WORKERS)
        per_pass, pictures = threads // at_once, 8
    pictures = min(frame_batch, pictures)
    batches = -(-num_pictures // pictures)
    if device == "cpu" and batches < at_once:  # too little work to spread over: faster inside
        workers = at_once = max(batches, 1)
        per_pass = max(threads // at_once, 1)
    return Plan(workers=max(workers, 1), at_once=at_once, network_threads=max(per_pass, 1), frame_batch=pictures)


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
