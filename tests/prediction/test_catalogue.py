"""Catalogues, read back by ObsPy."""

import obspy
import pytest
from obspy.core.event.header import EventType

from prediction.catalogue import event_type, write_catalogue
from prediction.events import Event, format_picks, parse_picks
from prediction.predict_config import QUAKEML_TYPES, PredictConfig
from utils.config import ConfigError, build_config

NAMES = ("Rockfall", "explosion")
PICKS = {"NO.AKN01..GHZ": 0.0, ".AKN02.00.GHN": 0.013, "channel 3": 0.25}


def event(class_name="Rockfall", **changes):
    known = {
        "file": "day.mseed",
        "start_time": "2020-01-01T00:00:00.000000Z",
        "trigger_time": "2020-01-01T00:00:03.000000Z",
        "probabilities": dict.fromkeys(NAMES, 0.5),
        "model": "12345678",
        "settings": "1234",
        "class_name": class_name,
        "confidence": 0.5,
        "agreement": 1.0,
        "picks": PICKS,
    }
    return Event(**(known | changes))


def catalogue(path, form, events, **settings):
    config = build_config(settings, PredictConfig, "test")
    write_catalogue(events, config, path, form)
    return obspy.read_events(str(path))


@pytest.mark.parametrize("form", ["QUAKEML", "SCML"])
def test_agency_place_and_picks_are_read_back(tmp_path, form):
    place = {"agency": "NORSAR", "author": "me", "network": "NO", "latitude": 62.2}
    events = [event(), event(class_name="", error="a gap")]
    (found,) = catalogue(tmp_path / "c", form, events, catalogue=place | {"longitude": 7})
    assert (found.creation_info.agency_id, found.creation_info.author) == ("NORSAR", "me")
    assert found.event_type == "rockslide" and found.event_descriptions[0].text == "Rockfall"
    picks = {pick.waveform_id.get_seed_string(): pick for pick in found.picks}
    assert set(picks) == {"NO.AKN01..GHZ", "NO.AKN02.00.GHN", "NO.3..3"}
    trigger = obspy.UTCDateTime("2020-01-01T00:00:03Z")
    assert picks["NO.AKN02.00.GHN"].time == trigger + 0.013
    assert all(pick.creation_info.agency_id == "NORSAR" for pick in found.picks)
    origin = found.preferred_origin()
    assert (origin.latitude, origin.longitude, origin.time) == (62.2, 7, trigger)
    assert len(origin.arrivals) == 3 and "NETW" not in (tmp_path / "c").read_text()


@pytest.mark.parametrize("form", ["QUAKEML", "SCML"])
def test_the_same_rows_give_the_same_file(tmp_path, form):
    first, second = (catalogue(tmp_path / name, form, [event()]) for name in ("a", "b"))
    assert first[0].resource_id == second[0].resource_id
    if form == "QUAKEML":
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not first[0].origins and first[0].creation_info.author == "aknes-ssl, model 12345678"


def test_a_file_without_a_trigger_has_no_pick(tmp_path):
    (found,) = catalogue(tmp_path / "c", "QUAKEML", [event(trigger_time="", picks={})])
    assert not found.picks


def test_types_are_those_of_quakeml():
    assert set(QUAKEML_TYPES) == set(EventType.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("explosion", "explosion"),
        ("Earthquake", "earthquake"),
        ("Quarry_Blast", "quarry blast"),
        ("icequake", "ice quake"),
        ("rockfall", "rockslide"),
        ("Regional", "earthquake"),
        ("Slope_HF", "other event"),
    ],
)
def test_classes_that_are_quakeml_types_map_to_themselves(name, expected):
    assert event_type(name, PredictConfig().event_types) == expected


def test_types_can_be_chosen_and_are_checked(tmp_path):
    chosen = {"Rockfall": "landslide", "explosion": "quarry blast"}
    found = catalogue(
        tmp_path / "c", "QUAKEML", [event("Rockfall"), event("explosion")], event_types=chosen
    )
    assert [each.event_type for each in found] == ["landslide", "quarry blast"]
    with pytest.raises(ConfigError, match="event_types: found 'rock fall'"):
        build_config({"event_types": {"Rockfall": "rock fall"}}, PredictConfig, "test")
    with pytest.raises(ConfigError, match="latitude and longitude belong together"):
        build_config({"catalogue": {"latitude": 1}}, PredictConfig, "test")


def test_picks_survive_the_table():
    assert parse_picks(format_picks(PICKS)) == PICKS and parse_picks("") == {}
