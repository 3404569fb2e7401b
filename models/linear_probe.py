"""Classifier whose linear layer is fitted by logistic regression instead of gradient steps."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.class_weights import weighted_cross_entropy
from models.event_classifier import EventClassifier, draws_of_traces
from models.event_ensemble import images_per_chunk
from models.linear_head import fit_linear_head
from preprocessing.data_module import data_module_of
from preprocessing.dataset import EventBatch
from preprocessing.views import augment
from utils.distributed import gather_by_event

N_CHANGED = 2  # copies of each channel that the head learns from, if there are augmentations


class LinearProbe(EventClassifier):
    """``EventClassifier`` with a frozen encoder and a linear layer fitted by logistic regression.

    It is trained in one epoch: every batch collects the representations of all living channels,
    and of ``N_CHANGED`` augmented copies of each if there are augmentations; after the last batch
    the linear layer is fitted (see ``fit_linear_head``). Its checkpoints are those of an
    ``EventClassifier``. Needs ``freeze_encoder``.
    """

    automatic_optimization = False  # no gradient steps

    def on_train_epoch_start(self) -> None:
        """Forget the representations of an epoch that was interrupted."""
        self._collected: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor:
        """Collect representations; fit the linear layer after the last batch.

        Returns the class-weighted cross-entropy of all training channels then, 0 before.
        """
        features, mask = self._representations(batch)
        missing = data_module_of(self.trainer).n_sensors - mask.shape[1]
        features, mask = F.pad(features, (0, 0, 0, 0, 0, missing)), F.pad(mask, (0, missing))
        self._collected.append((batch.events, batch.labels, features, mask))
        if self.trainer.is_last_batch:
            return self._fit()
        return torch.zeros((), device=self.device)

    def _representations(self, batch: EventBatch) -> tuple[Tensor, Tensor]:
        """Return representations (B, S, V, D) of V copies of each channel, and the mask (B, S).

        The first copy is unchanged, the others are augmented.
        """
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        n_changed = N_CHANGED if self.changes else 0
        chunks = []
        for rows in mask.nonzero().split(images_per_chunk(self.device)):
            event, trace = rows.unbind(1)
            images = self.to_images(waveforms[event, trace])
            copies = [images]
            for number in range(n_changed):
                draws = draws_of_traces(batch, event, trace + number * mask.shape[1])
                copies.append(augment(images, self.changes, draws))
            chunks.append(torch.stack([self.encoder(copy) for copy in copies], 1))
        values = torch.cat(chunks).float()
        features = torch.zeros(*mask.shape, *values.shape[1:], device=self.device)
        features[mask] = values
        return features, mask

    def _fit(self) -> Tensor:
        """Fit the linear layer to the channels of all processes; return the loss on them."""
        events, labels, features, mask = gather_by_event(
            *(list(column) for column in zip(*self._collected))
        )
        self._collected.clear()
        event, sensor = np.nonzero(mask)
        features, labels = features[event, sensor], labels[event]
        changed, features = features[:, 1:], features[:, 0]
        weights = self.class_weights.cpu().numpy()
        head = fit_linear_head(features, labels, events[event], weights, changed)
        for parameter, values in zip(self.classifier.parameters(), (head.weight, head.bias)):
            parameter.copy_(torch.from_numpy(values))
        channels = torch.from_numpy(features).to(self.device)
        known = torch.from_numpy(labels).to(self.device)
        logits = self.classifier(channels)
        loss = weighted_cross_entropy(logits, known, self.class_weights)
        self._log("train", loss, logits, known)
        return loss
