"""The 1000 classes of ImageNet-1k: WordNet ids, whose sorted order is the class order, and a name for each."""

import json
from functools import cache
from pathlib import Path

# Two cranes and two maillots are told apart by what they are.
_FILE = Path(__file__).parent / "imagenet1000.json"


@cache
def imagenet_classes() -> dict[str, str]:
    """WordNet id -> name, 1000 of them, in class order: `{"n01440764": "tench", ...}`; names differ from each other.

    Source: ILSVRC 2012 synset list; the name is the first word WordNet 3.0 has for the synset.
    """
    return json.loads(_FILE.read_text(encoding="utf-8"))


def imagenet_names() -> tuple[str, ...]:
    """Class names; class n is position n."""
    return tuple(imagenet_classes().values())
