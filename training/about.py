"""What a checkpoint says about its training: events, sensors, date, versions, metrics."""

import time
from collections import Counter

import numpy as np

from models.event_classifier import EventClassifier
from preprocessing.data_module import EventDataModule
from training.runs import Run, package_versions


def about_training(run: Run, data: EventDataModule) -> dict:
    """Return what is known of a classifier's training when it starts, in types that JSON has."""
    archive, labels = data.archive, data.archive.labels
    n_sensors = archive.live.sum(1)[data.train_events]
    days = sorted(day for day in archive.days[data.train_events].tolist() if day)
    return {
        "run": run.dir.name,
        "source": run.config.dataset.source,
        "archive": str(archive.archive_dir),
        "fingerprint": archive.fingerprint,
        "n_train": len(data.train_events),
        "n_calibration": len(data.calibration_events),
        "n_test": len(data.test_events),
        "n_train_of_class": dict(sorted(Counter(labels[data.train_events].tolist()).items())),
        "days": [days[0], days[-1]] if days else [],
        "sensors": [int(n_sensors.min()), int(n_sensors.max())],
        "versions": package_versions(),
    }


def now_utc() -> str:
    """Return the date and time, UTC, in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def plain_metrics(module: EventClassifier) -> dict[str, dict]:
    """Return the numbers of the test events' metrics, and the recall of each class."""
    return {
        kind: {name: value for name, value in metrics.items() if np.isscalar(value)}
        | {"recall": dict(zip(module.class_names, metrics["recall"]))}
        for kind, metrics in module.test_metrics().items()
    }
