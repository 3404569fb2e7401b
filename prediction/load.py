"""Open a trained classifier from its checkpoint, whichever of the two trainings made it."""

import hashlib
from pathlib import Path

import torch

from models.event_classifier import EventClassifier
from original_implementation.stacking import StackedTraceClassifier
from utils.errors import UserError


class CheckpointError(UserError):
    """Say why a file cannot be used as a trained classifier."""


def load_classifier(path: str | Path) -> tuple[EventClassifier, str]:
    """Load a classifier in evaluation mode, on the CPU, and what identifies it: the first 8 digits of its SHA-256.

    No code in the file is ever run. Raises ``CheckpointError`` for anything but a checkpoint of finetune.py or
    original_implementation/train.py.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"--ckpt: no such file: {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes of a strange file lead the unpickler to
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: not a checkpoint that can be loaded safely ({type(error).__name__}: {reason})"
        ) from error
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    parts = {
        key: parts.get(key) if isinstance(parts.get(key), dict) else {}
        for key in ("hyper_parameters", "config")
    }
    if "class_names" not in parts["hyper_parameters"]:
        what = (
            "an encoder file"
            if isinstance(checkpoint, dict) and "model_state_dict" in checkpoint
            else "no trained classifier"
        )
        raise CheckpointError(
            f"{path}: {what}; give the checkpoints/last.ckpt of a run of finetune.py or original_implementation/train.py"
        )
    stacked = "backbone_with_clf_type" in parts["config"]
    kind = StackedTraceClassifier if stacked else EventClassifier
    try:
        model = kind(**checkpoint["hyper_parameters"])
        model.load_state_dict(checkpoint["state_dict"])
        model.on_load_checkpoint(checkpoint)
    except Exception as error:  # whatever strange values lead the model to
        raise CheckpointError(
            f"{path}: does not fit this version ({' '.join(str(error).split())[:200]})"
        ) from error
    if model.hparams.n_samples is None:
        raise CheckpointError(f"{path}: was saved without the length of its events; train it again")
    with open(path, "rb") as file:
        return model.eval(), hashlib.file_digest(file, "sha256").hexdigest()[:8]
