"""Who trains, who tests: three ways to divide the events of an archive. [L22, method in README]

``nested`` (default) keeps one test set whatever the training ratio and draws small training sets from within larger ones;
``random`` is scikit-learn's stratified split as in the paper; ``by_day`` puts no recording day on both sides.
"""

from collections.abc import Sequence

import numpy as np

from preprocessing.limits import UNLABELED
from utils.errors import UserError

STRATEGIES = ("nested", "random", "by_day")
Split = tuple[np.ndarray, np.ndarray]


class SplitError(UserError):
    """Say why the events cannot be divided as asked."""


def split_events(
    labels: Sequence[str],
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    days: Sequence[str] | None = None,
) -> Split:
    """Divide events into training and test indices, stratified by label.

    Sizes are ``floor(train_ratio * N)`` and ``ceil(test_ratio * N)`` (``by_day``: as near as whole days allow). ``days``
    names the recording day of each event. Raises ``SplitError`` for ratios or classes that cannot be divided.
    """
    labels = np.asarray(labels)
    _require_divisible(labels, train_ratio, test_ratio, strategy, days)
    if strategy == "random":
        return _random_split(labels, train_ratio, test_ratio, seed)
    if strategy == "nested":
        pool, test = _random_split(labels, 1 - test_ratio, test_ratio, seed)
    else:
        pool, test = _by_day(labels, np.asarray(days), test_ratio, seed)
    n_train = min(int(np.floor(train_ratio * len(labels))), len(pool))
    return _nested_draw(pool, labels, n_train, seed), test


def classifier_split(
    labels: np.ndarray,
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    days: np.ndarray | None = None,
) -> Split:
    """Divide the labelled events of an archive; returns indices into the whole archive."""
    labelled = np.flatnonzero(labels != UNLABELED)
    n_classes = len(set(labels[labelled].tolist()))
    if n_classes < 2:
        raise SplitError(
            f"the archive has {n_classes} classes of labelled events; a classifier needs at least two"
        )
    train, test = split_events(
        labels[labelled],
        train_ratio,
        test_ratio,
        seed,
        strategy,
        None if days is None else days[labelled],
    )
    return labelled[train], labelled[test]


def hold_out(
    train: np.ndarray,
    labels: np.ndarray,
    ratio: float,
    seed: int,
    strategy: str = "nested",
    days: np.ndarray | None = None,
) -> Split:
    """Divide training events into those that train and those that calibrate, stratified; ``ratio`` 0 holds out none.

    With ``by_day`` no recording day is on both sides.

    Raises ``SplitError`` for too few events to have each class on both sides.
    """
    if not ratio:
        return train, train[:0]
    classes, counts = np.unique(labels[train], return_counts=True)
    n_held_out = int(np.ceil(ratio * len(train)))
    if counts.min() < 2 or min(n_held_out, len(train) - n_held_out) < len(classes):
        raise SplitError(
            f"dataset.calibration_ratio: {ratio} of {len(train)} training events gives {n_held_out} for "
            f"{len(classes)} classes, of which {classes[counts.argmin()]} has {counts.min()}; change it, or 0 for none"
        )
    if strategy == "by_day":
        kept, held_out = _by_day(labels[train], days[train], ratio, seed)
        return train[kept], train[held_out]
    kept, held_out = _random_split(labels[train], len(train) - n_held_out, n_held_out, seed)
    return train[kept], train[held_out]


def pretraining_split(
    labels: np.ndarray,
    train_ratio: float,
    test_ratio: float,
    seed: int,
    strategy: str = "nested",
    days: np.ndarray | None = None,
    exclude_test_events: bool = True,
) -> Split:
    """Divide all events, ``Unlabeled`` being one more class.

    ``exclude_test_events`` first leaves out the test events that a classifier with the same test ratio, seed and strategy
    will meet (with ``by_day`` all events of their days), so neither gradients nor monitors of pretraining see them.
    """
    kept = np.arange(len(labels))
    if exclude_test_events and (labels != UNLABELED).any():
        _, excluded = classifier_split(labels, 1 - test_ratio, test_ratio, seed, strategy, days)
        if strategy == "by_day":
            excluded = np.flatnonzero(np.isin(days, days[excluded]))
        kept = np.setdiff1d(kept, excluded)
    kept_days = None if days is None else days[kept]
    train, test = split_events(labels[kept], train_ratio, test_ratio, seed, strategy, kept_days)
    return kept[train], kept[test]


def _require_divisible(
    labels: np.ndarray, train_ratio: float, test_ratio: float, strategy: str, days
) -> None:
    if strategy not in STRATEGIES:
        raise SplitError(f"dataset.split: found {strategy!r}, allowed are {', '.join(STRATEGIES)}")
    if not (0 < train_ratio < 1 and 0 < test_ratio < 1 and train_ratio + test_ratio <= 1 + 1e-9):
        raise SplitError(
            f"train ratio {train_ratio} and test ratio {test_ratio} must lie between 0 and 1 and not exceed 1 together"
        )
    if strategy == "by_day" and (days is None or not all(len(day) for day in days)):
        raise SplitError("dataset.split by_day needs the recording day of every event")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise SplitError(
            f"class {classes[counts.argmin()]} has one event; every class needs at least two, one to train and one to test on"
        )
    n_train, n_test = int(train_ratio * len(labels)), int(np.ceil(test_ratio * len(labels)))
    for side, n in (("train", n_train), ("test", n_test)):
        if n < len(classes):
            raise SplitError(
                f"dataset.{side}_data_ratio gives {n} events for {len(classes)} classes; raise it or add events"
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
    """Draw ``n`` events, stratified, such that a smaller draw lies within every larger one; keeps the order of ``pool``.

    Events are ranked by their place within their class, as a fraction of it; the first of each class comes first, so no
    class is missing from a small draw.
    """
    shuffled = np.random.default_rng(seed).permutation(pool)
    place = np.empty(len(pool))
    for name in np.unique(labels[pool]):
        members = np.flatnonzero(labels[shuffled] == name)
        place[members] = np.arange(len(members)) / len(members)
    chosen = shuffled[np.argsort(place, kind="stable")[:n]]
    return pool[np.isin(pool, chosen)]


def _by_day(labels: np.ndarray, days: np.ndarray, test_ratio: float, seed: int) -> Split:
    """Give random whole days to the test side as long as no class gets more than its share."""
    classes, label_ids = np.unique(labels, return_inverse=True)
    names, day_ids = np.unique(days, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=int)
    np.add.at(counts, (day_ids, label_ids), 1)
    missing = np.rint(test_ratio * counts.sum(0)).astype(int)
    in_test = np.zeros(len(names), dtype=bool)
    for day in np.random.default_rng(seed).permutation(len(names)):
        in_test[day] = (counts[day] <= missing).all()
        missing -= counts[day] * in_test[day]
    if not in_test.any() or in_test.all():
        raise SplitError(
            f"dataset.split by_day: {len(names)} recording days cannot be divided; use nested"
        )
    return np.flatnonzero(~in_test[day_ids]), np.flatnonzero(in_test[day_ids])
