"""Test sets of whole recording days or groups, of the latest events, or as a dataset gives them."""

import re

import numpy as np

from preprocessing.event_archive import EventArchive
from utils.errors import UserError

Split = tuple[np.ndarray, np.ndarray]
GIVEN_COLUMN = "split"  # of SeisBench datasets; its values are train, and
GIVEN_OTHERS = ("dev", "test")


class SplitError(UserError):
    """The events cannot be split as configured."""


def groups_of_events(
    archive: EventArchive, strategy: str, column: str | None = None, pattern: str | None = None
) -> np.ndarray:
    """Return what a strategy divides by, (N,) strings.

    ``by_time``: the start times. ``given``: the column ``split``. ``by_group``: the values of
    ``column`` (default: the names of the events), or what the parentheses of the regular expression
    ``pattern`` match in them. Otherwise the recording days. Raises ``SplitError``.
    """
    if strategy == "by_time":
        return archive.metadata["trace_start_time"]
    if strategy == "given":
        return _column(archive, "dataset.split given", GIVEN_COLUMN)
    if strategy == "by_group":
        values = _column(archive, "dataset.group_column", column or "trace_name")
        return np.array([_part(str(value), pattern) for value in values])
    return archive.days


def _column(archive: EventArchive, key: str, column: str) -> np.ndarray:
    if column not in archive.metadata:
        raise SplitError(
            f"{key}: there is no column {column}; the events have {', '.join(archive.metadata)}"
        )
    return archive.metadata[column]


def _part(value: str, pattern: str | None) -> str:
    """Return what the parentheses of ``pattern`` match, or the whole match without them."""
    if pattern is None:
        return value
    found = re.search(pattern, value)
    if not found:
        raise SplitError(f"dataset.group_pattern: {pattern} does not match {value!r}")
    return found[1] if found.re.groups else found[0]


def whole_groups(
    labels: np.ndarray, groups: np.ndarray | None, test_ratio: float, seed: int, strategy: str
) -> Split:
    """Put random groups into the test set unless a class would exceed its number of test events.

    If that takes no group, the test set is the one group closest to the wanted numbers that leaves
    training events of every class.
    """
    what = "recording day" if strategy == "by_day" else "group"
    if groups is None or not all(len(group) for group in groups):
        raise SplitError(f"dataset.split {strategy} needs the {what} of every event")
    classes, label_ids = np.unique(labels, return_inverse=True)
    names, group_ids = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=int)
    np.add.at(counts, (group_ids, label_ids), 1)
    wanted = np.rint(test_ratio * counts.sum(0)).astype(int)
    missing, in_test = wanted.copy(), np.zeros(len(names), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(names))
    for group in order:
        in_test[group] = (counts[group] <= missing).all()
        missing -= counts[group] * in_test[group]
    if not in_test.any():
        away = np.abs(counts - wanted).sum(1) + np.where(
            (counts < counts.sum(0)).all(1), 0, len(labels) + 1
        )
        closest = order[away[order].argmin()]
        in_test[closest] = away[closest] <= len(labels)
    if not in_test.any() or in_test.all():
        raise SplitError(
            f"dataset.split {strategy}: {len(names)} {what}s cannot be divided; use nested"
        )
    return np.flatnonzero(~in_test[group_ids]), np.flatnonzero(in_test[group_ids])


def past_and_future(labels: np.ndarray, times: np.ndarray | None, test_ratio: float) -> Split:
    """Split by start time (ISO 8601, UTC): the latest events are the test set.

    Events that start together stay together. Raises ``SplitError`` if a start time is missing or a
    class has no event in the past.
    """
    if times is None or not all(len(time) for time in times):
        raise SplitError("dataset.split by_time needs the start time of every event")
    ordered = np.sort(times)
    cut = ordered[len(times) - int(np.ceil(test_ratio * len(times)))]
    past, future = np.flatnonzero(times < cut), np.flatnonzero(times >= cut)
    unseen = set(labels.tolist()) - set(labels[past].tolist())
    if unseen:
        raise SplitError(
            f"dataset.split by_time: all events of {', '.join(sorted(unseen))} are from {cut} on, "
            "in the test set; lower dataset.test_data_ratio, or use another split"
        )
    return past, future


def as_given(given: np.ndarray | None) -> Split:
    """Return the events whose set is called train, and those whose set is called test.

    Others (dev) are in neither. Raises ``SplitError`` if there are none of one of them.
    """
    names = np.char.lower(np.array([] if given is None else given, dtype=str))
    train, test = np.flatnonzero(names == "train"), np.flatnonzero(names == "test")
    if not (train.size and test.size):
        found = ", ".join(sorted(set(names.tolist()))) or "nothing"
        raise SplitError(
            f"dataset.split given: column {GIVEN_COLUMN} should have train and test; found {found}"
        )
    return train, test
