"""`hpe-lite export --check-only FILE`: the gate once more, for a file that exists. The file is not touched."""

from pathlib import Path

from export.config import ExportConfig
from export.gate import judge, prepare
from lite.artifact import ArtifactSpec, read_spec
from lite.backends import choose_backend
from lite.backends.devices import choose_device
from lite.checkpoints import load_network
from lite.errors import ModelError

# What a network must have in common with the file. Weights may differ: whether they do is for the gate to say.
SAME = (
    "model",
    "task",
    "input_hw",
    "color_order",
    "mean",
    "std",
    "crop",
    "letterbox",
    "frame",
    "codec",
    "skeleton",
    "labels",
)


def check_again(config: ExportConfig) -> int:
    """Check `config.check_only` against the network of `config.model` or `config.checkpoint`.

    Returns:
        0 when it passed, 1 when it did not.

    Raises:
        ModelError: no such file, one that cannot be opened here, or another network than it was made from.
        ConfigError: a backend or device that cannot run it.
    """
    path = Path(config.check_only)
    if not path.is_file():
        raise ModelError(f"check_only: expected an exported file, found none at {path}; check the path")
    spec = read_spec(path)
    choose_device(config.device)  # this and the next before anything that takes long
    choose_backend(path.suffix.lower(), config.backend, config.device)
    flip_test = "with" if spec.flip_test else "without"
    print(f"checking {path.name} as its description has it: {spec.format}, {spec.mode}, {flip_test} flip test")
    network = load_network(config.checkpoint, model=config.model, trust=config.trust)
    _check_same(spec, network.spec, path)
    if network.spec.source_sha256 != spec.source_sha256:
        print(f"note: {path.name} was made from another weights file than the one given")
    expected, graph = prepare(
        network,
        mode=spec.mode,
        flip_test=spec.flip_test,
        batch_max=spec.batch_range[1],
        check_images=config.check_images,
    )
    del network, graph  # the file brings weights of its own
    report = judge(path, expected, backend=config.backend, device=config.device, trust=config.trust)
    print(f"{path} {'passed' if report['passed'] else 'did not pass'}")
    return 0 if report["passed"] else 1


def _check_same(spec: ArtifactSpec, network: ArtifactSpec, path: Path) -> None:
    """Refuse another network.

    Raises:
        ModelError: it differs in one of `SAME`.
    """
    wanted, found = spec.to_dict(), network.to_dict()
    differing = [name for name in SAME if wanted[name] != found[name]]
    if differing:
        name = differing[0]
        raise ModelError(
            f"{path}: expected the network it was made from, of {name} {wanted[name]}, found one of {found[name]}; "
            "name the right --model or --checkpoint"
        )
