"""predict.py --continuous as users type it."""

import shutil

import numpy as np
import obspy

from tests.prediction.conftest import START, TRIGGER, predict, table


def test_continuous_recordings(place, ckpt, day):
    path, truth = day
    output = predict(
        ckpt,
        "--continuous",
        path,
        "--out",
        "day.csv",
        "--plots",
        "day",
        "--quakeml",
        "day.xml",
        "--scml",
        "day.scml",
        "catalogue.latitude=62.2",
        "catalogue.longitude=7.0",
        *TRIGGER,
        "chunk_s=130",
        cwd=place,
    )
    rows = table(place / "day.csv")
    found_s = np.array([obspy.UTCDateTime(row["trigger_time"]) - START for row in rows])
    onset_s = np.array([onset for onset, _ in truth])
    hits = np.abs(onset_s[:, None] - found_s) < 2.5
    missed, false = int((~hits.any(1)).sum()), int((~hits.any(0)).sum())
    right = np.mean(
        [
            rows[int(hits[k].argmax())]["class"] == kind
            for k, (_, kind) in enumerate(truth)
            if hits[k].any()
        ]
    )
    print(
        f"{len(truth)} events: {len(truth) - missed} found, {missed} missed, {false} false, "
        f"{100 * right:.0f} % of the right class"
    )
    assert missed == 0 and false == 0 and right > 0.7
    assert (place / "day" / "timeline.png").is_file() and len(list((place / "day").iterdir())) == 15
    for catalogue in (obspy.read_events(str(place / name)) for name in ("day.xml", "day.scml")):
        assert [event.event_descriptions[0].text for event in catalogue] == [
            row["class"] for row in rows
        ]
    of_stations = [sorted(event.picks, key=lambda pick: pick.time) for event in catalogue]
    assert [picks[0].time for picks in of_stations] == [START + s for s in found_s]
    stations = {pick.waveform_id.get_seed_string() for picks in of_stations for pick in picks}
    assert stations == {"XX.S00..HHZ", "XX.S01..HHZ", "XX.S02..HHZ"}
    assert "14 events in" in output


def test_bad_files_among_continuous_ones_get_a_row(place, ckpt, day):
    folder = place / "records"
    folder.mkdir()
    shutil.copy(day[0], folder / "a.mseed")
    (folder / "XX.S01..HHZ").write_text("what happened")  # Z does not make it a time
    output = predict(
        ckpt,
        "--continuous",
        folder,
        "--out",
        "records.csv",
        *TRIGGER,
        "chunk_s=300",
        cwd=place,
        status=1,
    )
    rows = table(place / "records.csv")
    assert (
        len(rows) == 15
        and rows[-1]["file"].endswith("XX.S01..HHZ")
        and "not a format that ObsPy knows" in rows[-1]["error"]
    )
    assert "1 without prediction" in output
    predict(
        ckpt,
        "--continuous",
        folder,
        "--out",
        "records.csv",
        "--resume",
        *TRIGGER,
        "chunk_s=300",
        cwd=place,
        status=1,
    )
    assert table(place / "records.csv") == rows
    output = predict(
        ckpt,
        "--continuous",
        folder,
        "--out",
        "strict2.csv",
        "--strict",
        *TRIGGER,
        cwd=place,
        status=2,
    )
    assert "XX.S01..HHZ: cannot be read" in output
