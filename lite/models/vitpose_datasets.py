"""The data sets ViTPose and HAP were trained on, and one of them out of a file for several.

A multi-data-set network (ViTPose+ with six, HAP with three) shares one trunk, except that the last channels of every
block's output come from the expert of the data set; each data set has its own head. Joined with one expert and one
head it is a plain network with the same outputs, so everything after loading knows plain networks only.
Source: ViTPose mmpose/models/backbones/vit_moe.py, mmpose/models/detectors/top_down_moe.py, tools/model_split.py.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lite.errors import CheckpointError
from lite.models.strict import check_axes, joined

ASSOCIATE = "associate_keypoint_heads."


class DataSet(NamedTuple):
    """How networks of one data set are read.

    Attributes:
        num_keypoints: channels of its head.
        skeleton: name of a file in `lite/skeletons`.
        classic: trained with the classic affine and integer-centred targets, hence decoded to quarter cells and with a
            shifted flip; the others are trained and decoded the UDP way.
        square: trained on squares that fill the network's input, aspect lost.
    """

    num_keypoints: int
    skeleton: str
    classic: bool
    square: bool = False


# A data set is called after its skeleton where it is the only one with it.
DATA_SETS = {
    "coco17": DataSet(17, "coco17", classic=False),
    "mpii16": DataSet(16, "mpii16", classic=False, square=True),
    "aic14": DataSet(14, "aic14", classic=True),
    "crowdpose14": DataSet(14, "crowdpose14", classic=True),
    "wholebody133": DataSet(133, "wholebody133", classic=True),
    "ap10k17": DataSet(17, "ap10k17", classic=True),
    "apt36k17": DataSet(17, "ap10k17", classic=True),
}
EXPERT_ORDER = ("coco17", "aic14", "mpii16", "ap10k17", "apt36k17", "wholebody133")  # HAP has the first three


def data_sets_in(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of the data sets that tensors under original names hold together; none for a plain or a split network."""
    if not _is_joint(state):
        return ()
    return EXPERT_ORDER[: max(_count(state, "backbone.blocks.0.mlp.experts."), 1 + _count(state, ASSOCIATE))]


def one_data_set(state: Mapping[str, Tensor], wanted: str | int | None) -> tuple[dict[str, Tensor], str | None]:
    """The plain network of one data set: its expert joined to the trunk, its head, nothing of the others.

    Heads with more channels than the data set has keypoints (HAP pads all of its heads to 17) are cut. What multi-task
    files carry beside a plain network, and what the original's split leaves behind, is dropped.

    Args:
        state: tensors under original names.
        wanted: name in `DATA_SETS`, position of the expert, or None for the first (COCO), as the original.

    Returns:
        Tensors of a plain network, and the data set's name; None where nothing says it or the head is for another.

    Raises:
        CheckpointError: the file does not hold that data set.
    """
    held = data_sets_in(state)
    index = _position(state, held, wanted)
    own_head = not any(name.startswith(f"{ASSOCIATE}{index - 1}.") for name in state) if index else True
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".mlp.experts." in name or name.startswith((ASSOCIATE, "associate_heads.")):
            continue
        if not own_head and name.startswith("keypoint_head."):
            continue
        if held and ".mlp.fc2." in name:
            tensor = _join(state, name, index)
        plain[name] = tensor
    if not own_head:
        prefix = f"{ASSOCIATE}{index - 1}."
        for name in (name for name in state if name.startswith(prefix)):
            plain[f"keypoint_head.{name.removeprefix(prefix)}"] = state[name]
    name = wanted if isinstance(wanted, str) else (held[index] if held else None)
    head = plain.get("keypoint_head.final_layer.weight")
    if name is None or head is None:
        return plain, name
    check_axes(plain, {"keypoint_head.final_layer.weight": 4})
    keypoints = DATA_SETS[name].num_keypoints
    if index and own_head and isinstance(wanted, str) and head.shape[0] == DATA_SETS[held[0]].num_keypoints:
        # Files of transformers have every expert and one head, COCO's in all that are published.
        raise CheckpointError(
            f"expected a head for {name} in the file, found one that is taken to be for {held[0]}; if it is for "
            f"{name}, choose the data set by its position, {index}"
        )
    if held and head.shape[0] > keypoints and not own_head:
        for key in [key for key in plain if key.startswith("keypoint_head.final_layer.")]:
            plain[key] = plain[key][:keypoints] if plain[key].ndim else plain[key]
    elif head.shape[0] != keypoints:
        name = None  # the file's only head is for another data set
    return plain, name


def _is_joint(state: Mapping[str, Tensor]) -> bool:
    """Whether the data sets are still together: experts not joined to the trunk, or heads without experts."""
    if not any(".mlp.experts." in name for name in state):
        return any(name.startswith(ASSOCIATE) for name in state)
    check_axes(state, {"backbone.blocks.0.mlp.fc2.weight": 2, "backbone.blocks.0.norm1.weight": 1})
    second, norm = state.get("backbone.blocks.0.mlp.fc2.weight"), state.get("backbone.blocks.0.norm1.weight")
    return second is not None and norm is not None and second.shape[0] < norm.shape[0]


def _position(state: Mapping[str, Tensor], held: tuple[str, ...], wanted: str | int | None) -> int:
    """Position of the expert of the wanted data set; 0 in a plain network, which has only one."""
    if isinstance(wanted, str) and wanted not in DATA_SETS:
        raise CheckpointError(f"expected a data set out of {', '.join(DATA_SETS)}, found {wanted!r}; choose one")
    if wanted is None:
        return 0
    if not held:
        # The original's coco file keeps the other heads beside a trunk that is already joined to the COCO expert.
        if wanted not in (0, "coco17") and (isinstance(wanted, int) or any(n.startswith(ASSOCIATE) for n in state)):
            raise CheckpointError(
                f"expected a network for several data sets, found one; leave out the choice of {wanted!r}"
            )
        return 0
    if isinstance(wanted, int):
        if not 0 <= wanted < len(held):
            raise CheckpointError(f"expected data set 0 to {len(held) - 1}, found {wanted}; it holds {', '.join(held)}")
        return wanted
    if wanted not in held:
        raise CheckpointError(f"expected a network for {wanted}, found one for {', '.join(held)}; choose one of these")
    return held.index(wanted)


def _join(state: Mapping[str, Tensor], name: str, index: int) -> Tensor:
    """`blocks.N.mlp.fc2.<part>` with the rows of expert `index` after its own."""
    expert = state.get(name.replace(".mlp.fc2.", f".mlp.experts.{index}."))
    if expert is not None:
        return joined([state[name], expert], name)
    if any(".mlp.experts." in other for other in state):
        raise CheckpointError(f"expected expert {index} beside {name}, found none; the file is not complete")
    return state[name]


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
