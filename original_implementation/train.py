"""Train the previous study's classifier on stacked traces.

python original_implementation/train.py --configs original_implementation/config.yaml
    [key.path=value ...]
"""

import sys
from dataclasses import asdict
from pathlib import Path

# Python looks for modules in the folder of the script, which is one below the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.runs import Run
from utils.cli import main, parse_arguments
from utils.config import load_config
from utils.schema import OriginalConfig


def train() -> None:
    """Read the configuration, build data and model, train, evaluate, write the report."""
    arguments = parse_arguments(__doc__, "--configs", "original_implementation/config.yaml")
    config = load_config(arguments.config, OriginalConfig, arguments.overrides)
    run = Run(config, arguments.resume)

    from pytorch_lightning import seed_everything

    from original_implementation.stacked_trace_classifier import StackedTraceClassifier
    from preprocessing.splits import classifier_split
    from training import data as events
    from training import reports
    from training.level_ranges import noise_and_onset
    from training.trainer import fit

    params = config.exp_params
    archive = events.open_events(config)
    split = classifier_split(archive.labels, events.division_of(config, archive))
    data = events.serve_events(config, archive, split, sensors_train="all")
    found = noise_and_onset(config, data)
    seed_everything(config.seed, workers=True, verbose=False)  # initial weights
    module = StackedTraceClassifier(
        class_names=data.class_names,
        backbone_type=config.backbone_with_clf_type,
        class_weights=events.class_weights(config, data),
        learning_rate=params.LR,
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        freeze_encoder=False,
        freeze_bn_stat_train=False,
        augmentations=(),
        spectrogram=asdict(events.spectrogram_settings(config, archive)),
        n_samples=archive.n_samples,
        pre_trigger_s=found.pre_trigger_s,
        quiet_noise=found.quiet_noise,
        levels=found.levels,
    )
    trainer = fit(run, module, data)
    reports.report_classifier(run, trainer, module, data)


if __name__ == "__main__":
    main(train)
