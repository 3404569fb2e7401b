"""Split the events of an archive into training and test sets. [L22]

Strategies: ``nested`` (default) has the same test set for every training ratio, and smaller
training sets are subsets of larger ones; ``random`` is scikit-learn's stratified split, as in the
paper; ``by_day`` has no recording day in both sets, ``by_group`` no group (a station, a site);
``by_time`` trains on the past and tests on the future; ``given`` is the dataset's own division.
"""

import re

import numpy as np
from numpy.typing import ArrayLike

from preprocessing.channels import UNLABELED
from preprocessing.event_archive import EventArchive
from utils.errors import UserError

STRATEGIES = ("nested", "random", "by_day", "by_group", "by_time", "given")
Split = tuple[np.ndarray, np.ndarray]
GIVEN_COLUMN = "split"  # of SeisBench datasets; its values are train, and
GIVEN_OTHERS = ("dev", "test")


def split_events(
    labels: ArrayLike,
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    days: ArrayLike | None = None,
    draw_seed: int | None = None,
) -> Split:
    """Return the indices of training and test events, stratified by label.

    ``labels`` and ``days`` are (N,) strings; ``days`` has the UTC day of each event, or what else
    the strategy divides by (``groups_of_events``). The sets have
    ``floor(train_ratio * N)`` and ``ceil(test_ratio * N)`` events, or about as many, where days or
    groups stay whole; of the training events of ``given``, the share train_ratio / (1 - test_ratio)
    is used. ``draw_seed`` (default ``seed``) changes the training events and not the test events;
    ``random`` does not use it. Raises ``SplitError`` for invalid ratios and for too few events.
    """
    classes = np.asarray(labels)
    groups = None if days is None else np.asarray(days)
    _require_divisible(classes, train_ratio, test_ratio, strategy)
    if strategy == "random":
        return _random_split(classes, train_ratio, test_ratio, seed)
    n_train = int(np.floor(train_ratio * len(classes)))
    if strategy == "given":
        pool, test = as_given(groups)
        n_train = round(train_ratio / (1 - test_ratio) * len(pool))
        n_classes = len(np.unique(classes[pool]))
        if n_train < n_classes:
            raise SplitError(
                f"dataset.train_data_ratio: found {train_ratio:g}, which is {n_train} of the "
                f"dataset's {len(pool)} training events, for {n_classes} classes; raise it"
            )
    elif strategy == "by_time":
        pool, test = past_and_future(classes, groups, test_ratio)
    elif strategy in ("by_day", "by_group"):
        pool, test = whole_groups(classes, groups, test_ratio, seed, strategy)
    else:
        pool, test = _random_split(classes, 1 - test_ratio, test_ratio, seed)
    draw_seed = seed if draw_seed is None else draw_seed
    return _nested_draw(pool, classes, min(n_train, len(pool)), draw_seed), test


def classifier_split(
    labels: np.ndarray,
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    groups: np.ndarray | None = None,
    draw_seed: int | None = None,
    n_per_class: int | None = None,
) -> Split:
    """Split the labelled events as ``split_events``; return indices into the whole archive.

    ``n_per_class`` keeps so many training events of each class, or all of a class that has fewer;
    smaller numbers give subsets of larger ones. Raises ``SplitError``, also for fewer than two
    classes.
    """
    labelled = np.flatnonzero(labels != UNLABELED)
    n_classes = len(set(labels[labelled].tolist()))
    if n_classes < 2:
        raise SplitError(
            f"the archive has {n_classes} classes of labelled events; "
            "a classifier needs at least two"
        )
    own_groups = _of(groups, labelled)
    train, test = split_events(
        labels[labelled], train_ratio, test_ratio, seed, strategy, own_groups, draw_seed
    )
    if n_per_class is not None:
        draw_seed = seed if draw_seed is None else draw_seed
        train = _first_of_each_class(train, labels[labelled], n_per_class, draw_seed)
    return labelled[train], labelled[test]


def hold_out(
    train: np.ndarray,
    labels: np.ndarray,
    ratio: float,
    seed: int,
    strategy: str = "nested",
    groups: np.ndarray | None = None,
) -> Split:
    """Split the training events into training and calibration events, stratified by label.

    ``train`` has indices into ``labels``. ``ratio`` 0 gives no calibration events. With ``by_day``
    and ``by_group`` no day or group is in both sets; with ``by_time`` the latest events are held
    out. Raises ``SplitError`` if there are too few events to have
    every class in both sets.
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
    try:
        if strategy in ("by_day", "by_group"):
            kept, held_out = whole_groups(labels[train], _of(groups, train), ratio, seed, strategy)
        elif strategy == "by_time":
            kept, held_out = past_and_future(labels[train], _of(groups, train), ratio)
        else:
            kept, held_out = _random_split(labels[train], len(train) - n_held_out, n_held_out, seed)
    except SplitError as error:
        raise SplitError(
            f"dataset.calibration_ratio: the training events cannot be divided {strategy} once "
            "more for calibration; change it, or set it to 0 for no calibration"
        ) from error
    return train[kept], train[held_out]


def pretraining_split(
    labels: np.ndarray,
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    groups: np.ndarray | None = None,
    exclude_test_events: bool = True,
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
        _, excluded = classifier_split(labels, 1 - test_ratio, test_ratio, seed, strategy, groups)
        kept = events_away_from(excluded, len(labels), strategy, groups)
    if strategy == "given":  # the events that are left have no test set of their own
        strategy = "nested"
    own_groups, strata = _of(groups, kept), _without_single_events(labels[kept])
    train, test = split_events(strata, train_ratio, test_ratio, seed, strategy, own_groups)
    return kept[train], kept[test]


def events_away_from(
    held_out: np.ndarray, n_events: int, strategy: str, groups: np.ndarray | None
) -> np.ndarray:
    """Return the events that are not held out, nor in the day, group or future of one that is.

    With ``given``, no event of another set than train.
    """
    if groups is not None and strategy in ("by_day", "by_group"):
        held_out = np.flatnonzero(np.isin(groups, groups[held_out]))
    elif groups is not None and strategy == "given":
        others = np.flatnonzero(np.isin(np.char.lower(groups), GIVEN_OTHERS))
        held_out = np.union1d(held_out, others)
    elif groups is not None and strategy == "by_time":
        held_out = np.flatnonzero(groups >= min(groups[held_out].tolist()))
    return np.setdiff1d(np.arange(n_events), held_out)


def _without_single_events(labels: np.ndarray) -> np.ndarray:
    """Return the labels; where a class has one event, that of the largest class instead."""
    classes, counts = np.unique(labels, return_counts=True)
    return np.where(np.isin(labels, classes[counts < 2]), classes[counts.argmax()], labels)


def _of(groups: np.ndarray | None, events: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[events]


def _require_divisible(
    labels: np.ndarray, train_ratio: float, test_ratio: float, strategy: str
) -> None:
    """Raise ``SplitError`` for an unknown strategy, invalid ratios, or too few events."""
    if strategy not in STRATEGIES:
        raise SplitError(f"dataset.split: found {strategy!r}, allowed are {', '.join(STRATEGIES)}")
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
