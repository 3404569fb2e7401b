"""How far a classifier's confidence can be trusted: temperature, reliability, and when to ask a person. [G17, G17b]

[G17] Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, arXiv 1706.04599. [G17b] Geifman & El-Yaniv,
Selective Classification for Deep Neural Networks, arXiv 1705.08500. [A22] Angelopoulos, Bates, Fisch, Lei, Schuster, Conformal
Risk Control, arXiv 2208.02814.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURES = (0.05, 20.0)
FEW_EVENTS = 30  # to calibrate on


@dataclass(frozen=True)
class Calibration:
    """Keep what was learned of a classifier's confidence on events that it was not trained on.

    ``temperature`` divides the ensemble's log-probabilities; ``confidence`` (N,) and ``correct`` (N,) are those of the N
    calibration events at that temperature.
    """

    temperature: float
    confidence: Tensor
    correct: Tensor

    def threshold(self, error_rate: float) -> float:
        """Return the confidence below which a person should decide, for a wanted ``error_rate`` above it."""
        return confidence_threshold(self.confidence, self.correct, error_rate)

    def state(self) -> dict:
        """Return plain numbers and tensors, which a checkpoint can hold."""
        return asdict(self)


def calibrate(log_probs: Tensor, labels: Tensor) -> Calibration:
    """Fit the temperature on the log-probabilities (N, K) of held-out events with ``labels`` (N,). [G17]"""
    temperature = fit_temperature(log_probs, labels)
    confidence, predicted = temper(log_probs, temperature).exp().max(-1)
    return Calibration(temperature, confidence, predicted == labels)


def temper(log_probs: Tensor, temperature: float) -> Tensor:
    """Soften (above 1) or sharpen log-probabilities (…, K), float32. [G17, eq. 9]"""
    return F.log_softmax(log_probs.float() / temperature, dim=-1)


def fit_temperature(log_probs: Tensor, labels: Tensor) -> float:
    """Return the temperature T for log-probabilities (N, K) of held-out events with labels (N,). [G17]

    T, from 0.05 to 20, has the least NLL, summed over the events, plus ½ (log₂ T)². The second term
    is the prior that log₂ T is normal with mean 0 and standard deviation 1: without events T is 1,
    and two of three networks need one from ½ to 2. It counts as much as a few events, so that a
    handful of them, all correct, does not end at a bound; with many T is the maximum likelihood's.
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
    """Return the least confidence from which on (errors + 1) / (events + 1) stays within ``error_rate``, or infinity, after [A22].

    ``confidence`` (N,) and ``correct`` (N,) are those of held-out events; the 1 is for the event to come.
    """
    order = confidence.argsort(descending=True)
    errors = (~correct[order]).cumsum(0)
    events = torch.arange(1, len(order) + 1, device=errors.device)
    ranked = confidence[order]
    # events of equal confidence are accepted together
    last_of_equals = torch.cat(
        [ranked[1:] < ranked[:-1], torch.ones(1, dtype=torch.bool, device=ranked.device)]
    )
    within = ((errors + 1) / (events + 1) <= error_rate) & last_of_equals
    return float(ranked[within.nonzero().max()]) if within.any() else math.inf


def risk_coverage(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Return (coverage, error rate) (N,) each, of deciding only the 1, 2, … N most confident events. [G17b, section 2]"""
    order = confidence.argsort(descending=True, stable=True)
    n = torch.arange(1, len(order) + 1)
    return n / len(order), (~correct[order]).cumsum(0) / n


def reliability(confidence: Tensor, correct: Tensor, n_bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean confidence, accuracy and number of events of the bins of confidence that are not empty. [G17, eq. 1–2]"""
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)
    count = torch.bincount(bins, minlength=n_bins)
    kept = count > 0
    sums = [
        torch.bincount(bins, values.double(), minlength=n_bins)[kept]
        for values in (confidence, correct)
    ]
    return sums[0] / count[kept], sums[1] / count[kept], count[kept]
