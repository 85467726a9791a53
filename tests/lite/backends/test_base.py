"""What a runtime raises in the middle of a run."""

import pytest

from lite.backends.base import in_words
from lite.errors import ConfigError, DeviceMemoryError, ModelError


class RuntimeFail(Exception):
    """As runtimes have them: a kind of its own, several lines."""


@pytest.mark.parametrize(
    ("problem", "kind", "says"),
    [
        (
            RuntimeFail("[E:1] Failed to allocate memory for requested buffer of size 9"),
            DeviceMemoryError,
            "8 crops at",
        ),
        (MemoryError(), DeviceMemoryError, "smaller batch size"),
        (RuntimeFail("Non-zero status code\nat line 3"), ModelError, r"Some Runtime failed .*\(Non-zero status code\)"),
        (ConfigError("as it is"), ConfigError, "^as it is$"),
    ],
)
def test_failures_are_sentences(toy_graph, problem, kind, says) -> None:
    with pytest.raises(kind, match=says) as caught, in_words(toy_graph.spec, "Some Runtime", 8):
        raise problem
    assert "\n" not in str(caught.value)


def test_an_interruption_passes(toy_graph) -> None:
    with pytest.raises(KeyboardInterrupt), in_words(toy_graph.spec, "Some Runtime", 1):
        raise KeyboardInterrupt
