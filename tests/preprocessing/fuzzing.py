"""Read damaged recordings: ``python -m tests.preprocessing.fuzzing REPORT FIRST LAST``.

The reader has a memory limit and an alarm that ends the process, so that endless loops and crashes
in C are found; the last line of the report then names the case. Times are CPU times, so that they
do not depend on other processes.
"""

import gzip
import io
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obspy

from benchmarks import seg2
from preprocessing.recordings import read_recording
from preprocessing.traces import RecordingError
from tests.conftest import AKNES_EVENT, PNW, write_mseed

N_RANDOM = 700
MEMORY_BYTES, TIME_S = 2**30, 10
EXTREMES = (
    0,
    1,
    2,
    48,
    64,
    0x7F,
    0x80,
    0xFF,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
OBSPY_FILES = (
    "seg2/tests/data/20130107_103041000.CET.3c.cont.0.seg2.gz",
    "seg2/tests/data/20180307_031245000.0.seg2",
    "mseed/tests/data/two_channels.mseed",
    "mseed/tests/data/steim2.mseed",
    "mseed/tests/data/blockette320.mseed",
    "mseed/tests/data/gecko_non_ascii_header.ms",
    "mseed/tests/data/infinite-loop.mseed",
    "mseed/tests/data/various_noise_records.mseed",
    "mseed/tests/data/fullseed.mseed",
)
# (offset, size) of fields of a miniSEED record: sequence number, quality, start time, samples,
# rate, offsets, blockette 1000
MSEED_FIELDS = (
    (0, 4),
    (6, 1),
    (20, 2),
    (22, 2),
    (24, 1),
    (28, 2),
    (30, 2),
    (32, 2),
    (34, 2),
    (36, 1),
    (39, 1),
    (40, 4),
    (44, 2),
    (46, 2),
    (48, 2),
    (50, 2),
    (52, 1),
    (53, 1),
    (54, 1),
)
# (offset, size) of fields of a SEG-2 file: identifier, number of traces, terminators, pointers; and
# of its first trace: identifier, header length, data length, samples, format
SEG2_FIELDS = ((0, 2), (4, 2), (6, 2), (8, 1), (11, 1), (32, 4), (36, 4))
TRACE_FIELDS = ((0, 2), (2, 2), (4, 4), (8, 4), (12, 1), (32, 2))


def seg2_bytes(
    n_traces: int = 3, n_samples: int = 500, order: str = "<", interval: str = "0.01"
) -> bytes:
    """Write a SEG-2 file of noise."""
    samples = np.random.default_rng(0).normal(0, 100, (n_traces, n_samples))
    return seg2.seg2_bytes(samples, [f"SAMPLE_INTERVAL {interval}"], order=order)


def mseed_bytes(dtype: str = "i4") -> bytes:
    """Write miniSEED of two channels of noise, 4096 bytes per record."""
    with tempfile.TemporaryDirectory() as folder:
        samples = np.random.default_rng(0).normal(0, 1000, (2, 3000)).astype(dtype)
        return write_mseed(Path(folder) / "x.mseed", samples).read_bytes()


def seeds() -> dict[str, bytes]:
    """Return the available undamaged files: synthetic, from ObsPy, and recorded ones."""
    obspy_io = Path(obspy.__file__).parent / "io"
    files = [
        AKNES_EVENT,
        *(obspy_io / name for name in OBSPY_FILES),
        *sorted(PNW.glob("*/*.mseed"))[:4],
    ]
    found = {
        file.name: gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for file in files
        if file.is_file()
    }
    return found | {
        "seg2": seg2_bytes(),
        "seg2 big-endian": seg2_bytes(order=">"),
        "mseed": mseed_bytes(),
        "mseed floats": mseed_bytes("f4"),
    }


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one of many ways."""
    content, n = bytearray(content), len(content)
    start = rng.randrange(min(n, rng.choice((64, 512, 5000, n))))
    length = rng.choice((1, 4, 64, 512, 5000))
    kind = rng.choice(
        ("flip", "cut", "number", "zero", "ones", "noise", "insert", "repeat", "swap", "move")
    )
    if kind == "flip":
        for _ in range(rng.choice((1, 3, 30))):
            content[rng.randrange(start, min(n, start + 5000))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[start:]
    elif kind == "number":
        size = rng.choice((1, 2, 4))
        content[start : start + size] = field(rng.choice(EXTREMES), size, rng.choice("<>"))
    elif kind == "repeat":
        content[start:start] = content[start : start + length]
    elif kind == "swap":
        content[start : start + length] = content[start : start + length][::-1]
    elif kind == "move":
        other = rng.randrange(n)
        content[start : start + length] = content[other : other + length]
    else:
        new = {"zero": bytes(length), "ones": b"\xff" * length}.get(kind) or rng.randbytes(length)
        content[start : start if kind == "insert" else start + length] = new
    return bytes(content)


def field(value: int, size: int, order: str) -> bytes:
    """Write an unsigned number, truncated to its size."""
    return (value % 256**size).to_bytes(size, "little" if order == "<" else "big")


def with_fields(content: bytes, *fields: tuple[int, bytes]) -> bytes:
    """Overwrite bytes at the given offsets."""
    changed = bytearray(content)
    for place, new in fields:
        changed[place : place + len(new)] = new
    return bytes(changed)


def structured() -> Iterator[tuple[str, bytes]]:
    """Yield files with headers that would harm a reader without checks."""
    for order in "<>":
        whole, first = seg2_bytes(order=order), 32 + 12 + 2
        for place, size in (*SEG2_FIELDS, *((first + place, size) for place, size in TRACE_FIELDS)):
            for value in EXTREMES:
                yield (
                    f"SEG-2 {order} byte {place} = {value}",
                    with_fields(whole, (place, field(value, size, order))),
                )
    for interval in ("0", "-1", "nan", "inf", "1e-300", "1e300", "1", "x"):
        yield f"SEG-2 interval {interval}", seg2_bytes(n_samples=60_000, interval=interval)
    one = seg2_bytes(1, 16000)
    table = field(4 * 16000, 2, "<") + field(16000, 2, "<")
    yield (
        "SEG-2 16000 names for one trace",
        with_fields(one[:32], (4, table)) + field(64032, 4, "<") * 16000 + one[38:],
    )
    strings = b"\2\0" * 2**23
    yield (
        "SEG-2 text bomb",
        with_fields(one[:36], (32, field(36 + len(strings), 4, "<"))) + strings + one[38:],
    )
    yield from _structured_mseed()


def _structured_mseed() -> Iterator[tuple[str, bytes]]:
    whole = mseed_bytes()
    for place, size in MSEED_FIELDS:
        for value in EXTREMES:
            yield (
                f"miniSEED byte {place} = {value}",
                with_fields(whole, (place, field(value, size, ">"))),
            )
    for exponent in range(64):
        yield f"miniSEED record of 2^{exponent} bytes", with_fields(whole, (54, bytes([exponent])))
    for following in (40, 44, 47, 48, 49, 50, 4095, 65535):
        yield (
            f"miniSEED blockette 1000 followed by that at {following}",
            with_fields(whole, (50, field(following, 2, ">"))),
        )
    circle = struct.pack(">HHfBB2x", 100, 48, 100.0, 0, 0)
    yield (
        "miniSEED blockettes in a circle",
        with_fields(whole, (50, field(56, 2, ">")), (56, circle)),
    )
    yield (
        "miniSEED of year 2600",
        with_fields(
            whole, *((place, field(2600, 2, ">")) for place in range(20, len(whole), 4096))
        ),
    )
    yield (
        "miniSEED of 1e9 Hz",
        with_fields(
            whole, *((place, field(0x7FFF7FFF, 4, ">")) for place in range(32, len(whole), 4096))
        ),
    )
    record = mseed_record()
    yield (
        "miniSEED of 100 000 channels",
        b"".join(with_fields(record, (8, b"%05d" % i)) for i in range(100_000)),
    )
    starts = (bytes((i // 3600, i // 60 % 60, i % 60)) for i in range(20_000))
    yield (
        "miniSEED of 20 000 segments",
        b"".join(with_fields(record, (24, start)) for start in starts),
    )
    for filler in (b" ", b"\0", b"0", b"\xff"):
        yield f"nothing but {filler!r}", filler * 2**22
    yield "full SEED without data", b"000001V 010009502.1" + b"00" + b" " * 5000
    yield "larger than any event", bytes(2**25 + 1)


def mseed_record() -> bytes:
    """Return one miniSEED record of 256 bytes."""
    buffer = io.BytesIO()
    header = {
        "sampling_rate": 100.0,
        "station": "AAAAA",
        "channel": "HHZ",
        "starttime": obspy.UTCDateTime(2020, 1, 1),
    }
    obspy.Trace(np.arange(10, dtype=np.int32), header).write(
        buffer, format="MSEED", reclen=256, encoding="INT32"
    )
    return buffer.getvalue()


def cases() -> Iterator[tuple[str, bytes, float | None]]:
    """Yield name, content and wanted rate of all cases, the same in every process."""
    for name, content in structured():
        yield name, content, 1000.0
    sound = seeds()
    for number in range(N_RANDOM):
        rng = random.Random(number)
        name = rng.choice(sorted(sound))
        content = damaged(sound[name], rng)
        if content and rng.random() < 0.3:
            content = damaged(content, rng)
        yield f"{name}, damage {number}", content, (None, 1000.0)[number % 2]


def verdict(path: Path, rate_hz: float | None) -> tuple[str, str]:
    """Read a file: ("read" or "refused" or "wrong", details)."""
    try:
        recording = read_recording(path, rate_hz, max_gap_s=0.5)
    except RecordingError as error:
        return "refused", str(error)
    except Exception as error:
        return "wrong", repr(error)
    waveforms = recording.waveforms
    sound = (
        waveforms.dtype == np.float32
        and waveforms.ndim == 2
        and waveforms.size > 1
        and np.isfinite(waveforms).all()
        and np.isfinite(recording.sampling_rate_hz)
        and recording.sampling_rate_hz > 0
        and 1900 <= int(recording.start_time[:4]) < 2100
    )
    return (
        "read" if sound else "wrong"
    ), f"{waveforms.shape} {recording.sampling_rate_hz} {recording.start_time}"


def peak_memory_bytes() -> int:
    """Return the peak memory of this process since the last reset."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def main(report: Path, first: int, last: int, folder: Path) -> None:
    """Read the cases ``first`` to ``last``; write a line to the report before and after each."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    path = folder / "case.dat"
    path.write_bytes(seg2_bytes())
    read_recording(path)  # imports the readers: their memory is not counted
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + MEMORY_BYTES,) * 2)
    with open(report, "a", buffering=1) as lines:
        for number, (name, content, rate_hz) in enumerate(cases()):
            if not first <= number < last:
                continue
            path.write_bytes(content)
            lines.write(json.dumps({"case": number, "name": name, "end": "died"}) + "\n")
            Path("/proc/self/clear_refs").write_text("5")
            before, started = peak_memory_bytes(), time.process_time()
            signal.setitimer(signal.ITIMER_PROF, TIME_S)
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                end, details = verdict(path, rate_hz)
            signal.setitimer(signal.ITIMER_PROF, 0)
            lines.write(
                json.dumps(
                    {
                        "case": number,
                        "name": name,
                        "end": end,
                        "details": details,
                        "seconds": time.process_time() - started,
                        "bytes": peak_memory_bytes() - before,
                        "warnings": [str(w.message) for w in heard],
                    }
                )
                + "\n"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[1]).parent)
