"""Temperature scaling, reliability diagram, review threshold. [G17, G17b, A22]

[G17] Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, arXiv 1706.04599.
[G17b] Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, arXiv 1705.08500.
[A22] Angelopoulos, Bates, Fisch, Lei, Schuster, Conformal Risk Control, arXiv 2208.02814.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURES = (0.05, 20.0)  # least and largest allowed
FEW_EVENTS = 30  # with fewer calibration events, a report warns


@dataclass(frozen=True)
class Calibration:
    """Temperature of a classifier, and its confidence on the N calibration events.

    Calibration events are held out of training. ``temperature`` divides the ensemble's
    log-probabilities; ``confidence`` (N,) and ``correct`` (N,) bool are taken at that temperature.
    """

    temperature: float
    confidence: Tensor
    correct: Tensor

    def threshold(self, error_rate: float) -> float:
        """Return the confidence below which a person should review an event.

        Above it, the share of errors is expected to stay within ``error_rate``; see
        ``confidence_threshold``.
        """
        return confidence_threshold(self.confidence, self.correct, error_rate)

    def state(self) -> dict[str, Any]:
        """Return the fields as plain numbers and tensors, for a checkpoint."""
        return asdict(self)


def calibrate(log_probs: Tensor, labels: Tensor, learned: Tensor) -> Calibration:
    """Calibrate on the log-probabilities (N, K) of held-out events with ``labels`` (N,). [G17]

    ``learned`` (K,) bool says which classes the classifier has learned. Events of the others are
    errors at any temperature, and count as such for the review threshold. The temperature is fitted
    without them: their probability is near 0, and one of them would outweigh a hundred others.
    """
    fitted = learned[labels]
    temperature = fit_temperature(log_probs[fitted], labels[fitted])
    confidence, predicted = temper(log_probs, temperature).exp().max(-1)
    return Calibration(temperature, confidence, predicted == labels)


def temper(log_probs: Tensor, temperature: float) -> Tensor:
    """Divide log-probabilities (…, K) by the temperature and renormalise, float32. [G17, eq. 9]

    Temperatures above 1 lower the confidence, temperatures below 1 raise it.
    """
    return F.log_softmax(log_probs.float() / temperature, dim=-1)


def fit_temperature(log_probs: Tensor, labels: Tensor) -> float:
    """Return the temperature T that calibrates log-probabilities. [G17]

    ``log_probs`` (N, K) and ``labels`` (N,) are those of held-out events. T minimises the NLL,
    summed over the events, plus ½ (log₂ T)², within 0.05 to 20. The second term is a prior: log₂ T
    is normal with mean 0 and standard deviation 1, so T is between ½ and 2 with probability 0.68.
    It has the weight of a few events. It keeps T away from the limits if there are few events and
    all are classified correctly; with many events T is the maximum-likelihood value. Without events
    T is 1.
    """
    from scipy.optimize import minimize_scalar

    log_probs = log_probs.double()

    def penalised_nll(log_temperature: float) -> float:
        tempered = F.log_softmax(log_probs / math.exp(log_temperature), dim=-1)
        nll = float(F.nll_loss(tempered, labels, reduction="sum"))
        return nll + (log_temperature / math.log(2)) ** 2 / 2

    bounds = [math.log(value) for value in TEMPERATURES]
    found = minimize_scalar(penalised_nll, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)


def confidence_threshold(confidence: Tensor, correct: Tensor, error_rate: float) -> float:
    """Return the lowest confidence at which events may be accepted without review, after [A22].

    It is the lowest c for which the held-out events with a confidence of at least c have
    (errors + 1) / (events + 1) <= ``error_rate``; infinity if there is none. The 1 counts the next,
    unseen event as an error. ``confidence`` (N,) and ``correct`` (N,) bool belong to held-out
    events.
    """
    order = confidence.argsort(descending=True)
    errors = (~correct[order]).cumsum(0)
    events = torch.arange(1, len(order) + 1, device=errors.device)
    ranked = confidence[order]
    # events of equal confidence are accepted together
    last_of_equals = F.pad(ranked[1:] < ranked[:-1], (0, 1), value=True)
    within = ((errors + 1) / (events + 1) <= error_rate) & last_of_equals
    return float(ranked[within.nonzero().max()]) if within.any() else math.inf


def risk_coverage(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Return coverage and error rate, (N,) each. [G17b, section 2]

    Element n - 1 is for the n most confident of the N events: n / N and the share of errors among
    them. ``confidence`` is (N,), ``correct`` (N,) bool.
    """
    order = confidence.argsort(descending=True, stable=True)
    n = torch.arange(1, len(order) + 1)
    return n / len(order), (~correct[order]).cumsum(0) / n


def reliability(confidence: Tensor, correct: Tensor, n_bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the points of a reliability diagram: mean confidence, accuracy, events. [G17, eq. 1–2]

    ``confidence`` (N,) is sorted into ``n_bins`` equal bins from 0 to 1; each of the three tensors
    has one value per bin that is not empty.
    """
    bins = _bins(confidence, n_bins)
    count = torch.bincount(bins, minlength=n_bins)
    kept = count > 0
    sums = [
        torch.bincount(bins, values.double(), minlength=n_bins)[kept]
        for values in (confidence, correct)
    ]
    return sums[0] / count[kept], sums[1] / count[kept], count[kept]


def expected_calibration_error(
    confidence: Tensor, correct: Tensor, n_bins: int, weights: Tensor | None = None
) -> float:
    """Return the mean distance of a reliability diagram from its diagonal. [G17, eq. 3]

    ``confidence`` (N,) and ``correct`` (N,) bool are sorted into the bins of ``reliability``; each
    bin counts by its number of rows, or by the sum of their ``weights`` (N,).
    """
    weights = torch.ones(len(confidence)) if weights is None else weights
    gap = (correct.double() - confidence) * weights
    sums = torch.bincount(_bins(confidence, n_bins), gap, minlength=n_bins)
    return float(sums.abs().sum() / weights.sum())


def _bins(confidence: Tensor, n_bins: int) -> Tensor:
    """Return the number of the bin of each confidence; 1.0 belongs to the last one."""
    return (confidence * n_bins).long().clamp(max=n_bins - 1)
