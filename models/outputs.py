"""What a classifier returns: for held-out events of a training, and for new events."""

from typing import NamedTuple

from torch import Tensor

from models.ensemble import Ensemble, ensemble_log_probs, sensor_weights


class Evaluation(NamedTuple):
    """Model outputs for held-out events."""

    events: Tensor  # (N,) indices into the archive
    labels: Tensor  # (N,)
    logits: Tensor  # (N, S, K)
    mask: Tensor  # (N, S) True for live sensors
    ratio: Tensor  # (N, S) signal-to-noise ratio

    def log_probs(self, ensemble: Ensemble = "all") -> Tensor:
        """Return the ensemble's log-probabilities (N, K)."""
        return ensemble_log_probs(self.logits, sensor_weights(self.ratio, self.mask, ensemble))


class Prediction(NamedTuple):
    """Model outputs for B events: of the ensemble and of each of the S traces.

    Traces are the sensors; for a stacked-trace classifier, S is 1.
    """

    log_probs: Tensor  # (B, K) of the ensemble, at the calibrated temperature
    sensor_log_probs: Tensor  # (B, S, K)
    weights: Tensor  # (B, S), 0 for sensors left out of the ensemble
    ratio: Tensor  # (B, S') signal-to-noise ratio of all S' sensors
