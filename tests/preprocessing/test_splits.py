import csv
from collections import Counter
from functools import partial

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from preprocessing.event_archive import EventArchive
from preprocessing.splits import (
    Division,
    SplitError,
    classifier_split,
    groups_of_events,
    hold_out,
    pretraining_split,
    split_events,
)
from tests.preprocessing.small_archive import write_archive


@pytest.fixture(scope="module")
def index(aknes_index):
    rows = list(csv.DictReader(aknes_index.open()))
    labels = np.array([row["event"] for row in rows])
    days = np.array([row["fname"].split("/")[1][:8] for row in rows])
    return labels, days


@pytest.fixture(scope="module")
def labelled(index):
    labels, days = index
    return labels[labels != "Unlabeled"], days[labels != "Unlabeled"]


@pytest.mark.parametrize(("ratio", "n_train"), [(0.8, 1454), (0.1, 181), (0.05, 90)])
def test_random_is_scikit_learns_split(labelled, ratio, n_train):
    labels, _ = labelled
    train, test = split_events(labels, ratio, 0.2, seed=3, strategy="random")
    expected = train_test_split(
        np.arange(1818), labels, train_size=ratio, test_size=0.2, stratify=labels, random_state=3
    )[:2]
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])
    assert (len(train), len(test)) == (n_train, 364)


def test_nested_keeps_the_test_set_and_nests_the_training_sets(labelled):
    labels, _ = labelled
    whole_train, whole_test = split_events(labels, 0.8, 0.2, seed=3, strategy="random")
    sets = {ratio: split_events(labels, ratio, 0.2, seed=3) for ratio in (0.05, 0.1, 0.4, 0.8)}
    assert [len(train) for train, _ in sets.values()] == [90, 181, 727, 1454]
    assert all(set(test) == set(whole_test) for _, test in sets.values())
    np.testing.assert_array_equal(sets[0.8][0], whole_train)
    assert set(sets[0.05][0]) < set(sets[0.1][0]) < set(sets[0.4][0]) < set(sets[0.8][0])
    for ratio, (train, _) in sets.items():
        for name, count in Counter(labels[whole_train].tolist()).items():
            assert abs((labels[train] == name).sum() - count * len(train) / 1454) < 1.5, (
                ratio,
                name,
            )
            assert (labels[train] == name).any()


def test_by_day_shares_no_day(labelled):
    labels, days = labelled
    train, test = split_events(labels, 0.8, 0.2, seed=3, strategy="by_day", days=days)
    assert not set(days[train]) & set(days[test])
    assert abs(len(test) - 364) <= 4
    for name, count in Counter(labels.tolist()).items():
        assert abs((labels[test] == name).sum() - 0.2 * count) < 2
    small, same_test = split_events(labels, 0.05, 0.2, seed=3, strategy="by_day", days=days)
    assert len(small) == 90 and set(small) < set(train) and set(test) == set(same_test)


def test_pretraining_sizes_and_what_it_leaves_out(index):
    labels, days = index
    division = Division(0.8, 0.2, 0, "random", days)
    train, held_out = pretraining_split(labels, division, exclude_test_events=False)
    assert (len(train), len(held_out)) == (2743, 686)
    for strategy in ("random", "nested", "by_day"):
        _, test = classifier_split(labels, Division(0.05, 0.2, 0, strategy, days))
        train, held_out = pretraining_split(labels, Division(0.8, 0.2, 0, strategy, days))
        seen = np.concatenate([train, held_out])
        if strategy != "random":  # there, the test events depend on the training ratio
            assert not set(test) & set(seen)
        if strategy == "by_day":
            assert not set(days[test]) & set(days[seen])
        assert (labels[train] == "Unlabeled").sum() > 1000 and not set(train) & set(held_out)


def test_classifier_split_indexes_the_archive(index):
    labels, _ = index
    train, test = classifier_split(labels, Division(0.8, 0.2, 0))
    assert (
        not (labels[np.concatenate([train, test])] == "Unlabeled").any()
        and len(train) + len(test) == 1818
    )


def test_a_classifier_needs_two_classes():
    for labels in (["Unlabeled"] * 9, ["Unlabeled"] * 9 + ["a"] * 9):
        with pytest.raises(SplitError, match="a classifier needs at least two"):
            classifier_split(np.array(labels), Division(0.8, 0.2, 0))


def test_seed_decides(labelled):
    labels, days = labelled
    for strategy in ("nested", "random", "by_day"):
        first, again, other = (
            split_events(labels, 0.1, 0.2, seed, strategy, days) for seed in (0, 0, 1)
        )
        assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
        assert set(first[1]) != set(other[1])


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (["a"] * 50 + ["b"], (0.8, 0.2, 0), "class b has one event"),
        (["a"] * 50 + ["b"] * 50, (0.8, 0.3, 0), "their sum at most 1"),
        (["a"] * 50 + ["b"] * 50, (0.8, 0.2, 0, "days"), "nested, random, by_day"),
        (["a"] * 50 + ["b"] * 50, (0.8, 0.2, 0, "by_day"), "recording day"),
        (["a"] * 50 + ["b"] * 50, (0.01, 0.2, 0), "train_data_ratio gives 1 events for 2 classes"),
        (["a"] * 4 + ["b"] * 4, (0.8, 0.1, 0), "test_data_ratio gives 1 events for 2 classes"),
    ],
)
def test_impossible_splits_say_why(labels, arguments, message):
    with pytest.raises(SplitError, match=message):
        split_events(labels, *arguments)


def test_calibration_events_are_held_out_of_training():
    labels = np.repeat(["a", "b", "c"], [60, 30, 10])
    train, division = np.arange(0, 100, 2), Division(0.8, 0.2, seed=1)
    kept, held_out = hold_out(train, labels, 0.2, division)
    assert sorted([*kept, *held_out]) == sorted(train) and len(held_out) == 10
    assert [int((labels[held_out] == name).sum()) for name in "abc"] == [6, 3, 1]
    assert [len(part) for part in hold_out(train, labels, 0.0, division)] == [50, 0]
    np.testing.assert_array_equal(hold_out(train, labels, 0.2, division)[1], held_out)
    with pytest.raises(
        SplitError,
        match=r"dataset.calibration_ratio: 0.02 of 50 training events gives 1 for 3 classes",
    ):
        hold_out(train, labels, 0.02, division)


def test_calibration_by_day_shares_no_day_with_training():
    rng = np.random.default_rng(0)
    labels, days = (
        np.array(["a", "b"])[rng.integers(0, 2, 200)],
        np.array([f"2020-01-{d:02d}" for d in rng.integers(1, 30, 200)]),
    )
    kept, held_out = hold_out(np.arange(200), labels, 0.2, Division(0.8, 0.2, 1, "by_day", days))
    assert len(held_out) > 20 and not set(days[kept]) & set(days[held_out])


@pytest.mark.parametrize("strategy", ["nested", "by_day"])
def test_another_draw_of_labels_keeps_the_test_events(labelled, strategy):
    labels, days = labelled
    first, test = classifier_split(labels, Division(0.1, 0.2, 0, strategy, days))
    same, _ = classifier_split(labels, Division(0.1, 0.2, 0, strategy, days, draw_seed=0))
    other, other_test = classifier_split(labels, Division(0.1, 0.2, 0, strategy, days, draw_seed=7))
    assert np.array_equal(first, same) and np.array_equal(test, other_test)
    assert len(other) == len(first) and not np.array_equal(first, other)
    assert not np.intersect1d(other, test).size


def test_events_per_class(labelled):
    labels, _ = labelled
    per_class = {n: Division(0.8, 0.2, 0, n_per_class=n) for n in (3, 10, 10**6)}
    drawn = {n: classifier_split(labels, division)[0] for n, division in per_class.items()}
    everything = classifier_split(labels, Division(0.8, 0.2, 0))[0]
    for n, train in drawn.items():
        found, available = (
            dict(zip(*np.unique(labels[events], return_counts=True)))
            for events in (train, everything)
        )
        assert found == {name: min(n, count) for name, count in available.items()}
    assert set(drawn[3]) < set(drawn[10]) < set(drawn[10**6]) == set(everything)
    other = classifier_split(labels, Division(0.8, 0.2, 0, draw_seed=1, n_per_class=3))[0]
    assert set(other) != set(drawn[3])


def sites(n=300):
    """Events of three classes at six sites, in the order of time, every tenth unlabelled."""
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])[rng.integers(0, 3, n)].astype("<U9")
    labels[::10] = "Unlabeled"
    names = np.array([f"site{number}" for number in rng.integers(0, 6, n)])
    start = np.datetime64("2020-01-01") + np.arange(n).astype("timedelta64[h]")
    return labels, names, np.array([f"{time}:00:00.000000Z" for time in start])


def test_by_group_shares_no_group_not_even_with_pretraining_and_calibration():
    labels, groups, _ = sites()
    for seed in range(5):
        division = Division(0.8, 0.2, seed, "by_group", groups)
        train, test = classifier_split(labels, division)
        assert len(set(groups[test])) == 1 and set(labels[test]) == {"a", "b", "c"}
        assert not set(groups[train]) & set(groups[test])
        kept, held_out = hold_out(train, labels, 0.2, division)
        assert not set(groups[kept]) & set(groups[held_out]) and len(kept) + len(held_out) > 200
        seen = np.concatenate(pretraining_split(labels, division))
        assert not set(groups[seen]) & set(groups[test]) and "Unlabeled" in labels[seen]
    with pytest.raises(SplitError, match="1 groups cannot be divided"):
        split_events(labels, 0.8, 0.2, 0, "by_group", np.full(300, "one"))
    with pytest.raises(SplitError, match="by_group needs the group of every event"):
        split_events(labels, 0.8, 0.2, 0, "by_group", np.full(300, ""))


def test_by_time_trains_on_the_past_only():
    labels, _, times = sites()
    order = np.random.default_rng(1).permutation(300)
    labels, times = labels[order], times[order]
    train, test = classifier_split(labels, Division(0.8, 0.2, 0, "by_time", times))
    assert max(times[train]) < min(times[test]) and len(test) == 54
    kept, held_out = hold_out(train, labels, 0.2, Division(0.8, 0.2, 0, "by_time", times))
    assert max(times[kept]) < min(times[held_out]) and len(held_out) > 40
    monitored, watched = pretraining_split(labels, Division(0.8, 0.2, 0, "by_time", times))
    assert max(times[monitored]) < min(times[watched]) <= max(times[watched]) < min(times[test])
    few, same_test = classifier_split(labels, Division(0.1, 0.2, 0, "by_time", times))
    assert set(few) < set(train) and np.array_equal(test, same_test)
    with pytest.raises(SplitError, match="all events of c are from 2020-01-.* on, in the test set"):
        split_events(np.where(times > "2020-01-12", "c", "a"), 0.8, 0.2, 0, "by_time", times)
    with pytest.raises(SplitError, match="by_time needs the start time of every event"):
        split_events(labels, 0.8, 0.2, 0, "by_time", np.where(labels == "a", "", times))


def test_given_sets_are_taken_as_they_are():
    labels, _, _ = sites()
    given = np.random.default_rng(0).choice(["train", "dev", "test", ""], 300)
    train, test = classifier_split(labels, Division(0.8, 0.2, 0, "given", given))
    labelled = labels != "Unlabeled"
    assert set(test) == set(np.flatnonzero(labelled & (given == "test")))
    assert set(train) == set(np.flatnonzero(labelled & (given == "train")))
    half = classifier_split(labels, Division(0.4, 0.2, 0, "given", given))[0]
    assert set(half) < set(train) and len(half) == round(len(train) / 2)
    seen = np.concatenate(pretraining_split(labels, Division(0.8, 0.2, 0, "given", given)))
    assert set(given[seen]) == {"train", ""}
    with pytest.raises(SplitError, match="should have train and test; found dev, train"):
        split_events(np.array(["a", "b"] * 6), 0.6, 0.4, 0, "given", np.array(["dev", "train"] * 6))


def test_groups_come_from_a_column_or_a_part_of_it(tmp_path):
    archive = EventArchive(write_archive(tmp_path / "archive"))
    part = partial(groups_of_events, archive, "by_group")
    assert part("magnitude").tolist() == ["0", "1"] and part().tolist() == ["event_0", "event_1"]
    assert part(pattern=r"_(\d)").tolist() == ["0", "1"]
    assert part(pattern="event").tolist() == ["event", "event"]
    with pytest.raises(SplitError, match="group_column: there is no column site; .* trace_name,"):
        part("site")
    with pytest.raises(SplitError, match="group_pattern: _1 does not match 'event_0'"):
        part(pattern="_1")
    assert groups_of_events(archive, "by_time")[0] == "2020-01-01T00:00:00.000000Z"
    with pytest.raises(SplitError, match="split given: there is no column split"):
        groups_of_events(archive, "given")


def test_pretraining_needs_no_labels_that_a_classifier_needs():
    """One labelled class, a class of one event, one event that has no label."""
    for labels in (
        ["Unlabeled"] * 20 + ["a"] * 9,
        ["Unlabeled"] * 20 + ["a"] * 9 + ["b"],
        ["a"] * 20 + ["b"] * 20 + ["Unlabeled"],
        ["a"] * 20 + ["b"] * 2 + ["Unlabeled"] * 9,  # one of b is for testing
    ):
        train, held_out = pretraining_split(np.array(labels), Division(0.8, 0.2, 0))
        assert len(train) >= 0.6 * len(labels) and len(held_out) >= 4
        assert not set(train) & set(held_out)


def test_a_given_split_has_training_events_of_the_classes():
    labels = np.array(["a", "b"] * 20)
    groups = np.array(["train"] * 20 + ["test"] * 20)
    message = "train_data_ratio: found 0.05, which is 1 of the dataset's 20 training events, for 2"
    with pytest.raises(SplitError, match=message):
        split_events(labels, 0.05, 0.05, 0, "given", groups)


def test_a_second_division_that_fails_is_that_of_the_calibration():
    labels = np.array(["a"] * 8 + ["b"] * 8)
    groups = np.array(["2020-01-01T00:00:00Z"] * 8 + ["2020-01-02T00:00:00Z"] * 8)
    with pytest.raises(
        SplitError, match="calibration_ratio: the training events cannot be divided"
    ):
        hold_out(np.arange(16), labels, 0.25, Division(0.8, 0.2, 0, "by_time", groups))
