"""Simulated events and archives: valid, and dependent on the seed alone."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from preprocessing.event_archive import EventArchive
from preprocessing.simulate import __main__ as command
from preprocessing.simulate.ranges import CLASS_COUNTS
from preprocessing.simulate.simulated_archive import (
    _start_time,
    plan_events,
    simulate_archive,
    simulate_event,
)
from tests.conftest import ROOT
from tests.preprocessing.simulate.simulated import good_of
from utils.errors import UserError

LABELED = [name for name in CLASS_COUNTS if name != "Unlabeled"]


def test_no_record_begins_louder_than_it_goes_on(pooled, of_each_class):
    for event in [*pooled, *of_each_class]:  # waves wrapped around from the end once
        begin, next_ = (
            np.median(event.waveforms[good_of(event), a:b].std(axis=1))
            for a, b in ((0, 500), (500, 1500))
        )
        assert begin < 1.3 * next_, event.truth


def test_samples_are_finite_float32_of_the_right_shape(of_each_class):
    for event in of_each_class:
        assert event.waveforms.shape == (24, 16000) and event.waveforms.dtype == np.float32
        assert np.isfinite(event.waveforms).all()


def test_an_event_is_a_function_of_seed_class_and_number():
    first, again = simulate_event(5, "Rockfall", 3), simulate_event(5, "Rockfall", 3)
    assert np.array_equal(first.waveforms, again.waveforms) and first.start_time == again.start_time
    for other in (
        simulate_event(6, "Rockfall", 3),
        simulate_event(5, "Rockfall", 4),
        simulate_event(5, "Spike", 3),
    ):
        assert not np.allclose(first.waveforms, other.waveforms)


def test_classes_follow_the_real_archive_for_any_number_of_events():
    many = plan_events(20_000, 0)
    assert plan_events(50, 0) == many[:50]
    found = Counter(category for category, _ in many)
    for name, count in CLASS_COUNTS.items():
        expected = 20_000 * count / sum(CLASS_COUNTS.values())
        assert abs(found[name] - expected) < 5 * np.sqrt(expected), name


def test_class_counts_of_the_real_archive_are_kept():
    plan = plan_events(None, 0, CLASS_COUNTS)
    assert len(plan) == 3429 and Counter(category for category, _ in plan) == CLASS_COUNTS
    assert len(set(plan)) == 3429 and [c for c, _ in plan] == sorted(c for c, _ in plan)


@pytest.mark.parametrize(
    "counts", [{"Slope_XX": 3}, {"Spike": -1, "Regional": 3}, {}, {"Spike": 2}]
)
def test_wrong_counts_are_refused(counts):
    with pytest.raises(UserError):
        plan_events(7, 0, counts)


def test_a_third_of_the_labelled_events_shares_class_and_day():
    starts = [(c, str(_start_time(0, c, n))) for c in LABELED for n in range(CLASS_COUNTS[c])]
    days = Counter((c, start[:10]) for c, start in starts)
    share = sum(n for n in days.values() if n > 1) / len(starts)
    assert 0.25 < share < 0.45  # the real archive: 600 of 1818
    assert {start[:4] for _, start in starts} == {str(year) for year in range(2007, 2021)}


def test_unlabelled_events_are_later_and_of_another_mix():
    events = [simulate_event(2, "Unlabeled", n) for n in range(60)]
    assert {e.start_time[:4] for e in events} == {"2021"}
    assert len({e.truth["source_class"] for e in events}) >= 6


def archive_content(archive_dir: Path):
    archive = EventArchive(archive_dir)
    return (
        list(archive.names),
        list(archive.labels),
        [archive.waveforms(k) for k in range(len(archive))],
    )


def test_archive_does_not_depend_on_processes_or_on_how_many_events_follow(tmp_path):
    simulate_archive(tmp_path / "one", 20, seed=4, n_workers=1, progress=False)
    simulate_archive(tmp_path / "two", 20, seed=4, n_workers=2, progress=False)
    simulate_archive(tmp_path / "few", 5, seed=4, n_workers=1, progress=False)
    one, two, few = (archive_content(tmp_path / name) for name in ("one", "two", "few"))
    assert one[0] == two[0] and one[1] == two[1] and few[0] == one[0][:5]
    assert all(np.array_equal(a, b) for a, b in zip(one[2], two[2]))
    assert all(np.array_equal(a, b) for a, b in zip(one[2], few[2]))
    assert len(set(one[0])) == 20


def test_simulation_is_fast_enough():
    simulate_event(8, "Slope_HF", 0)  # the network of this seed
    start = time.process_time()  # not disturbed by other processes
    for category, number in plan_events(30, 8):
        simulate_event(8, category, number)
    assert (
        time.process_time() - start
    ) / 30 < 0.05  # 40 events/s on two cores; 0.02 s on an idle one


def test_command_line_writes_an_archive_with_the_truth_in_it(tmp_path):
    command = [
        sys.executable,
        "-m",
        "preprocessing.simulate",
        "--out",
        tmp_path / "a",
        "--events",
        "4",
        "--seed",
        "9",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, labels, waveforms = archive_content(tmp_path / "a")
    plan = plan_events(4, 9)
    assert labels == [category for category, _ in plan]
    assert np.array_equal(waveforms[2], simulate_event(9, *plan[2]).waveforms)
    header = (tmp_path / "a" / "metadata.csv").read_text().splitlines()[0]
    assert {"source_class", "magnitude", "broken_station", "n_dead_channels"} <= set(
        header.split(",")
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--events", "0"], "number of events is 0"),
        (["--events", "-3"], "number of events is -3"),
        (["--events", "2", "--seed", "-1"], "seed is -1"),
    ],
)
def test_wrong_arguments_end_in_one_line_and_status_2(arguments, expected, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--out", str(tmp_path / "a"), *arguments])
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        command.main(["--out", str(tmp_path), "--events", "2"])
    assert "not an empty directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_nothing_to_do_is_said(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([])
    assert stop.value.code == 2 and "--out" in capsys.readouterr().err
