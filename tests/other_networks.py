"""Two small simulated networks unlike the one at Åknes: icequakes and landslides."""

from pathlib import Path

import numpy as np
import obspy

ICEQUAKE_RATE_HZ, ICEQUAKE_S, ICEQUAKE_CHANNELS = 200.0, 4.0, 21
LANDSLIDE_RATES_HZ, LANDSLIDE_S = (20.0, 50.0, 50.0, 100.0, 200.0), 180.0
LANDSLIDE_CHANNELS = (3, 1, 5, 2, 90, 4, 3, 6)  # of the events of a class, in turn


def write_icequakes(root: Path, n_per_class: int = 10) -> Path:
    """Write icequakes and noise of seven stations with three components: 4 s at 200 Hz."""
    rng = np.random.default_rng(11)
    time_s = np.arange(round(ICEQUAKE_S * ICEQUAKE_RATE_HZ)) / ICEQUAKE_RATE_HZ
    for number in range(2 * n_per_class):
        label = ("icequake", "noise")[number % 2]
        traces = []
        for channel in range(ICEQUAKE_CHANNELS):
            samples = rng.normal(0, 20, time_s.size)
            if label == "icequake":
                since_s = (time_s - 1.5 - 0.02 * (channel // 3)).clip(0)
                decay = (since_s > 0) * np.exp(-since_s / 0.15)
                samples += 400 * decay * np.sin(2 * np.pi * rng.uniform(15, 40) * since_s)
            station, component = f"IC{channel // 3:02d}", "ZNE"[channel % 3]
            name = f"{station}..GH{component}"
            traces.append(_trace(samples, ICEQUAKE_RATE_HZ, name, number))
        _write(root / label / f"i{number:03d}.mseed", traces)
    return root


def write_landslides(root: Path, n_per_class: int = 8) -> Path:
    """Write landslides and earthquakes of 1 to 90 channels: 3 minutes, 20 to 200 Hz, mixed."""
    rng = np.random.default_rng(12)
    for number in range(2 * n_per_class):
        label = ("landslide", "earthquake")[number % 2]
        traces = []
        for channel in range(LANDSLIDE_CHANNELS[number // 2 % len(LANDSLIDE_CHANNELS)]):
            rate_hz = LANDSLIDE_RATES_HZ[(channel + number) % len(LANDSLIDE_RATES_HZ)]
            rate_hz = min(rate_hz, 50.0) if channel > 8 else rate_hz  # a large array of slow ones
            time_s = np.arange(round(LANDSLIDE_S * rate_hz)) / rate_hz
            microseism = 300 * np.sin(2 * np.pi * 0.2 * time_s + channel)
            samples = rng.normal(0, 30, time_s.size) + microseism
            onset_s = 70 + 0.1 * (channel % 30)
            if label == "landslide":  # emergent, a minute long
                envelope = np.exp(-(((time_s - onset_s - 30) / 15) ** 2))
            else:
                envelope = (time_s > onset_s) * np.exp(-(time_s - onset_s).clip(0) / 5)
            samples += 500 * envelope * rng.normal(size=time_s.size)
            traces.append(_trace(samples, rate_hz, f"L{channel:02d}..HHZ", number))
        _write(root / label / f"l{number:03d}.mseed", traces)
    return root


def _trace(samples: np.ndarray, rate_hz: float, name: str, number: int) -> obspy.Trace:
    station, location, channel = name.split(".")
    header = {
        "network": "XX",
        "station": station,
        "location": location,
        "channel": channel,
        "sampling_rate": rate_hz,
        # two of each class on a day
        "starttime": obspy.UTCDateTime("2021-06-01")
        + 86_400 * (number // 4)
        + 3_600 * (number % 4),
    }
    return obspy.Trace(samples.round().astype(np.int32), header)


def _write(path: Path, traces: list[obspy.Trace]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    obspy.Stream(traces).write(str(path), format="MSEED")
