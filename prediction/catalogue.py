"""Events as an ObsPy catalogue, for QuakeML and SeisComP's XML."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prediction.predict_config import QUAKEML_TYPES, CatalogueParams, PredictConfig
from utils.files import write_atomically

PROGRAM = "aknes-ssl"
OTHER = "other event"


def write_catalogue(
    rows: Iterable[dict], class_names: Sequence[str], config: PredictConfig, path: Path, form: str
) -> None:
    """Write the rows of a table of events; ``form`` is a format of ObsPy: QUAKEML or SCML."""
    catalogue = build_catalogue(rows, class_names, config)
    write_atomically(path, lambda partial: catalogue.write(str(partial), format=form))


def build_catalogue(rows: Iterable[dict], class_names: Sequence[str], config: PredictConfig) -> Any:
    """Return the rows of a table of events as an ObsPy catalogue.

    An event has its type, class and probabilities, and a pick per station that has triggered; with
    ``catalogue.latitude`` and ``longitude`` also an origin there. Rows without a prediction or a
    time are left out. Identifiers depend only on the events: the same table gives the same
    catalogue.
    """
    from obspy.core.event import Catalog, CreationInfo, ResourceIdentifier

    usable = [row for row in rows if row["class"] and (row["trigger_time"] or row["start_time"])]
    model = usable[0]["model"] if usable else "none"
    info = CreationInfo(
        agency_id=config.catalogue.agency,
        author=config.catalogue.author or f"{PROGRAM}, model {model}",
    )
    return Catalog(
        [_event(row, class_names, config, info) for row in usable],
        resource_id=ResourceIdentifier(f"smi:local/{PROGRAM}/catalogue-{model}"),
        creation_info=info,
    )


def _event(row: dict, class_names: Sequence[str], config: PredictConfig, info: Any) -> Any:
    """Return an ObsPy event."""
    from obspy import UTCDateTime
    from obspy.core.event import Comment, Event, EventDescription, ResourceIdentifier

    time = UTCDateTime(row["trigger_time"] or row["start_time"])
    name = _identifier(row, time)
    probabilities = ", ".join(f"{kind} {float(row[f'prob_{kind}']):.3f}" for kind in class_names)
    said = f"{probabilities}; sensors in agreement: {100 * float(row['agreement']):.0f} %"
    review = (
        f"for review: {row['review_reason']}"
        if str(row["review"]) == "1"
        else "decided by the model"
    )
    picks = _picks(row, time, name, config.catalogue.network, info)
    origins = _origins(time, name, picks, config.catalogue, info)
    return Event(
        resource_id=ResourceIdentifier(name),
        event_type=event_type(row["class"], config.event_types),
        event_type_certainty="suspected",
        event_descriptions=[EventDescription(text=row["class"])],
        comments=[
            Comment(text=text, resource_id=ResourceIdentifier(f"{name}/comment/{number}"))
            for number, text in enumerate((said, review))
        ],
        picks=picks,
        origins=origins,
        preferred_origin_id=origins[0].resource_id if origins else None,
        creation_info=info,
    )


def _identifier(row: dict, time: Any) -> str:
    place = f"{row['file']} {row['trigger_time']}".encode("utf-8", "surrogateescape")
    digits = hashlib.sha256(place).hexdigest()[:8]
    return f"smi:local/{PROGRAM}/{time.strftime('%Y%m%dT%H%M%S%f')}-{digits}-{row['model']}"


def _picks(row: dict, time: Any, name: str, network: str | None, info: Any) -> list:
    """Return a pick for each station that has triggered."""
    from obspy.core.event import Pick, ResourceIdentifier, WaveformStreamID

    picks = []
    for number, (channel, after_s) in enumerate(parse_picks(row["picks"]).items()):
        codes = channel.split(".")
        if not codes[1]:  # a channel without names, such as those of SEG-2
            codes[1] = codes[3]
        place = WaveformStreamID(codes[0] or network or "", codes[1], codes[2] or None, codes[3])
        identifier = ResourceIdentifier(f"{name}/pick/{number}")
        picks.append(
            Pick(
                resource_id=identifier,
                time=time + after_s,
                waveform_id=place,
                evaluation_mode="automatic",
                creation_info=info,
            )
        )
    return picks


def _origins(time: Any, name: str, picks: list, params: CatalogueParams, info: Any) -> list:
    """Return an origin at the configured place, to which the picks belong; SeisComP needs one."""
    from obspy.core.event import Arrival, Origin, ResourceIdentifier

    if params.latitude is None or params.longitude is None:
        return []
    arrivals = [
        Arrival(
            resource_id=ResourceIdentifier(f"{name}/arrival/{number}"),
            pick_id=pick.resource_id,
            phase="P",
        )
        for number, pick in enumerate(picks)
    ]
    origin = Origin(
        resource_id=ResourceIdentifier(f"{name}/origin"),
        time=time,
        latitude=params.latitude,
        longitude=params.longitude,
        epicenter_fixed=True,
        evaluation_mode="automatic",
        arrivals=arrivals,
        creation_info=info,
    )
    return [origin]


def format_picks(picks: dict[str, float]) -> str:
    """Write picks, channel name to seconds after the trigger, as a cell of the table."""
    return ", ".join(f"{channel} {after_s:+.3f}" for channel, after_s in picks.items())


def parse_picks(text: str) -> dict[str, float]:
    """Read what ``format_picks`` has written."""
    words = [part.rsplit(" ", 1) for part in text.split(", ") if part]
    return {channel: float(after_s) for channel, after_s in words}


def event_type(class_name: str, chosen: Mapping[str, str]) -> str:
    """Return the QuakeML type of a class: the chosen one, the class itself, or ``other event``.

    Upper case, spaces, ``_`` and ``-`` make no difference: ``IceQuake`` is ``ice quake``.
    """
    types = {_plain(name): name for name in QUAKEML_TYPES}
    types |= {_plain(name): found for name, found in chosen.items()}
    return types.get(_plain(class_name), OTHER)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character not in " _-")
