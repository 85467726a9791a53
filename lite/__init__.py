"""hpe-lite: human-pose models from checkpoint to proven deployment."""

from typing import Any

__version__ = "0.1.0"

# Name -> module that defines it; looked up on first use, so that importing `lite` loads neither torch nor OpenCV.
_PUBLIC = {
    "ArtifactSpec": "lite.artifact",
    "Frame": "lite.structures",
    "HpeLiteError": "lite.errors",
    "Pipeline": "lite.engine.pipeline",
    "Record": "lite.structures",
    "load_label_map": "lite.writers.label_maps",
    "load_network": "lite.checkpoints",
    "load_results": "lite.writers.records",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lite' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
