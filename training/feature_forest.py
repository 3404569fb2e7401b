"""Control for any classifier: a random forest on hand-made features, on the same events.

python -m training.feature_forest --config_ft configs/finetune.yaml [key.path=value ...]

It reads the configuration of a classifier and uses its dataset, seed and run name; the keys of the
network have no influence. The run folder is runs/features/<run_name>/.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from models.ensemble import Evaluation
from models.evaluation import evaluate
from preprocessing.data_module import EventDataModule
from preprocessing.features import hand_made_features
from preprocessing.spectrogram import high_pass
from preprocessing.splits import classifier_split
from training import data as events
from training import reports
from training.runs import Run
from utils.cli import main, parse_arguments
from utils.config import load_config
from utils.progress import progress_bar
from utils.schema import FinetuneConfig

N_TREES = 500
LEAST_PROBABILITY = 1e-3  # no tree votes for the class


class FeaturesConfig(FinetuneConfig):
    """A classifier's configuration; its runs are in runs/features."""

    kind = "features"


def train_forest() -> None:
    """Compute features of the training events, train the forest, evaluate, write the results."""
    arguments = parse_arguments(__doc__, "--config_ft", "configs/finetune.yaml")
    config = load_config(arguments.config, FeaturesConfig, arguments.overrides)
    run = Run(config, arguments.resume)
    archive = events.open_events(config)
    split = classifier_split(archive.labels, events.division_of(config, archive))
    data = events.serve_events(config, archive, split, "all", "all")
    run.start()
    weights = events.class_weights(config, data) or [1.0] * len(data.class_names)
    corner_hz = config.dataset.highpass_hz
    evaluation = classify_by_forest(data, np.array(weights), config.seed, corner_hz)
    reports.save_predictions(run, evaluation, data)
    learned = [weight > 0 for weight in weights]
    scores = evaluate(evaluation.logits[:, 0], evaluation.labels, learned=learned)
    metrics = {"ensemble": scores}
    summary = run.write_summary(data, metrics, learned_classes=learned)
    reports.log.info("%s\nSummary: %s", reports.results_table(metrics), summary)


def classify_by_forest(
    data: EventDataModule, class_weights: np.ndarray, seed: int, highpass_hz: float | None = None
) -> Evaluation:
    """Train a random forest on the training events and return its outputs for the test events.

    The features of an event are the means over its living channels. Logits are log-probabilities,
    (N, 1, K): the forest sees the event, not its channels. Of ``class_weights`` (K,) only zeros
    count: their classes are left out. The forest balances the others itself.
    """
    from sklearn.ensemble import RandomForestClassifier

    frequencies_hz = data.archive.sampling_rate_hz, highpass_hz
    features, labels, _ = _features(data.event_batches(data.train_events, "all"), *frequencies_hz)
    learned = class_weights[labels] > 0
    forest = RandomForestClassifier(N_TREES, random_state=seed, class_weight="balanced")
    forest.fit(features[learned], labels[learned])
    features, labels, numbers = _features(
        data.event_batches(data.test_events, "all"), *frequencies_hz
    )
    probabilities = np.full((len(labels), len(class_weights)), LEAST_PROBABILITY)
    probabilities[:, forest.classes_] += forest.predict_proba(features)
    logits = torch.from_numpy(np.log(probabilities)).float().log_softmax(-1)[:, None]
    ones = torch.ones(len(labels), 1)
    return Evaluation(
        torch.from_numpy(numbers), torch.from_numpy(labels), logits, ones.bool(), ones
    )


def _features(
    batches: DataLoader[Any], rate_hz: float, highpass_hz: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean features (N, F) of the events' living channels, labels (N,), events (N,)."""
    means, labels, numbers = [], [], []
    for batch in progress_bar(batches, desc="Features", unit="batch"):
        waveforms = high_pass(batch.waveforms[batch.mask], rate_hz, highpass_hz)
        found = hand_made_features(waveforms, rate_hz)
        values = torch.zeros(*batch.mask.shape, found.shape[1])
        values[batch.mask] = found
        means.append(values.sum(1) / batch.mask.sum(1, keepdim=True))
        labels.append(batch.labels)
        numbers.append(batch.events)
    return torch.cat(means).numpy(), torch.cat(labels).numpy(), torch.cat(numbers).numpy()


if __name__ == "__main__":
    main(train_forest)
