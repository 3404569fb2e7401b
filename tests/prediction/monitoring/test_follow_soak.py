"""Two days of an archive that is followed, with what goes wrong in two days."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import obspy
import pytest

from tests.conftest import ROOT
from tests.prediction.conftest import predict, table
from tests.prediction.growing_files import RECORD_BYTES, append

START = obspy.UTCDateTime("2023-12-30T18:00:00")  # two midnights, one of a new year
SECONDS, RATE_HZ, N_CHANNELS = 2 * 86_400, 20.0, 3
SLOT_S = 600.0  # with one event each; gaps and delays begin and end between events
LATENCY_S, JITTER_S = 50.0, 30.0  # a record of 512 bytes has up to 15 s
# lets the test say what time it is, whenever the follower has done all that it can
DRIVER = """
import runpy, sys, time
from types import SimpleNamespace
import prediction.monitoring.follower
now = float(input())
def sleep(_):
    global now
    print("waiting", flush=True)
    now = float(input())
prediction.monitoring.follower.time = SimpleNamespace(
    monotonic=lambda: now, sleep=sleep, time_ns=time.time_ns
)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SETTINGS = ["trigger.channels=3", f"follow.latency_s={LATENCY_S:g}", "follow.shell=true"]
SETTINGS += ["precision=32-true"]  # with bf16, events differ a little with their batch
SPAN = ["--from", str(START), "--to", str(START + SECONDS - 60)]
ARCHIVE = ["--sds", "sds", "--streams", "XX.S0?..HHZ", *SPAN, *SETTINGS]


class Days:
    """What is recorded, and when it arrives."""

    def __init__(self, seed: int):
        self.rng = rng = np.random.default_rng(seed)
        n_slots = int(SECONDS / SLOT_S)
        self.onsets_s = SLOT_S * (np.arange(n_slots) + rng.uniform(0.2, 0.8, n_slots))
        slots = rng.permutation(np.arange(2, n_slots - 30)).tolist()
        channels = [number % N_CHANNELS for number in range(n_slots)]
        self.gaps = set(zip(channels, slots[:12]))
        self.gaps |= {(channel, slots[12]) for channel in range(N_CHANNELS)}  # all are silent
        late = zip(channels, slots[13:37])
        self.delays_s = {place: rng.uniform(100, 4 * 3600) for place in late}
        lost = {slot for _, slot in self.gaps}
        self.found_s = [t for slot, t in enumerate(self.onsets_s) if slot not in lost]

    def records(self) -> list[tuple[float, str, bytes]]:
        """Return arrival (s after the start), path and bytes of each record, as they arrive."""
        records = []
        for channel in range(N_CHANNELS):
            samples = self.samples().reshape(len(self.onsets_s), -1)
            for slot, part in enumerate(samples):
                if (channel, slot) in self.gaps:
                    continue
                delay_s = self.delays_s.get((channel, slot), 0.0)
                for end_s, path, record in records_of_slot(part, channel, slot):
                    records.append((end_s + delay_s + self.rng.uniform(0, JITTER_S), path, record))
        return sorted(records)

    def samples(self) -> np.ndarray:
        """Return the noise of one channel with a burst at each onset, as counts."""
        samples = self.rng.normal(0, 30, int(SECONDS * RATE_HZ))
        for onset_s in self.onsets_s:
            near = slice(int((onset_s - 4) * RATE_HZ), int((onset_s + 4) * RATE_HZ))
            t = np.arange(near.start, near.stop) / RATE_HZ - onset_s
            samples[near] += 900 * np.exp(-((t / 0.8) ** 2)) * np.sin(2 * np.pi * 6 * t)
        return samples.astype(np.int32)


def records_of_slot(samples, channel, slot):
    """Yield end (s after the start), path in an SDS archive and bytes of miniSEED records."""
    header = {"network": "XX", "station": f"S{channel:02d}", "channel": "HHZ"}
    header |= {"sampling_rate": RATE_HZ, "starttime": START + slot * SLOT_S}
    content, n_before = io.BytesIO(), 0
    obspy.Trace(samples, header).write(content, format="MSEED", reclen=RECORD_BYTES)
    raw = content.getvalue()
    for first in range(0, len(raw), RECORD_BYTES):
        record = raw[first : first + RECORD_BYTES]
        begin = header["starttime"] + n_before / RATE_HZ
        n_before += int.from_bytes(record[30:32], "big")
        name = f"XX.{header['station']}..HHZ.D.{begin.year}.{begin.julday:03d}"
        path = f"{begin.year}/XX/{header['station']}/HHZ.D/{name}"
        yield slot * SLOT_S + n_before / RATE_HZ, path, record
    assert n_before == len(samples)


class Following:
    """A process that follows the archive in ``folder``; the test tells it the time."""

    def __init__(self, folder, ckpt, now_s: float):
        command = [sys.executable, "-c", DRIVER, str(ROOT / "predict.py"), "--ckpt", str(ckpt)]
        command += ["--config_predict", str(ROOT / "configs" / "predict.yaml"), *ARCHIVE]
        command += ["--follow", "--out", "followed.csv"]
        self.log = open(folder / "log", "a")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--on-event", "cat >> alarms"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.tell(now_s)
        self.wait()

    def tell(self, now_s: float) -> None:
        self.process.stdin.write(f"{now_s}\n")
        self.process.stdin.flush()

    def wait(self) -> bool:
        """Wait until it has nothing to do; return False if it has ended."""
        return self.process.stdout.readline() != ""

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        self.process.communicate(timeout=120)
        self.log.close()
        return self.process.returncode


def distinct_alarms(text: str) -> set[str]:
    """Return the trigger times of JSON objects that stand one after another."""
    found, decoder, place = set(), json.JSONDecoder(), 0
    while place < len(text):
        event, place = decoder.raw_decode(text, place)
        found.add(event["trigger_time"])
    return found


def require_same(rows, expected) -> None:
    """Check rows: numbers may differ in the last place, as batches of events differ."""
    assert [row["trigger_time"] for row in rows] == [row["trigger_time"] for row in expected]
    for row, other in zip(rows, expected):
        for name, value in row.items():
            if name.startswith("prob_") or name in ("confidence", "entropy"):
                assert float(value) == pytest.approx(float(other[name]), abs=2e-4)
            else:
                assert value == other[name], name


@pytest.mark.slow
def test_two_days_with_gaps_late_data_and_kills_give_the_events_of_one_run(tmp_path, ckpt):
    days = Days(seed=3)
    records = days.records()
    arrivals_s = np.array([arrival for arrival, _, _ in records])
    # looks of the follower, some minutes apart; data arrive in between
    looks_s = np.cumsum(days.rng.exponential(150, 4 * SECONDS // 150))
    looks_s = looks_s[looks_s < arrivals_s[-1]]
    kills = dict(zip(days.rng.choice(len(looks_s) - 99, 3) + 50, [9, 9, signal.SIGTERM]))
    following, first, started = None, 0, time.monotonic()
    for number, now_s in enumerate([*looks_s, arrivals_s[-1] + 1]):
        last = int(np.searchsorted(arrivals_s, now_s))
        append(tmp_path / "sds", records[first:last])
        first = last
        following = following or Following(tmp_path, ckpt, now_s)
        following.tell(now_s)
        if number in kills:
            time.sleep(days.rng.uniform(0, 0.05))  # in the middle of something
            assert following.end(kills[number]) in (-9, 143)
            following = None
        else:
            goes_on = following.wait()
    if goes_on:  # nothing arrives any more
        following.tell(arrivals_s[-1] + LATENCY_S + 2)
        following.wait()
    assert following.end() == 0, (tmp_path / "log").read_text()[-3000:]
    print(f"\n{len(looks_s)} looks, {len(kills)} kills: {time.monotonic() - started:.0f} s")

    predict(ckpt, *ARCHIVE, "--out", "batch.csv", cwd=tmp_path)
    batch = table(tmp_path / "batch.csv")
    found_s = [obspy.UTCDateTime(row["trigger_time"]) - START for row in batch]
    np.testing.assert_allclose(found_s, days.found_s, atol=1.5)
    followed = table(tmp_path / "followed.csv")
    require_same(sorted(followed, key=lambda row: row["trigger_time"]), batch)
    alarms = distinct_alarms((tmp_path / "alarms").read_text())
    assert alarms == {row["trigger_time"] for row in batch}
    assert "Late data: searching" in (tmp_path / "log").read_text()
