"""Load checkpoints as plain data, without running code stored in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError

# keys of a Lightning checkpoint, with their types, without which a run cannot be resumed
REQUIRED_KEYS = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
RECOVERY_HINT = "put an intact copy there, or delete it to begin the run again"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def load_plain(path: Path) -> Any:
    """Load a file of tensors, numbers, strings, lists and dicts.

    Raises ``CheckpointError`` for any other content.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise almost any error
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: not a checkpoint that can be loaded safely ({type(error).__name__}: {reason})"
        ) from error


def require_finite_weights(path: Path, weights: Mapping[str, Any]) -> None:
    """Raise ``CheckpointError`` naming the first of ``weights`` (tensors) that is not finite."""
    broken = [
        name
        for name, values in weights.items()
        if values.is_floating_point() and not bool(values.isfinite().all())
    ]
    if broken:
        raise CheckpointError(
            f"{path}: {len(broken)} of {len(weights)} weights are not finite (NaN or infinite), "
            f"first {broken[0]}: its training diverged. Take a checkpoint of an earlier epoch, or "
            "train again with a lower LR"
        )


def load_resumable(path: Path) -> dict[str, Any]:
    """Load a checkpoint from which a training can be resumed.

    Raises ``CheckpointError`` for any other file.
    """
    try:
        content = load_plain(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {RECOVERY_HINT}") from error
    found = content if isinstance(content, dict) else {}
    wrong = [key for key, kind in REQUIRED_KEYS.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise CheckpointError(
            f"{path}: not the checkpoint of a training (without {', '.join(wrong)}); "
            f"{RECOVERY_HINT}"
        )
    return content


def load_weights(content: dict[str, Any], module: Any, path: Path) -> None:
    """Load the weights of a training checkpoint, read from ``path``, into ``module``.

    Raises ``CheckpointError`` if they belong to another model.
    """
    try:
        module.load_state_dict(content["state_dict"])
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: is of another model ({reason}); {RECOVERY_HINT}") from error
