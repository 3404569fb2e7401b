"""A converged linear classifier on the representations of single channels: logistic regression.

The paper's linear evaluation trains the same layer by Adam, on one channel per event and epoch
[L22]. This one uses all living channels, standardised, and converges in seconds.
"""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from models.class_weights import weighted_cross_entropy
from models.event_classifier import EventClassifier, draws_of_traces
from models.event_network import images_per_chunk
from preprocessing.data_module import data_module_of
from preprocessing.dataset import EventBatch
from preprocessing.views import augment
from utils.distributed import gather_by_event

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # scikit-learn's C; smaller is more regularised
USUAL_STRENGTH = 1e-2  # if fewer than two classes have two events, so that nothing can be compared
N_FOLDS = 4
MAX_CHANNELS_TO_COMPARE = 10_000  # more do not change the choice, and take long
UNLEARNED_LOGIT = -30.0  # of classes without weight or without training events
N_CHANGED = 2  # copies of each channel that the head learns from, if there are augmentations


class LinearHead(NamedTuple):
    """Weights of a linear layer for representations that are not standardised."""

    weight: np.ndarray  # (K, D)
    bias: np.ndarray  # (K,)
    strength: float  # scikit-learn's C


def fit_linear_head(
    features: np.ndarray,
    labels: np.ndarray,
    events: np.ndarray,
    class_weights: np.ndarray,
    changed: np.ndarray | None = None,
) -> LinearHead:
    """Fit a multinomial logistic regression with an L2 penalty to N channels.

    ``features`` is (N, D); ``labels`` and ``events`` (N,) are the class and the event of each
    channel. ``class_weights`` (K,) weights the classes; a class with weight 0 is left out. All
    events of a class have the same weight, whatever their number of channels. The strength of the
    penalty is the one of ``STRENGTHS`` with the least negative log-likelihood of the ensemble, in a
    cross-validation that keeps the channels of an event together, among classes with two or more
    events.

    ``changed`` (N, V, D) are the representations of V changed copies of each channel. The head is
    fitted to them too, and a channel with its copies counts like a channel without; the strength
    is chosen on ``features``.
    """
    learned = class_weights[labels] > 0
    copies = features[:, None] if changed is None else np.append(features[:, None], changed, 1)
    copies, labels, events = copies[learned], labels[learned], events[learned]
    mean, scale = copies.mean((0, 1)), copies.std((0, 1))
    scale[scale < 1e-6] = 1.0  # a feature that is constant
    copies = (copies - mean) / scale
    n_copies = copies.shape[1]
    _, event_ids, n_channels = np.unique(events, return_inverse=True, return_counts=True)
    weights = class_weights[labels] / n_channels[event_ids]
    weights /= weights.mean()
    with threadpool_limits(1):  # with several threads, small matrices wait more than they compute
        strength = _choose_strength(copies[:, 0], labels, event_ids, weights)
        model = _fit(
            copies.reshape(-1, len(mean)),
            labels.repeat(n_copies),
            weights.repeat(n_copies) / n_copies,
            strength,
        )
    return _for_raw_features(model, mean, scale, len(class_weights))


def _for_raw_features(
    model: LogisticRegression, mean: np.ndarray, scale: np.ndarray, n_classes: int
) -> LinearHead:
    """Return the head for features that are not standardised, with a row for each class."""
    coefficients, intercepts = _coefficients(model)
    weight = np.zeros((n_classes, len(mean)))
    bias = np.full(n_classes, UNLEARNED_LOGIT)
    weight[model.classes_] = coefficients / scale
    bias[model.classes_] = intercepts - weight[model.classes_] @ mean
    return LinearHead(weight, bias, model.C)


def _coefficients(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (K', D) and intercepts (K',) of the classes ``model.classes_``."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    # scikit-learn has one logit then, that of the second class
    sides = np.array([-0.5, 0.5])
    return sides[:, None] * model.coef_, sides * model.intercept_


def _fit(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, strength: float
) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1000).fit(features, labels, weights)


def _choose_strength(
    features: np.ndarray, labels: np.ndarray, events: np.ndarray, weights: np.ndarray
) -> float:
    """Return the best of ``STRENGTHS``; ``events`` (N,) are numbers from 0 on."""
    if len(events) > MAX_CHANNELS_TO_COMPARE:
        order = np.random.default_rng(0).permutation(events.max() + 1)
        n_kept = max(1, len(order) * MAX_CHANNELS_TO_COMPARE // len(events))
        kept = np.isin(events, order[:n_kept])
        features, labels, weights = features[kept], labels[kept], weights[kept]
        _, events = np.unique(events[kept], return_inverse=True)
    _, first = np.unique(events, return_index=True)
    n_events = np.bincount(labels[first])
    if (n_events > 1).sum() < 2:
        return USUAL_STRENGTH
    compared = n_events[labels] > 1
    features, labels, events, weights = (
        column[compared] for column in (features, labels, events, weights)
    )
    n_folds = min(N_FOLDS, int(n_events[n_events > 1].min()))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    losses = np.zeros(len(STRENGTHS))
    for train, test in folds.split(features, labels, events):
        for number, strength in enumerate(STRENGTHS):
            model = _fit(features[train], labels[train], weights[train], strength)
            losses[number] += _ensemble_loss(
                model, features[test], labels[test], events[test], weights[test]
            )
    return STRENGTHS[int(losses.argmin())]


def _ensemble_loss(
    model: LogisticRegression,
    features: np.ndarray,
    labels: np.ndarray,
    events: np.ndarray,
    weights: np.ndarray,
) -> float:
    """Return the weighted sum of -log p(label) over events, p being that of the ensemble."""
    numbers, first, ids = np.unique(events, return_index=True, return_inverse=True)
    n_classes = max(labels.max(), model.classes_.max()) + 1
    log_probs = np.full((len(features), n_classes), UNLEARNED_LOGIT)
    coefficients, intercepts = _coefficients(model)
    # not predict_log_proba, which has the logarithm of zero where a channel is far from the others
    logits = features @ coefficients.T + intercepts
    log_probs[:, model.classes_] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    mean = np.zeros((len(numbers), log_probs.shape[1]))
    np.add.at(mean, ids, log_probs / np.bincount(ids)[ids][:, None])
    own = mean[np.arange(len(numbers)), labels[first]] - np.logaddexp.reduce(mean, axis=1)
    return float(-(own * weights[first] * np.bincount(ids)).sum())


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
