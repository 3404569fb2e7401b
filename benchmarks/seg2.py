"""Writer of SEG-2 files for benchmarks and tests (ObsPy only reads them).

[SEG-2] Pullan, Recommended standard for seismic (/radar) data files in the personal computer
environment, Geophysics 55, 1990.
"""

import struct
from collections.abc import Sequence

import numpy as np

FIXED_BYTES = 32  # of every descriptor block
FLOAT32 = 4  # data format code
# as many strings per trace as the Åknes recorder writes: they take most of the reading time
LIKE_AKNES = (
    "ALIAS_FILTER 416.66 0",
    "AMPLITUDE_RECOVERY NONE",
    "CHANNEL_NUMBER 1",
    "DELAY -3.000",
    "DESCALING_FACTOR 4.270400E-005",
    "DIGITAL_HIGH_CUT_FILTER 0 0",
    "DIGITAL_LOW_CUT_FILTER 0 0",
    "FIXED_GAIN 36 DB",
    "LINE_ID 0",
    "LOW_CUT_FILTER 0 0",
    "NOTCH_FREQUENCY 0",
    "RAW_RECORD 1.dat",
    "RECEIVER_LOCATION 0.00",
    "SAMPLE_INTERVAL 0.001",
    "SHOT_SEQUENCE_NUMBER 1",
    "SKEW -0.000623798",
    "SOURCE_LOCATION 0.00",
    "STACK 1",
)
FILE_LIKE_AKNES = (
    "ACQUISITION_DATE 03/Feb/2007",
    "ACQUISITION_TIME 06:22:35",
    "COMPANY Geometrics",
    "INSTRUMENT GEOMETRICS",
    "JOB_ID 0000",
    "OBSERVER Observer",
    "TRACE_SORT AS_ACQUIRED",
    "UNITS METERS",
    "NOTE DISPLAY_SCALE 50",
)


def seg2_bytes(
    waveforms: np.ndarray,
    strings: Sequence[str] = LIKE_AKNES,
    file_strings: Sequence[str] = (),
    order: str = "<",
) -> bytes:
    """Return waveforms (S, T) as a SEG-2 file of float32 samples. [SEG-2]

    ``strings`` go into each trace header; ``order`` is "<" or ">" for little or big endian.
    """
    header, file_header = _strings(strings, order), _strings(file_strings, order)
    table_bytes = 4 * len(waveforms)
    place, places, traces = FIXED_BYTES + table_bytes + len(file_header), [], []
    for samples in waveforms.astype(order + "f4"):
        places.append(place)
        fixed = struct.pack(
            order + "HHLLB",
            0x4422,
            FIXED_BYTES + len(header),
            samples.nbytes,
            samples.size,
            FLOAT32,
        )
        traces.append(fixed.ljust(FIXED_BYTES, b"\0") + header + samples.tobytes())
        place += len(traces[-1])
    start = struct.pack(
        order + "HHHHBBBBBB", 0x3A55, 1, table_bytes, len(waveforms), 1, 0, 0, 1, 10, 0
    )
    table = struct.pack(f"{order}{len(waveforms)}L", *places)
    return start.ljust(FIXED_BYTES, b"\0") + table + file_header + b"".join(traces)


def _strings(strings: Sequence[str], order: str) -> bytes:
    """Encode strings with their lengths; an empty one ends them."""
    return (
        b"".join(
            struct.pack(order + "H", len(text) + 3) + text.encode() + b"\0" for text in strings
        )
        + b"\0\0"
    )
