"""Events as an ObsPy catalogue, for QuakeML and SeisComP's XML."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prediction.events import Event
from prediction.predict_config import QUAKEML_TYPES, CatalogueParams, PredictConfig
from utils.files import atomic

PROGRAM = "aknes-ssl"
OTHER = "other event"


def write_catalogue(events: Iterable[Event], config: PredictConfig, path: Path, form: str) -> None:
    """Write events; ``form`` is a format of ObsPy: QUAKEML or SCML."""
    catalogue = build_catalogue(events, config)
    with atomic(path) as partial:
        catalogue.write(str(partial), format=form)


def build_catalogue(events: Iterable[Event], config: PredictConfig) -> Any:
    """Return events as an ObsPy catalogue.

    An event of the catalogue has its type, class and probabilities, and a pick per station that has
    triggered; with ``catalogue.latitude`` and ``longitude`` also an origin there. Events without a
    prediction or a time are left out. Identifiers depend only on the events: the same events give
    the same catalogue.
    """
    from obspy.core.event import Catalog, CreationInfo, ResourceIdentifier

    usable = [event for event in events if event.class_name and event.time is not None]
    model = usable[0].model if usable else "none"
    info = CreationInfo(
        agency_id=config.catalogue.agency,
        author=config.catalogue.author or f"{PROGRAM}, model {model}",
    )
    return Catalog(
        [_quakeml_event(event, config, info) for event in usable],
        resource_id=ResourceIdentifier(f"smi:local/{PROGRAM}/catalogue-{model}"),
        creation_info=info,
    )


def _quakeml_event(event: Event, config: PredictConfig, info: Any) -> Any:
    """Return an event as ObsPy's."""
    from obspy.core import event as quakeml

    time = event.time
    assert time is not None, "events without a time are left out"
    name = _identifier(event, time)
    probabilities = ", ".join(f"{kind} {p:.3f}" for kind, p in event.probabilities.items())
    said = f"{probabilities}; sensors in agreement: {100 * (event.agreement or 0):.0f} %"
    review = f"for review: {event.review_reason}" if event.review else "decided by the model"
    picks = _picks(event, time, name, config.catalogue.network, info)
    origins = _origins(time, name, picks, config.catalogue, info)
    return quakeml.Event(
        resource_id=quakeml.ResourceIdentifier(name),
        event_type=event_type(event.class_name, config.event_types),
        event_type_certainty="suspected",
        event_descriptions=[quakeml.EventDescription(text=event.class_name)],
        comments=[
            quakeml.Comment(
                text=text, resource_id=quakeml.ResourceIdentifier(f"{name}/comment/{number}")
            )
            for number, text in enumerate((said, review))
        ],
        picks=picks,
        origins=origins,
        preferred_origin_id=origins[0].resource_id if origins else None,
        creation_info=info,
    )


def _identifier(event: Event, time: Any) -> str:
    place = f"{event.file} {event.trigger_time}".encode("utf-8", "surrogateescape")
    digits = hashlib.sha256(place).hexdigest()[:8]
    return f"smi:local/{PROGRAM}/{time.strftime('%Y%m%dT%H%M%S%f')}-{digits}-{event.model}"


def _picks(event: Event, time: Any, name: str, network: str | None, info: Any) -> list[Any]:
    """Return a pick for each station that has triggered."""
    from obspy.core.event import Pick, ResourceIdentifier, WaveformStreamID

    picks = []
    for number, (channel, after_s) in enumerate(event.picks.items()):
        codes = _codes(channel)
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


def _codes(channel: str) -> list[str]:
    """Return network, station, location and channel; of ``channel 3`` the number is the station."""
    codes = channel.split(".")
    if len(codes) != 4:
        number = channel.split(" ")[-1]
        return ["", number, "", number]
    return [codes[0], codes[1] or codes[3], *codes[2:]]


def _origins(
    time: Any, name: str, picks: list[Any], params: CatalogueParams, info: Any
) -> list[Any]:
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


def event_type(class_name: str, chosen: Mapping[str, str]) -> str:
    """Return the QuakeML type of a class: the chosen one, the class itself, or ``other event``.

    Upper case, spaces, ``_`` and ``-`` make no difference: ``IceQuake`` is ``ice quake``.
    """
    types = {_plain(name): name for name in QUAKEML_TYPES}
    types |= {_plain(name): found for name, found in chosen.items()}
    return types.get(_plain(class_name), OTHER)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character not in " _-")
