"""Load checkpoints as plain data: no code in them is ever run."""

from pathlib import Path
from typing import Any

from utils.errors import UserError

# what Lightning needs to go on with a training
OF_A_TRAINING = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
WAY_ON = "put an intact copy there, or delete it to begin the run again"


class CheckpointError(UserError):
    """Say why a checkpoint cannot be used, and what to do."""


def load_plain(path: Path) -> Any:
    """Load a file of tensors, numbers, texts, lists and dicts; raises ``CheckpointError`` for anything else."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes of a strange file lead the unpickler to
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: not a checkpoint that can be loaded safely ({type(error).__name__}: {reason})"
        ) from error


def require_resumable(path: Path) -> dict:
    """Return the checkpoint of a training that can go on; raises ``CheckpointError`` for any other file."""
    try:
        content = load_plain(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {WAY_ON}") from error
    found = content if isinstance(content, dict) else {}
    wrong = [key for key, kind in OF_A_TRAINING.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise CheckpointError(
            f"{path}: not the checkpoint of a training (without {', '.join(wrong)}); {WAY_ON}"
        )
    return content


def require_fitting(path: Path, module: Any) -> None:
    """Load the weights of a training's checkpoint into a module; raises ``CheckpointError`` if they do not fit."""
    try:
        module.load_state_dict(require_resumable(path)["state_dict"])
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: is of another model ({reason}); {WAY_ON}") from error
