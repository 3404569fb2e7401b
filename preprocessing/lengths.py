"""Cut or pad events to one length; the archive and predict.py use the same rule."""

import numpy as np

# The padding rule, as stored in packing.json. Archives of earlier versions have no such entry:
# their events were padded with zeros.
PADDING = "mean"


def fit_length(waveforms: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut an event (S, T) at its end, or pad each channel with its mean; returns (S, n_samples).

    The result is float32. Padding with the mean (computed in float64) avoids a step when the
    recorder has an offset. A constant channel stays constant.
    """
    block = np.ascontiguousarray(waveforms[:, :n_samples], dtype=np.float32)
    n_missing = n_samples - block.shape[1]
    if not n_missing:
        return block
    means = block.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return np.concatenate([block, np.repeat(means, n_missing, axis=1)], axis=1)
