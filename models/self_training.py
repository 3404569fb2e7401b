"""Self-training: an ensemble names events without labels, single channels learn from it.

The teacher knows all sensors of an event, the student sees one of them, moved, scaled and masked.
Soft targets and an augmented student follow Xie et al., CVPR 2020, arXiv 1911.04252.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from models.event_classifier import EventClassifier
from preprocessing.data_module import EventDataModule, data_module_of
from preprocessing.dataset import EventBatch
from utils.checkpoints import CheckpointError, load_plain
from utils.distributed import gather_by_event
from utils.progress import progress_bar

log = logging.getLogger(__name__)
LEAST_SHARE = 0.01  # a class that is rarer counts as if it had this share of the events


class SelfTrainedClassifier(EventClassifier):
    """``EventClassifier`` that also learns from events without labels, which a teacher names.

    Call ``learn_from`` before training. Checkpoints are those of an ``EventClassifier``.
    """

    targets: Tensor

    def learn_from(self, teacher: EventClassifier) -> None:
        """Set the classifier that names the events without labels."""
        self._teacher = [teacher]  # in a list: its weights are not part of this module

    def on_fit_start(self) -> None:
        """Let the teacher name the events; weight the classes by what it found."""
        data = data_module_of(self.trainer)
        teacher = self._teacher.pop()
        self.targets = name_events(teacher.to(self.device), data, self.device)
        if self.hparams["class_weights"] is not None:
            counts = self.targets.sum(0)
            self.class_weights = soft_class_weights(counts, self.class_weights > 0)

    def targets_of(self, batch: EventBatch) -> Tensor:
        """Return (B, K): the labels of training events, the teacher's probabilities of others."""
        return self.targets[batch.events]


@torch.no_grad()
def name_events(teacher: EventClassifier, data: EventDataModule, device: torch.device) -> Tensor:
    """Return class probabilities (N, K) of the archive's N events: 1 for the labels of training
    events, those of the teacher's ensemble for ``data.unlabelled_events``, zeros for others.
    """
    labels = torch.from_numpy(data.labels[data.train_events])
    targets = torch.zeros(len(data.labels), len(data.class_names))
    targets[data.train_events] = F.one_hot(labels, len(data.class_names)).float()
    if len(data.unlabelled_events):
        log.info("The teacher names %d events without labels", len(data.unlabelled_events))
        events, found = [], []
        batches = data.event_batches(data.unlabelled_events, "all")
        for batch in progress_bar(batches, desc="Naming events without labels", unit="batch"):
            batch = data.to_device(batch, device)
            events.append(batch.events)
            found.append(teacher.predict_events(batch.waveforms, mask=batch.mask).log_probs.exp())
        numbers, probabilities = gather_by_event(events, found)
        targets[numbers] = torch.from_numpy(probabilities)
    return targets.to(device)


def soft_class_weights(counts: Tensor, learned: Tensor) -> Tensor:
    """Return the weight n / (K' n_c) of each class from soft counts (K,); see
    ``balanced_class_weights``.

    Classes that are not ``learned`` (K,) get weight 0.
    """
    counts = counts * learned
    total = counts.sum()
    weights = total / (learned.sum() * counts.clamp(min=LEAST_SHARE * total))
    return weights * learned


def load_teacher(path: str | Path, student: EventClassifier) -> EventClassifier:
    """Load the classifier that names events for ``student``.

    Raises ``CheckpointError`` if the file is no classifier of finetune.py, or if its classes or its
    images are not the student's.
    """
    key = f"exp_params.teacher_ckpt: {path}"
    content = load_plain(Path(path))
    try:
        teacher = EventClassifier(**content["hyper_parameters"])
        teacher.load_state_dict(content["state_dict"])
        teacher.on_load_checkpoint(content)
    except Exception as error:  # anything may be in the file
        raise CheckpointError(
            f"{key}: no classifier; give the checkpoints/last.ckpt of a run of finetune.py"
        ) from error
    if teacher.class_names != student.class_names:
        raise CheckpointError(
            f"{key}: knows the classes {', '.join(teacher.class_names)}; "
            f"the data has {', '.join(student.class_names)}"
        )
    for name in ("spectrogram", "n_samples"):
        found, needed = (_input(model)[name] for model in (teacher, student))
        if found != needed:
            raise CheckpointError(f"{key}: its {name} is {found}; here it is {needed}")
    return teacher.eval()


def _input(model: EventClassifier) -> dict:
    """Return what decides the images of a classifier; old checkpoints lack some arguments."""
    return {"spectrogram": model.spectrogram.settings, "n_samples": model.hparams["n_samples"]}
