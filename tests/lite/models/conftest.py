"""One tiny network as the files that others publish."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from tests.program_files import Estimator, archive_2_8, halved, old_program, program, saved, script


@pytest.fixture(scope="session")
def estimator() -> Estimator:
    generator = torch.Generator().manual_seed(0)
    made = Estimator().eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made


@pytest.fixture(scope="session")
def torchscript(estimator: Estimator) -> bytes:
    return script(estimator)


@pytest.fixture(scope="session")
def exported(estimator: Estimator) -> bytes:
    return program(estimator)


@pytest.fixture(scope="session")
def files(estimator: Estimator, torchscript: bytes, exported: bytes) -> dict[str, bytes]:
    """One network in every layout."""
    state = estimator.state_dict()
    parameters = OrderedDict((name, nn.Parameter(tensor, requires_grad=False)) for name, tensor in state.items())
    return {
        "torchscript": torchscript,
        "torchscript half": halved(torchscript),
        "written here": exported,
        "torch 2.8": archive_2_8(saved(parameters)),
        "torch 2.4": old_program(saved(parameters)),
        "torch 2.2": old_program(saved(dict(parameters)), "serialized_state_dict.json"),
    }
