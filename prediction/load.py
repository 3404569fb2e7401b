"""Load a trained classifier from the checkpoint of either training."""

import hashlib
from pathlib import Path

from models.event_classifier import EventClassifier
from original_implementation.stacking import StackedTraceClassifier
from utils.checkpoints import CheckpointError, load_plain

PACKAGED = {"demo": Path(__file__).parent.parent / "docs" / "demo_model" / "classifier.ckpt"}


def load_classifier(path: str | Path) -> tuple[EventClassifier, str]:
    """Load a classifier, in evaluation mode on the CPU, and the file's SHA-256 (8 digits).

    ``path`` may be the name of a packaged model, a key of ``PACKAGED``. No code in the file is run.
    Raises ``CheckpointError`` for anything but a checkpoint of finetune.py or
    original_implementation/train.py.
    """
    path = Path(path)
    if not path.is_file():
        path = PACKAGED.get(str(path), path)
    if not path.is_file():
        names = ", ".join(PACKAGED)
        raise CheckpointError(f"--ckpt: no such file: {path} (packaged models: {names})")
    content = load_plain(path)
    checkpoint = content if isinstance(content, dict) else {}
    if "class_names" not in _section(checkpoint, "hyper_parameters"):
        what = "an encoder file" if "model_state_dict" in checkpoint else "no trained classifier"
        raise CheckpointError(
            f"{path}: {what}; give the checkpoints/last.ckpt of a run of finetune.py or "
            "original_implementation/train.py"
        )
    stacked = "backbone_with_clf_type" in _section(checkpoint, "config")
    kind = StackedTraceClassifier if stacked else EventClassifier
    try:
        model = kind(**checkpoint["hyper_parameters"])
        model.load_state_dict(checkpoint["state_dict"])
        model.on_load_checkpoint(checkpoint)
    except Exception as error:  # wrong values in the checkpoint can raise almost any error
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit this version ({reason})") from error
    if model.hparams["n_samples"] is None:
        raise CheckpointError(f"{path}: was saved without the length of its events; train it again")
    with open(path, "rb") as file:
        return model.eval(), hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _section(checkpoint: dict, key: str) -> dict:
    section = checkpoint.get(key)
    return section if isinstance(section, dict) else {}
