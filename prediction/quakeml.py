"""Detections as QuakeML, which seismological software reads."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.files import write_atomically

# QuakeML knows no slope quakes, tremors or spikes
EVENT_TYPES = {
    "Regional": "earthquake",
    "Rockfall": "rockslide",
    "Spike": "other event",
    "Noise": "other event",
}
UNKNOWN_TYPE = "other event"
WHOLE_NETWORK = "XX.NETW.."  # where channels have no such names: SEG-2


def write_quakeml(rows: Iterable[dict], class_names: Sequence[str], path: Path) -> None:
    """Write the rows of a table of events as a QuakeML catalogue, see ``build_catalogue``."""
    catalogue = build_catalogue(rows, class_names)
    write_atomically(path, lambda partial: catalogue.write(str(partial), format="QUAKEML"))


def build_catalogue(rows: Iterable[dict], class_names: Sequence[str]):
    """Return the rows of a table of events as an ObsPy catalogue.

    An event has its type, class and probabilities, and a pick if there was a trigger: at the time
    of the network's trigger, on the channel with the highest signal-to-noise ratio. Rows without a
    prediction or a time are left out. Identifiers depend only on the events: the same table gives
    the same catalogue.
    """
    from obspy import UTCDateTime
    from obspy.core.event import (
        Catalog,
        Comment,
        CreationInfo,
        Event,
        EventDescription,
        Pick,
        ResourceIdentifier,
        WaveformStreamID,
    )

    events, model = [], ""
    for row in rows:
        if not row["class"] or not (row["trigger_time"] or row["start_time"]):
            continue
        model = row["model"]
        time = UTCDateTime(row["trigger_time"] or row["start_time"])
        place = hashlib.sha256(
            f"{row['file']} {row['trigger_time']}".encode("utf-8", "surrogateescape")
        ).hexdigest()[:8]
        stamp = time.strftime("%Y%m%dT%H%M%S%f")
        name = f"smi:local/aknes-ssl/{stamp}-{place}-{model}"
        probabilities = ", ".join(
            f"{kind} {float(row[f'prob_{kind}']):.3f}" for kind in class_names
        )
        text = f"{probabilities}; sensors in agreement: {100 * float(row['agreement']):.0f} %"
        review = (
            f"for review: {row['review_reason']}"
            if str(row["review"]) == "1"
            else "decided by the model"
        )
        events.append(
            Event(
                resource_id=ResourceIdentifier(name),
                event_type=EVENT_TYPES.get(row["class"], UNKNOWN_TYPE),
                event_type_certainty="suspected",
                event_descriptions=[EventDescription(text=row["class"])],
                comments=[
                    Comment(text=line, resource_id=ResourceIdentifier(f"{name}/comment/{n}"))
                    for n, line in enumerate((text, review))
                ],
                picks=[
                    Pick(
                        resource_id=ResourceIdentifier(f"{name}/pick"),
                        time=time,
                        evaluation_mode="automatic",
                        waveform_id=WaveformStreamID(seed_string=_stream(row["best_channel"])),
                    )
                ]
                if row["trigger_time"]
                else [],
                creation_info=CreationInfo(author=f"aknes-ssl, model {model}"),
            )
        )
    return Catalog(
        events,
        resource_id=ResourceIdentifier(f"smi:local/aknes-ssl/catalogue-{model}"),
    )


def _stream(channel: str) -> str:
    """Return a channel's name if it is network.station.location.channel, as QuakeML wants it."""
    return channel if channel.count(".") == 3 else WHOLE_NETWORK
