"""Describe an event archive for SeisBench: one row per station, where ours has one per event.

SeisBench reads the chunks that the file ``chunks`` names. Ours is ``metadata_stations.csv`` and
``waveforms_stations.hdf5``; the latter holds no waveforms but a link to ``waveforms.hdf5``. So
``seisbench.data.WaveformDataset(archive_dir)`` gives every channel as the component it is, and
``grouping = "source_id"`` the channels of an event together.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py

from preprocessing.event_archive import CHANNELS, split_names

CHUNK = "_stations"
CHUNKS = "chunks"
UNKNOWN_COMPONENT = "Z"  # of a channel whose name says none; SeisBench by default reads Z, N, E
# network.station.location.channel; the last letter of the channel is the component
CODES = re.compile(r"(\w*)\.(\w+)\.(\w*)\.(\w*)(\w)")
COPIED = ("trace_category", "trace_start_time", "trace_sampling_rate_hz", "trace_npts")


def write_seisbench_view(
    archive_dir: Path, rows: list[dict[str, Any]], waveforms: str, data_format: dict[str, Any]
) -> None:
    """Write the three files beside an archive's.

    ``rows`` is the metadata of the archive, ``waveforms`` the name of its HDF5 file, and
    ``data_format`` goes into the group of this name. Raises ``OSError``.
    """
    stations = [station for row in rows for station in _stations(row)]
    orders = {station["trace_component_order"] for station in stations}
    if len(orders) == 1:
        data_format = data_format | {"component_order": orders.pop()}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["data"] = h5py.ExternalLink(waveforms, "/data")
        for key, value in data_format.items():
            file[f"data_format/{key}"] = value
    (archive_dir / f"waveforms{CHUNK}.hdf5").write_bytes(content.getvalue())
    with open(archive_dir / f"metadata{CHUNK}.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(key for row in stations for key in row)))
        table.writeheader()
        table.writerows(stations)
    (archive_dir / CHUNKS).write_text(f"{CHUNK}\n", encoding="utf-8")


def _stations(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row for each station of an event, or for each channel without a station's name."""
    live = row["trace_live_channels"]
    names = split_names(row.get(CHANNELS, ""), len(live))
    others = {key: row[key] for key in row if not key.startswith("trace_") and key != CHANNELS}
    first = 0
    while first < len(live):
        codes, components = _station(names[first:])
        end = first + len(components)
        yield {
            # SeisBench's notation for these channels of the event's array
            "trace_name": f"{row['trace_name']}${first}:{end},:{row['trace_npts']}",
            **{column: row[column] for column in COPIED},
            "trace_component_order": components,
            **others,
            "source_id": row["trace_name"],
            "station_network_code": codes[0],
            "station_code": codes[1] or names[first],
            "station_location_code": codes[2],
            "trace_channel": codes[3],
            "trace_live_channels": live[first:end],
        }
        first = end


def _station(names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the codes of the first channel's station, and the components that follow each other.

    The codes are those of network, station, location and channel without its component.
    """
    components, station = "", None
    for name in names:
        found = CODES.fullmatch(name)
        if not found or found[5] in components or station not in (None, found.groups()[:4]):
            break
        station = found.groups()[:4]
        components += found[5]
    return station or ("", "", "", ""), components or UNKNOWN_COMPONENT
