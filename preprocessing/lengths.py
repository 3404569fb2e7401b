"""One length for events: how an archive and predict.py cut and pad them."""

import numpy as np

PADDING = "mean"  # what packing.json calls the rule; archives of before have none: they were padded with zeros


def fit_length(waveforms: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut an event (S, T) at its end, or pad each channel with its mean: (S, n_samples), float32.

    The mean, in float64, of the samples that are there adds no step at the end, whatever the offset of the recorder; a
    constant channel stays constant.
    """
    block = np.ascontiguousarray(waveforms[:, :n_samples], dtype=np.float32)
    n_missing = n_samples - block.shape[1]
    if not n_missing:
        return block
    means = block.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return np.concatenate([block, np.repeat(means, n_missing, axis=1)], axis=1)
