"""What a checkpoint says about its training: events, sensors, date, versions, metrics."""

import hashlib
import time
from collections import Counter
from pathlib import Path

import numpy as np

from models.event_classifier import EventClassifier
from preprocessing.data_module import EventDataModule
from training.runs import Run, package_versions
from utils.errors import UserError


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


def events_checksum(data: EventDataModule) -> str:
    """Return a checksum of the events that train, calibrate and test, in order, and their labels.

    It does not depend on the archive that the recordings are packed into.
    """
    whole, identities = hashlib.sha256(repr(data.class_names).encode()), data.archive.identities
    for events in (data.served_events, data.calibration_events, data.test_events):
        whole.update(repr(len(events)).encode())
        whole.update(identities[events].tobytes() + data.labels[events].tobytes())
    return whole.hexdigest()


def require_same_events(content: dict, data: EventDataModule, path: Path) -> None:
    """Raise ``UserError`` if the checkpoint at ``path`` was trained on other events than these.

    What were training events could be test events now. Checkpoints of earlier versions do not say.
    """
    if content.get("events_checksum") not in (None, events_checksum(data)):
        raise UserError(
            f"{path}: the events or their labels have changed since this run began, and with them "
            "its division into training and test events. Begin a new run without --resume, or "
            "bring the former events back"
        )


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
