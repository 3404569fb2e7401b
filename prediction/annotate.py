"""Class probabilities over time: the model looks at a window that slides over the recordings."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prediction.continuous.continuous_data import Source
from prediction.continuous.miniseed import NS
from prediction.predictor import Predictor
from preprocessing.channels import live_channels
from preprocessing.recordings import join_channels
from preprocessing.traces import RecordingError
from utils.errors import UserError
from utils.progress import progress_bar

WINDOWS_PER_BATCH = 8
MARGIN_S = 2.0  # is read before and after a block: resampling disturbs the ends
CODE_LETTERS = 3  # of a channel code in miniSEED


def annotate(data: Source, predictor: Predictor, stride_s: float) -> Any:
    """Return an ObsPy stream with one trace per class: the ensemble's probability over time.

    A window of the model's length moves by ``stride_s``. Its probabilities are written where its
    trigger would be, ``pre_trigger_s`` after its start. Where no channel covers a window, the
    traces are masked. Channel codes are three letters of the class names; ``stats.class_name`` is
    the whole name. Recordings shorter than a window give an empty stream.
    """
    from obspy import Stream, Trace, UTCDateTime

    if stride_s <= 0:
        raise UserError(f"annotate: found stride_s {stride_s:g}; should be above 0")
    if data.end_ns - data.start_ns + NS / predictor.rate_hz < predictor.duration_s * NS:
        return Stream()
    values = np.concatenate(list(_probabilities(data, predictor, stride_s)))
    places, codes = predictor.config.catalogue, channel_codes(predictor.class_names)
    header = {
        "sampling_rate": 1 / stride_s,
        "starttime": UTCDateTime(ns=data.start_ns) + predictor.pre_trigger_s,
        "network": places.network or "",
        "station": places.station,
    }
    traces = []
    for name, code, column in zip(predictor.class_names, codes, values.T):
        missing = np.isnan(column)
        samples = np.ma.masked_array(column, missing) if missing.any() else column.copy()
        traces.append(Trace(samples, header | {"channel": code, "class_name": name}))
    return Stream(traces)


def _probabilities(data: Source, predictor: Predictor, stride_s: float) -> Iterator[np.ndarray]:
    """Yield the probabilities (n, K) of windows in order, NaN where there is no channel."""
    rate_hz, n_samples = predictor.rate_hz, predictor.n_samples
    span_s = (data.end_ns - data.start_ns) / NS + 1 / rate_hz
    n_windows = int((span_s - predictor.duration_s) / stride_s + 1e-6) + 1
    firsts = np.round(np.arange(n_windows) * stride_s * rate_hz).astype(np.int64)
    for start in progress_bar(
        range(0, n_windows, WINDOWS_PER_BATCH), desc="Annotating", unit="batch", disable=None
    ):
        batch = firsts[start : start + WINDOWS_PER_BATCH]
        start_ns = data.start_ns + round(batch[0] / rate_hz * NS)
        block = _block(data, start_ns, int(batch[-1] - batch[0]) + n_samples, rate_hz)
        windows = [block[:, first : first + n_samples] for first in (batch - batch[0]).tolist()]
        yield _classify(windows, predictor)


def _classify(windows: Sequence[np.ndarray], predictor: Predictor) -> np.ndarray:
    """Return the probabilities (n, K) of windows (S, T); channels with NaN are left out."""
    found = np.full((len(windows), len(predictor.class_names)), np.nan, np.float32)
    masks = [live_channels(window) & ~np.isnan(window).any(axis=1) for window in windows]
    usable = [number for number, mask in enumerate(masks) if mask.any()]
    if usable:
        waveforms = np.nan_to_num(np.stack([windows[number] for number in usable]))
        mask = np.stack([masks[number] for number in usable])
        found[usable] = np.exp(predictor.predict(waveforms, mask).log_probs.cpu().numpy())
    return found


def _block(data: Source, start_ns: int, n_samples: int, rate_hz: float) -> np.ndarray:
    """Return the recordings from ``start_ns`` on as (S, n_samples), NaN where there are none."""
    margin_ns = int(MARGIN_S * NS)
    end_ns = start_ns + round(n_samples / rate_hz * NS)
    stream = data.read(start_ns - margin_ns, end_ns + margin_ns)
    names = sorted({trace.id for trace in stream})
    block = np.full((len(names), n_samples), np.nan, np.float32)
    for trace in stream:  # a segment without gaps
        try:
            recording = join_channels("", [trace], rate_hz, 0.0)
        except RecordingError:  # constant, too short, or of a rate that cannot be resampled
            continue
        offset = round((trace.stats.starttime.ns - start_ns) / NS * rate_hz)
        samples = recording.waveforms[0]
        first, last = max(0, offset), min(n_samples, offset + len(samples))
        if first < last:
            block[names.index(trace.id), first:last] = samples[first - offset : last - offset]
    return block


def channel_codes(class_names: Sequence[str]) -> list[str]:
    """Return a different code of three letters for each class: Rockfall ROC, Slope_HF SHF."""
    codes: list[str] = []
    for name in class_names:
        words = "".join(c if c.isalnum() and c.isascii() else " " for c in name).split()
        letters = words[0][: CODE_LETTERS - 2] + words[-1] if len(words) > 1 else "".join(words)
        code = (letters.upper() + "XXX")[:CODE_LETTERS]
        number = 1
        while code in codes:
            number += 1
            code = f"{code[: CODE_LETTERS - len(str(number))]}{number}"
        codes.append(code)
    return codes
