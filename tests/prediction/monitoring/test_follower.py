"""An archive that is followed ends with the table of one batch run, whatever happens meanwhile."""

import json
import logging
import sys
from argparse import Namespace

import numpy as np
import obspy
import pytest

from prediction import Classifier
from prediction.continuous.sds import parse_streams
from prediction.monitoring.alarms import Alarms
from prediction.monitoring.follower import Follower, load_state, state_path
from prediction.monitoring.growing_archive import GrowingArchive
from prediction.outputs import EventWriter, Outputs
from prediction.run import follow_archive
from preprocessing.traces import read_traces
from tests.conftest import write_mseed
from tests.prediction.conftest import predict, table
from tests.prediction.growing_files import append, bursts, records_of
from utils.errors import Interrupted

START = obspy.UTCDateTime("2020-02-28T23:57:00")  # midnight of a leap year comes soon
ONSETS_S = [40.0, 85.0, 130.0, 175.0, 215.0, 222.0, 262.0]
PATTERNS = parse_streams("XX.S0?..HH?")
SETTINGS = {
    "precision": "32-true",
    "trigger": {"channels": 3},
    "follow": {"latency_s": 20, "on_event_timeout_s": 5},
}


@pytest.fixture(scope="module")
def classifier(ckpt):
    return Classifier.load(ckpt, **SETTINGS)


@pytest.fixture(scope="module")
def stream():
    return bursts(START, 290, ONSETS_S)


@pytest.fixture(scope="module")
def records(stream):
    return records_of(stream)


@pytest.fixture(scope="module")
def batch(place, ckpt, records):
    """The table of one batch run over the whole archive."""
    append(place / "whole", records)
    archive = ["--sds", "whole", "--streams", "XX.S0?..HH?"]
    output = predict(ckpt, *archive, "--out", "sds.csv", "trigger.channels=3", cwd=place)
    rows = table(place / "sds.csv")
    assert len(rows) == 6 and not any(row["error"] for row in rows), output
    return rows


class Following:
    """A follower that can be stopped and started, and an archive that is fed by hand."""

    def __init__(self, classifier, folder, command=None, from_ns=START.ns):
        self.classifier, self.root, self.command = classifier, folder / "sds", command
        self.from_ns = from_ns
        self.outputs = Outputs(folder / "events.csv", resume=True)

    def __enter__(self):
        state = load_state(state_path(self.outputs.out))
        archive = GrowingArchive(self.root, PATTERNS, sizes=state.sizes)
        self.writer = EventWriter(self.classifier.predictor, self.outputs).__enter__()
        self.alarms = Alarms(self.command, 5)
        self.follower = Follower(self.classifier, archive, self.writer, self.alarms, state, "whole")
        self.follower.begin(self.from_ns)
        return self

    def __exit__(self, *error):
        self.alarms.close()
        self.writer.__exit__()

    def feed(self, records):
        append(self.root, records)
        self.settle()

    def settle(self):
        while self.follower.step():
            pass

    @property
    def rows(self):
        return table(self.outputs.out)


def without_file(rows):
    return [{key: value for key, value in row.items() if key != "file"} for row in rows]


def in_order(rows):
    return sorted(without_file(rows), key=lambda row: row["trigger_time"])


def decided(rows, seconds):
    """Return the rows of a batch run that a follower can have found by then."""
    return [row for row in rows if obspy.UTCDateTime(row["trigger_time"]) < START + seconds]


def pieces(records, seconds=12.0):
    """Cut records into those of each few seconds."""
    number = np.array([int((end - float(START)) // seconds) for end, _, _ in records])
    return [[records[k] for k in np.flatnonzero(number == n)] for n in range(number.max() + 1)]


def test_pieces_give_the_rows_of_one_batch_run_across_midnight(
    tmp_path, classifier, records, batch
):
    parts = pieces(records)
    append(tmp_path / "sds", parts[0])
    with Following(classifier, tmp_path) as following:
        for part in parts[1:]:
            following.feed(part)
        assert without_file(following.rows) == without_file(batch)
    assert len(list((tmp_path / "sds").rglob("*.060"))) == 3


def test_records_out_of_order_and_half_written_are_waited_for(tmp_path, classifier, records, batch):
    rng = np.random.default_rng(1)
    parts = pieces(sorted(records, key=lambda record: record[0] + rng.uniform(0, 15)))
    append(tmp_path / "sds", parts[0])
    with Following(classifier, tmp_path) as following:
        for part in parts[1:]:
            last = (part[-1][0], part[-1][1], part[-1][2][:100])
            following.feed([*part[:-1], last])
            following.feed([(last[0], last[1], part[-1][2][100:])])
        following.follower.last_arrival -= 100  # nothing comes any more
        following.settle()
        assert without_file(following.rows) == without_file(batch)


@pytest.mark.parametrize("n_parts", [1, 14])
def test_a_restart_continues_with_nothing_twice(tmp_path, classifier, records, batch, n_parts):
    parts = pieces(records)
    append(tmp_path / "sds", [record for part in parts[:n_parts] for record in part])
    with Following(classifier, tmp_path) as following:
        following.settle()
    for part in parts[n_parts : n_parts + 3]:  # while nobody looks
        append(tmp_path / "sds", part)
    state, text = state_path(tmp_path / "events.csv"), None
    with Following(classifier, tmp_path) as following:
        text = state.read_text()
        for part in parts[n_parts + 3 :]:
            following.feed(part)
        rows = following.rows
    assert without_file(rows) == without_file(batch)
    state.write_text(text)  # killed before the state was saved: the rows are there
    with Following(classifier, tmp_path) as following:
        following.settle()
        assert following.rows == rows


def test_a_silent_station_holds_up_the_others_for_the_latency_only(
    tmp_path, classifier, records, caplog
):
    caplog.set_level(logging.WARNING)
    silent = [r for r in records if not ("S02" in r[1] and 60 < r[0] - float(START) < 200)]
    two = Classifier(classifier.predictor, "two")
    two.config = classifier.config.model_copy(
        update={"trigger": classifier.config.trigger.model_copy(update={"channels": 2})}
    )
    parts = pieces(silent)
    append(tmp_path / "sds", parts[0])
    with Following(two, tmp_path) as following:
        delays_s = []
        for part in parts[1:]:
            following.feed(part)
            newest_ns = following.follower.coverage.newest_ns()
            delays_s.append((newest_ns - following.follower.until_ns) / 1e9 - 9)
        assert max(delays_s) < 20 + 12 + 8  # latency, a part, a record
        assert max(delays_s[8:15]) < 12 + 8  # known to be silent: not waited for
        assert len(following.rows) == 6
        assert [len(row["picks"].split(",")) for row in following.rows[1:4]] == [2, 2, 2]
    assert "silent, no longer waited for: XX.S02..HHZ" in caplog.text
    assert "here again: XX.S02..HHZ" in caplog.text


def test_data_that_come_too_late_are_searched_once_more(tmp_path, classifier, records, batch):
    late = [r for r in records if "S01" in r[1] and 70 < r[0] - float(START) < 140]
    parts = pieces([r for r in records if r not in late])
    append(tmp_path / "sds", parts[0])
    with Following(classifier, tmp_path) as following:
        for part in parts[1:17]:
            following.feed(part)
        found = following.rows
        assert len(found) == 2 and len(decided(batch, 190)) == 4
        following.feed(late)
        following.settle()
        assert following.rows == found  # more of them may come
    with Following(classifier, tmp_path) as following:  # a restart does not forget them
        following.follower.last_late -= 100
        following.settle()
        for part in parts[17:]:
            following.feed(part)
        assert in_order(following.rows) == without_file(batch)


def test_late_data_are_searched_before_the_end(tmp_path, classifier, records, batch):
    """``--to`` ends it once nothing is left to search; also if only late data have come since."""
    late = [r for r in records if "S01" in r[1] and 70 < r[0] - float(START) < 140]
    append(tmp_path / "sds", [r for r in records if r not in late])
    end_ns = (START + 200).ns
    with Following(classifier, tmp_path) as following:
        following.follower.run(end_ns)
        assert len(following.rows) < len(decided(batch, 200))
    append(tmp_path / "sds", late)
    with Following(classifier, tmp_path) as following:
        following.follower.latency_ns = 10**9
        following.follower.run(end_ns)
        assert in_order(following.rows) == without_file(decided(batch, 200))


def test_data_that_are_always_late_are_searched_too(tmp_path, classifier, records, batch):
    """They never stop to arrive, so that nobody can wait for the last of them."""
    two = [r for r in records if "S01" not in r[1]]
    late = [(end + 60, *rest) for end, *rest in records if "S01" in rest[0]]
    parts = pieces(sorted([*two, *late]))
    append(tmp_path / "sds", parts[0])
    with Following(classifier, tmp_path) as following:
        for number, part in enumerate(parts[1:20], start=1):
            following.feed(part)
            following.follower.last_late += 1e6 if number < 19 else 0  # just now
            if number == 18:
                assert following.rows == []
                following.follower.first_late -= 10 * 20 + 1
        assert in_order(following.rows) == without_file(batch)[: len(following.rows)]
        assert len(following.rows) >= 3


def test_a_station_whose_clock_is_ahead_neither_stops_nor_skips_the_others(
    tmp_path, classifier, records, batch, caplog
):
    ahead = obspy.Stream([bursts(obspy.UTCDateTime() + 5e5, 40, [20.0], n=5)[4]])
    parts = pieces(records)
    append(tmp_path / "sds", [*parts[0], *records_of(ahead)])
    with Following(classifier, tmp_path) as following:
        for part in parts[1:]:
            following.feed(part)
        assert without_file(following.rows) == without_file(batch)
    assert "data later than this computer's clock, not waited for: XX.S04..HHZ" in caplog.text


def test_without_a_start_the_newest_data_are_followed(tmp_path, classifier, records):
    parts = pieces(records)
    for part in parts[:12]:  # 144 s
        append(tmp_path / "sds", part)
    with Following(classifier, tmp_path, from_ns=None) as following:
        for part in parts[12:16]:
            following.feed(part)
            newest_ns = following.follower.coverage.newest_ns()
            assert newest_ns - following.follower.until_ns < (9 + 8) * 1e9  # window and record
        assert len(following.rows) == 2  # one of what was still waited for


def test_a_signal_is_not_taken_for_damaged_data(tmp_path, monkeypatch):
    """ObsPy's readers raise everything for damaged bytes, so that all of it is caught."""

    def stopped(*_, **__):
        raise Interrupted("terminated", 143)

    monkeypatch.setattr(obspy, "read", stopped)
    path = write_mseed(tmp_path / "x.mseed", np.ones((1, 100)))
    with pytest.raises(Interrupted):
        read_traces(path)


def test_when_all_fall_silent_the_last_event_is_not_held_back(tmp_path, classifier, records):
    last_s = ONSETS_S[2] + 7  # of a window that ends nine seconds after the trigger
    append(tmp_path / "sds", [r for r in records if r[0] < float(START) + last_s])
    with Following(classifier, tmp_path) as following:
        following.settle()
        assert len(following.rows) == 2
        following.follower.last_arrival -= 100
        following.settle()
        assert len(following.rows) == 3 and following.rows[2]["class"]


def test_the_command_gets_each_event_once_as_json(tmp_path, classifier, records, batch, caplog):
    script = tmp_path / "alarm.py"
    script.write_text(
        "import json, sys\n"
        "event = json.load(sys.stdin)\n"
        f"open({str(tmp_path / 'alarms')!r}, 'a').write(json.dumps(event) + '\\n')\n"
        "sys.exit(3)\n"
    )
    command = f"{sys.executable} {script}"
    append(tmp_path / "sds", [r for r in records if r[0] < float(START) + 110])
    with Following(classifier, tmp_path, command) as following:
        following.settle()
    following.follower.save()
    state = state_path(tmp_path / "events.csv")
    text = state.read_text().replace('"n_announced": 2', '"n_announced": 1')
    state.write_text(text)  # killed before the second command had ended
    with Following(classifier, tmp_path, command) as following:
        pass
    alarms = [json.loads(line) for line in (tmp_path / "alarms").read_text().splitlines()]
    expected = [batch[number]["trigger_time"] for number in (0, 1, 1)]
    assert [alarm["trigger_time"] for alarm in alarms] == expected
    assert alarms[1] | {"file": ""} == alarms[2] | {"file": ""}
    assert caplog.text.count("--on-event: exit status 3") == 3


def test_the_command_line_follows_to_a_given_time(place, ckpt, records, batch):
    arguments = ["--sds", "whole", "--streams", "XX.S0?..HH?", "--follow", "--out", "followed.csv"]
    span = ["--from", str(START), "--to", str(START + 150)]
    settings = ["trigger.channels=3", "follow.latency_s=20"]
    predict(ckpt, *arguments, *span, *settings, cwd=place)
    assert table(place / "followed.csv") == decided(batch, 150)
    span[3] = str(START + 280)
    predict(ckpt, *arguments, *span, *settings, cwd=place)
    assert table(place / "followed.csv") == decided(batch, 280)


def test_the_catalogue_is_written_when_following_is_interrupted(
    tmp_path, classifier, place, batch, monkeypatch
):
    def step_and_stop(follower, to_ns):
        while follower.step(to_ns):
            pass
        raise Interrupted("stopped", 130)

    monkeypatch.setattr(Follower, "run", step_and_stop)
    outputs = Outputs(tmp_path / "e.csv", quakeml=tmp_path / "e.xml", resume=True)
    asked = Namespace(
        sds=place / "whole",
        streams="XX.S0?..HH?",
        start=str(START),
        end=None,
        on_event=None,
        outputs=outputs,
    )
    with pytest.raises(Interrupted):
        follow_archive(classifier, asked)
    events = obspy.read_events(str(tmp_path / "e.xml"))
    assert len(events) == len(table(tmp_path / "e.csv")) == 6
    outputs.out.unlink()  # what it held is searched again, whatever the state says
    with pytest.raises(Interrupted):
        follow_archive(classifier, asked)
    assert len(table(tmp_path / "e.csv")) == 6


def test_a_mistake_on_the_command_line_is_explained(place, ckpt, batch):
    words = ["--sds", "whole", "--streams", "*.*.*.*", "--from", "x"]
    assert "--from: found x; should be" in predict(
        ckpt, *words, "--out", "m.csv", cwd=place, status=2
    )
