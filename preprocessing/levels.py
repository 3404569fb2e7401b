"""Where an event begins, where it is quiet, and how large its noise and signal are.

All of it is found in the waveforms: recordings of other networks say nothing about a trigger.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preprocessing.event_archive import ArchiveError

if TYPE_CHECKING:  # the archive's writer imports this file
    from preprocessing.event_archive import EventArchive

FRAME_S = 0.5  # length of a frame, whose rms is a level
LEAST_FRAME_SAMPLES = 50  # the rms of fewer samples varies too much
LEAST_FRAMES = 16  # in an event: short events have shorter frames
LEAST_SAMPLES = 2 * LEAST_FRAMES
QUIET_SHARE, LEAST_QUIET_FRAMES = 0.1, 4  # length of the quiet part
LEAST_RECORDED_FRAMES = LEAST_QUIET_FRAMES + 1  # of a channel: its quiet part and a signal
LEAST_RISE = np.log(1.5)  # above the quiet part, where the event begins


class Levels(NamedTuple):
    """What the waveforms of one event show; all NaN if every channel is constant or too short.

    ``onset_s`` (the beginning of the event), ``quiet_start_s`` and ``quiet_end_s`` are in s after
    the first sample. ``noise`` is the median rms of the frames of the quiet part, ``signal`` the
    largest rms of a frame, in recorder units; both are medians over the living channels.
    """

    onset_s: float
    quiet_start_s: float
    quiet_end_s: float
    noise: float
    signal: float


NOTHING = Levels(np.nan, np.nan, np.nan, np.nan, np.nan)
COLUMNS = tuple(f"event_{name}" for name in Levels._fields)  # of metadata.csv


def level_cells(levels: Levels) -> dict[str, str]:
    """Return the cells of the metadata; they are empty for NaN."""
    texts = ("" if np.isnan(value) else f"{value:.6g}" for value in levels)
    return dict(zip(COLUMNS, texts))


def levels_of(archive: "EventArchive", events: np.ndarray) -> np.ndarray:
    """Return the ``Levels`` of some events of an archive as rows of an array (N, 5).

    They are in the metadata; for archives of earlier versions they are measured. Raises
    ``ArchiveError`` for cells that are no numbers.
    """
    if not all(name in archive.metadata for name in COLUMNS):
        measured = [
            measure(archive.waveforms(event), archive.sampling_rate_hz) for event in events.tolist()
        ]
        return np.array(measured, dtype=float).reshape(-1, len(COLUMNS))
    columns = [archive.metadata[name][events].tolist() for name in COLUMNS]
    try:
        values = [[float(cell or "nan") for cell in column] for column in columns]
    except ValueError as error:
        raise ArchiveError(
            f"{archive.archive_dir}: metadata.csv, columns {', '.join(COLUMNS)}: {error}"
        ) from None
    return np.array(values, dtype=float).T


def about_onsets(archive: "EventArchive") -> str:
    """Say when the events of an archive begin."""
    onsets = levels_of(archive, np.arange(len(archive)))[:, 0]
    if not np.isfinite(onsets).any():
        return ""
    early, median, late = np.nanquantile(onsets, [0.1, 0.5, 0.9])
    return (
        f"Events begin {median:.3g} s after the start of their windows (median; {early:.3g} to "
        f"{late:.3g} s for 80 % of them), as the source says or as found in the waveforms"
    )


def frame_length(n_samples: int, sampling_rate_hz: float) -> int:
    """Return the number of samples of a frame."""
    wanted = max(round(FRAME_S * sampling_rate_hz), LEAST_FRAME_SAMPLES)
    return max(2, min(wanted, n_samples // LEAST_FRAMES))


def least_measurable(n_samples: int, sampling_rate_hz: float) -> int:
    """Return how many of an event's ``n_samples`` must be recorded to measure noise and signal."""
    return LEAST_RECORDED_FRAMES * frame_length(n_samples, sampling_rate_hz)


def measure(
    waveforms: np.ndarray, sampling_rate_hz: float, recorded: np.ndarray | None = None
) -> Levels:
    """Measure one event (S, T).

    The level of a frame is the rms about its own mean, so offsets and drift do not matter. Levels
    are divided by their median over time, and their median over the channels is one curve for the
    event. Its lowest stretch is the quiet part. The event begins where the curve last rises above
    the noise, by a factor of 1.5 at least, before its maximum. Frames without a signal (padding,
    dead parts) are left out; ``recorded`` (S, T) are the waveforms before a filter, whose ringing
    makes them look like very low noise. ``NOTHING`` for fewer than ``LEAST_SAMPLES`` samples, and
    for events without a signal.
    """
    if waveforms.shape[-1] < LEAST_SAMPLES:
        return NOTHING
    rms = _frame_levels(waveforms, sampling_rate_hz)
    if recorded is not None:
        rms[~_has_signal(_frames(recorded, sampling_rate_hz))] = np.nan
    rms = rms[np.isfinite(rms).sum(1) >= LEAST_RECORDED_FRAMES]
    if not len(rms):
        return NOTHING
    log_levels = np.log(rms)
    log_levels -= np.nanmedian(log_levels, axis=1, keepdims=True)
    present = np.isfinite(log_levels).mean(0) >= 0.5  # of the channels
    curve = np.full(rms.shape[1], np.nan)
    curve[present] = np.nanmedian(log_levels[:, present], axis=0)
    first, last = _quiet_part(curve)
    if last <= first:
        return NOTHING
    seconds = frame_length(waveforms.shape[-1], sampling_rate_hz) / sampling_rate_hz
    quiet = rms[:, first:last]
    quiet = quiet[np.isfinite(quiet).any(1)]
    return Levels(
        onset_s=_onset(curve, curve[first:last]) * seconds,
        quiet_start_s=first * seconds,
        quiet_end_s=last * seconds,
        noise=float(np.median(np.nanmedian(quiet, axis=1))),
        signal=float(np.median(np.nanmax(rms, axis=1))),
    )


def _frame_levels(waveforms: np.ndarray, sampling_rate_hz: float) -> np.ndarray:
    """Return the rms of each frame about its mean, (S, F); NaN for frames without a signal."""
    frames = _frames(waveforms, sampling_rate_hz)
    # float32 loses digits on a large offset: take it off first
    centred = frames - frames[..., :1]
    rms = centred.std(axis=-1, dtype=np.float64)
    return np.where(_has_signal(frames), rms, np.nan)


def _frames(waveforms: np.ndarray, sampling_rate_hz: float) -> np.ndarray:
    """Cut waveforms (S, T) into frames (S, F, samples of a frame)."""
    frame = frame_length(waveforms.shape[-1], sampling_rate_hz)
    n_frames = waveforms.shape[-1] // frame
    return waveforms[:, : n_frames * frame].reshape(len(waveforms), n_frames, frame)


def _has_signal(frames: np.ndarray) -> np.ndarray:
    return np.ptp(frames, axis=-1) > 0


def _quiet_part(curve: np.ndarray) -> tuple[int, int]:
    """Return the first frame and the end of the lowest stretch of the curve; (0, 0) without one."""
    wanted = max(LEAST_QUIET_FRAMES, round(QUIET_SHARE * len(curve)))
    for length in (wanted, LEAST_QUIET_FRAMES, 1):  # shorter, where parts are dead
        means = np.convolve(curve, np.ones(length) / length, mode="valid")
        if np.isfinite(means).any():
            first = int(np.nanargmin(means))
            return first, first + length
    return 0, 0


def _onset(curve: np.ndarray, quiet: np.ndarray) -> int:
    """Return the frame in which the event begins."""
    noise = np.nanmedian(quiet)
    spread = 1.4826 * np.nanmedian(np.abs(quiet - noise))  # a standard deviation
    loudest = int(np.nanargmax(curve))
    below = np.flatnonzero(curve[:loudest] <= noise + max(LEAST_RISE, 4 * spread))
    return int(below[-1]) + 1 if below.size else 0
