"""mmdetection configuration files: read without running them, and made into an RTMDet with its spec.

Source: mmengine 0.10.7, `mmengine/config/config.py` for what bases, merging and `_delete_` mean; mmdetection 3.3.0 for
what the values mean and for the defaults of those left out.
"""

import ast
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lite.errors import ConfigError, ModelError
from lite.models.mmdet_bases import BASES, rtmdet_base
from lite.models.plain_values import PlainValues, assigned_name

if TYPE_CHECKING:
    from torch import Tensor

    from lite.models.rtmdet import RTMDet, RTMDetSizes

LARGEST_FILE = 1 << 20


def read_mmdet_config(path: str | Path) -> dict[str, Any]:
    """The top-level names of a configuration with its bases merged in. Nothing in the file is executed.

    Args:
        path: a `.py` file. `_base_` may name files beside it or one of the five `mmdet::rtmdet/...` files.

    Raises:
        ConfigError: the file cannot be read, uses Python beyond plain values, or its bases do not fit together.
    """
    return _read(Path(path), ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """One file; `above` are the files it is a base of."""
    if path.resolve() in above:
        raise ConfigError(f"{path}: expected bases that end somewhere, found a configuration that is its own base")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{path}: expected a configuration of at most {LARGEST_FILE} bytes, found more")
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except OSError as problem:
        raise ConfigError(
            f"{path}: expected an mmdetection configuration, cannot read it ({problem.strerror})"
        ) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise ConfigError(f"{path}: expected an mmdetection configuration in Python, found {problem}") from None
    base: dict[str, Any] = {}
    values = PlainValues(path, base)
    try:
        for statement in tree.body:
            if assigned_name(statement) == "_base_":
                _add_bases(values, statement, (*above, path.resolve()))
        for statement in tree.body:
            values.run(statement)
    except RecursionError:
        raise ConfigError(f"{path}: expected values of ordinary depth, found some nested too deeply") from None
    return _merge({name: value for name, value in values.names.items() if name != "_base_"}, base, str(path))


def _add_bases(values: PlainValues, statement: ast.Assign | ast.AnnAssign, above: tuple[Path, ...]) -> None:
    """Read the files `_base_` names into `values.base`."""
    named = values.value(statement.value)
    for name in named if isinstance(named, list | tuple) else [named]:
        if not isinstance(name, str):
            values.refuse(statement, f"a base must be a file name, not {name!r}")
        base = _base(values.path, name, above)
        twice = sorted(set(values.base) & set(base))
        if twice:
            values.refuse(statement, f"two bases define {', '.join(twice)}")
        values.base.update(base)


def _base(path: Path, name: str, above: tuple[Path, ...]) -> dict[str, Any]:
    if "::" not in name:
        return _read(path.parent / name, above)
    scope, file = name.split("::", 1)
    if scope != "mmdet" or file not in BASES:
        raise ConfigError(
            f"{path}: the base {name} is not known here; known are {', '.join('mmdet::' + base for base in BASES)}; "
            "give a configuration that stands alone"
        )
    base = rtmdet_base(BASES[file])
    for value in base.values():
        if isinstance(value, dict):
            value.setdefault("_scope_", scope)
    return base


def _merge(child: Mapping[str, Any], base: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`child` over `base`: dicts merge, anything else replaces; `_delete_=True` drops the base's dict first."""
    merged = copy.deepcopy(dict(base))
    for key, value in child.items():
        if not isinstance(value, dict):
            merged[key] = copy.deepcopy(value)
            continue
        own = {k: v for k, v in value.items() if k != "_delete_"}
        if key not in merged or value.get("_delete_", False):
            merged[key] = copy.deepcopy(own)
        elif isinstance(merged[key], dict):
            merged[key] = _merge(own, merged[key], where)
        else:
            raise ConfigError(
                f"{where}: {key} is a dict here and {type(merged[key]).__name__} in the base; "
                "add _delete_=True to it to replace the base's value"
            )
    return merged


def describes_rtmdet(config: str | Path) -> bool:
    """Whether a configuration is of a detector built in here, as far as it can be told without running it.

    Raises:
        ConfigError: the file cannot be read, or is no Python.
    """
    try:
        model = read_mmdet_config(config).get("model")
    except ConfigError:
        if _names_rtmdet(Path(config)):
            raise  # ours, if only it were plain
        return False
    return isinstance(model, dict) and str(model.get("type")).split(".")[-1] == "RTMDet"


def _names_rtmdet(path: Path) -> bool:
    """Whether the text names an RTMDet, or is none that could be run either."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return any(isinstance(node, ast.Constant) and "rtmdet" in str(node.value).lower() for node in ast.walk(tree))


def rtmdet_from_config(
    config: str | Path | Mapping[str, Any], state: Mapping[str, "Tensor"], meta: Mapping[str, Any] | None = None
) -> "RTMDet":
    """The network a configuration and a checkpoint describe together, strictly loaded, with its spec.

    Args:
        config: file, or what `read_mmdet_config` gave.
        state: mmdetection's keys. meta: what stood beside them (class names).

    Raises:
        ConfigError: a value that an RTMDet of ours cannot follow; the message names it.
        ModelError: the configuration is of another detector.
        CheckpointError: the tensors are not of the configured network.
    """
    from dataclasses import replace

    from lite.artifact import LetterboxRule
    from lite.models.rtmdet import class_names, detector_spec, rtmdet_from_state_dict

    where = "the detector configuration" if isinstance(config, Mapping) else str(config)
    values = config if isinstance(config, Mapping) else read_mmdet_config(config)
    model = values.get("model")
    if not isinstance(model, dict) or str(model.get("type")).split(".")[-1] != "RTMDet":
        found = model.get("type") if isinstance(model, dict) else model
        raise ModelError(
            f"{where}: expected an RTMDet, found {found}; other detectors of mmdetection run in mmdetection itself, "
            "see docs/mmdet.md"
        )
    sizes = _sizes(model, where)
    side, fill = _canvas(values, where)
    network = rtmdet_from_state_dict(state, meta, sizes=sizes, input_hw=(side, side))
    labels = class_names(_with_classes(meta or {}, values), sizes.num_classes)
    codec = _test_rules(model.get("test_cfg") or {}, where)
    preprocessor = model.get("data_preprocessor") or {}
    network.spec = replace(
        detector_spec(network.spec.model, (side, side), labels, **codec),
        mean=_three(preprocessor, "mean", where),
        std=_three(preprocessor, "std", where),
        color_order="RGB" if preprocessor.get("bgr_to_rgb") else "BGR",
        letterbox=LetterboxRule(fill=fill),
    )
    return network


def _sizes(model: Mapping[str, Any], where: str) -> "RTMDetSizes":
    from lite.models.rtmdet import STRIDES, scaled_sizes

    parts = {name: model.get(name) or {} for name in ("backbone", "neck", "bbox_head")}
    backbone, neck, head = parts.values()
    wanted = [
        ("backbone", "type", "CSPNeXt", None),
        ("backbone", "arch", "P5", "P5"),
        ("backbone", "expand_ratio", 0.5, 0.5),
        ("backbone", "channel_attention", True, True),
        ("neck", "type", "CSPNeXtPAFPN", None),
        ("neck", "expand_ratio", 0.5, 0.5),
        ("bbox_head", "type", "RTMDetSepBNHead", None),
        ("bbox_head", "stacked_convs", 2, 4),
        ("bbox_head", "with_objectness", False, False),
        ("bbox_head", "pred_kernel_size", 1, 1),
    ]
    for part, key, want, default in wanted:
        found = parts[part].get(key, default)
        if found != want:
            raise ConfigError(
                f"{where}: model.{part}.{key}: expected {want!r}, found {found!r}; such a network is not built in"
            )
    points = head.get("anchor_generator") or {}
    if tuple(points.get("strides", STRIDES)) != STRIDES or points.get("offset", 0) != 0:
        raise ConfigError(
            f"{where}: model.bbox_head.anchor_generator: expected offset 0 and strides {STRIDES}, found {points}"
        )
    for name, part in parts.items():
        activation = (part.get("act_cfg") or {"type": "SiLU"}).get("type")
        if activation not in ("SiLU", "Swish"):
            raise ConfigError(
                f"{where}: model.{name}.act_cfg: expected SiLU, found {activation}; such a network is not built in"
            )
    depthwise = {bool(part.get("use_depthwise", False)) for part in parts.values()}
    if len(depthwise) > 1:
        raise ConfigError(f"{where}: use_depthwise: expected one value for trunk, neck and head, found several")
    sizes = scaled_sizes(
        backbone.get("widen_factor", 1.0),
        backbone.get("deepen_factor", 1.0),
        neck_width=neck.get("out_channels"),
        neck_blocks=neck.get("num_csp_blocks", 3),
        head_width=head.get("feat_channels", 256),
        num_classes=head.get("num_classes"),
        depthwise=depthwise.pop(),
        share_conv=bool(head.get("share_conv", True)),
        exp_on_reg=bool(head.get("exp_on_reg", False)),
        bn_eps=tuple(_eps(part) for part in parts.values()),
    )
    if list(neck.get("in_channels", [])) != list(sizes.widths[-3:]) or head.get("in_channels") != sizes.neck_width:
        raise ConfigError(
            f"{where}: in_channels: expected {list(sizes.widths[-3:])} in the neck and {sizes.neck_width} in the head, "
            f"found {neck.get('in_channels')} and {head.get('in_channels')}"
        )
    return sizes


def _eps(part: Mapping[str, Any]) -> float:
    """A norm named without `eps` has 1e-5; the classes' own norm, used when none is named, has 1e-3."""
    norm = part.get("norm_cfg")
    return 1e-3 if norm is None else float(norm.get("eps", 1e-5))


def _three(preprocessor: Mapping[str, Any], key: str, where: str) -> tuple[float, float, float]:
    found = preprocessor.get(key)
    if not isinstance(found, list | tuple) or len(found) != 3:
        raise ConfigError(f"{where}: model.data_preprocessor.{key}: expected three numbers, found {found!r}")
    return tuple(float(value) for value in found)


def _dataset(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The innermost test data set."""
    dataset = (values.get("test_dataloader") or {}).get("dataset") or {}
    while "pipeline" not in dataset and (dataset.get("dataset") or dataset.get("datasets")):
        dataset = dataset.get("dataset") or dataset["datasets"][0]
    return dataset


def _canvas(values: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Side of the square canvas in px and the grey it is filled with."""
    pipeline = _dataset(values).get("pipeline") or values.get("test_pipeline") or []
    steps = {step.get("type", "").split(".")[-1]: step for step in pipeline if isinstance(step, dict)}
    resize, pad = steps.get("Resize"), steps.get("Pad")
    if resize is None or pad is None or not resize.get("keep_ratio"):
        raise ConfigError(
            f"{where}: the test pipeline: expected Resize(keep_ratio=True) and Pad, found {', '.join(steps)}"
        )
    scale, size = resize.get("scale"), pad.get("size")
    scale = (scale, scale) if isinstance(scale, int) else tuple(scale or ())
    if tuple(size or ()) != scale or len(set(scale)) != 1 or scale[0] % 32:
        raise ConfigError(
            f"{where}: the test pipeline: expected Resize and Pad to one square with a side that is a multiple of 32, "
            f"found {scale} and {size}"
        )
    fill = pad.get("pad_val", 0)
    fill = fill.get("img", 0) if isinstance(fill, dict) else fill
    grey = set(fill) if isinstance(fill, list | tuple) else {fill}
    if len(grey) != 1:
        raise ConfigError(f"{where}: the test pipeline: expected Pad with one grey value, found {fill}")
    return scale[0], int(grey.pop())


def _test_rules(test_cfg: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`test_cfg` as arguments of `PointBoxes`."""
    suppression = test_cfg.get("nms")
    if suppression is not None and suppression.get("type", "nms") != "nms":
        raise ConfigError(f"{where}: model.test_cfg.nms: expected type nms, found {suppression['type']}")
    smallest = test_cfg.get("min_bbox_size", -1)
    most = test_cfg.get("nms_pre", -1)
    return {
        "score_thr": float(test_cfg.get("score_thr", 0.0)),
        "nms_pre": most if most > 0 else 1 << 30,
        "nms_thr": None if suppression is None else float(suppression.get("iou_threshold", 0.5)),
        "class_agnostic": bool((suppression or {}).get("class_agnostic", False)),
        "max_per_frame": int(test_cfg.get("max_per_img", 100)),
        "min_box_px": float(smallest) if smallest >= 0 else None,
    }


def _with_classes(meta: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`meta` with the configuration's class names where the checkpoint has none."""
    meta = dict(meta)
    classes = (_dataset(values).get("metainfo") or {}).get("classes")
    if classes and not meta.get("dataset_meta") and "CLASSES" not in meta:
        meta["CLASSES"] = classes
    return meta
