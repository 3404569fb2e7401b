"""Split the events of an archive into training and test sets. [L22]

Strategies: ``nested`` (default) has the same test set for every training ratio, and smaller
training sets are subsets of larger ones; ``random`` is scikit-learn's stratified split, as in the
paper; ``by_day`` has no recording day in both sets, ``by_group`` no group (a station, a site);
``by_time`` trains on the past and tests on the future; ``given`` is the dataset's own division.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from preprocessing.channels import UNLABELED
from preprocessing.event_archive import EventArchive
from utils.errors import UserError

STRATEGIES = ("nested", "random", "by_day", "by_group", "by_time", "given")
Split = tuple[np.ndarray, np.ndarray]
GIVEN_COLUMN = "split"  # of SeisBench datasets: train, dev or test
GIVEN_OTHERS = ("dev", "test")


class SplitError(UserError):
    """The events cannot be split as configured."""


@dataclass(frozen=True)
class Division:
    """How events are divided into training and test events.

    Of N events, ``floor(train_ratio * N)`` train and ``ceil(test_ratio * N)`` test, or about as
    many where days or groups stay whole. With ``given``, train_ratio / (1 - test_ratio) is the
    share of the dataset's own training events that is used.
    """

    train_ratio: float
    test_ratio: float
    seed: int
    strategy: str = "nested"  # one of STRATEGIES
    groups: np.ndarray | None = None  # (N,) strings: what the strategy divides by, of each event
    draw_seed: int | None = None  # draws the training events, not for random; None: ``seed``
    n_per_class: int | None = None  # at most so many training events of a class; None: all

    @property
    def seed_of_draw(self) -> int:
        """The seed by which training events are drawn."""
        return self.seed if self.draw_seed is None else self.draw_seed

    def among(self, events: np.ndarray) -> "Division":
        """Return the same division, with the groups of these events only."""
        return self if self.groups is None else replace(self, groups=self.groups[events])


def split_events(
    labels: ArrayLike,
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    days: ArrayLike | None = None,
) -> Split:
    """Return the indices of training and test events, stratified by label.

    ``labels`` and ``days`` are (N,) strings; ``days`` are the ``groups`` of ``Division``, which
    also explains the other arguments. Raises ``SplitError`` for invalid ratios and for too few
    events.
    """
    groups = None if days is None else np.asarray(days)
    return _split(np.asarray(labels), Division(train_ratio, test_ratio, seed, strategy, groups))


def classifier_split(labels: np.ndarray, division: Division) -> Split:
    """Split the labelled events of an archive; return indices into the whole archive.

    ``labels`` (N,) are those of all events. Raises ``SplitError`` for invalid ratios, too few
    events, and fewer than two classes.
    """
    labelled = np.flatnonzero(labels != UNLABELED)
    n_classes = len(set(labels[labelled].tolist()))
    if n_classes < 2:
        raise SplitError(
            f"the archive has {n_classes} classes of labelled events; "
            "a classifier needs at least two"
        )
    train, test = _split(labels[labelled], division.among(labelled))
    if division.n_per_class is not None:
        train = _first_of_each_class(
            train, labels[labelled], division.n_per_class, division.seed_of_draw
        )
    return labelled[train], labelled[test]


def hold_out(train: np.ndarray, labels: np.ndarray, ratio: float, division: Division) -> Split:
    """Split the training events into training and calibration events, stratified by label.

    ``train`` has indices into ``labels``. ``ratio`` 0 gives no calibration events. With ``by_day``
    and ``by_group`` no day or group is in both sets; with ``by_time`` the latest events are held
    out. Raises ``SplitError`` if there are too few events to have every class in both sets.
    """
    if not ratio:
        return train, train[:0]
    classes, counts = np.unique(labels[train], return_counts=True)
    n_held_out = int(np.ceil(ratio * len(train)))
    if counts.min() < 2 or min(n_held_out, len(train) - n_held_out) < len(classes):
        raise SplitError(
            f"dataset.calibration_ratio: {ratio} of {len(train)} training events gives "
            f"{n_held_out} for {len(classes)} classes, of which {classes[counts.argmin()]} has "
            f"{counts.min()}; change the ratio, or set it to 0 for no calibration"
        )
    own = division.among(train)
    try:
        if own.strategy in ("by_day", "by_group"):
            kept, held_out = _whole_groups(labels[train], own, ratio)
        elif own.strategy == "by_time":
            kept, held_out = _past_and_future(labels[train], own.groups, ratio)
        else:
            sizes = len(train) - n_held_out, n_held_out
            kept, held_out = _random_split(labels[train], *sizes, own.seed)
    except SplitError as error:
        raise SplitError(
            f"dataset.calibration_ratio: the training events cannot be divided {own.strategy} once "
            "more for calibration; change it, or set it to 0 for no calibration"
        ) from error
    return train[kept], train[held_out]


def pretraining_split(
    labels: np.ndarray, division: Division, exclude_test_events: bool = True
) -> Split:
    """Split all events for pretraining; ``Unlabeled`` counts as a class, and no label is needed.

    ``exclude_test_events`` leaves out the test events of a classifier with the same test ratio,
    seed and strategy, and what ``events_away_from`` leaves out with them, so that pretraining uses
    them neither for gradients nor for monitoring. There are none where no classifier can be trained
    yet: one class, or a class of one event. Raises ``SplitError``.
    """
    kept = np.arange(len(labels))
    _, counts = np.unique(labels[labels != UNLABELED], return_counts=True)
    if exclude_test_events and len(counts) > 1 and counts.min() > 1:
        all_others = replace(division, train_ratio=1 - division.test_ratio)
        _, excluded = classifier_split(labels, all_others)
        kept = events_away_from(excluded, len(labels), division)
    if division.strategy == "given":  # the events that are left have no test set of their own
        division = replace(division, strategy="nested")
    train, test = _split(_without_single_events(labels[kept]), division.among(kept))
    return kept[train], kept[test]


def events_away_from(held_out: np.ndarray, n_events: int, division: Division) -> np.ndarray:
    """Return the events that are not held out, nor in the day, group or future of one that is.

    ``held_out`` are indices of some of the ``n_events`` of an archive. With ``given``, no event of
    another set than train is returned.
    """
    groups, strategy = division.groups, division.strategy
    if groups is not None and strategy in ("by_day", "by_group"):
        held_out = np.flatnonzero(np.isin(groups, groups[held_out]))
    elif groups is not None and strategy == "given":
        others = np.flatnonzero(np.isin(np.char.lower(groups), GIVEN_OTHERS))
        held_out = np.union1d(held_out, others)
    elif groups is not None and strategy == "by_time":
        held_out = np.flatnonzero(groups >= min(groups[held_out].tolist()))
    return np.setdiff1d(np.arange(n_events), held_out)


def _split(labels: np.ndarray, division: Division) -> Split:
    """Return the indices of training and test events of these labels (N,)."""
    _require_divisible(labels, division)
    test_ratio, groups = division.test_ratio, division.groups
    if division.strategy == "random":
        return _random_split(labels, division.train_ratio, test_ratio, division.seed)
    n_train = int(np.floor(division.train_ratio * len(labels)))
    if division.strategy == "given":
        pool, test = _as_given(groups)
        n_train = _share_of_given(pool, labels, division)
    elif division.strategy == "by_time":
        pool, test = _past_and_future(labels, groups, test_ratio)
    elif division.strategy in ("by_day", "by_group"):
        pool, test = _whole_groups(labels, division, test_ratio)
    else:
        pool, test = _random_split(labels, 1 - test_ratio, test_ratio, division.seed)
    return _nested_draw(pool, labels, min(n_train, len(pool)), division.seed_of_draw), test


def _share_of_given(pool: np.ndarray, labels: np.ndarray, division: Division) -> int:
    """Return how many of the dataset's own training events ``pool`` are used."""
    n_train = round(division.train_ratio / (1 - division.test_ratio) * len(pool))
    n_classes = len(np.unique(labels[pool]))
    if n_train < n_classes:
        raise SplitError(
            f"dataset.train_data_ratio: found {division.train_ratio:g}, which is {n_train} of the "
            f"dataset's {len(pool)} training events, for {n_classes} classes; raise it"
        )
    return n_train


def _without_single_events(labels: np.ndarray) -> np.ndarray:
    """Return the labels; where a class has one event, that of the largest class instead."""
    classes, counts = np.unique(labels, return_counts=True)
    return np.where(np.isin(labels, classes[counts < 2]), classes[counts.argmax()], labels)


def _require_divisible(labels: np.ndarray, division: Division) -> None:
    """Raise ``SplitError`` for an unknown strategy, invalid ratios, or too few events."""
    train_ratio, test_ratio = division.train_ratio, division.test_ratio
    if division.strategy not in STRATEGIES:
        allowed = ", ".join(STRATEGIES)
        raise SplitError(f"dataset.split: found {division.strategy!r}, allowed are {allowed}")
    if not (0 < train_ratio < 1 and 0 < test_ratio < 1 and train_ratio + test_ratio <= 1 + 1e-9):
        raise SplitError(
            f"train ratio {train_ratio} and test ratio {test_ratio} must be between 0 and 1, "
            "and their sum at most 1"
        )
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise SplitError(
            f"class {classes[counts.argmin()]} has one event; every class needs at least two, "
            "one for training and one for testing: label more, or move it to Unlabeled"
        )
    n_train, n_test = int(train_ratio * len(labels)), int(np.ceil(test_ratio * len(labels)))
    for side, n in (("train", n_train), ("test", n_test)):
        if n < len(classes):
            raise SplitError(
                f"dataset.{side}_data_ratio gives {n} events for {len(classes)} classes; "
                "increase it or add events"
            )


def _random_split(
    labels: np.ndarray, train_size: float | int, test_size: float | int, seed: int
) -> Split:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)),
        train_size=train_size,
        test_size=test_size,
        stratify=labels,
        random_state=seed,
    )
    return train, test


def _nested_draw(pool: np.ndarray, labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw ``n`` events of ``pool``, stratified; smaller draws are subsets of larger ones.

    Events are shuffled and ranked by (rank within their class) / (size of their class). The first
    event of every class has rank 0, so that small draws have all classes. Keeps the pool's order.
    """
    shuffled = np.random.default_rng(seed).permutation(pool)
    rank = np.empty(len(pool))
    for name in np.unique(labels[pool]):
        members = np.flatnonzero(labels[shuffled] == name)
        rank[members] = np.arange(len(members)) / len(members)
    chosen = shuffled[np.argsort(rank, kind="stable")[:n]]
    return pool[np.isin(pool, chosen)]


def _first_of_each_class(
    events: np.ndarray, labels: np.ndarray, n_per_class: int, seed: int
) -> np.ndarray:
    """Return the first events of each class in a random order; keeps the order of ``events``."""
    shuffled = np.random.default_rng(seed).permutation(events)
    chosen = [
        shuffled[labels[shuffled] == name][:n_per_class] for name in np.unique(labels[events])
    ]
    return events[np.isin(events, np.concatenate(chosen))]


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


def _whole_groups(labels: np.ndarray, division: Division, test_ratio: float) -> Split:
    """Put random groups into the test set unless a class would exceed its number of test events.

    If that takes no group, the test set is the one group closest to the wanted numbers that leaves
    training events of every class.
    """
    groups, strategy = division.groups, division.strategy
    what = "recording day" if strategy == "by_day" else "group"
    if groups is None or not all(len(group) for group in groups):
        raise SplitError(f"dataset.split {strategy} needs the {what} of every event")
    classes, label_ids = np.unique(labels, return_inverse=True)
    names, group_ids = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=int)
    np.add.at(counts, (group_ids, label_ids), 1)
    wanted = np.rint(test_ratio * counts.sum(0)).astype(int)
    missing, in_test = wanted.copy(), np.zeros(len(names), dtype=bool)
    order = np.random.default_rng(division.seed).permutation(len(names))
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


def _past_and_future(labels: np.ndarray, times: np.ndarray | None, test_ratio: float) -> Split:
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


def _as_given(given: np.ndarray | None) -> Split:
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
