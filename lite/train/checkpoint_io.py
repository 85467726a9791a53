"""Training checkpoints are written beside and renamed, so that a kill at any moment leaves the last whole one.

Lightning's own writer makes the file in the system's temporary folder; where that is another disk, moving it copies it
over the old checkpoint.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class ReplacingCheckpointIO(TorchCheckpointIO):
    """Saves to a neighbour of the file and renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Replace `path` by a file with this checkpoint, or leave it as it is."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        try:
            torch.save(checkpoint, partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
