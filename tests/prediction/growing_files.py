"""An SDS archive that grows, as slarchive writes it: records appended to a file per day."""

import io
from pathlib import Path

import numpy as np
import obspy

RECORD_BYTES = 512


def records_of(stream: obspy.Stream) -> list[tuple[float, str, bytes]]:
    """Return the miniSEED records of a stream: end (s since 1970), name in an SDS, bytes."""
    records = []
    for trace in stream:
        content = io.BytesIO()
        trace.write(content, format="MSEED", reclen=RECORD_BYTES)
        raw = content.getvalue()
        for first in range(0, len(raw), RECORD_BYTES):
            one = raw[first : first + RECORD_BYTES]
            stats = obspy.read(io.BytesIO(one), headonly=True)[0].stats
            start, place = stats.starttime, f"{stats.station}/{stats.channel}.D"
            name = f"{trace.id}.D.{start.year}.{start.julday:03d}"
            path = f"{start.year}/{stats.network}/{place}/{name}"
            records.append((float(stats.endtime), path, one))
    return sorted(records)


def append(root: Path, records: list[tuple[float, str, bytes]]) -> None:
    """Append records to their files."""
    contents: dict[str, list[bytes]] = {}
    for _, path, record in records:
        contents.setdefault(path, []).append(record)
    for path, parts in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with open(root / path, "ab") as file:
            file.write(b"".join(parts))


def bursts(start: obspy.UTCDateTime, seconds: float, onsets_s, rate_hz=100.0, n=3, seed=0):
    """Return noise on ``n`` channels with bursts of 30 Hz, as counts."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 30, (n, int(seconds * rate_hz)))
    time_s = np.arange(samples.shape[1]) / rate_hz
    for onset_s in onsets_s:
        near = slice(int((onset_s - 4) * rate_hz), int((onset_s + 4) * rate_hz))
        t = time_s[near] - onset_s
        samples[:, near] += 500 * np.exp(-((t / 0.8) ** 2)) * np.sin(2 * np.pi * 30 * t)
    header = {"network": "XX", "channel": "HHZ", "sampling_rate": rate_hz, "starttime": start}
    return obspy.Stream(
        [
            obspy.Trace(row.astype(np.int32), header | {"station": f"S{number:02d}"})
            for number, row in enumerate(samples)
        ]
    )
